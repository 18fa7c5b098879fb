"""From a config to everything a job needs: backbone, tasks, tokenised rows, members, fleet.

Cheap checks come first: fields, members, tasks and templates before the backbone is read, the data before anything
compiles.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from infoprompt_jax.data.batches import Stream, mixing_rates, subset
from infoprompt_jax.data.examples import examples, source_fingerprint
from infoprompt_jax.data.rows import Rows, data_fingerprint, tokenize
from infoprompt_jax.data.selection import find_tasks
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.errors import UserError
from infoprompt_jax.evaluation.evaluator import Evaluator, Split
from infoprompt_jax.files import cache_directory
from infoprompt_jax.fleet import optimizers
from infoprompt_jax.fleet.fleet import Fleet, FleetState, member_keys
from infoprompt_jax.fleet.members import Member, data_seed, expand, hyper_parameters
from infoprompt_jax.infoprompt.hyper import Hyper
from infoprompt_jax.infoprompt.objective import Objective
from infoprompt_jax.infoprompt.trainable import inference
from infoprompt_jax.t5 import partition
from infoprompt_jax.t5.backbone import Backbone, load_backbone
from infoprompt_jax.training.initial import initial_trainable

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The parts of a job, put together; `splits` holds "eval" and, where the config names one, "test"."""

    config: ml_collections.ConfigDict
    backbone: Backbone
    members: list[Member]
    tasks: list[tuple[Task, ...]]
    streams: list[Stream]  # empty unless the job trains
    splits: dict[str, Split]
    fleet: Fleet
    evaluator: Evaluator
    hyper: Hyper[np.ndarray]
    keys: jax.Array

    def initial_state(self) -> FleetState:
        """The fleet before its first step: every member's prompt from its own seed and initialiser."""
        trainables = [
            initial_trainable(member, member_tasks, self.backbone, self.fleet.objective, self.choices, key)
            for member, member_tasks, key in zip(self.members, self.tasks, self.keys, strict=True)
        ]
        return self.fleet.init(trainables)

    def unprompted(self) -> dict[str, dict[str, jax.Array]]:
        """What predictions of the backbone alone take: no prompt, and otherwise what the fleet starts from."""
        start = inference(self.initial_state().trainable)
        value_MPD = start["prompt"]["value"]
        return {name: start[name] for name in start if name != "generator"} | {"prompt": {"value": value_MPD[:, :0]}}

    def examples(self) -> dict[str, int]:
        """Rows that each split is evaluated on, by the split's name in the config."""
        names = {"eval": self.config.task.eval_split, "test": self.config.task.test_split}
        return {names[key]: split.examples(self.config.task.eval_limit) for key, split in self.splits.items()}

    def evaluation_fingerprints(self) -> dict[str, str]:
        """Of the rows that the prompts are evaluated on; rows that change midway would be two tasks in one log."""
        titles = {"eval": "evaluation_data", "test": "test_data"}
        return {
            titles[key]: data_fingerprint(rows for member in split.rows for rows in member)
            for key, split in self.splits.items()
        }

    def training_examples(self) -> int:
        """Rows there are to train on, each counted once however many hard prompts show it."""
        counts: dict[str, int] = {}
        for own, stream in zip(self.tasks, self.streams, strict=True):
            for task, numbers in zip(own, stream.numbers, strict=True):
                counts[task.name] = max(counts.get(task.name, 0), len(numbers))
        return sum(counts.values())

    @property
    def choices(self) -> int:
        """Answer choices of the widest task; a verbalizer has so many rows."""
        everything = [rows for split in self.splits.values() for member in split.rows for rows in member]
        everything += [rows for stream in self.streams for rows in stream.rows]
        return max(rows.max_choices for rows in everything)


def build(config: ml_collections.ConfigDict, backbone: Backbone | None = None) -> Experiment:
    """Puts a job together from a config that `settings.check` has passed, on its backbone if that is loaded already.

    Raises:
      UserError: a member, task, template, split, row, backbone or prompt that does not fit.
    """
    members = expand(config)
    mesh = backbone.mesh if backbone else partition.make_mesh(config.mesh.data, config.mesh.model)
    check_divisible(config, mesh.shape["data"])
    member_tasks = [find_tasks(member.config) for member in members]
    backbone = backbone or own_backbone(config, mesh)
    tokenized = TokenizedSplits(config, backbone)
    streams = (
        [tokenized.stream(m, t) for m, t in zip(members, member_tasks, strict=True)] if config.job == "train" else []
    )
    names = {"eval": config.task.eval_split, "test": config.task.test_split}
    splits = {
        name: Split(member_tasks, [[tokenized(task, split) for task in own] for own in member_tasks])
        for name, split in names.items()
        if split or name == "eval"
    }
    estimators = tuple(dict.fromkeys(member.config.infoprompt.estimator for member in members))
    hyper = hyper_parameters(members, estimators)
    objective = make_objective(config, backbone, estimators, hyper)
    check_task_loss(objective, [task for own in member_tasks for task in own])
    optimizer = optimizers.optimizer(config.train.optimizer, config.train.weight_decay, config.train.clip_norm)
    fleet = Fleet(objective, optimizer, config.train.steps, mesh, config.train.accumulate, config.fleet.at_once)
    evaluator = Evaluator(
        fleet,
        backbone,
        config.train.eval_batch_size,
        config.data.buckets,
        config.data.max_input_length,
        config.scoring.normalize,
        config.scoring.max_length,
        config.task.eval_limit,
    )
    keys = member_keys([member.config.seed for member in members])
    return Experiment(config, backbone, members, member_tasks, streams, splits, fleet, evaluator, hyper, keys)


def own_backbone(config: ml_collections.ConfigDict, mesh: Mesh | None = None) -> Backbone:
    """Loads what `config.backbone` names, on `config.mesh` if no mesh is given. Raises as `load_backbone` does."""
    return load_backbone(
        config.backbone.name,
        dtype=config.backbone.dtype,
        mesh=mesh or partition.make_mesh(config.mesh.data, config.mesh.model),
        revision=config.backbone.revision,
        tokenizer=config.backbone.tokenizer or None,
        takes_eos=config.backbone.takes_eos,
        dropout=config.backbone.dropout,
        remat=config.backbone.remat,
        unroll=config.backbone.unroll,
    )


class TokenizedSplits:
    """Tokenises each (task, split, limit) once, however many members share it."""

    def __init__(self, config: ml_collections.ConfigDict, backbone: Backbone) -> None:
        self.config, self.backbone = config, backbone
        self.directory = cache_directory(config.data.cache_dir) / "rows"
        self.found: dict[tuple[str, str, int], Rows] = {}
        self.streams: dict[tuple[Any, ...], Stream] = {}

    def __call__(self, task: Task, split: str, limit: int = 0) -> Rows:
        """The rows of a split; of `limit` of its rows, if that is positive."""
        key = (task.id, split, limit)
        if key not in self.found:
            self.found[key] = self._tokenize(task, split, limit)
        return self.found[key]

    def training(self, task: Task) -> Rows:
        """The rows that members train on, before `task.shots` of them are picked."""
        return self(task, self.config.task.train_split, self.config.task.train_limit)

    def _tokenize(self, task: Task, split: str, limit: int) -> Rows:
        data, tokenizer = self.config.data, self.backbone.tokenizer
        rows = tokenize(
            examples(task, split, limit),
            tokenizer,
            self.directory,
            source_fingerprint(task, split, limit),
            self.backbone.config.takes_eos,
            data.max_input_length,
            data.max_target_length,
            name=f"{task.id}, {split}",
        )
        if rows.truncated_inputs or rows.truncated_targets:
            log.warning(
                "%s: %d inputs and %d targets of %d were cut; see data.max_input_length and data.max_target_length.",
                rows.name,
                rows.truncated_inputs,
                rows.truncated_targets,
                len(rows),
            )
        return rows

    def stream(self, member: Member, member_tasks: Sequence[Task]) -> Stream:
        """The member's training batches: a mixture of its tasks, or so many shots of each. Paired members share it."""
        task, seed = member.config.task, data_seed(member.config, member.config.seed)
        key = (tuple(t.id for t in member_tasks), task.shots, seed)
        if key in self.streams:
            return self.streams[key]
        rows = [self.training(t) for t in member_tasks]
        shots = [subset(len(r), task.shots, seed, r.labels) for r in rows] if task.shots else None
        sizes = [len(r) for r in rows] if shots is None else [len(s) for s in shots]
        rates = mixing_rates(sizes, task.temperature, task.cap)
        self.streams[key] = Stream(rows, rates, seed, self.config.train.batch_size, shots)
        return self.streams[key]


def make_objective(
    config: ml_collections.ConfigDict, backbone: Backbone, estimators: tuple[str, ...], hyper: Hyper[np.ndarray]
) -> Objective:
    """The static half of the loss; a term that every member weighs with zero is left out of the program."""
    info = config.infoprompt
    critic = info.critic
    if critic == "auto":
        critic = "dot" if backbone.config.tied else "bilinear"
    return Objective(
        graph=backbone.graph,
        task_loss=config.train.task_loss,
        kind=config.prompt.kind,
        bottleneck=config.prompt.bottleneck,
        head_term=bool(np.any(hyper.gamma)),
        representation_term=bool(np.any(hyper.beta)),
        estimators=estimators,
        smile_tau=info.smile_tau,
        critic=critic,
        representation=info.representation,
        negatives=info.negatives,
        negatives_per_example=info.negatives_per_example or 4 * config.train.batch_size,
        noise_scale=info.noise_scale,
        variational=info.variational,
        latent=info.latent,
    )


def check_divisible(config: ml_collections.ConfigDict, devices: int) -> None:
    """Batches must divide over the data axis, and into micro-batches."""
    for field, unit in (("batch_size", devices * config.train.accumulate), ("eval_batch_size", devices)):
        if config.train[field] % unit:
            raise UserError(
                f"train.{field}={config.train[field]} does not divide into {unit} "
                "(mesh.data devices, times train.accumulate for training): choose a multiple."
            )


def check_task_loss(objective: Objective, found: Sequence[Task]) -> None:
    """The losses and terms that need answer choices refuse tasks without them."""
    for task in found:
        if objective.task_loss == "verbalizer" and not task.choices:
            raise UserError(
                f"train.task_loss='verbalizer' needs the same answer choices in every row, which {task.id} has not: "
                "set train.task_loss to lm or choices."
            )
        if objective.variational and objective.representation == "mean_encoder" and objective.task_loss != "verbalizer":
            raise UserError(
                "infoprompt.variational reads the decoder's state unless train.task_loss='verbalizer': set "
                "infoprompt.representation='decoder'."
            )
        free = task.metric == "exact_match"
        if free and (objective.task_loss == "choices" or objective.variational):
            raise UserError(
                f"{task.id} has no answer choices: set train.task_loss='lm' and infoprompt.variational=False."
            )
