"""The representation loss: I(prompt; representation), the second information term of InfoPrompt (arXiv 2306.04933).

A critic, a linear map of the prompt, scores the example's representation Z with the prompt (the pair drawn together)
against pairs drawn apart. The gradient reaches the prompt only through Z, never through the critic. The objective
subtracts beta times the bound from the loss. What is drawn apart, `infoprompt.negatives`:

    posterior    samples around the same row's representation without a prompt, as in the authors' code
    unprompted   the representations without a prompt of the batch's rows, this one's included
    in_batch     the prompted representations of the batch's other rows
    labels       the same, of rows with another answer
    shuffled     the critic's maps of other prompts: those of the batch's other rows for an instance prompt; this prompt
                 with its coordinates shuffled, for one that is the same for all rows

All but the first are ours. With a prompt that is the same for all rows, `in_batch` and `labels` estimate nothing about
it, because the critic's map is one vector. `in_batch` cannot exceed 0 nats: a row's Z is as often its partner as its
negative. `labels` can, where one answer is more frequent in a batch.

Axes as in `t5/model.py`, and K negatives.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from infoprompt_jax.infoprompt.critics import Pairs, direction
from infoprompt_jax.infoprompt.trainable import Part

NEGATIVES = ("posterior", "unprompted", "in_batch", "labels", "shuffled")
OF_FEATURES = ("posterior", "unprompted")  # those that read representations without a prompt
OF_ROWS = ("in_batch", "labels")  # those whose estimate needs an instance prompt

Negatives = tuple[jax.Array, jax.Array | None]  # [B, K, D], and the mask [B, K] of those that count (None = all)


def context(critic: Part, mean_prompt: jax.Array, form: str = "product") -> jax.Array:
    """The critic's map of mean prompts [..., D], to which no gradient passes; the prompt's scale matters to "product".

    Args:
        critic: kernel [D, D] and bias [D].
        mean_prompt: means over the P prompt tokens.
        form: of the critic, see `critics.FORMS`.
    """
    mean_prompt = jax.lax.stop_gradient(mean_prompt)
    if form != "product":
        mean_prompt = direction(mean_prompt, form) * mean_prompt.shape[-1] ** 0.5
    return mean_prompt @ critic["kernel"] + jnp.expand_dims(critic["bias"], range(mean_prompt.ndim - 1))


def representation_pairs(
    critic: Part, prompt: jax.Array, z_BD: jax.Array, negatives: Negatives, form: str = "product"
) -> Pairs:
    """The critic's map of the prompt with the prompted representation, and with `negatives`.

    Args:
        critic, form: as for `context`.
        prompt: [P, D], or [B, P, D] for an instance prompt.
        z_BD: representations with the prompt, float32.
        negatives: see `noisy_negatives`, `unprompted_negatives`, `in_batch_negatives` and `bottleneck.negatives`.
    """
    context_BD = jnp.broadcast_to(context(critic, prompt.mean(axis=-2), form), z_BD.shape)
    return Pairs(context_BD, z_BD, *negatives)


def shuffled_pairs(
    critic: Part, prompt: jax.Array, z_BD: jax.Array, weight_B: jax.Array, count: int, key: jax.Array, form: str
) -> Pairs:
    """The prompted representation with the critic's map of its prompt, and with those of other prompts.

    Args:
        critic, prompt, z_BD, form: as for `representation_pairs`.
        weight_B: 0 for rows that only fill the batch.
        count: K, the number of shuffled prompts of a prompt that is the same for all rows.
        key: of the shuffles.
    """
    mean_prompt = prompt.mean(axis=-2)
    positive_BD = jnp.broadcast_to(context(critic, mean_prompt, form), z_BD.shape)
    if mean_prompt.ndim == 2:
        return Pairs(z_BD, positive_BD, *in_batch_negatives(positive_BD, weight_B))
    orders_KD = jax.vmap(lambda k: jax.random.permutation(k, z_BD.shape[-1]))(jax.random.split(key, count))
    negative_KD = context(critic, mean_prompt[orders_KD], form)
    return Pairs(z_BD, positive_BD, jnp.broadcast_to(negative_KD, (len(z_BD), *negative_KD.shape)))


def noisy_negatives(
    features_BD: jax.Array, count: int, scale: float, key: jax.Array, spread_B: jax.Array | None = None
) -> Negatives:
    """K = `count` samples of N(h, s^2 I) around each example's representation h without a prompt.

    s is `scale`, times `spread_B` where it is given: the deviation of the features over the rows of the row's task.
    """
    size, width = features_BD.shape
    noise_BKD = jax.random.normal(key, (size, count, width))
    scales = scale if spread_B is None else scale * spread_B[:, None, None]
    return features_BD[:, None] + scales * noise_BKD, None


def unprompted_negatives(features_BD: jax.Array, weight_B: jax.Array) -> Negatives:
    """The representations without a prompt of all rows that count."""
    size = features_BD.shape[0]
    mask_BK = jnp.broadcast_to((weight_B > 0)[None, :], (size, size))
    return jnp.broadcast_to(features_BD[None], (size, *features_BD.shape)), mask_BK


def in_batch_negatives(z_BD: jax.Array, weight_B: jax.Array, targets_BT: jax.Array | None = None) -> Negatives:
    """The vectors of the batch's other rows that count; with `targets_BT`, of those with another answer."""
    size = z_BD.shape[0]
    apart_BK = ~jnp.eye(size, dtype=bool)
    if targets_BT is not None:
        apart_BK = (targets_BT[:, None] != targets_BT[None, :]).any(axis=-1)
    return jnp.broadcast_to(z_BD[None], (size, *z_BD.shape)), apart_BK & (weight_B > 0)[None, :]
