"""The gains on fresh seeds, which no other run has: docs/claims.md's tables on fresh seeds.

The gains were first seen on the first seeds. The runs `<task>-256-fresh` are a replication on fresh ones. Both columns
have t intervals over paired seeds, so that they differ only in their seeds.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.claims_results import TASKS, Result, read, task_of
from experiments.estimates import interval, plus_minus, ratio, student
from experiments.pages import CLAIMS, UNMEASURED
from experiments.paired import gains, of_preset, pooled_spread, values
from infoprompt_jax import member_names
from infoprompt_jax.reports.documents import fill
from infoprompt_jax.reports.tables import markdown

TERMS = ("head", "both")
# title -> field, digits, factor
MEASURES = {
    "accuracy": ("test", 2, 100.0),
    "last evaluation": ("last", 2, 100.0),
    "mean over training": ("mean curve", 2, 100.0),
    "steps to 90 %": ("steps_to_quality", 1, 1.0),
}
Pairs = Sequence[tuple[Result, Result]]  # a task's run on the first seeds and its run on fresh ones


def mean_gains(results: Sequence[Result], preset: str, field: str) -> np.ndarray:
    """[seeds]: the preset minus plain prompt tuning, each seed's mean over the runs."""
    return np.mean([gains(result, preset, field) for result in results], axis=0)


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


def differences(pairs: Pairs, field: str, digits: int, factor: float) -> list[str]:
    """Cells below `columns`: means over the tasks."""
    sides = list(zip(*pairs, strict=True))
    return [interval(student(mean_gains(side, preset, field)), digits, factor) for preset in TERMS for side in sides]


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
    return markdown(("task", "fresh seeds", "plain, fresh seeds", *columns(pairs)), rows)


def measures_table(pairs: Pairs) -> str:
    """All measures that the terms are claimed to improve; the ratio of spreads has a bootstrapped interval."""
    rows = [(name, *differences(pairs, *about)) for name, about in MEASURES.items()]
    spreads = [ratio(pooled_spread(side, preset, "test")) for preset in TERMS for side in zip(*pairs, strict=True)]
    return markdown(("mean over tasks", *columns(pairs)), [*rows, ("spread over seeds, ratio to plain", *spreads)])


def blocks(directory: pathlib.Path) -> dict[str, str]:
    """The content of the page's blocks."""
    pairs = pairs_of(read(directory))
    if not pairs:
        return dict.fromkeys(("fresh", "measures"), UNMEASURED)
    return {"fresh": fresh_table(pairs), "measures": measures_table(pairs)}


def write(directory: pathlib.Path) -> None:
    fill(CLAIMS, blocks(directory))
