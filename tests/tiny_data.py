"""Own data for tests: four rows in a file, an inline template for them, and configs that name them."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import ml_collections

from infoprompt_jax.data.selection import find_tasks
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.settings import defaults

ROWS = [
    {"text": "good, really", "label": 1},
    {"text": "bad ||| worse", "label": 0},
    {"text": 'it said "no"', "label": 0},
    {"text": "007", "label": 1},
]
INLINE = {"input": "Review: {{ text }}", "target": "{{ answer_choices[label] }}", "answer_choices": "bad ||| good"}


def configure(folder: pathlib.Path | str, name: str, **task: Any) -> ml_collections.ConfigDict:
    config = defaults()
    config.data.dir = str(folder)
    config.task.update(name=name, **task)
    return config


def one_task(config: ml_collections.ConfigDict) -> Task:
    (task,) = find_tasks(config)
    return task


def write_jsonl(path: pathlib.Path, rows: Sequence[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
