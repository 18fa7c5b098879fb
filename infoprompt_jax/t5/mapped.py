"""A file whose arrays are mapped into memory: where one is indexed, only the pages with these elements are read.

Each array has a mapping of its own, which ends with the array. Pages that were read count as memory of the process only
until then, so that a process can read a file of any size. The file must not change while it is open.
"""

from __future__ import annotations

import math
import mmap
import os
import weakref
from typing import BinaryIO

import numpy as np

Index = tuple[slice | np.ndarray, ...]  # slices, or the coordinates of single elements on all axes; () is everything


class MappedFile:
    """A file of arrays; it stays open as long as this object lives."""

    def __init__(self, file: BinaryIO) -> None:
        self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)

    def array(
        self,
        start: int,
        shape: tuple[int, ...],
        dtype: np.dtype,
        index: Index = (),
        strides: tuple[int, ...] | None = None,
    ) -> np.ndarray:
        """The elements at `index` of the array that begins at byte `start`, read-only; slices are not copied.

        `strides` are in bytes; None = those of a contiguous array. Raises ValueError where the file is too short.
        """
        if 0 in shape:
            return np.empty(shape, dtype)[index]
        if strides is None:
            size = math.prod(shape) * dtype.itemsize
        else:
            size = sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) + dtype.itemsize
        before = start % mmap.ALLOCATIONGRANULARITY
        content = mmap.mmap(self._descriptor, before + size, access=mmap.ACCESS_READ, offset=start - before)
        whole = np.ndarray(shape, dtype, content, before, strides)
        coordinates = [axis for axis in index if isinstance(axis, np.ndarray)]
        if coordinates:
            _request(content, before + np.tensordot(whole.strides, np.stack(coordinates), axes=1))
        part = whole[index]
        return part if part.flags.aligned else part.copy()  # torch.save and safetensors align what they write


def _request(content: mmap.mmap, places: np.ndarray) -> None:
    """Has the pages with these bytes read, all at the same time, and none around them."""
    if hasattr(mmap, "MADV_WILLNEED"):  # not on Windows
        content.madvise(mmap.MADV_RANDOM)
        for page in np.unique(places // mmap.PAGESIZE).tolist():
            content.madvise(mmap.MADV_WILLNEED, page * mmap.PAGESIZE, mmap.PAGESIZE)
