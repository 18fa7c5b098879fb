"""The job `pretrain`: makes the embedded backbone. It is the one job that trains all weights of a T5.

It trains a vocabulary, then span corruption of plain text, then templates of the held-in tasks mixed with span
corruption. The result is a Hugging Face directory, `<workdir>/backbone`, with two reports: `pretraining.json` on the
run and `validation.json` on the quality. Batches are a function of the step, so a run that is stopped and resumed ends
with the same weights, bit for bit.

config.json  metrics.jsonl  summary.json  vocabulary/  checkpoints/  backbone/
"""

from __future__ import annotations

import functools
import importlib.metadata
import itertools
import logging
import math
import os
import pathlib
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from flax import nnx
from jax.typing import ArrayLike
from tqdm import tqdm

from infoprompt_jax import files
from infoprompt_jax.data import rows
from infoprompt_jax.data.batches import prefetched
from infoprompt_jax.data.rows import Rows
from infoprompt_jax.data.selection import find_tasks
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.errors import Stopped, UserError
from infoprompt_jax.fleet import optimizers
from infoprompt_jax.pretraining import mixture, validation, vocabulary
from infoprompt_jax.t5 import convert, scoring
from infoprompt_jax.t5.model import PAD, T5, T5Config
from infoprompt_jax.t5.tokenizer import SENTINELS, Tokenizer, load_tokenizer
from infoprompt_jax.training.checkpoints import Checkpoints
from infoprompt_jax.training.interrupt import Interrupt
from infoprompt_jax.training.metrics_log import MetricsLog
from infoprompt_jax.training.workdir import Workdir

MEMBER = "pretraining"  # under which metrics.jsonl lists the one model there is
VOCABULARY_LINES = 50_000  # of plain text that the vocabulary is trained on
VOCABULARY_ROWS = 300  # of every task
LIBRARIES = ("jax", "flax", "optax", "sentencepiece", "tokenizers")

State = dict[str, Any]  # "params": the weights, "optimizer": its state
Line = Callable[[random.Random], str]  # makes a line of plain text

log = logging.getLogger(__name__)


def pretrain(config: ml_collections.ConfigDict, workdir: str | os.PathLike[str], line: Line | None = None) -> dict:
    """Pretrains as `config` says, into `workdir`; the summary, also of a run that was finished before.

    Args:
      config: `task.name` lists the data sets, which are local files or the generated world's.
      line: of plain text; None = the world's.

    Raises:
      UserError: the config, the data or the workdir do not fit, or the loss became NaN.
      Stopped: the process was told to stop; everything is saved.
    """
    directory = Workdir(workdir, config)
    summary = directory.finished()
    if summary is not None:
        return summary
    own = find_tasks(config, every_template=True)
    with directory.claim():
        draw = random.Random(config.seed)
        lines = [(line or world_line())(draw) for _ in range(config.pretrain.lines)]
        tokenizer = find_vocabulary(directory.path / "vocabulary", config, own, lines)
        found = [tokenize(task, config.task.train_split, config, tokenizer) for task in own]
        held_back = [tokenize(task, config.task.eval_split, config, tokenizer) for task in own]
        position = {"vocabulary": tokenizer.fingerprint, "data": rows.data_fingerprint(found)}
        with Interrupt() as interrupt:
            run = Run(config, directory.path, mixture.mixture(config, own, found, lines, tokenizer), position)
            run.train(interrupt)
        run.export(tokenizer)
        measured = validation.validate(directory.path / "backbone", own, held_back, config)
        files.write_json(directory.path / "backbone" / "validation.json", measured)
        summary = {"pretraining": run.account(), "validation": measured}
        files.write_json(directory.path / "summary.json", summary)
    return summary


def world_line() -> Line:
    from infoprompt_jax.nano import world

    return world.text


def tokenize(task: Task, split: str, config: ml_collections.ConfigDict, tokenizer: Tokenizer) -> Rows:
    return mixture.tokenize(task, split, tokenizer, files.cache_directory(config.data.cache_dir) / "rows", config.data)


def find_vocabulary(
    directory: pathlib.Path, config: ml_collections.ConfigDict, own: Sequence[Task], lines: Sequence[str]
) -> Tokenizer:
    """The run's vocabulary, trained on plain text, rendered tasks and templates if it is not there."""
    if not directory.exists():
        log.info("Training the vocabulary.")
        few = (itertools.islice(mixture.examples(task, config.task.train_split), VOCABULARY_ROWS) for task in own)
        rendered = (f"{example.input} {example.target}" for example in itertools.chain(*few))
        text = itertools.chain(lines[:VOCABULARY_LINES], rendered, vocabulary.template_lines())
        vocabulary.train(text, directory, config.pretrain.pieces)
    return load_tokenizer(directory)


def t5_config(config: ml_collections.ConfigDict) -> T5Config:
    sizes = config.pretrain
    return T5Config(
        vocab_size=sizes.pieces + len(SENTINELS),
        d_model=sizes.d_model,
        d_kv=sizes.d_kv,
        d_ff=sizes.d_ff,
        num_layers=sizes.num_layers,
        num_decoder_layers=sizes.num_decoder_layers,
        num_heads=sizes.num_heads,
        remat="none",  # small enough to keep everything
        unroll=max(sizes.num_layers, sizes.num_decoder_layers),
    )


def make_optimizer(config: ml_collections.ConfigDict) -> optax.GradientTransformation:
    """Adam behind a clip, by the schedule that members of a fleet have; a step is a share of its matrix's own size.

    Embeddings start a hundred times larger than the queries' weights: one absolute step size for all (AdamW) is too
    small for the ones or too large for the others.
    """
    train = config.train

    def rate(step: ArrayLike) -> jax.Array:
        schedule = optimizers.SCHEDULES.index(train.schedule)
        return train.learning_rate * optimizers.rate_factor(jnp.asarray(step), train.steps, train.warmup, schedule)

    clip = optax.clip_by_global_norm(train.clip_norm) if train.clip_norm > 0 else optax.identity()
    return optax.chain(
        clip,
        optax.scale_by_adam(b2=0.98),
        optax.scale_by_param_block_rms(),
        optax.add_decayed_weights(train.weight_decay),
        optax.scale_by_learning_rate(rate),
        optax.stateless(keep_content_heads),
    )


def keep_content_heads(updates: Any, _: Any = None) -> Any:
    """Leaves the relative bias of every second head as it began: near zero, so that it attends by content alone.

    T5 has one bias for all layers of a stack. Left free, every head becomes local within a few thousand steps, and
    none is left to find what a question asks for elsewhere in the text.
    """

    def masked(path: Any, update: jax.Array) -> jax.Array:
        if "relative_bias" not in jax.tree_util.keystr(path):
            return update
        return update * jnp.expand_dims(jnp.arange(update.shape[-1]) % 2 == 0, 0)

    return jax.tree_util.tree_map_with_path(masked, updates)


def losses(model: T5, batch: dict[str, jax.Array]) -> jax.Array:
    """Cross-entropy of each row [B], nats: a mean over its target's tokens, so that short answers count in full."""
    targets_BT = batch["targets"]
    logits_BTV = model.logits(model.decode(targets_BT, *model.encode(batch["inputs"])))
    tokens_B = jnp.sum(targets_BT != PAD, axis=1)
    return -scoring.token_log_probabilities(logits_BTV, targets_BT).sum(axis=1) / tokens_B


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def step(
    graph: nnx.GraphDef, optimizer: optax.GradientTransformation, state: State, batch: dict[str, jax.Array]
) -> tuple[State, dict[str, jax.Array]]:
    """One update of all weights, and the losses it was made for: over all rows, and over those of either kind."""

    def loss(params: nnx.State) -> tuple[jax.Array, jax.Array]:
        loss_B = losses(nnx.merge(graph, params), batch)
        return loss_B.mean(), loss_B

    (mean, loss_B), gradients = jax.value_and_grad(loss, has_aux=True)(state["params"])
    updates, optimizer_state = optimizer.update(gradients, state["optimizer"], state["params"])
    kinds = {"denoising_loss": batch["denoising"], "task_loss": ~batch["denoising"]}
    metrics = {name: jnp.sum(loss_B * rows_B) / rows_B.sum() for name, rows_B in kinds.items()}
    metrics |= {"loss": mean, "gradient_norm": optax.tree.norm(gradients)}
    return {"params": optax.apply_updates(state["params"], updates), "optimizer": optimizer_state}, metrics


class Run:
    """The model, its optimiser's state, its log and its checkpoints."""

    def __init__(
        self, config: ml_collections.ConfigDict, path: pathlib.Path, data: mixture.Mixture, position: dict[str, str]
    ) -> None:
        self.config, self.path, self.data, self.position = config, path, data, position
        self.model, self.optimizer = t5_config(config), make_optimizer(config)
        self.graph, params = nnx.split(T5(self.model, nnx.Rngs(config.seed)))
        self.state: State = {"params": params, "optimizer": self.optimizer.init(params)}
        self.checkpoints = Checkpoints(path / "checkpoints")
        self.start, self.seconds = 0, 0.0
        restored = self.checkpoints.restore(self.state, position)
        if restored is not None:
            self.state, self.start, self.seconds = restored[0], restored[1]["step"], restored[1]["seconds"]
            log.info("Resuming from step %d.", self.start)
        self.log = MetricsLog.resume(path / "metrics.jsonl", self.start, config.train.tensorboard)
        self.pending: tuple[int, dict[str, jax.Array]] | None = None

    def train(self, interrupt: Interrupt) -> None:
        """Runs until the last step."""
        config, since = self.config.train, time.monotonic() - self.seconds
        batches = prefetched(self.data.batch, self.start, config.steps, max(1, self.config.data.threads))
        for number in tqdm(range(self.start, config.steps + 1), initial=self.start, total=config.steps, disable=None):
            # Order: save the state with its position, step, log the step before.
            last, self.seconds = number == config.steps, time.monotonic() - since
            if last or interrupt.requested or (config.save_every and number % config.save_every == 0):
                self.save(number)
            if last:
                return
            if interrupt.requested:
                raise Stopped(f"Stopped at step {number} of {config.steps}; the same command resumes.")
            self.state, metrics = step(self.graph, self.optimizer, self.state, next(batches))
            self.flush()
            self.pending = (number + 1, metrics)

    def flush(self) -> None:
        """Waits for the previous step and logs it if it is due."""
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
            log.info("step %d: %s", number, ", ".join(f"{name} {value:.4f}" for name, value in known.items()))

    def save(self, number: int) -> None:
        self.flush()
        self.log.flush()
        self.checkpoints.save(number, self.state, {"step": number, "seconds": self.seconds, **self.position})

    def export(self, tokenizer: Tokenizer) -> None:
        """Writes `backbone/`, unless an earlier call has."""
        target = self.path / "backbone"
        if (target / "pretraining.json").exists():
            return
        flat = nnx.to_flat_state(self.state["params"])
        leaves = (("/".join(map(str, path)), np.asarray(variable[...])) for path, variable in flat)
        for leftover in target.glob("*"):
            leftover.unlink()
        convert.export(target, self.model, leaves, tokenizer.files)
        files.write_json(target / "pretraining.json", self.account())

    def account(self) -> dict[str, Any]:
        """How the backbone came about."""
        steps, data = self.config.train.steps, self.data
        prompted = data.stream.batch_size * (steps - data.first)
        return {
            "seed": self.config.seed,
            "steps": steps,
            "denoising_steps": data.first,
            "seconds": round(self.seconds, 1),
            "losses": {
                "denoising_phase": self.last(("denoising_loss",), data.first),
                "multitask_phase": self.last(("task_loss", "denoising_loss"), steps),
            },
            "examples": {"hard_prompts": prompted, "denoising": data.batch_size * steps - prompted},
            "data_fingerprint": self.position["data"],
            "device": str(jax.devices()[0].device_kind),
            "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
            "config": {group: self.config[group].to_dict() for group in ("pretrain", "train")},  # no one's paths
        }

    def last(self, names: Sequence[str], step: int, count: int = 10) -> dict[str, float]:
        """Means of the last `count` logged values up to a step, nats."""
        records = self.log.records.get(MEMBER, {})
        found = {name: [v for number, v in records.get(name, {}).items() if number <= step] for name in names}
        return {name: float(np.mean(values[-count:])) for name, values in found.items() if values}
