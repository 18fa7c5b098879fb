"""A file of rows, whatever its format: each row a dict of JSON values by column.

| suffix | a row is |
|---|---|
| .jsonl | a line with a JSON object; blank lines are skipped |
| .json | an object of the one array that the file holds |
| .csv | a line under the header; cells are separated by `,`, `;` or a tab, whichever gives the header most cells |
| .tsv | the same with tabs; if the file does not quote as CSV does, quotes are text |
| .parquet | a row; what JSON cannot hold, such as a date, becomes text, and NaN becomes null |
| .txt | a line, in the column `text`; blank lines are skipped |

Text is UTF-8, with or without a byte order mark. A CSV column holds integers if all of its cells are integers or
empty, and one is not; an empty cell becomes null there. The cells of other columns stay text. The column `label` may
also have whole numbers with a decimal point: pandas writes integers so where some are missing. A value that could be
read in two ways, such as a key that is twice in an object, is refused: docs/data.md lists all. Every format but .json
is read in constant memory.
"""

from __future__ import annotations

import collections
import csv
import functools
import json
import math
import pathlib
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from infoprompt_jax import foreign
from infoprompt_jax.errors import UserError

Row = dict[str, Any]
Reader = Callable[[pathlib.Path, str], Iterator[Row]]
Split = Callable[[TextIO], Any]  # a file to the cells of its records, as csv.reader does it
Parse = Callable[[str], Any]  # a cell to a value

INTEGER_OR_EMPTY = re.compile(r"(0|-?[1-9]\d{0,4000})?", re.ASCII)  # Python reads no longer ones; they stay text
QUOTED = re.compile(r'"[^"]*"')
WHOLE_OR_EMPTY = re.compile(r"((0|-?[1-9]\d{0,4000})(\.0+)?)?", re.ASCII)
LABEL = "label"
LONGEST_CELL = 2**31 - 1  # characters; Python's csv module stops at 131,072 unless another limit is set
CELL_LIMIT = threading.Lock()  # held while that limit, which is the whole process's, differs from its former value
BATCH_ROWS = 1024  # of a Parquet file, in memory at once
DENSEST = {"rows": 100, "bytes": 1100}  # for each byte of a Parquet file


def read(path: str | pathlib.Path, origin: str = "") -> Iterator[Row]:
    """The rows of a file, in order, read as they are requested.

    Args:
      origin: where messages say that the file comes from: a config field ("data.file"), or "in data.dir".

    Raises:
      UserError: the suffix is none of FORMATS; the file cannot be read or holds no rows; or a line is malformed. The
        sentence names the file, and the line where one is bad.
    """
    path = pathlib.Path(path)
    place = f"{path} ({origin})" if origin else str(path)
    if path.suffix not in READERS:
        raise UserError(f"{place} is not a file of rows: its name was expected to end in {FORMATS}.")
    rows = 0
    with foreign.reading(place, f"a whole {path.suffix} file was expected"):
        foreign.regular(path)
        try:
            for row in READERS[path.suffix](path, place):
                rows += 1
                yield row
        except UnicodeDecodeError as error:
            line = _undecodable(path)
            raise UserError(f"{place}, line {line}, is not UTF-8 text ({error.reason}): save it as UTF-8.") from error
    if not rows:
        raise UserError(f"{place} holds no rows.")


def _undecodable(path: pathlib.Path) -> int:
    """The number of the first line that is not UTF-8: a decoder counts from the beginning of its buffer."""
    with path.open("rb") as lines:
        return next((number for number, line in enumerate(lines, 1) if not _is_text(line)), 1)


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _read_jsonl(path: pathlib.Path, place: str) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield parse_line(line, f"{place}, line {number},")


def parse_line(line: str, place: str) -> Row:
    """A line of JSONL as a row. Raises UserError if it is not a JSON object; the sentence begins with `place`."""
    try:
        row = foreign.parsed(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{place} is not JSON: {error.msg} at column {error.colno}.") from error
    except (ValueError, RecursionError) as error:  # of too many digits, or brackets
        raise UserError(foreign.sentence(f"{place} cannot be read", error, "correct the line")) from error
    return _object(row, place)


def _object(row: Any, place: str) -> Row:
    if not isinstance(row, dict):
        raise UserError(f"{place} holds {type(row).__name__}, but a row is an object: {{column: value}}.")
    return row


def _read_json(path: pathlib.Path, place: str) -> Iterator[Row]:
    """The file is parsed whole, so that it takes a multiple of its size in memory."""
    text = path.read_text(encoding="utf-8-sig")
    try:
        rows = foreign.parsed(text)
    except json.JSONDecodeError as error:
        lines = "; a file with one object a line is called .jsonl" if error.msg == "Extra data" else ""
        where = f"in line {error.lineno}, column {error.colno}"
        raise UserError(f"{place} is not JSON: {error.msg} {where}{lines}.") from error
    if not isinstance(rows, list):
        raise UserError(f"{place} holds {type(rows).__name__}, but an array of rows was expected: [{{column: value}}].")
    for number, row in enumerate(rows):
        yield _object(row, f"{place}, row {number} (from 0),")


def _read_txt(path: pathlib.Path, place: str) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if "\0" in line:  # plain text in UTF-16 is UTF-8, too, with a NUL beside each sign
                raise UserError(f"{place}, line {number}, holds a NUL, which is no text: save it as UTF-8.")
            if line.strip():
                yield {"text": line.rstrip("\n")}


def _read_parquet(path: pathlib.Path, place: str) -> Iterator[Row]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        _check_names(file.schema_arrow.names, place)
        _check_size(file.metadata, path.stat().st_size)
        maps = "strict" if "map<" in str(file.schema_arrow) else None  # to look for maps takes time
        for batch in file.iter_batches(BATCH_ROWS):
            for row in batch.to_pylist(maps_as_pydicts=maps):
                yield _plain(row, place)


def _check_size(metadata: Any, size: int) -> None:
    """Raises ValueError where the file claims to hold much more than its `size` in bytes can."""
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    claims = {"rows": metadata.num_rows, "bytes": sum(group.total_byte_size for group in groups)}
    for what, claimed in claims.items():
        if not 0 <= claimed <= DENSEST[what] * size:
            raise ValueError(f"it claims {claimed:,} {what}, which its {size:,} bytes cannot hold")


def _plain(row: Row, place: str) -> Row:
    """A row of Parquet in JSON's values."""
    try:
        return json.loads(STRICT.encode(row))
    except ValueError:  # NaN, infinity, or bytes that are not text
        return {name: _column(value, f"{place}, column {name!r},") for name, value in row.items()}


def _column(value: Any, place: str) -> Any:
    with foreign.reading(place, "correct its values or remove the column"):
        return json.loads(STRICT.encode(_without_nan(value)))


def _text(value: Any) -> str:
    """What JSON cannot hold: bytes are UTF-8 text, dates, times and decimals are written as Python writes them."""
    return value.decode() if isinstance(value, bytes) else str(value)


STRICT = json.JSONEncoder(default=_text, allow_nan=False)


def _without_nan(value: Any) -> Any:
    """The value with null for each NaN, which is how data frames write a missing number; ValueError for infinity."""
    if isinstance(value, dict):
        return {name: _without_nan(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_nan(part) for part in value]
    if isinstance(value, float) and math.isinf(value):
        raise ValueError(f"it holds {value}, which is no number that JSON has")
    return None if isinstance(value, float) and math.isnan(value) else value


def _read_csv(path: pathlib.Path, place: str) -> Iterator[Row]:
    separator = _separator(path, place)
    split = functools.partial(csv.reader, delimiter=separator, strict=True)
    return _table(path, place, split, _parsers(path, place, split))


def _separator(path: pathlib.Path, place: str) -> str:
    """What separates the header's cells; a separator inside quotes is text."""
    unquoted = QUOTED.sub("", _header(path))
    counts = {separator: unquoted.count(separator) for separator in ",;\t"}
    most = [separator for separator, count in counts.items() if count == max(counts.values())]
    if len(most) > 1 and counts[most[0]]:
        raise UserError(
            f"{place} may be separated by {' or '.join(map(repr, most))}, because its header has the same number of "
            "them: quote the header's names, or name columns without these signs."
        )
    return most[0]


def _header(path: pathlib.Path) -> str:
    """The first line that is not blank, and those that a quoted name of it goes on to."""
    header, quotes, is_blank = [], 0, True
    with path.open(encoding="utf-8-sig", newline="") as file:
        for line in file:
            header.append(line)
            quotes, is_blank = quotes + line.count('"'), is_blank and not line.strip()
            if not is_blank and quotes % 2 == 0:
                break
    return "".join(header)


def _read_tsv(path: pathlib.Path, place: str) -> Iterator[Row]:
    tabs = functools.partial(csv.reader, delimiter="\t", strict=True)
    quotes_are_text = functools.partial(tabs, quoting=csv.QUOTE_NONE)
    try:
        parsers = _parsers(path, place, tabs)
    except UserError:
        return _table(path, place, quotes_are_text, _parsers(path, place, quotes_are_text))
    if (line := _end_of_long_cell(path, place, tabs)) and _fits(path, place, quotes_are_text):
        raise UserError(
            f"{place}, line {line}, can be read in two ways: as the end of a quoted cell with a line break, or as a "
            "row in which a quote is text. Save the file as .csv or .jsonl."
        )
    return _table(path, place, tabs, parsers)


def _end_of_long_cell(path: pathlib.Path, place: str, split: Split) -> int:
    """The last line of the first record that has a cell with a line break; 0 without any."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        long = (line for line, cells in _records(file, place, split) if any("\n" in c or "\r" in c for c in cells))
        return next(long, 0)


def _fits(path: pathlib.Path, place: str, split: Split) -> bool:
    """Whether each line has as many cells as the header."""
    try:
        _parsers(path, place, split)
    except UserError:
        return False
    return True


def _table(path: pathlib.Path, place: str, split: Split, parsers: dict[str, Parse]) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        records = _records(file, place, split)
        next(records, None)
        for _, cells in records:
            yield {name: parse(cell) for (name, parse), cell in zip(parsers.items(), cells, strict=True)}


def _parsers(path: pathlib.Path, place: str, split: Split) -> dict[str, Parse]:
    """By column, what makes a value of a cell: the first of two passes over the file.

    Raises UserError if a line does not fit the header.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        records = _records(file, place, split)
        _, header = next(records, (0, []))
        _check_names(header, place)
        integers, labels = set(range(len(header))), {header.index(LABEL)} if LABEL in header else set()
        empty = set(integers)
        for line, cells in records:
            if len(cells) != len(header):
                more = ": write a cell with a separator in it in quotes" if len(cells) > len(header) else ""
                raise UserError(
                    f"{place}, line {line}, does not have {len(header)} cells, the number of columns in the first "
                    f"line, but {len(cells)}{more}."
                )
            integers = {column for column in integers if INTEGER_OR_EMPTY.fullmatch(cells[column])}
            empty = {column for column in empty if not cells[column]}
            labels = {column for column in labels if WHOLE_OR_EMPTY.fullmatch(cells[column])}
    numbers = (integers - empty) | labels
    kinds = [_whole if n in numbers else str for n in range(len(header))]
    return dict(zip(header, kinds, strict=True))


def _check_names(columns: list[str], place: str) -> None:
    repeated = next((name for name, count in collections.Counter(columns).items() if count > 1), None)
    if repeated is not None:
        raise UserError(f"{place} has two columns of the name {repeated!r}: rename one of them.")


def _whole(cell: str) -> int | None:
    return int(cell.partition(".")[0]) if cell else None


def _records(file: TextIO, place: str, split: Split) -> Iterator[tuple[int, list[str]]]:
    """The number of each record's last line, and its cells; blank lines are skipped."""
    reader = split(file)
    while True:
        try:
            cells = _next(reader)
        except csv.Error as error:
            raise UserError(
                f"{place}, line {reader.line_num}, is not a CSV line: {error}; inside a quoted cell, write a quote "
                "as two."
            ) from error
        if cells is None:
            return
        if cells:
            yield reader.line_num, cells


def _next(reader: Any) -> list[str] | None:
    with CELL_LIMIT:
        former = csv.field_size_limit(LONGEST_CELL)
        try:
            return next(reader, None)
        finally:
            csv.field_size_limit(former)


READERS: dict[str, Reader] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
    ".txt": _read_txt,
}
FORMATS = " or ".join([", ".join([*READERS][:-1]), [*READERS][-1]])  # in messages
