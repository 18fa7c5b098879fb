"""Rows in local files: `<folder>/<data set>/<split>.{jsonl,csv,parquet}`, one JSON object per row once read.

Columns are named as in the Hugging Face version of a data set, the one hard prompts are written for. A CSV column is
integers if all of its values are; all other CSV values stay text. Splits may be sliced as in TFDS: train[:90%],
train[100:200], train[-50:]. A BIG-bench task is a folder of its own format (`bigbench.py`).
"""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import pathlib
import re
from collections.abc import Iterator

import numpy as np

from infoprompt_jax.data import bigbench
from infoprompt_jax.errors import UserError

SLICE = re.compile(r"(?P<name>[\w.\-]+)(\[(?P<start>-?\d+%?)?:(?P<stop>-?\d+%?)?\])?")
GATED = {
    "story_cloze": "story_cloze is given out by its authors, on request at https://cs.rochester.edu/nlp/rocstories: "
    "put it in data.dir as story_cloze/2016/validation.csv, with the Hugging Face version's columns.",
    "bigbench": "BIG-bench's tasks are read from data.dir/bigbench/<task>/task.json, and there is none for this one: "
    "take the task's folder from bigbench/benchmark_tasks of https://github.com/google/BIG-bench.",
}
HASHED_AT_ONCE = 2**20  # bytes
DRAW = 0  # the seed of `drawn`
INTEGER = re.compile(r"-?(0|[1-9]\d*)")


def split_name(split: str) -> str:
    """`train[:90%]` -> `train`."""
    return _slice(split)["name"]


def split_bounds(split: str, rows: int) -> tuple[int, int]:
    """First row and end of a slice of a split that has so many rows; a percentage is rounded to the nearest row."""
    match = _slice(split)
    start, stop = (_position(match[end], rows, default) for end, default in (("start", 0), ("stop", rows)))
    if not 0 <= start < stop <= rows:
        raise UserError(f"The split {split!r} selects no rows, or more than the {rows} there are; change its slice.")
    return start, stop


def drawn(rows: int, limit: int) -> np.ndarray:
    """Which of so many rows are among the `limit` that are read, [rows]: drawn from all, for files may be sorted.

    They follow from the two numbers, so that every hard prompt of a data set shows the same. All for limit 0.
    """
    return np.random.default_rng(DRAW).permutation(rows) < (limit or rows)


def _slice(split: str) -> re.Match[str]:
    match = SLICE.fullmatch(split)
    if not match:
        raise UserError(f"The split {split!r} was not understood: write train, train[:90%] or train[100:200].")
    return match


def _position(text: str | None, rows: int, default: int) -> int:
    if not text:
        return default
    position = round(int(text[:-1]) * rows / 100) if text.endswith("%") else int(text)
    return position + rows if text.startswith("-") else position


def not_found(dataset: str, sentence: str, kind: type[UserError] = UserError) -> UserError:
    """The sentence as an error, or how to get the data set where that is a way of its own."""
    gate = GATED.get(dataset.split("/")[0])
    return UserError(gate) if gate else kind(sentence)


def check_folder(folder: str) -> None:
    if not pathlib.Path(folder).is_dir():
        raise UserError(f"data.dir is {folder!r}, which is not a folder; leave it empty to use TFDS.")


def holds(folder: str, dataset: str) -> bool:
    """Whether files of the data set are in the folder; no folder ("") holds none."""
    return bool(folder and _splits(pathlib.Path(folder, dataset), bigbench.is_task(dataset)))


def find_files(folder: str, dataset: str) -> dict[str, pathlib.Path]:
    """The files of a data set by split; of a BIG-bench task, its folder.

    Raises UserError, naming the data sets that are there, if there are none.
    """
    found = _splits(pathlib.Path(folder, dataset), bigbench.is_task(dataset))
    if found:
        return found
    check_folder(folder)
    root = pathlib.Path(folder)
    present = sorted({str(p.parent.relative_to(root)) for p in root.rglob("*") if p.suffix in READERS})
    raise not_found(
        dataset,
        f"{dataset!r} has no <split>.jsonl, .csv or .parquet in data.dir ({folder}), which holds "
        f"{', '.join(present) or 'no data sets'}; change task.name, or leave data.dir empty to use TFDS.",
    )


def _splits(folder: pathlib.Path, is_bigbench: bool) -> dict[str, pathlib.Path]:
    if is_bigbench and bigbench.task_files(folder):
        return {bigbench.SPLIT: folder}
    return {p.stem: p for p in sorted(folder.glob("*")) if p.suffix in READERS}


def _parts(path: pathlib.Path) -> list[pathlib.Path]:
    return bigbench.task_files(path) if path.is_dir() else [path]


def fingerprint(path: pathlib.Path) -> str:
    """Of what `find_files` found for a split: SHA-256 of the bytes."""
    digest = hashlib.sha256()
    for part in _parts(path):
        with part.open("rb") as file:
            while block := file.read(HASHED_AT_ONCE):
                digest.update(block)
    return digest.hexdigest()


def read_rows(path: pathlib.Path) -> list[str]:
    """Every row as a JSON object. Raises UserError, naming file and line, for what cannot be read and for no rows."""
    return _read(path, tuple(part.stat().st_mtime_ns for part in _parts(path)))


@functools.lru_cache(maxsize=4)
def _read(path: pathlib.Path, changed: tuple[int, ...]) -> list[str]:
    reader = bigbench.read_task if path.is_dir() else READERS[path.suffix]
    try:
        rows = list(reader(path))
    except UnicodeDecodeError as error:
        raise UserError(f"{path} (in data.dir) is not UTF-8 text: {error.reason} at byte {error.start}.") from error
    if not rows:
        raise UserError(f"{path} (in data.dir) holds no rows.")
    return rows


def _read_jsonl(path: pathlib.Path) -> Iterator[str]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _checked(line, f"{path} (in data.dir), line {number}")


def _checked(line: str, place: str) -> str:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{place}, is not JSON: {error.msg} at column {error.colno}.") from error
    if not isinstance(row, dict):
        raise UserError(f"{place}, holds {type(row).__name__}, but a row is an object: {{column: value}}.")
    return line


def _read_csv(path: pathlib.Path) -> Iterator[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        rows = []
        for row in reader:
            if None in row or None in row.values():
                raise UserError(
                    f"{path} (in data.dir), line {reader.line_num}, has not {len(reader.fieldnames or ())} "
                    "values, the number of columns in the first line."
                )
            rows.append(row)
        columns = reader.fieldnames or ()
    integers = [c for c in columns if all(INTEGER.fullmatch(row[c]) for row in rows)]
    for row in rows:
        yield json.dumps(row | {column: int(row[column]) for column in integers})


def _read_parquet(path: pathlib.Path) -> Iterator[str]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path} (in data.dir) is not a Parquet file: {error}.") from error
    for row in table.to_pylist():
        yield json.dumps(row, default=str)


READERS = {".jsonl": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}
