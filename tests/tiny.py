"""A tiny untrained backbone and made-up batches: what tests of the training step need."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh

from infoprompt_jax import settings
from infoprompt_jax.fleet import assembly
from infoprompt_jax.fleet.fleet import Fleet, FleetState, member_keys
from infoprompt_jax.fleet.members import expand
from infoprompt_jax.infoprompt.hyper import Hyper
from infoprompt_jax.t5 import partition
from infoprompt_jax.t5.backbone import Backbone, load_backbone

Tree = TypeVar("Tree")
P, B, L, T, C, V = 5, 4, 12, 4, 3, 259
HYPER = Hyper(
    beta=0.2,
    gamma=0.1,
    kappa=0.1,
    decay=0.0,
    temperature=0.1,
    head_steps=0,
    learning_rate=0.3,
    critic_learning_rate=1e-3,
    warmup=0.0,
    schedule=0,
    estimator=0,
)


def one_device() -> Mesh:
    return partition.make_mesh(devices=jax.devices()[:1])


def backbone(mesh: Mesh | None = None, **switches: Any) -> Backbone:
    return load_backbone("random", mesh=mesh or one_device(), **switches)


def tokens(rng: np.random.Generator, *shape: int, length: int) -> np.ndarray:
    """Token rows of random lengths from 1 to `length`, EOS last, then PAD."""
    ends = rng.integers(1, length + 1, shape)[..., None]
    places = np.arange(length).reshape(*(1,) * len(shape), length)
    rows = np.where(places < ends, rng.integers(3, V, (*shape, length)), 0)
    return np.where(places == ends - 1, 1, rows).astype(np.int32)


def batch(members: int = 1, rows: int = B, seed: int = 0, same: bool = False, length: int = L) -> dict[str, np.ndarray]:
    """A batch [M, B, ...]; with `same`, every member has the same rows."""
    rng = np.random.default_rng(seed)
    drawn = 1 if same else members
    choices = tokens(rng, drawn, rows, C, length=T)
    label = rng.integers(0, C, (drawn, rows)).astype(np.int32)
    made = {
        "inputs": tokens(rng, drawn, rows, length=length),
        "targets": np.take_along_axis(choices, label[..., None, None], axis=2)[:, :, 0],
        "choices": choices,
        "label": label,
        "weight": np.ones((drawn, rows), np.float32),
    }
    return {name: np.repeat(value, members, axis=0) if same else value for name, value in made.items()}


def hyper(*members: dict[str, Any]) -> Hyper[np.ndarray]:
    """`HYPER` with the members' changes, as arrays [M]; one unchanged member if there are none."""
    columns = Hyper(*zip(*[HYPER._replace(**member) for member in members or ({},)], strict=True))
    types = Hyper(*[np.float32] * 9, schedule=np.int32, estimator=np.int32)
    return Hyper(*map(np.array, columns, types))


def hyper_of_one(**fields: Any) -> Hyper[np.ndarray]:
    """Scalars, as `Objective.loss` reads them."""
    return Hyper(*(values[0] for values in hyper(fields)))


def fleet(
    model: Backbone,
    optimizer: str = "adafactor",
    accumulate: int = 1,
    steps: int = 100,
    over: str = "rows",
    at_once: int = 0,
    placebo: bool = False,
    **fields: Any,
) -> Fleet:
    """The fleet of the default config with a dot critic; `fields` of its objective are changed."""
    config = settings.defaults()
    config.train.update(optimizer=optimizer, accumulate=accumulate, steps=steps, batch_size=B)
    config.infoprompt.update(gamma=0.1, beta=0.2, critic="dot", placebo=placebo)
    made = assembly.assemble(config, expand(config), model).fleet
    objective = dataclasses.replace(made.objective, graph=assembly.member_graph(model, over), **fields)
    return assembly.compiled_once(dataclasses.replace(made, objective=objective, over=over, at_once=at_once))


def start(program: Fleet, model: Backbone, seeds: list[int]) -> FleetState:
    """Prompts from embeddings that the member's seed picks."""
    trainables = []
    for seed in seeds:
        ids = np.random.default_rng(seed).integers(3, V, (1, P))
        verbalizer = np.asarray(model.head_rows(np.arange(C) + 5))
        trainables.append(program.objective.init(np.asarray(model.embed(ids)[0]), jax.random.key(seed), verbalizer))
    return program.init(trainables)


def run(
    program: Fleet,
    model: Backbone,
    seeds: list[int],
    hypers: Hyper[np.ndarray],
    batches: list[dict[str, np.ndarray]],
) -> tuple[FleetState, dict[str, np.ndarray]]:
    """The state after all batches, and every step's metrics as [steps, M]."""
    state, logged = start(program, model, seeds), []
    hypers, keys = jax.device_put((hypers, member_keys(seeds)), program.member_sharding)
    for rows in batches:
        state, metrics = program.step(state, model.frozen, program.place(rows), hypers, keys)
        logged.append(jax.device_get(metrics))
    return state, {name: np.stack([step[name] for step in logged]) for name in logged[0]}


def member(values: Tree, index: int) -> Tree:
    """One member's share of a batch or of hyper-parameters, as a fleet of one."""
    return jax.tree.map(lambda value: value[index : index + 1], values)
