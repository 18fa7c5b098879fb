"""Where a pretraining run's rows and text come from: the tasks of a config with generated text, or a corpus on disk."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import ml_collections
import numpy as np

from infoprompt_jax import files
from infoprompt_jax.data import rows
from infoprompt_jax.data.batches import complete
from infoprompt_jax.data.examples import examples
from infoprompt_jax.data.rows import Rows
from infoprompt_jax.data.selection import find_tasks
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.pretraining import mixture, validation, vocabulary
from infoprompt_jax.pretraining.corpus import Corpus
from infoprompt_jax.pretraining.held_out import HeldOut
from infoprompt_jax.pretraining.loop import Run
from infoprompt_jax.progress import watched
from infoprompt_jax.t5.tokenizer import SENTINELS, Tokenizer

VOCABULARY_LINES = 50_000  # of generated text that the vocabulary is trained on
VOCABULARY_ROWS = 300  # of every task

Line = Callable[[random.Random], str]  # makes a line of plain text


class Source(Protocol):
    """What a run is trained and measured on."""

    def sample(self) -> Iterable[str]:
        """The text that the vocabulary is trained on."""
        ...

    def mixture(self, config: ml_collections.ConfigDict, tokenizer: Tokenizer) -> mixture.Mixture:
        """The batches of a config."""
        ...

    def fingerprint(self, tokenizer: Tokenizer) -> str:
        """A hash of all tokenised rows."""
        ...

    def held_out(self, config: ml_collections.ConfigDict, tokenizer: Tokenizer) -> HeldOut | None:
        """What is measured while the run trains; None = nothing."""
        ...

    def validation(self, run: Run) -> dict[str, dict[str, Any]]:
        """The accuracy of a finished run, by data set."""
        ...


class Generated:
    """The tasks that `config.task` lists, and text of the generated world.

    Raises:
      UserError: a task is missing.
    """

    def __init__(self, config: ml_collections.ConfigDict, line: Line) -> None:
        self.config, draw, count = config, random.Random(config.seed), config.pretrain.lines
        self.tasks = find_tasks(config, every_template=True)
        self.lines = [line(draw) for _ in watched(range(count), "Plain text, lines", count)]

    def sample(self) -> Iterable[str]:
        some = (itertools.islice(examples(task, self.config.task.train_split), VOCABULARY_ROWS) for task in self.tasks)
        rendered = (f"{example.input} {example.target}" for example in itertools.chain(*some))
        return itertools.chain(self.lines[:VOCABULARY_LINES], rendered, vocabulary.template_lines())

    def mixture(self, config: ml_collections.ConfigDict, tokenizer: Tokenizer) -> mixture.Mixture:
        return mixture.mixture(config, self.tasks, self.rows(config.task.train_split, tokenizer), self.lines, tokenizer)

    def fingerprint(self, tokenizer: Tokenizer) -> str:
        return rows.order_fingerprint([self.rows(self.config.task.train_split, tokenizer)])

    def rows(self, split: str, tokenizer: Tokenizer) -> list[Rows]:
        return [tokenize(task, split, self.config, tokenizer) for task in self.tasks]

    def held_out(self, config: ml_collections.ConfigDict, tokenizer: Tokenizer) -> HeldOut | None:
        return None

    def validation(self, run: Run) -> dict[str, dict[str, Any]]:
        evaluation = self.rows(run.config.task.eval_split, run.tokenizer)
        return validation.validate(run.path / "backbone", self.tasks, evaluation, run.config)


class FromCorpus:
    """A corpus on disk. Raises UserError where `config.pretrain.corpus` is none, or `config.data` does not fit it."""

    def __init__(self, config: ml_collections.ConfigDict) -> None:
        mixture.check_lengths(config)
        self.corpus = Corpus(config)

    def sample(self) -> Iterable[str]:
        return self.corpus.sample()

    def mixture(self, config: ml_collections.ConfigDict, tokenizer: Tokenizer) -> mixture.Mixture:
        return mixture.corpus_mixture(config, self.corpus, tokenizer)

    def fingerprint(self, tokenizer: Tokenizer) -> str:
        return rows.order_fingerprint([[*self.corpus.rows(tokenizer).values(), self.corpus.text(tokenizer)]])

    def held_out(self, config: ml_collections.ConfigDict, tokenizer: Tokenizer) -> HeldOut | None:
        data = config.data
        return HeldOut(
            np.array(self.corpus.held_out_text(tokenizer).arrays["input_tokens"]),
            self.corpus.validation(tokenizer),
            config.task.eval_limit,
            [tokenizer.sentinels[name] for name in SENTINELS],
            config.train.batch_size,
            complete(data.buckets, data.max_input_length),
            data.max_target_length,
        )

    def validation(self, run: Run) -> dict[str, dict[str, Any]]:
        return run.accuracies()


def tokenize(task: Task, split: str, config: ml_collections.ConfigDict, tokenizer: Tokenizer) -> Rows:
    """A task's rows of one split, tokenised; kept in `data.cache_dir` for later runs.

    Raises UserError where the task has no such split, or its data are not there.
    """
    return mixture.tokenize(task, split, tokenizer, files.cache_directory(config.data.cache_dir) / "rows", config.data)
