"""A fleet's members on their tasks: predictions, metrics per hard prompt, and their spread over hard prompts."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from infoprompt_jax.data.batches import eval_batches
from infoprompt_jax.data.rows import Rows
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.errors import UserError
from infoprompt_jax.evaluation import metrics
from infoprompt_jax.fleet.fleet import Fleet
from infoprompt_jax.t5 import scoring
from infoprompt_jax.t5.backbone import Backbone

MODEL_FIELDS = ("inputs", "targets", "choices", "label", "weight")

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Split:
    """What a fleet is evaluated on: every member's tasks, and their tokenised rows."""

    tasks: Sequence[Sequence[Task]]
    rows: Sequence[Sequence[Rows]]

    def examples(self, limit: int = 0) -> int:
        """Rows of the data sets together, each counted once however many hard prompts show it."""
        counts: dict[str, int] = {}
        for tasks, rows in zip(self.tasks, self.rows, strict=True):
            for task, own in zip(tasks, rows, strict=True):
                counts[task.name] = max(counts.get(task.name, 0), min(len(own), limit or len(own)))
        return sum(counts.values())


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """How to evaluate; the same for every split and step of a run."""

    fleet: Fleet
    backbone: Backbone
    batch_size: int
    buckets: Sequence[int]
    max_input_length: int
    normalize: str = "none"
    max_length: int = 32
    limit: int = 0

    def __call__(self, trainable: Any, split: Split, warn: bool = True, strict: bool = False) -> list[dict[str, float]]:
        """Metrics of each member: mean, median and quartiles over its hard prompts, and each hard prompt's own.

        Metrics are in [0, 1] (Matthews: [-1, 1]). Rank classification where a task has answer choices, exact match of
        a greedy continuation where it has none. `warn` of prompts that always predict one class. A row whose scores
        are NaN counts as wrong, with a warning; with `strict` it raises UserError.
        """
        found: list[dict[int, list[tuple[Any, Any]]]] = [defaultdict(list) for _ in split.tasks]
        for batch, chosen, texts in self._predictions(trainable, split):
            for m, b in zip(*np.nonzero(batch["weight"]), strict=True):
                task = int(batch["task"][m, b])
                rows = split.rows[m][task]
                if rows.max_choices == 0:
                    found[m][task].append((texts[m][b], rows.target_text(int(batch["row"][m, b]))))
                else:
                    found[m][task].append((chosen[m][b], int(batch["label"][m, b])))
        self._report_nan(split, found, strict)
        if warn:
            self._warn_of_collapse(split, found)
        return [self._member(tasks, results) for tasks, results in zip(split.tasks, found, strict=True)]

    @staticmethod
    def _report_nan(split: Split, found: list[dict[int, list[tuple[Any, Any]]]], strict: bool) -> None:
        counts: Counter[str] = Counter()
        for tasks, rows, by_task in zip(split.tasks, split.rows, found, strict=True):
            for i, pairs in by_task.items():
                if rows[i].max_choices and (nan := sum(int(chosen) == metrics.NO_ANSWER for chosen, _ in pairs)):
                    counts[tasks[i].id] += nan
        if not counts:
            return
        task, rest = next(iter(counts)), len(counts) - 1
        what = f"The scores of {counts.total()} rows are NaN ({task}{f' and {rest} more tasks' if rest else ''})"
        if strict:
            raise UserError(f"{what}, but must be numbers: set backbone.dtype='float32', or another prompt.init.")
        # One member that diverges is no reason to end the others: its loss stops it.
        log.warning("%s; they count as wrong. Lower train.learning_rate, or set backbone.dtype='float32'.", what)

    @staticmethod
    def _warn_of_collapse(split: Split, found: list[dict[int, list[tuple[Any, Any]]]]) -> None:
        pairs = [
            (task, results[i])
            for tasks, results in zip(split.tasks, found, strict=True)
            for i, task in enumerate(tasks)
        ]
        scored = [(task, list(zip(*results, strict=True))) for task, results in pairs if task.metric != "exact_match"]
        collapsed = [
            (task, predictions) for task, (predictions, golds) in scored if metrics.collapsed(predictions, golds)
        ]
        if collapsed:
            task, predictions = collapsed[0]
            log.warning(
                "%d of %d evaluations predict one class alone although labels differ (%s: always choice %d): "
                "train longer, or change train.learning_rate or prompt.init.",
                len(collapsed),
                len(scored),
                task.id,
                predictions[0],
            )

    def majority(self, split: Split) -> list[dict[str, float]]:
        """Metrics of each member if it gave the most frequent answer of each hard prompt's rows to all of them."""
        results = []
        for tasks, rows in zip(split.tasks, split.rows, strict=True):
            found = {}
            for index, own in enumerate(rows):
                count = min(len(own), self.limit or len(own))
                free = own.max_choices == 0
                golds = [own.target_text(row) for row in range(count)] if free else own.labels[:count].tolist()
                ((frequent, _),) = Counter(golds).most_common(1)
                found[index] = [(frequent, gold) for gold in golds]
            results.append(self._member(tasks, found))
        return results

    def _predictions(self, trainable: Any, split: Split) -> Iterator[tuple[dict[str, np.ndarray], Any, Any]]:
        """Batches with the chosen answers [M][B] and the generated texts [M][B], each None where no task needs it."""
        free = [rows.max_choices == 0 for member in split.rows for rows in member]
        frozen, decode = self.backbone.frozen, self.backbone.tokenizer.decode
        sharding = NamedSharding(self.backbone.mesh, P(None, "data"))
        for batch in eval_batches(split.rows, self.batch_size, self.buckets, self.max_input_length, self.limit):
            placed = jax.device_put({name: batch[name] for name in MODEL_FIELDS}, sharding)
            chosen = texts = None
            if not all(free):
                scores = np.asarray(self.fleet.scores(trainable, frozen, placed))
                lengths = scoring.lengths(batch["choices"], self.normalize, decode)
                chosen = metrics.answers(scores / lengths)
            if any(free):
                tokens = np.asarray(self.fleet.generate(trainable, frozen, placed, self.max_length))
                texts = [[decode(row) for row in member] for member in tokens]
            yield batch, chosen, texts

    def _member(self, tasks: Sequence[Task], results: dict[int, list]) -> dict[str, float]:
        metric_names = list(dict.fromkeys(task.metric for task in tasks))
        by_task = {task.id: self._task(task, results[index], metric_names) for index, task in enumerate(tasks)}
        names = dict.fromkeys(name for scores in by_task.values() for name in scores)
        summary: dict[str, float] = {}
        for name in names:
            values = [scores[name] for scores in by_task.values() if name in scores]
            spread = metrics.summarise(values)
            summary[name] = spread.pop("mean")
            if len(by_task) > 1:
                summary |= {f"{name}_{statistic}": value for statistic, value in spread.items()}
                summary |= {f"{name}/{task}": scores[name] for task, scores in by_task.items() if name in scores}
        return summary

    @staticmethod
    def _task(task: Task, pairs: list[tuple[Any, Any]], metric_names: Sequence[str]) -> dict[str, float]:
        """All that any of the member's tasks is measured by, so that a mean over tasks leaves none out."""
        predictions, golds = [list(column) for column in zip(*pairs, strict=True)]
        if task.metric == "exact_match":
            return {"exact_match": metrics.exact_match(predictions, golds)}
        names = dict.fromkeys(n for n in (task.metric, *metric_names, "accuracy", "macro_f1") if n != "exact_match")
        return {name: metrics.find_metric(name)(predictions, golds) for name in names}
