"""Runs the first steps of mini's pretraining again, and keeps their losses beside the recorded ones.

    python -m experiments.mini_rerun --corpus runs/mini_corpus [--steps 200] [--rows 16]

The corpus is that of `experiments.mini_corpus`. The recorded run computed in bfloat16 on an H100. Here weights are
rounded to bfloat16 in each step as there, but activations are float32, and a step's gradient is the mean over parts of
its batch, so that it fits into a laptop's memory. The file is written at each recorded step; the command starts anew.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from configs import mini_pretrain
from experiments.mini_page import BACKBONE, RESULTS
from infoprompt_jax.data.batches import Fields, prefetched
from infoprompt_jax.pretraining import step
from infoprompt_jax.pretraining.sources import FromCorpus
from infoprompt_jax.reports import measurements
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


def rerun(corpus: str, steps: int, rows: int, out: pathlib.Path) -> None:
    """Runs the steps and writes `rerun.json` as it goes."""
    account = json.loads((BACKBONE / "pretraining.json").read_text())
    config = mini_pretrain.get_config("gpu")
    config.pretrain.corpus, config.train.steps = corpus, account["planned_steps"]
    source, tokenizer = FromCorpus(config), load_tokenizer(BACKBONE)
    same_data = source.fingerprint(tokenizer) == account["data_fingerprint"]
    print(f"The tokenised corpus is {'that of the recorded run' if same_data else 'another one'}.", flush=True)
    model = step.t5_config(config)
    optimizer = step.make_optimizer(config.train.weight_decay, config.train.clip_norm)
    _, params = step.initial(model, config.seed)  # rounded to bfloat16 as they are drawn
    graph = nnx.graphdef(nnx.eval_shape(lambda: T5(dataclasses.replace(model, dtype="float32"), nnx.Rngs(0))))
    state: step.State = {"params": params, "optimizer": optimizer.init(params)}
    rates, losses, records = step.rates(config.train), recorded(), list[dict[str, Any]]()
    since = time.monotonic()
    for number, batch in enumerate(prefetched(source.mixture(config, tokenizer).batch, 0, steps, 1)):
        loss, gradients = whole(graph, state["params"], batch, rows)
        norm = float(optax.tree.norm(gradients))
        state = update(optimizer, state, gradients, np.float32(rates[number]))
        print(f"step {number + 1}: loss {loss:.4f}, {time.monotonic() - since:.0f} s", flush=True)
        if (was := losses.get(number + 1)) is not None:
            record = {"subject": f"step {number + 1}", "step": number + 1, "loss": loss, "recorded_loss": was["loss"]}
            records.append({**record, "gradient_norm": norm, "recorded_gradient_norm": was["gradient_norm"]})
            measurements.save(out, "rerun", records, same_data=same_data, rows=rows)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--corpus", required=True, help="directory that experiments.mini_corpus made")
    options.add_argument("--steps", type=int, default=200)
    options.add_argument("--rows", type=int, default=16, help="rows of a part of the batch")
    options.add_argument("--out", type=pathlib.Path, default=RESULTS, help="directory for rerun.json")
    given = options.parse_args()
    rerun(given.corpus, given.steps, given.rows, given.out)


if __name__ == "__main__":
    main()
