"""The head loss: I(prompt; prediction head), the first information term of InfoPrompt (arXiv 2306.04933).

The prompt is compared with rows of the language-model head. The objective subtracts gamma times the bound from the
loss. What is a pair, `infoprompt.head`:

    released_code   the mean head row of all label words, with the prompt; apart: the input's tokens. As in the authors'
                    code. It pushes the prompt towards the mean of the label words, the same way for every row
    answer          the prompt with the head row of the row's answer; apart: those of its other choices, and of sampled
                    vocabulary. A prompt that is the same for all rows can know the task's answers, but not the row's
    conditional     the prompted representation with the head row of the row's answer; apart: as with `answer`. The
                    critic reads the prompt through the backbone, so it depends on X as I(prompt; head | X) does

The last two are ours. Axes as in `t5/model.py`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from infoprompt_jax.batch import Batch
from infoprompt_jax.infoprompt.critics import Pairs, score_product
from infoprompt_jax.t5.config import PAD
from infoprompt_jax.t5.model import T5

HEADS = ("released_code", "answer", "conditional")


def label_pairs(
    model: T5,
    batch: Batch[jax.Array],
    prompt: jax.Array,
    verbalizer_CD: jax.Array | None = None,
    kernel_DD: jax.Array | None = None,
) -> Pairs:
    """The prompt and the input's tokens with the mean head row of the label words: `released_code`.

    Args:
        model: its embeddings and its head give the vectors that are compared.
        batch: reads inputs [B, L], targets [B, T] and choices [B, C, T].
        prompt: [P, D], or [B, P, D] for an instance prompt.
        verbalizer_CD: the verbalizer's rows, which replace the head's; None = the task loss is another.
        kernel_DD: maps head rows to embeddings; None = they are compared as they are.
    """
    label_BD = label_rows(model, batch, verbalizer_CD)
    prompt_BD = jnp.broadcast_to(prompt.mean(axis=-2), label_BD.shape)
    return Pairs(mapped(kernel_DD, label_BD), prompt_BD, model.embed(batch["inputs"]), batch["inputs"] != PAD)


def answer_pairs(
    model: T5,
    batch: Batch[jax.Array],
    anchor: jax.Array,
    vocabulary_K: jax.Array,
    verbalizer_CD: jax.Array | None = None,
    kernel_DD: jax.Array | None = None,
) -> Pairs:
    """A row's vector with the head row of its answer, and with other head rows: `answer` and `conditional`.

    An answer is known by its first token: a choice that shares it is no negative, nor is such a sampled piece. With a
    verbalizer each choice has a row of its own, so choices that begin alike are negatives of each other.

    A row without other answers and sampled pieces has no negatives and is left out of the estimate. If no row is left,
    the estimate is 0 nats, as is the most that it could be, and it has no gradient.

    Args:
        model, batch, verbalizer_CD, kernel_DD: as for `label_pairs`.
        anchor: [B, D], or [D] for the same one in every row.
        vocabulary_K: sampled pieces, int32. They are drawn with replacement, because a draw without it would sort the
            vocabulary in every step. A piece that is drawn twice counts twice.
    """
    first_BC, label_B = batch["choices"][..., 0], batch["label"]
    chosen_B1 = jnp.maximum(label_B, 0)[:, None]
    answer_B = jnp.where(label_B < 0, batch["targets"][:, 0], jnp.take_along_axis(first_BC, chosen_B1, axis=1)[:, 0])
    sampled_BK = jnp.broadcast_to(vocabulary_K, (len(label_B), len(vocabulary_K)))
    other_BN = jnp.concatenate([first_BC, sampled_BK], axis=1)
    apart_BN = other_BN != answer_B[:, None]
    positive_BD, negative_BND = (model.head_rows(ids).astype(jnp.float32) for ids in (answer_B, other_BN))
    if verbalizer_CD is not None:
        positive_BD, count = verbalizer_CD[chosen_B1[:, 0]], first_BC.shape[1]
        rows_BCD = jnp.broadcast_to(verbalizer_CD, (*first_BC.shape, verbalizer_CD.shape[-1]))
        negative_BND = jnp.concatenate([rows_BCD, negative_BND[:, count:]], axis=1)
        apart_BN = apart_BN.at[:, :count].set(jnp.arange(count)[None] != chosen_B1)
    anchor_BD, mask_BN = jnp.broadcast_to(anchor, positive_BD.shape), apart_BN & (other_BN != PAD)
    return Pairs(anchor_BD, mapped(kernel_DD, positive_BD), mapped(kernel_DD, negative_BND), mask_BN)


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


def mapped(kernel_DD: jax.Array | None, rows: jax.Array) -> jax.Array:
    """Head rows [..., D] in the space of the embeddings; None = as they are."""
    return rows if kernel_DD is None else score_product("DE,...E->...D", kernel_DD, rows)
