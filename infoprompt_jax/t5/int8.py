"""Weights as int8 with a float32 scale for each output channel: half the memory of bfloat16.

A kernel [I, O] is rounded to whole numbers from -127 to 127 times a scale [O], which is the largest magnitude of the
output channel / 127. A product converts the whole numbers to the type of the activations, and multiplies by the scale
after the sum. The tables of the embeddings and the LM head, [V, D], have a scale for each row of the vocabulary, which
serves both the lookup and the logits. `product`, `rows` and `logits` also take full weights. A frozen backbone needs
no gradient by a weight, so these few lines replace a library for quantisation.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

TABLES = ("embedding", "head")  # [V, D]; all others are kernels [I, O]
LARGEST = 127  # -128 is left out: the range is symmetric
GROUP = 256  # most rows of a table whose products are searched together


def quantize(kernel: Any, axis: int = -2) -> tuple[Any, Any]:
    """Rounds a kernel to the nearest whole multiples of its scales.

    Args:
      kernel: [..., I, O] of floats, a numpy or a JAX array; the arrays returned are of the same library.
      axis: the one that a product sums over: -2 for a kernel [I, O], -1 for a table [V, D].

    Returns:
      int8 values of the kernel's shape, and float32 scales, the shape without `axis`. A channel of zeros has scale 1.
    """
    scale = scales(kernel, axis)
    return rounded(kernel, scale, axis), scale


def scales(kernel: Any, axis: int = -2) -> Any:
    """The float32 scales of a kernel, as `quantize` returns them; each depends on its own channel alone."""
    library = np if isinstance(kernel, np.ndarray) else jnp
    scale = library.abs(kernel.astype(np.float32)).max(axis=axis) / LARGEST
    return library.where(scale < np.finfo(np.float32).tiny, np.float32(1), scale)


def rounded(kernel: Any, scale: Any, axis: int = -2) -> Any:
    """The int8 values of a kernel, or of a part of it, as `quantize` returns them."""
    library = np if isinstance(kernel, np.ndarray) else jnp
    return library.rint(kernel.astype(np.float32) / library.expand_dims(scale, axis)).astype(np.int8)


def summed_axis(leaf: str) -> int:
    """The axis of a checkpoint's leaf that products sum over, as `quantize` takes it."""
    return -1 if leaf in TABLES else -2


class Int8(nnx.Module):
    """A quantised kernel [I, O] or table [V, D]: the int8 `values` and the float32 `scale` of each channel."""

    def __init__(self, values: jax.Array, scale: jax.Array) -> None:
        self.values, self.scale = nnx.Param(values), nnx.Param(scale)

    def scaled(self, y: jax.Array) -> jax.Array:
        """A product with the values, times the scales of its last axis: float32."""
        return y * jnp.expand_dims(self.scale[...], range(y.ndim - 1))


Kernel = nnx.Param | Int8


def product(x: jax.Array, kernel: Kernel) -> jax.Array:
    """`x` [..., I] times a kernel [I, O], in the type of `x`."""
    if not isinstance(kernel, Int8):
        return x @ kernel[...]
    # A product of mixed types keeps the int8 values for the backward pass; of a converted kernel, the copy is kept.
    axes = (((x.ndim - 1,), (0,)), ((), ()))
    y = jax.lax.dot_general(x, kernel.values[...], axes, preferred_element_type=x.dtype)
    return kernel.scaled(y).astype(x.dtype)


def rows(table: Kernel, tokens: jax.Array, dtype: str) -> jax.Array:
    """Rows of a table [V, D], with the axes of `tokens` and D; int8 ones are converted to `dtype`."""
    if not isinstance(table, Int8):
        return table[...][tokens]
    return (table.values[...][tokens] * table.scale[...][tokens][..., None]).astype(dtype)


def logits(hidden: jax.Array, table: Kernel) -> jax.Array:
    """Float32 products [..., V] of `hidden` [..., D] with all rows of a table [V, D]."""
    if not isinstance(table, Int8):
        return _logits(hidden, table[...])
    # The backward pass converts the table again instead of keeping the copy.
    converted = jax.checkpoint(lambda hidden, values_VD: _logits(hidden, values_VD.astype(hidden.dtype)))
    return table.scaled(converted(hidden, table.values[...]))


def best(hidden_BD: jax.Array, table: Kernel) -> jax.Array:
    """The row [B], int32, of a table [V, D] whose float32 product with `hidden_BD` is the largest, the first of equals.

    With V as the first axis, and its groups before its single rows: a CPU is slow where the last axis is searched.
    """
    if isinstance(table, Int8):
        y_VB = _products(table.values[...].astype(hidden_BD.dtype), hidden_BD) * table.scale[...][:, None]
    else:
        y_VB = _products(table[...], hidden_BD)
    rows, batch = y_VB.shape
    group = max(size for size in range(1, GROUP + 1) if rows % size == 0)
    groups = y_VB.reshape(-1, group, batch)
    first_B = jnp.argmax(groups.max(axis=1), axis=0)
    within_B = jnp.argmax(groups[first_B, :, jnp.arange(batch)], axis=-1)
    return (first_B * group + within_B).astype(jnp.int32)


def _products(table_VD: jax.Array, hidden_BD: jax.Array) -> jax.Array:
    return jnp.einsum("VD,BD->VB", table_VD, hidden_BD, preferred_element_type=jnp.float32)


def _logits(hidden: jax.Array, table_VD: jax.Array) -> jax.Array:
    return jnp.einsum("...D,VD->...V", hidden, table_VD, preferred_element_type=jnp.float32)
