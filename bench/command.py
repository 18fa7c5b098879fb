"""What the measurements' commands share: their options, and how they print and keep the records."""

from __future__ import annotations

import argparse
import json
import pathlib
from typing import Any

from infoprompt_jax.reports import measurements
from infoprompt_jax.reports.tables import aligned

COLUMNS = {  # title: field, factor to the unit, format
    "forwards": ("forwards", 1, ".2f"),
    "GFLOP": ("flops", 1e-9, ".1f"),
    "ms": ("part_seconds", 1e3, ".1f"),
    "of the step": ("part_share", 1, ".3f"),
    "of products' rate": ("share", 1, ".3f"),
    "bound ms": ("bound_seconds", 1e3, ".1f"),
    "ratio": ("ratio", 1, ".3f"),
    "least": ("ratio_least", 1, ".3f"),
    "most": ("ratio_most", 1, ".3f"),
    "CPU ratio": ("cpu_ratio", 1, ".3f"),
    "p50 ms": ("p50_seconds", 1e3, ".0f"),
    "p95 ms": ("p95_seconds", 1e3, ".0f"),
    "CPU ms": ("cpu_seconds", 1e3, ".0f"),
    "examples/s": ("examples_per_second", 1, ".1f"),
    "tokens/s": ("tokens_per_second", 1, ".0f"),
    "GFLOP/s": ("flops_per_second", 1e-9, ".0f"),
    "MFU": ("mfu", 1, ".3f"),
    "state error": ("state_error", 1, ".4f"),
    "logit error": ("logit_error", 1, ".4f"),
    "gradient error": ("gradient_error", 1, ".4f"),
    "cosine": ("cosine", 1, ".5f"),
    "accuracy": ("accuracy", 1, ".4f"),
    "recall": ("recall", 1, ".4f"),
    "peak MB": ("peak_memory_bytes", 1e-6, ".0f"),
    "devices MB": ("device_bytes", 1e-6, ".0f"),
    "slice MB": ("largest_slice_bytes", 1e-6, ".0f"),
    "beyond MB": ("beyond_bytes", 1e-6, ".0f"),
    "limit MB": ("limit_bytes", 1e-6, ".0f"),
    "s": ("seconds", 1, ".1f"),
    "least s": ("least_seconds", 1, ".1f"),
    "most s": ("most_seconds", 1, ".1f"),
    "cold s": ("cold_seconds", 1, ".1f"),
    "warm s": ("warm_seconds", 1, ".1f"),
    "compile s": ("compile_seconds", 1, ".1f"),
    "compiles": ("compilations", 1, ".0f"),
}


def parser(description: str, rounds: int = 7, steps: int = 3) -> argparse.ArgumentParser:
    """The options that all measurements have."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--shape", default="v1.1-small", help="of bench.synthetic.SHAPES")
    options.add_argument("--rounds", type=int, default=rounds, help="turns that each subject gets")
    options.add_argument("--steps", type=int, default=steps, help="timed steps in a turn")
    options.add_argument("--out", type=pathlib.Path, help="directory for the results, as JSON")
    return options


def finish(out: pathlib.Path | None, name: str, records: list[dict[str, Any]], **about: Any) -> None:
    """Prints the records as lines of JSON and as a table; writes `<out>/<name>.json` where there is a directory."""
    for record in records:
        print(json.dumps({"bench": name, **record}))
    columns = {t: c for t, c in COLUMNS.items() if any(r.get(c[0]) is not None for r in records)}
    rows = [[r["subject"], *(_cell(r.get(f), k, form) for f, k, form in columns.values())] for r in records]
    print(f"\n{aligned([name, *columns], rows)}\n", flush=True)
    if out is not None:
        measurements.save(out, name, records, **about)


def _cell(value: float | None, factor: float, form: str) -> str:
    return "-" if value is None else format(value * factor, form)
