"""The nano world: its data sets, their rows by split, and its unlabelled text.

    python -m infoprompt_jax.nano.world DIRECTORY      writes nano/<data set>/<split>.jsonl

A row's split follows from a hash of its content: train, validation and test share no row, however many are drawn. The
same version gives the same rows on every machine.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from infoprompt_jax.errors import UserError
from infoprompt_jax.files import cache_directory, whole
from infoprompt_jax.nano import held_in, held_out, reading
from infoprompt_jax.nano.texts import TEXTS

Row = dict[str, Any]

VERSION = 1
PREFIX = "nano/"
ROWS = {"train": 4096, "validation": 512, "test": 1024}  # at most: small worlds have fewer
PRETRAINED_ON = 4  # times as many training rows where the backbone is pretrained on them
SPLITS = {"train": range(0, 80), "validation": range(80, 90), "test": range(90, 100)}  # of the hash, in percent
TRIES = 50  # draws per row before a data set is taken to have no more rows


@dataclasses.dataclass(frozen=True)
class DataSet:
    """`make` draws a row. `lexical`: words alone predict the label, as is usual in such tasks."""

    family: str
    make: Callable[[random.Random], Row]
    held_out: bool = False
    lexical: bool = False


DATASETS = {
    "remarks": DataSet("sentiment", held_in.remarks, lexical=True),
    "films": DataSet("sentiment", held_in.films),
    "meals": DataSet("sentiment", held_in.meals),
    "headlines": DataSet("topic", held_in.headlines, lexical=True),
    "same_topic": DataSet("topic", held_in.same_topic),
    "rewordings": DataSet("paraphrase", held_in.rewordings),
    "twin_questions": DataSet("paraphrase", held_in.twin_questions),
    "questions": DataSet("question classification", held_in.questions, lexical=True),
    "tastes": DataSet("extractive QA", reading.tastes),
    "stories": DataSet("extractive QA", reading.stories),
    "profiles": DataSet("extractive QA", reading.profiles),
    "which_kind": DataSet("multiple-choice QA", reading.which_kind),
    "story_choice": DataSet("multiple-choice QA", reading.story_choice),
    "claims": DataSet("fact check", reading.claims),
    "common_facts": DataSet("fact check", reading.common_facts),
    "relations": DataSet("relation classification", held_in.relations, lexical=True),
    "grammar": DataSet("acceptability", held_in.grammar),
    "quantities": DataSet("quantities", reading.quantities),
    "order": DataSet("order of events", reading.order),
    "concepts": DataSet("generation", held_in.concepts),
    "entailment": DataSet("natural language inference", held_out.entailment, held_out=True),
    "inference": DataSet("natural language inference", held_out.inference, held_out=True),
    "causes": DataSet("sentence completion", held_out.causes, held_out=True),
    "endings": DataSet("sentence completion", held_out.endings, held_out=True),
    "pronouns": DataSet("coreference", held_out.pronouns, held_out=True),
    "senses": DataSet("word sense", held_out.senses, held_out=True),
}
HELD_IN = tuple(name for name, dataset in DATASETS.items() if not dataset.held_out)
HELD_OUT = tuple(name for name, dataset in DATASETS.items() if dataset.held_out)


def rows(dataset: str, split: str, count: int = 0) -> list[Row]:
    """Distinct rows of a split, at most `count` (0 = as many as the files hold); small worlds have fewer."""
    more = PRETRAINED_ON if split == "train" and not DATASETS[dataset].held_out else 1
    return list(_rows(dataset, split, count or ROWS[split] * more))


def _rows(dataset: str, split: str, count: int) -> Iterator[Row]:
    draw = random.Random(f"{VERSION} {dataset} {split}")
    seen: set[str] = set()
    for _ in range(count * TRIES):
        row = DATASETS[dataset].make(draw)
        key = row.pop("key", None)  # the part of a row that splits must not share; absent = the whole row
        fixed = row.pop("split", None)
        content = json.dumps([value for field, value in row.items() if field != "label"])
        if content in seen or split != (fixed or _split(json.dumps(key or content))):
            continue
        seen.add(content)
        yield row
        if len(seen) == count:
            return


def _split(key: str) -> str:
    percent = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) % 100
    return next(split for split, share in SPLITS.items() if percent in share)


def text(draw: random.Random) -> str:
    """A line of one to six unlabelled sentences (`texts.py`)."""
    return draw.choice(TEXTS)(draw)


def write(directory: pathlib.Path, datasets: Iterable[str] = tuple(DATASETS)) -> None:
    """Writes the missing splits, each whole or not at all."""
    for dataset in datasets:
        for split in ROWS:
            path = directory / PREFIX / dataset / f"{split}.jsonl"
            if not path.exists():
                with whole(path) as partial:
                    partial.write_text("".join(json.dumps(row) + "\n" for row in rows(dataset, split)))


def folder(cache_dir: str, name: str = "") -> pathlib.Path:
    """A folder for `data.dir` with the files of data set `nano/...` ("" = of all); missing files are written.

    Raises:
      UserError: the world has no such data set.
    """
    dataset = name.removeprefix(PREFIX)
    if dataset and dataset not in DATASETS:
        raise UserError(f"task.name={name!r} is not one of the nano world's data sets: {', '.join(DATASETS)}.")
    directory = cache_directory(cache_dir) / f"nano-world-{VERSION}"
    write(directory, [dataset] if dataset else DATASETS)
    return directory


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m infoprompt_jax.nano.world DIRECTORY")
    write(pathlib.Path(sys.argv[1]))
