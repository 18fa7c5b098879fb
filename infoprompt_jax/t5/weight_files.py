"""The weight files of a Hugging Face directory: their formats, in the order of preference, and the readers.

A format is one file (`model.safetensors`) or an index (`model.safetensors.index.json`) that names the file of every
tensor. A reader opens one file and returns tensors by their torch names. It executes nothing of the file.
"""

from __future__ import annotations

import json
import pathlib
import struct
from collections.abc import Collection, Mapping
from typing import Any, Protocol

import ml_dtypes
import numpy as np

from infoprompt_jax import foreign
from infoprompt_jax.errors import UserError
from infoprompt_jax.t5.flax_msgpack import FlaxMsgpack
from infoprompt_jax.t5.mapped import Index, MappedFile
from infoprompt_jax.t5.torch_pickle import TorchPickle


class Reader(Protocol):
    """The tensors of one file, by name; the elements of a tensor at `index` are read when they are requested."""

    names: frozenset[str]

    def shape(self, name: str) -> tuple[int, ...]: ...

    def read(self, name: str, index: Index = ()) -> np.ndarray: ...


class Safetensors:
    """A safetensors file: the length of a JSON header, the header, and the tensors' bytes."""

    def __init__(self, path: pathlib.Path) -> None:
        import safetensors

        with safetensors.safe_open(foreign.regular(path), framework="np") as checked:  # the header fits the file
            self.names = frozenset(checked.keys())
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            self._entries, self._data = json.loads(file.read(length)), 8 + length
            self._file = MappedFile(file)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, without its values."""
        return tuple(self._entries[name]["shape"])

    def read(self, name: str, index: Index = ()) -> np.ndarray:
        """The elements of the tensor at `index`, mapped. Raises TypeError where NumPy lacks the type."""
        kind, start = self._entries[name]["dtype"], self._entries[name]["data_offsets"][0]
        if kind not in DTYPES:
            raise TypeError(kind)
        return self._file.array(self._data + start, self.shape(name), np.dtype(DTYPES[kind]), index)


DTYPES: dict[str, Any] = {f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "IU" for size in (1, 2, 4, 8)}
DTYPES |= {"F16": "<f2", "BF16": ml_dtypes.bfloat16, "F32": "<f4", "F64": "<f8", "BOOL": "?"}  # of safetensors
SAFETENSORS, PICKLE, MSGPACK = "model.safetensors", "pytorch_model.bin", "flax_model.msgpack"
POINTER = b"version https://git-lfs"
FORMATS = (SAFETENSORS, PICKLE, MSGPACK)  # in the order of preference
FLOATS = ("float16", "bfloat16", "float32", "float64")  # the types that weights may have
MOST_FILES = 10_000  # that an index names; published ones name a few hundred
READERS = {".safetensors": Safetensors, ".bin": TorchPickle, ".msgpack": FlaxMsgpack}


def index(name: str) -> str:
    """The index file of a format."""
    return f"{name}.index.json"


def is_listed(name: str, files: Collection[str]) -> bool:
    """Whether a repository with these files has the format `name`."""
    return name in files or index(name) in files


def is_present(directory: pathlib.Path, name: str) -> bool:
    """Whether the directory has the format, even if some of its files are missing."""
    return any((directory / file).is_file() for file in (name, index(name)))


def is_pointer(file: pathlib.Path) -> bool:
    """Whether the file is a Git LFS pointer: the large file itself was not fetched."""
    with foreign.regular(file).open("rb") as stream:
        return stream.read(len(POINTER)) == POINTER


def weight_map(index: Mapping[str, Any]) -> dict[str, str]:
    """The file of each tensor by an index's content. Raises ValueError where it has none."""
    files = index.get("weight_map")
    if not isinstance(files, dict) or not files or not all(isinstance(file, str) for file in files.values()):
        raise ValueError("it is without a weight_map of file names")
    if (count := len(set(files.values()))) > MOST_FILES:
        raise ValueError(f"it names {count:,} files, but at most {MOST_FILES:,} were expected")
    return files


def is_whole(directory: pathlib.Path, name: str) -> bool:
    """Whether the directory has all files of the format; an interrupted download leaves some out."""
    try:
        with foreign.reading(str(directory)):
            is_one = (directory / name).is_file()
            files = {name} if is_one else {*weight_map(foreign.table(directory / index(name))).values()}
            return not any(is_pointer(directory / file) for file in files)
    except UserError:  # a file is missing
        return False


def choose(directory: pathlib.Path) -> str | None:
    """The format to read: the first that is whole, else the first that is present; None if there are no weights."""
    present = [name for name in FORMATS if is_present(directory, name)]
    return next((name for name in present if is_whole(directory, name)), present[0] if present else None)
