"""What a measurement keeps: its records as JSON, and the machine and the versions that it ran with."""

from __future__ import annotations

import json
import os
import pathlib
import platform
from collections.abc import Sequence
from importlib import metadata
from typing import Any

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch", "transformers", "peft", "faiss-cpu")
DIGITS = 5  # a measurement is no more precise


def save(directory: pathlib.Path, name: str, records: Sequence[dict[str, Any]], **about: Any) -> None:
    """Writes `<directory>/<name>.json`: the machine, `about` and the records."""
    directory.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine(), **about, "records": records}
    (directory / f"{name}.json").write_text(json.dumps(rounded(content), indent=1) + "\n")


def machine() -> dict[str, Any]:
    """Processor, cores, memory in GiB, load and the versions of libraries; no host name and no path."""
    versions = {d.name: d.version for d in metadata.distributions() if d.name in LIBRARIES}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _processor(),
        "cores": cores,
        "memory_gb": round(memory / 2**30),
        "load_average": round(os.getloadavg()[0], 1),
        "glibc_tunables": os.environ.get("GLIBC_TUNABLES", ""),
        "python": platform.python_version(),
        **{name: versions[name] for name in LIBRARIES if name in versions},
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


def rounded(value: Any) -> Any:
    """The same lists and dicts, floats with five significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return [rounded(inner) for inner in value] if isinstance(value, list) else value
