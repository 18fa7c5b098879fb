"""This project, in bfloat16: a training step, rank classification and generation as a run compiles them."""

from __future__ import annotations

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from bench import ours
from bench.device.cases import NEW_TOKENS, Case
from bench.device.timing import repeated
from bench.synthetic import SHAPES
from infoprompt_jax.t5 import partition
from infoprompt_jax.t5.backbone import Backbone
from infoprompt_jax.t5.model import T5, T5Config
from infoprompt_jax.t5.tokenizer import load_tokenizer


@functools.cache
def weights(shape: str) -> tuple[dict[str, jax.Array], float]:
    """The weights of an untrained T5 by path, drawn on the device, and the seconds it took; cached for later cases."""
    check_accelerator(shape)
    since = time.perf_counter()
    config = T5Config(**SHAPES[shape], dtype="bfloat16")
    abstract = nnx.split(nnx.eval_shape(lambda: T5(config, nnx.Rngs(0))))[1]
    leaves = {"/".join(map(str, path)): variable.shape for path, variable in abstract.flat_state()}
    places = partition.shardings(leaves, partition.make_mesh())
    made = {}
    for index, (path, leaf_shape) in enumerate(leaves.items()):
        # Leaf by leaf: leaves of one shape share a small program, and only one leaf's random bits are in memory.
        key = jax.random.fold_in(jax.random.key(0), index)
        made[path] = jax.block_until_ready(drawn(key, leaf_shape, *moments(path, leaf_shape, config), places[path]))
    return made, time.perf_counter() - since


def check_accelerator(shape: str) -> None:
    """Raises RuntimeError if JAX has fallen back to the CPU, where published shapes take hours."""
    if shape != "toy" and jax.devices()[0].platform == "cpu":
        raise RuntimeError("JAX has no accelerator here: use --toy to try the command on a CPU")


@functools.partial(jax.jit, static_argnums=(1, 4))
def drawn(
    key: jax.Array, shape: tuple[int, ...], mean: float, deviation: float, place: jax.sharding.NamedSharding
) -> jax.Array:
    values = mean + deviation * jax.random.normal(key, shape)
    return jax.lax.with_sharding_constraint(values.astype(jnp.bfloat16), place)


def moments(path: str, shape: tuple[int, ...], config: T5Config) -> tuple[float, float]:
    """Mean and standard deviation of a weight in T5's initialisation, which keeps activations near 1."""
    if path.endswith("norm/scale"):
        return 1.0, 0.0
    if path == "embedding":
        return 0.0, 1.0
    if path.endswith(("head", "relative_bias/embedding")):
        return 0.0, config.d_model**-0.5
    return 0.0, (shape[-2] * (config.d_kv if path.endswith("query") else 1)) ** -0.5


def backbone(shape: str, remat: str, unroll: int) -> Backbone:
    config = T5Config(**SHAPES[shape], dtype="bfloat16", remat=remat, unroll=unroll)
    graph, abstract = nnx.split(nnx.eval_shape(lambda: T5(config, nnx.Rngs(0))))
    values = weights(shape)[0]
    leaves = [(path, variable.replace(values["/".join(map(str, path))])) for path, variable in abstract.flat_state()]
    mesh = partition.make_mesh()
    return Backbone(shape, config, graph, nnx.from_flat_state(leaves), mesh, load_tokenizer("bytes"), "")


def setup(case: Case, options: dict[str, Any] | None = None) -> ours.Setup:
    config = ours.configured(case.size, case.options if options is None else options)
    frozen = backbone(case.size.shape, config.backbone.remat, config.backbone.unroll)
    made = ours.assemble(frozen, case.size, config)
    if made.fleet.objective.needs_features and config.infoprompt.cache_features:
        # Their values do not affect the time of a step.
        rows = (case.size.members, case.size.batch, frozen.config.d_model)
        made.batch["features"] = np.random.default_rng(1).standard_normal(rows).astype(np.float32)
    return made


def train(case: Case) -> dict[str, Any]:
    """A training step; its batch is already on the device."""
    made = setup(case)
    placed = partition.place_batch(made.batch, made.backbone.mesh)
    fixed = (made.backbone.frozen, placed, made.hyper, made.keys)
    program, facts = compiled(made.fleet.step, made.state, *fixed)
    last: list[Any] = [made.state, None]

    def step() -> None:
        last[:] = program(last[0], *fixed)

    timed = repeated(step, lambda: jax.block_until_ready(last), case.seconds)
    if made.backbone.config.unroll >= made.backbone.config.num_layers:
        facts |= counted(program)
    return described(case) | facts | timed | {"loss": float(np.mean(last[1]["loss"]))} | peak()


def score(case: Case) -> dict[str, Any]:
    """Rank classification: one encoder pass for all choices if `shared`, else a full pass for each choice."""
    options = dict(case.options)
    shared = options.pop("shared")
    made, size = setup(case, options), case.size
    batch = {name: made.batch[name] for name in ("inputs", "choices")}
    if not shared:
        one_each = batch["choices"].reshape(size.members, -1, 1, size.target_length)
        batch = {"inputs": np.repeat(batch["inputs"], size.choices, axis=1), "choices": one_each}
    arguments = (made.state.trainable, made.backbone.frozen, partition.place_batch(batch, made.backbone.mesh))
    return forward(case, made.fleet.scores, arguments)


def generate(case: Case) -> dict[str, Any]:
    """Greedy decoding of `NEW_TOKENS` tokens a row."""
    made = setup(case)
    placed = partition.place_batch({"inputs": made.batch["inputs"]}, made.backbone.mesh)
    return forward(case, made.fleet.generate, (made.state.trainable, made.backbone.frozen, placed), NEW_TOKENS)


def forward(case: Case, jitted: Any, arguments: tuple[Any, ...], *static: Any) -> dict[str, Any]:
    program, facts = compiled(jitted, *arguments, *static)
    last: list[Any] = [None]

    def step() -> None:
        last[0] = program(*arguments)

    timed = repeated(step, lambda: jax.block_until_ready(last), case.seconds)
    return described(case) | facts | timed | peak()


def product(case: Case) -> dict[str, Any]:
    """Matrix products alone at the step's sizes: to the feed-forward width and back."""
    check_accelerator(case.size.shape)
    config = T5Config(**SHAPES[case.size.shape])
    rows = case.size.batch * (case.size.input_length + case.size.prompt_length)

    @jax.jit
    def drawn(key: jax.Array) -> tuple[jax.Array, ...]:
        shapes = ((rows, config.d_model), (config.d_model, config.d_ff), (config.d_ff, config.d_model))
        return tuple(jax.random.normal(jax.random.fold_in(key, i), s, jnp.bfloat16) for i, s in enumerate(shapes))

    return forward(case, jax.jit(lambda x, into, back: (x @ into) @ back), drawn(jax.random.key(0)))


def compiled(jitted: Any, *arguments: Any) -> tuple[Any, dict[str, Any]]:
    """The program, the seconds of its compilation, and its memory: arguments, results and temporaries.

    Raises:
      MemoryError: the program needs more memory than the device has; it is not run.
    """
    since = time.perf_counter()
    program = jitted.lower(*arguments).compile()
    facts: dict[str, Any] = {"compile_seconds": time.perf_counter() - since}
    if (sizes := program.memory_analysis()) is not None:
        parts = sizes.argument_size_in_bytes + sizes.output_size_in_bytes - sizes.alias_size_in_bytes
        facts["memory_bytes"] = parts + sizes.temp_size_in_bytes
        facts["weights_and_data_bytes"] = sizes.argument_size_in_bytes
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    if limit and facts.get("memory_bytes", 0) > limit:
        raise MemoryError(f"the program needs {facts['memory_bytes'] / 1e9:.1f} GB, the device has {limit / 1e9:.1f}")
    return program, facts


def counted(program: Any) -> dict[str, float]:
    """XLA's count for a program without loops over layers."""
    analysis = program.cost_analysis() or {}
    names = {"flops": "xla_flops", "bytes accessed": "xla_bytes"}
    return {name: float(analysis[key]) for key, name in names.items() if key in analysis}


def described(case: Case) -> dict[str, Any]:
    device = jax.devices()[0]
    built = {} if case.kind == "product" else {"backbone_seconds": weights(case.size.shape)[1]}
    return {"device": device.device_kind, "devices": jax.device_count(), "platform": device.platform} | built


def peak() -> dict[str, int]:
    """The peak memory of this process, which includes earlier cases."""
    memory = jax.local_devices()[0].memory_stats() or {}
    return {"process_peak_bytes": memory["peak_bytes_in_use"]} if "peak_bytes_in_use" in memory else {}
