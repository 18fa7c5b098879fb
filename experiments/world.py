"""The nano world's data sets and their baselines: `python -m experiments.world [--out DIRECTORY]`.

The baselines are chance, the most frequent answer, and a bag of words: a logistic regression on word counts, fitted on
the training split and scored on the test split. A score near the most frequent answer's means that words alone do not
predict the label. For rows with their own choices, another regression reads the choices alone.

For the held-out data sets about facts of the pretraining's text: the share of test rows for which the text states the
right answer word for word, and the share for which it states a wrong one.
"""

from __future__ import annotations

import argparse
import collections
import functools
import json
import pathlib
import random
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any

from infoprompt_jax import settings
from infoprompt_jax.data.template_yaml import load_templates
from infoprompt_jax.nano import world
from infoprompt_jax.reports import measurements
from infoprompt_jax.reports.tables import aligned

STATED = ("causes", "endings", "pronouns", "senses")  # about facts of the pretraining's text
COLUMNS = ("held_out", "train", "validation", "test", "hard_prompts", "chance", "majority", "bag_of_words",
           "choices_alone", "stated", "stated_wrongly")  # fmt: skip
CHOICES = {
    "causes": ("choice1", "choice2"),
    "pronouns": ("option1", "option2"),
    "endings": ("endings",),
    "which_kind": ("choices",),
    "story_choice": ("choices",),
    "quantities": ("choices",),
    "order": ("choices",),
}


def bag_of_words(train: Sequence[world.Row], test: Sequence[world.Row]) -> float:
    """Accuracy on `test` of a logistic regression on the counts of the words of all fields, fitted on `train`."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(CountVectorizer(), LogisticRegression(max_iter=300))
    texts, labels = zip(*((" ".join(_texts(row)), row["label"]) for row in [*train, *test]), strict=True)
    model.fit(texts[: len(train)], labels[: len(train)])
    return float(model.score(texts[len(train) :], labels[len(train) :]))


def choices_of(name: str, row: world.Row) -> list[str]:
    """The answer choices of a row; none if all rows have the same."""
    values = [row[field] for field in CHOICES.get(name, ())]
    return values if all(isinstance(value, str) for value in values) else list(*values)


def choices_alone(name: str, train: Sequence[world.Row], test: Sequence[world.Row]) -> float:
    """Accuracy on `test` of a logistic regression on the words of each choice, fitted on `train`."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(CountVectorizer(token_pattern=r"\S+"), LogisticRegression(max_iter=300))
    pairs = [(text, i == row["label"]) for row in train for i, text in enumerate(choices_of(name, row))]
    model.fit(*zip(*pairs, strict=True))
    best = [model.decision_function(choices_of(name, row)).argmax() for row in test]
    return sum(int(choice) == row["label"] for choice, row in zip(best, test, strict=True)) / len(test)


def statements(name: str, row: world.Row, answer: int) -> list[str]:
    """The lines of pretraining text that state this answer of a row."""
    if name == "pronouns":
        return [row["sentence"].replace("_", row[f"option{answer + 1}"])]
    if name == "senses":
        both = row["sentence1"], row["sentence2"]
        return [" ".join(both), " ".join(reversed(both))] if answer else []
    if name == "causes":
        premise, other = row["premise"], row[f"choice{answer + 1}"]
        first, then = (premise, other) if row["question"] == "effect" else (other, premise)
        return _caused(first, then, premise.split()[0])
    opening, cause = row["ctx"].removesuffix(".").split(". ")
    return _caused(cause, row["endings"][answer], opening.split()[0])


def _caused(first: str, then: str, person: str) -> list[str]:
    """Two sentences joined as in `texts.cause`: the first subject is the name, the second a pronoun."""
    cause, effect = (sentence.rstrip(".").split(" ", 1)[1] for sentence in (first, then))
    pronouns = ("she", "he")
    return [
        text
        for they in pronouns
        for text in (
            f"{person} {cause}, so {they} {effect}.",
            f"{person} {effect} because {they} {cause}.",
            f"{person} {cause}. Then {they} {effect}.",
        )
    ]


@functools.cache
def pretraining_text() -> frozenset[str]:
    """The lines of text that configs/nano_pretrain.py trains on."""
    config = settings.defaults()
    draw = random.Random(config.seed)
    return frozenset(world.text(draw) for _ in range(config.pretrain.lines))


def stated(name: str, rows: Sequence[world.Row], right: bool) -> float:
    """The share of rows for which the pretraining's text states the right answer, or a wrong one."""
    count = 0
    for row in rows:
        wrong = [answer for answer in range(len(choices_of(name, row)) or 2) if answer != row["label"]]
        answers = [row["label"]] if right else wrong
        count += any(text in pretraining_text() for answer in answers for text in statements(name, row, answer))
    return count / len(rows)


def _texts(row: world.Row) -> Iterator[str]:
    for field, value in row.items():
        if field != "label":
            yield value if isinstance(value, str) else " ".join(value)


def majority(rows: Sequence[world.Row]) -> float:
    """The share of the most frequent label, or of the most frequent answer of free text."""
    answers = [row.get("label", row.get("answer", row.get("target"))) for row in rows]
    return collections.Counter(answers).most_common(1)[0][1] / len(rows)


def chance(name: str, rows: Sequence[world.Row], labels: int) -> float:
    """Accuracy of guessing among the row's choices or all labels; 0 for free text."""
    if name in CHOICES:
        return sum(1 / len(choices_of(name, row)) for row in rows) / len(rows)
    return 1 / labels if labels else 0.0


def record(name: str) -> dict[str, Any]:
    """The record of a data set; for free text, `chance` is 0 and `bag_of_words` None."""
    splits = {split: world.rows(name, split) for split in world.ROWS}
    labels = {row["label"] for row in splits["test"] if "label" in row}
    return {
        "subject": name,
        "family": world.DATASETS[name].family,
        "held_out": world.DATASETS[name].held_out,
        "lexical": world.DATASETS[name].lexical,
        **{split: len(rows) for split, rows in splits.items()},
        "hard_prompts": len(load_templates(None, world.PREFIX + name)),
        "chance": chance(name, splits["test"], len(labels)),
        "majority": majority(splits["test"]),
        "bag_of_words": bag_of_words(splits["train"], splits["test"]) if labels else None,
        "choices_alone": choices_alone(name, splits["train"], splits["test"]) if name in CHOICES else None,
        "stated": stated(name, splits["test"], right=True) if name in STATED else None,
        "stated_wrongly": stated(name, splits["test"], right=False) if name in STATED else None,
    }


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description="The nano world's data sets and a bag-of-words baseline.")
    options.add_argument("--out", type=pathlib.Path, help="directory for the results, as JSON")
    given = options.parse_args(arguments)
    records = []
    for name in world.DATASETS:
        records.append(record(name))
        print(json.dumps({"bench": "world", **records[-1]}), flush=True)
    rows = ([each["subject"], *(_cell(each[column]) for column in COLUMNS)] for each in records)
    print(f"\n{aligned(['data set', *COLUMNS], rows)}")
    versions = {"world": world.VERSION, "scikit-learn": metadata.version("scikit-learn")}
    if given.out:
        measurements.save(given.out, "world", records, versions=versions)


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
