"""How rows become text: the rows of a split, in order, each rendered by its task's template.

Local files are read in plain Python. TFDS data sets and tasks of seqio's registry are read through seqio
(`seqio_adapter.py`, `seqio_registry.py`), which is imported only then, with TensorFlow. All give Python rows to the
same `Task.render`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from typing import Any, Protocol

import numpy as np

from infoprompt_jax.data import bigbench
from infoprompt_jax.data.local_files import LocalSource
from infoprompt_jax.data.registered_tasks import PREFIX, is_registered
from infoprompt_jax.data.splits import drawn, split_name
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.data.templates import Example
from infoprompt_jax.errors import UserError


class Source(Protocol):
    """Where a data set's rows are read: local files (`LocalSource`), `TfdsSource` or seqio's `RegisteredSource`."""

    @property
    def splits(self) -> Collection[str]: ...
    def count(self, split: str) -> int: ...
    def rows(self, split: str, kept: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]: ...
    def fingerprint(self, split: str) -> str: ...
    def size(self, split: str) -> int | None: ...  # bytes of the split; None if it is not known


def open_source(task: Task, split: str) -> Source:
    """The source of the task's rows.

    Raises:
      UserError: neither local files, TFDS nor seqio's registry hold the data set, or it has no such split.
    """
    if is_registered(task.name):
        from infoprompt_jax.data import seqio_registry

        source = seqio_registry.RegisteredSource(task.name.removeprefix(PREFIX), task.module)
    elif task.folder:
        source = LocalSource(task.folder, task.name)
    else:
        from infoprompt_jax.data import seqio_adapter

        source = seqio_adapter.tfds_source(task.name, task.tfds_dir)
    name, splits = split_name(split), tuple(source.splits)
    if name in splits:
        return source
    if bigbench.is_task(task.name) and name == "train":
        raise bigbench.evaluation_only(task.name)
    raise UserError(
        f"{task.name} has no split {name!r}, only {', '.join(splits)}; change task.train_split, task.eval_split, "
        "task.test_split or rospr.query_split."
    )


def rendered(task: Task, split: str, limit: int = 0) -> Iterator[Example | None]:
    """Each row of a split or slice as text, None where the template does not apply to it.

    Args:
      limit: if positive, the number of rows that are rendered, those that `drawn` picks.

    Raises:
      UserError: as `open_source`; the slice is out of range; a row cannot be rendered; or the template reads `label`,
        and no row has it. The sentence names the first such row, by its number in the slice.
    """
    source = open_source(task, split)
    first, all_lack_label = "", True
    for number, row in source.rows(split, drawn(source.count(split), limit)):
        place = f"{task.name}, {split}, row {number} (from 0)"
        first = first or f"{place}: {task.template} uses the column 'label', but the columns are {', '.join(row)}"
        all_lack_label = all_lack_label and task.lacks_label(row)
        try:
            yield task.render(row)
        except UserError as error:
            raise UserError(f"{place}: {error}") from error
    if first and all_lack_label:
        raise UserError(f"{first}, and no other row has it either: rename the column, or use another template.")


def checked(task: Task, split: str, limit: int = 0) -> Iterator[Example | None]:
    """`rendered`, of which at least one is an example.

    Raises:
      UserError: as `rendered`, or the template applies to no row.
    """
    count = skipped = 0
    for example in rendered(task, split, limit):
        if example is None:
            skipped += 1
        else:
            count += 1
        yield example
    if not count:
        raise UserError(
            f"None of the {skipped} rows of {task.name}, {split}, fits {task.template}: they have no label, or it "
            "leaves input or target empty or gives no two answer choices that differ; change task.template, or the "
            "split in task or rospr.query_split."
        )


def examples(task: Task, split: str, limit: int = 0) -> Iterator[Example]:
    """The examples of a split, or of a slice such as train[:90%], in the order of the source.

    Rows that the template does not apply to are left out. Raises as `checked`.
    """
    return (example for example in checked(task, split, limit) if example is not None)


def source_size(task: Task, split: str) -> int | None:
    """The bytes of a split before it is rendered; None if they are not known. Raises as `open_source` does."""
    return open_source(task, split).size(split)


def source_fingerprint(task: Task, split: str, limit: int = 0) -> str:
    """A hash of all that the examples of a split depend on: the data, the slice, the limit, the template; and the rate.

    Files are hashed, so that cached tokens of theirs are read without rendering a row. Raises as `open_source` does.
    """
    rows = open_source(task, split).fingerprint(split)
    template = (task.template.id, task.template.jinja, task.template.answer_choices)
    limited = (limit,) if limit else ()
    rated = (task.rate,) if task.rate is not None else ()
    return hashlib.sha256(json.dumps([rows, split, *template, *limited, *rated]).encode()).hexdigest()
