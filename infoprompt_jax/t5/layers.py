"""The layers of T5 in Flax NNX: attention, feed-forward, norm, relative position bias, and how they make up a layer.

T5 v1.0 has ReLU. T5 v1.1, LM-adapt, T0 and Flan have a gated GELU. Softmax and norms are always float32. A `Kernel` is
what activations are multiplied with: a parameter, or int8 values with their scales. Axes as in `t5/model.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from infoprompt_jax.t5 import fused
from infoprompt_jax.t5.config import T5Config
from infoprompt_jax.t5.int8 import Int8, Kernel, product, quantize
from infoprompt_jax.t5.partition import Layout

MASKED = -1e9  # finite, so that a row of only padding gives no NaN


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Inverted dropout; the identity without a key."""
    if key is None or rate == 0.0:
        return x
    keep = jax.random.bernoulli(key, 1.0 - rate, x.shape)
    return jnp.where(keep, x / (1.0 - rate), 0).astype(x.dtype)


def sub_key(key: jax.Array | None, index: int) -> jax.Array | None:
    """The key of one use of randomness; None stays None."""
    return None if key is None else jax.random.fold_in(key, index)


def normal(rngs: nnx.Rngs, shape: tuple[int, ...], scale: float, config: T5Config) -> nnx.Param:
    """A weight drawn from a normal distribution with standard deviation `scale`."""
    return nnx.Param((jax.random.normal(rngs.params(), shape) * scale).astype(config.dtype))


def kernel(rngs: nnx.Rngs, shape: tuple[int, ...], scale: float, config: T5Config, axis: int = -2) -> Kernel:
    """What `normal` draws, quantised if the config says so; products sum over `axis`."""
    drawn = normal(rngs, shape, scale, config)
    return drawn if config.weights == "full" else Int8(*quantize(drawn[...], axis))


class Norm(nnx.Module):
    """T5's layer norm: the root mean square, in float32; no mean is subtracted and there is no bias."""

    def __init__(self, config: T5Config) -> None:
        self.scale = nnx.Param(jnp.ones((config.d_model,), config.dtype))
        self.epsilon = config.layer_norm_epsilon

    def __call__(self, x: jax.Array) -> jax.Array:
        x32 = x.astype(jnp.float32)
        inverse = jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1) + self.epsilon)
        scale = jnp.expand_dims(self.scale[...].astype(jnp.float32), range(x.ndim - 1))
        # An einsum, because its gradient by `inverse` is a dot, which XLA runs faster than a product and a sum.
        x32 = jnp.einsum("...D,...->...D", x32, inverse, precision=jax.lax.Precision.HIGHEST)
        return (x32 * scale).astype(x.dtype)


class Attention(nnx.Module):
    """T5's multi-head attention: scores are not divided by sqrt(K). Kernels have their heads flattened, [D, H*K]."""

    def __init__(self, config: T5Config, layout: Layout, rngs: nnx.Rngs) -> None:
        d, width = config.d_model, config.num_heads * config.d_kv
        self.query = kernel(rngs, (d, width), (d * config.d_kv) ** -0.5, config)
        self.key = kernel(rngs, (d, width), d**-0.5, config)
        self.value = kernel(rngs, (d, width), d**-0.5, config)
        self.out = kernel(rngs, (width, d), width**-0.5, config)
        self.heads = config.num_heads
        self.rate = config.dropout
        self.layout = layout

    def split(self, x_BSW: jax.Array) -> jax.Array:
        """Separates the heads: [B, S, H*K] becomes [B, H, S, K]."""
        return self.layout.constrain(jnp.swapaxes(x_BSW.reshape(*x_BSW.shape[:-1], self.heads, -1), 1, 2), "model")

    def keys_values(self, x_BSD: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The keys and the values of the attended positions, each [B, H, S, K]."""
        return self.split(product(x_BSD, self.key)), self.split(product(x_BSD, self.value))

    def __call__(
        self,
        x_BTD: jax.Array,
        k_BHSK: jax.Array,
        v_BHSK: jax.Array,
        mask_BHTS: jax.Array,
        bias_BHTS: jax.Array | None = None,
        key: jax.Array | None = None,
        lengths_B: jax.Array | None = None,
    ) -> jax.Array:
        """The output [B, T, D] of the queries' positions `x_BTD`; keys and values are from `keys_values`.

        `mask_BHTS` is True where a query attends to a key, and `bias_BHTS` is added to the scores before the softmax.
        Both may have axes of size 1. `key` drops weights; None = no dropout. With `lengths_B`, which says the same as
        the mask, the fused kernel computes it.
        """
        q_BHTK = self.split(product(x_BTD, self.query))
        if lengths_B is not None:
            y_BHTK = fused.attention(q_BHTK, k_BHSK, v_BHSK, bias_BHTS, lengths_B)
        else:
            scores = jnp.einsum("BHTK,BHSK->BHTS", q_BHTK, k_BHSK, preferred_element_type=jnp.float32)
            if bias_BHTS is not None:
                scores = scores + bias_BHTS
            weights = jax.nn.softmax(jnp.where(mask_BHTS, scores, MASKED), axis=-1).astype(x_BTD.dtype)
            y_BHTK = jnp.einsum("BHTS,BHSK->BHTK", dropout(weights, self.rate, key), v_BHSK)
        return product(jnp.swapaxes(y_BHTK, 1, 2).reshape(*x_BTD.shape[:-1], -1), self.out)


class FeedForward(nnx.Module):
    """ReLU, or GELU (the tanh approximation) times a linear gate."""

    def __init__(self, config: T5Config, layout: Layout, rngs: nnx.Rngs) -> None:
        d, f = config.d_model, config.d_ff
        self.gated = config.feed_forward == "gated-gelu"
        self.wi_0 = kernel(rngs, (d, f), d**-0.5, config)
        if self.gated:
            self.wi_1 = kernel(rngs, (d, f), d**-0.5, config)
        self.wo = kernel(rngs, (f, d), f**-0.5, config)
        self.rate = config.dropout
        self.layout = layout

    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Maps [B, S, D] to [B, S, D]. `key` drops hidden units; None = no dropout."""
        hidden = self.layout.constrain(product(x, self.wi_0), None, "model")
        if self.gated:
            gate = self.layout.constrain(product(x, self.wi_1), None, "model")
            hidden = jax.nn.gelu(hidden, approximate=True) * gate
        else:
            hidden = jax.nn.relu(hidden)
        return product(dropout(hidden, self.rate, key), self.wo)


class RelativeBias(nnx.Module):
    """A learned bias for each head and bucket of (key position - query position)."""

    def __init__(self, config: T5Config, bidirectional: bool, rngs: nnx.Rngs) -> None:
        shape = (config.relative_buckets, config.num_heads)
        self.embedding = normal(rngs, shape, config.d_model**-0.5, config)
        self.buckets, self.max_distance = config.relative_buckets, config.relative_max_distance
        self.bidirectional = bidirectional

    def bucket(self, distance: jax.Array) -> jax.Array:
        """The bucket of a distance (Raffel et al. 2020): half are exact, half are logarithmic up to `max_distance`."""
        buckets, offset = self.buckets, 0
        if self.bidirectional:
            buckets //= 2
            offset = jnp.where(distance > 0, buckets, 0)
            distance = jnp.abs(distance)
        else:
            distance = jnp.maximum(-distance, 0)
        exact = buckets // 2
        ratio = jnp.log(jnp.maximum(distance, 1).astype(jnp.float32) / exact) / jnp.log(self.max_distance / exact)
        far = jnp.minimum(exact + (ratio * (buckets - exact)).astype(jnp.int32), buckets - 1)
        return offset + jnp.where(distance < exact, distance, far)

    def __call__(self, queries: jax.Array, keys: jax.Array) -> jax.Array:
        """The float32 bias [1, H, T, S] of query positions [T] and key positions [S]."""
        bias_TSH = self.embedding[...][self.bucket(keys[None, :] - queries[:, None])]
        return jnp.transpose(bias_TSH, (2, 0, 1))[None].astype(jnp.float32)


class EncoderLayer(nnx.Module):
    """Self-attention and feed-forward, each normed before and added to its input."""

    def __init__(self, config: T5Config, layout: Layout, rngs: nnx.Rngs) -> None:
        self.attention_norm, self.attention = Norm(config), Attention(config, layout, rngs)
        self.mlp_norm, self.mlp = Norm(config), FeedForward(config, layout, rngs)
        self.rate = config.dropout
        self.layout = layout

    def __call__(
        self,
        x_BSD: jax.Array,
        mask: jax.Array,
        bias: jax.Array,
        key: jax.Array | None = None,
        lengths_B: jax.Array | None = None,
    ) -> jax.Array:
        """`lengths_B` as for `Attention`."""
        normed = self.attention_norm(x_BSD)
        y = self.attention(normed, *self.attention.keys_values(normed), mask, bias, sub_key(key, 0), lengths_B)
        x_BSD = self.layout.constrain(x_BSD + dropout(y, self.rate, sub_key(key, 1)))
        y = self.mlp(self.mlp_norm(x_BSD), sub_key(key, 2))
        return self.layout.constrain(x_BSD + dropout(y, self.rate, sub_key(key, 3)))


class DecoderLayer(nnx.Module):
    """Self-attention, cross-attention and feed-forward, each normed before and added to its input."""

    def __init__(self, config: T5Config, layout: Layout, rngs: nnx.Rngs) -> None:
        self.attention_norm, self.attention = Norm(config), Attention(config, layout, rngs)
        self.cross_norm, self.cross = Norm(config), Attention(config, layout, rngs)
        self.mlp_norm, self.mlp = Norm(config), FeedForward(config, layout, rngs)
        self.rate = config.dropout
        self.layout = layout

    def __call__(
        self,
        x_BTD: jax.Array,
        keys_values: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
        cross_keys_values: tuple[jax.Array, jax.Array],
        mask: jax.Array,
        cross_mask: jax.Array,
        bias: jax.Array,
        key: jax.Array | None = None,
        lengths_B: jax.Array | None = None,
    ) -> jax.Array:
        """`keys_values` gives self-attention's keys and values of the normed input: projected, or from a cache.

        `lengths_B` is for cross-attention, as for `Attention`.
        """
        normed = self.attention_norm(x_BTD)
        y = self.attention(normed, *keys_values(normed), mask, bias, sub_key(key, 0))
        x_BTD = self.layout.constrain(x_BTD + dropout(y, self.rate, sub_key(key, 1)))
        # Cross-attention has no position bias, so the C choices of one input can be concatenated along T: they share
        # the encoder's keys and values, and nothing is tiled.
        rows, length, width = x_BTD.shape
        concatenated = self.cross_norm(x_BTD).reshape(cross_keys_values[0].shape[0], -1, width)
        y = self.cross(concatenated, *cross_keys_values, cross_mask, None, sub_key(key, 2), lengths_B)
        y = dropout(y.reshape(rows, length, width), self.rate, sub_key(key, 3))
        x_BTD = self.layout.constrain(x_BTD + y)
        y = self.mlp(self.mlp_norm(x_BTD), sub_key(key, 4))
        return self.layout.constrain(x_BTD + dropout(y, self.rate, sub_key(key, 5)))
