"""The T5 that a pretraining run goes on from, where the config names one: its weights and its vocabulary."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx

from infoprompt_jax.errors import UserError, in_python
from infoprompt_jax.pretraining.step import t5_config
from infoprompt_jax.t5.backbone import Backbone, load_backbone
from infoprompt_jax.t5.tokenizer import SENTINELS

# What a config may describe differently, and the fields that it cannot describe.
SIZES = ("d_model", "d_kv", "d_ff", "num_heads", "num_layers", "num_decoder_layers", "tied")
FIXED = ("feed_forward", "relative_buckets", "relative_max_distance", "layer_norm_epsilon", "scale_decoder_outputs")


def find(config: ml_collections.ConfigDict) -> Backbone | None:
    """The backbone `pretrain.start_from`, in float32; None where a run starts from random weights.

    Raises:
      UserError: it cannot be loaded, has other sizes than the config, or no vocabulary with sentinels.
    """
    name, described = config.pretrain.start_from, t5_config(config)
    if not name:
        return None
    loaded = in_python(load_backbone, {r"\bbackbone\.name\b": "pretrain.start_from"})(name)
    what = f"pretrain.start_from={name!r}"
    for size in SIZES:
        if (seen := getattr(loaded.config, size)) != getattr(described, size):
            raise UserError(
                f"{what} has {size}={seen}, but pretrain.{size} is {getattr(described, size)}: set it to {seen}."
            )
    pieces = loaded.config.vocab_size - len(SENTINELS)
    if pieces != config.pretrain.pieces:
        raise UserError(
            f"{what} has {pieces} pieces, but pretrain.pieces is {config.pretrain.pieces}: set it to {pieces}."
        )
    for field in FIXED:
        if (seen := getattr(loaded.config, field)) != (expected := getattr(described, field)):
            raise UserError(f"{what} has {field}={seen}, but job=pretrain trains only {expected}: choose another T5.")
    if len(loaded.tokenizer.sentinels) != len(SENTINELS) or not loaded.tokenizer.files:
        raise UserError(f"{what} has no vocabulary files with {len(SENTINELS)} sentinels: choose another T5.")
    return loaded


def weights(backbone: Backbone) -> nnx.State:
    """Its weights, on the default device: a run steps them there, in float32."""
    return jax.tree.map(lambda weight: jnp.asarray(np.asarray(weight)), backbone.frozen)
