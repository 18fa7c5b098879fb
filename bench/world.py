"""What the nano world's data sets hold, and how far words alone go: `python -m bench.world [--out DIRECTORY]`.

Beside what guessing and the most frequent answer get, a logistic regression on counts of single words, fitted on the
whole training split and scored on the test split: near the majority, a data set asks for more than which words occur.
"""

from __future__ import annotations

import argparse
import collections
import json
import pathlib
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any

from bench import reports
from infoprompt_jax.nano import world
from infoprompt_jax.templates import load_templates

COLUMNS = ("held_out", "train", "validation", "test", "hard_prompts", "chance", "majority", "bag_of_words")


def bag_of_words(train: Sequence[world.Row], test: Sequence[world.Row]) -> float:
    """Accuracy on `test` of a logistic regression on the counts of the words of all fields, fitted on `train`."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(CountVectorizer(), LogisticRegression(max_iter=300))
    texts, labels = zip(*((" ".join(_texts(row)), row["label"]) for row in [*train, *test]), strict=True)
    model.fit(texts[: len(train)], labels[: len(train)])
    return float(model.score(texts[len(train) :], labels[len(train) :]))


def _texts(row: world.Row) -> Iterator[str]:
    for field, value in row.items():
        if field != "label":
            yield value if isinstance(value, str) else " ".join(value)


def majority(rows: Sequence[world.Row]) -> float:
    """The share of the most frequent label, or answer where answers are free."""
    answers = [row.get("label", row.get("answer", row.get("target"))) for row in rows]
    return collections.Counter(answers).most_common(1)[0][1] / len(rows)


def record(name: str) -> dict[str, Any]:
    """One data set; `chance` is 0 and `bag_of_words` None where answers are free text."""
    splits = {split: world.rows(name, split) for split in world.ROWS}
    labels = {row["label"] for row in splits["test"] if "label" in row}
    return {
        "subject": name,
        "family": world.DATASETS[name].family,
        "held_out": world.DATASETS[name].held_out,
        "lexical": world.DATASETS[name].lexical,
        **{split: len(rows) for split, rows in splits.items()},
        "hard_prompts": len(load_templates(None, world.PREFIX + name)),
        "chance": 1 / len(labels) if labels else 0.0,
        "majority": majority(splits["test"]),
        "bag_of_words": bag_of_words(splits["train"], splits["test"]) if labels else None,
    }


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description="The nano world's data sets and a bag-of-words baseline.")
    options.add_argument("--out", type=pathlib.Path, help="directory for the results, as JSON")
    given = options.parse_args(arguments)
    records = []
    for name in world.DATASETS:
        records.append(record(name))
        print(json.dumps({"bench": "world", **records[-1]}), flush=True)
    print(f"\n{'data set':16}" + "  ".join(f"{column:>12}" for column in COLUMNS))
    for found in records:
        print(f"{found['subject']:16}" + "  ".join(f"{_cell(found[column]):>12}" for column in COLUMNS))
    versions = {"world": world.VERSION, "scikit-learn": metadata.version("scikit-learn")}
    reports.save(given.out, "world", records, versions=versions)


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
