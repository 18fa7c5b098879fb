"""The leaves of int8 weights, made from a checkpoint's leaf while a slice of them is read.

A scale needs the whole of its channel, also where the mesh splits the channel. It is computed once, in blocks of
channels, and kept: the weights are the same on every mesh. `int8` has the arithmetic.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any

import numpy as np

from infoprompt_jax.t5 import int8
from infoprompt_jax.t5.leaf import Leaf, Slices, blocks

BLOCK = 2**21  # floats that are quantised at a time


def parts(leaf: Leaf, paths: Container[str]) -> list[Leaf]:
    """What a model with leaves at `paths` holds of a checkpoint's leaf: the leaf, or int8 values and their scale."""
    if leaf.path in paths:
        return [leaf]
    kernel = QuantizedLeaf(leaf)
    values = Leaf(f"{leaf.path}/values", leaf.shape, kernel.fill_values)
    return [values, Leaf(f"{leaf.path}/scale", kernel.scales.shape, kernel.fill_scale)]


class QuantizedLeaf:
    """A leaf [N, I, O], or a table [V, D], that is quantised; each channel is an O, or a V."""

    def __init__(self, leaf: Leaf) -> None:
        table = leaf.path in int8.TABLES
        self.leaf, self.axis = leaf, -1 if table else -2  # the axis that a product sums over
        self.channels = 0 if table else len(leaf.shape) - 1
        self.summed = len(leaf.shape) + self.axis
        self.scales = np.full(self._without_summed(leaf.shape), np.nan, np.float32)  # NaN: not known yet

    def fill_values(self, out: np.ndarray, slices: Slices) -> None:
        """Writes int8 values."""
        self._know_scales(slices)
        for block, place in self._blocks(slices):
            out[place] = int8.rounded(self._floats(block), self.scales[self._without_summed(block)], self.axis)

    def fill_scale(self, out: np.ndarray, slices: Slices) -> None:
        """Writes scales; `slices` have no part for the summed axis."""
        everything = slice(0, self.leaf.shape[self.summed])
        self._know_scales((*slices[: self.summed], everything, *slices[self.summed :]))
        out[...] = self.scales[slices]

    def _know_scales(self, slices: Slices) -> None:
        whole = list(slices)
        whole[self.summed] = slice(0, self.leaf.shape[self.summed])
        for block, _ in self._blocks(tuple(whole)):
            here = self._without_summed(block)
            if np.isnan(self.scales[here]).any():
                self.scales[here] = int8.scales(self._floats(block), self.axis)

    def _blocks(self, slices: Slices) -> Iterator[tuple[Slices, tuple[Any, ...]]]:
        """The slices in parts of some channels each, and the place of each part in an array of the slices' shape."""
        before, channels, after = slices[: self.channels], slices[self.channels], slices[self.channels + 1 :]
        of_a_channel = np.prod([part.stop - part.start for part in (*before, *after)], dtype=np.int64)
        for some, place in blocks(channels, max(int(BLOCK // of_a_channel), 1)):
            yield (*before, some, *after), (..., place, *(slice(None) for _ in after))

    def _floats(self, block: Slices) -> np.ndarray:
        values = np.empty([part.stop - part.start for part in block], np.float32)
        self.leaf.fill(values, block)
        return values

    def _without_summed(self, axes: tuple) -> tuple:
        return (*axes[: self.summed], *axes[self.summed + 1 :])
