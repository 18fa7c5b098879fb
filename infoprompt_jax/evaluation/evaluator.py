"""A fleet's members on their tasks: metrics of each template, and their mean and spread over templates."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections import Counter
from collections.abc import Callable, Sequence

from infoprompt_jax.data.rows import Rows
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.errors import UserError
from infoprompt_jax.evaluation import metrics
from infoprompt_jax.evaluation.copies import Copies
from infoprompt_jax.evaluation.predictions import Members, Predictions, Predictor, majority
from infoprompt_jax.fleet.fleet import Fleet
from infoprompt_jax.infoprompt.trainable import Trainable
from infoprompt_jax.t5.backbone import Backbone

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Split:
    """What a fleet is evaluated on: every member's tasks, and their tokenised rows."""

    tasks: Sequence[Sequence[Task]]
    rows: Sequence[Sequence[Rows]]

    def examples(self, limit: int = 0) -> int:
        """Rows of the data sets together; a row counts once however many templates show it."""
        counts: dict[str, int] = {}
        for tasks, rows in zip(self.tasks, self.rows, strict=True):
            for task, of_task in zip(tasks, rows, strict=True):
                counts[task.name] = max(counts.get(task.name, 0), min(len(of_task), limit or len(of_task)))
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
    warnings: Warnings = dataclasses.field(default_factory=lambda: Warnings())

    def evaluate(
        self,
        trainable: Trainable,
        split: Split,
        warn: bool = True,
        strict: bool = False,
        before_batch: Callable[[], None] = lambda: None,
    ) -> list[dict[str, float]]:
        """Metrics of each member: mean, median and quartiles over its templates, and the metrics of each template.

        Metrics are in [0, 1] (Matthews: [-1, 1]). Tasks with answer choices are ranked; the others are generated
        greedily and compared by exact match.

        Args:
          trainable: of the fleet, every leaf with a leading axis M.
          warn: whether to warn about prompts that always predict the same class, and targets that are too long.
          strict: NaN scores are an error. Otherwise their rows count as wrong, with a warning.
          before_batch: what it raises ends the evaluation.

        Raises:
          UserError: scores are NaN, with `strict`.
        """
        members = Members(self.fleet, self.backbone, trainable, self.max_length)
        copies = Copies.of(trainable, split.rows, self.backbone.mesh)
        predictor = dataclasses.replace(self._predictor, before_batch=before_batch)
        predictions = predictor.predict(members, split.rows, copies)
        _report_nan(split, predictions, strict, self.warnings)
        if warn:
            _warn_of_collapse(split, predictions, self.warnings)
            _warn_of_long_targets(split, self.limit, self.max_length, self.warnings)
        return [_member(tasks, results) for tasks, results in zip(split.tasks, predictions, strict=True)]

    def majority(self, split: Split) -> list[dict[str, float]]:
        """Metrics of each member if it gave the most frequent answer of each template's rows to all of them."""
        return [
            _member(tasks, [majority(of_task, self.limit) for of_task in rows])
            for tasks, rows in zip(split.tasks, split.rows, strict=True)
        ]

    @functools.cached_property
    def _predictor(self) -> Predictor:
        return Predictor(
            self.backbone.tokenizer, self.batch_size, self.buckets, self.max_input_length, self.normalize, self.limit
        )


class Warnings:
    """Logs each kind of warning once, however often it recurs; `repeated` then logs the count."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def warn(self, kind: str, message: str, *values: object) -> None:
        """`kind` names the warning in the count."""
        self.counts[kind] += 1
        if self.counts[kind] == 1:
            log.warning(message, *values)

    def repeated(self) -> None:
        """Logs how often each warning recurred, and starts anew."""
        for kind, count in self.counts.items():
            if count > 1:
                log.warning("%s in %d evaluations of this run.", kind.capitalize(), count)
        self.counts.clear()


def _report_nan(split: Split, predictions: Sequence[Sequence[Predictions]], strict: bool, warnings: Warnings) -> None:
    counts: Counter[str] = Counter()
    for tasks, results in zip(split.tasks, predictions, strict=True):
        for task, of_task in zip(tasks, results, strict=True):
            if of_task.unanswered:
                counts[task.id] += of_task.unanswered
    if not counts:
        return
    task, rest = next(iter(counts)), len(counts) - 1
    what = f"The scores of {counts.total()} rows are NaN ({task}{f' and {rest} more tasks' if rest else ''})"
    if strict:
        raise UserError(f"{what}, but must be numbers: set backbone.dtype='float32', or another prompt.init.")
    # One member that diverges is no reason to end the others: its loss stops it.
    advice = "they count as wrong. Lower train.learning_rate, or set backbone.dtype='float32'."
    warnings.warn("scores that are NaN", "%s; %s", what, advice)


def _warn_of_collapse(split: Split, predictions: Sequence[Sequence[Predictions]], warnings: Warnings) -> None:
    ranked = [
        (task, of_task)
        for tasks, results in zip(split.tasks, predictions, strict=True)
        for task, of_task in zip(tasks, results, strict=True)
        if task.metric != "exact_match"
    ]
    collapsed = [(task, one) for task, one in ranked if metrics.collapsed(one.predicted, one.expected)]
    if collapsed:
        task, one = collapsed[0]
        warnings.warn(
            "predictions of one class alone",
            "%d of %d evaluations always predict the same class although labels differ (%s: choice %d): the prompt "
            "may need more training, another train.learning_rate or another prompt.init.",
            len(collapsed),
            len(ranked),
            task.id,
            one.predicted[0],
        )


def _warn_of_long_targets(split: Split, limit: int, length: int, warnings: Warnings) -> None:
    """For the first such task; `length` is the most tokens that are generated."""
    for tasks, rows_of in zip(split.tasks, split.rows, strict=True):
        for task, rows in zip(tasks, rows_of, strict=True):
            tokens = rows.answer_lengths[: limit or None] - 1  # without EOS
            if rows.max_choices == 0 and (long := int((tokens > length).sum())):
                warnings.warn(
                    "targets longer than generated texts",
                    "%s: %d of %d targets are longer than scoring.max_length=%d tokens, so that none of them is "
                    "generated whole: set it to %d.",
                    *(task.id, long, len(tokens), length, tokens.max()),
                )
                return


def _member(tasks: Sequence[Task], results: Sequence[Predictions]) -> dict[str, float]:
    """A member's metrics over its templates, and those of each."""
    metric_names = list(dict.fromkeys(task.metric for task in tasks))
    by_task = {task.id: _template(task, of_task, metric_names) for task, of_task in zip(tasks, results, strict=True)}
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


def _template(task: Task, predictions: Predictions, metric_names: Sequence[str]) -> dict[str, float]:
    """Every metric that any of the member's tasks is measured by, so that a mean over tasks leaves none out."""
    if task.metric == "exact_match":
        return {"exact_match": predictions.measure("exact_match")}
    names = dict.fromkeys(n for n in (task.metric, *metric_names, "accuracy", "macro_f1") if n != "exact_match")
    return {name: predictions.measure(name) for name in names}
