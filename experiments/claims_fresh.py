"""The gains on fresh seeds, which no choice was made on: docs/claims.md's tables on fresh seeds.

The gains were first seen on the first seeds. The runs `<task>-256-fresh` are a confirmation on fresh ones: what is bold
in a table, and what Holm's method counts, are the columns of these.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

from experiments.cells import confirmed, interval, plus_minus, ratio, with_rows
from experiments.claims_results import TASKS, Result, read, rows_of, task_of
from experiments.pages import CLAIMS, UNMEASURED
from experiments.paired import of_preset, pooled, spread, values
from infoprompt_jax import member_names
from infoprompt_jax.reports.documents import fill

TERMS = ("head", "both")
# title -> field, digits, factor
MEASURES = {
    "accuracy": ("test", 2, 100.0),
    "last evaluation": ("last", 2, 100.0),
    "mean over training": ("mean curve", 2, 100.0),
    "steps to 90 %": ("steps_to_quality", 1, 1.0),
}
Pairs = Sequence[tuple[Result, Result]]  # a task's run on the first seeds and its run on fresh ones


def seeds_of(results: Sequence[Result]) -> str:
    """The seeds that all runs have, as `20-49`.

    Raises:
      ValueError: the runs have different seeds, or seeds with a gap. Means over tasks are seed by seed.
    """
    seeds_of_runs = {tuple(sorted({member_names.seed(name) or 0 for name in r["members"]})) for r in results}
    seeds = min(seeds_of_runs)
    if len(seeds_of_runs) > 1 or seeds != tuple(range(seeds[0], seeds[-1] + 1)):
        raise ValueError(f"{', '.join(r['run'] for r in results)}: expected runs of the same consecutive seeds.")
    return f"{seeds[0]}-{seeds[-1]}"


def pairs_of(results: Mapping[str, Result]) -> Pairs:
    """The tasks with runs on both kinds of seeds, in the order of TASKS."""
    names = [f"{task}-256" for task in TASKS]
    return [(results[name], results[f"{name}-fresh"]) for name in names if {name, f"{name}-fresh"} <= set(results)]


def columns(pairs: Pairs) -> list[str]:
    """Headers: each preset on the first seeds and on the fresh ones."""
    sides = [seeds_of(side) for side in zip(*pairs, strict=True)]
    return [f"{preset} - plain, seeds {seeds}" for preset in TERMS for seeds in sides]


def differences(pairs: Pairs, field: str, digits: int, factor: float) -> list[object]:
    """Cells below `columns`, means over the tasks; those of the first seeds are text."""
    first, fresh = zip(*pairs, strict=True)

    def cell(side: Sequence[Result], preset: str) -> object:
        return interval(pooled(side, preset, field), digits, factor)

    return [made for preset in TERMS for made in (str(cell(first, preset)), cell(fresh, preset))]


def fresh_table(pairs: Pairs) -> str:
    """Accuracy, one line a task."""
    rows = [
        (
            task_of(fresh["run"]),
            str(len(of_preset(fresh, "plain"))),
            plus_minus(values(fresh, "plain", "test")),
            *differences([(first, fresh)], "test", 1, 100),
        )
        for first, fresh in pairs
    ]
    rows.append((f"mean of the {len(pairs)}", "", "", *differences(pairs, "test", 2, 100)))
    return confirmed(("task", "fresh seeds", "plain, fresh seeds", *columns(pairs)), rows)


def measures_table(pairs: Pairs) -> str:
    """All measures that the terms are claimed to improve."""
    rows = [(name, *differences(pairs, *about)) for name, about in MEASURES.items()]
    first, fresh = zip(*pairs, strict=True)
    spreads = [
        cell
        for preset in TERMS
        for cell in (str(ratio(spread(first, preset, "test"))), ratio(spread(fresh, preset, "test")))
    ]
    return confirmed(("mean over tasks", *columns(pairs)), [*rows, ("spread over seeds, ratio to plain", *spreads)])


def blocks(directory: pathlib.Path) -> dict[str, str]:
    """The content of the page's blocks."""
    pairs = pairs_of(read(directory))
    if not pairs:
        return dict.fromkeys(("fresh", "measures"), UNMEASURED)
    validation, test = rows_of(result for pair in pairs for result in pair)
    rows = f"{test} test rows and {validation} validation rows"
    return {"fresh": with_rows(fresh_table(pairs), rows), "measures": with_rows(measures_table(pairs), rows)}


def write(directory: pathlib.Path) -> None:
    fill(CLAIMS, blocks(directory))
