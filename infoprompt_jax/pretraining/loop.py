"""The loop of pretraining: it saves the state, runs a step and logs the step before. It also exports the backbone."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import logging
import math
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx

from infoprompt_jax import checksums, files
from infoprompt_jax.data.batches import prefetched
from infoprompt_jax.errors import Stopped, UserError
from infoprompt_jax.pretraining import mixture, start
from infoprompt_jax.pretraining.held_out import Entries, HeldOut
from infoprompt_jax.pretraining.step import State, initial, make_optimizer, rates, step, t5_config
from infoprompt_jax.progress import Progress
from infoprompt_jax.t5 import convert
from infoprompt_jax.t5.backbone import Backbone
from infoprompt_jax.t5.tokenizer import Tokenizer
from infoprompt_jax.training import trackers
from infoprompt_jax.training.checkpoints import Checkpoints
from infoprompt_jax.training.interrupt import Interrupt
from infoprompt_jax.training.metrics_log import MetricsLog

MEMBER = "pretraining"  # the name of the one model in metrics.jsonl
LIBRARIES = ("jax", "flax", "optax", "sentencepiece", "tokenizers")

log = logging.getLogger(__name__)


class Run:
    """One pretraining run: the model, the optimiser, the log and the checkpoints in directory `path`.

    Args:
      held_out: what is measured as it goes, if anything.
      deadline: `time.monotonic()` at which it stops, even before the last step.
      begun: the T5 that it goes on from; None = random weights.
    """

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        path: pathlib.Path,
        data: mixture.Mixture,
        position: dict[str, str],
        tokenizer: Tokenizer,
        held_out: HeldOut | None = None,
        deadline: float = math.inf,
        begun: Backbone | None = None,
    ) -> None:
        self.config, self.path, self.data, self.position = config, path, data, position
        self.tokenizer, self.held_out, self.deadline = tokenizer, held_out, deadline
        self.model = t5_config(config)
        self.optimizer = make_optimizer(config.train.weight_decay, config.train.clip_norm)
        self.graph, params = initial(self.model, config.seed)
        if begun is not None:
            params = start.weights(begun)
        self.state: State = {"params": params, "optimizer": self.optimizer.init(params)}
        self.rates = rates(config.train)
        self.checkpoints = Checkpoints(path / "checkpoints")
        self.start, self.seconds = 0, 0.0
        restored = self.checkpoints.restore(self.state, position)
        if restored is not None:
            self.state, self.start, self.seconds = restored[0], restored[1]["step"], restored[1]["seconds"]
            log.info("Resuming from step %d.", self.start)
        self.log = MetricsLog.resume(path / "metrics.jsonl", self.start, trackers.sinks(path, config))
        self.pending: tuple[int, dict[str, jax.Array]] | None = None
        self.progress = Progress(self.start, config.train.steps, config.train.batch_size)
        self.done = self.start
        self.measured: tuple[int, Entries] | None = None  # the last measurement's step and accuracies

    def train(self, interrupt: Interrupt) -> None:
        """Runs until the last step, and shows the progress.

        Raises:
          UserError: the loss became NaN or infinite.
          Stopped: `interrupt` was requested; everything is saved.
        """
        with contextlib.closing(self.log), self.progress:
            self._train(interrupt)

    def _train(self, interrupt: Interrupt) -> None:
        config, since = self.config.train, time.monotonic() - self.seconds
        batches = prefetched(self.data.batch, self.start, config.steps, max(1, self.config.data.threads))
        for number in range(self.start, config.steps + 1):
            # Order: measure, save the state with its position, step, log the step before.
            self.done, self.seconds = number, time.monotonic() - since
            last = number == config.steps or time.monotonic() > self.deadline
            if number in self.measured_at or last:
                self.measure(number)
            stop = not last and interrupt.requested()
            if last or stop or (config.save_every and number % config.save_every == 0):
                self.save(number)
            if last:
                return
            if stop:
                raise Stopped(f"Stopped at step {number} of {config.steps}; the same command resumes.")
            if number == self.start:
                self.progress.begin()
            self.state, metrics = step(self.graph, self.optimizer, self.state, next(batches), self.rates[number])
            self.log_pending()
            self.pending = (number + 1, metrics)

    @functools.cached_property
    def measured_at(self) -> frozenset[int]:
        """The steps after which the held-out part is measured, evenly spaced; the last step is always measured."""
        count, steps = self.config.pretrain.measurements, self.config.train.steps
        return frozenset(round(steps * part / count) for part in range(1, count))

    def measure(self, number: int) -> None:
        """Logs the loss and the accuracies of the held-out part, and exports the weights as they are.

        A run that is resumed after a measurement has it in the log.
        """
        if self.held_out is None or not self.config.pretrain.measurements or self.log.at(MEMBER, number, "held_out_"):
            return
        self.log_pending()
        loss, entries = self.held_out.measure(self.graph, self.state["params"])
        self.measured = number, entries
        values = {"held_out_loss": loss} | {f"accuracy/{name}": entry["value"] for name, entry in entries.items()}
        self.log.write(number, MEMBER, values)
        log.info("step %d: %s", number, ", ".join(f"{name} {value:.4f}" for name, value in values.items()))
        if number < self.config.train.steps:
            with files.whole(self.path / "unfinished") as partial:
                self.write(partial)

    def accuracies(self) -> Entries:
        """The accuracies of the held-out part with the weights as they are, measured if they are not known."""
        if self.held_out is None:
            raise TypeError("A corpus has a held-out part.")
        if self.measured is not None and self.measured[0] == self.done:
            return self.measured[1]
        return self.held_out.accuracies(self.graph, self.state["params"])

    def log_pending(self) -> None:
        """Waits for the previous step, and logs it if it is due."""
        if self.pending is None:
            return
        number, metrics = self.pending
        self.pending = None
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        if not math.isfinite(values["loss"]):
            raise UserError(f"The loss became NaN or infinite at step {number}: lower train.learning_rate.")
        if self.config.train.log_every and number % self.config.train.log_every == 0:
            known = {name: value for name, value in values.items() if math.isfinite(value)}  # a kind without rows
            self.log.write(number, MEMBER, known)
        self.progress.report(number, values["loss"])

    def save(self, number: int) -> None:
        """Saves the state, and first the log up to it."""
        self.log_pending()
        self.log.flush()
        self.checkpoints.save(number, self.state, {"step": number, "seconds": self.seconds, **self.position})

    def export(self) -> None:
        """Writes `backbone/` as a Hugging Face directory, if it is not there."""
        directory = self.path / "backbone"
        if (directory / "pretraining.json").exists():
            return
        for leftover in directory.glob("*"):
            leftover.unlink()
        self.write(directory)

    def write(self, directory: pathlib.Path) -> None:
        """Writes the weights as they are, in the type that the model computes in, and the record of the run so far."""
        flat, dtype = nnx.to_flat_state(self.state["params"]), jnp.dtype(self.model.dtype)
        leaves = (("/".join(map(str, path)), np.asarray(variable[...]).astype(dtype)) for path, variable in flat)
        convert.export(directory, self.model, leaves, self.tokenizer.files)
        checksums.write_json(directory / "pretraining.json", self.account())

    def account(self) -> dict[str, Any]:
        """The record of the run that `pretraining.json` holds."""
        steps, data = self.done, self.data
        templated = data.stream.batch_size * max(steps - data.first, 0)
        return {
            "seed": self.config.seed,
            "steps": steps,
            "planned_steps": self.config.train.steps,
            "denoising_steps": data.first,
            "seconds": round(self.seconds, 1),
            "losses": {
                "denoising_phase": self.last(("denoising_loss",), data.first),
                "multitask_phase": self.last(("task_loss", "denoising_loss"), steps),
            },
            "examples": {"hard_prompts": templated, "denoising": data.batch_size * steps - templated},
            "data_fingerprint": self.position["data"],
            "device": str(jax.devices()[0].device_kind),
            "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
            # The other groups hold paths.
            "config": {group: self.config[group].to_dict() for group in ("pretrain", "train")},
        }

    def last(self, names: Sequence[str], step: int, count: int = 10) -> dict[str, float]:
        """Means of the last `count` values that are logged up to a step, in nats."""
        records = self.log.records.get(MEMBER, {})
        values = {name: [v for number, v in records.get(name, {}).items() if number <= step] for name in names}
        return {name: float(np.mean(logged[-count:])) for name, logged in values.items() if logged}
