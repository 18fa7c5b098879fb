"""The table that training and evaluation print at the end: one line a member, or one for all seeds of a run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from infoprompt_jax.member_names import by_seed, group_title
from infoprompt_jax.reports.tables import aligned

TITLES = {
    "steps": "steps",
    "best_step": "best step",
    "to_quality": "steps to 90 % of plain",
    "mutual_information": "{} MI, nats",
}
# The entries of a member that have columns, and how many of their values; None = all.
ENTRIES = {"best": 1, "best_step": 1, "final": 1, "test": 1, "to_quality": 1, "mutual_information": None}
WHOLE = {"steps", "best_step"}  # names of values that are whole numbers
MOST_NAMED = 4  # members that a note names

Column = tuple[str, str]  # entry of a member, name of a value in it
Member = Mapping[str, Any]


def table(summary: Mapping[str, Any]) -> str:
    """The members of a run's summary as aligned text; several seeds as mean ± standard deviation.

    Args:
      summary: the content of summary.json. Its `references` come first.

    Returns:
      The table. Its columns: steps; the `best` value of each member's first metric and its step; the `final` and `test`
      value; the steps to 90 % of plain prompt tuning's final quality; the values under `mutual_information`, in nats.
      Without training, when no member has a best step, the value of the prompt as it is takes the place of best and
      final. Notes below name members whose loss was not finite, those that training did not improve, and those below
      the backbone without a prompt.
    """
    members = {member["name"]: member for member in [*summary.get("references", []), *summary["members"]]}
    header, rows = cells(members)
    return "\n".join([aligned(header, rows), *notes(summary)])


def cells(members: Mapping[str, Member]) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of the table, from the entries of summary.json by the member's name."""
    trained = any("best_step" in member for member in members.values())
    columns = _columns(list(members.values()), trained)
    titles = [TITLES.get(entry, f"{entry} {name}").replace("{}", name.removesuffix("_mi")) for entry, name in columns]
    if not trained:
        titles = [title.removeprefix("final ") for title in titles]
    rows = [
        [group_title(group, names), *_values([members[name] for name in names], columns)]
        for group, names in by_seed(members).items()
    ]
    return ["member", *titles], rows


def notes(summary: Mapping[str, Any]) -> list[str]:
    """A sentence each on members that failed, whose best prompt is the first one, or that are below a reference."""
    members: Sequence[Member] = summary["members"]
    failed = [(member["name"], member["failed_at_step"]) for member in members if "failed_at_step" in member]
    lines = [f"{name} stopped at step {step}: its loss was not finite." for name, step in failed]
    if untrained := [member["name"] for member in members if member.get("best") and member.get("best_step") == 0]:
        named = _named(untrained)
        lines.append(f"The untrained prompt (step 0) was the best one of {named}: training did not improve it.")
    for reference in summary.get("references", []):
        entry = "test" if "test" in reference else "best"  # the best prompt was chosen on the rows of `best`
        # Where members have several tasks, a reference's name ends in its task, and the summary has no member's task.
        values = {} if ": " in reference["name"] else reference[entry]
        for metric, value in list(values.items())[:1]:
            if below := _named([m["name"] for m in members if _less(_of(m, entry).get(metric), value)]):
                shown = f"{entry} {metric} {value:.4f}"
                lines.append(f"{reference['name']}: {shown}, higher than that of the best prompt of {below}.")
    return lines


def _less(value: float | None, than: float | None) -> bool:
    return value is not None and than is not None and value < than


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _columns(members: Sequence[Member], trained: bool) -> list[Column]:
    """What at least one member has, in the order of ENTRIES."""
    columns: dict[Column, None] = {("steps", "steps"): None} if trained else {}
    for entry, most in ENTRIES.items() if trained else [("final", 1), ("test", 1)]:
        for member in members:
            columns |= dict.fromkeys((entry, name) for name in list(_of(member, entry))[:most])
    return list(columns)


def _of(member: Member, entry: str) -> Mapping[str, Any]:
    """An entry's values by name; a single number has the entry's own name."""
    if entry == "best_step" and not member.get("best"):
        return {}  # no evaluation chose it
    value = member.get(entry, {})
    return value if isinstance(value, Mapping) else {entry: value}


def _values(members: Sequence[Member], columns: Sequence[Column]) -> list[str]:
    digits = (0 if name in WHOLE else 4 for _, name in columns)
    return [
        spread([_of(m, entry).get(name) for m in members], n) for (entry, name), n in zip(columns, digits, strict=True)
    ]


def spread(values: Sequence[float | None], digits: int) -> str:
    """`0.6500 ± 0.0707`; without the deviation where all values are equal, `-` where there is none."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return "-"
    mean = f"{statistics.fmean(known):.{digits}f}"
    return mean if len(known) == 1 or len(set(known)) == 1 else f"{mean} ± {statistics.stdev(known):.{digits}f}"
