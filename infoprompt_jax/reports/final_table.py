"""The table that training and evaluation print at the end: one line a member, or one for all seeds of a run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from infoprompt_jax.member_names import by_seed, group_title
from infoprompt_jax.reports.tables import aligned

TITLES = {"to_quality": "steps to 90 % of plain", "mutual_information": "MI {}"}
# The entries of a member that have columns, and how many of their values; None = all.
ENTRIES = {"best": 1, "final": 1, "test": 1, "to_quality": 1, "mutual_information": None}

Column = tuple[str, str]  # entry of a member, name of a value in it


def table(summary: Mapping[str, Any]) -> str:
    """The members of a run's summary as aligned text; several seeds as mean ± standard deviation.

    Args:
      summary: the content of summary.json. Its `references` come first.

    Returns:
      The table. Its columns: steps; the `best`, `final` and `test` value of each member's first metric; the steps to
      90 % of plain prompt tuning's final quality; the values under `mutual_information`, in nats.
    """
    members = {member["name"]: member for member in [*summary.get("references", []), *summary["members"]]}
    columns = _columns(list(members.values()))
    titles = (TITLES.get(entry, f"{entry} {name}").replace("{}", name) for entry, name in columns)
    rows = [
        _row(group_title(group, names), [members[name] for name in names], columns)
        for group, names in by_seed(members).items()
    ]
    return aligned(["member", "steps", *titles], rows)


def _columns(members: Sequence[Mapping[str, Any]]) -> list[Column]:
    """What at least one member has, in the order of ENTRIES."""
    columns: dict[Column, None] = {}
    for entry, most in ENTRIES.items():
        for member in members:
            columns |= dict.fromkeys((entry, name) for name in list(member.get(entry, {}))[:most])
    return list(columns)


def _row(title: str, members: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> list[str]:
    steps = _spread([member.get("steps") for member in members], 0)
    values = [_spread([m.get(entry, {}).get(name) for m in members], 0 if name == "steps" else 4)
              for entry, name in columns]  # fmt: skip
    return [title, steps, *values]


def _spread(values: Sequence[float | None], digits: int) -> str:
    """`0.6500 ± 0.0707`; without the deviation where all values are equal, `-` where there is none."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return "-"
    mean = f"{statistics.fmean(known):.{digits}f}"
    return mean if len(known) == 1 or len(set(known)) == 1 else f"{mean} ± {statistics.stdev(known):.{digits}f}"
