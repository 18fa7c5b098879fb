"""Rank classification: the predicted answer choice is the one that the model finds most likely.

score(choice) = sum of the log-probabilities of the choice's tokens, EOS included, as in T0 and RoSPr. By default the
score is not normalised by length. The input is encoded once for all its choices.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from infoprompt_jax.errors import UserError
from infoprompt_jax.t5.config import PAD
from infoprompt_jax.t5.model import T5

NORMALIZATIONS = ("none", "tokens", "characters")


def decode_choices(model: T5, choices_BCT: jax.Array, y_BSD: jax.Array, mask_BS: jax.Array) -> jax.Array:
    """Hidden states [B, C, T, D] that predict each choice of each encoded input."""
    batch, choices, length = choices_BCT.shape
    hidden = model.decode(choices_BCT.reshape(batch * choices, length), y_BSD, mask_BS)
    return hidden.reshape(batch, choices, length, -1)


def token_log_probabilities(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """log p(target) [..., T] in nats, 0 where the target is PAD, of `logits` [..., T, V] and `targets` [..., T]."""
    picked = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return jnp.where(targets == PAD, 0.0, picked - jax.nn.logsumexp(logits, axis=-1))


def choice_scores(model: T5, hidden_BCTD: jax.Array, choices_BCT: jax.Array) -> jax.Array:
    """Summed log-probabilities [B, C] in nats; -inf for a choice of only padding, which fills up a batch."""

    @jax.checkpoint
    def one_choice(hidden_targets: tuple[jax.Array, jax.Array]) -> jax.Array:
        hidden_BTD, targets_BT = hidden_targets
        return token_log_probabilities(model.logits(hidden_BTD), targets_BT).sum(axis=-1)

    # One choice at a time: the logits of all choices, [B, C, T, V], would be the largest array of the program.
    scores_CB = jax.lax.map(one_choice, (hidden_BCTD.swapaxes(0, 1), choices_BCT.swapaxes(0, 1)))
    return jnp.where(choices_BCT[..., 0] == PAD, -jnp.inf, scores_CB.T)


def lengths(choices: np.ndarray, normalize: str, decode: Callable[[np.ndarray], str]) -> np.ndarray:
    """What scores are divided by, float32 [..., C].

    Args:
      choices: [..., C, T], filled up with PAD.
      normalize: one of NORMALIZATIONS.
      decode: the text of a choice's ids.

    Raises:
      UserError: `normalize` is unknown.
    """
    if normalize not in NORMALIZATIONS:
        raise UserError(f"normalize={normalize!r} is unknown: choose one of {', '.join(NORMALIZATIONS)}.")
    if normalize == "tokens":
        return np.maximum((choices != PAD).sum(axis=-1), 1).astype(np.float32)
    if normalize == "characters":
        flat = choices.reshape(-1, choices.shape[-1])
        unique, inverse = np.unique(flat, axis=0, return_inverse=True)
        characters = np.array([max(len(decode(row)), 1) for row in unique], np.float32)
        return characters[inverse].reshape(choices.shape[:-1])
    return np.ones(choices.shape[:-1], np.float32)
