"""Converts checkpoints of Hugging Face and T5X to the leaves of `t5.model.T5`, and leaves to a Hugging Face directory.

A leaf is one array of the T5's state, stacked over layers (`leaf`). All names and shapes are checked before the first
leaf is read. A slice of a leaf is read layer by layer, from the parts of the files that hold it. `hugging_face` and
`t5x` read the files: they return slices of the tensors of each leaf, and whether these are stored transposed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from infoprompt_jax import foreign
from infoprompt_jax.errors import UserError
from infoprompt_jax.files import whole
from infoprompt_jax.t5 import hugging_face, t5x
from infoprompt_jax.t5.config import T5Config
from infoprompt_jax.t5.leaf import Slices, StoredLeaf, blocks
from infoprompt_jax.t5.mapped import Index
from infoprompt_jax.t5.model import T5

log = logging.getLogger(__name__)

T0 = re.compile(r"(?<![a-z0-9])t0(p|pp)?(?![a-z0-9])", re.IGNORECASE)
MAPPED, SAMPLED = 2048, 512  # rows of a tensor that are mapped at a time; single values, with the pages around them
ROWS, CACHED = 16, 2**15  # rows that are cast at a time, or values if rows are short: the processor's cache holds them
USUAL = {"layer_norm_epsilon": 1e-6, "takes_eos": True}  # T5's; a fingerprint names what differs
Checkpoint = hugging_face.Checkpoint | t5x.Checkpoint


def leaf_shapes(config: T5Config) -> dict[str, tuple[int, ...]]:
    """The shape of every leaf of a T5 of these sizes, by path, as checkpoints have them: not quantised."""
    full = dataclasses.replace(config, weights="full")
    state = nnx.state(nnx.eval_shape(lambda: T5(full, nnx.Rngs(0))))
    return {"/".join(map(str, path)): variable.shape for path, variable in nnx.to_flat_state(state)}


def open_checkpoint(path: pathlib.Path) -> Checkpoint:
    """The checkpoint in a directory; passed to `read_config` and `read_leaves`, its files are parsed once.

    Raises:
      UserError: the directory has none.
    """
    step = t5x.find(path)
    with _reading(path):
        return t5x.Checkpoint(step) if step else hugging_face.Checkpoint(path)


def read_config(path: pathlib.Path, takes_eos: str = "auto", checkpoint: Checkpoint | None = None) -> T5Config:
    """Sizes and switches of the checkpoint in a directory of Hugging Face or T5X.

    Args:
      path: the directory.
      checkpoint: of the directory, if it is open.
      takes_eos: "yes", "no", or "auto": by the evidence in the directory (`_takes_eos`), which is logged.

    Raises:
      UserError: the directory has no checkpoint of a T5 that `t5.model.T5` can compute.
    """
    if takes_eos not in ("auto", "yes", "no"):
        raise UserError(f"backbone.takes_eos={takes_eos!r} is not one of auto, yes, no.")
    checkpoint = checkpoint or open_checkpoint(path)
    with _reading(path):
        sizes = checkpoint.sizes()
        ends = _takes_eos(path, checkpoint) if takes_eos == "auto" else takes_eos == "yes"
    return T5Config(**sizes, takes_eos=ends)


def read_leaves(path: pathlib.Path, config: T5Config, checkpoint: Checkpoint | None = None) -> list[StoredLeaf]:
    """All leaves of the checkpoint in a directory, to be read in slices; `checkpoint` as in `read_config`.

    To read a leaf raises UserError where a tensor cannot be read, or holds NaN or infinity.

    Raises:
      UserError: a tensor is missing or has a wrong shape.
    """
    checkpoint, shapes = checkpoint or open_checkpoint(path), leaf_shapes(config)
    with _reading(path):
        for leaf, shape in shapes.items():
            _check(checkpoint, leaf, shape)
    return [StoredLeaf(leaf, shape, *_readers(checkpoint, leaf)) for leaf, shape in shapes.items()]


def _reading(path: pathlib.Path) -> contextlib.AbstractContextManager[None]:
    return foreign.reading(f"backbone.name: {str(path)!r}", "give the whole directory of a T5")


class Fingerprint:
    """A hash that identifies a backbone, the same for all dtypes, meshes and file formats of its weights.

    It is over the sizes, the switches that change what the weights compute or are given, and a sample of every leaf,
    rounded to bfloat16. Leaves may be added in any order.
    """

    def __init__(self, config: T5Config) -> None:
        sizes = (config.num_heads, config.relative_max_distance, config.feed_forward, config.scale_decoder_outputs)
        unusual = tuple((name, value) for name, usual in USUAL.items() if (value := getattr(config, name)) != usual)
        self.digests = {"": hashlib.sha256(repr(sizes + unusual).encode()).digest()}

    def add(self, leaf: StoredLeaf) -> None:
        """Adds a leaf, by its sample."""
        sample = leaf.sample().astype(np.float32).astype(jnp.bfloat16)
        self.digests[leaf.path] = hashlib.sha256(f"{leaf.path} {leaf.shape} ".encode() + sample.tobytes()).digest()

    def hexdigest(self) -> str:
        """The hash of the leaves added so far, 16 hexadecimal digits."""
        return hashlib.sha256(b"".join(self.digests[leaf] for leaf in sorted(self.digests))).hexdigest()[:16]


def export(
    directory: pathlib.Path,
    config: T5Config,
    leaves: Iterable[tuple[str, np.ndarray]],
    tokenizer_files: Iterable[pathlib.Path] = (),
) -> None:
    """Writes a Hugging Face directory that transformers reads as a T5 with the same logits.

    Raises:
      UserError: `directory` exists and is not empty, or the weights are int8.
    """
    if config.weights != "full":
        raise UserError(f"weights={config.weights!r} cannot be exported: load the backbone with weights='full'.")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(f"{str(directory)!r} exists and is not an empty directory: choose another one to export to.")
    with whole(directory) as partial:
        partial.mkdir()
        hugging_face.write(partial, config, leaves)
        for file in tokenizer_files:
            shutil.copyfile(file, partial / file.name)


def is_t5x(path: pathlib.Path) -> bool:
    """Whether the directory has a T5X checkpoint; otherwise it should have one of Hugging Face."""
    return t5x.find(path) is not None


def _takes_eos(path: pathlib.Path, checkpoint: Checkpoint) -> bool:
    """Whether inputs end in </s>: yes for a T5, no for T0 and models trained like it.

    The first evidence decides: what `export` wrote into config.json; a name of T0's kind (T0, T0pp, T0_3B,
    my-t0-base), which may be the directory's, the hub's, or what either settings file records as the model's origin; a
    tokenizer that adds no </s>. One that adds it is no evidence: T0's does, and T0 was trained without.
    """
    metadata = checkpoint.metadata
    if isinstance(checkpoint, hugging_face.Checkpoint) and metadata.get("takes_eos") is not None:
        return checkpoint.switch("takes_eos", True)
    tokenizer = _settings(path / "tokenizer_config.json")
    names = {
        "config.json's _name_or_path": metadata.get("_name_or_path"),
        "tokenizer_config.json's name_or_path": tokenizer.get("name_or_path"),
        "the directory's name": path.absolute().name,
        "the hub id": next((part for part in path.absolute().parts if part.startswith("models--")), None),
    }
    for where, name in names.items():
        if isinstance(name, str) and (word := T0.search(name)):
            return _logged(path, False, f"{where}, {name!r}, names {word[0]}")
    if tokenizer.get("add_eos_token") is False:
        return _logged(path, False, "tokenizer_config.json has add_eos_token false")
    return _logged(path, True, "no name is T0's")


def _settings(file: pathlib.Path) -> dict[str, Any]:
    """The JSON object in a file; empty where there is no file."""
    with foreign.reading(f"backbone.name: {str(file)!r}", "correct or remove it"):
        return foreign.table(file) if os.path.lexists(file) else {}


def _logged(path: pathlib.Path, takes_eos: bool, evidence: str) -> bool:
    ends, other = ("end", "no") if takes_eos else ("do not end", "yes")
    log.info("%s: inputs %s in </s>, because %s; backbone.takes_eos=%s overrides it.", path, ends, evidence, other)
    return takes_eos


def _check(checkpoint: Checkpoint, leaf: str, shape: tuple[int, ...]) -> None:
    name, order = checkpoint.name(leaf), -1 if checkpoint.transposed(leaf) else 1
    layers, shape = (shape[0], shape[1:]) if "{}" in name else (1, shape)
    for layer in range(layers):
        tensor = name.format(layer)
        if tensor not in checkpoint:
            raise checkpoint.refusal(f"lacks the tensor {tensor}")
        if checkpoint.shape(tensor) != shape[::order]:
            shapes = f"of shape {list(checkpoint.shape(tensor))}, but its sizes make it {list(shape[::order])}"
            raise checkpoint.refusal(f"has a tensor {tensor} {shapes}")
    if "{}" in name and name.format(layers) in checkpoint:
        raise checkpoint.refusal(f"has a tensor {name.format(layers)}, but only {layers} layers by its sizes")


def _readers(
    checkpoint: Checkpoint, leaf: str
) -> tuple[Callable[[np.ndarray, Slices], None], Callable[[Index], np.ndarray]]:
    """What fills a slice of a leaf, and what reads single values of it."""
    name, order = checkpoint.name(leaf), -1 if checkpoint.transposed(leaf) else 1

    def copy(tensor: str, out: np.ndarray, slices: Slices) -> None:
        rows, *columns = slices[::order]
        for some, place in blocks(rows, MAPPED):
            stored = checkpoint.read(tensor, (some, *columns))
            if not _copied(stored, (out.T if order < 0 else out)[place]):
                raise checkpoint.refusal(f"holds NaN or infinity in the tensor {tensor}")

    def fill(out: np.ndarray, slices: Slices) -> None:
        if "{}" not in name:
            return copy(name, out, slices)
        for layer, part in zip(range(slices[0].start, slices[0].stop), out, strict=True):
            copy(name.format(layer), part, slices[1:])

    def read(places: Index) -> np.ndarray:
        axes = [np.asarray(axis) for axis in places]
        if "{}" not in name:
            some = (part for part, _ in blocks(slice(0, len(axes[0])), SAMPLED))
            return np.concatenate([checkpoint.read(name, tuple(a[part] for a in axes)[::order]) for part in some])
        layers, *rest = axes
        each = ((layer, layers == layer) for layer in np.unique(layers))
        parts = [checkpoint.read(name.format(n), tuple(axis[here] for axis in rest)[::order]) for n, here in each]
        return np.concatenate(parts)

    return fill, read


def _copied(stored: np.ndarray, out: np.ndarray) -> bool:
    """Casts values into `out`; whether all are finite."""
    for rows, _ in blocks(slice(0, len(stored)), max(ROWS, CACHED // max(stored[:1].size, 1))):
        values = stored[rows].astype(out.dtype)
        if not np.isfinite(values).all():
            return False
        out[rows] = values
    return True
