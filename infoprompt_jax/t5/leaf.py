"""A leaf: one array of the T5's state, named by its path (`encoder/layers/mlp/wo`), that is read in slices.

Its values stay in a file until somebody requests a slice, so that no process holds more of a leaf than it needs. The
values that a fingerprint samples are read one by one, at places that depend on nothing but the leaf's shape.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from infoprompt_jax.t5.mapped import Index

Slices = tuple[slice, ...]  # one for each axis, with start and stop


def blocks(part: slice, size: int) -> Iterator[tuple[slice, slice]]:
    """A slice in parts of at most `size`, each with its place in an array of the whole slice."""
    for start in range(part.start, part.stop, size):
        stop = min(start + size, part.stop)
        yield slice(start, stop), slice(start - part.start, stop - part.start)


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One array; layers are its first axis where it is stacked.

    `fill(out, slices)` writes the values of a slice into an array of its shape, cast to its type. It raises UserError
    where a value cannot be read.
    """

    path: str
    shape: tuple[int, ...]
    fill: Callable[[np.ndarray, Slices], None]


@dataclasses.dataclass(frozen=True)
class StoredLeaf(Leaf):
    """A leaf as a checkpoint has it. `read(places)` returns single values, for one array of coordinates an axis."""

    read: Callable[[Index], np.ndarray]

    def sample(self, count: int = 4096) -> np.ndarray:
        """About `count` of its values, at even distances in the order of the whole array."""
        size = int(np.prod(self.shape, dtype=np.int64))
        stride = -(-size // count) | 1  # odd: an even stride could sample the same few columns
        return self.read(np.unravel_index(np.arange(0, size, stride), self.shape))


def of_array(path: str, array: np.ndarray) -> StoredLeaf:
    """A leaf whose values are in memory."""

    def fill(out: np.ndarray, slices: Slices) -> None:
        out[...] = array[slices]

    return StoredLeaf(path, array.shape, fill, array.__getitem__)
