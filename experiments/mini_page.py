"""Writes docs/mini.md's tables and charts, and the model card from it: `python -m experiments.mini_page`.

It reads pretraining.json and validation.json beside the backbone, and of `experiments/results/mini` the run's
metrics.jsonl, the corpus's overlap.json, and what `experiments.mini_zero_shot`, `experiments.own_rows` and
`experiments.mini_rerun` measured. The prompts for SST-2 are those of `experiments.real`.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from experiments import arms, mini_charts, mini_trials
from experiments.cells import plus_minus
from experiments.mini_sources import LEFT_OUT, LICENCES, RENDERED, SETS, TEXT
from experiments.nano_page import account, percent
from experiments.pages import MINI, UNMEASURED
from experiments.real import EXPERIMENT, REFERENCES, SEEDS, setting
from experiments.real_config import STEPS
from infoprompt_jax.data.families import family
from infoprompt_jax.reports.documents import fill
from infoprompt_jax.reports.tables import markdown

RESULTS = pathlib.Path(__file__).parent / "results" / "mini"
BACKBONE = pathlib.Path(__file__).parents[1] / "infoprompt_jax" / "mini" / "backbone"
# The groups of `experiments.mini_zero_shot`, and the title of the row of means.
GROUPS = {"real": "", "held out": "mean of {} held-out sets", "BIG-bench": "mean of {} BIG-bench tasks"}
RERUNS = ("rerun-bfloat16", "rerun-float32")  # files of `experiments.mini_rerun`
HEADER = """---
language: en
library_name: transformers
license: other
license_name: terms-of-its-sources
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


def accuracies_table(measured: Mapping[str, Mapping[str, Any]], words: Mapping[str, float | None] = {}) -> str:
    """The held-in accuracies, and the bag of words' by data set (`words`).

    Where the right choice always has the same place, the majority is no baseline.
    """
    rows = []
    for name, entry in sorted(measured.items(), key=lambda item: (str(family(item[0])), item[0])):
        by_template, majority = entry["hard_prompts"].values(), entry["majority"]
        numbers = (
            entry["value"],
            entry["chance"],
            majority if majority < 1 else None,
            min(by_template),
            max(by_template),
            words.get(name),
        )
        rows.append((name, str(family(name)), *map(percent, numbers)))
    header = ("data set", "family", "mini", "chance", "majority", "lowest template", "highest", "bag of words")
    return markdown(header, rows)


def results(name: str) -> list[dict[str, Any]]:
    """The records of a folder of results, in the order of their files' names."""
    return [json.loads(path.read_text()) for path in sorted((RESULTS / name).glob("*.json"))]


def zero_shot_table(records: Sequence[Mapping[str, Any]]) -> str:
    """Accuracies without a prompt on data sets that mini was not trained on, group by group, with each group's mean."""
    rows: list[tuple[str, ...]] = []
    for group, mean in GROUPS.items():
        measured = [record for record in records if record["group"] == group and "value" in record]
        rows += [zero_shot_row(record) for record in measured]
        if mean and measured:
            numbers = [[r[name] for r in measured] for name in ("value", "chance", "majority")]
            means = [percent(statistics.mean(values)) for values in numbers]
            templates = sum(len(record["hard_prompts"]) for record in measured)
            rows.append((mean.format(len(measured)), "", str(templates), "", means[0], "", "", *means[1:], ""))
    header = ("data set", "family", "templates", "rows", "mini", "lowest", "highest", "chance", "majority")
    return markdown((*header, "bag of words"), rows) if rows else UNMEASURED


def zero_shot_row(record: Mapping[str, Any]) -> tuple[str, ...]:
    by_template = record["hard_prompts"].values()
    shown = (record["value"], min(by_template), max(by_template), record["chance"], record["majority"])
    counts = (str(len(by_template)), str(record["rows"]))
    name, of_family = record["data_set"], record["family"] or "-"
    return (name, of_family, *counts, *map(percent, shown), percent(record["bag_of_words"]))


def own_rows_table(records: Sequence[Mapping[str, Any]]) -> str:
    """Accuracies before and after a prompt was trained on a few rows: means over seeds, with the range."""
    rows = []
    for record in sorted(records, key=lambda one: one["no_prompt"]):
        prompts = record["prompts"].values()
        spread = f"{percent(statistics.mean(prompts))} ({percent(min(prompts))} to {percent(max(prompts))})"
        references = map(percent, (record["majority"], record["no_prompt"]))
        rows.append(
            (record["task"], str(record["rows"]), *references, spread, percent(statistics.mean(record["bag_of_words"])))
        )
    header = ("task", "rows measured", "most frequent answer", "mini", "mini with a prompt", "bag of words")
    return markdown(header, rows) if rows else UNMEASURED


def sst2_table(of_real: arms.Results, bag_of_words: float | None) -> str:
    """Plain prompt tuning on SST-2 by the number of training rows, beside what needs no prompt.

    The bag of words reads all training rows, so it stands in the line of all of them.
    """
    rows = []
    for shots, steps in STEPS.items():
        result = of_real.get(f"sst2,{setting(shots)},plain,{SEEDS}")
        if result is not None:
            scores = arms.values(result, arms.test)
            references = (percent(result["references"][name]) for name in REFERENCES)
            words = percent(bag_of_words if shots == "full" else None)
            ends = percent(scores.min()), percent(scores.max())
            rows.append((f"{result['training_examples']:,}", steps, *references, plus_minus(scores), *ends, words))
    header = ("training rows", "steps of 8 rows", *REFERENCES, "with a prompt, ten seeds", "lowest seed", "highest")
    return markdown((*header, "bag of words"), rows) if rows else UNMEASURED


def rerun_table() -> str:
    """Losses of the recorded run beside those of `experiments.mini_rerun`, at the steps that were made again."""
    files = [RESULTS / f"{name}.json" for name in RERUNS]
    made = [json.loads(file.read_text()) for file in files if file.exists()]
    if not made:
        return UNMEASURED
    again = [{record["step"]: record for record in one["records"]} for one in made]
    rows = [
        [str(step)]
        + [cell for what in ("loss", "gradient_norm") for cell in beside([run.get(step, {}) for run in again], what)]
        for step in sorted({step for run in again for step in run})
    ]
    whose = ["recorded", *(f"{one['device']}, {one['dtype']}" for one in made)]
    return markdown(("step", *(f"{what}, {of}" for what in ("loss", "gradient norm") for of in whose)), rows)


def beside(records: Sequence[Mapping[str, float]], what: str) -> list[str]:
    """The recorded value of a step and that of each run that made it again; empty where it did not."""
    recorded = next(record[f"recorded_{what}"] for record in records if record)
    return [f"{recorded:.3f}", *(f"{record[what]:.3f}" if record else "" for record in records)]


def blocks() -> dict[str, str]:
    """The content of docs/mini.md's blocks."""
    pretraining, validation = (json.loads((BACKBONE / f"{n}.json").read_text()) for n in ("pretraining", "validation"))
    overlap = json.loads((RESULTS / "overlap.json").read_text())
    records = [json.loads(line) for line in (RESULTS / "metrics.jsonl").read_text().splitlines()]
    zero_shot = results("zero_shot")
    words = {record["data_set"]: record["bag_of_words"] for record in zero_shot if record["group"] == "held in"}
    of_sst2 = next(record["bag_of_words"] for record in zero_shot if record["data_set"] == "glue/sst2")
    return {
        "text": text_table(overlap),
        "left out": markdown(("source", "licence"), list(LEFT_OUT.items())),
        "sets": sets_table(overlap),
        "overlap": overlap_table(overlap),
        "pretraining": account(pretraining),
        "rerun": rerun_table(),
        "progress": progress_table(records),
        "validation": accuracies_table(validation, words),
        "sst2": sst2_table(arms.read(EXPERIMENT.results), of_sst2),
        "trials": mini_trials.table(),
        "zero shot": zero_shot_table(zero_shot),
        "own rows": own_rows_table(results("own_rows")),
    }


def card(page: str) -> str:
    """The model card: the page with the metadata that the hub reads, and without links to files that it lacks."""
    without_pictures = re.sub(r"!\[[^]]*\]\([^)]*\)\n\n", "", page)
    return HEADER + re.sub(r"\[([^]]*)\]\(([\w/-]+\.md)[^)]*\)", r"\1 (docs/\2)", without_pictures)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    fill(MINI, blocks())
    mini_charts.write(results("zero_shot"), results("own_rows"))
    (BACKBONE / "README.md").write_text(card(MINI.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
