"""Runs the first steps of mini's pretraining again, and keeps their losses beside the recorded ones.

    python -m experiments.mini_rerun --corpus runs/mini_corpus [--steps 200] [--rows 16]
    python -m experiments.mini_rerun --corpus runs/mini_corpus --batches runs/batches.npz     writes the batches
    python -m experiments.mini_rerun --batches runs/batches.npz --dtype bfloat16              reads them

The corpus is that of `experiments.mini_corpus`. The recorded run computed in bfloat16 on an H100. Here weights are
rounded to bfloat16 in each step as there, but activations are float32, and a step's gradient is the mean over parts of
its batch, so that it fits into a laptop's memory. With `--dtype bfloat16` steps are those of the recorded run, for an
accelerator. A file of batches spares an accelerator the corpus and the minutes that tokenising takes. The losses are
written at each recorded step; the command starts anew.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from flax import nnx

from configs import mini_pretrain
from experiments.mini_page import BACKBONE, RESULTS
from infoprompt_jax import files
from infoprompt_jax.data.batches import Fields, prefetched
from infoprompt_jax.pretraining import step
from infoprompt_jax.pretraining.sources import FromCorpus
from infoprompt_jax.reports import measurements
from infoprompt_jax.t5.config import T5Config
from infoprompt_jax.t5.model import T5
from infoprompt_jax.t5.tokenizer import load_tokenizer


@functools.partial(jax.jit, static_argnums=0)
def part(graph: nnx.GraphDef, params: nnx.State, batch: dict[str, jax.Array]) -> tuple[jax.Array, nnx.State]:
    """The mean loss of a part of a batch, and its gradient."""

    def loss(params: nnx.State) -> jax.Array:
        rounded = jax.tree.map(lambda weight: weight.astype(jnp.bfloat16).astype(jnp.float32), params)
        return step.losses(nnx.merge(graph, rounded), batch).mean()

    return jax.value_and_grad(loss)(params)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def update(
    optimizer: optax.GradientTransformationExtraArgs, state: step.State, gradients: nnx.State, rate: jax.Array
) -> step.State:
    updates, optimizer_state = optimizer.update(gradients, state["optimizer"], state["params"], rate=rate)
    return {"params": optax.apply_updates(state["params"], updates), "optimizer": optimizer_state}


def whole(graph: nnx.GraphDef, params: nnx.State, batch: Fields, rows: int) -> tuple[float, nnx.State]:
    """The loss and the gradient of a batch, computed in parts of `rows` rows."""
    starts = range(0, len(batch["inputs"]), rows)
    if len(batch["inputs"]) % rows:
        raise ValueError(f"--rows={rows} does not divide the batch of {len(batch['inputs'])} rows.")
    total, summed = 0.0, jax.tree.map(jnp.zeros_like, params)
    for start in starts:
        loss, gradients = part(graph, params, {name: value[start : start + rows] for name, value in batch.items()})
        total, summed = total + float(loss), jax.tree.map(jnp.add, summed, gradients)
    return total / len(starts), jax.tree.map(lambda one: one / len(starts), summed)


def recorded() -> dict[int, dict[str, float]]:
    """The losses and gradient norms of the recorded run by step."""
    by_step: dict[int, dict[str, float]] = {}
    for line in (RESULTS / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        by_step.setdefault(record["step"], {})[record["name"]] = record["value"]
    return by_step


def read_batches(corpus: str, steps: int) -> tuple[Iterator[Fields], bool]:
    """The first batches, and whether the tokenised corpus is that of the recorded run."""
    config, tokenizer = recorded_config(), load_tokenizer(BACKBONE)
    config.pretrain.corpus = corpus
    source = FromCorpus(config)
    same_data = source.fingerprint(tokenizer) == account()["data_fingerprint"]
    return prefetched(source.mixture(config, tokenizer).batch, 0, steps, 1), same_data


def keep(file: pathlib.Path, batches: Iterable[Fields], same_data: bool) -> None:
    """Writes the batches to an .npz file, as arrays named `STEP/FIELD`; tokens fit into 16 bits."""
    arrays = {
        f"{number}/{name}": np.asarray(value, bool if name == "denoising" else np.uint16)
        for number, batch in enumerate(batches)
        for name, value in batch.items()
    }
    with files.whole(file) as partial, partial.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, same_data=np.asarray(same_data), **arrays)


def kept(file: pathlib.Path) -> tuple[Iterator[Fields], bool]:
    """What `read_batches` returns, from a file that `keep` wrote."""
    arrays = np.load(file)

    def batches() -> Iterator[Fields]:
        for number in itertools.takewhile(lambda number: f"{number}/inputs" in arrays, itertools.count()):
            names = ("inputs", "targets", "denoising")
            fields = {name: arrays[f"{number}/{name}"] for name in names}
            yield {name: value if value.dtype == bool else value.astype(np.int32) for name, value in fields.items()}

    return batches(), bool(arrays["same_data"])


def account() -> dict[str, Any]:
    return json.loads((BACKBONE / "pretraining.json").read_text())


def recorded_config() -> ml_collections.ConfigDict:
    config = mini_pretrain.get_config("gpu")
    config.train.steps = account()["planned_steps"]
    return config


Stepped = tuple[step.State, float, float]  # the new state, the loss and the gradient's norm
Step = Callable[[step.State, Fields, np.float32], Stepped]


def stepper(model: T5Config, optimizer: optax.GradientTransformationExtraArgs, dtype: str, rows: int) -> Step:
    """A function that makes a step: the recorded run's in bfloat16, or one in float32 in parts of `rows` rows."""
    graph = nnx.graphdef(nnx.eval_shape(lambda: T5(dataclasses.replace(model, dtype=dtype), nnx.Rngs(0))))

    def as_recorded(state: step.State, batch: Fields, rate: np.float32) -> Stepped:
        state, metrics = step.step(graph, optimizer, state, batch, rate)
        return state, float(metrics["loss"]), float(metrics["gradient_norm"])

    def in_parts(state: step.State, batch: Fields, rate: np.float32) -> Stepped:
        loss, gradients = whole(graph, state["params"], batch, rows)
        return update(optimizer, state, gradients, rate), loss, float(optax.tree.norm(gradients))

    return as_recorded if dtype == "bfloat16" else in_parts


def rerun(batches: Iterable[Fields], same_data: bool, dtype: str, rows: int, out: pathlib.Path) -> None:
    """Makes a step with each batch and writes the losses as it goes."""
    print(f"The tokenised corpus is {'that of the recorded run' if same_data else 'another one'}.", flush=True)
    config = recorded_config()
    model = step.t5_config(config)
    optimizer = step.make_optimizer(config.train.weight_decay, config.train.clip_norm)
    _, params = step.initial(model, config.seed)  # rounded to bfloat16 as they are drawn
    make_step = stepper(model, optimizer, dtype, rows)
    state: step.State = {"params": params, "optimizer": optimizer.init(params)}
    rates, losses, records = step.rates(config.train), recorded(), list[dict[str, Any]]()
    about: dict[str, Any] = {"same_data": same_data, "dtype": dtype, "device": jax.devices()[0].device_kind}
    about |= {"rows": rows} if dtype == "float32" else {}
    since = time.monotonic()
    for number, batch in enumerate(batches):
        state, loss, norm = make_step(state, batch, np.float32(rates[number]))
        print(f"step {number + 1}: loss {loss:.4f}, {time.monotonic() - since:.0f} s", flush=True)
        if (was := losses.get(number + 1)) is not None:
            record = {"subject": f"step {number + 1}", "step": number + 1, "loss": loss, "recorded_loss": was["loss"]}
            records.append({**record, "gradient_norm": norm, "recorded_gradient_norm": was["gradient_norm"]})
            measurements.save(out.parent, out.stem, records, **about)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--corpus", help="directory that experiments.mini_corpus made")
    options.add_argument("--batches", type=pathlib.Path, help="file of the batches; with --corpus it is only written")
    options.add_argument("--steps", type=int, default=200)
    options.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of activations")
    options.add_argument("--rows", type=int, default=16, help="rows of a part of the batch, in float32")
    options.add_argument("--out", type=pathlib.Path, help="file of the losses; else that of this dtype in the results")
    given = options.parse_args()
    if given.corpus is None and given.batches is None:
        options.error("Either --corpus or --batches is needed.")
    if given.corpus is None:
        batches, same_data = kept(given.batches)
    else:
        batches, same_data = read_batches(given.corpus, given.steps)
    if given.corpus is not None and given.batches is not None:
        keep(given.batches, batches, same_data)
    else:
        out = given.out or RESULTS / f"rerun-{given.dtype}.json"
        rerun(itertools.islice(batches, given.steps), same_data, given.dtype, given.rows, out)


if __name__ == "__main__":
    main()
