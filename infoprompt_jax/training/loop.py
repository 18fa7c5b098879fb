"""The training loop of a fleet. Each pass evaluates the state, saves it, runs a step and logs the step before.

Step k is dispatched before the metrics of step k - 1 are read, so the device does not wait for the host. The state is
evaluated and saved before it is stepped, and batches are a function of the step number: a run that is stopped at any
moment and resumed logs the same numbers as an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import logging
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from infoprompt_jax import files, hosts, memory, saved_config
from infoprompt_jax.batch import Batch
from infoprompt_jax.data.batches import complete, train_batches
from infoprompt_jax.data.rows import data_fingerprint
from infoprompt_jax.errors import Stopped
from infoprompt_jax.fleet.fleet import FleetState, Metrics
from infoprompt_jax.infoprompt.trainable import inference
from infoprompt_jax.progress import Progress, watched
from infoprompt_jax.t5 import partition
from infoprompt_jax.training import sources, trackers
from infoprompt_jax.training.checkpoints import Checkpoints
from infoprompt_jax.training.estimates import Estimates, has_noise, warn_of_fields
from infoprompt_jax.training.experiment import Experiment
from infoprompt_jax.training.features import Features
from infoprompt_jax.training.interrupt import Interrupt
from infoprompt_jax.training.metrics_log import MetricsLog, check_log
from infoprompt_jax.training.speed import Compilations, Speedometer

LOGGED = ("loss", "task_loss", "head_mi", "representation_mi", "kl", "gradient_norm", "learning_rate")
TERMS = ("head", "representation")
TOO_MUCH = (
    "lower train.batch_size, data.max_input_length or fleet.at_once, raise train.accumulate, or set "
    "backbone.remat='full'"
)
MOST_SHOWN = 8  # members whose metric is printed during the run

log = logging.getLogger(__name__)


class Run:
    """One training run: the experiment, the fleet's state, the log and the checkpoints in directory `path`."""

    def __init__(
        self, experiment: Experiment, path: pathlib.Path, state: FleetState, compilations: Compilations
    ) -> None:
        """Continues from the newest checkpoint in `path`, if there is one; else from `state`.

        Raises:
          UserError: the checkpoint belongs to another run, or the log is damaged.
        """
        self.experiment, self.path, self.state = experiment, path, state
        self.config = experiment.config.train
        backbone = experiment.backbone
        sharding = experiment.fleet.member_sharding
        self.hyper, self.keys = partition.place((experiment.hyper, experiment.keys), sharding)
        rows, length = self.config.batch_size * len(experiment.members), experiment.config.prompt.length
        self.speed = Speedometer(backbone.config, length, rows, compilations, self.config.task_loss)
        self.fingerprints = {
            "backbone": backbone.fingerprint,
            "data": data_fingerprint([rows for stream in experiment.streams for rows in stream.rows]),
            **experiment.evaluation_fingerprints(),
        }
        self.sources = sources.fingerprint(experiment.members, experiment.config)
        fields = saved_config.deciding(saved_config.content(experiment.config))
        self.position = self.fingerprints | experiment.order_fingerprints() | {"other_config_fields": fields}
        hosts.check_same("The backbone or the rows", self.position)
        self.checkpoints = Checkpoints(path / "checkpoints")
        metrics = path / "metrics.jsonl"
        restored = self.checkpoints.restore(
            self.state, self.position, lambda position: check_log(metrics, position.get("log"))
        )
        start, logged = -1, None
        if restored is not None:
            self.state, start, logged = restored[0], restored[1]["step"], restored[1].get("log")
            log.info("Resuming from step %d.", start)
        self.log = MetricsLog.resume(metrics, start, trackers.sinks(path, experiment.config), logged)
        self.estimates = Estimates()
        warn_of_fields(experiment.config, experiment.fleet.objective)
        self.pending: tuple[int, Metrics] | None = None  # a step that is not logged yet
        self.resumed = restored is not None
        # Evaluations up to and including this step are in the log; a former version's checkpoint has its own.
        self.evaluated = start if restored is None else restored[1].get("evaluated", start)
        # Done again, whatever the step: it may have been the last one of a run that has more steps now.
        self.unfinished = start if restored is not None and restored[1].get("evaluating") else None
        self.active = self.on_host(self.state.active)
        self.progress = Progress(
            max(start, 0), self.config.steps, rows, self.config.eval_every, lambda: compilations.seconds
        )

    def train(self, interrupt: Interrupt) -> None:
        """Runs until the last step, or until no member is active, and shows the progress.

        Raises:
          Stopped: `interrupt` was requested; everything is saved but the head start, which is done again.
        """
        with contextlib.closing(self.log), self.progress:
            self._train(interrupt)

    def _train(self, interrupt: Interrupt) -> None:
        config, start = self.config, int(self.state.step)
        if not self.resumed:
            self.head_start(interrupt)
        batches = self.batches(start, interrupt)
        for step in range(start, config.steps + 1):
            # Order: evaluate the state as it stands, save it with its data position, step, log the step before.
            last = step == config.steps or not self.active.any()
            if last or step == self.unfinished or (config.eval_every and step % config.eval_every == 0):
                self.evaluate(step, interrupt)
                last = last or not self.active.any()
            stop = not last and interrupt.requested()
            if last or stop or (config.save_every and step % config.save_every == 0):
                self.save(step)
            if last:
                return
            if stop:
                raise Stopped(f"Stopped at step {step} of {config.steps}; the same command resumes.")
            if step == start:
                self.progress.begin()
            self.speed.begin()
            batch = next(batches)
            self.speed.fetched()
            placed, norms = self.experiment.fleet.place(batch), None
            if config.eval_every and step % config.eval_every == 0:
                with self.speed.pause(), self.progress.pause():
                    norms = self.gradient_norms(placed, batch["inputs"].shape)
            self.state, values = memory.run(
                self.experiment.fleet.step,
                (self.state, self.experiment.backbone.frozen, placed, self.hyper, self.keys),
                batch["inputs"].shape,
                f"A training step on inputs of {batch['inputs'].shape[-1]} tokens",
                TOO_MUCH,
            )
            self.log_pending()
            if norms is not None:  # read now: the device computed them while the step's program was made
                with self.speed.pause(), self.progress.pause():
                    self.log_gradient_shares(step, norms)
            self.pending = (step + 1, values)
            self.speed.count(batch)

    def batches(self, start: int, interrupt: Interrupt) -> Iterator[Batch[np.ndarray]]:
        """This host's batches from step `start` on, with cached features if the objective reads them.

        Raises:
          Stopped: `interrupt` was requested before all features were there.
        """
        experiment, data, share = self.experiment, self.experiment.config.data, self.share()
        batches = train_batches(
            experiment.streams,
            start,
            self.config.steps,
            data.buckets,
            data.max_input_length,
            data.threads,
            **share,
        )
        if not (experiment.fleet.objective.needs_features and experiment.config.infoprompt.cache_features):
            return batches
        width, source = experiment.backbone.config.d_model, f"{experiment.backbone.fingerprint}-"
        buckets, size = complete(data.buckets, data.max_input_length), self.config.eval_batch_size
        # The workdir in a bucket may have been another run's before.
        directory = files.kept_here(self.path / "features", f"{self.position['other_config_fields']} {size}")
        features = Features(directory, experiment.streams, width, source)

        def heed() -> None:
            if interrupt.requested():
                raise Stopped("Stopped while features without a prompt were computed; the same command goes on.")

        features.fill(experiment.fleet, experiment.backbone, self.config.steps, buckets, size, heed)
        members = share.get("members")
        relative = experiment.config.infoprompt.noise == "relative" and has_noise(experiment.config)

        def with_features(batch: Batch[np.ndarray]) -> Batch[np.ndarray]:
            batch = {**batch, "features": features.gather(batch["row"], members)}
            return {**batch, "spread": features.spread(batch["row"], members)} if relative else batch

        return map(with_features, batches)

    def on_host(self, tree: Any) -> Any:
        """A part of the state in NumPy's arrays, with the values of all members."""
        return partition.on_host(tree, self.experiment.backbone.mesh)

    def share(self) -> dict[str, np.ndarray]:
        """What this process reads of a batch: its devices' members, or their places in each member's rows."""
        fleet, count = self.experiment.fleet, len(self.experiment.members)
        if fleet.over == "members":
            return {"members": partition.process_places(fleet.mesh, count)}
        return {"places": partition.process_places(fleet.mesh, self.config.batch_size)}

    def log_pending(self) -> None:
        """Waits for the previous step, logs and shows it if that is due, and reports the members that it stopped."""
        if self.pending is None:
            return
        step, metrics = self.pending
        values: dict[str, np.ndarray] = self.on_host(metrics)
        self.pending = None
        self.report_stopped(values, f"at step {step}", "or the weights of infoprompt")
        self.active = values["active"] & values["finite"]
        if self.config.log_every and step % self.config.log_every == 0:
            for m in np.flatnonzero(self.active):
                names = (field for field in LOGGED if field in values and self.is_trained(field, int(m)))
                self.log.write(step, self.experiment.members[m].name, {field: values[field][m] for field in names})
                self.observe(int(m), values)
        if self.active.any():
            self.progress.report(step, float(values["loss"][self.active].mean()), self.speed.mfu())

    def report_stopped(self, values: dict[str, np.ndarray], where: str, remedy: str) -> None:
        """Logs the members that a step has stopped; `values` are its metrics."""
        for m in np.flatnonzero(values["active"] & ~values["finite"]):
            log.error(
                "%s stopped %s: its loss or gradient was not finite; its last finite prompt is kept. "
                "Lower train.learning_rate, %s.",
                self.experiment.members[m].name,
                where,
                remedy,
            )

    def is_trained(self, field: str, member: int) -> bool:
        """False for an estimate whose term has weight 0: its critic is not trained, so it estimates nothing."""
        weights = {"head_mi": self.experiment.hyper.gamma, "representation_mi": self.experiment.hyper.beta}
        return field not in weights or bool(weights[field][member] > 0)

    def observe(self, member: int, values: dict[str, np.ndarray]) -> None:
        """Has the member's estimates watched."""
        for term in TERMS:
            if f"{term}_mi" in values and self.is_trained(f"{term}_mi", member):
                nats, most = (float(values[f"{term}_{name}"][member]) for name in ("mi", "most"))
                self.estimates.observe(self.experiment.members[member], term, nats, most)

    def head_start(self, interrupt: Interrupt) -> None:
        """Takes the steps on the head loss alone, which read the first batches of training; nothing of it is saved.

        Raises:
          Stopped: `interrupt` was requested.
        """
        fleet, steps = self.experiment.fleet, int(self.experiment.hyper.head_steps.max())
        if not steps:
            return
        log.info("Each member begins with its infoprompt.head_steps on the head loss alone, at most %d.", steps)
        batches, before = self.batches(0, interrupt), None
        for number in watched(range(steps), "Head start, steps", steps):
            if interrupt.requested():
                raise Stopped(
                    f"Stopped in the head start, after {number} of {steps} steps, which are not saved; the same "
                    "command begins again."
                )
            batch = next(batches)
            shape, frozen = batch["inputs"].shape, self.experiment.backbone.frozen
            arguments = (self.state, frozen, fleet.place(batch), self.hyper, self.keys, np.int32(number))
            title = f"A step of the head start on inputs of {shape[-1]} tokens"
            self.state, metrics = memory.run(fleet.head_step, arguments, shape, title, TOO_MUCH)
            self.log_head_step(before)
            before = number + 1, metrics
        self.log_head_step(before)
        self.state = fleet.restart(self.state)

    def log_head_step(self, done: tuple[int, Metrics] | None) -> None:
        """Waits for a step of the head start and reports the members that it stopped."""
        if done is not None:
            values, where = self.on_host(done[1]), f"at step {done[0]} of its head start"
            self.report_stopped(values, where, "or infoprompt.head_steps")

    def gradient_norms(self, batch: Any, shape: tuple[int, ...]) -> Metrics | None:
        """Dispatches the norm of each term's gradient by what predictions need, [M]; None without a term."""
        fleet, experiment = self.experiment.fleet, self.experiment
        if not (fleet.objective.head_term or fleet.objective.representation_term):
            return None
        arguments = (self.state, experiment.backbone.frozen, batch, self.hyper, self.keys)
        title = f"The gradient shares on inputs of {shape[-1]} tokens"
        return memory.run(fleet.gradient_norms, arguments, shape, title, TOO_MUCH)

    def log_gradient_shares(self, step: int, dispatched: Metrics) -> None:
        """Waits for `gradient_norms` and logs each term's share: its norm over the sum of the norms."""
        norms: dict[str, np.ndarray] = self.on_host(dispatched)
        total_M = np.maximum(sum(norms.values()), 1e-30)
        for m in np.flatnonzero(self.active):
            terms = [term for term in TERMS if term in norms and self.is_trained(f"{term}_mi", int(m))]
            shares = {f"gradient_share/{term}": norms[term][m] / total_M[m] for term in terms}
            if shares:
                self.log.write(step, self.experiment.members[m].name, shares)

    def evaluate(self, step: int, interrupt: Interrupt) -> None:
        """Evaluates the state, unless the log holds the evaluation already, and keeps the best prompts in the state.

        Raises:
          Stopped: `interrupt` was requested; the state is saved, and a resumed run evaluates it.
        """
        self.log_pending()
        if step <= self.evaluated:
            return
        members, metrics, before = self.experiment.members, self.experiment.main_metrics, self.active
        if not self.speed.steps:
            log.info("Evaluating step %d, which compiles first.", step)

        def heed() -> None:
            if interrupt.requested():
                self.save(step, evaluating=True)
                raise Stopped(f"Stopped in the evaluation of step {step}; the same command resumes with it.")

        with self.progress.pause():
            results = self.experiment.evaluator.evaluate(
                inference(self.state.trainable),
                self.experiment.splits["eval"],
                warn=step > 0,  # untrained prompts often answer alike
                before_batch=heed,
            )
        norms = prompt_norms(self.on_host(self.state.trainable["prompt"]["value"]))
        for member, active, result, norm in zip(members, before, results, norms, strict=True):
            if active:
                self.log.write(step, member.name, {f"eval/{k}": v for k, v in result.items()} | {"prompt_norm": norm})
        metric = np.array([result[name] for result, name in zip(results, metrics, strict=True)], np.float32)
        log.info("step %d: %s", step, shown([member.name for member in members], metrics, metric.tolist()))
        self.state = self.experiment.fleet.record_best(self.state, metric, np.int32(self.config.patience))
        self.active = self.on_host(self.state.active)
        self.evaluated = step

    def save(self, step: int, evaluating: bool = False) -> None:
        """Saves the state, and first the log up to it; `evaluating`: before an evaluation that is not done."""
        self.log_pending()
        self.log.flush()
        position = {"step": step, **self.position, "evaluated": self.evaluated, "evaluating": evaluating}
        position["log"] = hosts.decided(self.log.content)
        self.checkpoints.save(step, self.state, position)


def shown(members: Sequence[str], metrics: Sequence[str], values: Sequence[float]) -> str:
    """`accuracy a 0.5000, b 0.7500, exact_match c 0.2500`: a metric is named where it is not that of the one before."""
    parts: list[str] = []
    for m, (member, metric, value) in enumerate(zip(members[:MOST_SHOWN], metrics, values, strict=False)):
        same = m and metric == metrics[m - 1]
        parts.append(f"{'' if same else metric + ' '}{member} {value:.4f}")
    return ", ".join([*parts, *["..."] * (len(values) > MOST_SHOWN)])


def prompt_norms(value_MPD: np.ndarray) -> list[float]:
    """The mean length of each member's prompt vectors."""
    value_MPD = value_MPD.astype(np.float64)  # the squares of a prompt that diverges overflow
    return np.linalg.norm(value_MPD, axis=-1).mean(axis=-1).tolist()
