"""T5X checkpoints: a msgpack file named `checkpoint`, and a zarr directory for every array too large for it.

Parameters are named by their path under `optimizer/target`, joined by dots (`encoder.layers_0.mlp.wo.kernel`). A
checkpoint has no configuration: sizes are read off the shapes, and the rest has T5's usual values (relative distances
up to 128, epsilon 1e-6). A model with scanned layers has one array for all layers of a stack
(`encoder.encoder.mlp.wo.kernel`, or `encoder.layers...`), with the layers on axis 1; it is read as if each had its own.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import pathlib
import re
from typing import Any

import numpy as np

from infoprompt_jax import foreign
from infoprompt_jax.errors import UserError
from infoprompt_jax.t5.mapped import Index
from infoprompt_jax.t5.weight_files import FLOATS

BLOCKS = {
    ("encoder", "attention"): ("pre_attention_layer_norm", "attention"),
    ("encoder", "mlp"): ("pre_mlp_layer_norm", "mlp"),
    ("decoder", "attention"): ("pre_self_attention_layer_norm", "self_attention"),
    ("decoder", "cross"): ("pre_cross_attention_layer_norm", "encoder_decoder_attention"),
    ("decoder", "mlp"): ("pre_mlp_layer_norm", "mlp"),
}
SCANNED = re.compile(r"(?P<stack>encoder|decoder)\.(?:(?P=stack)|layers)\.(?P<name>.*)")
DENSEST = 1100  # times the bytes of a zarr array's files: gzip, which T5X uses, compresses no further
SMALL = 2**20  # bytes of an array that may be denser
WHOLE = "copy the checkpoint whole"  # the remedy
BIASES = ("relpos_bias.rel_embedding", "relative_posemb.rel_embedding")


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer of a parameter that has all of them on axis 1, and its own shape."""

    parameter: str
    index: int
    shape: tuple[int, ...]


def find(path: pathlib.Path, field: str = "backbone.name") -> pathlib.Path | None:
    """The checkpoint's directory: `path` itself or its only child `checkpoint_<step>`; None if there is none.

    Raises:
      UserError: there are several steps, or the directory cannot be read.
    """
    with foreign.reading(f"{field}: {str(path)!r}"):
        if (path / "checkpoint").is_file():
            return path
        steps = sorted(file.parent for file in path.glob("checkpoint_*/checkpoint"))
    if len(steps) > 1:
        names = ", ".join(step.name for step in steps)
        raise UserError(f"{field}: {str(path)!r} holds several T5X checkpoints, so name one of them: {names}.")
    return steps[0] if steps else None


class Checkpoint:
    """The parameters of one T5X checkpoint, by name; an array is read when it is requested.

    Raises:
      UserError: naming `field`; the file is damaged or is not the checkpoint of a model.
    """

    def __init__(self, path: pathlib.Path, field: str = "backbone.name") -> None:
        from flax import serialization

        self.path, self.field, self.metadata = path, field, {}
        self._kept: tuple[str, dict[str, np.ndarray]] = "", {}
        no_model = "holds no parameters under optimizer/target, as it is damaged or not a model's"
        with foreign.calling(f"{_place(path, field)} {no_model}", WHOLE):
            tree: Any = serialization.msgpack_restore(foreign.regular(path / "checkpoint").read_bytes())
            self.parameters = _flat(tree["optimizer"]["target"])

    def refusal(self, why: str) -> UserError:
        """The error for a checkpoint that cannot be used; `why` continues the sentence."""
        return _refusal(self.path, self.field, why)

    def __contains__(self, name: str) -> bool:
        return name in self.parameters or name in self._layers

    def shape(self, name: str) -> tuple[int, ...]:
        """A parameter's shape with H and K merged into one axis; the values of zarr arrays are not read."""
        if layer := self._layers.get(name):
            return _merged_heads(name, layer.shape)
        return _merged_heads(name, self._stored_shape(name))

    def read(self, name: str, index: Index = ()) -> np.ndarray:
        """The elements at `index` of a parameter with H and K merged into one axis.

        The arrays of one leaf are kept until another leaf is read: a zarr array consists of compressed chunks, and each
        would be read again for every slice. Raises UserError where a zarr array is damaged, or holds no floats.
        """
        leaf = re.sub(r"layers_\d+", "", name)
        if self._kept[0] != leaf:
            self._kept = leaf, {}
        arrays = self._kept[1]
        if name not in arrays:
            arrays[name] = self._layer(layer) if (layer := self._layers.get(name)) else self._stored(name)
        return arrays[name].reshape(_merged_heads(name, arrays[name].shape))[index]

    def _layer(self, layer: Layer) -> np.ndarray:
        """One layer of a parameter that has all of them."""
        arrays = self._kept[1]
        if layer.parameter not in arrays:
            arrays[layer.parameter] = self._stored(layer.parameter)
        return arrays[layer.parameter][:, layer.index]

    @functools.cached_property
    def _layers(self) -> dict[str, Layer]:
        """The parameters of single layers, by the names that they have in an unscanned model; none if this is one."""
        layers = {}
        for parameter in self.parameters:
            if (match := SCANNED.fullmatch(parameter)) is None:
                continue
            stack, name, shape = match["stack"], match["name"], self._stored_shape(parameter)
            if len(shape) < 2:
                raise self.refusal(f"has a {parameter} of shape {list(shape)}, which has no axis of layers")
            for i in range(shape[1]):
                own = f"{stack}.{BIASES[0]}" if name in BIASES else f"{stack}.layers_{i}.{name}"
                layers[own] = Layer(parameter, i, (shape[0], *shape[2:]))
        return layers

    def _stored_shape(self, parameter: str) -> tuple[int, ...]:
        stored = self.parameters[parameter]
        if isinstance(stored, dict):
            return tuple(_open_zarr(self._directory(parameter, stored), self.field).shape)
        return stored.shape

    def _stored(self, parameter: str) -> np.ndarray:
        stored = self.parameters[parameter]
        if isinstance(stored, dict):
            stored = read_zarr(self._directory(parameter, stored), self.field)
        if stored.dtype.name not in FLOATS:
            raise self.refusal(f"stores {parameter} as {stored.dtype}, but only {', '.join(FLOATS)} can be read")
        return stored

    def _directory(self, parameter: str, spec: dict) -> pathlib.Path:
        """The directory of an array. Only the last part of its stored path counts, so that nothing outside is read."""
        with foreign.calling(f"{_place(self.path, self.field)} does not describe where {parameter} is", WHOLE):
            if (name := pathlib.PurePosixPath(spec.get("base", spec)["kvstore"]["path"]).name) in ("", ".."):
                raise ValueError("its path has no name")
            return self.path / name

    def name(self, leaf: str) -> str:
        """The name of a leaf's parameter; `{}` stands for the layer."""
        match leaf.split("/"):
            case ["embedding"]:
                return "token_embedder.embedding"
            case ["head"]:
                return "decoder.logits_dense.kernel"
            case [stack, "relative_bias", _]:
                return f"{stack}.relpos_bias.rel_embedding"
            case [stack, "norm", _]:
                return f"{stack}.{stack}_norm.scale"
            case [stack, _, norm, "scale"]:
                return f"{stack}.layers_{{}}.{BLOCKS[stack, norm.removesuffix('_norm')][0]}.scale"
            case [stack, _, block, kernel]:
                kernel = "wi" if kernel == "wi_0" and not self.gated else kernel
                return f"{stack}.layers_{{}}.{BLOCKS[stack, block][1]}.{kernel}.kernel"
        raise KeyError(leaf)

    def transposed(self, leaf: str) -> bool:
        """Whether the leaf is stored transposed: the head is [D, V] there, position biases are [H, buckets]."""
        return leaf == "head" or leaf.endswith("relative_bias/embedding")

    @property
    def gated(self) -> bool:
        """Whether the feed-forward layers have two input kernels, as T5 v1.1 does."""
        return "encoder.layers_0.mlp.wi_0.kernel" in self

    def sizes(self) -> dict[str, Any]:
        """The fields of `T5Config` that the shapes determine.

        Raises:
          UserError: the checkpoint is not a T5's.
        """
        self._check_biases()
        vocab_size, d_model = self._matrix("token_embedder.embedding")
        heads, buckets = self._matrix("encoder.relpos_bias.rel_embedding")
        tied = "decoder.logits_dense.kernel" not in self
        return {
            "vocab_size": vocab_size,
            "d_model": d_model,
            "d_kv": self._matrix("encoder.layers_0.attention.query.kernel")[1] // heads,
            "d_ff": self._matrix("encoder.layers_0.mlp.wo.kernel")[0],
            "num_layers": self._depth("encoder"),
            "num_decoder_layers": self._depth("decoder"),
            "num_heads": heads,
            "relative_buckets": buckets,
            "feed_forward": "gated-gelu" if self.gated else "relu",
            "tied": tied,
            "scale_decoder_outputs": tied,
        }

    def _check_biases(self) -> None:
        """Raises UserError where scanned layers have relative positions of their own: T5 has one set for a stack."""
        for parameter in {layer.parameter for name, layer in self._layers.items() if name.endswith(BIASES[0])}:
            biases = self._stored(parameter)
            if biases.ndim != 3 or not (biases == biases[:, :1]).all():
                why = "has relative positions for each layer, as umT5, but a T5's layers share them"
                raise self.refusal(f"{why} ({parameter})")

    def _matrix(self, name: str) -> tuple[int, int]:
        if name not in self or len(self.shape(name)) != 2:
            raise self.refusal(f"has no matrix {name}, so it is not a T5")
        rows, columns = self.shape(name)
        return rows, columns

    def _depth(self, stack: str) -> int:
        names = [*self.parameters, *self._layers]
        return len({match[0] for name in names if (match := re.match(rf"{stack}\.layers_\d+\.", name))})


def read_zarr(directory: pathlib.Path, field: str) -> np.ndarray:
    """The array in a zarr directory.

    Raises:
      UserError: naming `field`; the array is damaged or was not copied completely.
    """
    array = _open_zarr(directory, field)
    with foreign.calling(f"{_place(directory, field)} is damaged", WHOLE):
        return array.read().result()


def _open_zarr(directory: pathlib.Path, field: str) -> Any:
    """Opens an array and checks that no chunk is missing: a missing one would be read as zeros."""
    import tensorstore

    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(directory.absolute())}}
    with foreign.calling(f"{_place(directory, field)} lacks a readable .zarray file", WHOLE):
        foreign.regular(directory / ".zarray")
        array: Any = tensorstore.open(spec | {"fill_missing_data_reads": False}, read=True).result()
        chunk = array.chunk_layout.read_chunk.shape or ()
        expected = math.prod(math.ceil(size / part) for size, part in zip(array.shape, chunk, strict=True))
        chunks = [foreign.regular(file).stat().st_size for file in directory.iterdir() if file.name[:1] != "."]
        claimed = math.prod(array.shape) * array.dtype.numpy_dtype.itemsize
        if claimed > max(SMALL, DENSEST * sum(chunks)):
            raise ValueError(f"it claims {claimed:,} bytes, which the {sum(chunks):,} bytes of its chunks cannot hold")
    if len(chunks) < expected:
        raise _refusal(directory, field, f"holds only {len(chunks)} of {expected} chunks: {WHOLE}")
    return array


def _place(path: pathlib.Path, field: str) -> str:
    return f"{field}: the T5X checkpoint {str(path)!r}"


def _refusal(path: pathlib.Path, field: str, why: str) -> UserError:
    return UserError(f"{_place(path, field)} {why}.")


def _flat(tree: dict, prefix: str = "") -> dict[str, np.ndarray | dict]:
    """Arrays and TensorStore specs of arrays, by their dotted names."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict) and "driver" not in value:
            flat |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, (dict, np.ndarray)):
            flat[f"{prefix}{key}"] = value
    return flat


def _merged_heads(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """[D, H, K] and [H, K, D] kernels as [D, H*K] and [H*K, D]."""
    if len(shape) != 3 or not name.endswith(".kernel"):
        return tuple(shape)
    first, second, third = shape
    return (first * second, third) if name.endswith(".out.kernel") else (first, second * third)
