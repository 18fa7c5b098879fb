"""Slices of a split, written as in TFDS: train[:90%], train[100:200], train[-50:]; and the rows a limit draws."""

from __future__ import annotations

import re

import numpy as np

from infoprompt_jax.errors import UserError
from infoprompt_jax.fields import shortened

SLICE = re.compile(r"(?P<name>[\w.\-]+)(\[(?P<start>-?[0-9]{1,18}%?)?:(?P<stop>-?[0-9]{1,18}%?)?\])?")
DRAW = 0  # the seed of `drawn`


def split_name(split: str) -> str:
    """`train[:90%]` -> `train`."""
    return _slice(split)["name"]


def split_bounds(split: str, rows: int) -> tuple[int, int]:
    """First row and end of a slice of a split of `rows` rows; a percentage is rounded to the nearest row.

    Raises:
      UserError: the slice is malformed, empty or out of range.
    """
    match = _slice(split)
    start, stop = (_position(match[end], rows, default) for end, default in (("start", 0), ("stop", rows)))
    if not 0 <= start < stop <= rows:
        raise UserError(
            f"The split {shortened(split)} selects no rows, or more than the {rows} there are; change its slice."
        )
    return start, stop


def drawn(rows: int, limit: int) -> np.ndarray:
    """Which of `rows` rows are among the `limit` that are read, [rows] bool; limit 0 keeps all.

    The draw is random because files may be sorted. It depends only on the two numbers, so every template of a data
    set is given the same rows.
    """
    return np.random.default_rng(DRAW).permutation(rows) < (limit or rows)


def _slice(split: str) -> re.Match[str]:
    match = SLICE.fullmatch(split)
    if not match:
        raise UserError(f"The split {shortened(split)} is malformed: write train, train[:90%] or train[100:200].")
    return match


def _position(text: str | None, rows: int, default: int) -> int:
    if not text:
        return default
    position = round(int(text[:-1]) * rows / 100) if text.endswith("%") else int(text)
    return position + rows if text.startswith("-") else position
