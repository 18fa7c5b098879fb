"""T5 in Flax NNX: encoder, decoder and LM head, with layers stacked and scanned.

T5 v1.0 has tied embeddings and scaled decoder outputs. T5 v1.1, LM-adapt, T0 and Flan have an untied head. The weights
of a stack have a leading layer axis and `jax.lax.scan` runs over it, so that compile time does not grow with depth. The
relative position bias is computed once a stack. Logits are always float32.

Axes, in the whole project the suffixes of array names and the letters of einsum strings:
    B batch, L input tokens, P prompt tokens, S = P + L encoder positions, T target tokens, C answer choices,
    M fleet members, N layers, D model, H heads, K head width, F feed-forward, V vocabulary, Q queries,
    R retriever width
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from infoprompt_jax.t5 import blocks, fused, int8
from infoprompt_jax.t5.config import EOS, PAD, T5Config
from infoprompt_jax.t5.int8 import Int8, Kernel
from infoprompt_jax.t5.layers import DecoderLayer, EncoderLayer, Norm, RelativeBias, dropout, kernel, sub_key
from infoprompt_jax.t5.partition import Layout

EMBEDDED, NORMED = 1 << 20, 1 << 21  # dropout keys beyond any layer's index


def dots(primitive: Any, *operands: Any, **parameters: Any) -> Any:
    """Saves products with weights, and fused attention; the products of attention that XLA computes are not saved."""
    products = jax.checkpoint_policies.dots_with_no_batch_dims_saveable(primitive, *operands, **parameters)
    return products or primitive.name == fused.FORWARD


def narrow_dots(primitive: Any, *operands: Any, **parameters: Any) -> Any:
    """As `dots`, but products wider than their input are computed again: the hidden units of feed-forward layers."""
    if primitive.name == fused.FORWARD:
        return True
    return dots(primitive, *operands, **parameters) and operands[1].shape[-1] <= operands[1].shape[0]


REMAT_POLICIES = {
    "dots": dots,
    "narrow": narrow_dots,
    "full": jax.checkpoint_policies.nothing_saveable,
}


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

    def repeated(self) -> Callable[..., tuple[jax.Array, list[Any]]]:
        """A function as `scan`, but its program repeats the layers: `xs` is a tuple of lists, and `ys` a list.

        A copy of the layers' weights is cut out of their stack, once for all its calls.
        """
        graph, weights = nnx.split(self.layers)
        cut = [jax.tree.map(lambda weight, index=index: weight[index], weights) for index in range(self.depth)]

        def layers(
            body: Callable[..., tuple[jax.Array, Any]],
            x: jax.Array,
            key: jax.Array | None,
            xs: Sequence[Any] | None = None,
        ) -> tuple[jax.Array, list[Any]]:
            ys = []
            for index, weights in enumerate(cut):
                of_layer = None if xs is None else tuple(x[index] for x in xs)
                x, y = body(nnx.merge(graph, self.gathered(weights)), x, sub_key(key, index), of_layer)
                ys.append(y)
            return x, ys

        return layers


@jax.custom_batching.custom_vmap
def all_of(done_B: jax.Array) -> jax.Array:
    """Whether all rows are done; under `jax.vmap`, all rows of all members: their loops end together."""
    return done_B.all()


@all_of.def_vmap
def _all_of_members(size: int, batched: Any, done_MB: jax.Array) -> tuple[jax.Array, bool]:
    del size, batched
    return all_of(done_MB), False


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
        self,
        tokens_BL: jax.Array,
        prompts: jax.Array | None = None,
        key: jax.Array | None = None,
        forward_only: bool = False,
    ) -> tuple[jax.Array, jax.Array]:
        """Encoder states [B, S, D] and their mask [B, S].

        `prompts`, [P, D] or [B, P, D], stand before the tokens and are never masked. `key` is for dropout. With
        `forward_only` and without dropout, the program is faster on a CPU, and its gradient is slower.
        """
        x_BSD, mask_BS = self.embed(tokens_BL), tokens_BL != PAD
        if prompts is not None:
            prompts_BPD = jnp.broadcast_to(prompts, (x_BSD.shape[0], *prompts.shape[-2:])).astype(x_BSD.dtype)
            x_BSD = self.layout.constrain(jnp.concatenate([prompts_BPD, x_BSD], axis=1))
            mask_BS = jnp.concatenate([jnp.ones(prompts_BPD.shape[:2], bool), mask_BS], axis=1)
        positions, lengths_B = jnp.arange(x_BSD.shape[1]), fused.lengths(self.config, mask_BS)
        bias = self.encoder.relative_bias(positions, positions)
        x_BSD = dropout(x_BSD, self.config.dropout, sub_key(key, EMBEDDED))

        def body(layer: EncoderLayer, x: jax.Array, key: jax.Array | None, _: Any) -> tuple[jax.Array, None]:
            def some(x: jax.Array, mask: jax.Array, lengths: jax.Array | None) -> jax.Array:
                return layer(x, mask[:, None, None, :], bias, key, lengths)

            if forward_only and key is None:
                return blocks.by_rows(some, self.layout, x, mask_BS, lengths_B), None
            return some(x, mask_BS, lengths_B), None

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
        causal, lengths_B = (positions[:, None] >= positions[None, :])[None, None], fused.lengths(self.config, mask_BS)
        x_BTD = dropout(x_BTD, self.config.dropout, sub_key(key, EMBEDDED))

        def body(layer: DecoderLayer, x: jax.Array, key: jax.Array | None, _: Any) -> tuple[jax.Array, None]:
            cross = layer.cross.keys_values(y_BSD)
            projected = layer.attention.keys_values
            return layer(x, projected, cross, causal, mask_BS[:, None, None, :], bias, key, lengths_B), None

        x_BTD, _ = self.decoder.scan(body, x_BTD, key)
        return dropout(self.decoder.norm(x_BTD), self.config.dropout, sub_key(key, NORMED))

    def logits(self, hidden: jax.Array) -> jax.Array:
        """Float32 logits [..., V] of the hidden states [..., D] that `decode` returns."""
        logits = int8.logits(self._scaled(hidden), self._head())
        return self.layout.constrain(logits, *(None,) * (logits.ndim - 2), "model")

    def best(self, hidden_BD: jax.Array) -> jax.Array:
        """The tokens [B], int32, whose logits are the largest."""
        if self.layout.one_cpu:
            return int8.best(self._scaled(hidden_BD), self._head())
        # A mesh that splits the vocabulary exchanges one number a row and device for this.
        return jnp.argmax(self.logits(hidden_BD), axis=-1).astype(jnp.int32)

    def _scaled(self, hidden: jax.Array) -> jax.Array:
        return hidden * self.config.d_model**-0.5 if self.config.scale_decoder_outputs else hidden

    def generate(self, y_BSD: jax.Array, mask_BS: jax.Array, max_length: int) -> jax.Array:
        """Greedy decoding of `encode`'s states, with a key/value cache: tokens [B, max_length], PAD after EOS.

        It ends when every row has.
        """
        # A scan over layers copies their weights, keys and values out of their stacks for every token. On a CPU that is
        # slow; elsewhere, a short program that compiles soon is worth more, and a copy of the weights may not fit.
        over_layers = self.decoder.repeated() if self.layout.platform == "cpu" else self.decoder.scan
        batch, positions = y_BSD.shape[0], jnp.arange(max_length)
        empty = jnp.zeros((batch, self.config.num_heads, max_length, self.config.d_kv), y_BSD.dtype)
        nothing = jnp.zeros(())

        def read(layer: DecoderLayer, x: jax.Array, *_: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            return x, blocks.by_rows(layer.cross.keys_values, self.layout, y_BSD)

        _, cross = over_layers(read, nothing, None)
        _, caches = over_layers(lambda layer, x, *_: (x, (empty, empty)), nothing, None)

        def going(carry: Any) -> jax.Array:
            index, _, done_B, *_ = carry
            return (index < max_length) & ~all_of(done_B)

        def step(carry: Any) -> Any:
            index, token_B, done_B, caches, tokens_BT = carry
            bias = self.decoder.relative_bias(index[None], positions)
            seen = (positions <= index)[None, None, None, :]

            def body(layer: DecoderLayer, x: jax.Array, key: None, xs: Any) -> tuple[jax.Array, Any]:
                cross, cache = xs
                stored = []

                def cached(normed: jax.Array) -> tuple[jax.Array, jax.Array]:
                    pairs = zip(cache, layer.attention.keys_values(normed), strict=True)
                    stored.extend(jax.lax.dynamic_update_slice_in_dim(c, new, index, 2) for c, new in pairs)
                    return stored[0], stored[1]

                return layer(x, cached, cross, seen, mask_BS[:, None, None, :], bias, key), tuple(stored)

            x_B1D, caches = over_layers(body, self.embed(token_B)[:, None], None, (cross, caches))
            best_B = jnp.where(done_B, PAD, self.best(self.decoder.norm(x_B1D)[:, 0]))
            tokens_BT = jax.lax.dynamic_update_slice_in_dim(tokens_BT, best_B[:, None], index, 1)
            return index + 1, best_B, done_B | (best_B == EOS), caches, tokens_BT

        none = jnp.full((batch, max_length), PAD, jnp.int32)
        start = (jnp.zeros((), jnp.int32), none[:, 0], jnp.zeros((batch,), bool), caches, none)
        *_, tokens_BT = jax.lax.while_loop(going, step, start)
        return tokens_BT
