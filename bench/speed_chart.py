"""docs/charts/speed.svg: how much longer others take, from bench/results; `python -m bench.device report` draws it."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from infoprompt_jax.reports import charts
from infoprompt_jax.reports.charts import Mark, Panel, Row

LIMITS = (0.5, 5.5)  # of both machines' axis
# Of a file of bench/results/one-core: its subject, and the row's title. Ratios are taken within a round.
ONE_CORE = {
    "train_step-v1.1-small": {
        "PEFT": "training step, T5 v1.1 small: PEFT and torch",
        "both terms, features cached": "both InfoPrompt terms, features cached",
        "both terms, features recomputed": "both InfoPrompt terms, features recomputed",
    },
    "train_step-v1.0-small": {"PEFT": "training step, T5 v1.0 small: PEFT and torch"},
    "scoring-v1.1-small": {"a forward pass for each choice": "ranking 4 answers: a forward pass for each"},
    "search-300000x512": {"FAISS flat": "10 nearest of 300,000 keys: FAISS, flat"},
}
# Cases of bench/results/h100/device.json; each names the one that it stands beside.
H100 = {
    "xl-train-peft-L128-b32": "training step: PEFT and torch",
    "xl-train-peft-compiled-L128-b32": "the same with torch.compile",
    "xl-infoprompt-cached-L128-b32": "both InfoPrompt terms, features cached",
    "xl-infoprompt-recomputed-L128-b32": "both InfoPrompt terms, features recomputed",
    "xl-generate-peft-L128-b32": "32 generated tokens: PEFT and transformers",
    "xl-score-reencoded-L128-b32": "ranking 4 answers: an encoder pass for each",
}


def ratio(title: str, value: float, low: float, high: float) -> Row:
    text = f"{value:.2f} ({low:.2f} to {high:.2f})"
    return Row(title, [Mark("ratio", value, text, low, high)], note=text)


def one_core(results: pathlib.Path) -> list[Row]:
    """The ratio of a subject's time to ours: the median over rounds, the lowest and the highest."""
    rows = []
    for name, titles in ONE_CORE.items():
        records = json.loads((results / "one-core" / f"{name}.json").read_text())["records"]
        by_subject = {record["subject"]: record for record in records}
        for subject, title in titles.items():
            rows.append(ratio(title, *(by_subject[subject][key] for key in ("ratio", "ratio_least", "ratio_most"))))
    return rows


def h100(results: pathlib.Path) -> list[Row]:
    """The ratio of the medians per row; from the shortest and the longest repetition to our median."""
    records = json.loads((results / "h100" / "device.json").read_text())["records"]
    by_case: Mapping[str, Any] = {record["case"]: record for record in records}
    rows = []
    for case, title in H100.items():
        record, ours = by_case[case], by_case[by_case[case]["beside"]]
        value = ours["examples_per_second"] / record["examples_per_second"]
        ends = (value * record[f"{end}_seconds"] / record["p50_seconds"] for end in ("least", "most"))
        rows.append(ratio(title, value, *ends))
    return rows


def draw(results: pathlib.Path) -> str:
    """The chart of both machines."""
    axis = "time / ours; 1 = as fast"
    panels = [
        Panel(axis, one_core(results), 1.0, LIMITS, "One CPU core, float32"),
        Panel(axis, h100(results), 1.0, LIMITS, "H100, T0-3B's shape, bfloat16"),
    ]
    return charts.svg("Time of others divided by ours.", {"ratio": "time divided by ours; line: spread"}, panels)
