"""The search for the largest batch, and what a step's bounds are, on numbers that are worked out by hand."""

from __future__ import annotations

import pytest

from infoprompt_jax.capacity.bounds import Bounds, bounds
from infoprompt_jax.capacity.chips import Chip
from infoprompt_jax.capacity.collectives import Collective
from infoprompt_jax.capacity.fit import Fit
from infoprompt_jax.capacity.largest import best, ladder, largest

MEMORY = 1000


class Device:
    device_kind = "TPU v5 lite"


def fit(needed: float) -> Fit:
    return Fit(needed <= MEMORY, round(needed), 0, 0, 0, 0, "", 0.0, (), "")


def test_the_ladder_has_four_steps_an_octave() -> None:
    assert ladder(3)[:14] == [3 * size for size in (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24)]


@pytest.mark.parametrize(
    ("first", "each", "expected"), [(300, 60, 10), (0, 1, 896), (990, 7, 1), (100, 450, 2), (1001, 1, 0)]
)
def test_the_largest_batch_is_found_with_few_compilations(first: int, each: int, expected: int) -> None:
    """Memory is first + each * (batch / 2), and batches are multiples of 2."""
    tried = largest(lambda batch: fit(first + each * batch / 2), MEMORY, step=2)
    assert best(tried) == 2 * expected
    assert len(tried) <= 5


def test_a_bend_in_the_line_is_found() -> None:
    """The compiler gives way near the end of the memory: 12 fits though the line says 10."""
    tried = largest(lambda batch: fit(min(300 + 60 * batch, 990) if batch <= 12 else 1100), MEMORY, step=1)
    assert best(tried) in (10, 12) and all(one.fits == (size <= 12) for size, one in tried.items())


def collective(axis: str, size: int, times: int) -> Collective:
    return Collective("all-gather", f"u8[{size}]", size, times, True, (axis,), 2, "", "main")


def test_the_slowest_part_bounds_a_step() -> None:
    chip = Chip(memory=100.0, links=10.0, network=1.0, source="")
    listed = [collective("fsdp", 40, 3), collective("data", 8, 2)]  # halves are sent
    least = bounds(197e12, 1.5, 500, listed, ("data",), chip, Device())
    assert least == Bounds(model=1.0, compute=1.5, memory=5.0, links=6.0, network=8.0)
    assert (least.limit, least.seconds, least.mfu) == ("network", 8.0, 1 / 8)
    alone = bounds(197e12, 1.5, 500, listed, (), chip, Device())
    assert (alone.limit, alone.links, alone.network) == ("links", 6.8, 0.0)
