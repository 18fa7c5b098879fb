"""A few rows at a time: what a CPU makes of them stays in its cache, so memory no longer limits softmax and copies.

A fleet's members take turns for the same reason. It is for forward passes alone: a backward pass would have to keep
what each block made, which costs more than it saves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from infoprompt_jax.t5.partition import Layout

POSITIONS = 512  # of a block: enough for fast products, few enough for a core's cache


def by_rows(function: Callable[..., Any], layout: Layout, first_BSD: jax.Array, *others: jax.Array | None) -> Any:
    """What `function` returns of arrays whose first axis is B, and of None; on a CPU, of a few rows at a time.

    The rows must not depend on each other. A mesh of several devices splits the rows instead.
    """
    batch, length, _ = first_BSD.shape
    rows = _rows(batch, POSITIONS // length)
    if not layout.one_cpu or rows == batch:
        return function(first_BSD, *others)
    split = jax.tree.map(lambda x: x.reshape(batch // rows, rows, *x.shape[1:]), (first_BSD, *others))
    made = jax.lax.map(lambda arrays: function(*arrays), split)
    return jax.tree.map(lambda x: x.reshape(batch, *x.shape[2:]), made)


def members(count: int, positions: int, most: int) -> int:
    """How many of `count` members with `positions` each to take together: what fills a block, at most `most`."""
    return _divisor(count, min(POSITIONS // max(positions, 1), most))


def _rows(batch: int, most: int) -> int:
    """The most rows up to `most` that divide the batch evenly; all, if that is a quarter of `most` or less."""
    rows = _divisor(batch, most)
    return batch if rows * 4 <= most else rows


def _divisor(number: int, most: int) -> int:
    """The largest divisor of `number` up to `most`, which may be below 1."""
    return max(each for each in range(1, min(max(most, 1), number) + 1) if number % each == 0)
