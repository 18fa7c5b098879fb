"""How cost grows: step time and memory with one size at a time, search, and tokenising, as exponents.

    python -m bench.scaling [--only "step time" memory search tokenising] [--out DIRECTORY]

An exponent is the slope of the least-squares line through the logarithms of cost and size. Beside it stands that of the
counted work at the same sizes: FLOPs, attention's included, for time; `fleet.at_once`'s estimate for memory. Memory is
XLA's: what the compiled step needs beside weights. Nothing is run for it.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bench import command, inputs, search
from bench.measured import Measured
from bench.synthetic import PLAIN, SHAPES, Size
from bench.turns import Subject, compare

BASE = Size("v1.1-small", batch=4)
NAME = f"scaling-{BASE.shape}"  # of the file
SIZES = {  # by the field of `Size`
    "input_length": (64, 128, 256, 512),
    "prompt_length": (25, 50, 100, 200, 400),
    "members": (1, 2, 4, 8),
    "batch": (2, 4, 8, 16),
}
WIDTHS = (256, 512, 1024)  # of the model; heads and feed-forward layers grow along
TITLES = {"input_length": "L", "prompt_length": "P", "members": "M", "batch": "batch", "width": "model width"}
KEYS, QUERIES = (10_000, 30_000, 100_000, 300_000), (8, 32, 128)


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The slope of log(cost) over log(size)."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def fit(what: str, against: str, points: Sequence[int], costs: Sequence[float], theory: float) -> dict[str, Any]:
    return {
        "what": what,
        "against": against,
        "points": list(points),
        "costs": [float(cost) for cost in costs],
        "exponent": exponent(points, costs),
        "theory": theory,
    }


def widened(shape: str, width: int) -> str:
    """The name of the shape at another width; it is added to SHAPES."""
    sizes = SHAPES[shape]
    scale, name = width / sizes["d_model"], f"{shape}-{width}"
    grown = {key: max(1, round(sizes[key] * scale)) for key in ("d_ff", "num_heads")}
    SHAPES[name] = sizes | grown | {"d_model": width}
    return name


def series(base: Size, sizes: dict[str, Sequence[int]], widths: Sequence[int]) -> dict[str, dict[int, Size]]:
    """The sizes to measure, by what grows and how large it is."""
    made = {
        field: {value: dataclasses.replace(base, **{field: value}) for value in values}
        for field, values in sizes.items()
    }
    if widths:
        made["width"] = {width: dataclasses.replace(base, shape=widened(base.shape, width)) for width in widths}
    return made


def flops(size: Size) -> float:
    """Of a step, with the products of attention scores and values: backward costs as much as forward."""
    from infoprompt_jax.t5.config import T5Config
    from infoprompt_jax.training import speed

    config = T5Config(**SHAPES[size.shape])
    rows, inputs, targets = size.members * size.batch, size.input_length + size.prompt_length, size.target_length
    pairs = config.num_layers * inputs**2 + config.num_decoder_layers * targets * (targets + inputs)
    attention = 3 * 4 * pairs * config.num_heads * config.d_kv
    return speed.step_flops(config, rows * inputs, rows * targets) + rows * attention


def built(size: Size, sizes: dict[str, Any]) -> Any:
    """A training step in its own process, which has not seen the widened shapes."""
    SHAPES[size.shape] = sizes
    from bench.ours import train_step

    return train_step(size, PLAIN)


def temporary_bytes(size: Size) -> int:
    """What XLA's program of a step needs beside its arguments and results."""
    from bench.ours import setup

    made = setup(size, PLAIN)
    arguments = (made.state, made.backbone.frozen, made.fleet.place(made.batch), made.hyper, made.keys)
    return made.fleet.step.lower(*arguments).compile().memory_analysis().temp_size_in_bytes


def estimated_bytes(size: Size) -> int:
    from infoprompt_jax.fleet import at_once
    from infoprompt_jax.t5.config import T5Config

    shape = at_once.StepShape(size.batch, size.input_length + size.prompt_length, size.target_length)
    return size.members * at_once.step_bytes(T5Config(**SHAPES[size.shape]), shape, backward=True)


def step_time(base: Size, rounds: int) -> list[dict[str, Any]]:
    """Fits of the median seconds of a step."""
    fits = []
    for field, points in series(base, SIZES, WIDTHS).items():
        costs = []
        for size in points.values():  # one after another: many processes of this size fill a small machine
            arguments = {"size": size, "sizes": SHAPES[size.shape]}
            subject = Subject(f"{TITLES[field]}", "bench.scaling:built", arguments)
            costs.append(compare([subject], rounds, 1)[0]["p50_seconds"])
        theory = exponent([*points], [flops(size) for size in points.values()])
        fits.append(fit("step time", TITLES[field], [*points], costs, theory))
    return fits


def memory(base: Size, sizes: dict[str, Sequence[int]] = SIZES, widths: Sequence[int] = WIDTHS) -> list[dict[str, Any]]:
    """Fits of the bytes that the compiled step needs for activations."""
    fits = []
    for field, points in series(base, sizes, widths).items():
        costs = [temporary_bytes(size) for size in points.values()]
        theory = exponent([*points], [estimated_bytes(size) for size in points.values()])
        fits.append(fit("step memory", TITLES[field], [*points], costs, theory))
    return fits


def searching(base: Size, rounds: int) -> list[dict[str, Any]]:
    """Fits of an exact search's seconds."""

    def seconds(**fields: int) -> float:
        arguments = {"size": search.Size(**fields), "approximate": False}
        return compare([Subject("exact", "bench.search:ours", arguments)], rounds, 2)[0]["p50_seconds"]

    keys, queries = [seconds(keys=n) for n in KEYS], [seconds(keys=KEYS[2], queries=n) for n in QUERIES]
    return [fit("search", "keys", KEYS, keys, 1.0), fit("search", "queries", QUERIES, queries, 1.0)]


def tokenising(base: Size, rounds: int, rows: Sequence[int] = (1000, 10_000, 100_000)) -> list[dict[str, Any]]:
    """Fits of the seconds and the added memory of reading JSONL rows for the first time."""
    records = [inputs.alone(count) for count in rows]
    names = {"tokenising": "first_seconds", "reading stored rows": "second_seconds"}
    fits = [fit(what, "rows", rows, [r[name] for r in records], 1.0) for what, name in names.items()]
    added = [r["added_memory_bytes"] for r in records]
    return [*fits, *([fit("memory of tokenising", "rows", rows, added, 1.0)] if min(added) > 0 else [])]


PARTS: dict[str, Callable[[Size, int], list[dict[str, Any]]]] = {
    "step time": step_time,
    "memory": lambda base, rounds: memory(base),
    "search": searching,
    "tokenising": tokenising,
}


def kept(out: pathlib.Path | None, fits: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The fits that the file in `out` already has and that were not measured again, with the machine of their run."""
    before = Measured(out).content(NAME) if out else {}
    again = {fit["what"] for fit in fits}
    return [{"machine": before["machine"]} | one for one in before.get("fits", ()) if one["what"] not in again]


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description="Exponents of cost against size.")
    options.add_argument("--only", nargs="*", default=[*PARTS], help=f"of {', '.join(PARTS)}")
    options.add_argument("--rounds", type=int, default=2)
    options.add_argument("--out", type=pathlib.Path, help="directory for the results, as JSON")
    given = options.parse_args(arguments)
    fits = [one for part in given.only for one in PARTS[part](BASE, given.rounds)]
    fits = [*kept(given.out, fits), *fits]
    for one in fits:
        print(f"{one['what']} against {one['against']}: {one['exponent']:.2f}, by arithmetic {one['theory']:.2f}")
    records = [{"subject": f"{one['what']}, {one['against']}"} for one in fits]
    command.finish(given.out, NAME, records, fits=fits, rounds=given.rounds)


if __name__ == "__main__":
    main()
