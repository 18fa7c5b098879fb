"""Tiny random T5s made by transformers, saved to a directory, and ours loaded from it."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import jax.numpy as jnp
from flax import nnx

from infoprompt_jax import convert
from infoprompt_jax.t5 import T5

# The heads' widths do not add up to D, and the decoder is shallower than the encoder: nothing may take them for equal.
SIZES = {
    "vocab_size": 97,
    "d_model": 32,
    "d_kv": 12,
    "d_ff": 40,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "dropout_rate": 0.0,
    "decoder_start_token_id": 0,
}
VERSIONS = {
    "v1.0": {"feed_forward_proj": "relu", "tie_word_embeddings": True},
    "v1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
}


def torch_t5(version: str, **sizes: Any) -> Any:
    """A T5 of transformers; v1.1's head is untied by hand, for transformers 5 ties it whatever its config says."""
    import torch
    import transformers

    torch.manual_seed(len(version) + sum(map(ord, version)))
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(**SIZES, **VERSIONS[version], **sizes))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Fresh norms are all ones, and small weights hide mistakes; large ones amplify rounding beyond 1e-4.
            parameter.copy_(torch.rand_like(parameter) + 0.5 if "norm" in name else torch.randn_like(parameter) * 0.2)
    if version == "v1.1":
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.shared.weight) * 0.2)
    return model.eval()


def load(path: pathlib.Path, **switches: Any) -> T5:
    """Our T5 from a checkpoint's directory."""
    config = dataclasses.replace(convert.read_config(path), **switches)
    graph, abstract = nnx.split(nnx.eval_shape(lambda: T5(config, nnx.Rngs(0))))
    leaves = dict(convert.read_leaves(path, config, config.dtype))
    flat = [(key, v.replace(jnp.asarray(leaves["/".join(map(str, key))]))) for key, v in nnx.to_flat_state(abstract)]
    return nnx.merge(graph, nnx.from_flat_state(flat))
