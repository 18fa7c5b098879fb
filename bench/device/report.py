"""Writes the results of `bench.device` to docs/performance.md, and the page's chart: `python -m bench.device report`.

It reads every bench/results/<device>/device.json. Without any, the section is "Not measured.".
"""

from __future__ import annotations

import json
import pathlib
from typing import Any

from bench import speed_chart
from bench.device.tables import FILE, sections
from infoprompt_jax.reports import charts
from infoprompt_jax.reports.documents import fill

RESULTS = pathlib.Path(__file__).parents[1] / "results"
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "performance.md"
BLOCK = "accelerator"
VERSIONS = ("python", "jax", "flax", "torch", "transformers", "peft")


def main(page: pathlib.Path = PAGE, results: pathlib.Path = RESULTS) -> None:
    fill(page, {BLOCK: text(results)})
    if (results / "one-core").is_dir() and (results / "h100").is_dir():
        charts.save(page.parent / "charts" / "speed.svg", speed_chart.draw(results))


def text(results: pathlib.Path) -> str:
    parts = [device(path) for path in sorted(results.glob(f"*/{FILE}"))]
    return "\n\n".join(parts) or "Not measured."


def device(path: pathlib.Path) -> str:
    """The section of one device: its name, versions and tables."""
    content: dict[str, Any] = json.loads(path.read_text())
    machine = content["machine"]
    versions = ", ".join(f"{name} {machine[name]}" for name in VERSIONS if name in machine)
    where = f"`bench/results/{path.parent.name}/{FILE}`; {versions}."
    return f"### {content['device']}\n\n{where}\n\n{sections(content['records'], '####')}"
