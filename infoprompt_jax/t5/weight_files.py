"""The weight files of a Hugging Face directory: which formats there are, in which order, and what reads each.

A format is one file (`model.safetensors`) or an index beside it (`model.safetensors.index.json`) that names the file
of every tensor. A reader opens one file and gives tensors by the names that torch uses; it executes nothing.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Collection
from typing import Protocol

import numpy as np

from infoprompt_jax.t5.flax_msgpack import FlaxMsgpack
from infoprompt_jax.t5.torch_pickle import TorchPickle


class Reader(Protocol):
    """The tensors of one file, each read when it is asked for by its name."""

    names: frozenset[str]

    def shape(self, name: str) -> tuple[int, ...]: ...

    def read(self, name: str) -> np.ndarray: ...


class Safetensors:
    """A safetensors file."""

    def __init__(self, path: pathlib.Path) -> None:
        import safetensors

        self.file = safetensors.safe_open(path, framework="np")
        self.names = frozenset(self.file.keys())

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.file.get_slice(name).get_shape())

    def read(self, name: str) -> np.ndarray:
        return self.file.get_tensor(name)


SAFETENSORS, PICKLE, MSGPACK = "model.safetensors", "pytorch_model.bin", "flax_model.msgpack"
POINTER = b"version https://git-lfs"
FORMATS = (SAFETENSORS, PICKLE, MSGPACK)  # a checkpoint in several is read in the first
READERS = {".safetensors": Safetensors, ".bin": TorchPickle, ".msgpack": FlaxMsgpack}


def index(name: str) -> str:
    return f"{name}.index.json"


def is_listed(name: str, files: Collection[str]) -> bool:
    """Whether a repository with these files has the format `name`."""
    return name in files or index(name) in files


def is_present(directory: pathlib.Path, name: str) -> bool:
    """Whether the directory has the format, perhaps not all of its files."""
    return any((directory / file).is_file() for file in (name, index(name)))


def is_pointer(file: pathlib.Path) -> bool:
    """Whether the file is what Git leaves of a large file that was not fetched."""
    with file.open("rb") as stream:
        return stream.read(len(POINTER)) == POINTER


def is_whole(directory: pathlib.Path, name: str) -> bool:
    """Whether all files of the format are in the directory: a download may have been broken off."""
    try:
        if (directory / name).is_file():
            files = {name}
        else:
            files = set(json.loads((directory / index(name)).read_text())["weight_map"].values())
        return bool(files) and not any(is_pointer(directory / file) for file in files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):  # no index, or files are absent
        return False


def choose(directory: pathlib.Path) -> str | None:
    """The format to read: the first that is whole, else the first that is present; None where there are no weights."""
    present = [name for name in FORMATS if is_present(directory, name)]
    return next((name for name in present if is_whole(directory, name)), present[0] if present else None)
