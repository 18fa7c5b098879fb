"""Attention to the encoder's positions as cuDNN's fused kernel, which keeps no scores in memory.

`backbone.attention=cudnn` computes the encoder's self-attention and the decoder's cross-attention with it. The kernel
masks keys by a length for each row, which fits both: padding stands at the end of the encoder's rows.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from infoprompt_jax.errors import UserError
from infoprompt_jax.t5.config import T5Config

CHOICES = ("xla", "cudnn")  # of backbone.attention
IMPLEMENTATION = "cudnn"  # of jax.nn.dot_product_attention
FORWARD = "dot_product_attention_fwd_wrapper"  # JAX's name of the kernel's forward pass


def check(mesh: Mesh, *, attention: str, dtype: str, dropout: float, **_: object) -> None:
    """Raises UserError if `attention` is no known one, or the kernel cannot run on this mesh with this dtype."""
    if attention not in CHOICES:
        raise UserError(f"backbone.attention={attention!r} is not supported: choose one of {', '.join(CHOICES)}.")
    if attention == "xla":
        return
    device = mesh.devices.flat[0]
    nvidia = device.platform == "gpu" and "NVIDIA" in device.device_kind
    needs = (
        ("an NVIDIA GPU", nvidia, f"the devices are of the kind {device.device_kind!r}"),
        ("backbone.dtype='bfloat16'", dtype == "bfloat16", f"the dtype is {dtype!r}"),
        ("backbone.dropout=0", dropout == 0.0, f"the dropout is {dropout}"),
    )
    for what, met, seen in needs:
        if not met:
            raise UserError(f"backbone.attention='cudnn' needs {what}, but {seen}: set backbone.attention='xla'.")


def lengths(config: T5Config, mask_BS: jax.Array) -> jax.Array | None:
    """The number of unpadded positions of each row, int32 [B]; None where the kernel is not used.

    The kernel's gradient takes an even number of positions only.
    """
    if config.attention == "xla" or mask_BS.shape[1] % 2:
        return None
    return mask_BS.sum(axis=1, dtype="int32").clip(1)  # a row of only padding gives no NaN


def attention(
    q_BHTK: jax.Array, k_BHSK: jax.Array, v_BHSK: jax.Array, bias_BHTS: jax.Array | None, lengths_B: jax.Array
) -> jax.Array:
    """The weighted values [B, H, T, K]. A query attends to the first `lengths_B` keys of its row.

    `bias_BHTS`, in which axes may have size 1, is rounded to the dtype of the queries, and has no gradient.
    """
    if bias_BHTS is not None:
        bias_BHTS = jax.lax.stop_gradient(bias_BHTS.astype(q_BHTK.dtype))
    y_BTHK = jax.nn.dot_product_attention(
        *(jnp.swapaxes(each, 1, 2) for each in (q_BHTK, k_BHSK, v_BHSK)),
        bias=bias_BHTS,
        key_value_seq_lengths=lengths_B,
        scale=1.0,
        implementation=IMPLEMENTATION,
    )
    return jnp.swapaxes(y_BTHK, 1, 2)
