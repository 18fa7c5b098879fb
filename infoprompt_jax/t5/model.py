"""T5 in Flax NNX: encoder, decoder and LM head, with layers stacked and scanned.

T5 v1.0 has tied embeddings, scaled decoder outputs and ReLU. T5 v1.1, LM-adapt, T0 and Flan have an untied head and a
gated GELU. The weights of a stack have a leading layer axis and `jax.lax.scan` runs over it, so that compile time does
not grow with depth. The relative position bias is computed once a stack. Softmax, norms and logits are always float32.
A `Kernel` is what activations are multiplied with: a parameter, or int8 values with their scales.

Axes, in the whole project the suffixes of array names and the letters of einsum strings:
    B batch, L input tokens, P prompt tokens, S = P + L encoder positions, T target tokens, C answer choices,
    M fleet members, N layers, D model, H heads, K head width, F feed-forward, V vocabulary, Q queries,
    R retriever width
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from infoprompt_jax.t5 import int8
from infoprompt_jax.t5.int8 import Int8, Kernel, product, quantize
from infoprompt_jax.t5.partition import Layout

PAD = 0  # also T5's decoder start token
EOS = 1
MASKED = -1e9  # finite, so that a row of only padding gives no NaN
EMBEDDED, NORMED = 1 << 20, 1 << 21  # dropout keys beyond any layer's index

DOTS = jax.checkpoint_policies.dots_with_no_batch_dims_saveable


def narrow_dots(primitive: Any, *operands: Any, **parameters: Any) -> Any:
    """As DOTS, but products wider than their input are computed again: the hidden units of feed-forward layers."""
    saved = DOTS(primitive, *operands, **parameters)
    return saved and operands[1].shape[-1] <= operands[1].shape[0]


REMAT_POLICIES = {
    "dots": DOTS,
    "narrow": narrow_dots,
    "full": jax.checkpoint_policies.nothing_saveable,
}


@dataclasses.dataclass(frozen=True)
class T5Config:
    """Sizes and switches of one T5. `feed_forward` is "relu" or "gated-gelu" (the tanh approximation)."""

    vocab_size: int
    d_model: int
    d_kv: int
    d_ff: int
    num_layers: int
    num_decoder_layers: int
    num_heads: int
    relative_buckets: int = 32
    relative_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6
    feed_forward: str = "gated-gelu"
    tied: bool = False  # one matrix for embeddings and LM head
    scale_decoder_outputs: bool = False  # multiply hidden states by D ** -0.5 before the LM head (v1.0)
    takes_eos: bool = True  # inputs ended in </s> when the checkpoint was trained (not for T0)
    tokenizer: str = ""  # directory or file of the vocabulary
    dtype: str = "float32"  # of activations and full weights
    weights: str = "full"  # of kernels and tables: "full" = in `dtype`, or "int8"
    dropout: float = 0.0
    remat: str = "dots"  # what the backward pass recomputes: "none", or one of REMAT_POLICIES
    unroll: int = 1  # layers in an iteration of the scan


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
        """Separates the heads: [B, S, H*K] becomes [B, S, H, K]."""
        return self.layout.constrain(x_BSW.reshape(*x_BSW.shape[:-1], self.heads, -1), None, "model")

    def keys_values(self, x_BSD: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The keys and the values of the attended positions, each [B, S, H, K]."""
        return self.split(product(x_BSD, self.key)), self.split(product(x_BSD, self.value))

    def __call__(
        self,
        x_BTD: jax.Array,
        k_BSHK: jax.Array,
        v_BSHK: jax.Array,
        mask_BHTS: jax.Array,
        bias_BHTS: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """The output [B, T, D] of the queries' positions `x_BTD`; keys and values are from `keys_values`.

        `mask_BHTS` is True where a query attends to a key, and `bias_BHTS` is added to the scores before the softmax.
        Both may have axes of size 1. `key` drops weights; None = no dropout.
        """
        q_BTHK = self.split(product(x_BTD, self.query))
        scores = jnp.einsum("BTHK,BSHK->BHTS", q_BTHK, k_BSHK, preferred_element_type=jnp.float32)
        if bias_BHTS is not None:
            scores = scores + bias_BHTS
        weights = jax.nn.softmax(jnp.where(mask_BHTS, scores, MASKED), axis=-1).astype(x_BTD.dtype)
        weights = dropout(weights, self.rate, key)
        # H before T, then swapped: for BTHK, einsum would swap its factors and XLA would copy the weights.
        y_BHTK = jnp.einsum("BHTS,BSHK->BHTK", weights, v_BSHK)
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

    def __call__(self, x_BSD: jax.Array, mask: jax.Array, bias: jax.Array, key: jax.Array | None = None) -> jax.Array:
        normed = self.attention_norm(x_BSD)
        y = self.attention(normed, *self.attention.keys_values(normed), mask, bias, sub_key(key, 0))
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
    ) -> jax.Array:
        """`keys_values` gives self-attention's keys and values of the normed input: projected, or from a cache."""
        normed = self.attention_norm(x_BTD)
        y = self.attention(normed, *keys_values(normed), mask, bias, sub_key(key, 0))
        x_BTD = self.layout.constrain(x_BTD + dropout(y, self.rate, sub_key(key, 1)))
        # Cross-attention has no position bias, so the C choices of one input can be concatenated along T: they share
        # the encoder's keys and values, and nothing is tiled.
        rows, length, width = x_BTD.shape
        concatenated = self.cross_norm(x_BTD).reshape(cross_keys_values[0].shape[0], -1, width)
        y = self.cross(concatenated, *cross_keys_values, cross_mask, None, sub_key(key, 2)).reshape(rows, length, width)
        x_BTD = self.layout.constrain(x_BTD + dropout(y, self.rate, sub_key(key, 3)))
        y = self.mlp(self.mlp_norm(x_BTD), sub_key(key, 4))
        return self.layout.constrain(x_BTD + dropout(y, self.rate, sub_key(key, 5)))


class Stack(nnx.Module):
    """N layers with stacked weights, the relative bias that they share, and the final norm."""

    def __init__(
        self, layer: Any, depth: int, bidirectional: bool, config: T5Config, layout: Layout, rngs: nnx.Rngs
    ) -> None:
        create = nnx.split_rngs(splits=depth)(nnx.vmap(lambda rngs: layer(config, layout, rngs)))
        self.layers = create(rngs)
        self.relative_bias = RelativeBias(config, bidirectional, rngs)
        self.norm = Norm(config)
        self.depth, self.layout = depth, layout
        self.remat, self.unroll = config.remat, config.unroll

    def gathered(self, weights: nnx.State) -> nnx.State:
        """One layer's weights, whole over the mesh's axis `fsdp`."""
        flat = [
            (path, variable.replace(self.layout.gathered("/".join(("layers", *map(str, path))), variable[...], True)))
            for path, variable in nnx.to_flat_state(weights)
        ]
        return nnx.from_flat_state(flat)

    def scan(
        self, body: Callable[..., tuple[jax.Array, Any]], x: jax.Array, key: jax.Array | None, xs: Any = None
    ) -> tuple[jax.Array, Any]:
        """Applies `body(layer, x, key, xs) -> (x, ys)` layer by layer; `xs` and `ys` have a leading layer axis."""
        graph, weights = nnx.split(self.layers)

        def step(x: jax.Array, per_layer: Any) -> tuple[jax.Array, Any]:
            weights, index, xs = per_layer
            return body(nnx.merge(graph, self.gathered(weights)), x, sub_key(key, index), xs)

        if self.remat != "none":
            step = jax.checkpoint(step, policy=REMAT_POLICIES[self.remat], prevent_cse=False)
        return jax.lax.scan(step, x, (weights, jnp.arange(self.depth), xs), unroll=min(self.unroll, self.depth))


class T5(nnx.Module):
    """The whole model. `backbone.Backbone` holds its weights, frozen; jitted functions merge them with its graph."""

    def __init__(self, config: T5Config, rngs: nnx.Rngs, layout: Layout = Layout()) -> None:  # noqa: B008 (frozen)
        self.config, self.layout = config, layout
        self.embedding = kernel(rngs, (config.vocab_size, config.d_model), 1.0, config, axis=-1)
        if not config.tied:
            self.head = kernel(rngs, (config.vocab_size, config.d_model), config.d_model**-0.5, config, axis=-1)
        self.encoder = Stack(EncoderLayer, config.num_layers, True, config, layout, rngs)
        self.decoder = Stack(DecoderLayer, config.num_decoder_layers, False, config, layout, rngs)

    def _table(self, name: str) -> Kernel:
        """The embeddings or the LM head, whole over the mesh's axis `fsdp`."""
        table = getattr(self, name)
        if isinstance(table, Int8):
            return Int8(self.layout.gathered(f"{name}/values", table.values[...]), table.scale[...])
        return table.replace(self.layout.gathered(name, table[...]))

    def _head(self) -> Kernel:
        return self._table("embedding" if self.config.tied else "head")

    def embed(self, tokens: jax.Array) -> jax.Array:
        """Input embeddings, with the axes of `tokens` and D."""
        return self.layout.constrain(int8.rows(self._table("embedding"), tokens, self.config.dtype))

    def head_rows(self, tokens: jax.Array) -> jax.Array:
        """Rows of the LM head, with the axes of `tokens` and D; rows of the embeddings if they are tied."""
        return int8.rows(self._head(), tokens, self.config.dtype)

    def encode(
        self, tokens_BL: jax.Array, prompts: jax.Array | None = None, key: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Encoder states [B, S, D] and their mask [B, S].

        `prompts`, [P, D] or [B, P, D], stand before the tokens and are never masked. `key` is for dropout.
        """
        x_BSD, mask_BS = self.embed(tokens_BL), tokens_BL != PAD
        if prompts is not None:
            prompts_BPD = jnp.broadcast_to(prompts, (x_BSD.shape[0], *prompts.shape[-2:])).astype(x_BSD.dtype)
            x_BSD = self.layout.constrain(jnp.concatenate([prompts_BPD, x_BSD], axis=1))
            mask_BS = jnp.concatenate([jnp.ones(prompts_BPD.shape[:2], bool), mask_BS], axis=1)
        positions = jnp.arange(x_BSD.shape[1])
        bias = self.encoder.relative_bias(positions, positions)
        x_BSD = dropout(x_BSD, self.config.dropout, sub_key(key, EMBEDDED))

        def body(layer: EncoderLayer, x: jax.Array, key: jax.Array | None, _: Any) -> tuple[jax.Array, None]:
            return layer(x, mask_BS[:, None, None, :], bias, key), None

        x_BSD, _ = self.encoder.scan(body, x_BSD, key)
        return dropout(self.encoder.norm(x_BSD), self.config.dropout, sub_key(key, NORMED)), mask_BS

    def decode(
        self, targets_BT: jax.Array, y_BSD: jax.Array, mask_BS: jax.Array, key: jax.Array | None = None
    ) -> jax.Array:
        """Hidden states [B, T, D] that predict `targets_BT`, teacher-forced.

        With C answer choices an input, `targets_BT` has C times the rows of `y_BSD`: rows i * C to i * C + C - 1 are
        the choices of input i.
        """
        x_BTD = self.embed(jnp.pad(targets_BT[:, :-1], ((0, 0), (1, 0)), constant_values=PAD))
        positions = jnp.arange(targets_BT.shape[1])
        bias = self.decoder.relative_bias(positions, positions)
        causal = (positions[:, None] >= positions[None, :])[None, None]
        x_BTD = dropout(x_BTD, self.config.dropout, sub_key(key, EMBEDDED))

        def body(layer: DecoderLayer, x: jax.Array, key: jax.Array | None, _: Any) -> tuple[jax.Array, None]:
            cross = layer.cross.keys_values(y_BSD)
            projected = layer.attention.keys_values
            return layer(x, projected, cross, causal, mask_BS[:, None, None, :], bias, key), None

        x_BTD, _ = self.decoder.scan(body, x_BTD, key)
        return dropout(self.decoder.norm(x_BTD), self.config.dropout, sub_key(key, NORMED))

    def logits(self, hidden: jax.Array) -> jax.Array:
        """Float32 logits [..., V] of the hidden states [..., D] that `decode` returns."""
        if self.config.scale_decoder_outputs:
            hidden = hidden * self.config.d_model**-0.5
        logits = int8.logits(hidden, self._head())
        return self.layout.constrain(logits, *(None,) * (logits.ndim - 2), "model")

    def generate(self, y_BSD: jax.Array, mask_BS: jax.Array, max_length: int) -> jax.Array:
        """Greedy decoding of `encode`'s states, with a key/value cache: tokens [B, max_length], PAD after EOS."""
        graph, weights = nnx.split(self.decoder.layers)
        gathered = self.decoder.gathered
        cross = jax.lax.map(lambda w: nnx.merge(graph, gathered(w)).cross.keys_values(y_BSD), weights)
        batch, positions = y_BSD.shape[0], jnp.arange(max_length)
        heads = (self.config.num_heads, self.config.d_kv)
        empty = jnp.zeros((self.decoder.depth, batch, max_length, *heads), y_BSD.dtype)

        def step(carry: Any, index: jax.Array) -> tuple[Any, jax.Array]:
            token_B, done_B, cache = carry
            bias = self.decoder.relative_bias(index[None], positions)
            seen = (positions <= index)[None, None, None, :]

            def body(layer: DecoderLayer, x: jax.Array, key: None, xs: Any) -> tuple[jax.Array, Any]:
                cross, cache = xs
                stored = []

                def cached(normed: jax.Array) -> tuple[jax.Array, jax.Array]:
                    pairs = zip(cache, layer.attention.keys_values(normed), strict=True)
                    stored.extend(jax.lax.dynamic_update_slice_in_dim(c, new, index, 1) for c, new in pairs)
                    return stored[0], stored[1]

                return layer(x, cached, cross, seen, mask_BS[:, None, None, :], bias, key), tuple(stored)

            x_B1D, cache = self.decoder.scan(body, self.embed(token_B)[:, None], None, (cross, cache))
            best_B = jnp.argmax(self.logits(self.decoder.norm(x_B1D))[:, 0], axis=-1).astype(jnp.int32)
            best_B = jnp.where(done_B, PAD, best_B)
            return (best_B, done_B | (best_B == EOS), cache), best_B

        start = (jnp.full((batch,), PAD, jnp.int32), jnp.zeros((batch,), bool), (empty, empty))
        _, tokens_TB = jax.lax.scan(step, start, positions)
        return tokens_TB.T
