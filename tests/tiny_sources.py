"""Two small data sets of the same rows with three templates each, and a job of source prompts on them."""

from __future__ import annotations

import json
import pathlib
import shutil
from typing import Any

import generated_words
import ml_collections
import tiny_runs

STEPS, N = 4, 3
WORDS, OTHER = "generated/words", "generated/other"
TEMPLATES = {
    "free": ("Name them: {{ words }} ||| {{ words.split()[0] }}", ""),
    "bare": ("{{ words }} ||| {{ answer_choices[label] }}", "animals ||| gadgets"),
    "Yes?": ("Animals? {{ words }} ||| {{ answer_choices[label] }}", "Yes ||| No"),
}
NAMES = [f"{WORDS}:{template}" for template in ("bare", "Yes?", "free")]


def write(path: pathlib.Path) -> pathlib.Path:
    """Data and templates."""
    generated_words.write(path / "data")
    shutil.copytree(path / "data" / WORDS, path / "data" / OTHER)
    for name in (WORDS, OTHER):
        write_templates(path / "templates", name, TEMPLATES)
    return path


def write_templates(folder: pathlib.Path, task: str, prompts: dict[str, tuple[str, str]]) -> None:
    entries = {
        name: {"name": name, "jinja": jinja, "answer_choices": choices} for name, (jinja, choices) in prompts.items()
    }
    (folder / task).mkdir(parents=True)
    (folder / task / "templates.yaml").write_text(json.dumps({"templates": entries}))  # JSON is YAML


def configure(folder: pathlib.Path, **fields: Any) -> ml_collections.ConfigDict:
    """Three templates in two groups, of two and of one."""
    config = tiny_runs.config(
        folder,
        job="rospr_sources",
        task__name=WORDS,
        task__eval_limit=4,
        train__steps=STEPS,
        train__eval_every=0,
        infoprompt__gamma=0.0,
        infoprompt__beta=0.0,
        rospr__group=2,
        rospr__instances=N,
        scoring__max_length=2,
    )
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in fields.items()})
    return config
