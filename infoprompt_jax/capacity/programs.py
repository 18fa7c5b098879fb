"""The programs of a run, from shapes alone: the training step and the scoring of `fleet.fleet`, as a config makes them.

Weights, state and batch are `jax.ShapeDtypeStruct`s with the sharding that a run gives them, so that no array is made
and a program can be compiled for devices that are not there.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding

from infoprompt_jax import settings
from infoprompt_jax.errors import UserError
from infoprompt_jax.fleet.assembly import Assembly, assemble
from infoprompt_jax.fleet.fleet import FleetState
from infoprompt_jax.fleet.members import expand
from infoprompt_jax.t5 import convert, hub, partition
from infoprompt_jax.t5.backbone import Backbone
from infoprompt_jax.t5.config import T5Config
from infoprompt_jax.t5.placement import planned, skeleton
from infoprompt_jax.t5.published import PUBLISHED, SHAPES
from infoprompt_jax.training import speed

JOBS = ("train", "score")
# FLOPs of a training step beside those without recomputation, as XLA counts them: docs/performance.md.
RECOMPUTED = {"none": 1.0, "dots": 2.09 / 2.06, "narrow": 2.54 / 2.06, "full": 2.86 / 2.06}


@dataclasses.dataclass(frozen=True)
class Program:
    """One program of a run: what is compiled, and what its bounds are computed from."""

    lowered: jax.stages.Lowered
    mesh: Mesh
    rows: int  # of all members
    flops: float  # model FLOPs of one device
    again: float  # what it computes for each of them
    weights: int  # bytes of a device's own weights
    read: int  # bytes of weights that a device uses in a pass, with those that it gathers over `fsdp`
    passes: int  # over the weights


@dataclasses.dataclass(frozen=True)
class Lengths:
    """Tokens of an input and of a target, which is also the length of an answer choice, and the number of choices."""

    inputs: int = 512
    targets: int = 64
    choices: int = 2


def model_config(config: ml_collections.ConfigDict) -> T5Config:
    """The T5 that `backbone` describes: a published one by its hub id, or that of a directory.

    Raises:
      UserError: the name is neither.
    """
    part = config.backbone
    switches = {field: part[field] for field in ("dtype", "weights", "dropout", "remat", "unroll") if field in part}
    if part.name in PUBLISHED:
        return T5Config(**SHAPES[PUBLISHED[part.name]], **switches)
    try:
        return dataclasses.replace(convert.read_config(hub.find(part.name)), **switches)
    except UserError as error:
        raise UserError(f"--model={part.name} is no published T5, and not read as a directory: {error}") from error


def weight_bytes(sizes: T5Config) -> int:
    """The bytes of all weights of a T5."""
    leaves = jax.tree.leaves(skeleton(sizes, partition.Layout())[1])
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def backbone(config: ml_collections.ConfigDict, mesh: Mesh) -> Backbone:
    """A backbone whose weights are shapes on the mesh."""
    sizes = model_config(config)
    graph, state, shardings = planned(sizes, mesh)
    leaves = [
        (path, variable.replace(_shaped(variable, shardings["/".join(map(str, path))])))
        for path, variable in nnx.to_flat_state(state)
    ]
    return Backbone(config.backbone.name, sizes, graph, nnx.from_flat_state(leaves), mesh, None, "")


def program(config: ml_collections.ConfigDict, lengths: Lengths, job: str, mesh: Mesh) -> Program:
    """The program of a job, lowered for the mesh.

    Args:
      config: of a run; `train.batch_size` is the number of rows of each member, also when scoring.
      lengths: of the batch.
      job: one of JOBS.
      mesh: of real devices, or of described ones.

    Raises:
      UserError: the config, the mesh and the batch do not fit each other.
    """
    frozen = backbone(config, mesh)
    members = expand(settings.check(config))
    made = assemble(config, members, frozen)
    split = math.prod(mesh.shape[axis] for axis in partition.ROWS)
    if made.fleet.over == "rows" and config.train.batch_size % split:
        raise UserError(
            f"--batch={config.train.batch_size} does not divide over mesh.data x mesh.fsdp = {split} devices: choose a "
            f"multiple of {split}."
        )
    state = _state(config, made, frozen, lengths)
    batch = _batch(config, made, frozen, lengths, len(members))
    if job == "train":
        replicated = partition.replicated(mesh)
        lowered = made.fleet.step.lower(
            state, frozen.frozen, batch, _like(made.hyper, replicated), _like(made.keys, replicated)
        )
    else:
        lowered = made.fleet.scores.lower(state.trainable, frozen.frozen, batch)
    leaves = jax.tree.leaves(frozen.frozen)
    weights = sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)
    whole = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    return Program(
        lowered,
        mesh,
        rows=len(members) * config.train.batch_size,
        flops=_flops(config, frozen.config, lengths, job, len(members)) / mesh.size,
        again=RECOMPUTED[config.backbone.remat] if job == "train" else 1.0,
        weights=weights,
        read=max(weights, round(whole / mesh.shape["model"])),
        passes=2 if job == "train" else 1,
    )


def _flops(config: ml_collections.ConfigDict, sizes: T5Config, lengths: Lengths, job: str, members: int) -> float:
    rows = members * config.train.batch_size
    encoded = rows * (lengths.inputs + config.prompt.length)
    if job == "train":
        choices = lengths.choices if config.train.task_loss == "choices" else 1
        return speed.step_flops(sizes, encoded, rows * choices * lengths.targets)
    return speed.step_flops(sizes, encoded, rows * lengths.choices * lengths.targets) / 2  # forward only


def _state(config: ml_collections.ConfigDict, made: Assembly, frozen: Backbone, lengths: Lengths) -> FleetState:
    """The shapes of the state before the first step."""
    width, choices = frozen.config.d_model, lengths.choices

    def initial() -> FleetState:
        value, rows = jnp.zeros((config.prompt.length, width)), jnp.zeros((choices, width))
        return made.fleet.init([made.fleet.objective.init(value, made.keys[m], rows) for m in range(len(made.keys))])

    shapes = jax.eval_shape(initial)
    return jax.tree.map(lambda sharding, part: _like(part, sharding), made.fleet.state_sharding, shapes)


def _batch(
    config: ml_collections.ConfigDict, made: Assembly, frozen: Backbone, lengths: Lengths, members: int
) -> dict[str, Any]:
    """The shapes of a batch [M, B, ...], with the features that a run caches."""
    rows = (members, config.train.batch_size)
    shapes: dict[str, tuple[tuple[int, ...], type]] = {
        "inputs": ((*rows, lengths.inputs), np.int32),
        "targets": ((*rows, lengths.targets), np.int32),
        "choices": ((*rows, lengths.choices, lengths.targets), np.int32),
        "label": (rows, np.int32),
        "weight": (rows, np.float32),
        "row": (rows, np.int32),
    }
    if made.fleet.objective.needs_features and config.infoprompt.cache_features:
        shapes["features"] = ((*rows, frozen.config.d_model), np.float32)
    sharding = partition.split(frozen.mesh, made.fleet.split_axis)
    return {name: jax.ShapeDtypeStruct(shape, kind, sharding=sharding) for name, (shape, kind) in shapes.items()}


def _like(tree: Any, sharding: NamedSharding) -> Any:
    """The shapes of a pytree's arrays, with one sharding."""
    return jax.tree.map(lambda leaf: _shaped(leaf, sharding), tree)


def _shaped(leaf: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
