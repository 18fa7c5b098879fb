"""The job `train`: the loop over steps, and how a run resumes, stops and ends."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import jax
import ml_collections
import numpy as np
from tqdm import tqdm

from infoprompt_jax import files
from infoprompt_jax.batch import Batch
from infoprompt_jax.data import counterparts
from infoprompt_jax.data.batches import complete, train_batches
from infoprompt_jax.data.rows import data_fingerprint
from infoprompt_jax.errors import Stopped, UserError
from infoprompt_jax.evaluation import metrics
from infoprompt_jax.fleet import fleet
from infoprompt_jax.infoprompt.trainable import inference
from infoprompt_jax.reports import curves, quality
from infoprompt_jax.t5 import partition
from infoprompt_jax.t5.backbone import Backbone
from infoprompt_jax.training.checkpoints import Checkpoints
from infoprompt_jax.training.experiment import Experiment, build
from infoprompt_jax.training.features import Features
from infoprompt_jax.training.metrics_log import MetricsLog
from infoprompt_jax.training.speed import Speedometer
from infoprompt_jax.training.workdir import Workdir, export_prompts

LOGGED = ("loss", "task_loss", "head_mi", "representation_mi", "kl", "gradient_norm", "learning_rate")

MOST_SHOWN = 8  # members whose metric is printed as the run goes

log = logging.getLogger(__name__)


class Run:
    """One training run: the experiment, its state, its log and its checkpoints."""

    def __init__(self, experiment: Experiment, workdir: Workdir, state: fleet.FleetState) -> None:
        self.experiment, self.workdir, self.state = experiment, workdir, state
        self.config = experiment.config.train
        backbone = experiment.backbone
        self.hyper = partition.place_replicated(experiment.hyper, backbone.mesh)
        self.keys = partition.place_replicated(experiment.keys, backbone.mesh)
        self.speed = Speedometer(backbone.config, experiment.config.prompt.length)
        self.position = {
            "backbone": backbone.fingerprint,
            "data": data_fingerprint([rows for stream in experiment.streams for rows in stream.rows]),
            **experiment.evaluation_fingerprints(),
        }
        self.checkpoints = Checkpoints(workdir.path / "checkpoints")
        restored = self.checkpoints.restore(self.state, self.position)
        start = -1
        if restored is not None:
            self.state, start = restored[0], restored[1]["step"]
            log.info("Resuming from step %d.", start)
        self.log = MetricsLog.resume(workdir.path / "metrics.jsonl", start, self.config.tensorboard)
        self.pending: tuple[int, dict[str, jax.Array]] | None = None
        self.evaluated = start  # evaluations up to and including this step are in the log
        self.active = np.asarray(self.state.active)

    def train(self, interrupt: Interrupt) -> None:
        """Runs until the last step, or until no member trains any more."""
        config, start = self.config, int(self.state.step)
        batches = self.batches(start)
        bar = tqdm(range(start, config.steps + 1), initial=start, total=config.steps, disable=None)
        for step in bar:
            # Order: evaluate the state as it stands, save it with its data position, step, log the step before.
            last = step == config.steps or not self.active.any()
            if last or (config.eval_every and step % config.eval_every == 0):
                self.evaluate(step)
                last = last or not self.active.any()
            if last or interrupt.requested or (config.save_every and step % config.save_every == 0):
                self.save(step)
            if last:
                return
            if interrupt.requested:
                raise Stopped(f"Stopped at step {step} of {config.steps}; the same command resumes.")
            since, compiling = time.monotonic(), self.speed.compiling
            batch = next(batches)
            waited = time.monotonic() - since
            placed = partition.place_batch(batch, self.experiment.backbone.mesh)
            self.state, values = self.experiment.fleet.step(
                self.state, self.experiment.backbone.frozen, placed, self.hyper, self.keys
            )
            self.flush()
            self.pending = (step + 1, values)
            self.speed.count(batch, waited, since, compiling)
            bar.set_postfix_str(self.speed.line())

    def batches(self, start: int) -> Iterator[Batch[np.ndarray]]:
        """Host batches from step `start` on, with cached features where the objective reads them."""
        experiment, data = self.experiment, self.experiment.config.data
        read = train_batches(
            experiment.streams,
            start,
            self.config.steps,
            data.buckets,
            data.max_input_length,
            data.threads,
            jax.process_index(),
            jax.process_count(),
        )
        if not (experiment.fleet.objective.needs_features and experiment.config.infoprompt.cache_features):
            return read
        width = experiment.backbone.config.d_model
        features = Features(self.workdir.path / "features", experiment.streams, width, f"{self.position['backbone']}-")
        buckets, size = complete(data.buckets, data.max_input_length), self.config.eval_batch_size
        features.fill(experiment.fleet, experiment.backbone, self.config.steps, buckets, size)
        return ({**batch, "features": features.gather(batch["row"])} for batch in read)

    def flush(self) -> None:
        """Waits for the previous step; logs it if it is due, and says which members it stopped."""
        if self.pending is None:
            return
        step, values = self.pending
        values = jax.device_get(values)
        self.pending = None
        for m in np.flatnonzero(values["active"]):
            name = self.experiment.members[m].name
            if not values["finite"][m]:
                log.error(
                    "%s stopped at step %d: its loss or gradient was not finite; its last finite prompt is kept. "
                    "Lower train.learning_rate, or the weights of infoprompt.",
                    name,
                    step,
                )
            elif self.config.log_every and step % self.config.log_every == 0:
                told = (field for field in LOGGED if self.tells(field, int(m), values))
                self.log.write(step, name, {field: values[field][m] for field in told})
        self.active = values["active"] & values["finite"]

    def tells(self, field: str, member: int, values: dict[str, np.ndarray]) -> bool:
        """Whether there is such a value; an estimate by a critic that the member does not train says nothing."""
        weight = {"head_mi": "gamma", "representation_mi": "beta"}.get(field)
        return field in values and (weight is None or getattr(self.experiment.hyper, weight)[member] > 0)

    def evaluate(self, step: int) -> None:
        """Evaluates the state, unless the log already holds it; the best prompt is kept in the state."""
        self.flush()
        if step <= self.evaluated:
            return
        started = self.active
        results = self.experiment.evaluator.evaluate(inference(self.state.trainable), self.experiment.splits["eval"])
        norms = prompt_norms(self.state.trainable)
        chosen = [main_metric(self.experiment, m) for m in range(len(results))]
        for member, active, result, norm in zip(self.experiment.members, started, results, norms, strict=True):
            if active:
                self.log.write(step, member.name, {f"eval/{k}": v for k, v in result.items()} | {"prompt_norm": norm})
        metric = np.array([r[name] for r, name in zip(results, chosen, strict=True)], np.float32)
        shown = ", ".join(
            f"{m.name} {v:.4f}" for m, v in zip(self.experiment.members[:MOST_SHOWN], metric, strict=False)
        )
        log.info("step %d: %s %s%s", step, chosen[0], shown, ", ..." if len(metric) > MOST_SHOWN else "")
        self.state = fleet.record_best(self.state, metric, np.int32(self.config.patience))
        self.active = np.asarray(self.state.active)
        self.evaluated = step

    def save(self, step: int) -> None:
        # The log is on disk before the checkpoint that counts on it.
        self.flush()
        self.log.flush()
        self.checkpoints.save(step, self.state, {"step": step, **self.position})

    def finish(self) -> dict[str, Any]:
        """Tests the best prompts, exports them, and writes the summary and the curves."""
        experiment, path = self.experiment, self.workdir.path
        tested = [{} for _ in experiment.members]
        if "test" in experiment.splits:
            tested = experiment.evaluator.evaluate(self.state.best, experiment.splits["test"])
        best_steps = np.asarray(self.state.best_step).tolist()
        last_steps = [self.log.last_step(member.name, "eval/") for member in experiment.members]
        best = [self.log.at(m.name, step, "eval/") for m, step in zip(experiment.members, best_steps, strict=True)]
        final = [self.log.at(m.name, step, "eval/") for m, step in zip(experiment.members, last_steps, strict=True)]
        export_prompts(path / "prompts", experiment, self.state.best, best_steps, best)
        export_prompts(path / "last_prompts", experiment, inference(self.state.trainable), last_steps, final)
        failed = np.asarray(self.state.failed).tolist()
        members = [
            {
                "name": m.name,
                "steps": max(last_steps[i], failed[i]),
                "final": final[i],
                "best": best[i],
                "best_step": best_steps[i],
            }
            | ({"test": tested[i]} if tested[i] else {})
            | {"mutual_information": self.last_estimates(m.name)}
            | ({"failed_at_step": failed[i] + 1} if failed[i] >= 0 else {})  # as the log counts: the first step is 1
            for i, m in enumerate(experiment.members)
        ]
        chosen = [main_metric(experiment, m) for m in range(len(members))]
        quality.add_steps_to_quality(members, self.log.records, chosen)
        summary = {
            "members": members,
            "references": self.references(),
            "examples": experiment.examples(),
            **self.speed.summary(),
        }
        summary["training_examples"] = experiment.training_examples()
        summary |= {"backbone": experiment.backbone.name, "fingerprints": self.position}
        curves.draw(path / "curves.png", self.log.records, [m.name for m in experiment.members])
        files.write_json(path / "summary.json", summary)
        return summary

    def references(self) -> list[dict[str, Any]]:
        """What prompts are to be better than, in the form of members; their mean over the fleet's members."""
        experiment = self.experiment
        if not self.config.references:
            return []
        unprompted, evaluator = experiment.unprompted(), experiment.evaluator
        found = {
            "most frequent answer": {name: evaluator.majority(split) for name, split in experiment.splits.items()},
            "no prompt": {
                name: evaluator.evaluate(unprompted, split, warn=False) for name, split in experiment.splits.items()
            },
        }
        return [
            {"name": name, "best": metrics.mean(results["eval"])}
            | ({"test": metrics.mean(results["test"])} if "test" in results else {})
            for name, results in found.items()
        ]

    def last_estimates(self, member: str) -> dict[str, float]:
        """The last logged estimates of both terms, in nats."""
        step = self.log.last_step(member, "task_loss")
        values = self.log.at(member, step, "")
        return {name: values[name] for name in ("head_mi", "representation_mi") if name in values}


def main_metric(experiment: Experiment, member: int) -> str:
    """The metric that picks a member's best prompt."""
    return experiment.config.task.metric or experiment.tasks[member][0].metric


def prompt_norms(trainable: Any) -> list[float]:
    """Mean length of each member's prompt vectors."""
    value_MPD = np.asarray(trainable["prompt"]["value"], np.float64)  # the squares of a prompt that diverges overflow
    return np.linalg.norm(value_MPD, axis=-1).mean(axis=-1).tolist()


class Interrupt:
    """Within the context, SIGTERM and Ctrl-C ask for a save and a stop at the next step; a second one ends at once.

    Contexts may be nested: what one was asked, the others are asked too, for none may have the time to heed it.
    """

    entered: ClassVar[list[Interrupt]] = []  # the outermost first
    requested = False

    def __enter__(self) -> Interrupt:
        self.requested = any(outer.requested for outer in self.entered)
        self.entered.append(self)
        self.previous = {number: signal.signal(number, self._request) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        self.entered.pop()
        for number, handler in self.previous.items():
            signal.signal(number, signal.SIG_DFL if self.requested and self.entered else handler)
        for outer in self.entered:
            outer.requested |= self.requested

    def _request(self, number: int, _: object) -> None:
        self.requested = True
        signal.signal(number, signal.SIG_DFL)


def train(
    config: ml_collections.ConfigDict, workdir: str | os.PathLike[str], backbone: Backbone | None = None
) -> dict[str, Any]:
    """Trains a fleet as `config` says, into `workdir`; the summary, also of a run that was finished before.

    `backbone` is the config's, where a caller has it in memory already.

    Raises:
      UserError: something in the config, the data, the backbone or the workdir does not fit; or no member is left.
      Stopped: the process was told to stop; everything is saved.
    """
    config = counterparts.resolve(config)
    directory = Workdir(workdir, config)
    summary = directory.finished()
    if summary is None:
        experiment = build(config, backbone)
        state = experiment.initial_state()
        with directory.claim():
            with Interrupt() as interrupt:
                run = Run(experiment, directory, state)
                run.train(interrupt)
            summary = run.finish()
    if all("failed_at_step" in member for member in summary["members"]):
        raise UserError("The loss of every member became NaN or infinite: lower train.learning_rate.")
    return summary
