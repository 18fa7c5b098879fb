"""Files of rows: every format, what cells become, what tells separators apart, and the sentences for bad files."""

from __future__ import annotations

import csv
import datetime
import decimal
import json
import pathlib
import re
import threading
import tracemalloc
from typing import Any

import pytest

from infoprompt_jax.data.row_files import READERS, read
from infoprompt_jax.errors import UserError

ROWS = [{"text": 'é "no", <b>;</b>\tor', "label": 1}, {"text": "two\nlines", "label": 0}]


def written(folder: pathlib.Path, name: str, content: str | bytes) -> pathlib.Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows(folder: pathlib.Path, name: str, content: str | bytes) -> list[dict[str, Any]]:
    return list(read(written(folder, name, content)))


def separated(path: pathlib.Path, separator: str, end: str, mark: str) -> None:
    with path.open("w", newline="", encoding=mark) as file:
        writer = csv.DictWriter(file, ["text", "label"], delimiter=separator, lineterminator=end)
        writer.writeheader()
        writer.writerows(ROWS)


@pytest.mark.parametrize("mark", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.csv", ";"), ("a.csv", "\t"), ("a.tsv", "\t")])
def test_separated_cells(tmp_path: pathlib.Path, name: str, separator: str, end: str, mark: str) -> None:
    separated(tmp_path / name, separator, end, mark)
    assert list(read(tmp_path / name)) == ROWS


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_json_by_line_and_as_an_array(tmp_path: pathlib.Path, mark: str) -> None:
    lines = "\r\n\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)
    assert rows(tmp_path, "a.jsonl", mark + lines) == ROWS
    assert rows(tmp_path, "a.json", mark + json.dumps(ROWS, indent=1)) == ROWS


def test_lines_of_text(tmp_path: pathlib.Path) -> None:
    assert rows(tmp_path, "a.txt", "\ufeffone, \u2028 1\r\n\r\n  two") == [{"text": "one, \u2028 1"}, {"text": "  two"}]


def test_parquet_with_nulls_dates_and_lists(tmp_path: pathlib.Path) -> None:
    import pyarrow
    import pyarrow.parquet

    given = [{"day": datetime.date(2020, 1, n % 28 + 1), "words": ["a", None], "label": n} for n in range(3000)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(given), tmp_path / "a.parquet")
    assert list(read(tmp_path / "a.parquet")) == [row | {"day": str(row["day"])} for row in given]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a,b;c\n1,x\n", None),
        ('"a;b",c\n1,x\n', [{"a;b": 1, "c": "x"}]),
        ('a;"b, c"\n1;x,y\n', [{"a": 1, "b, c": "x,y"}]),
        ("id,label,text; free\n1,0,x;y\n", [{"id": 1, "label": 0, "text; free": "x;y"}]),
        ("text\na;b\n\n\nc\n", [{"text": "a;b"}, {"text": "c"}]),
        ("text;label;\nx;1;\n", [{"text": "x", "label": 1, "": ""}]),
    ],
)
def test_the_header_tells_separators_apart(tmp_path: pathlib.Path, content: str, expected: list | None) -> None:
    if expected is None:
        with pytest.raises(
            UserError, match=r"a.csv may be separated by ',' or ';', because its header has the same number"
        ):
            rows(tmp_path, "a.csv", content)
    else:
        assert rows(tmp_path, "a.csv", content) == expected


def test_tabs_with_and_without_quotes(tmp_path: pathlib.Path) -> None:
    """As in GLUE's files, where a quote is text, and as programs write that quote."""
    assert rows(tmp_path, "a.tsv", 'text\tlabel\n"No" he said\t1\n"\t0\n') == [
        {"text": '"No" he said', "label": 1},
        {"text": '"', "label": 0},
    ]
    assert rows(tmp_path, "a.tsv", 'text\n"a\tb"\n') == [{"text": "a\tb"}]
    with pytest.raises(UserError, match=r"a.tsv, line 3, does not have 2 cells"):
        rows(tmp_path, "a.tsv", 'text\tlabel\n"\t0\nx\n')


def test_quotes_that_may_hold_a_line_break_or_be_text(tmp_path: pathlib.Path) -> None:
    """Two rows of a file that does not quote are one row of a file that does: neither is taken for the other."""
    assert rows(tmp_path, "a.tsv", 'text\tlabel\n"Well,\nno"\t1\n') == [{"text": "Well,\nno", "label": 1}]
    with pytest.raises(UserError, match=r"a.tsv, line 4, can be read in two ways: .* Save the file as .csv or .jsonl"):
        rows(tmp_path, "a.tsv", 'text\tlabel\nyes\t1\n"Well\t0\nno"\t1\n')


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1", "-20"], [1, -20]),
        (["1.0", ""], [1, None]),
        (["1", "", "-1.00"], [1, None, -1]),
        (["1", "x"], ["1", "x"]),
        (["1.0", "2.5"], ["1.0", "2.5"]),
        (["007", "1"], ["007", "1"]),
        (["-0", "1"], ["-0", "1"]),
        (["+1", "1"], ["+1", "1"]),
        ([" 1", "1"], [" 1", "1"]),
        (["1\u0663", "1"], ["1\u0663", "1"]),
        (["\uff11.0", "1"], ["\uff11.0", "1"]),
        (["1_0", "1"], ["1_0", "1"]),
        (["true", "False"], ["true", "False"]),
    ],
)
def test_labels_of_a_csv(tmp_path: pathlib.Path, cells: list[str], values: list) -> None:
    content = "id,label\n" + "".join(f"{n},{cell}\n" for n, cell in enumerate(cells))
    assert [row["label"] for row in rows(tmp_path, "a.csv", content)] == values


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["5", "", "-3"], [5, None, -3]),
        (["", "", "0"], [None, None, 0]),
        (["", "", ""], ["", "", ""]),
        (["5", "", "x"], ["5", "", "x"]),
        (["5", "", "1.0"], ["5", "", "1.0"]),
    ],
    ids=["some missing", "first missing", "none", "text", "decimal"],
)
def test_empty_cells_among_integers_of_a_csv(tmp_path: pathlib.Path, cells: list[str], values: list) -> None:
    content = "text,stars\n" + "".join(f"a,{cell}\n" for cell in cells)
    assert [row["stars"] for row in rows(tmp_path, "a.csv", content)] == values


def test_more_digits_than_python_reads_stay_text(tmp_path: pathlib.Path) -> None:
    assert rows(tmp_path, "a.csv", "id\n" + "1" * 200_000 + "\n") == [{"id": "1" * 200_000}]


def test_two_parquet_columns_of_one_name(tmp_path: pathlib.Path) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table([[1], [2]], names=["text", "text"])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a.parquet has two columns of the name 'text': rename one of them"):
        list(read(tmp_path / "a.parquet"))


COLUMNS: dict[str, tuple[Any, Any]] = {  # of Parquet, two rows each: a column, and the values that it becomes
    "NaN": ([1.5, float("nan")], [1.5, None]),
    "nested NaN": ([[float("nan")], [1.0]], [[None], [1.0]]),
    "bytes": (["é".encode(), b""], ["é", ""]),
    "decimals": ([decimal.Decimal("1.50"), None], ["1.50", None]),
    "times": ([datetime.datetime(2024, 2, 29, 1, 2, 3), None], ["2024-02-29 01:02:03", None]),
    "structures": ([{"a": [1], "b": None}, None], [{"a": [1], "b": None}, None]),
    "truths": ([True, False], [True, False]),
}


def parquet(path: pathlib.Path, columns: Any) -> pathlib.Path:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


@pytest.mark.parametrize("kind", COLUMNS)
def test_what_columns_of_parquet_become(tmp_path: pathlib.Path, kind: str) -> None:
    column, values = COLUMNS[kind]
    assert [row["a"] for row in read(parquet(tmp_path / "a.parquet", {"a": column}))] == values


def test_a_map_of_parquet_is_an_object(tmp_path: pathlib.Path) -> None:
    import pyarrow

    maps = pyarrow.map_(pyarrow.string(), pyarrow.int64())
    path = parquet(tmp_path / "a.parquet", {"a": pyarrow.array([[("k", 1)]], maps)})
    assert list(read(path)) == [{"a": {"k": 1}}]
    path = parquet(tmp_path / "a.parquet", {"a": pyarrow.array([[("k", 1), ("k", 2)]], maps)})
    with pytest.raises(UserError, match=r"a.parquet cannot be read: .*'k'"):
        list(read(path))


@pytest.mark.parametrize("value", [b"\xff\xfe", float("inf"), [float("-inf")]])
def test_values_of_parquet_that_are_no_text_or_number(tmp_path: pathlib.Path, value: Any) -> None:
    path = parquet(tmp_path / "a.parquet", {"a": [value], "label": [0]})
    with pytest.raises(UserError, match=r"a.parquet, column 'a', cannot be read: .*: correct its values or remove"):
        list(read(path))


def test_a_parquet_file_of_more_rows_than_its_bytes_can_hold(tmp_path: pathlib.Path) -> None:
    import pyarrow

    path = parquet(tmp_path / "a.parquet", {"a": pyarrow.nulls(1_000_000)})
    with pytest.raises(UserError, match=r"it claims 1,000,000 rows, which its [\d,]+ bytes cannot hold"):
        list(read(path))


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ('{"text": "a", "label": 0, "label": 1}', "an object has the key 'label' twice"),
        ('{"text": {"a": 1, "b": 2, "\\u0061": 1}, "label": 0}', "an object has the key 'a' twice"),
        ('{"text": "NaN: {", "label": NaN}', "NaN is not a finite number"),
        ('{"text": [-Infinity], "label": 0}', "-Infinity is not a finite number"),
        ('{"text": 1e400, "label": 0}', "1e400 is not a finite number"),
    ],
)
def test_values_that_json_lacks_are_named(tmp_path: pathlib.Path, suffix: str, row: str, fault: str) -> None:
    sound = '{"text": "\\"NaN\\"", "label": 1, "label2": {"label": 1}}'
    column = 1 + (row.rindex('"label"') if "'label'" in fault else row.index('"\\u') if "'a'" in fault else 0)
    if suffix == ".json":
        content, place = f"[{sound},\n{row}]", rf"is not JSON: {fault} in line 2, column "
    else:
        content, place = f"{sound}\n{row}\n", rf"line 2, is not JSON: {fault} at column "
    with pytest.raises(UserError, match=place + (f"{column}\\." if "twice" in fault else "")):
        rows(tmp_path, f"a{suffix}", content)


def test_a_line_that_is_not_utf_8_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"a.csv, line 30001, is not UTF-8 text \(.*\): save it as UTF-8"):
        rows(tmp_path, "a.csv", b"text\n" + b"sound\n" * 29_999 + b"\xe9\n")


def test_a_quote_in_a_header_that_is_never_closed(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"a.csv.* is not a CSV line: unexpected end of data"):
        rows(tmp_path, "a.csv", 'text,"label\n' + "a,1\n" * 100_000)  # an hour, were each line to read all before it


def test_the_manual_lists_every_format() -> None:
    page = (pathlib.Path(__file__).parents[2] / "docs" / "data.md").read_text()
    assert re.findall(r"^\| `(\.\w+)` \|", page, re.M) == list(READERS)


@pytest.mark.parametrize("separator", [",", "\t"])
def test_a_long_cell_is_read_and_the_limit_of_other_readers_stays(tmp_path: pathlib.Path, separator: str) -> None:
    before = csv.field_size_limit(1000)
    long = "x" * 200_000
    path = written(tmp_path, "a.csv", f"text{separator}label\n" + f"{long}{separator}1\n" * 3)
    read_by: list[list[dict[str, Any]]] = []
    threads = [threading.Thread(target=lambda: read_by.append(list(read(path)))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_by == [[{"text": long, "label": 1}] * 3] * 3
    started = read(path)
    next(started)
    assert csv.field_size_limit(before) == 1000


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.txt", "a.parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path: pathlib.Path, name: str) -> None:
    count, text = 20_000, "word " * 60
    if name == "a.parquet":
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.table({"text": [text] * count})
        pyarrow.parquet.write_table(table, tmp_path / name, row_group_size=1000)
    else:
        line = json.dumps({"text": text}) if name == "a.jsonl" else text
        written(tmp_path, name, "text\n" + f"{line}\n" * count if name[2:] in ("csv", "tsv") else f"{line}\n" * count)
    next(read(tmp_path / name))  # imports
    tracemalloc.start()
    assert sum(1 for row in read(tmp_path / name) if row["text"]) == count
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_500_000  # bytes; the rows' text is 6 million


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        *((f"a{suffix}", "", "holds no rows") for suffix in READERS if suffix not in (".json", ".parquet")),
        ("a.csv", "text,label\n", "holds no rows"),
        ("a.json", "[]", "holds no rows"),
        ("a.txt", "\n\n", "holds no rows"),
        ("a.txt", "o\0n\0e\0\n\0", "line 1, holds a NUL, .* save it as UTF-8"),
        ("a.jsonl", '{"a": ' + "1" * 5000 + "}", "line 1, cannot be read: it holds a number of more digits"),
        ("a.json", '[{"a": ' + "1" * 5000 + "}]", "cannot be read: it holds a number of more digits"),
        ("a.jsonl", "[" * 100_000, "line 1, cannot be read: it is nested too deeply"),
        ("a.csv", "text,label\na,1\nb\n", r"line 3, does not have 2 cells, .* but 1\.$"),
        ("a.csv", "text\na, b\n", "line 2, does not have 1 cells, .* but 2: write a cell with a separator in"),
        ("a.csv", 'text,label\n"a,1\nb,2\n', r"line 3, is not a CSV line: unexpected end of data; .* as two"),
        ("a.csv", "text,label,text\na,1,b\n", "two columns of the name 'text': rename"),
        ("a.jsonl", "{}\n{'a': 1}\n", "line 2, is not JSON: .* at column 2"),
        ("a.jsonl", "[1]\n", r"line 1, holds list, but a row is an object: \{column: value\}"),
        (
            "a.json",
            '{"a": 1}\n{"a": 2}\n',
            "is not JSON: Extra data in line 2, column 1; .*one object a line is called .jsonl",
        ),
        ("a.json", '{"data": []}', "holds dict, but an array of rows was expected"),
        ("a.json", "[{}, 1]", r"row 1 \(from 0\), holds int, but a row is an object"),
        ("a.csv", b"text\n\xe9\n", r"is not UTF-8 text \(.*\): save it as UTF-8"),
        ("a.json", b'[{"\xe9": 1}]', r"is not UTF-8 text \(.*\): save it as UTF-8"),
        ("a.parquet", "text", "is not a Parquet file|cannot be read"),
        ("a.xlsx", "text", "is not a file of rows: .* end in .jsonl, .json, .csv, .tsv, .parquet or .txt"),
    ],
)
def test_bad_files_are_named(tmp_path: pathlib.Path, name: str, content: str | bytes, sentence: str) -> None:
    path = written(tmp_path, name, content)
    with pytest.raises(UserError, match=rf"{name} \(data.file\)(, | ).*({sentence})|{name} \(data.file\).*{sentence}"):
        list(read(path, "data.file"))
    with pytest.raises(UserError) as error:
        list(read(path))
    assert "data." not in str(error.value)


def test_a_file_that_is_not_there(tmp_path: pathlib.Path) -> None:
    for suffix in READERS:
        with pytest.raises(UserError, match=r"cannot be read: (No such file|Failed to open)"):
            list(read(tmp_path / f"a{suffix}"))
