"""The job `pretrain`: makes the embedded backbone. It is the one job that trains all weights of a T5.

It trains a vocabulary, then span corruption of plain text, then templates of the held-in tasks mixed with span
corruption. The result is a Hugging Face directory, `<workdir>/backbone`, with two reports: `pretraining.json` on the
run and `validation.json` on the quality. Batches are a function of the step, so a run that is stopped and resumed ends
with the same weights, bit for bit.

config.json  metrics.jsonl  summary.json  vocabulary/  checkpoints/  backbone/
"""

from __future__ import annotations

import itertools
import logging
import os
import pathlib
import random
from collections.abc import Callable, Sequence

import ml_collections

from infoprompt_jax import files
from infoprompt_jax.data import rows
from infoprompt_jax.data.rows import Rows
from infoprompt_jax.data.selection import find_tasks
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.errors import UserError
from infoprompt_jax.nano import world
from infoprompt_jax.pretraining import mixture, validation, vocabulary
from infoprompt_jax.pretraining.loop import Run
from infoprompt_jax.progress import watched
from infoprompt_jax.t5.tokenizer import Tokenizer, load_tokenizer
from infoprompt_jax.training import trackers
from infoprompt_jax.training.interrupt import Interrupt
from infoprompt_jax.training.workdir import Workdir

VOCABULARY_LINES = 50_000  # of plain text that the vocabulary is trained on
VOCABULARY_ROWS = 300  # of every task

Line = Callable[[random.Random], str]  # makes a line of plain text

log = logging.getLogger(__name__)


def pretrain(config: ml_collections.ConfigDict, workdir: str | os.PathLike[str], line: Line = world.text) -> dict:
    """Pretrains into `workdir` and returns the summary; a finished run's summary is read from there.

    Args:
      config: `task.name` lists the data sets, which are local files or the generated world's.
      line: makes a line of plain text; the default is the generated world's.

    Raises:
      UserError: the config, the data or the workdir do not fit, the weights are int8, or the loss became NaN.
      Stopped: SIGTERM or Ctrl-C stopped the run; everything is saved, and the same call resumes.
    """
    if config.backbone.weights != "full":
        raise UserError(f"backbone.weights={config.backbone.weights!r} cannot be trained: set it to full to pretrain.")
    directory = Workdir(workdir, config)
    summary = directory.finished()
    if summary is not None:
        return summary
    trackers.check(config)
    tasks = find_tasks(config, every_template=True)
    with directory.claim():
        draw = random.Random(config.seed)
        count = config.pretrain.lines
        lines = [line(draw) for _ in watched(range(count), "Plain text, lines", count)]
        tokenizer = find_vocabulary(directory.path / "vocabulary", config, tasks, lines)
        training = [tokenize(task, config.task.train_split, config, tokenizer) for task in tasks]
        evaluation = [tokenize(task, config.task.eval_split, config, tokenizer) for task in tasks]
        position = {"vocabulary": tokenizer.fingerprint, "data": rows.data_fingerprint(training)}
        with Interrupt() as interrupt:
            run = Run(config, directory.path, mixture.mixture(config, tasks, training, lines, tokenizer), position)
            run.train(interrupt)
        run.export(tokenizer)
        measured = validation.validate(directory.path / "backbone", tasks, evaluation, config)
        files.write_json(directory.path / "backbone" / "validation.json", measured)
        summary = {"pretraining": run.account(), "validation": measured}
        files.write_json(directory.path / "summary.json", summary)
    return summary


def tokenize(task: Task, split: str, config: ml_collections.ConfigDict, tokenizer: Tokenizer) -> Rows:
    """A task's rows of one split, tokenised; kept in `data.cache_dir` for later runs.

    Raises UserError where the task has no such split, or its data are not there.
    """
    return mixture.tokenize(task, split, tokenizer, files.cache_directory(config.data.cache_dir) / "rows", config.data)


def find_vocabulary(
    directory: pathlib.Path, config: ml_collections.ConfigDict, tasks: Sequence[Task], lines: Sequence[str]
) -> Tokenizer:
    """The run's vocabulary. If it is not there, it is trained on plain text, rendered tasks and templates."""
    if not directory.exists():
        log.info("Training the vocabulary.")
        examples = (
            itertools.islice(mixture.examples(task, config.task.train_split), VOCABULARY_ROWS) for task in tasks
        )
        rendered = (f"{example.input} {example.target}" for example in itertools.chain(*examples))
        text = itertools.chain(lines[:VOCABULARY_LINES], rendered, vocabulary.template_lines())
        vocabulary.train(text, directory, config.pretrain.pieces)
    return load_tokenizer(directory)
