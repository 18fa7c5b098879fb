"""What the papers claim, beside what was measured: the rows, the tables and the charts of docs/claims.md.

A `Claim` has an effect on the first seeds, where it was looked for, and on fresh seeds, on which no choice was made.
The verdict follows from the fresh seeds alone: `holds` or `the opposite` if the p-value, adjusted by Holm's method for
all fresh effects of the table, is below 0.05, else `no effect shown`. Without fresh seeds it is `exploration only`.
Where no choice was made at all, every seed is fresh, and a `confirmation_table` has no columns of first seeds.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.cells import Cell, interval, ratio
from experiments.estimates import LEVEL, Estimate, holm
from infoprompt_jax.reports import charts
from infoprompt_jax.reports.tables import markdown

RATIO = "x plain"  # the unit of an effect for which 1 is "no difference"
LIMITS = {"points": (-6.0, 8.0)}  # of a unit's axis; an effect beyond it is an arrow
SEEDS = {"fresh": "fresh seeds", "first": "first seeds"}  # and their words in the chart
ONLY_FRESH = {"fresh": "effect"}  # the words where all seeds are fresh


@dataclasses.dataclass(frozen=True)
class Claim:
    """One line of the table: effects in `unit`, None where there are no such seeds."""

    text: str  # the paper, and what it claims
    measured: str  # as what, in which setting; with a link to the tables
    first: Estimate | None
    fresh: Estimate | None
    better: int = 1  # the sign of an effect that supports the claim
    unit: str = "points"
    digits: int = 1

    def cell(self, effect: Estimate) -> Cell:
        return ratio(effect, self.unit) if self.unit == RATIO else interval(effect, self.digits, unit=self.unit)

    def side(self, effect: Estimate | None, p: float) -> int:
        """1 for an effect in the direction of the claim, -1 for one against it, 0 for none shown."""
        if effect is None or not p < LEVEL:
            return 0
        return self.better * int(np.sign(effect.value - (self.unit == RATIO)))

    def verdict(self, p: float) -> str:
        """By the adjusted p-value of the fresh seeds."""
        if self.fresh is None:
            return "exploration only"
        return {1: "holds", -1: "the opposite", 0: "no effect shown"}[self.side(self.fresh, p)]

    def replicated(self, p: float) -> str:
        """Whether the fresh seeds repeat what the first ones showed by themselves, without a correction."""
        if self.fresh is None:
            return "not measured again"
        if self.first is None:
            return "fresh seeds only"
        before, again = self.side(self.first, self.first.p), self.side(self.fresh, p)
        if not before:
            return "first seeds show no effect"
        return "yes" if again == before else "no"


def verdict_table(claims: Sequence[Claim]) -> str:
    """A line a claim; fresh effects with an adjusted p-value below 0.05 are bold."""
    header = ("claim of the paper", "measured as", "verdict", "first seeds", "fresh seeds", "p, Holm",
              "replicated on fresh seeds?")  # fmt: skip
    adjusted = holm([np.nan if claim.fresh is None else claim.fresh.p for claim in claims])
    rows = [(*_cells(claim, p), claim.replicated(p)) for claim, p in zip(claims, adjusted, strict=True)]
    return markdown(header, rows)


def confirmation_table(claims: Sequence[Claim]) -> str:
    """A line a claim, of claims without first seeds."""
    adjusted = holm([np.nan if claim.fresh is None else claim.fresh.p for claim in claims])
    header = ("claim of the paper", "measured as", "verdict", "effect", "p, Holm")
    rows = []
    for claim, p in zip(claims, adjusted, strict=True):
        text, measured, verdict, _, effect, shown = _cells(claim, p)
        rows.append((text, measured, verdict, effect, shown))
    return markdown(header, rows)


def _cells(claim: Claim, p: float) -> tuple[str, ...]:
    first = "" if claim.first is None else str(claim.cell(claim.first))
    fresh = "" if claim.fresh is None else str(claim.cell(claim.fresh))
    shown = "" if np.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"
    fresh = f"**{fresh}**" if claim.side(claim.fresh, p) else fresh
    return claim.text, claim.measured, claim.verdict(p), first, fresh, shown


def verdict_chart(
    claims: Sequence[Claim],
    seeds: Mapping[str, str] = SEEDS,
    limits: Mapping[str, tuple[float, float]] = LIMITS,
) -> str:
    """The effects of the table with their intervals, as SVG: a panel for each paper and unit.

    `seeds` are the kinds of seeds with their words, and `limits` those of a unit's axis, if not all of it.
    """
    adjusted = holm([np.nan if claim.fresh is None else claim.fresh.p for claim in claims])
    panels: dict[tuple[str, str], list[charts.Row]] = {}
    for claim, p in zip(claims, adjusted, strict=True):
        paper, _, text = claim.text.partition(": ")
        text, _, remark = text.replace("`", "").partition(" (")
        about = re.sub(r"\[(.*)\]\(.*?\)", r"\1", claim.measured) + (f"; {remark.rstrip(')')}" if remark else "")
        marks = [_mark(claim, kind, words, effect) for kind, words in seeds.items() if (effect := getattr(claim, kind))]
        note = marks[0].text.partition(": ")[2] if marks else ""
        row = charts.Row(text, marks, about, note, bool(claim.side(claim.fresh, p)))
        panels.setdefault((paper, claim.unit), []).append(row)
    legend = {kind: f"{words}, 95 % interval" for kind, words in seeds.items()}
    both = " on the first and on the fresh seeds" if len(seeds) > 1 else ""
    return charts.svg(
        f"Each claim of the papers: its effect{both}, with 95 % intervals.",
        legend,
        [
            charts.Panel(unit, rows, float(unit == RATIO), limits.get(unit), paper)
            for (paper, unit), rows in panels.items()
        ],
        f"bold: p < 0.05 after Holm's correction{', fresh seeds alone' if both else ''}",
    )


def _mark(claim: Claim, kind: str, words: str, effect: Estimate) -> charts.Mark:
    return charts.Mark(kind, effect.value, f"{words}: {claim.cell(effect)}", effect.low, effect.high)
