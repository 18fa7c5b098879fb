"""The work that one rendering of a template may do, and what values cost.

A template comes from a file of other people, and a few characters of jinja can ask for more than a machine has. So each
turn of a loop, each call of a macro and each value that a template makes costs its size: the characters of a text, the
items of a list with all that is in them. A `Budget` adds the costs up and ends the rendering that goes over. Time and
memory are proportional to these costs, so one limit bounds both, and the rendered text too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from jinja2.exceptions import SecurityError

WORK = 5_000_000  # units for a row
PER_UNIT = 50  # units more for each unit of the row's own size, so that a long document has its share
STEP = 10  # units of a step: a part of the template that is evaluated once more
ITEM = 16  # units of an item of a list
LARGEST = 2**64  # of the whole numbers that a template may make


class Budget:
    """What is left of the work of one rendering.

    Args:
      row: what the template reads of it; its size is counted where it matters, which is hardly ever.
    """

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.left = WORK
        self._row: Mapping[str, Any] | None = row

    def spend(self, units: int) -> None:
        """Raises SecurityError where that is more than what is left."""
        self.left -= units
        if self.left < 0:
            self._extend()
        if self.left < 0:
            raise SecurityError(
                f"it takes more than the {WORK:,} steps and characters that a row may cost; write shorter loops, fewer "
                "repeats and smaller widths"
            )

    def _extend(self) -> None:
        if self._row is not None:
            self.left += PER_UNIT * size(self._row)
            self._row = None

    def count(self, *values: Any) -> None:
        """Spends what it costs to go through the values."""
        for value in values:
            units = size(value, self.left)
            if units > self.left:
                self._extend()
                units = size(value, self.left)
            self.spend(units)

    def made(self, value: Any) -> Any:
        """A value that a template made, once it is paid for.

        Raises:
          SecurityError: it is too large.
        """
        if isinstance(value, int) and abs(value) > LARGEST:
            raise SecurityError("it makes a whole number beyond 64 bits")
        self.count(value)
        return value


def size(value: Any, most: float = math.inf) -> int:
    """What a value costs; one that costs more than `most` is not counted to its end."""
    if isinstance(value, str):
        return len(value)
    total, parts = 0, [value]
    while parts and total <= most:
        part = parts.pop()
        if isinstance(part, str | bytes | range):
            total += len(part)
        elif isinstance(part, list | tuple):
            total += ITEM * len(part)
            parts.extend(part)
        elif isinstance(part, Mapping):
            total += 2 * ITEM * len(part)
            parts.extend(part.keys())
            parts.extend(part.values())
    return total
