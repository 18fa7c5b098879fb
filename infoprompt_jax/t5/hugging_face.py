"""Hugging Face directories: `config.json`, and weights in one of the formats of `weight_files`.

T5 v1.0 multiplies decoder outputs by D ** -0.5 and has one matrix for embeddings and head; v1.1 and its descendants do
neither. In transformers before version 5, `tie_word_embeddings` means both. Version 5 always writes it as true, adds
`scale_decoder_outputs`, and has an untied head if the weights contain one. This module reads both and writes files that
both read alike.
"""

from __future__ import annotations

import functools
import json
import os
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from infoprompt_jax import foreign
from infoprompt_jax.errors import UserError
from infoprompt_jax.fields import shortened
from infoprompt_jax.t5 import weight_files
from infoprompt_jax.t5.config import EOS, PAD, T5Config
from infoprompt_jax.t5.leaf import blocks
from infoprompt_jax.t5.mapped import Index
from infoprompt_jax.t5.torch_pickle import TorchPickleError

FEED_FORWARD = {"t5": "relu", "mt5": "gated-gelu"}  # by model_type, if config.json has no feed_forward_proj
SPECIAL_TOKENS = {"pad_token_id": PAD, "eos_token_id": EOS, "decoder_start_token_id": PAD}
SIZES = {
    "vocab_size": "vocab_size",
    "d_model": "d_model",
    "d_kv": "d_kv",
    "d_ff": "d_ff",
    "num_layers": "num_layers",
    "num_decoder_layers": "num_decoder_layers",
    "num_heads": "num_heads",
    "relative_buckets": "relative_attention_num_buckets",
    "relative_max_distance": "relative_attention_max_distance",
}
EMBEDDINGS = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")  # one matrix
DEFAULTS = {"relative_attention_num_buckets": 32, "relative_attention_max_distance": 128}
SMALLEST = float(np.finfo(np.float32).tiny)  # what is less becomes zero
LARGEST = 2**24  # of sizes: those of published models are far below
LAYERS = {"encoder": ("attention", "mlp"), "decoder": ("attention", "cross", "mlp")}
BLOCKS = {"attention": "SelfAttention", "cross": "EncDecAttention", "mlp": "DenseReluDense"}
HEAD = "lm_head.weight"
KERNELS = {"query": "q", "key": "k", "value": "v", "out": "o"}


class Checkpoint:
    """The tensors of one directory, by name; a tensor is read when it is requested."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path, self.handles = path, {}
        if not (path / "config.json").is_file():
            raise self.refusal("holds no config.json: a Hugging Face or T5X checkpoint of a T5 was expected")
        self.metadata = self._json("config.json")

    def refusal(self, why: str) -> UserError:
        """The error for a directory that cannot be used; `why` continues the sentence."""
        return UserError(f"{self._place} {why}.")

    @property
    def _place(self) -> str:
        return f"backbone.name: {str(self.path)!r}"

    def __contains__(self, name: str) -> bool:
        return name in self.files

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, without its values."""
        return self._handle(self.files[name]).shape(name)

    def read(self, name: str, index: Index = ()) -> np.ndarray:
        """The elements of a tensor at `index`, as they are stored.

        Raises:
          UserError: its type is none of `weight_files.FLOATS`, or the file is damaged.
        """
        handle, floats = self._handle(self.files[name]), weight_files.FLOATS
        with foreign.calling(f"{self._place} stores {name} in a form that cannot be read", "copy the file again"):
            tensor = handle.read(name, index)
        if tensor.dtype.name not in floats:
            raise self.refusal(f"stores {name} as {tensor.dtype}, but only {', '.join(floats)} can be read")
        return tensor

    def name(self, leaf: str) -> str:
        """The name of a leaf's tensor, as `tensor_name`; of the embeddings the name that the weights have."""
        if leaf == "embedding":
            return self._embedding
        return tensor_name(leaf, self.feed_forward == "gated-gelu")

    def transposed(self, leaf: str) -> bool:
        """Whether the leaf is stored transposed, as `is_transposed`."""
        return is_transposed(leaf)

    def sizes(self) -> dict[str, Any]:
        """The fields of `T5Config` that config.json determines; `tied` depends on the weights too.

        Raises:
          UserError: a field is missing, or `t5.model.T5` does not support the model.
        """
        kind = self.metadata.get("model_type")
        if not isinstance(kind, str) or kind not in FEED_FORWARD:
            why = ", and umt5 has relative positions in every layer" if kind == "umt5" else ""
            raise self.refusal(f"has model_type {kind!r} in its config.json, but only t5 and mt5 are supported{why}")
        if self.feed_forward not in FEED_FORWARD.values():
            raise self.refusal(f"has feed_forward_proj {self.feed_forward!r}, not relu or gated-gelu")
        for token, expected in SPECIAL_TOKENS.items():
            if self.metadata.get(token) not in (None, expected):
                raise self.refusal(f"has {token} {self.metadata[token]}, but only T5's {expected} is supported")
        if self.metadata.get("quantization_config") is not None:
            raise self.refusal(
                "has a quantization_config in its config.json, but only weights that are not quantised can be read: "
                "give the model that it was made from, and set backbone.weights=int8 for less memory"
            )
        self._number("dropout_rate", 0.1, 0, 1)  # checked only: backbone.dropout is what counts
        written_tied = self.switch("tie_word_embeddings", True)
        sizes = {ours: self._size(theirs) for ours, theirs in SIZES.items()}
        self._check_positions(sizes["relative_buckets"], sizes["relative_max_distance"])
        return {
            **sizes,
            "layer_norm_epsilon": self._number("layer_norm_epsilon", 1e-6, SMALLEST, 1),
            "feed_forward": self.feed_forward,
            "tied": self._is_tied(written_tied),
            "scale_decoder_outputs": self.switch("scale_decoder_outputs", written_tied and kind == "t5"),
        }

    def switch(self, field: str, default: bool) -> bool:
        """A true or false of config.json; `default` where it has none. Raises UserError for other values."""
        value = self.metadata.get(field)
        if value is not None and not isinstance(value, bool):
            raise self.refusal(f"has {field} {shortened(value)} in its config.json, but true or false was expected")
        return default if value is None else value

    def _number(self, field: str, default: float, least: float, most: float) -> float:
        value = default if self.metadata.get(field) is None else self.metadata[field]
        # NaN, which Python's JSON has, is in no range.
        if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
            expected = f"a number from {least:g} to {most:g} was expected"
            raise self.refusal(f"has {field} {shortened(value)} in its config.json, but {expected}")
        return float(value)

    def _check_positions(self, buckets: int, max_distance: int) -> None:
        """Raises UserError where T5's logarithmic buckets of distances are none."""
        if buckets < 4 or max_distance <= buckets // 2:
            raise self.refusal(
                f"has relative_attention_num_buckets {buckets} and relative_attention_max_distance {max_distance} in "
                "its config.json, but at least 4 buckets and a distance beyond half their number were expected"
            )

    @property
    def feed_forward(self) -> str:
        """The value of config.json, not checked; the model type's default where it has none."""
        return self.metadata.get("feed_forward_proj", FEED_FORWARD[self.metadata["model_type"]])

    def _size(self, field: str) -> int:
        default = self.metadata.get("num_layers") if field == "num_decoder_layers" else DEFAULTS.get(field)
        size = default if self.metadata.get(field) is None else self.metadata[field]
        if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= LARGEST:
            expected = f"a whole number from 1 to {LARGEST:,} was expected"
            raise self.refusal(f"has {field} {shortened(size)} in its config.json, but {expected}")
        return size

    def _is_tied(self, written_tied: bool) -> bool:
        """Whether the head equals the embeddings, if the weights have both; else what config.json says.

        transformers 5 always writes that they are tied, even for older weights that are not.
        """
        if weight_files.choose(self.path) is None or self._embedding not in self:
            return written_tied
        if HEAD in self:
            return self._are_equal(HEAD, self._embedding)
        if not written_tied:
            raise self.refusal(
                f'has "tie_word_embeddings": false in its config.json, but no {HEAD} in its weights: if it was trained '
                'with one matrix for embeddings and head, write "tie_word_embeddings": true there, and '
                '"scale_decoder_outputs": true for a T5 v1.0, false for later ones'
            )
        return True

    @functools.cached_property
    def _embedding(self) -> str:
        """The name of the embeddings; some writers keep one of the copies that T5's two stacks have."""
        names = [EMBEDDINGS[0]] if EMBEDDINGS[0] in self else [name for name in EMBEDDINGS if name in self]
        if len(names) == 2 and not self._are_equal(*names):
            raise self.refusal(f"has no {EMBEDDINGS[0]}, and its {' and '.join(names)} differ: a T5 has one matrix")
        return names[0] if names else EMBEDDINGS[0]

    def _are_equal(self, one: str, other: str) -> bool:
        """Whether two matrices are equal; two that are not mostly differ in the first rows, and no others are read."""
        shape = self.shape(one)
        if shape != self.shape(other) or len(shape) != 2:
            return False
        rows = (some for some, _ in blocks(slice(0, shape[0]), 1024))
        return all(np.array_equal(self.read(one, (some,)), self.read(other, (some,))) for some in rows)

    @functools.cached_property
    def files(self) -> dict[str, str]:
        """The file of each tensor."""
        name = weight_files.choose(self.path)
        if name is None:
            expected = f"{', '.join(weight_files.FORMATS)}, or the index of one of them,"
            raise self.refusal(f"holds no weights: {expected} was expected")
        if (self.path / name).is_file():
            return dict.fromkeys(self._handle(name).names, name)
        return self._shards(weight_files.index(name))

    def _shards(self, index: str) -> dict[str, str]:
        content = self._json(index)
        with foreign.calling(f"{self._place} holds a {index} that cannot be used", "copy it again"):
            files = weight_files.weight_map(content)
        for file in sorted(set(files.values())):
            if pathlib.PureWindowsPath(file).name != file:  # treats / and \ as separators
                raise self.refusal(f"has an index that points outside the directory, to {file!r}")
            if pathlib.PurePath(file).suffix not in weight_files.READERS:
                raise self.refusal(f"has an index that names {file!r}, which is not a file of weights")
            if not os.path.isfile(self.path / file):  # or what cannot be a file's name
                raise self.refusal(f"lacks the file {file!r} that its index names")
        names = {file: self._handle(file).names for file in sorted(set(files.values()))}
        everything = {tensor: file for file, tensors in names.items() for tensor in tensors}
        return everything | {tensor: file for tensor, file in files.items() if tensor in names[file]}

    def _json(self, name: str) -> dict[str, Any]:
        with foreign.calling(f"{self._place} holds a {name} that cannot be read", "copy it again"):
            return foreign.table(self.path / name)

    def _handle(self, file: str) -> weight_files.Reader:
        if file not in self.handles:
            with foreign.calling(f"{self._place} holds a {file} that is truncated or damaged", "copy it again"):
                if weight_files.is_pointer(self.path / file):
                    raise self.refusal(f"holds a pointer of Git LFS in place of {file}: run `git lfs pull` in it")
                try:
                    self.handles[file] = weight_files.READERS[pathlib.PurePath(file).suffix](self.path / file)
                except TorchPickleError as error:
                    raise self.refusal(f"holds a {file} that {str(error).rstrip('.')}") from error
        return self.handles[file]


def tensor_name(leaf: str, gated: bool) -> str:
    """The torch name of a leaf's tensor; `{}` stands for the layer."""
    match leaf.split("/"):
        case ["embedding"]:
            return EMBEDDINGS[0]
        case ["head"]:
            return HEAD
        case [stack, "relative_bias", _]:
            return f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        case [stack, "norm", _]:
            return f"{stack}.final_layer_norm.weight"
        case [stack, _, norm, "scale"]:
            return f"{stack}.block.{{}}.layer.{LAYERS[stack].index(norm.removesuffix('_norm'))}.layer_norm.weight"
        case [stack, _, block, kernel]:
            kernel = "wi" if kernel == "wi_0" and not gated else KERNELS.get(kernel, kernel)
            return f"{stack}.block.{{}}.layer.{LAYERS[stack].index(block)}.{BLOCKS[block]}.{kernel}.weight"
    raise KeyError(leaf)


def is_transposed(leaf: str) -> bool:
    """Whether the leaf is stored transposed: torch has the kernels of linear layers as [out, in]."""
    return "/layers/" in leaf and not leaf.endswith("/scale")


def config_json(config: T5Config, dtype: str) -> dict[str, Any]:
    """The config.json of a T5 that `write` writes, for all versions of transformers."""
    return {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "is_encoder_decoder": True,
        **SPECIAL_TOKENS,
        **{theirs: getattr(config, ours) for ours, theirs in SIZES.items()},
        "layer_norm_epsilon": config.layer_norm_epsilon,
        "feed_forward_proj": config.feed_forward,
        "tie_word_embeddings": config.scale_decoder_outputs,
        "scale_decoder_outputs": config.scale_decoder_outputs,
        "takes_eos": config.takes_eos,
        "torch_dtype": dtype,
    }


def write(path: pathlib.Path, config: T5Config, leaves: Iterable[tuple[str, np.ndarray]]) -> None:
    """Writes config.json and model.safetensors into a directory."""
    from safetensors.numpy import save_file

    tensors: dict[str, np.ndarray] = {}
    for leaf, array in leaves:
        name = tensor_name(leaf, config.feed_forward == "gated-gelu")
        for layer, part in enumerate(np.asarray(array) if "{}" in name else [np.asarray(array)]):
            tensors[name.format(layer)] = np.ascontiguousarray(part.T if is_transposed(leaf) else part)
    # Before version 5, tied means scaled too: a head that is tied but not scaled is written as an untied one.
    if config.tied and not config.scale_decoder_outputs:
        tensors[HEAD] = tensors[EMBEDDINGS[0]]
    save_file(tensors, path / weight_files.SAFETENSORS, metadata={"format": "pt"})
    text = json.dumps(config_json(config, tensors[EMBEDDINGS[0]].dtype.name), indent=2)
    (path / "config.json").write_text(text)
