"""docs/charts/mini-*.svg: mini's accuracies beside simple baselines; `python -m experiments.mini_page` draws them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.nano_page import percent
from experiments.pages import CHARTS
from infoprompt_jax.reports import charts
from infoprompt_jax.reports.charts import Mark, Panel, Row

GROUPS = {"real": "Real sentiment, topics and questions", "held out": "T0's held-out sets", "BIG-bench": "BIG-bench"}
AXIS, LIMITS = "accuracy, %", (0.0, 100.0)
ZERO_SHOT = {
    "mini": "mini without a prompt; line: lowest to highest template",
    "words": "bag of words",
    "majority": "most frequent answer",
}
OWN_ROWS = {
    "prompt": "mini with a prompt; line: lowest to highest seed",
    "mini": "without a prompt",
    "majority": "most frequent answer",
    "words": "bag of words",
}


def mark(kind: str, value: float, spread: Sequence[float] = ()) -> Mark:
    """A share as a mark in percent; its line is from the lowest to the highest of `spread`."""
    ends = (100 * min(spread), 100 * max(spread)) if len(spread) > 1 else (None, None)
    text = f" ({percent(min(spread))} to {percent(max(spread))})" if len(spread) > 1 else ""
    return Mark(kind, 100 * value, f"{kind}: {percent(value)}{text}", *ends)


def zero_shot(records: Sequence[Mapping[str, Any]]) -> str:
    """Data sets that mini was not trained on, without a prompt."""
    panels = []
    for group, title in GROUPS.items():
        rows = []
        for record in (record for record in records if record["group"] == group and "value" in record):
            marks = [mark("mini", record["value"], [*record["hard_prompts"].values()])]
            marks.append(mark("majority", record["majority"]))
            marks += [] if record["bag_of_words"] is None else [mark("words", record["bag_of_words"])]
            name = record["data_set"].removeprefix("super_glue_").removeprefix("bigbench/").removesuffix(".fixed")
            rows.append(Row(name, marks, note=marks[0].text.removeprefix("mini: ")))
        panels += [Panel(AXIS, rows, limits=LIMITS, title=title)] if rows else []
    return charts.svg("mini without a prompt on data sets that it was not trained on.", ZERO_SHOT, panels)


def own_rows(records: Sequence[Mapping[str, Any]]) -> str:
    """Before and after a prompt was trained on a hundred rows."""
    rows = []
    for record in sorted(records, key=lambda one: one["no_prompt"]):
        prompts = [*record["prompts"].values()]
        marks = [
            mark("prompt", statistics.mean(prompts), prompts),
            mark("mini", record["no_prompt"]),
            mark("majority", record["majority"]),
            mark("words", statistics.mean(record["bag_of_words"])),
        ]
        about = f"{len(prompts)} seeds, {record['rows']} rows measured"
        rows.append(Row(record["task"], marks, about, marks[0].text.removeprefix("prompt: ")))
    title = "mini before and after a prompt was trained on a hundred rows."
    return charts.svg(title, OWN_ROWS, [Panel(AXIS, rows, limits=LIMITS)])


def draw(of_zero_shot: Sequence[Mapping[str, Any]], of_own_rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The charts by the file's name, without those that have no records."""
    made = {}
    if any("value" in record for record in of_zero_shot):
        made["mini-zero-shot.svg"] = zero_shot(of_zero_shot)
    return made | ({"mini-own-rows.svg": own_rows(of_own_rows)} if of_own_rows else {})


def write(of_zero_shot: Sequence[Mapping[str, Any]], of_own_rows: Sequence[Mapping[str, Any]]) -> None:
    for name, chart in draw(of_zero_shot, of_own_rows).items():
        charts.save(CHARTS / name, chart)
