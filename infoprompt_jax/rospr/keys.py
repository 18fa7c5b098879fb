"""Keys and queries of RoSPr's retrieval, encoded by one function with any T5.

Both are the mean of the encoder's last layer over an instance's tokens (arXiv 2210.03029 and its released code, which
uses a small T0).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from infoprompt_jax.errors import UserError
from infoprompt_jax.rospr.library_files import Model
from infoprompt_jax.t5.backbone import Backbone
from infoprompt_jax.t5.config import PAD


def model(backbone: Model | Backbone) -> Model:
    """A retriever, or a backbone of prompts, as libraries record it."""
    if isinstance(backbone, Model):
        return backbone
    return Model(backbone.name, backbone.fingerprint, backbone.config.d_model)


def encode_keys(retriever: Backbone, tokens_BL: ArrayLike, batch_size: int = 32) -> np.ndarray:
    """Keys or queries, float32 [B, R]: the mean of the last encoder layer over the tokens that are not PAD.

    Raises:
      UserError: the tokens are not whole numbers [B, L] of the retriever's vocabulary, or a row holds only PAD.
    """
    try:
        tokens_BL = np.asarray(tokens_BL)
    except ValueError as error:
        raise UserError("tokens_BL holds rows of different lengths: pad them with 0.") from error
    if tokens_BL.ndim != 2 or tokens_BL.dtype.kind not in "iu":
        raise UserError(
            f"tokens_BL is {tokens_BL.dtype} of shape {list(tokens_BL.shape)}, but whole numbers [B, L] were expected: "
            "encode texts with the retriever's tokenizer."
        )
    if batch_size < 1:
        raise UserError(f"batch_size={batch_size} is out of range: it must be at least 1.")
    empty = np.flatnonzero((tokens_BL == PAD).all(axis=1))
    if len(empty):
        raise UserError(f"Row {empty[0]} of the instances to encode holds no token: give it at least </s>.")
    keys_BR = np.empty((len(tokens_BL), retriever.config.d_model), np.float32)
    for start in range(0, len(tokens_BL), batch_size):
        block = tokens_BL[start : start + batch_size]
        rows = np.resize(
            block, (batch_size, block.shape[1])
        )  # repeats rows to the full size, so that one program is compiled
        keys_BR[start : start + batch_size] = np.asarray(_mean(retriever.encode(rows), rows))[: len(block)]
    return keys_BR


@jax.jit
def _mean(y_BLR: jax.Array, tokens_BL: jax.Array) -> jax.Array:
    mask_BL1 = (tokens_BL != PAD)[..., None]
    return jnp.sum(y_BLR.astype(jnp.float32), axis=1, where=mask_BL1) / mask_BL1.sum(axis=1)
