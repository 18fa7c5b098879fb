"""docs/capacity.md from the files in bench/results/capacity: `python -m bench.capacity_page > docs/capacity.md`.

Cases that were compiled are facts. The table of accelerators and batches needs more of them than anybody wants to wait
for, so it is estimated: what a device needs beside its weights grows in a straight line with its rows.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any

from bench.capacity import PLAN, RESULTS
from infoprompt_jax.capacity.case import SHARE
from infoprompt_jax.capacity.chips import CHIPS
from infoprompt_jax.capacity.largest import ladder
from infoprompt_jax.reports.tables import markdown

GIB, MIB = 2**30, 2**20
COUNTS = (1, 4, 16, 64, 256)  # chips
# GiB of memory that programs can have on each chip, as the compiler states it.
MEMORY = {"v4": 30.75, "v5e": 15.75, "v5p": 95.74, "v6e": 31.25}
# Rows of the table of accelerators: the part of their cases' names that comes before the slice.
LINES = {
    "small": "small-dots",
    "base": "base-dots",
    "large": "large-dots",
    "XL": "xl-dots",
    "XL, `remat=full`": "xl-full",
    "XXL": "xxl-dots",
    "XXL, `remat=narrow`": "xxl-narrow",
    "XXL, `remat=full`": "xxl-full",
    "XXL, int8, `remat=full`": "xxl-int8-full",
}


def records() -> dict[str, dict[str, Any]]:
    """The record of each case of the plan that has been compiled."""
    files = {name: RESULTS / f"{name}.json" for name in PLAN}
    return {name: json.loads(file.read_text())["records"][0] for name, file in files.items() if file.exists()}


def line(compiled: list[dict[str, Any]]) -> tuple[float, float] | None:
    """Bytes that a device needs beside its weights: at no rows, and for each row. None where nothing fits.

    All that the case with the most rows a device makes is taken to grow with its rows, which is more than it does.
    """
    fitting = [(record["batch"] / _split(record), record) for record in compiled if record["fits"]]
    if not fitting:
        return None
    rows, most = max(fitting, key=lambda pair: pair[0])
    return most["arguments"] - most["weights"], (most["needed"] - most["arguments"]) / rows


def _split(record: dict[str, Any]) -> int:
    """How many parts the rows of a batch are split into."""
    return record["mesh"]["data"] * record["mesh"]["fsdp"]


def batches(weights: float, known: tuple[float, float], memory: float) -> list[str]:
    """The largest batch on each number of chips; the weights are split as `case.chosen_mesh` does."""
    cells = []
    for chips in COUNTS:
        split = next((n for n in range(1, chips + 1) if chips % n == 0 and weights / n <= SHARE * memory), chips)
        free = memory - weights / split - known[0]
        rows = max((size for size in ladder(1) if size * known[1] <= free), default=0)
        cells.append(f"{rows * chips}" if rows else "-")
    return cells


def accelerators(compiled: dict[str, dict[str, Any]]) -> str:
    """The table of batches by model, chip and number of chips."""
    rows = []
    for name, kind in LINES.items():
        there = [record for case, record in compiled.items() if case.startswith(f"{kind}-v")]
        known = line(there)
        if known is None:
            continue
        weights = there[0]["weights"] * there[0]["mesh"]["fsdp"] * there[0]["mesh"]["model"]
        rows += [[name, chip, *batches(weights, known, MEMORY[chip] * GIB)] for chip in CHIPS]
    return markdown(["model", "chip", *(f"{count} chip{'s' if count > 1 else ''}" for count in COUNTS)], rows)


def facts(compiled: dict[str, dict[str, Any]]) -> str:
    """The table of compiled cases."""
    rows = []
    for record in compiled.values():
        fields = record["fields"]
        least = f"{1e3 * record['step_seconds']:.0f} ms, {record['limit']}" if record["fits"] else "-"
        rows.append(
            [
                record["model"].removeprefix("google/t5-").removesuffix("-lm-adapt").upper(),
                "int8" if fields.get("backbone.weights") == "int8" else "bf16",
                record["job"],
                fields.get("backbone.remat", "dots") if record["job"] == "train" else "-",
                record["topology"],
                " x ".join(str(size) for size in record["mesh"].values()),
                record["batch"],
                f"{record['weights'] / GIB:.2f}",
                f"{record['needed'] / GIB:.2f}" if record["fits"] else f"refused: {record['needed'] / GIB:.2f}",
                f"{record['memory'] / GIB:.2f}",
                least,
                f"{record['mfu']:.0%}" if record["fits"] else "-",
            ]
        )
    header = ["model", "weights", "job", "remat", "slice", "mesh", "batch", "GiB of weights", "GiB needed", "of"]
    return markdown([*header, "a step takes at least", "MFU at most"], rows)


def exchanged(compiled: dict[str, dict[str, Any]]) -> str:
    """The table of collectives of cases on several devices."""
    rows = [
        [
            f"`{name}`",
            one["kind"],
            one["along"],
            one["executed"],
            f"{one['sent'] / MIB:.1f}",
            f"{one['largest'] / MIB:.1f}",
        ]
        for name, record in compiled.items()
        if record["devices"] > 1 and record["fits"]
        for one in record["collectives"]
        if one["sent"] > MIB
    ]
    return markdown(
        ["case", "collective", "along", "executed in a step", "MiB sent by a device", "MiB of the largest"], rows
    )


def held(compiled: dict[str, dict[str, Any]]) -> str:
    """The table of what takes the memory of each compiled case."""
    rows = []
    for name, record in compiled.items():
        arrays = [
            f"{one['count']} x {one['shape']}, {one['bytes'] / MIB:.0f} MiB each" for one in record["largest_arrays"]
        ]
        rows.append(
            [
                f"`{name}`",
                f"{record['arguments'] / GIB:.2f}",
                f"{record['temporaries'] / GIB:.2f}",
                "; ".join(arrays[:3]),
            ]
        )
    return markdown(["case", "GiB of arguments", "GiB of temporaries", "the largest arrays"], rows)


def chips() -> str:
    """The table of chips."""
    rows = [
        [
            name,
            MEMORY[name],
            f"{chip.memory / 1e9:.0f}",
            f"{chip.links / 1e9:.0f}",
            f"{chip.network / 1e9:.1f}",
            chip.source,
        ]
        for name, chip in CHIPS.items()
    ]
    return markdown(["chip", "GiB for programs", "memory, GB/s", "links, GB/s", "network, GB/s", "source"], rows)


PAGE = pathlib.Path(__file__).with_suffix(".md")  # the text, with places for the tables


def page() -> str:
    """The text of docs/capacity.md."""
    compiled = records()
    parts = {part.__name__: part(compiled) for part in (accelerators, facts, held, exchanged)}
    return PAGE.read_text(encoding="utf-8").format(chips=chips(), **parts)


if __name__ == "__main__":
    print(page(), end="")
