"""Writes docs/nano.md's tables: `python -m experiments.nano_page`.

It reads the files of these commands, and pretraining.json and validation.json beside the backbone:

    python -m experiments.world --out experiments/results/nano
    python -m experiments.nano_run
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.pages import NANO
from infoprompt_jax.reports.documents import fill
from infoprompt_jax.reports.tables import markdown

RESULTS = pathlib.Path(__file__).parent / "results" / "nano"
BACKBONE = pathlib.Path(__file__).parents[1] / "infoprompt_jax" / "nano" / "backbone"
LAST = "test accuracy"  # column of a run's table that the page has room for


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def world_table(records: Sequence[Mapping[str, Any]]) -> str:
    header = (
        "data set",
        "family",
        "templates",
        "rows: train",
        "validation",
        "test",
        "chance",
        "majority",
        "bag of words",
        "choices alone",
    )
    return markdown(
        header,
        [
            (
                record["subject"] + " (held out)" * record["held_out"],
                record["family"],
                *(str(record[field]) for field in ("hard_prompts", "train", "validation", "test")),
                *(percent(record[field]) for field in ("chance", "majority", "bag_of_words", "choices_alone")),
            )
            for record in records
        ],
    )


def stated_table(records: Sequence[Mapping[str, Any]]) -> str:
    """The shares of test rows whose facts the pretraining text states, with the right answer and with a wrong one."""
    rows = [
        (record["subject"], percent(record["stated"]), percent(record["stated_wrongly"]))
        for record in records
        if record["stated"] is not None
    ]
    return markdown(("data set", "test rows stated with the right answer", "with a wrong one"), rows)


def run_block(run: Mapping[str, Any]) -> str:
    """The table that `make run` prints at its end, up to `LAST`; its other columns, named; and its duration."""
    (record,), machine = run["records"], run["machine"]
    header = record["table"][0]
    end = header.index(LAST) + len(LAST)
    table = "\n".join(line[:end].rstrip() for line in record["table"])
    others = ", ".join(f"`{name}`" for name in re.split(r"\s{2,}", header[end:].strip()))
    took = f"{record['seconds']:.0f} seconds on {machine['cores']} cores ({machine['processor']})"
    further = f"The command prints more columns than this page has room for: {others}."
    return f"{took}, compilation included:\n\n```text\n{table}\n```\n\n{further}"


def validation_table(measured: Mapping[str, Mapping[str, Any]]) -> str:
    header = ("data set", "metric", "backbone", "chance", "majority", "lowest template", "highest")
    rows = []
    for name, scores in measured.items():
        by_template = scores["hard_prompts"].values()
        numbers = (scores["value"], scores["chance"], scores["majority"], min(by_template), max(by_template))
        rows.append((name.removeprefix("nano/"), scores["metric"].replace("_", " "), *map(percent, numbers)))
    return markdown(header, rows)


def account(pretraining: Mapping[str, Any]) -> str:
    """How the weights were trained, as a table of facts."""
    losses, steps = pretraining["losses"], str(pretraining["steps"])
    planned = pretraining.get("planned_steps", pretraining["steps"])
    if planned != pretraining["steps"]:
        steps += f" of {planned} planned"
    facts = {
        "seed": pretraining["seed"],
        "steps": f"{steps}, the first {pretraining['denoising_steps']} with only span corruption",
        "batch": pretraining["config"]["train"]["batch_size"],
        "examples": " and ".join(
            f"{count:,} of {kind.replace('hard_prompts', 'templates')}"
            for kind, count in pretraining["examples"].items()
        ),
        "time": f"{pretraining['seconds'] / 60:.0f} minutes on {pretraining['device']}",
        "loss at the end, nats": ", ".join(
            f"{value:.2f} ({name.replace('_loss', '')})" for name, value in losses["multitask_phase"].items()
        ),
        "versions": ", ".join(f"{name} {version}" for name, version in pretraining["versions"].items()),
    }
    return markdown(("", ""), [(name, str(value)) for name, value in facts.items()])


def blocks() -> dict[str, str]:
    """The generated parts of docs/nano.md, by name."""
    records = json.loads((RESULTS / "world.json").read_text())["records"]
    run = json.loads((RESULTS / "run.json").read_text())
    pretraining, validation = (json.loads((BACKBONE / f"{n}.json").read_text()) for n in ("pretraining", "validation"))
    return {
        "run": run_block(run),
        "world": world_table(records),
        "stated": stated_table(records),
        "pretraining": account(pretraining),
        "validation": validation_table(validation),
    }


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    fill(NANO, blocks())


if __name__ == "__main__":
    main()
