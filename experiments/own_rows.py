"""A hundred labelled rows of English on mini, offline: what `configs/own_data.py:mini` reaches on real rows.

    python -m experiments.own_rows --data DATA     runs the tasks that have no result yet
    python -m experiments.mini_page                          writes docs/mini.md's table from the results

Each task has a template that a user may write, for a data set of `--data`. Its one run trains a prompt for each seed,
on a hundred rows of its own that the seed draws, balanced over the labels. The last prompt of each seed is measured on
rows that were not trained on. No rows choose anything: templates and schedule come from trials on other rows and
another seed. A bag of words (logistic regression) reads the same rows.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from experiments.mini_page import RESULTS
from experiments.world import bag_of_words
from infoprompt_jax.data.batches import subset
from infoprompt_jax.data.local_files import LocalSource
from infoprompt_jax.data.splits import split_bounds, split_name
from infoprompt_jax.files import whole
from infoprompt_jax.reports import measurements

OUT = RESULTS / "own_rows"
SHOTS = 100
SEEDS = (10, 11, 12, 13, 14)  # seed 0 was for trials
METRIC = "accuracy"


@dataclasses.dataclass(frozen=True)
class Own:
    """A data set, the splits that prompts are trained and measured on, and the three lines that a user writes."""

    data_set: str
    train: str
    measured: str
    text: str
    choices: str

    @property
    def fields(self) -> list[str]:
        """The options of the command."""
        task = {
            "name": self.data_set,
            "train_split": self.train,
            "eval_split": self.measured,
            "input": self.text,
            "target": "{{ answer_choices[label] }}",
            "answer_choices": self.choices,
        }
        return [f"--config.task.{name}={value}" for name, value in task.items()]


PRODUCT = "Review: {{ text }}\nIs the customer's opinion of the product good or bad?"
PRAISE = "{{ text }}\nIs this a complaint or praise?"
TOPICS = "{{ text }}\nWhich topic is this: world, sports, business or technology?"
SPLITS = {  # to train and to measure on; trials measured on other rows
    "glue/sst2": ("train", "validation[400:]"),
    "ag_news": ("train", "test[-400:]"),
    "cr": ("train[:-400]", "train[-400:]"),
}
TASKS = {
    name: Own(data_set, *SPLITS[data_set], text, choices)
    for name, data_set, text, choices in (
        ("SST-2, complaint or praise", "glue/sst2", PRAISE.replace("text", "sentence"), "complaint ||| praise"),
        ("AG News, topics", "ag_news", TOPICS, "world ||| sports ||| business ||| technology"),
        ("CR, complaint or praise", "cr", PRAISE, "complaint ||| praise"),
        ("CR, good or bad", "cr", PRODUCT, "bad ||| good"),
    )
}


def train(own: Own, data: str, workdir: pathlib.Path) -> float:
    """Runs the command of docs/mini.md on SHOTS rows with each seed, and returns its seconds."""
    fields = {
        "data.dir": data,
        "task.shots": SHOTS,
        "task.eval_limit": 0,
        "train.eval_every": 0,
        "fleet.seeds": SEEDS,
    }
    options = [f"--config.{name}={value}" for name, value in fields.items()]
    command = [sys.executable, "-m", "infoprompt_jax.main", "--config=configs/own_data.py:mini", f"--workdir={workdir}"]
    start = time.perf_counter()
    subprocess.run([*command, *options, *own.fields], check=True)
    return time.perf_counter() - start


def words_alone(own: Own, data: str) -> list[float]:
    """Accuracy of a bag of words fitted on each seed's rows, on the rows that the prompts are measured on."""
    train_rows, test = (rows_of(own, data, split) for split in (own.train, own.measured))
    labels = np.array([row["label"] for row in train_rows])
    drawn = [subset(len(train_rows), SHOTS, seed, labels) for seed in SEEDS]
    return [bag_of_words([train_rows[n] for n in rows], test) for rows in drawn]


def rows_of(own: Own, data: str, split: str) -> list[dict[str, Any]]:
    """The rows of a slice of a split, with their text and label alone."""
    rows = list(map(json.loads, LocalSource(data, own.data_set).read(split_name(split))))
    start, stop = split_bounds(split, len(rows))
    texts = ("text", "sentence", "label")
    return [{name: row[name] for name in texts if name in row} for row in rows[start:stop]]


def record(own: Own, data: str) -> dict[str, Any]:
    """The result of a task."""
    with tempfile.TemporaryDirectory() as directory:
        workdir = pathlib.Path(directory, "run")
        seconds = train(own, data, workdir)
        summary = json.loads((workdir / "summary.json").read_text())
    references = {reference["name"]: reference["best"][METRIC] for reference in summary["references"]}
    return {
        **dataclasses.asdict(own),
        "shots": SHOTS,
        "rows": next(iter(summary["examples"].values())),
        "no_prompt": references["no prompt"],
        "majority": references["most frequent answer"],
        "prompts": {member["name"]: member["final"][METRIC] for member in summary["members"]},
        "bag_of_words": words_alone(own, data),
        "steps": summary["members"][0]["steps"],
        "seconds": seconds,
        "machine": measurements.machine(),
    }


def run(data: str, out: pathlib.Path) -> None:
    """Measures the tasks without a result, and writes theirs."""
    out.mkdir(parents=True, exist_ok=True)
    for name, own in TASKS.items():
        result = out / f"{name.replace(', ', '-').replace(' ', '_').lower()}.json"
        if not result.exists():
            content = json.dumps(measurements.rounded({"task": name, **record(own, data)}), indent=1)
            with whole(result) as partial:
                partial.write_text(content + "\n")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", default="data", help="folder with the data sets' files")
    options.add_argument("--out", type=pathlib.Path, default=OUT)
    given = options.parse_args()
    run(given.data, given.out)


if __name__ == "__main__":
    main()
