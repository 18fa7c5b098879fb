"""Tiny random T5s made by transformers, saved to a directory, and ours loaded from it."""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from infoprompt_jax.t5 import convert, placement
from infoprompt_jax.t5.config import PAD, T5Config
from infoprompt_jax.t5.model import T5

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


def torch_t5(version: str) -> Any:
    """A T5 of transformers; v1.1's head is untied by hand, for transformers 5 ties it whatever its config says."""
    import torch
    import transformers

    torch.set_num_threads(1)  # tiny matrices: more threads only wait for each other
    torch.manual_seed(len(version) + sum(map(ord, version)))
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(**SIZES, **VERSIONS[version]))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Fresh norms are all ones, and small weights hide mistakes; large ones amplify rounding beyond 1e-4.
            parameter.copy_(torch.rand_like(parameter) + 0.5 if "norm" in name else torch.randn_like(parameter) * 0.2)
    if version == "v1.1":
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.shared.weight) * 0.2)
    return model.eval()


def read(path: pathlib.Path, dtype: str = "float32") -> dict[str, np.ndarray]:
    leaves, one_device = convert.read_leaves(path, convert.read_config(path)), jax.devices()[0]
    sharding = jax.sharding.SingleDeviceSharding(one_device)
    return {leaf.path: np.asarray(placement.placed_leaf(leaf, sharding, dtype)) for leaf in leaves}


def load(path: pathlib.Path, **switches: Any) -> T5:
    """Our T5 from a checkpoint's directory."""
    config = dataclasses.replace(convert.read_config(path), **switches)
    graph, abstract = nnx.split(nnx.eval_shape(lambda: T5(config, nnx.Rngs(0))))
    leaves = read(path, config.dtype)
    flat = [(key, v.replace(jnp.asarray(leaves["/".join(map(str, key))]))) for key, v in nnx.to_flat_state(abstract)]
    return nnx.merge(graph, nnx.from_flat_state(flat))


def fingerprint(path: pathlib.Path) -> str:
    config = convert.read_config(path)
    digest = convert.Fingerprint(config)
    for leaf in convert.read_leaves(path, config):
        digest.add(leaf)
    return digest.hexdigest()


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for leaf, array in found.items():
        np.testing.assert_array_equal(array, expected[leaf], err_msg=leaf)


@functools.partial(jax.jit, static_argnums=0)
def _logits(graph: Any, weights: Any, inputs: Any, targets: Any, prompts: Any, key: Any) -> jax.Array:
    model = nnx.merge(graph, weights)
    return model.logits(model.decode(targets, *model.encode(inputs, prompts, key), key))


def logits(model: T5, inputs: Any, targets: Any, prompts: Any = None, key: Any = None) -> jax.Array:
    return _logits(*nnx.split(model), inputs, targets, prompts, key)


def torch_inputs(model: Any, inputs: np.ndarray, prompts: np.ndarray | None) -> dict[str, Any]:
    import torch

    tokens = torch.tensor(inputs)
    embedded, mask = model.shared(tokens), tokens != PAD
    if prompts is not None:
        prompts = torch.tensor(prompts).expand(len(tokens), *prompts.shape[-2:])
        embedded = torch.cat([prompts, embedded], dim=1)
        mask = torch.cat([torch.ones(prompts.shape[:2], dtype=torch.bool), mask], dim=1)
    return {"inputs_embeds": embedded, "attention_mask": mask}


def torch_logits(model: Any, inputs: np.ndarray, targets: np.ndarray, prompts: np.ndarray | None = None) -> np.ndarray:
    import torch

    shifted = torch.tensor(np.pad(targets[:, :-1], ((0, 0), (1, 0))))
    with torch.no_grad():
        return model(**torch_inputs(model, inputs, prompts), decoder_input_ids=shifted).logits.numpy()


def leaves_of(model: T5) -> list[tuple[str, np.ndarray]]:
    flat = nnx.to_flat_state(nnx.split(model)[1])
    return [("/".join(map(str, path)), np.asarray(variable[...])) for path, variable in flat]


def export(path: pathlib.Path) -> pathlib.Path:
    """A small v1.1 checkpoint of ours, for a test to change."""
    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 2, "num_decoder_layers": 1, "num_heads": 2}
    config = T5Config(17, **sizes)
    convert.export(path, config, leaves_of(T5(config, nnx.Rngs(0))))
    return path


def edit_json(path: pathlib.Path, **fields: Any) -> None:
    content = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
