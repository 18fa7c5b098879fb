"""The files of a hub repository with a T5 of a few weights, in any format of weights."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence

import flax.serialization
import flax.traverse_util
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from infoprompt_jax.t5 import hub
from infoprompt_jax.t5.config import T5Config
from infoprompt_jax.t5.hugging_face import is_transposed, tensor_name
from infoprompt_jax.t5.model import T5

SIZES = {"vocab_size": 2048, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
# As the config.json of google's LM-adapted T5s has them.
CONFIG = {"model_type": "t5", "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "pad_token_id": 0}


def leaves() -> dict[str, np.ndarray]:
    """The tensors of a T5 of a few weights, by the names that torch gives them."""
    config, named = T5Config(**SIZES, num_decoder_layers=1), {}
    for path, variable in nnx.to_flat_state(nnx.split(T5(config, nnx.Rngs(0)))[1]):
        leaf, array = "/".join(map(str, path)), np.asarray(variable[...])
        name = tensor_name(leaf, gated=True)
        part = array[0] if "{}" in name else array
        named[name.format(0)] = np.ascontiguousarray(part.T if is_transposed(leaf) else part)
    return named


def write_weights(path: pathlib.Path, tensors: dict[str, np.ndarray]) -> None:
    """One file, in the format of its name; of an index, the two shards too."""
    if path.name.endswith(".index.json"):
        stem, ending = path.name.removesuffix(".index.json").split(".")
        files = {name: f"{stem}-{i % 2 + 1:05}-of-00002.{ending}" for i, name in enumerate(tensors)}
        for file in set(files.values()):
            write_weights(path.with_name(file), {name: tensors[name] for name in tensors if files[name] == file})
        path.write_text(json.dumps({"weight_map": files}))
    elif path.suffix == ".safetensors":
        save_file(tensors, path)
    elif path.suffix == ".bin":
        torch = pytest.importorskip("torch")
        torch.save({name: torch.tensor(array) for name, array in tensors.items()}, path)
    else:
        tree = {}
        for name, array in tensors.items():
            *module, _ = name.split(".")
            last = module[-1]
            embedding = last in ("shared", "relative_attention_bias")
            kind = "weight" if last.endswith("layer_norm") else "embedding" if embedding else "kernel"
            tree[(*module, kind)] = array.T if kind == "kernel" else array
        path.write_bytes(flax.serialization.msgpack_serialize(flax.traverse_util.unflatten_dict(tree)))


def files(directory: pathlib.Path, names: Sequence[str]) -> dict[str, bytes]:
    """A repository's files: config.json and those of `names`; a name that is no weights nor vocabulary is a decoy."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps({**SIZES, **CONFIG}))
    for name in names:
        if name in ("spiece.model", "tokenizer.json"):
            (directory / name).write_bytes((hub.find("nano") / name).read_bytes())
        elif name.endswith((".safetensors", ".bin", ".msgpack", ".index.json")):
            write_weights(directory / name, leaves())
        else:
            (directory / name).write_bytes(b"not for us")
    return {file.name: file.read_bytes() for file in directory.iterdir()}
