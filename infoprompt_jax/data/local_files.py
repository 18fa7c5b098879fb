"""Local data sets: `<folder>/<data set>/<split>.<suffix>`, of any format that `row_files.py` reads.

A BIG-bench task is a folder of its own format (`bigbench.py`). Columns are named as in the Hugging Face version of a
data set, the one that templates are written for. A row is kept as a JSON object in one string, which takes less memory
than the object does.
"""

from __future__ import annotations

import functools
import hashlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from infoprompt_jax import files, foreign
from infoprompt_jax.data import bigbench, row_files
from infoprompt_jax.data.splits import split_bounds, split_name
from infoprompt_jax.errors import UserError
from infoprompt_jax.fields import shortened

GATED = {
    "story_cloze": "story_cloze is given out by its authors, on request at https://cs.rochester.edu/nlp/rocstories: "
    "put it in data.dir as story_cloze/2016/validation.csv, with the Hugging Face version's columns.",
    "bigbench": "BIG-bench's tasks are read from data.dir/bigbench/<task>/task.json, and there is none for this one: "
    "take the task's folder from bigbench/benchmark_tasks of https://github.com/google/BIG-bench.",
}
HASHED_AT_ONCE = 2**20  # bytes
READ_OTHERWISE = (".tsv", ".txt")  # whose bytes may be a CSV's, and are other rows there


class MemorySource:
    """A source that keeps a split's rows in memory, each a JSON object."""

    def read(self, name: str) -> list[str]:
        """Every row of a split."""
        raise NotImplementedError

    def lines(self, split: str) -> list[str]:
        """The rows of a split or slice. Raises UserError as `read` and `split_bounds` do."""
        rows = self.read(split_name(split))
        return rows[slice(*split_bounds(split, len(rows)))]

    def count(self, split: str) -> int:
        """The number of rows in a split or slice."""
        return len(self.lines(split))

    def rows(self, split: str, kept: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
        """The rows that `kept` [rows] marks, each with its number in the slice."""
        lines = self.lines(split)
        for number in np.flatnonzero(kept).tolist():
            yield number, json.loads(lines[number])


class LocalSource(MemorySource):
    """The rows of a data set in local files.

    Raises:
      UserError: the folder is not there, or does not hold the data set.
    """

    def __init__(self, folder: str, dataset: str) -> None:
        self.files = find_files(folder, dataset)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that have a file."""
        return tuple(self.files)

    def read(self, name: str) -> list[str]:
        """Every row of a split. Raises UserError as `read_rows` does."""
        return read_rows(self.files[name])

    def fingerprint(self, split: str) -> str:
        """SHA-256 of the split's file, or of a BIG-bench task's files and the order of its sub-tasks.

        One of a suffix in READ_OTHERWISE is not that of the same bytes under another suffix.
        """
        path = files.local(self.files[split_name(split)])
        return _hashed(path, _state(path))

    def size(self, split: str) -> int:
        """The bytes of the file that holds the split, or of a BIG-bench task's files."""
        return sum(size for _, _, size, _ in _state(files.local(self.files[split_name(split)])))


def not_found(dataset: str, sentence: str, kind: type[UserError] = UserError) -> UserError:
    """The sentence as an error; for a data set that is obtained in another way, how to obtain it."""
    gate = GATED.get(dataset.split("/")[0])
    return UserError(gate) if gate else kind(sentence)


def check_folder(folder: str) -> None:
    """Raises UserError where `data.dir` is not a folder."""
    with foreign.reading(f"data.dir={shortened(folder)}", "set it to a folder"):
        is_folder = files.path(folder).is_dir()
    if not is_folder:
        raise UserError(
            f"data.dir is {shortened(folder)}, which is not a folder: set it to the folder that holds "
            "<data set>/<split>.jsonl or another format, or leave it empty to use TFDS."
        )


def holds(folder: str, dataset: str) -> bool:
    """Whether the folder has files of the data set; no folder ("") has none."""
    return bool(folder and _splits(folder, dataset))


def find_files(folder: str, dataset: str) -> dict[str, pathlib.Path]:
    """The files of a data set by split; of a BIG-bench task, its folder.

    Raises:
      UserError: there are none, and the sentence names the data sets that are there; or a split has two files.
    """
    splits = _splits(folder, dataset)
    if splits:
        return splits
    check_folder(folder)
    names = map(pathlib.PurePosixPath, files.names(folder))
    present = sorted({str(name.parent) for name in names if name.suffix in row_files.READERS} - {"."})
    raise not_found(
        dataset,
        f"There is no file {folder}/{dataset}/<split>{row_files.FORMATS}: data.dir ({folder}) holds "
        f"{', '.join(present) or 'no data sets'}; change data.dir or task.name, or leave data.dir empty to use TFDS.",
    )


def _splits(root: str, dataset: str) -> dict[str, pathlib.Path]:
    folder, splits = files.path(root) / dataset, {}
    with foreign.reading(f"The folder of task.name={shortened(dataset)} in data.dir", "correct its name"):
        if bigbench.is_task(dataset) and bigbench.task_files(folder):
            return {bigbench.SPLIT: folder}
        paths = sorted(path for path in folder.glob("*") if path.suffix in row_files.READERS)
    for path in paths:
        if path.stem in splits:
            raise UserError(
                f"{folder} (in data.dir) holds the split {path.stem!r} twice, {splits[path.stem].name} and "
                f"{path.name}: leave one of them."
            )
        splits[path.stem] = path
    return splits


def _parts(path: pathlib.Path) -> list[pathlib.Path]:
    return bigbench.task_files(path) or [path] if path.is_dir() else [path]


def read_rows(path: pathlib.Path) -> list[str]:
    """Every row of a file of `find_files`, as a JSON object.

    Raises:
      UserError: as `row_files.read` and `bigbench.read_task`.
    """
    path = files.local(path)
    return _read(path, _state(path))


def _state(path: pathlib.Path) -> tuple[tuple[int, int, int, int], ...]:
    """What changes when a file of the split does, its bytes third: a file in one state is read and hashed once.

    Raises UserError where a part is no file: a link to nothing, a pipe, a device.
    """
    with foreign.reading(f"{path} (in data.dir)", "give a file of rows, or a link to one"):
        facts = [foreign.regular(part).stat() for part in _parts(path)]
    return tuple((one.st_mtime_ns, one.st_ctime_ns, one.st_size, one.st_ino) for one in facts)


@functools.lru_cache(maxsize=4)
def _read(path: pathlib.Path, state: tuple[tuple[int, int, int, int], ...]) -> list[str]:
    rows = bigbench.read_task(path) if path.is_dir() else row_files.read(path, "in data.dir")
    return [json.dumps(row) for row in rows]


@functools.lru_cache(maxsize=1024)
def _hashed(path: pathlib.Path, state: tuple[tuple[int, int, int, int], ...]) -> str:
    parts = _parts(path)
    read_as = path.suffix.encode() if path.suffix in READ_OTHERWISE else b""
    digest = hashlib.sha256(bigbench.SPREAD if len(parts) > 1 else read_as)
    for part in parts:
        with foreign.reading(f"{part} (in data.dir)"), part.open("rb") as file:
            while block := file.read(HASHED_AT_ONCE):
                digest.update(block)
    return digest.hexdigest()
