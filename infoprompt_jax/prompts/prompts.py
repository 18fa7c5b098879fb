"""Soft prompts: their two kinds and their first values.

`static` is a free matrix `value_PD`, the same for every example (Lester et al. 2021). `instance` adds the output of a
generator with a narrow bottleneck, which reads the example's un-prompted representation h:
P = value + reshape(W2 gelu(W1 h)) (InfoPrompt's released code, where `value` is the last layer's bias).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from infoprompt_jax.errors import UserError
from infoprompt_jax.t5.model import T5

REPRESENTATIONS = ("decoder", "mean_encoder")  # the first is the default
INITIALIZERS = ("uniform", "vocabulary", "labels", "text")

Embed = Callable[[ArrayLike], jax.Array]  # int32 tokens [1, L] to embeddings [1, L, D]
Encode = Callable[[Sequence[str]], list[np.ndarray]]  # texts to token ids


def initial_value(
    method: str,
    length: int,
    key: jax.Array,
    *,
    width: int,
    embed: Embed,
    encode: Encode,
    pieces: np.ndarray,
    labels: Sequence[str] = (),
    text: str = "",
) -> np.ndarray:
    """First value of a prompt, float32 [P, D].

    Args:
      method: "uniform" on [-0.5, 0.5]; "vocabulary": embeddings of ids sampled from `pieces`; "labels": the mean
        embedding of each label word, then sampled ids; "text": the embeddings of `text`, repeated to fill.
      length: P.
      key: the member's.
      width: D.
      embed: the backbone's; tokens to embeddings.
      encode: the tokenizer's; texts to token ids.
      pieces: token ids that may be sampled, most frequent first (already cut to the top k).
      labels: label words, for "labels".
      text: for "text".

    Raises:
      UserError: the method is unknown, or needs label words or a text and there are none.
    """
    if not length:
        return np.zeros((0, width), np.float32)
    if method == "uniform":
        return np.asarray(jax.random.uniform(key, (length, width), minval=-0.5, maxval=0.5))
    sampled = np.asarray(jax.random.choice(key, jnp.asarray(pieces), (length,), replace=length > len(pieces)))
    if method == "vocabulary":
        return _rows(embed, sampled)
    if method == "labels":
        if not labels:
            raise UserError(
                "prompt.init='labels' needs a task with fixed answer choices: choose prompt.init='vocabulary'."
            )
        means = [_rows(embed, ids).mean(axis=0, keepdims=True) for ids in encode(labels)]
        return np.concatenate([*means, _rows(embed, sampled)])[:length]
    if method == "text":
        if not text.strip():
            raise UserError("prompt.init='text' needs words to start from: set prompt.text.")
        return _rows(embed, np.resize(encode([text])[0], length))
    raise UserError(f"prompt.init={method!r} is neither one of {', '.join(INITIALIZERS)} nor a saved prompt's path.")


def _rows(embed: Embed, ids: np.ndarray) -> np.ndarray:
    return np.asarray(embed(np.asarray(ids, np.int32)[None])[0], np.float32)


def generator(length: int, width: int, bottleneck: int, key: jax.Array) -> dict[str, jax.Array]:
    """First weights of an instance prompt's generator; small, so that training starts near the static prompt."""
    down, up = jax.random.split(key)
    return {
        "down": jax.random.normal(down, (width, bottleneck)) * width**-0.5,
        "up": jax.random.normal(up, (bottleneck, length, width)) * (0.02 * bottleneck**-0.5),
    }


def prompt_rows(
    value_PD: jax.Array, generator: Mapping[str, jax.Array] | None, features_BD: jax.Array | None
) -> jax.Array:
    """The soft prompt that the encoder reads: [P, D] of a static one, [B, P, D] of an instance-conditioned one.

    Args:
      value_PD: the trained matrix.
      generator: weights of an instance prompt, as `generator` makes them; None for a static prompt.
      features_BD: un-prompted representations, which an instance prompt is generated from; no gradient reaches them.
    """
    if generator is None:
        return value_PD
    assert features_BD is not None  # see Objective.needs_features
    hidden_BE = jax.nn.gelu(jax.lax.stop_gradient(features_BD) @ generator["down"])
    return value_PD[None] + jnp.einsum("BE,EPD->BPD", hidden_BE, generator["up"])


def unprompted(model: T5, tokens_BL: jax.Array, representation: str) -> jax.Array:
    """Un-prompted representations [B, D] of the inputs, float32; no gradient passes through them.

    `representation`: "decoder", its final state at position 0, or "mean_encoder".
    """
    y_BSD, mask_BS = model.encode(tokens_BL, forward_only=True)
    if representation == "mean_encoder":
        return jax.lax.stop_gradient(mean_encoder(y_BSD, mask_BS, y_BSD.shape[1]))
    start_B1 = jnp.zeros((y_BSD.shape[0], 1), jnp.int32)
    return jax.lax.stop_gradient(model.decode(start_B1, y_BSD, mask_BS)[:, 0].astype(jnp.float32))


def mean_encoder(y_BSD: jax.Array, mask_BS: jax.Array, length: int) -> jax.Array:
    """Mean over the encoded input tokens [B, D]: the last `length` positions, without padding."""
    y_BLD, mask_BL1 = y_BSD[:, -length:].astype(jnp.float32), mask_BS[:, -length:, None]
    return jnp.where(mask_BL1, y_BLD, 0.0).sum(axis=1) / jnp.maximum(mask_BL1.sum(axis=1), 1)
