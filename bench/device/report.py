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
from infoprompt_jax.reports.tables import markdown

RESULTS = pathlib.Path(__file__).parents[1] / "results"
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "performance.md"
BLOCK = "accelerator"
TRIAL = "trial.json"
TRIED = (
    *("attention", "input tokens", "rows", "`remat`", "`unroll`"),
    *("ms", "time / the first of its size", "MFU", "temporary memory"),
)
VERSIONS = ("python", "jax", "flax", "torch", "transformers", "peft")


def main(page: pathlib.Path = PAGE, results: pathlib.Path = RESULTS) -> None:
    fill(page, {BLOCK: text(results)})
    if (results / "one-core").is_dir() and (results / "h100").is_dir():
        charts.save(page.parent / "charts" / "speed.svg", speed_chart.draw(results))


def text(results: pathlib.Path) -> str:
    parts = [device(path) for path in sorted(results.glob(f"*/{FILE}"))]
    parts += [trial(path) for path in sorted(results.glob(f"*/{TRIAL}"))]
    return "\n\n".join(parts) or "Not measured."


def trial(path: pathlib.Path) -> str:
    """The section of trials of code changes before they were made, which have no cases of their own."""
    content: dict[str, Any] = json.loads(path.read_text())
    records = content["records"]
    first = {(one["length"], one["batch"]): one["p50_seconds"] for one in reversed(records)}
    rows: list[list[object]] = []
    for one in records:
        seconds, beside = one["p50_seconds"], first[one["length"], one["batch"]]
        sizes = [one["attention"], one["length"], one["batch"], one["remat"], one["unroll"]]
        measured = [f"{1e3 * seconds:.4g}", f"{seconds / beside:.2f}", f"{one['mfu']:.3f}", f"{one['temporary_gb']} GB"]
        rows.append([*sizes, *measured])
    sections = [
        f"### {content['title']}",
        f"`bench/results/{path.parent.name}/{TRIAL}`; {content['device']}, jax {content['jax']}; {content['what']}.",
        markdown(TRIED, rows),
    ]
    if (profile := content.get("profile")) is not None:
        whole = sum(part["ms"] for part in profile["parts"])
        parts = [[p["part"], p["kernels"], f"{p['ms']:.1f}", f"{100 * p['ms'] / whole:.0f}"] for p in profile["parts"]]
        sections.append(f"Where the time of a step goes, by a profile ({profile['of']}):")
        sections.append(markdown(("part", "kernels", "ms", "%"), parts))
    return "\n\n".join(sections)


def device(path: pathlib.Path) -> str:
    """The section of one device: its name, versions and tables."""
    content: dict[str, Any] = json.loads(path.read_text())
    machine = content["machine"]
    versions = ", ".join(f"{name} {machine[name]}" for name in VERSIONS if name in machine)
    where = f"`bench/results/{path.parent.name}/{FILE}`; {versions}."
    return f"### {content['device']}\n\n{where}\n\n{sections(content['records'], '####')}"
