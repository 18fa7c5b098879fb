"""The head loss: I(prompt; prediction head), the first information term of InfoPrompt (arXiv 2306.04933).

The prompt is compared with the rows of the language-model head that belong to the task's label words. The example's own
input tokens are the negatives: a prompt that agrees with the label words more than the input does scores high. The
objective subtracts gamma times this bound from the loss. Follows the authors' released code.

Axes as in `t5/model.py`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from infoprompt_jax.batch import Batch
from infoprompt_jax.infoprompt.estimators import Bound, score_product
from infoprompt_jax.t5.model import PAD, T5


def head_information(
    bound: Bound,
    model: T5,
    batch: Batch[jax.Array],
    prompt: jax.Array,
    verbalizer_CD: jax.Array | None,
    kernel_DD: jax.Array | None,
) -> jax.Array:
    """The bound on I(prompt; head), a scalar in nats.

    Args:
        bound: the estimator.
        model: its embeddings and its head give the vectors that are compared.
        batch: reads inputs [B, L], targets [B, T] and choices [B, C, T].
        prompt: [P, D], or [B, P, D] for an instance prompt.
        verbalizer_CD: the verbalizer's rows, which replace the head's; None = the task loss is another.
        kernel_DD: of the bilinear critic; None = dot product.
    """
    label_BD = label_rows(model, batch, verbalizer_CD)
    prompt_BD = jnp.broadcast_to(prompt.mean(axis=-2), label_BD.shape)
    positive_B, negative_BL = head_scores(prompt_BD, model.embed(batch["inputs"]), label_BD, kernel_DD)
    return bound(positive_B, negative_BL, batch["inputs"] != PAD)


def label_rows(model: T5, batch: Batch[jax.Array], verbalizer_CD: jax.Array | None) -> jax.Array:
    """The mean head row of each example's label words, [B, D]; a label word is an answer choice's first token."""
    first_BC = batch["choices"][..., 0]
    if verbalizer_CD is not None:
        rows_BCD = jnp.broadcast_to(verbalizer_CD, (*first_BC.shape, verbalizer_CD.shape[-1]))
    else:
        # Free text has no choices: the first token of its target is the label word.
        first_BC = jnp.where((first_BC == PAD).all(axis=1, keepdims=True), batch["targets"][:, :1], first_BC)
        rows_BCD = model.head_rows(first_BC).astype(jnp.float32)
    exists_BC1 = (first_BC != PAD)[..., None]
    return jnp.where(exists_BC1, rows_BCD, 0.0).sum(axis=1) / jnp.maximum(exists_BC1.sum(axis=1), 1)


def head_scores(
    prompt_mean_BD: jax.Array, inputs_BLD: jax.Array, label_mean_BD: jax.Array, kernel_DD: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """The critic's scores: `positive_B` of the prompt and `negative_BL` of the input's tokens, padding included.

    Both are compared with the mean head row of the label words, directly or through the bilinear `kernel_DD`.
    """
    if kernel_DD is not None:
        label_mean_BD = score_product("DE,BE->BD", kernel_DD, label_mean_BD)
    scale = label_mean_BD.shape[-1] ** -0.5
    positive_B = score_product("BD,BD->B", prompt_mean_BD, label_mean_BD) * scale
    return positive_B, score_product("BLD,BD->BL", inputs_BLD, label_mean_BD) * scale
