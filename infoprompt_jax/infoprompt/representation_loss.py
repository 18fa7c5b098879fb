"""The representation loss: I(prompt; representation), the second information term of InfoPrompt (arXiv 2306.04933).

A critic, a linear map of the prompt, scores the example's representation Z with the prompt (the positive pair) against
representations without it. These negatives are samples around the same example's un-prompted representation, or the
other examples' Z. The gradient reaches the prompt only through Z, never through the critic. The objective subtracts
beta times this bound from the loss. Follows the authors' released code.

Axes as in `t5/model.py`, and K negatives.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from infoprompt_jax.infoprompt.estimators import Bound, score_product
from infoprompt_jax.infoprompt.trainable import Part

Negatives = tuple[jax.Array, jax.Array | None]  # [B, K, D], and the mask [B, K] of those that count (None = all)


def representation_information(
    bound: Bound, critic: Part, prompt: jax.Array, z_BD: jax.Array, negatives: Negatives
) -> jax.Array:
    """The bound on I(prompt; representation), a scalar in nats.

    Args:
        bound: the estimator.
        critic: kernel [D, D] and bias [D].
        prompt: [P, D], or [B, P, D] for an instance prompt.
        z_BD: representations with the prompt, float32.
        negatives: see `noisy_negatives`, `in_batch_negatives` and `bottleneck.negatives`.
    """
    mean_prompt = jax.lax.stop_gradient(prompt).mean(axis=-2)
    context_BD = jnp.broadcast_to(
        mean_prompt @ critic["kernel"] + jnp.expand_dims(critic["bias"], range(mean_prompt.ndim - 1)), z_BD.shape
    )
    negatives_BKD, mask_BK = negatives
    positive_B, negative_BK = representation_scores(z_BD, negatives_BKD, context_BD)
    return bound(positive_B, negative_BK, mask_BK)


def noisy_negatives(features_BD: jax.Array, count: int, scale: float, key: jax.Array) -> Negatives:
    """K = `count` samples of N(h, scale^2 I) around each example's own un-prompted representation h."""
    size, width = features_BD.shape
    noise_BKD = jax.random.normal(key, (size, count, width))
    return features_BD[:, None] + scale * noise_BKD, None


def in_batch_negatives(z_BD: jax.Array, weight_B: jax.Array) -> Negatives:
    """The representations of the batch's other examples; rows that only fill the batch do not count."""
    size = z_BD.shape[0]
    mask_BK = ~jnp.eye(size, dtype=bool) & (weight_B > 0)[None, :]
    return jnp.broadcast_to(z_BD[None], (size, *z_BD.shape)), mask_BK


def representation_scores(
    z_BD: jax.Array, negatives_BKD: jax.Array, context_BD: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The critic's scores, `positive_B` of `z_BD` and `negative_BK`; `context_BD` is its map of the prompt."""
    scale = context_BD.shape[-1] ** -0.5
    positive_B = score_product("BD,BD->B", z_BD, context_BD) * scale
    return positive_B, score_product("BKD,BD->BK", negatives_BKD, context_BD) * scale
