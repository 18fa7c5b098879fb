"""Local files: cells of a CSV, and the sentences for files that hold nothing or too little."""

from __future__ import annotations

import hashlib
import json
import pathlib

import pytest

from infoprompt_jax.data.local_files import LocalSource, find_files, read_rows
from infoprompt_jax.errors import UserError


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_file_of_no_bytes_holds_no_rows(suffix: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / f"train.{suffix}").touch()
    with pytest.raises(UserError, match="holds no rows"):
        read_rows(find_files(str(tmp_path), "mine")["train"])


def test_a_short_csv_line_is_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train.csv").write_text("text,label\na,1\nb\n")
    with pytest.raises(UserError, match=r"train.csv \(in data.dir\), line 3, does not have 2 cells"):
        read_rows(find_files(str(tmp_path), "mine")["train"])


def test_a_csv_column_is_integers_if_all_of_its_cells_are(tmp_path: pathlib.Path) -> None:
    (tmp_path / "mine").mkdir()
    lines = ("whole,mixed,padded,decimal,empty,text", '1,1,007,1.5,,"a, ""b"""', "-20,x,1,2.0,,d")
    (tmp_path / "mine" / "train.csv").write_text("\n".join(lines))
    assert [json.loads(row) for row in read_rows(find_files(str(tmp_path), "mine")["train"])] == [
        {"whole": 1, "mixed": "1", "padded": "007", "decimal": "1.5", "empty": "", "text": 'a, "b"'},
        {"whole": -20, "mixed": "x", "padded": "1", "decimal": "2.0", "empty": "", "text": "d"},
    ]


@pytest.mark.parametrize("suffix", ["json", "tsv", "txt"])
def test_a_split_in_a_format_of_its_own(suffix: str, tmp_path: pathlib.Path) -> None:
    content = {"json": '[{"text": "a"}, {"text": "b"}]', "tsv": "text\na\nb\n", "txt": "a\nb\n"}[suffix]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / f"test.{suffix}").write_text(content)
    assert [json.loads(row)["text"] for row in read_rows(find_files(str(tmp_path), "mine")["test"])] == ["a", "b"]


def test_the_same_bytes_read_as_other_rows_have_another_fingerprint(tmp_path: pathlib.Path) -> None:
    """Tokens of train.txt, whose first row is the header, are not those of train.csv, the file's name after that."""
    (tmp_path / "mine").mkdir()
    rows, prints = [], []
    for suffix in ("csv", "tsv", "txt"):
        file = tmp_path / "mine" / f"train.{suffix}"
        file.write_bytes(content := b'text\na "b"\n"c"\n')
        source = LocalSource(str(tmp_path), "mine")
        rows.append(source.lines("train"))
        prints.append(source.fingerprint("train"))
        file.unlink()
    assert rows[0] == rows[1] != rows[2] and len(set(prints)) == 3
    assert prints[0] == hashlib.sha256(content).hexdigest()  # as in former versions


def test_a_split_in_two_formats_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "mine").mkdir()
    for suffix in ("csv", "jsonl"):
        (tmp_path / "mine" / f"train.{suffix}").write_text("text\na\n")
    with pytest.raises(
        UserError, match=r"mine \(in data.dir\) holds the split 'train' twice, train.csv and train.jsonl"
    ):
        find_files(str(tmp_path), "mine")
