"""The job `predict`: rows of a file, labelled or not, to `predictions.jsonl`, one line a row in the same order.

config.json  progress.json  predictions.jsonl  summary.json

Rows stream through in chunks, so memory does not grow with the file. A stopped job goes on after its last chunk; its
predictions are those of a job that was not stopped.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import os
import pathlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import ml_collections

from infoprompt_jax import files, foreign, hosts
from infoprompt_jax.data import row_files
from infoprompt_jax.errors import Stopped, UserError
from infoprompt_jax.fields import shortened
from infoprompt_jax.progress import Rhythm, pace
from infoprompt_jax.prompts.prompts import INITIALIZERS
from infoprompt_jax.serving import predictions_file, results
from infoprompt_jax.serving.engine import Engine
from infoprompt_jax.serving.predictions_file import PredictionsFile
from infoprompt_jax.serving.prompt_sources import PromptSource, prompt_source
from infoprompt_jax.serving.row_answers import answer_rows, render
from infoprompt_jax.t5 import partition
from infoprompt_jax.training import prompt_config
from infoprompt_jax.training.experiment import check_divisible, configured_backbone, configured_mesh
from infoprompt_jax.training.interrupt import Interrupt
from infoprompt_jax.training.workdir import Workdir, finish

CHUNK = 2048  # rows that are rendered, sorted by length and written together
FIELD, STANDARD_INPUT = "data.file", "-"

log = logging.getLogger(__name__)


def predict(config: ml_collections.ConfigDict, workdir: str | os.PathLike[str]) -> dict[str, Any]:
    """Predicts every row of `data.file` and returns the summary.

    Args:
      config: checked by `settings.check`; with a saved prompt, completed by `prompt_config.completed`.
      workdir: an empty or a new directory, or that of the same job, which then goes on, or is done.

    Returns:
      The content of `summary.json`: that of `results.measure`, the rows a second, the peak of memory in bytes, and
      fingerprints.

    Raises:
      UserError: a row, the prompt, a template, the backbone or the workdir does not fit.
      Stopped: SIGTERM or Ctrl-C; the finished chunks are kept, and the same call goes on.
    """
    check(config)
    directory = Workdir(workdir, config)
    mesh = configured_mesh(config)
    check_divisible(config, "eval_batch_size", partition.row_devices(mesh))
    source = prompt_source(config, mesh)
    origin = "standard input" if config.data.file == STANDARD_INPUT else FIELD
    with row_file(config.data.file) as path:
        made_by = {"rows": fingerprint(path), "prompts": source.fingerprint}
        hosts.check_same(f"{FIELD} or the prompts", made_by)
        if (
            hosts.decided(lambda: predictions_file.is_complete(directory.path))
            and (summary := directory.finished()) is not None
        ):
            predictions_file.check_made_by(directory.path, summary["fingerprints"], made_by)
            return summary
        render(source, list(itertools.islice(row_files.read(path, origin), 1)))  # refused before anything is written
        backbone = configured_backbone(config, mesh)
        source.prepare(backbone)
        made_by |= {"backbone": backbone.fingerprint, "vocabulary": backbone.tokenizer.fingerprint}
        with directory.claim(), Interrupt() as interrupt, contextlib.ExitStack() as stack:
            file = stack.enter_context(contextlib.closing(PredictionsFile(directory.path, made_by)))
            engine = Engine(backbone, config, before_batch=Watch(file, interrupt).batch)
            speed = write(file, engine, source, row_files.read(path, origin))
            about = {"backbone": backbone.name, "weights": backbone.config.weights, "fingerprints": made_by}
            return hosts.decided(lambda: conclude(directory.path, source, speed, about))


def conclude(directory: pathlib.Path, source: PromptSource, speed: float, about: Mapping[str, Any]) -> dict[str, Any]:
    """Writes the summary of the complete predictions, and returns it."""
    summary = {
        **results.measure(predictions_file.read(directory), source.metrics),
        "rows_per_second": speed,
        "peak_memory_bytes": peak_memory(),
        **about,
    }
    finish(directory, summary)
    return summary


def check(config: ml_collections.ConfigDict) -> None:
    """Raises UserError for a config without rows, with an untrained prompt, or with a library beside a prompt."""
    if not config.data.file:
        raise UserError(
            f"{FIELD} is empty: set it to a file of rows ({row_files.FORMATS}), or to - for standard input."
        )
    if config.rospr.library and (config.prompt.by or config.prompt.init not in INITIALIZERS):
        raise UserError(
            f"rospr.library={config.rospr.library!r} gives each row its prompt, but prompt.init or prompt.by names "
            "one, too: leave it out."
        )
    if not config.rospr.library:
        prompt_config.check_trained(config)
    if config.data.file == STANDARD_INPUT and hosts.count() > 1:
        raise UserError(f"{FIELD}=- reads standard input, which {hosts.count()} processes do not share: name a file.")


def write(file: PredictionsFile, engine: Engine, source: PromptSource, rows: Iterator[dict[str, Any]]) -> float:
    """Appends what is predicted for the rows that the file does not hold yet, and completes it; rows a second."""
    start, first = time.monotonic(), file.rows
    if file.complete:
        return 0.0
    if first:
        log.info("Going on after %d rows.", first)
    rows = itertools.islice(rows, first, None)
    while chunk := list(itertools.islice(rows, CHUNK)):
        file.append(lines(engine, source, chunk, file.rows))
    file.finish()
    engine.warn_of_cuts("data.")
    return (file.rows - first) / (time.monotonic() - start)


def lines(engine: Engine, source: PromptSource, rows: Sequence[dict[str, Any]], first: int) -> list[dict[str, Any]]:
    """The lines of `predictions.jsonl` for these rows, whose numbers start at `first`."""
    answers = answer_rows(engine, source, rows, first)
    pairs = zip(rows, answers, strict=True)
    return [{"number": number, "row": row, **answer.to_json()} for number, (row, answer) in enumerate(pairs, first)]


class Watch:
    """What happens before each batch: the log reports the progress from time to time, and a stop signal is heeded."""

    def __init__(self, file: PredictionsFile, interrupt: Interrupt) -> None:
        self.file, self.interrupt, self.rhythm = file, interrupt, Rhythm()
        self.first, self.start, self.batches = file.rows, time.monotonic(), 0

    def batch(self) -> None:
        """Raises Stopped if the process received a stop signal."""
        rows, self.batches = self.file.rows, self.batches + 1
        if self.interrupt.requested():
            raise Stopped(f"Stopped after {rows} rows; the same command goes on.")
        if self.rhythm.due():
            log.info("%d rows are written%s; batch %d is next.", rows, self.speed(rows), self.batches)

    def speed(self, rows: int) -> str:
        """Of the rows that were written, or before the first chunk is, of the batches; empty before the first one."""
        seconds, batches = time.monotonic() - self.start, self.batches - 1
        if rows > self.first:
            return f", {pace(rows - self.first, seconds, 'rows')}"
        return f", {pace(batches, seconds, 'batches')}" if batches else ""


@contextlib.contextmanager
def row_file(name: str, standard_input: BinaryIO | None = None) -> Iterator[pathlib.Path]:
    """The file of that name; standard input, for `-`, as a temporary file whose suffix fits its content.

    Its first character is `{` for JSONL and `[` for a JSON array; else it is CSV. Raises UserError for a terminal.
    """
    if name != STANDARD_INPUT:
        yield files.local(name)
        return
    stream = standard_input or sys.stdin.buffer
    if stream.isatty():
        raise UserError(f"{FIELD}=- reads standard input, which is a terminal: pipe rows into the command.")
    start = stream.read(4096)
    first = start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    suffix = {b"{": ".jsonl", b"[": ".json"}.get(first, ".csv")
    with tempfile.NamedTemporaryFile(suffix=suffix) as copy:
        copy.write(start)
        shutil.copyfileobj(stream, copy)
        copy.flush()
        yield pathlib.Path(copy.name)


def fingerprint(path: pathlib.Path) -> str:
    """Of a file's bytes, 16 hexadecimal digits. Raises UserError where it cannot be read."""
    with (
        foreign.reading(f"{FIELD}={shortened(str(path))}", "give a file of rows, or - for standard input"),
        foreign.regular(path).open("rb") as file,
    ):
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def peak_memory() -> int | None:
    """The most memory that this process has had, in bytes; None where the system does not keep it (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
