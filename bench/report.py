"""Fills the generated tables of docs/performance.md, and draws its charts: `python -m bench report`."""

from __future__ import annotations

import pathlib

from bench import answers, goals
from bench.device import report as device
from bench.measured import RESULTS, Measured
from infoprompt_jax.reports.documents import fill

BLOCKS = {
    "rte": answers.rte,
    "peft": answers.peft,
    "ranking": answers.ranking,
    "prompts": answers.fleet,
    "infoprompt": answers.infoprompt,
    "inputs": answers.inputs,
    "growth": answers.growth,
    "shares": answers.shares,
    "goals": goals.goals,
}


def texts(results: pathlib.Path = RESULTS) -> dict[str, str]:
    """The blocks' content by their names."""
    measured = Measured(results)
    return {name: text(measured) for name, text in BLOCKS.items()}


def main(page: pathlib.Path = device.PAGE, results: pathlib.Path = RESULTS) -> None:
    fill(page, texts(results))
    device.main(page, results)
