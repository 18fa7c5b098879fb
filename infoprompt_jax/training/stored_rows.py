"""Rows of numbers in a memory-mapped file, each followed by its checksum.

A row that is not computed yet is NaN. So is one that is not what was written: a flipped byte, or a file that was cut,
costs the time to compute rows again and never changes a result. Space on the disk is reserved when the file is made,
because a map that is written to a full disk ends the process.
"""

from __future__ import annotations

import logging
import os
import pathlib
import zlib

import numpy as np

from infoprompt_jax import files, foreign
from infoprompt_jax.errors import UserError

BLOCK = 4096  # rows that are read at once

log = logging.getLogger(__name__)


class StoredRows:
    """Float32 rows `values` [count, width]; `write` writes some, `lacks` says which are missing."""

    def __init__(self, path: pathlib.Path, count: int, width: int) -> None:
        """Opens the file, or makes it.

        Raises:
          OSError: the disk is full, or the file cannot be read.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = _mapped(path, (count, width + 1))  # a row's last element has the bits of its checksum
        self.values, self._sums = self._file[:, :width], self._file.view(np.uint32)[:, width]
        damaged = sum(self._drop_damaged(slice(start, start + BLOCK)) for start in range(0, count, BLOCK))
        if damaged:
            log.warning("%d of %d rows in %s are damaged: they are computed again.", damaged, count, path)

    def _drop_damaged(self, rows: slice) -> int:
        """Makes those of `rows` missing that are not what was written; how many they are."""
        values = np.array(self.values[rows])
        damaged = (_sums(values) != self._sums[rows]) & ~np.isnan(values).any(axis=1)
        self.values[rows][damaged] = np.nan
        return int(damaged.sum())

    def lacks(self, rows: np.ndarray) -> np.ndarray:
        """Whether each of `rows` is missing, bool [rows]."""
        return np.asarray(np.isnan(self.values[rows]).any(axis=1))

    def write(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Writes `values` [rows, width]; `flush` has them on disk."""
        self.values[rows] = values
        self._sums[rows] = _sums(np.asarray(values, np.float32))

    def flush(self) -> None:
        """Returns when all is on disk."""
        self._file.flush()


def _sums(rows: np.ndarray) -> np.ndarray:
    """The CRC-32 of each row, uint32 [rows]."""
    return np.array([zlib.crc32(row) for row in np.ascontiguousarray(rows)], np.uint32)


def _mapped(path: pathlib.Path, shape: tuple[int, int]) -> np.memmap:
    """A memory-mapped file, NaN where nothing is written yet; a new one appears whole or not at all."""
    if not _is_whole(path, shape):
        with files.whole(path) as partial:
            empty = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float32, shape=shape)
            _reserve(partial)
            empty[:] = np.nan
            empty.flush()
    return np.load(path, mmap_mode="r+")


def _is_whole(path: pathlib.Path, shape: tuple[int, int]) -> bool:
    """Whether the file has the shape and all its bytes: NumPy fills up with zeros what it opens for writing."""
    if not path.exists():
        return False
    try:
        with foreign.reading(str(path), "its rows are computed again"):
            there = np.load(path, mmap_mode="r")
            return there.shape == shape and there.dtype == np.float32
    except UserError as error:
        log.warning("%s", error)
        return False


def _reserve(path: pathlib.Path) -> None:
    """Takes the file's space on the disk. Raises OSError where there is too little."""
    if hasattr(os, "posix_fallocate"):  # not on macOS and Windows
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
