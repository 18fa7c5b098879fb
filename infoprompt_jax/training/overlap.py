"""Rows that are trained on and evaluated on too: with them, metrics are higher than on rows that are new.

Two rows are the same if a template makes the same of them, an input and a target, wherever they come from: two files,
or two slices of one. So a row that is twice in a data set counts, too. Of a data set's templates the first is compared.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

import ml_collections

from infoprompt_jax.data.batches import Stream
from infoprompt_jax.data.rows import Rows
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.evaluation.evaluator import Split

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
    compared: set[tuple[str, str]] = set()
    for key, split in splits.items():
        field = f"{key}_split"
        for tasks, stream, evaluated in zip(member_tasks, streams, split.rows, strict=False):
            for task, trained, rows in zip(tasks, stream.rows, evaluated, strict=True):
                if (task.name, key) not in compared and (count := common(rows, trained)):
                    log.warning(
                        "%s: %d of the %d rows of %s are also rows of %s, which are trained on, so that metrics on "
                        "them are too high: change task.train_split or task.%s, or remove the rows from the files.",
                        task.name,
                        count,
                        len(rows),
                        config.task[field],
                        config.task.train_split,
                        field,
                    )
                compared.add((task.name, key))


def common(rows: Rows, trained: Rows) -> int:
    """How many of `rows` have an input and a target that a row of `trained` has, too."""
    keys = list(_keys(rows))
    shared = {*keys}.intersection(_keys(trained))
    return sum(key in shared for key in keys)


def _keys(rows: Rows) -> Iterator[tuple[bytes, str]]:
    tokens, offsets = rows.arrays["input_tokens"], rows.arrays["input_offsets"].tolist()
    texts: dict[int, str] = {}
    for row, target in enumerate(rows.arrays["target_index"].tolist()):
        if target not in texts:
            texts[target] = rows.target_text(row)
        yield tokens[offsets[row] : offsets[row + 1]].tobytes(), texts[target]
