"""mini without a prompt, on rows that it was not trained on, beside the most frequent answer and a bag of words.

    python -m experiments.mini_zero_shot [NAME ...] --data DATA     measures what has no result yet
    python -m experiments.mini_page                                           writes docs/mini.md's tables

Three groups of data sets: real sentiment, topics and questions, T0's 11 held-out sets with its 116 templates, and
BIG-bench. Templates are promptsource's, in DATA/promptsource. Of a split, `--rows` rows are drawn, the same for all
templates. Each data set has a file in results/mini/zero_shot, so the command can be stopped and typed again.

A fourth group has only the bag of words: data sets that mini was trained on. validation.json beside the backbone has
mini's accuracies there. The bag of words is a logistic regression on the training split's word counts, measured on the
whole split. It needs a training split, and answers that are the same for all rows.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import ml_collections

from experiments.mini_page import BACKBONE, RESULTS
from experiments.world import bag_of_words
from infoprompt_jax import settings
from infoprompt_jax.data import bigbench, p3, selection
from infoprompt_jax.data.datasets import Dataset
from infoprompt_jax.data.families import family
from infoprompt_jax.data.local_files import LocalSource, holds
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.files import whole
from infoprompt_jax.pretraining import validation
from infoprompt_jax.reports import measurements
from infoprompt_jax.t5.backbone import Backbone, load_backbone
from infoprompt_jax.training.tokenized_splits import TokenizedSplits

OUT = RESULTS / "zero_shot"
REAL, HELD_OUT, BIG_BENCH, HELD_IN = "real", "held out", "BIG-bench", "held in"
SENTIMENT = {"cr", "glue/sst2"}  # the families of the others are P3's
# promptsource has no templates for it; the second is that of configs/own_data.py.
INLINE = {
    "cr": {
        "positive or negative": ("{{ text }} Is this review positive or negative?", "negative ||| positive"),
        "good or bad": ("Review: {{ text }}\nIs the customer's opinion of the product good or bad?", "bad ||| good"),
    }
}
LABELS = {"trec": "coarse_label"}  # the column that the bag of words predicts, if it is not `label`


def data_sets(group: str) -> tuple[Dataset, ...]:
    """The data sets of a group, each with its split and, of P3's, its templates."""
    if group == REAL:
        splits = {"glue/sst2": "validation", "cr": "validation", "ag_news": "test", "trec": "test"}
        return tuple(Dataset(name, name, split) for name, split in splits.items())
    if group == HELD_OUT:
        return tuple(dataclasses.replace(one, templates=of_t0(one)) for one in p3.held_out())
    return bigbench.evaluation_tasks()


def of_t0(dataset: Dataset) -> tuple[str, ...]:
    """Those of P3's templates that T0 is evaluated with."""
    return tuple(name for name in dataset.templates if name not in dataset.beyond_t0)


def config_of(data: str, group: str) -> ml_collections.ConfigDict:
    config = settings.defaults()
    config.job, config.backbone.name, config.prompt.length = "evaluate", "mini", 0
    config.data.update(dir=data, max_input_length=512, max_target_length=64, buckets=(48, 96, 192, 512))
    # The package has BIG-bench's templates.
    config.task.templates_dir = "" if group == BIG_BENCH else f"{data}/promptsource"
    config.train.eval_batch_size = 32
    return config


def selected(dataset: Dataset, config: ml_collections.ConfigDict) -> selection.Selection:
    """The tasks of a data set that can be ranked, and what is skipped."""
    if dataset.name not in INLINE:
        return selection.available([dataset], config, ranked=True)
    made = []
    for name, (text, choices) in INLINE[dataset.name].items():
        config.task.update(input=text, target="{{ answer_choices[label] }}", answer_choices=choices, templates_dir="")
        (one,) = selection.available([dataset], config, ranked=True).selected
        template = dataclasses.replace(one.task.template, name=name)
        made.append(dataclasses.replace(one, task=dataclasses.replace(one.task, template=template)))
    return selection.Selection(tuple(made), ())


def measure(dataset: Dataset, group: str, data: str, rows: int, backbone: Backbone) -> dict[str, Any]:
    """The record of a data set: what `validation.data_set` makes of it, and what was skipped."""
    config = config_of(data, group)
    choice = selected(dataset, config)
    tasks = [one.task for one in choice.selected]
    record = {"skipped": {one.name: one.reason for one in choice.skipped}}
    if not tasks:
        return record
    tokenized = TokenizedSplits(config, backbone)
    drawn = [tokenized.rows(task, dataset.split, rows) for task in tasks]
    predictions = validation.predict(backbone, drawn, config)
    parts = list(zip(tasks, drawn, predictions, strict=True))
    words = words_alone(data, dataset, tasks) if group != BIG_BENCH else None
    return record | validation.data_set(parts, limit=0) | {"bag_of_words": words}


def words_alone(data: str, dataset: Dataset, tasks: Sequence[Task] = ()) -> float | None:
    """Accuracy of the bag of words; None where the answers differ by row, or the training split or labels are absent.

    Args:
      tasks: the data set's; () if its answers are known to be the same for all rows.
    """
    label = LABELS.get(dataset.task, "label")
    if any(task.choices is None for task in tasks) or not holds(data, dataset.task):
        return None
    source = LocalSource(data, dataset.task)
    if not {"train", dataset.split} <= {*source.splits}:
        return None
    train, test = ([*texts(source.read(split), label)] for split in ("train", dataset.split))
    return bag_of_words(train, test) if train and test else None


def texts(lines: Sequence[str], label: str) -> Iterator[dict[str, Any]]:
    """The columns of text and the label, of the rows that have one."""
    for row in map(json.loads, lines):
        if isinstance(row.get(label), int) and row[label] >= 0:
            yield {"label": row[label]} | {name: value for name, value in row.items() if isinstance(value, str)}


def held_in(data: str) -> Iterator[Dataset]:
    """The data sets of mini's training with answers that are the same for all rows, and the split to measure on."""
    for name in json.loads((BACKBONE / "validation.json").read_text()):
        if family(name) in ("sentiment", "topic", "paraphrase") and holds(data, name):
            splits = LocalSource(data, name).splits
            yield Dataset(name, name, "validation" if "validation" in splits else "test")


def run(data: str, rows: int, out: pathlib.Path, names: Sequence[str] = ()) -> None:
    """Measures the data sets without a result, only those of `names` if there are any, and writes their results."""
    out.mkdir(parents=True, exist_ok=True)
    everything = [(HELD_IN, one) for one in held_in(data)]
    everything += [(group, one) for group in (REAL, HELD_OUT, BIG_BENCH) for one in data_sets(group)]
    by_name = {dataset.name: (group, dataset) for group, dataset in everything}
    if unknown := [name for name in names if name not in by_name]:
        raise SystemExit(f"There is no data set {unknown[0]}: choose from {', '.join(by_name)}.")
    backbone = load_backbone("mini", remat="none", unroll=8)
    for group, dataset in [by_name[name] for name in names] or everything:
        result = out / f"{group} {dataset.name}.json".replace("/", "-").replace(" ", "-")
        if result.exists():
            continue
        record: dict[str, Any] = {"data_set": dataset.name, "group": group, "split": dataset.split}
        record["family"] = "sentiment" if dataset.name in SENTIMENT else family(dataset.task)
        if group == HELD_IN:
            record["bag_of_words"] = words_alone(data, dataset)
        else:
            record |= measure(dataset, group, data, rows, backbone)
        print(json.dumps({name: record.get(name) for name in ("data_set", "value", "majority", "bag_of_words")}))
        with whole(result) as partial:
            partial.write_text(json.dumps(measurements.rounded(record | {"machine": measurements.machine()})) + "\n")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("names", nargs="*", metavar="NAME", help="data sets, as results name them; none: all")
    options.add_argument("--data", default="data", help="folder of rows and of promptsource's templates")
    options.add_argument("--rows", type=int, default=128, help="rows of each data set; 0 = all")
    options.add_argument("--out", type=pathlib.Path, default=OUT)
    given = options.parse_args()
    run(given.data, given.rows, given.out, given.names)


if __name__ == "__main__":
    main()
