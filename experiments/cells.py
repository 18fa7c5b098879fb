"""Estimates as cells of tables, and what is bold in them.

A table of a *confirmation*, of seeds that no choice was made on, is written by `confirmed`: a cell is bold if its
p-value, adjusted by Holm's method for all cells of the table, is below 0.05. All other tables are *exploration*: they
are written by `reports.tables.markdown` and have no bold. A cell that stands in a confirmation's table but is not part
of it, as a value from the first seeds beside the fresh ones, is passed as `str(cell)`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from experiments.estimates import LEVEL, Estimate, holm
from infoprompt_jax.reports.tables import markdown


@dataclasses.dataclass(frozen=True)
class Cell:
    """An estimate as text: `+1.2 [0.3, 2.0]`, or without the sign; `-` if there is none."""

    estimate: Estimate
    digits: int
    signed: bool = True
    unit: str = ""

    def __str__(self) -> str:
        value, low, high, _ = self.estimate
        if np.isnan(value):
            return "-"
        sign = "+" if self.signed else ""
        text = f"{value:{sign}.{self.digits}f} [{low:.{self.digits}f}, {high:.{self.digits}f}]"
        return f"{text} {self.unit}".rstrip()


def interval(estimate: Estimate, digits: int, factor: float = 1.0, unit: str = "") -> Cell:
    """A difference: `+1.2 [0.3, 2.0]`."""
    return Cell(estimate.scaled(factor), digits, unit=unit)


def ratio(estimate: Estimate, unit: str = "") -> Cell:
    """A ratio: `0.80 [0.61, 0.95]`."""
    return Cell(estimate, 2, signed=False, unit=unit)


def plus_minus(samples: np.ndarray, digits: int = 1, factor: float = 100.0) -> str:
    """`65.5 ± 3.6`: mean and standard deviation of `samples` [seeds]."""
    return f"{factor * samples.mean():.{digits}f} ± {factor * samples.std(ddof=1):.{digits}f}"


Table = tuple[Sequence[object], Iterable[Sequence[object]]]  # its header and its rows


def confirmed(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """The Markdown table of a confirmation: cells with a Holm-adjusted p-value below 0.05 are bold."""
    (table,) = confirmed_together((header, rows))
    return table


def confirmed_together(*tables: Table) -> list[str]:
    """The Markdown tables of one confirmation: p-values are adjusted for the cells of all of them."""
    written = [(header, [list(row) for row in rows]) for header, rows in tables]
    every = [row for _, rows in written for row in rows]
    places = [(row, column, cell) for row in every for column, cell in enumerate(row) if isinstance(cell, Cell)]
    adjusted = holm([cell.estimate.p for _, _, cell in places])
    for (row, column, cell), p in zip(places, adjusted, strict=True):
        row[column] = f"**{cell}**" if p < LEVEL else str(cell)
    return [markdown(header, rows) for header, rows in written]


def with_rows(table: str, rows: str) -> str:
    """A table below a sentence on the rows that it was measured on, as `512 test rows`."""
    return f"On {rows}, the same for all seeds: intervals do not cover other rows.\n\n{table}"
