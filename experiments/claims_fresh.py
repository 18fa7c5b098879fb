"""What the terms add on seeds that no other run has: docs/claims.md's tables on fresh seeds.

The first seeds are those that the gains were found on; the fresh ones, of the runs `<task>-256-fresh`, are a
replication. Both have 95 % t intervals over paired seeds, so that they differ in nothing but their seeds.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from experiments.claims_report import TASKS, interval, plus_minus, ratio, read, task_of
from experiments.pages import CLAIMS, UNMEASURED
from experiments.paired import Estimate, Result, of_variant, pooled_spread, values
from infoprompt_jax.reports.documents import fill
from infoprompt_jax.reports.tables import markdown

TERMS = ("head", "both")
# What a table calls it -> field, digits, factor
MEASURES = {
    "accuracy": ("test", 2, 100.0),
    "last evaluation": ("last", 2, 100.0),
    "mean over training": ("mean curve", 2, 100.0),
    "steps to 90 %": ("steps_to_quality", 1, 1.0),
}
Pairs = Sequence[tuple[Result, Result]]  # a task's run on the first seeds and its run on fresh ones


def t_interval(samples: np.ndarray) -> Estimate:
    """The mean of `samples` [seeds] and its 95 % t interval."""
    half = stats.t.ppf(0.975, len(samples) - 1) * samples.std(ddof=1) / np.sqrt(len(samples))
    value = float(samples.mean())
    return value, value - float(half), value + float(half)


def gains(results: Sequence[Result], variant: str, field: str) -> np.ndarray:
    """[seeds]: the variant minus plain prompt tuning, each seed's mean over the runs."""
    return np.mean([values(result, variant, field) - values(result, "plain", field) for result in results], axis=0)


def seeds_of(results: Sequence[Result]) -> str:
    """`20-49`.

    Raises ValueError unless all of the runs have the same seeds, without a gap: means over tasks are seed by seed.
    """
    found = {tuple(sorted({int(name.rsplit("seed", 1)[-1]) for name in result["members"]})) for result in results}
    seeds = min(found)
    if len(found) > 1 or seeds != tuple(range(seeds[0], seeds[-1] + 1)):
        raise ValueError(f"{', '.join(r['run'] for r in results)}: expected runs of the same consecutive seeds.")
    return f"{seeds[0]}-{seeds[-1]}"


def pairs_of(results: Mapping[str, Result]) -> Pairs:
    """Tasks that have been run on both kinds of seeds, in the order of TASKS."""
    names = [f"{task}-256" for task in TASKS]
    return [(results[name], results[f"{name}-fresh"]) for name in names if {name, f"{name}-fresh"} <= set(results)]


def columns(pairs: Pairs) -> list[str]:
    """Headers: each variant on the first seeds and on the fresh ones."""
    sides = [seeds_of(side) for side in zip(*pairs, strict=True)]
    return [f"{variant} - plain, seeds {seeds}" for variant in TERMS for seeds in sides]


def differences(pairs: Pairs, field: str, digits: int, factor: float) -> list[str]:
    """Cells below `columns`: means over the tasks."""
    sides = list(zip(*pairs, strict=True))
    return [interval(t_interval(gains(side, v, field)), digits, factor) for v in TERMS for side in sides]


def fresh_table(pairs: Pairs) -> str:
    """Accuracy, one line a task."""
    rows = [
        (
            task_of(fresh),
            str(len(of_variant(fresh, "plain"))),
            plus_minus(values(fresh, "plain", "test")),
            *differences([(first, fresh)], "test", 1, 100),
        )
        for first, fresh in pairs
    ]
    rows.append((f"mean of the {len(pairs)}", "", "", *differences(pairs, "test", 2, 100)))
    return markdown(("task", "fresh seeds", "plain, fresh seeds", *columns(pairs)), rows)


def measures_table(pairs: Pairs) -> str:
    """All that the terms are claimed to change; the ratio of spreads alone has a bootstrapped interval."""
    rows = [(name, *differences(pairs, *about)) for name, about in MEASURES.items()]
    spreads = [ratio(pooled_spread(side, v, "test")) for v in TERMS for side in zip(*pairs, strict=True)]
    return markdown(("mean over tasks", *columns(pairs)), [*rows, ("spread over seeds, ratio to plain", *spreads)])


def blocks(directory: pathlib.Path) -> dict[str, str]:
    """What the page's blocks hold."""
    pairs = pairs_of(read(directory))
    if not pairs:
        return dict.fromkeys(("fresh", "measures"), UNMEASURED)
    return {"fresh": fresh_table(pairs), "measures": measures_table(pairs)}


def write(directory: pathlib.Path) -> None:
    fill(CLAIMS, blocks(directory))
