"""This project, in bfloat16: a training step, rank classification and generation as a run compiles them."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from bench import ours
from bench.device.cases import NEW_TOKENS, Case
from bench.device.estimate import of_layers
from bench.device.timing import repeated
from bench.synthetic import SHAPES
from infoprompt_jax.t5 import convert, int8, partition
from infoprompt_jax.t5.backbone import Backbone
from infoprompt_jax.t5.config import T5Config
from infoprompt_jax.t5.model import T5
from infoprompt_jax.t5.tokenizer import load_tokenizer


@functools.cache
def weights(shape: str, held: str) -> tuple[dict[str, jax.Array], float]:
    """The weights of an untrained T5 by path, drawn on the device, and the seconds it took; cached for later cases.

    `held` is "full", in bfloat16, or "int8".
    """
    check_accelerator(shape)
    since = time.perf_counter()
    config = t5_config(shape, held)
    abstract = nnx.split(nnx.eval_shape(lambda: T5(config, nnx.Rngs(0))))[1]
    shapes = {"/".join(map(str, path)): variable.shape for path, variable in abstract.flat_state()}
    places = partition.shardings(shapes, partition.make_mesh())
    made = {}
    for index, (leaf, leaf_shape) in enumerate(convert.leaf_shapes(config).items()):
        # Leaf by leaf: leaves of one shape share a small program, and only one leaf's random bits are in memory.
        key, axis = jax.random.fold_in(jax.random.key(0), index), None if leaf in shapes else int8.summed_axis(leaf)
        paths = (leaf,) if axis is None else (f"{leaf}/values", f"{leaf}/scale")
        values = drawn(key, leaf_shape, *moments(leaf, leaf_shape, config), axis)
        made |= {path: jax.device_put(value, places[path]) for path, value in zip(paths, values, strict=True)}
        jax.block_until_ready(made)
    return made, time.perf_counter() - since


def t5_config(shape: str, held: str = "full", **fields: Any) -> T5Config:
    sizes: dict[str, Any] = SHAPES[shape] | {"dtype": "bfloat16", "weights": held} | fields
    return T5Config(**sizes)


def check_accelerator(shape: str) -> None:
    """Raises RuntimeError if JAX has fallen back to the CPU, where published shapes take hours."""
    if shape != "toy" and jax.devices()[0].platform == "cpu":
        raise RuntimeError("JAX has no accelerator here: use --toy to try the command on a CPU")


@functools.partial(jax.jit, static_argnums=(1, 4))
def drawn(
    key: jax.Array, shape: tuple[int, ...], mean: float, deviation: float, axis: int | None
) -> tuple[jax.Array, ...]:
    """A weight in bfloat16; as int8 values and their scales if products sum over `axis`."""
    values = mean + deviation * jax.random.normal(key, shape)
    return (values.astype(jnp.bfloat16),) if axis is None else int8.quantize(values, axis)


def moments(path: str, shape: tuple[int, ...], config: T5Config) -> tuple[float, float]:
    """Mean and standard deviation of a weight in T5's initialisation, which keeps activations near 1."""
    if path.endswith("norm/scale"):
        return 1.0, 0.0
    if path == "embedding":
        return 0.0, 1.0
    if path.endswith(("head", "relative_bias/embedding")):
        return 0.0, config.d_model**-0.5
    return 0.0, (shape[-2] * (config.d_kv if path.endswith("query") else 1)) ** -0.5


def module(config: T5Config, values: Mapping[str, jax.Array] | None) -> Backbone:
    """A backbone with these weights; without weights, with their shapes, for a program that is only compiled."""
    mesh = partition.make_mesh()
    graph, state = nnx.split(nnx.eval_shape(lambda: T5(config, nnx.Rngs(0))))
    if values is not None:
        leaves = [(path, variable.replace(values["/".join(map(str, path))])) for path, variable in state.flat_state()]
        state = nnx.from_flat_state(leaves)
    return Backbone("untrained", config, graph, state, mesh, load_tokenizer("bytes"), "")


def setup(case: Case, depth: int = 0) -> ours.Setup:
    """The case's fleet on its backbone; with a `depth`, on one of so many unrolled layers a stack, without weights."""
    options = {field: value for field, value in case.options.items() if field != "shared"}
    config, shape = ours.configured(case.size, options), case.size.shape
    held, switches = config.backbone.weights, {name: config.backbone[name] for name in ("remat", "attention")}
    if depth:
        sizes = {"num_layers": depth, "num_decoder_layers": depth, "unroll": depth}
        frozen = module(t5_config(shape, held, **switches, **sizes), None)
    else:
        frozen = module(t5_config(shape, held, **switches, unroll=config.backbone.unroll), weights(shape, held)[0])
    made = ours.assemble(frozen, case.size, config)
    if made.fleet.objective.needs_features and config.infoprompt.cache_features:
        # Their values do not affect the time of a step.
        rows = (case.size.members, case.size.batch, frozen.config.d_model)
        made.batch["features"] = np.random.default_rng(1).standard_normal(rows).astype(np.float32)
    return made


def train(case: Case) -> dict[str, Any]:
    """A training step; its batch is already on the device."""
    made = setup(case)
    jitted, (state, *fixed) = training(made)
    last: list[Any] = [state, None]

    def repeat(program: Any) -> list[Any]:
        last[:] = program(last[0], *fixed)
        return last

    facts = measured(case, jitted.lower(state, *fixed), repeat)
    if case.estimate:
        facts |= estimate(case, training)
    return facts | {"loss": float(np.mean(last[1]["loss"]))}


def training(made: ours.Setup) -> tuple[Any, tuple[Any, ...]]:
    """The jitted training step and its arguments."""
    placed = made.fleet.place(made.batch)
    return made.fleet.step, (made.state, made.backbone.frozen, placed, made.hyper, made.keys)


def score(case: Case) -> dict[str, Any]:
    """Rank classification: one encoder pass for all choices if `shared`, else a full pass for each choice."""
    size = case.size

    def scoring(made: ours.Setup) -> tuple[Any, tuple[Any, ...]]:
        batch = {name: made.batch[name] for name in ("inputs", "choices")}
        if not case.options["shared"]:
            one_each = batch["choices"].reshape(size.members, -1, 1, size.target_length)
            batch = {"inputs": np.repeat(batch["inputs"], size.choices, axis=1), "choices": one_each}
        placed = made.fleet.place(batch)
        return made.fleet.scores, (made.state.trainable, made.backbone.frozen, placed)

    facts = forward(case, *scoring(setup(case)))
    return facts | (estimate(case, scoring) if case.estimate else {})


def generate(case: Case) -> dict[str, Any]:
    """Greedy decoding of `NEW_TOKENS` tokens a row."""
    made = setup(case)
    placed = made.fleet.place({"inputs": made.batch["inputs"]})
    return forward(case, made.fleet.generate, (made.state.trainable, made.backbone.frozen, placed), NEW_TOKENS)


def forward(case: Case, jitted: Any, arguments: tuple[Any, ...], *static: Any) -> dict[str, Any]:
    return measured(case, jitted.lower(*arguments, *static), lambda program: program(*arguments))


def estimate(case: Case, program: Callable[[ours.Setup], tuple[Any, tuple[Any, ...]]]) -> dict[str, float]:
    """XLA's estimate of the case's program, which is a jitted function and its arguments."""

    def lowered(depth: int) -> Any:
        jitted, arguments = program(setup(case, depth))
        return jitted.lower(*arguments)

    return of_layers(SHAPES[case.size.shape]["num_layers"], lowered)


def measured(case: Case, lowered: Any, repeat: Callable[[Any], Any]) -> dict[str, Any]:
    """The seconds of `repeat(program)`, which starts the compiled program and returns what to wait for."""
    before = process_peak()
    program, facts = compiled(lowered)
    last: list[Any] = [None]

    def step() -> None:
        last[0] = repeat(program)

    timed = repeated(step, lambda: jax.block_until_ready(last), case.seconds)
    facts |= {"process_peak_bytes": process_peak()} if before else {}
    if facts.get("process_peak_bytes", 0) > before:  # an earlier case of the process did not need more
        facts["peak_bytes"] = facts["process_peak_bytes"]
    return described(case) | facts | timed


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


def compiled(lowered: Any) -> tuple[Any, dict[str, Any]]:
    """The program, the seconds of its compilation, and its memory: arguments, results and temporaries.

    Raises:
      MemoryError: the program needs more memory than the device has; it is not run.
    """
    since = time.perf_counter()
    program = lowered.compile()
    facts: dict[str, Any] = {"compile_seconds": time.perf_counter() - since}
    if (sizes := program.memory_analysis()) is not None:
        parts = sizes.argument_size_in_bytes + sizes.output_size_in_bytes - sizes.alias_size_in_bytes
        facts["memory_bytes"] = parts + sizes.temp_size_in_bytes
        facts["weights_and_data_bytes"] = sizes.argument_size_in_bytes
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    if limit and facts.get("memory_bytes", 0) > limit:
        raise MemoryError(f"the program needs {facts['memory_bytes'] / 1e9:.1f} GB, the device has {limit / 1e9:.1f}")
    return program, facts


def described(case: Case) -> dict[str, Any]:
    device = jax.devices()[0]
    held = case.options.get("backbone.weights", "full")
    built = {} if case.kind == "product" else {"backbone_seconds": weights(case.size.shape, held)[1]}
    return {"device": device.device_kind, "devices": jax.device_count(), "platform": device.platform} | built


def process_peak() -> int:
    """The largest memory that this process has used on the device; 0 where it is not known."""
    return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
