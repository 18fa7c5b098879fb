"""Critics: how a pair of vectors becomes a score, for both information terms.

A term brings `Pairs`: an anchor for each row, a vector that is drawn together with it and K that are drawn apart. A
critic scores the anchor with each of them, by one of `FORMS`:

    product      <a, b> / sqrt(D): InfoPrompt's released code. Its scale is that of the vectors. RoBERTa's embeddings,
                 which the code was written for, have norms near 1; T5's have 100 to 1000, where it saturates
    cosine       <a, b> / (|a| |b| temperature): free of scale, within 1 / temperature
    layer_norm   the cosine of the vectors less their own means over D, divided by the temperature

Axes as in `t5/model.py`, and K negatives.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

FORMS = ("product", "cosine", "layer_norm")
LEAST_TEMPERATURE = 0.01  # of a learned one: scores stay within 100


class Pairs(NamedTuple):
    """What a critic compares, and which negatives count (None = all)."""

    anchor_BD: jax.Array
    positive_BD: jax.Array
    negative_BKD: jax.Array
    mask_BK: jax.Array | None = None


def scores(pairs: Pairs, form: str, temperature: jax.Array | float) -> tuple[jax.Array, jax.Array]:
    """`positive_B` and `negative_BK`, float32; `temperature` is unused by the form "product"."""
    anchor, positive, negative = pairs.anchor_BD, pairs.positive_BD, pairs.negative_BKD
    scale = anchor.shape[-1] ** -0.5
    if form != "product":
        anchor, positive, negative = (direction(x, form) for x in (anchor, positive, negative))
        scale = 1.0 / temperature
    positive_B = score_product("BD,BD->B", positive, anchor) * scale
    return positive_B, score_product("BKD,BD->BK", negative, anchor) * scale


def direction(x: jax.Array, form: str) -> jax.Array:
    """Vectors of length 1 over the last axis, float32; as they are for the form "product"."""
    if form == "product":
        return x
    x = x.astype(jnp.float32)
    if form == "layer_norm":
        x = x - x.mean(axis=-1, keepdims=True)
    largest = jax.lax.stop_gradient(jnp.abs(x).max(axis=-1, keepdims=True))
    # Squares of large numbers overflow, those of small ones vanish; the square of the least divisor is a float32, too.
    x = x / jnp.maximum(largest, 1e-18)
    return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-12)


def learned_temperature(temperature: jax.Array | float, part: dict[str, jax.Array] | None) -> jax.Array | float:
    """The temperature of a term: the run's, times the factor that the critic's `part` has learned, if any."""
    if part is None or "log_temperature" not in part:
        return temperature
    return jnp.maximum(temperature * jnp.exp(part["log_temperature"]), LEAST_TEMPERATURE)


def score_product(equation: str, x: jax.Array, y: jax.Array) -> jax.Array:
    """An einsum in true float32: scores are exponentiated, and accelerators round the factors by default."""
    return jnp.einsum(equation, x.astype(jnp.float32), y.astype(jnp.float32), precision=jax.lax.Precision.HIGHEST)
