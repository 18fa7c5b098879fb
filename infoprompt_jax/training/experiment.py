"""From a config to everything that a job needs: backbone, tasks, tokenised rows, members, fleet.

Cheap checks come first: fields, members, tasks and templates before the backbone is read, the data before anything
compiles.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
from collections.abc import Iterator, Mapping, Sequence

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from infoprompt_jax import hosts, memory
from infoprompt_jax.data import row_warnings
from infoprompt_jax.data.batches import WINDOW, Shapes, Stream, bucket_lengths
from infoprompt_jax.data.rows import (
    Rows,
    combined_fingerprint,
    content_fingerprint,
    data_fingerprint,
    order_fingerprint,
)
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.errors import UserError
from infoprompt_jax.evaluation.evaluator import Evaluator, Split
from infoprompt_jax.fleet import at_once
from infoprompt_jax.fleet.assembly import assemble, compiled_once, split_over
from infoprompt_jax.fleet.fleet import Fleet, FleetState
from infoprompt_jax.fleet.members import Member, expand
from infoprompt_jax.infoprompt.hyper import Hyper
from infoprompt_jax.infoprompt.objective import Objective
from infoprompt_jax.infoprompt.trainable import Trainable
from infoprompt_jax.t5 import partition
from infoprompt_jax.t5.backbone import Backbone, load_backbone
from infoprompt_jax.training import overlap, prompt_config, recorded
from infoprompt_jax.training.initial import initial_trainable
from infoprompt_jax.training.tokenized_splits import TokenizedSplits

TITLES = {"eval": "evaluation_data", "test": "test_data"}  # of splits, in fingerprints

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The parts of a job; `splits` holds "eval" and, if the config names a test split, "test"."""

    config: ml_collections.ConfigDict
    backbone: Backbone
    members: list[Member]
    tasks: list[tuple[Task, ...]]  # of each member
    streams: list[Stream]  # empty unless the job trains
    splits: dict[str, Split]
    fleet: Fleet
    evaluator: Evaluator
    hyper: Hyper[np.ndarray]
    keys: jax.Array  # [M]

    def initial_state(self) -> FleetState:
        """The fleet before its first step: every member's prompt from its own seed and initialiser."""
        trainables = [
            initial_trainable(member, member_tasks, self.backbone, self.fleet.objective, self.choices, key)
            for member, member_tasks, key in zip(self.members, self.tasks, self.keys, strict=True)
        ]
        return self.fleet.init(trainables)

    def backbone_alone(self) -> tuple[Evaluator, Trainable]:
        """What evaluates the backbone without anything that is trained, and the members' trees for it."""
        value_MPD = np.zeros((len(self.members), 0, self.backbone.config.d_model), np.float32)
        prompts: Trainable = {"prompt": {"value": partition.place(value_MPD, self.fleet.member_sharding)}}
        return dataclasses.replace(self.evaluator, fleet=alone(self.fleet)), prompts

    def examples(self) -> dict[str, int]:
        """The number of rows that each split is evaluated on, by the split's name in the config."""
        names = {"eval": self.config.task.eval_split, "test": self.config.task.test_split}
        return {names[key]: split.examples(self.config.task.eval_limit) for key, split in self.splits.items()}

    def evaluation_fingerprints(self) -> dict[str, str]:
        """Fingerprints of the evaluated rows: a resumed run must evaluate on the same ones."""
        return {
            TITLES[key]: data_fingerprint(rows for member in split.rows for rows in member)
            for key, split in self.splits.items()
        }

    def order_fingerprints(self) -> dict[str, str]:
        """Fingerprints of which member reads which rows, and of these rows as this version reads them.

        Two data sets, or templates, may have changed places.
        """
        of_members = {"data": [stream.rows for stream in self.streams]}
        of_members |= {TITLES[key]: [*split.rows] for key, split in self.splits.items()}
        orders = {f"order_of_{title}": order_fingerprint(rows) for title, rows in of_members.items()}
        windows = [stream.window_batches for stream in self.streams]
        if min(windows, default=WINDOW) < WINDOW:  # former versions had longer ones
            orders["order_of_data"] = combined_fingerprint(orders["order_of_data"], *windows)
        return orders | {f"contents_of_{title}": content_fingerprint(rows) for title, rows in of_members.items()}

    def training_examples(self) -> int:
        """The number of rows to train on; a row counts once, with however many templates it is rendered."""
        counts: dict[str, int] = {}
        for member_tasks, stream in zip(self.tasks, self.streams, strict=True):
            for task, numbers in zip(member_tasks, stream.numbers, strict=True):
                counts[task.name] = max(counts.get(task.name, 0), len(numbers))
        return sum(counts.values())

    @property
    def main_metrics(self) -> list[str]:
        """The metric that picks each member's best prompt."""
        return main_metrics(self.config, self.tasks)

    @property
    def choices(self) -> int:
        """The number of answer choices of the widest task, which is the number of a verbalizer's rows."""
        everything = [*_rows(self.splits)]
        everything += [rows for stream in self.streams for rows in stream.rows]
        return max(rows.max_choices for rows in everything)


def build(config: ml_collections.ConfigDict, backbone: Backbone | None = None) -> Experiment:
    """All parts of a job.

    Args:
      config: checked by `settings.check`.
      backbone: the one that the config names, if it is loaded; None = it is loaded.

    Raises:
      UserError: a member, task, template, split, row, backbone or prompt does not fit.
    """
    members = [prompt_config.with_prompt_of(member) for member in expand(config)]
    mesh = backbone.mesh if backbone else configured_mesh(config)
    check_members(config, len(members), mesh)
    member_tasks = [recorded.tasks(member.config) for member in members]
    backbone = backbone or configured_backbone(config, mesh)
    tokenized = TokenizedSplits(config, backbone)
    streams = (
        [tokenized.stream(m, t) for m, t in zip(members, member_tasks, strict=True)] if config.job == "train" else []
    )
    splits = evaluation_splits(config, member_tasks, tokenized)
    overlap.warn(config, member_tasks, streams, splits)
    rows = [*(part for stream in streams for part in stream.rows), *_rows(splits)]
    fleet, hyper, keys = assemble(config, members, backbone, members_at_once(config, len(members), backbone, rows))
    fleet = fleet if config.prompt.length else alone(fleet)
    check_task_loss(fleet.objective, list(itertools.chain(*member_tasks)))
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
    return Experiment(config, backbone, members, member_tasks, streams, splits, fleet, evaluator, hyper, keys)


def alone(fleet: Fleet) -> Fleet:
    """The fleet whose members predict with the backbone's head, and not through parts that are untrained."""
    objective = dataclasses.replace(fleet.objective, task_loss="lm", kind="static", variational=False)
    return compiled_once(dataclasses.replace(fleet, objective=objective))


def members_at_once(config: ml_collections.ConfigDict, members: int, backbone: Backbone, rows: Sequence[Rows]) -> int:
    """`fleet.at_once`; where that is 0, what fits into memory with the longest of these rows (`fleet.at_once`)."""
    if config.fleet.at_once or members == 1:
        return config.fleet.at_once
    devices, over = partition.row_devices(backbone.mesh), split_over(config.fleet.over, members, 0, backbone.mesh)
    shapes = Shapes.of(rows, config.data.buckets, config.data.max_input_length)
    inputs = int(bucket_lengths(np.array(max(part.max_input_length for part in rows)), shapes.buckets))

    def needed(batch: int, choices: int, backward: bool) -> int:
        of_device = max(batch // (devices if over == "rows" else 1), 1)
        shape = at_once.StepShape(of_device, inputs + config.prompt.length, shapes.target_length * choices)
        return at_once.step_bytes(backbone.config, shape, backward)

    each, train = 0, config.train
    if not partition.Layout(backbone.mesh).one_cpu:  # where predictions are made for few members, whatever this says
        each = needed(train.eval_batch_size, shapes.choices, backward=False)
    if config.job == "train":
        choices = shapes.choices if train.task_loss == "choices" else 1
        each = max(each, needed(train.batch_size // train.accumulate, choices, backward=True))
    most = hosts.decided(lambda: memory.per_device(backbone.mesh.devices.flat[0]))
    count = at_once.together(members, each, most, devices if over == "members" else 1)
    if count < members:
        log.info(
            "%d of the %d members compute together, as one needs about %.2g GB: fleet.at_once sets another number.",
            count,
            members,
            each / 1e9,
        )
    return count


def _rows(splits: Mapping[str, Split]) -> Iterator[Rows]:
    return (rows for split in splits.values() for member in split.rows for rows in member)


def evaluation_splits(
    config: ml_collections.ConfigDict, member_tasks: Sequence[Sequence[Task]], tokenized: TokenizedSplits
) -> dict[str, Split]:
    """The evaluation split and, if the config names one, the test split, of all members' tasks."""
    names = {"eval": config.task.eval_split, "test": config.task.test_split}
    splits = {
        name: Split(member_tasks, [tokenized.rows_of(of_member, split) for of_member in member_tasks])
        for name, split in names.items()
        if split or name == "eval"
    }
    for rows in {id(rows): rows for rows in _rows(splits)}.values():
        row_warnings.warn_of_limit(rows, config.task.eval_limit)
    return splits


def main_metrics(config: ml_collections.ConfigDict, member_tasks: Sequence[Sequence[Task]]) -> list[str]:
    """The metric that picks each member's best prompt: `task.metric`, or that of the member's first task."""
    return [config.task.metric or of_member[0].metric for of_member in member_tasks]


def configured_mesh(config: ml_collections.ConfigDict) -> Mesh:
    """The mesh of `config.mesh` over all devices; UserError where it does not fit them."""
    return partition.make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.model, config.mesh.slices)


def configured_backbone(config: ml_collections.ConfigDict, mesh: Mesh | None = None) -> Backbone:
    """Loads the backbone of `config.backbone`, on `config.mesh` if no mesh is given.

    Raises UserError as `load_backbone` does, and where there is no vocabulary.
    """
    log.info("Loading the backbone %s.", config.backbone.name)
    backbone = load_backbone(
        config.backbone.name,
        dtype=config.backbone.dtype,
        weights=config.backbone.weights,
        mesh=mesh or configured_mesh(config),
        revision=config.backbone.revision,
        tokenizer=config.backbone.tokenizer or None,
        takes_eos=config.backbone.takes_eos,
        dropout=config.backbone.dropout,
        remat=config.backbone.remat,
        unroll=config.backbone.unroll,
        attention=config.backbone.attention,
    )
    if backbone.vocabulary is None:
        raise UserError(
            f"backbone.name={backbone.name!r} has no vocabulary: set backbone.tokenizer to a spiece.model or its "
            "directory."
        )
    return backbone


def check_backbone(config: ml_collections.ConfigDict, backbone: Backbone | None) -> None:
    """Raises UserError for a loaded backbone that is not the one of the config, which the workdir and prompts name."""
    if backbone is None:
        return
    fields = ("dtype", "weights", "tokenizer", "dropout", "attention")
    given = {field: getattr(backbone.config, field) for field in fields}
    named = config.backbone.name
    if not (os.path.isdir(named) and os.path.isdir(backbone.name) and os.path.samefile(named, backbone.name)):
        given = {"name": backbone.name, **given}
    if config.backbone.takes_eos != "auto":
        given["takes_eos"] = "yes" if backbone.config.takes_eos else "no"
    for field, value in given.items():
        if config.backbone[field] != value:
            raise UserError(
                f"backbone.{field}={config.backbone[field]!r} in the config, but the backbone that is given has "
                f"{value!r}: set config.backbone.{field} to that, or give the backbone of the config."
            )


def check_members(config: ml_collections.ConfigDict, members: int, mesh: Mesh) -> None:
    """Raises UserError unless a fleet of so many members, or its batches, divide over the mesh."""
    devices = partition.row_devices(mesh)
    over = split_over(config.fleet.over, members, config.fleet.at_once, mesh)
    if config.job != "evaluate":
        check_divisible(config, "batch_size", (devices if over == "rows" else 1) * config.train.accumulate)
    check_divisible(config, "eval_batch_size", devices)


def check_divisible(config: ml_collections.ConfigDict, field: str, unit: int) -> None:
    """Raises UserError unless the field of `train` is a multiple of `unit`: of devices, times micro-batches."""
    if config.train[field] % unit:
        raise UserError(
            f"train.{field}={config.train[field]} does not divide into {unit} "
            "(mesh.data x mesh.fsdp devices, times train.accumulate for training): choose a multiple."
        )


def check_task_loss(objective: Objective, all_tasks: Sequence[Task]) -> None:
    """Raises UserError for a loss or a term that needs answer choices and a task that has none."""
    for task in all_tasks:
        if objective.task_loss == "verbalizer" and not task.choices:
            raise UserError(
                f"train.task_loss='verbalizer' needs the same answer choices in every row, but {task.id} has none: "
                "set train.task_loss to lm or choices."
            )
        free = task.metric == "exact_match"
        if free and (objective.task_loss == "choices" or objective.variational):
            raise UserError(
                f"{task.id} has no answer choices: set train.task_loss='lm' and infoprompt.variational=False."
            )
