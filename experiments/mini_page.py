"""Writes docs/mini.md's tables, and the model card from it: `python -m experiments.mini_page`.

It reads pretraining.json and validation.json beside the backbone, and of `experiments/results/mini` the run's
metrics.jsonl and the corpus's overlap.json.
"""

from __future__ import annotations

import json
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.mini_sources import LEFT_OUT, LICENCES, RENDERED, SETS, TEXT
from experiments.nano_page import account, percent
from experiments.pages import MINI
from infoprompt_jax.data.families import family
from infoprompt_jax.reports.documents import fill
from infoprompt_jax.reports.tables import markdown

RESULTS = pathlib.Path(__file__).parent / "results" / "mini"
BACKBONE = pathlib.Path(__file__).parents[1] / "infoprompt_jax" / "mini" / "backbone"
HEADER = """---
language: en
library_name: transformers
pipeline_tag: text2text-generation
tags: [t5]
---

"""


def text_table(overlap: Mapping[str, Any]) -> str:
    """The sources of plain text that are trained on, with the paragraphs that are kept and left out."""
    rows = [
        (name, licence, f"{overlap['kept'][f'text/{name}']:,}", f"{overlap['left_out'][f'text/{name}']:,}")
        for name, licence in TEXT.items()
    ]
    return markdown(("source", "licence", "paragraphs", "left out, as they overlap"), rows)


def sets_table(overlap: Mapping[str, Any]) -> str:
    """The data sets of prompted rows, with their share of the rows that are drawn."""
    total = sum(source.share for source in SETS.values())
    rows = [
        (
            name,
            family(name) or "closed-book QA",
            LICENCES.get(name, RENDERED),
            f"{overlap['kept'][f'rows/{name}']:,}",
            f"{overlap['left_out'].get(f'data/{name}', 0) + overlap['left_out'][f'rows/{name}']:,}",
            percent(source.share / total),
        )
        for name, source in SETS.items()
    ]
    return markdown(("data set", "family", "licence", "prompted rows", "left out, as they overlap", "share"), rows)


def overlap_table(overlap: Mapping[str, Any]) -> str:
    """How many texts and rows were left out because of each evaluated split."""
    counted = sorted(overlap["by_split"].items(), key=lambda item: -item[1])
    return markdown(("evaluated split", "texts and rows left out"), [(name, f"{count:,}") for name, count in counted])


def progress_table(records: Sequence[Mapping[str, Any]]) -> str:
    """At each measurement the held-out loss, and the mean held-in accuracy of each family's data sets."""
    by_step: dict[int, dict[str, float]] = {}
    header: tuple[str, ...] = ()
    for record in records:
        by_step.setdefault(record["step"], {})[record["name"]] = record["value"]
    rows = []
    for step, values in sorted(by_step.items()):
        if "held_out_loss" in values:
            of_family: dict[str, list[float]] = {}
            for name, value in sorted(values.items()):
                if name.startswith("accuracy/"):
                    of_family.setdefault(str(family(name.removeprefix("accuracy/"))), []).append(value)
            means = {name: percent(statistics.mean(of_family[name])) for name in sorted(of_family)}
            header = ("step", "held-out loss, nats a token", *means)
            rows.append((str(step), f"{values['held_out_loss']:.3f}", *means.values()))
    return markdown(header, rows)


def accuracies_table(measured: Mapping[str, Mapping[str, Any]]) -> str:
    """The held-in accuracies. Where the right choice always has the same place, the majority is no baseline."""
    rows = []
    for name, entry in sorted(measured.items(), key=lambda item: (str(family(item[0])), item[0])):
        by_template, majority = entry["hard_prompts"].values(), entry["majority"]
        numbers = (
            entry["value"],
            entry["chance"],
            majority if majority < 1 else None,
            min(by_template),
            max(by_template),
        )
        rows.append((name, str(family(name)), *map(percent, numbers)))
    return markdown(("data set", "family", "mini", "chance", "majority", "lowest template", "highest"), rows)


def blocks() -> dict[str, str]:
    """The content of docs/mini.md's blocks."""
    pretraining, validation = (json.loads((BACKBONE / f"{n}.json").read_text()) for n in ("pretraining", "validation"))
    overlap = json.loads((RESULTS / "overlap.json").read_text())
    records = [json.loads(line) for line in (RESULTS / "metrics.jsonl").read_text().splitlines()]
    return {
        "text": text_table(overlap),
        "left out": markdown(("source", "licence"), list(LEFT_OUT.items())),
        "sets": sets_table(overlap),
        "overlap": overlap_table(overlap),
        "pretraining": account(pretraining),
        "progress": progress_table(records),
        "validation": accuracies_table(validation),
    }


def card(page: str) -> str:
    """The model card: the page, with the metadata that the hub reads."""
    return HEADER + page


def main() -> None:
    fill(MINI, blocks())
    (BACKBONE / "README.md").write_text(card(MINI.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
