"""Real rows for the measurements: a split of `--data DIR`, rendered and tokenised as a run does it."""

from __future__ import annotations

import argparse

from infoprompt_jax import settings
from infoprompt_jax.data.examples import examples
from infoprompt_jax.data.rows import Rows
from infoprompt_jax.data.tokenization import Part, tokenized
from infoprompt_jax.t5 import hub
from infoprompt_jax.t5.tokenizer import Tokenizer, load_tokenizer
from infoprompt_jax.training import recorded

LENGTHS = 512, 128  # of inputs and targets: the config's defaults


def add_options(options: argparse.ArgumentParser) -> None:
    """Where rows and the vocabulary lie."""
    options.add_argument(
        "--data", help="directory of the files `<data set>/<split>.jsonl` (docs/data.md); else skipped"
    )
    options.add_argument("--vocabulary", default="", help="a spiece.model, as T5's; else that of the embedded mini")


def vocabulary(path: str) -> Tokenizer:
    return load_tokenizer(hub.find_vocabulary(path or str(hub.find("mini"))))


def read(data: str, name: str, split: str, tokenizer: Tokenizer, template: str = "all", limit: int = 0) -> list[Rows]:
    """The rows of a split, for each template; if `limit` is positive, so many of them from the whole split."""
    config = settings.defaults()
    config.data.dir, config.task.name, config.task.template = data, name, template
    return [
        tokenized([Part(examples(task, split, limit), task.id, task.id)], tokenizer, task.id, True, *LENGTHS)
        for task in recorded.tasks(config)
    ]
