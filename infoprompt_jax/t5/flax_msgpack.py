"""Weights saved by transformers' Flax models (`flax_model.msgpack`), by their torch names.

Flax stores kernels as [in, out] where torch has [out, in], and names kernels and embeddings differently. msgpack cannot
be mapped, so that the whole file is read: this takes more than twice its size of host memory.
"""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from infoprompt_jax import foreign
from infoprompt_jax.t5.mapped import Index

KINDS = {"kernel": "weight", "embedding": "weight"}


class FlaxMsgpack:
    """The tensors of one file.

    Raises:
      ValueError: the file is not msgpack, or holds anything but nested tables of arrays.
    """

    def __init__(self, path: pathlib.Path) -> None:
        from flax import serialization, traverse_util

        tree: Any = serialization.msgpack_restore(foreign.regular(path).read_bytes())
        if not isinstance(tree, dict):
            raise ValueError(f"it holds a {type(tree).__name__} where a table of arrays was expected")
        flat = traverse_util.flatten_dict(tree.get("params", tree))
        self.tensors = dict(_named(path, value) for path, value in flat.items())
        self.names = frozenset(self.tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape in torch's layout; KeyError where there is none of that name."""
        return self.tensors[name].shape

    def read(self, name: str, index: Index = ()) -> np.ndarray:
        """The elements of a tensor in torch's layout at `index`; KeyError where there is none of that name."""
        return self.tensors[name][index]


def _named(path: tuple[Any, ...], value: Any) -> tuple[str, np.ndarray]:
    *module, kind = map(str, path)
    if not isinstance(value, np.ndarray):
        place = "/".join([*module, kind])
        raise ValueError(f"it holds a {type(value).__name__} at {place!r} where an array was expected")
    return ".".join([*module, KINDS.get(kind, kind)]), value.T if kind == "kernel" else value
