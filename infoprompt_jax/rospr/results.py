"""The results of a zero-shot evaluation: every method on every data set, over its templates.

An evaluation writes them as `results.json`; `tables`, `plots` and `page` show them. The fields are the file's keys.
What is not a finite number is null in the file, and None here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from infoprompt_jax.data import p3
from infoprompt_jax.evaluation import metrics
from infoprompt_jax.rospr.records import Part, TargetRecord, parts_from_json

NAME = "results.json"
TITLES = {  # of the methods
    "none": "no prompt",
    "rospr": "RoSPr",
    "inter": "INTER",
    "var": "VAR",
    "inter_var": "INTER+VAR",
    "per_query": "per query",
    "oracle": "oracle",
}
ORACLE = (
    "The oracle is the source prompt with the best score on the evaluated rows: an upper bound, chosen by the labels."
)
VARIED = {  # of what the analysis varies
    "instances": "n, instances a source prompt",
    "queries": "Q, queries",
    "top": "N, hits a query",
    "prompts": "source prompts in the library",
}


@dataclasses.dataclass(frozen=True)
class LibrarySize:
    """The library of an evaluation: where it is, and how many source prompts and keys it holds."""

    path: str
    prompts: int
    keys: int


@dataclasses.dataclass(frozen=True)
class DatasetScores:
    """One data set: by method the mean, median and quartiles over its templates (`metrics.summarise`)."""

    metric: str
    hard_prompts: int  # how many templates
    rows: int  # evaluated, the largest number of any template
    fewest_rows: int  # smaller where a template does not apply to all rows
    scores: dict[str, dict[str, float]]

    @classmethod
    def of(cls, records: Sequence[TargetRecord]) -> DatasetScores:
        """The scores of one data set, from the records of its templates; all have the same methods."""
        rows = [record.rows for record in records]
        scores = {m: metrics.summarise([record.scores[m] for record in records]) for m in records[0].scores}
        return cls(records[0].metric, len(records), max(rows), min(rows), scores)


@dataclasses.dataclass(frozen=True)
class TaskScores:
    """One evaluation task: by method its score, and the source prompts taken."""

    target: str  # data set and template
    dataset: str
    metric: str
    rows: int
    scores: dict[str, float]
    chosen: dict[str, list[Part]]


@dataclasses.dataclass(frozen=True)
class SkippedTask:
    """A data set, or one of its evaluation tasks, that was not evaluated."""

    name: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Results:
    """All results. `mean` is over data sets, of their means over templates.

    `mean_of_t0` is the same over the templates that T0 was evaluated with, where there are others. `better` is the
    number of data sets in which a method's mean is above that of no prompt. `analysis` is `analysis.analyse`'s.
    """

    library: LibrarySize
    datasets: dict[str, DatasetScores]
    mean: dict[str, float]
    mean_of_t0: dict[str, float] | None
    better: dict[str, int] | None
    targets: list[TaskScores]
    skipped: list[SkippedTask]
    analysis: dict[str, Any]

    @classmethod
    def of(
        cls,
        records: Sequence[TargetRecord],
        skipped: Sequence[SkippedTask],
        library: LibrarySize,
        analysis: Mapping[str, Any],
    ) -> Results:
        """The results of these evaluation tasks, at least one."""
        by_dataset: dict[str, list[TargetRecord]] = {}
        for record in records:
            by_dataset.setdefault(record.dataset, []).append(record)
        datasets = {name: DatasetScores.of(of_name) for name, of_name in by_dataset.items()}
        tasks = [TaskScores(r.target, r.dataset, r.metric, r.rows, r.scores, r.chosen) for r in records]
        mean, better = _mean(list(datasets.values())), _better(datasets)
        return cls(library, datasets, mean, _mean_of_t0(by_dataset), better, tasks, list(skipped), dict(analysis))

    def to_json(self) -> dict[str, Any]:
        """Fields that are None are omitted."""
        content = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        content["library"] = dataclasses.asdict(self.library)
        content["datasets"] = {name: dataclasses.asdict(scores) for name, scores in self.datasets.items()}
        content["targets"] = [_task_to_json(task) for task in self.targets]
        content["skipped"] = [dataclasses.asdict(one) for one in self.skipped]
        return {name: value for name, value in content.items() if value is not None}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Results:
        """The results of what `to_json` gave; KeyError or TypeError where a field is missing."""
        targets = [TaskScores(**task | {"chosen": parts_from_json(task["chosen"])}) for task in content["targets"]]
        return cls(
            library=LibrarySize(**content["library"]),
            datasets={
                name: DatasetScores(**{"fewest_rows": scores["rows"]} | scores)
                for name, scores in content["datasets"].items()
            },
            mean=content["mean"],
            mean_of_t0=content.get("mean_of_t0"),
            better=content.get("better"),
            targets=targets,
            skipped=[SkippedTask(**one) for one in content["skipped"]],
            analysis=content["analysis"],
        )

    def summary(self) -> dict[str, Any]:
        """What summary.json holds and `tables.table` prints: the means, and how many tasks they are of."""
        datasets = {
            name: dataclasses.asdict(d) | {"scores": {method: spread["mean"] for method, spread in d.scores.items()}}
            for name, d in self.datasets.items()
        }
        content = {"datasets": datasets, "mean": self.mean, "better": self.better or {}}
        if self.mean_of_t0 is not None:
            content["mean_of_t0"] = self.mean_of_t0
        counts = {"targets": len(self.targets), "skipped": len(self.skipped)}
        return content | counts | {"library": dataclasses.asdict(self.library)}


def _task_to_json(task: TaskScores) -> dict[str, Any]:
    chosen = {method: [part.to_json() for part in parts] for method, parts in task.chosen.items()}
    return dataclasses.asdict(task) | {"chosen": chosen}


def _mean(datasets: Sequence[DatasetScores]) -> dict[str, float]:
    return {m: float(np.mean([scores.scores[m]["mean"] for scores in datasets])) for m in datasets[0].scores}


def _mean_of_t0(by_dataset: Mapping[str, Sequence[TargetRecord]]) -> dict[str, float] | None:
    """The mean over the templates of T0's own evaluation; None where these are all, or none."""
    if not any(record.beyond_t0 for records in by_dataset.values() for record in records):
        return None
    of_p3 = {dataset.name for dataset in p3.held_out()}
    of_t0 = [[r for r in records if not r.beyond_t0] for name, records in by_dataset.items() if name in of_p3]
    datasets = [DatasetScores.of(records) for records in of_t0 if records]
    return _mean(datasets) if datasets else None


def _better(datasets: Mapping[str, DatasetScores]) -> dict[str, int] | None:
    """By method, in how many data sets its mean is above that of no prompt; None where no prompt was not evaluated."""
    means = [{m: spread["mean"] for m, spread in scores.scores.items()} for scores in datasets.values()]
    if "none" not in means[0]:
        return None
    return {m: sum(of[m] > of["none"] for of in means) for m in means[0] if m != "none"}
