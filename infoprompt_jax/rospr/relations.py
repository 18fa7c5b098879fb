"""What source prompts and evaluation tasks have in common, and the gain that comes with it (RoSPr, analysis).

Does a source prompt of the same answer format help an evaluation task, or one of the same family? What is easy to gain
differs by evaluation task, and so do the source prompts that have something in common with it. So `contrasts` compares
source prompts on one evaluation task with each other, and averages these differences. `pooled` describes all pairs
together; a difference between two of its lines may be one between data sets.

Pairs of which one has no known family, for example BIG-bench's tasks, are in no relation.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from infoprompt_jax.rospr.library_files import Entry
from infoprompt_jax.rospr.records import TargetRecord

RELATIONS = ("format and family", "format alone", "family alone", "neither")
Gains = Mapping[str, Mapping[str, float]]  # by relation: the number of `pairs`, their mean `gain`, the share `better`


def relation(entry: Entry, record: TargetRecord) -> str:
    """What a source prompt and a task have in common, one of `RELATIONS`; "" if the family of either is not known."""
    if not (entry.family and record.family):
        return ""
    same_format = bool(entry.answer_format) and entry.answer_format == record.answer_format
    return RELATIONS[2 * (not same_format) + (entry.family != record.family)]


def pairs(record: TargetRecord, quality_M: np.ndarray, entries: Sequence[Entry]) -> list[tuple[str, float, bool]]:
    """Of each source prompt on a task: the relation, the gain over no prompt, and whether it has the most votes."""
    winner = record.candidates[0].owner
    owners = np.setdiff1d(np.arange(len(entries)), record.left_out).tolist()
    gain_M = quality_M - record.scores["none"]
    return [(relation(entries[owner], record), float(gain_M[owner]), owner == winner) for owner in owners]


def pooled(
    records: Sequence[TargetRecord], qualities: Sequence[np.ndarray], entries: Sequence[Entry]
) -> tuple[dict[str, Gains], dict[str, int]]:
    """By relation the mean gain over all pairs, and how many pairs are in no relation.

    Both of `every` source prompt on every task, and of the `retrieved` ones, the most voted for.

    Args:
      qualities: by task, the metric with each source prompt [M].
    """
    of_tasks = (pairs(record, quality_M, entries) for record, quality_M in zip(records, qualities, strict=True))
    every = list(itertools.chain(*of_tasks))
    both = {"every": every, "retrieved": [pair for pair in every if pair[-1]]}
    unknown = {which: sum(not kind for kind, *_ in listed) for which, listed in both.items()}
    return {which: _gains(listed) for which, listed in both.items()}, unknown


def by_task(
    records: Sequence[TargetRecord], qualities: Sequence[np.ndarray], entries: Sequence[Entry]
) -> list[dict[str, Any]]:
    """Of each task its `dataset`, `template`, and by relation the `gains` of its own source prompts."""
    return [
        {
            "dataset": record.dataset,
            "template": record.template,
            "gains": _gains(pairs(record, quality_M, entries)),
        }
        for record, quality_M in zip(records, qualities, strict=True)
    ]


def _gains(listed: Iterable[tuple[str, float, bool]]) -> dict[str, dict[str, float]]:
    by_relation: dict[str, list[float]] = {kind: [] for kind in RELATIONS}
    for kind, gain, _ in listed:
        if kind:
            by_relation[kind].append(gain)
    return {
        kind: {"pairs": len(of), "gain": float(np.mean(of)), "better": float(np.mean(np.array(of) > 0))}
        for kind, of in by_relation.items()
        if of
    }


def within(tasks: Sequence[Mapping[str, Any]], more: str, less: str) -> dict[str, float]:
    """By data set: the mean gain with `more` in common minus that with `less`, on the same task; mean over templates.

    Args:
      tasks: of `by_task`. Those without source prompts of both relations do not count.
    """
    by_dataset: dict[str, list[float]] = {}
    for task in tasks:
        gains = task["gains"]
        if more in gains and less in gains:
            by_dataset.setdefault(task["dataset"], []).append(gains[more]["gain"] - gains[less]["gain"])
    return {dataset: float(np.mean(of)) for dataset, of in by_dataset.items()}


def contrasts(tasks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each two relations the mean difference over `datasets`, their number, and the `spread` over them.

    Args:
      tasks: of `by_task`.
    """
    made = []
    for more, less in itertools.combinations(RELATIONS, 2):
        if of := list(within(tasks, more, less).values()):
            spread = float(np.std(of, ddof=1)) if len(of) > 1 else None
            known = {"datasets": len(of), "difference": float(np.mean(of)), "spread": spread}
            made.append({"more": more, "less": less, **known})
    return made
