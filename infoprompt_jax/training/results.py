"""The results of a run, as `summary.json` holds them. Metrics are by name, in [0, 1] (Matthews: [-1, 1])."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from infoprompt_jax.evaluation import metrics
from infoprompt_jax.reports.quality import steps_to_quality
from infoprompt_jax.training.experiment import Experiment
from infoprompt_jax.training.loop import Run
from infoprompt_jax.training.metrics_log import MetricsLog

Metrics = dict[str, float]


@dataclasses.dataclass(frozen=True)
class MemberResult:
    """What one member ends with; an entry that is None is absent from the summary."""

    name: str
    steps: int  # that it has trained
    final: Metrics  # at its last evaluation
    best: Metrics  # at its best one, of the exported prompt
    best_step: int | None = None
    test: Metrics | None = None  # of the best prompt, on the test split
    mutual_information: Metrics | None = None  # the last logged estimates of both terms, nats
    failed_at_step: int | None = None  # whose loss was not finite, counted from 1 as in the log; 1 for the head start
    to_quality: dict[str, Any] | None = None  # see `quality.steps_to_quality`


@dataclasses.dataclass(frozen=True)
class Reference:
    """What a prompt should beat; means over the fleet's members of one task."""

    name: str
    best: Metrics
    test: Metrics | None = None


@dataclasses.dataclass(frozen=True)
class Results:
    """What a run ends with."""

    members: Sequence[MemberResult]
    examples: dict[str, int]  # rows evaluated, by split
    backbone: str
    weights: str  # of the backbone: full or int8
    fingerprints: dict[str, str]
    references: Sequence[Reference] | None = None  # None: the job does not train
    speed: Mapping[str, str | float | int | None] = dataclasses.field(default_factory=dict)
    training_examples: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The content of `summary.json`."""
        summary: dict[str, Any] = {"members": [_present(member) for member in self.members]}
        if self.references is not None:
            summary["references"] = [_present(reference) for reference in self.references]
        summary |= {"examples": self.examples, **self.speed}
        if self.training_examples is not None:
            summary["training_examples"] = self.training_examples
        return summary | {"backbone": self.backbone, "weights": self.weights, "fingerprints": self.fingerprints}


def _present(result: MemberResult | Reference) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(result).items() if value is not None}


def collect(run: Run) -> Results:
    """The results of a run that has ended; the best prompts are evaluated on the test split, if there is one."""
    experiment, members = run.experiment, member_results(run)
    experiment.evaluator.warnings.repeated()
    return Results(
        members=members,
        references=references(experiment) if run.config.references else [],
        examples=experiment.examples(),
        speed=run.speed.summary(),
        training_examples=experiment.training_examples(),
        backbone=experiment.backbone.name,
        weights=experiment.backbone.config.weights,
        fingerprints=run.fingerprints | {"sources": run.sources},
    )


def member_results(run: Run) -> list[MemberResult]:
    """One for each member, in order."""
    experiment, names = run.experiment, [member.name for member in run.experiment.members]
    tested: Sequence[Metrics | None] = [None] * len(names)
    if "test" in experiment.splits:
        tested = experiment.evaluator.evaluate(run.state.best, experiment.splits["test"])
    best_steps, failed = (steps.tolist() for steps in run.on_host((run.state.best_step, run.state.failed)))
    last_steps = last_evaluations(run)
    final = [run.log.at(name, step, "eval/") for name, step in zip(names, last_steps, strict=True)]
    main = experiment.main_metrics
    to_quality = steps_to_quality(dict(zip(names, final, strict=True)), run.log.records, main)
    return [
        MemberResult(
            name=name,
            steps=max(last_steps[m], failed[m]),
            final=led_by(main[m], final[m]),
            best=led_by(main[m], run.log.at(name, best_steps[m], "eval/")),
            best_step=best_steps[m],
            test=None if (test := tested[m]) is None else led_by(main[m], test),
            mutual_information=last_estimates(run.log, name),
            failed_at_step=failed[m] + 1 if failed[m] >= 0 else None,
            to_quality=to_quality[m],
        )
        for m, name in enumerate(names)
    ]


def led_by(main: str, values: Metrics) -> Metrics:
    """The metrics with the one that picks the best prompt first, which tables show; a failed member may have none."""
    return {main: values[main], **values} if main in values else values


def last_evaluations(run: Run) -> list[int]:
    """The step of each member's last evaluation."""
    return [run.log.last_step(member.name, "eval/") for member in run.experiment.members]


def last_estimates(log: MetricsLog, member: str) -> Metrics:
    """The last logged estimates of both information terms, nats."""
    values = log.at(member, log.last_step(member, "task_loss"), "")
    return {name: values[name] for name in ("head_mi", "representation_mi") if name in values}


def references(experiment: Experiment) -> list[Reference]:
    """The most frequent answer, and the backbone without a prompt; for each task, where members have several."""
    evaluator, prompts = experiment.backbone_alone()
    splits = experiment.splits.items()
    measured = {
        "most frequent answer": {name: evaluator.majority(split) for name, split in splits},
        "no prompt": {name: evaluator.evaluate(prompts, split, warn=False) for name, split in splits},
    }
    by_task: dict[str, list[int]] = {}
    for m, tasks in enumerate(experiment.tasks):
        by_task.setdefault(", ".join(task.id for task in tasks), []).append(m)
    return [
        _reference(f"{name}: {task}" if len(by_task) > 1 else name, values, members, experiment.main_metrics)
        for task, members in by_task.items()
        for name, values in measured.items()
    ]


def _reference(
    name: str, by_split: Mapping[str, Sequence[Metrics]], members: Sequence[int], main: Sequence[str]
) -> Reference:
    """The means over the members of one task, whose rows may differ."""
    of = {
        split: led_by(main[members[0]], metrics.mean([values[m] for m in members]))
        for split, values in by_split.items()
    }
    return Reference(name, of["eval"], of.get("test"))
