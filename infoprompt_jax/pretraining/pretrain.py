"""The job `pretrain`: makes the embedded backbone. It is the one job that trains all weights of a T5.

It trains a vocabulary, then span corruption of plain text, then templates of the held-in tasks mixed with span
corruption (`sources.py`: generated, or from a corpus). The result is a Hugging Face directory, `<workdir>/backbone`,
with two reports: `pretraining.json` on the run and `validation.json` on the quality. Batches are a function of the
step, so a run that is stopped and resumed ends with the same weights, bit for bit.

config.json  steps.json  metrics.jsonl  summary.json  vocabulary/  checkpoints/  unfinished/  backbone/
"""

from __future__ import annotations

import logging
import math
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Iterable

import ml_collections

from infoprompt_jax import bucket, checksums, files
from infoprompt_jax.errors import UserError
from infoprompt_jax.nano import world
from infoprompt_jax.pretraining import budget, start, vocabulary
from infoprompt_jax.pretraining.held_out import HeldOut
from infoprompt_jax.pretraining.loop import Run
from infoprompt_jax.pretraining.sources import FromCorpus, Generated, Line, Source
from infoprompt_jax.pretraining.step import initial, t5_config
from infoprompt_jax.t5.backbone import Backbone
from infoprompt_jax.t5.tokenizer import Tokenizer, load_tokenizer
from infoprompt_jax.training import trackers
from infoprompt_jax.training.interrupt import Interrupt
from infoprompt_jax.training.workdir import Workdir, finish

EXPORTING, EXPORT = 10.0, 1.0  # seconds that the last files of a run take, and the weights alone

log = logging.getLogger(__name__)


def pretrain(config: ml_collections.ConfigDict, workdir: str | os.PathLike[str], line: Line = world.text) -> dict:
    """Pretrains into `workdir` and returns the summary; a finished run's summary is read from there.

    Args:
      config: `pretrain.corpus` names a corpus. Without it `task.name` lists the data sets, which are local files or the
        generated world's.
      line: makes a line of plain text where there is no corpus; the default is the generated world's.

    Raises:
      UserError: the config, the data or the workdir do not fit, the weights are int8, or the loss became NaN.
      Stopped: SIGTERM or Ctrl-C stopped the run; everything is saved, and the same call resumes.
    """
    if config.backbone.weights != "full":
        raise UserError(f"backbone.weights={config.backbone.weights!r} cannot be trained: set it to full to pretrain.")
    if bucket.is_in(workdir):
        raise UserError(f"job=pretrain does not write to a bucket, {workdir}: choose a local --workdir, and copy it.")
    started, directory = time.monotonic(), Workdir(workdir, config)
    summary = directory.finished()
    if summary is not None:
        return summary
    trackers.check(config)
    source = FromCorpus(config) if config.pretrain.corpus else Generated(config, line)
    begun = start.find(config)
    with directory.claim():
        run = prepared(config, directory.path, source, started, begun)
        with Interrupt() as interrupt:
            run.train(interrupt)
        run.export()
        measured = source.validation(run)
        checksums.write_json(directory.path / "backbone" / "validation.json", measured)
        summary = {"pretraining": run.account(), "validation": measured}
        finish(directory.path, summary)
    return summary


def prepared(
    config: ml_collections.ConfigDict, path: pathlib.Path, source: Source, started: float, begun: Backbone | None
) -> Run:
    """The run, once everything is tokenised and the number of its steps is known."""
    tokenizer = find_vocabulary(path / "vocabulary", config, source.sample, begun)
    held_out = source.held_out(config, tokenizer)
    config = budget.planned(
        config, path, lambda each: source.mixture(each, tokenizer), started, lambda: reserve(config, held_out)
    )
    position = {"vocabulary": tokenizer.fingerprint, "data": source.fingerprint(tokenizer)}
    if begun is not None:
        position["start_from"] = begun.fingerprint
    minutes = config.pretrain.minutes
    deadline = started + 60 * minutes - EXPORTING if minutes else math.inf
    return Run(config, path, source.mixture(config, tokenizer), position, tokenizer, held_out, deadline, begun)


def reserve(config: ml_collections.ConfigDict, held_out: HeldOut | None) -> float:
    """Seconds that a run's measurements and exports take."""
    if held_out is None:
        return EXPORTING
    graph, params = initial(t5_config(config), config.seed)
    held_out.measure(graph, params)  # compiles
    since = time.monotonic()
    held_out.measure(graph, params)
    return EXPORTING + (config.pretrain.measurements + 1) * (time.monotonic() - since + EXPORT)


def find_vocabulary(
    directory: pathlib.Path,
    config: ml_collections.ConfigDict,
    sample: Callable[[], Iterable[str]],
    begun: Backbone | None,
) -> Tokenizer:
    """The run's vocabulary: that of the T5 it goes on from, the corpus's, or one trained on a sample of its texts."""
    made = pathlib.Path(config.pretrain.corpus).expanduser() / "vocabulary"
    if not directory.exists() and begun is not None:
        with files.whole(directory) as partial:
            partial.mkdir()
            for file in begun.tokenizer.files:
                shutil.copy(file, partial)
    elif not directory.exists() and config.pretrain.corpus and made.is_dir():
        with files.whole(directory) as partial:
            shutil.copytree(made, partial)
    elif not directory.exists():
        log.info("Training the vocabulary.")
        vocabulary.train(sample(), directory, config.pretrain.pieces, config.pretrain.cased)
    return load_tokenizer(directory)
