"""How results are printed and kept: one JSON object a line, a table, and a file that names the hardware."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
from importlib import metadata
from typing import Any

from infoprompt_jax.reports.tables import aligned

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch", "transformers", "peft", "faiss-cpu")
COLUMNS = {  # title: field, unit's factor, format
    "forwards": ("forwards", 1, ".2f"),
    "GFLOP": ("flops", 1e-9, ".1f"),
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
    "recall": ("recall", 1, ".4f"),
    "peak MB": ("peak_memory_bytes", 1e-6, ".0f"),
    "compile s": ("compile_seconds", 1, ".1f"),
    "compiles": ("compilations", 1, ".0f"),
}


def parser(description: str, rounds: int = 7, steps: int = 3) -> argparse.ArgumentParser:
    """The options that all measurements share."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--shape", default="v1.1-small", help="of bench.synthetic.SHAPES")
    options.add_argument("--rounds", type=int, default=rounds, help="turns that each subject gets")
    options.add_argument("--steps", type=int, default=steps, help="timed steps in a turn")
    options.add_argument("--out", type=pathlib.Path, help="directory for the results, as JSON")
    return options


def machine() -> dict[str, Any]:
    """Processor, cores, memory, versions, and how busy the machine was; no name, no path."""
    known = {d.name: d.version for d in metadata.distributions() if d.name in LIBRARIES}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _processor(),
        "cores": cores,
        "memory_gb": round(memory / 2**30),
        "load_average": round(os.getloadavg()[0], 1),
        "glibc_tunables": os.environ.get("GLIBC_TUNABLES", ""),
        "python": platform.python_version(),
        **{name: known[name] for name in LIBRARIES if name in known},
    }


def _processor() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    fields = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    names = {key.strip(): value.strip() for key, value in fields.items()}
    name = names.get("model name", platform.machine())
    return f"{name}, family {names.get('cpu family')}, model {names.get('model')}"


def show(title: str, records: list[dict[str, Any]]) -> None:
    """The records as lines of JSON, then as a table."""
    for record in records:
        print(json.dumps({"bench": title, **record}))
    columns = {t: c for t, c in COLUMNS.items() if any(r.get(c[0]) is not None for r in records)}
    rows = [[r["subject"], *(_cell(r.get(f), k, form) for f, k, form in columns.values())] for r in records]
    print(f"\n{aligned([title, *columns], rows)}\n", flush=True)


def _cell(value: float | None, factor: float, form: str) -> str:
    return "-" if value is None else format(value * factor, form)


def save(directory: pathlib.Path | None, name: str, records: list[dict[str, Any]], **about: Any) -> None:
    """Writes `<directory>/<name>.json`, if there is a directory."""
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        content = {"machine": machine(), **about, "records": records}
        (directory / f"{name}.json").write_text(json.dumps(rounded(content), indent=1) + "\n")


def rounded(value: Any) -> Any:
    """Floats with five digits: a result has no more."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return [rounded(inner) for inner in value] if isinstance(value, list) else value
