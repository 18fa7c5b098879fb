"""This project's side of the measurements, put together as in a run: config, members, fleet.

Imported in a subject's process only; `infoprompt_jax` may be another checkout's there.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import ml_collections
import numpy as np
from flax import nnx

from bench.synthetic import SHAPES, Size
from bench.turns import Work
from infoprompt_jax import settings
from infoprompt_jax.fleet import assembly
from infoprompt_jax.fleet.fleet import Fleet, FleetState
from infoprompt_jax.fleet.members import expand
from infoprompt_jax.infoprompt import streams
from infoprompt_jax.infoprompt.hyper import Hyper
from infoprompt_jax.t5 import partition
from infoprompt_jax.t5.backbone import Backbone
from infoprompt_jax.t5.config import T5Config
from infoprompt_jax.t5.leaf import of_array
from infoprompt_jax.t5.model import T5
from infoprompt_jax.t5.placement import place
from infoprompt_jax.t5.tokenizer import load_tokenizer
from infoprompt_jax.training import speed


@dataclasses.dataclass(frozen=True)
class Setup:
    """A fleet on an untrained backbone of a published shape."""

    size: Size
    backbone: Backbone
    fleet: Fleet
    state: FleetState
    hyper: Hyper[jax.Array]
    keys: jax.Array
    batch: dict[str, np.ndarray]


def backbone(shape: str, remat: str, unroll: int, **fields: Any) -> Backbone:
    """An untrained backbone; `fields` of its T5Config differ from the shape's."""
    config = T5Config(**SHAPES[shape] | {"remat": remat, "unroll": unroll} | fields)
    drawn = dataclasses.replace(config, dtype="float32", weights="full")  # the same values, however they are held
    state = nnx.split(T5(drawn, nnx.Rngs(0)))[1]
    leaves = (of_array("/".join(map(str, path)), np.asarray(v[...])) for path, v in nnx.to_flat_state(state))
    mesh = partition.make_mesh()
    return Backbone(shape, config, *place(config, leaves, mesh)[:2], mesh, load_tokenizer("bytes"), "")


def setup(size: Size, fields: dict[str, Any]) -> Setup:
    """`fields` are those of the config that differ from its defaults, by their dotted names."""
    config = configured(size, fields)
    made = assemble(backbone(size.shape, config.backbone.remat, config.backbone.unroll), size, config)
    fleet, frozen = made.fleet, made.backbone.frozen
    if fleet.objective.needs_features and config.infoprompt.cache_features:
        made.batch["features"] = np.stack([fleet.features(frozen, rows) for rows in made.batch["inputs"]])
    return made


def configured(size: Size, fields: dict[str, Any]) -> ml_collections.ConfigDict:
    config = settings.defaults()
    sized = {"fleet.seeds": tuple(range(size.members)), "train.batch_size": size.batch}
    config.update_from_flattened_dict({**sized, **fields})
    return config


def assemble(frozen: Backbone, size: Size, config: ml_collections.ConfigDict) -> Setup:
    """A fleet on `frozen` before its first step; its batch holds no cached features."""
    fleet, hyper, keys = assembly.assemble(config, expand(settings.check(config)), frozen)
    values = np.random.default_rng(0).standard_normal((size.prompt_length, frozen.config.d_model)).astype(np.float32)
    state = fleet.init([fleet.objective.init(values, jax.random.fold_in(key, streams.INIT)) for key in keys])
    return Setup(size, frozen, fleet, state, jax.device_put(hyper), keys, size.host_batch())


def train_step(size: Size, fields: dict[str, Any]) -> Work:
    """One training step, the placing of its batch included."""
    made = setup(size, fields)
    states = [made.state]

    def step() -> None:
        placed = made.fleet.place(made.batch)
        states[0], metrics = made.fleet.step(states[0], made.backbone.frozen, placed, made.hyper, made.keys)
        jax.block_until_ready((states[0], metrics))

    rows = size.members * size.batch
    positions = size.input_length + size.prompt_length
    flops = speed.step_flops(made.backbone.config, rows * positions, rows * size.target_length)
    return _work(step, size, flops, made)


def score_choices(size: Size, shared: bool) -> Work:
    """Rank classification of one batch: one encoder pass for all choices, or a full forward pass for each choice."""
    made = setup(size, {"infoprompt.gamma": 0.0, "infoprompt.beta": 0.0})
    batch = made.batch
    if not shared:
        one_each = batch["choices"].reshape(size.members, -1, 1, size.target_length)
        batch = {"inputs": np.repeat(batch["inputs"], size.choices, axis=1), "choices": one_each}
    placed = made.fleet.place(batch)

    def step() -> None:
        jax.block_until_ready(made.fleet.scores(made.state.trainable, made.backbone.frozen, placed))

    rows = size.members * size.batch
    positions = size.input_length + size.prompt_length
    targets = rows * size.choices * size.target_length
    passes = 1 if shared else size.choices
    flops = speed.step_flops(made.backbone.config, passes * rows * positions, targets) / 2  # forward only
    return _work(step, size, flops, made)


def listened() -> Callable[[], dict[str, Any]]:
    """Counts compilations from now on; the result is a `Work`'s `finish`."""
    device, compilations = jax.devices()[0], speed.Compilations()
    listening = contextlib.ExitStack()
    listening.enter_context(compilations)

    def finish() -> dict[str, Any]:
        listening.close()
        memory = device.memory_stats() or {}
        known = {"peak_memory_bytes": memory["peak_bytes_in_use"]} if "peak_bytes_in_use" in memory else {}
        return {"compile_seconds": compilations.seconds, "compilations": compilations.count, **known}

    return finish


def _work(step: Any, size: Size, flops: float, made: Setup) -> Work:
    device = jax.devices()[0]
    peak = speed.peak_flops(device)
    facts = {
        **size.counts(),
        "model_flops": flops,
        "peak_flops": peak and peak * jax.device_count(),
        "device": device.device_kind,
        "devices": jax.device_count(),
    }
    return Work(step, facts, listened())
