"""The three task losses: what a prompt is trained to predict, before InfoPrompt's information terms are added.

`lm`          cross-entropy of the target's tokens (Lester et al. 2021);
`choices`     cross-entropy of rank classification: a softmax over the answer choices' log-probabilities;
`verbalizer`  cross-entropy of a trained linear head over Z, one row for each choice (InfoPrompt, arXiv 2306.04933).

Each returns a scalar in nats, a weighted mean; rows of weight 0 only fill the batch. Axes as in `t5/model.py`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from infoprompt_jax.batch import Batch
from infoprompt_jax.t5 import scoring
from infoprompt_jax.t5.config import PAD, T5Config
from infoprompt_jax.t5.model import T5


def lm_loss(model: T5, hidden_BTD: jax.Array, batch: Batch[jax.Array]) -> jax.Array:
    """Mean over the target tokens of the batch; `hidden_BTD` are the decoder's states on the targets.

    A micro-batch's sum is divided by `tokens`, so that all tokens of the step count the same.
    """
    weight_BT = token_weights(batch)
    log_p_BT = scoring.token_log_probabilities(model.logits(hidden_BTD), batch["targets"])
    return -(log_p_BT * weight_BT).sum() / jnp.maximum(batch.get("tokens", weight_BT.sum()), 1.0)


def token_weights(batch: Batch[jax.Array]) -> jax.Array:
    """The weights [B, T] of the target's tokens: their row's, and 0 for padding."""
    return batch["weight"][:, None] * (batch["targets"] != PAD)


def choices_loss(model: T5, hidden_BCTD: jax.Array, batch: Batch[jax.Array]) -> jax.Array:
    """Mean over the rows; `hidden_BCTD` are the decoder's states on the answer choices."""
    return cross_entropy(scoring.choice_scores(model, hidden_BCTD, batch["choices"]), batch)


def verbalizer_loss(config: T5Config, z_BD: jax.Array, verbalizer_CD: jax.Array, batch: Batch[jax.Array]) -> jax.Array:
    """Mean over the rows; `z_BD` are their representations."""
    return cross_entropy(verbalizer_logits(config, z_BD, verbalizer_CD, batch["choices"]), batch)


def verbalizer_logits(config: T5Config, z_BD: jax.Array, verbalizer_CD: jax.Array, choices_BCT: jax.Array) -> jax.Array:
    """z theta^T over the label words [B, C], scaled as the LM head scales; -inf where the task lacks a label."""
    scale = config.d_model**-0.5 if config.scale_decoder_outputs else 1.0
    logits_BC = scale * jnp.einsum("BD,CD->BC", z_BD, verbalizer_CD)
    return jnp.where(choices_BCT[..., 0] == PAD, -jnp.inf, logits_BC)


def cross_entropy(scores_BC: jax.Array, batch: Batch[jax.Array]) -> jax.Array:
    """Of the correct choice under a softmax over the scores; the mean over rows by their weight."""
    weight_B = batch["weight"]
    # A row that only fills the batch has no choice at all; its -inf must not reach the gradient.
    scores_BC = jnp.where(weight_B[:, None] > 0, scores_BC, 0.0)
    log_p_B = jnp.take_along_axis(jax.nn.log_softmax(scores_BC), batch["label"][:, None], axis=1)[:, 0]
    return -(log_p_B * weight_B).sum() / jnp.maximum(weight_B.sum(), 1.0)
