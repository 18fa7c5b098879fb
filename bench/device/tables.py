"""The records as tables, one for each topic: printed after a run, and in docs/performance.md."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from bench.device.cases import Case
from infoprompt_jax.files import whole
from infoprompt_jax.reports import measurements
from infoprompt_jax.reports.tables import markdown

FILE = "device.json"
TOPICS = {
    "train": "A training step: plain prompt tuning here, and PEFT's",
    "infoprompt": "Both InfoPrompt terms, beside the plain step",
    "score": "Rank classification of 4 answer choices: one encoder pass, or a whole pass for each choice",
    "fleet": "A fleet of 64, beside one run with as many rows",
    "generate": "Greedy generation of 32 tokens",
    "remat": "What the backward pass recomputes, beside the default (`dots`)",
    "prompt length": "Prompt length, beside a prompt of 100",
    "input length": "Input length, beside 128",
    "unroll": "Layers a loop iteration, beside 1",
    "attention": "Attention to the encoder's positions by cuDNN (`backbone.attention`), beside XLA's",
    "flags": "XLA's flags, beside the defaults",
    "int8": "int8 weights beside bfloat16, and the least time by XLA's estimate",
    "product": "Matrix products alone, at the sizes of a step with 32 rows",
}
HEADER = ("case", "ms", "least - most", "time an example", "examples/s", "tokens/s", "MFU", "memory", "ready")
ESTIMATED = ("estimate ms", "TFLOP", "GB moved", "peak memory")  # XLA's bound, counts, and beside `memory` the measured


def write(directory: pathlib.Path, cases: Sequence[Case], **about: Any) -> dict[str, Any]:
    """Joins the cases' files into device.json, in the order of the cases, and returns its content."""
    paths = [directory / "cases" / f"{case.name}.json" for case in cases]
    records = [json.loads(path.read_text()) for path in paths if path.exists()]
    measured = [record for record in records if "p50_seconds" in record]
    device = next((r["device"] for r in measured if r["platform"] != "cpu"), "cpu" if measured else None)
    content = {"device": device, "machine": measurements.machine(), **about, "records": records}
    with whole(directory / FILE) as path:
        path.write_text(json.dumps(measurements.rounded(content), indent=1) + "\n")
    return content


def sections(records: Sequence[Mapping[str, Any]], level: str = "###") -> str:
    """A heading and a table for each topic; at the end, the cases that were not run."""
    by_name = {record["case"]: record for record in records}
    parts = []
    for topic, title in TOPICS.items():
        shown = [record for record in records if record["topic"] == topic and "not_run" not in record]
        if shown:
            header = HEADER + ESTIMATED if any("estimated_flops" in record for record in shown) else HEADER
            rows = [row(record, by_name, estimated=header != HEADER) for record in shown]
            parts.append(f"{level} {title}\n\n{markdown(header, rows)}")
    missing = [record["case"] for record in records if "not_run" in record]
    if missing:
        parts.append(f"Not run, for no time was left: {', '.join(missing)}.")
    return "\n\n".join(parts)


def row(record: Mapping[str, Any], by_name: Mapping[str, Mapping[str, Any]], estimated: bool = False) -> list[str]:
    name = f"`{record['case']}`"
    if "error" in record:
        return [name, record["error"].replace("|", "/")[:90], *[""] * (len(HEADER) - 2 + estimated * len(ESTIMATED))]
    spread = f"{1e3 * record['least_seconds']:.4g} - {1e3 * record['most_seconds']:.4g}"
    numbers = [
        _cell(record.get("examples_per_second"), ".4g"),
        _cell(record.get("tokens_per_second"), ".0f"),
        _cell(record.get("mfu"), ".3f"),
        _cell(record.get("memory_bytes"), ".1f", 1e-9, " GB"),
        _cell(record.get("compile_seconds"), ".1f", 1, " s"),
    ]
    # On GPUs XLA counts no FLOPs of the products that it leaves to libraries: the model's then stand in for them.
    flops = record.get("estimated_flops") or record.get("model_flops")
    bounds = [record["bound_seconds"], flops / record["peak_flops"]] if flops and "bound_seconds" in record else []
    estimate = [
        _cell(max(bounds, default=None), ".4g", 1e3),
        _cell(flops, ".1f", 1e-12),
        _cell(record.get("estimated_bytes"), ".1f", 1e-9),
        _cell(record.get("peak_bytes"), ".1f", 1e-9, " GB"),
    ]
    numbers += estimate * estimated
    return [name, f"{1e3 * record['p50_seconds']:.4g}", spread, relative(record, by_name), *numbers]


def relative(record: Mapping[str, Any], by_name: Mapping[str, Mapping[str, Any]]) -> str:
    """Time per example, divided by that of the case in `beside`."""
    beside = by_name.get(record["beside"], {})
    if "examples_per_second" not in beside:
        return "1" if not record["beside"] and "examples_per_second" in record else ""
    return f"{beside['examples_per_second'] / record['examples_per_second']:.2f}"


def _cell(value: float | None, form: str, factor: float = 1, unit: str = "") -> str:
    return "" if value is None else f"{value * factor:{form}}{unit}"
