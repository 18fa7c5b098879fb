"""The largest batch that fits, found with few compilations.

What a program needs grows nearly in a straight line with the batch, so the line through what was compiled says what to
try next. Sizes are tried from a ladder of four steps an octave, 1 to 8, 10, 12, 14, 16, 20 and so on.
"""

from __future__ import annotations

from collections.abc import Callable

from infoprompt_jax.capacity.fit import Fit

OCTAVES = 16
SURE = 1.05  # a size that the line puts this far beyond the memory is not tried


def ladder(step: int) -> list[int]:
    """The sizes that are tried, multiples of `step`."""
    fractions = {2**octave * quarters // 4 for octave in range(OCTAVES) for quarters in (4, 5, 6, 7)}
    return [step * size for size in sorted(fractions)]


def largest(measure: Callable[[int], Fit], memory: int, step: int) -> dict[int, Fit]:
    """Everything that was tried, by its size; the largest that fits is the answer, and there may be none.

    Args:
      measure: compiles the program for a batch of this size.
      memory: bytes that a device has.
      step: what a batch must be a multiple of.
    """
    sizes, tried = ladder(step), dict[int, Fit]()
    low, high, index = -1, len(sizes), 0  # the largest that fits, the smallest that does not, what to try
    while high - low > 1:
        fit = tried[sizes[index]] = measure(sizes[index])
        low, high = (index, high) if fit.fits else (low, index)
        expected = _line(tried)
        if expected is None:
            index = min(low + 8, high - 1) if fit.fits else (low + high) // 2
            continue
        if low >= 0 and low + 1 < high and expected(sizes[low + 1]) > SURE * memory:
            break
        fitting = [place for place in range(low + 1, high) if expected(sizes[place]) <= memory]
        index = fitting[-1] if fitting else min(low + 1, high - 1)
    return tried


def best(tried: dict[int, Fit]) -> int:
    """The largest size that fits; 0 where none does."""
    return max((size for size, fit in tried.items() if fit.fits), default=0)


def _line(tried: dict[int, Fit]) -> Callable[[int], float] | None:
    """What a size is expected to need, from the two largest that fit, or that were tried; None from one."""
    known = sorted(size for size, fit in tried.items() if fit.fits)
    known = known if len(known) > 1 else sorted(tried)
    if len(known) < 2:
        return None
    first, second = known[-2:]
    slope = (tried[second].needed - tried[first].needed) / (second - first)
    return lambda size: tried[second].needed + slope * (size - second)
