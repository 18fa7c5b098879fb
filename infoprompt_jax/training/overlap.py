"""Rows that are trained on and evaluated on too: with them, metrics are higher than on rows that are new.

Two rows are the same if a template makes the same of them, an input and a target, wherever they come from: two files,
or two slices of one. So a row that is twice in a data set counts, too. Of a data set's templates, the one that makes
most rows the same counts: others may show a column that differs, or not apply to the rows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

import ml_collections
import numpy as np

from infoprompt_jax.data.batches import Stream
from infoprompt_jax.data.rows import Rows
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.evaluation.evaluator import Split

PLACES = 8  # in an input, whose tokens tell most rows apart

log = logging.getLogger(__name__)


def warn(
    config: ml_collections.ConfigDict,
    member_tasks: Sequence[Sequence[Task]],
    streams: Sequence[Stream],
    splits: Mapping[str, Split],
) -> None:
    """Logs a warning for each data set and evaluated split that shares rows with `task.train_split`.

    Args:
      splits: "eval", "test" or both.
    """
    for key, split in splits.items():
        field = f"{key}_split"
        for name, by_template in counts(member_tasks, streams, split).items():
            template, (count, rows) = max(by_template.items(), key=lambda item: item[1])
            if count:
                log.warning(
                    "%s: %d of the %d rows of %s are also rows of %s, which are trained on, so that metrics on "
                    "them are too high: change task.train_split or task.%s, or remove the rows from the files.",
                    name if len(by_template) == 1 else template,
                    count,
                    rows,
                    config.task[field],
                    config.task.train_split,
                    field,
                )


def counts(
    member_tasks: Sequence[Sequence[Task]], streams: Sequence[Stream], split: Split
) -> dict[str, dict[str, tuple[int, int]]]:
    """By data set and `Task.id`, how many evaluated rows are trained on, and how many there are."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for tasks, stream, evaluated in zip(member_tasks, streams, split.rows, strict=False):
        for task, trained, rows in zip(tasks, stream.rows, evaluated, strict=True):
            by_template = found.setdefault(task.name, {})
            if task.id not in by_template:  # members share the rows of a task
                by_template[task.id] = common(rows, trained), len(rows)
    return found


def common(rows: Rows, trained: Rows) -> int:
    """How many of `rows` have an input and a target that a row of `trained` has, too."""
    marks, of_trained = _marks(rows), _marks(trained)
    keys = list(_keys(rows, np.flatnonzero(np.isin(marks, of_trained))))
    shared = {*keys}.intersection(_keys(trained, np.flatnonzero(np.isin(of_trained, marks))))
    return sum(key in shared for key in keys)


def _marks(rows: Rows) -> np.ndarray:
    """A number for each input, uint64 [rows]; those of equal inputs are equal, and most others differ."""
    tokens, lengths = rows.arrays["input_tokens"], rows.input_lengths.astype(np.int64)
    marks = lengths.astype(np.uint64)
    for place in range(PLACES if len(tokens) else 0):
        token = np.clip(rows.arrays["input_offsets"][:-1] + lengths * place // PLACES, 0, len(tokens) - 1)
        known = np.where(lengths > 0, tokens[token], 0).astype(np.uint64)
        marks = marks * np.uint64(0x9E3779B97F4A7C15) + known  # wraps
    return marks


def _keys(rows: Rows, numbers: np.ndarray) -> Iterator[tuple[bytes, str]]:
    tokens, offsets = rows.arrays["input_tokens"], rows.arrays["input_offsets"]
    texts: dict[int, str] = {}
    for row, target in zip(numbers.tolist(), rows.arrays["target_index"][numbers].tolist(), strict=True):
        if target not in texts:
            texts[target] = rows.target_text(row)
        yield tokens[offsets[row] : offsets[row + 1]].tobytes(), texts[target]
