"""A training step beside its products with weights alone, ours and PEFT's: `python -m bench.shares [--out DIRECTORY]`.

The products have the step's shapes and are multiplied by the step's library, in a process of their own. Their time in
that of the step is the share of the machine's own rate that the step reaches; the rest is attention, norms and copies.
The quotient of both shares is the ratio to expect where both libraries multiply equally fast.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import numpy as np

from bench import command
from bench.synthetic import PLAIN, SHAPES, Size
from bench.turns import Subject, Work, compare

Products = collections.Counter[tuple[int, int, int]]
ALONE = {"ours": "XLA's products alone", "PEFT": "torch's products alone"}


def products(size: Size) -> Products:
    """How often a step multiplies [rows, in] by a weight [in, out]; as often by the transposed one, for gradients."""
    shape = SHAPES[size.shape]
    width, inner, hidden = shape["d_model"], shape["num_heads"] * shape["d_kv"], shape["d_ff"]
    inputs = size.batch * (size.input_length + size.prompt_length)
    targets = size.batch * size.target_length
    gates = 2 if shape["feed_forward"] == "gated-gelu" else 1
    found: Products = collections.Counter()
    for rows, layers in ((inputs, shape["num_layers"]), (targets, shape["num_decoder_layers"])):
        found[rows, width, inner] += 3 * layers
        found[rows, inner, width] += layers
        found[rows, width, hidden] += gates * layers
        found[rows, hidden, width] += layers
    layers = shape["num_decoder_layers"]  # and their cross-attention
    found[targets, width, inner] += layers
    found[targets, inner, width] += layers
    found[inputs, width, inner] += 2 * layers
    found[targets, width, shape["vocab_size"]] += 1
    return found


def facts(size: Size) -> dict[str, Any]:
    flops = sum(4.0 * rows * into * out * count for (rows, into, out), count in products(size).items())
    return {**size.counts(), "model_flops": flops, "device": "cpu"}


def arrays(sizes: tuple[int, int, int]) -> list[np.ndarray]:
    """An activation, a weight, and a gradient by the product's outcome."""
    rows, into, out = sizes
    random = np.random.default_rng(0)
    return [random.standard_normal(shape, np.float32) for shape in ((rows, into), (into, out), (rows, out))]


def xla(size: Size) -> Work:
    """The products alone, one after the other."""
    import jax

    forward, backward = jax.jit(lambda x, w: x @ w), jax.jit(lambda g, w: g @ w.T)
    made = [(jax.device_put(arrays(sizes)), count) for sizes, count in products(size).items()]

    def step() -> None:
        for (activation, weight, gradient), count in made:
            for _ in range(count):
                jax.block_until_ready(forward(activation, weight))
                jax.block_until_ready(backward(gradient, weight))

    return Work(step, facts(size), dict)


def torchs(size: Size) -> Work:
    """As `xla`, in torch."""
    import torch

    made = [([torch.from_numpy(array) for array in arrays(sizes)], count) for sizes, count in products(size).items()]

    def step() -> None:
        for (activation, weight, gradient), count in made:
            for _ in range(count):
                torch.mm(activation, weight)
                torch.mm(gradient, weight.T)

    return Work(step, facts(size) | {"threads": torch.get_num_threads()}, dict)


def subjects(size: Size) -> list[Subject]:
    return [
        Subject("ours", "bench.ours:train_step", {"size": size, "fields": PLAIN}),
        Subject("PEFT", "bench.peft_step:train_step", {"size": size}),
        Subject(ALONE["ours"], "bench.shares:xla", {"size": size}),
        Subject(ALONE["PEFT"], "bench.shares:torchs", {"size": size}),
    ]


def with_shares(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records, with the shares of the steps whose products were measured: quotients of ratios within rounds."""
    ratios = {record["subject"]: record["ratio"] for record in records}
    of = {step: ratios[alone] / ratios[step] for step, alone in ALONE.items() if {step, alone} <= ratios.keys()}
    return [r | ({"share": of[r["subject"]]} if r["subject"] in of else {}) for r in records]


def main(arguments: list[str] | None = None) -> None:
    given = command.parser("A step beside its products alone.", rounds=5, steps=2).parse_args(arguments)
    size = Size(given.shape)
    records = with_shares(compare(subjects(size), given.rounds, given.steps))
    about = {"size": dataclasses.asdict(size), "rounds": given.rounds, "steps": given.steps}
    command.finish(given.out, f"shares-{given.shape}", records, **about)


if __name__ == "__main__":
    main()
