"""Files of rows that are broken, odd or not where they should be; and slices of splits."""

from __future__ import annotations

import json
import os
import pathlib
import random
from typing import Any

from experiments.fuzz import reading
from experiments.fuzz.cases import Case

HUGE = "9" * 5000
SPLITS = (
    ("train[:200%]", None),
    ("train[5:2]", None),
    ("train[-2:]", slice(-2, None)),
    ("train[:50%]", slice(0, 3)),
    ("train[2:4]", slice(2, 4)),
    (f"train[:{HUGE}]", None),
    (f"train[:{HUGE}%]", None),
    ("train[\uff11:\uff13]", slice(1, 3)),
    ("train[0:6:1]", None),
    ("", None),
    (" train", None),
    ("../mine/train", None),
    ("train\0", None),
    ("train\n", None),
    ("*", None),
    ("train[:-10]", None),
    ("train[:]", slice(None)),
    ("TRAIN", None),
)


def case(choose: random.Random, folder: pathlib.Path) -> Case:
    """One data set in files."""
    return choose.choice([structures, structures, places, splits])(choose, folder)


def structures(choose: random.Random, folder: pathlib.Path) -> Case:
    """Lines, brackets and bytes that do not belong there; some are harmless."""
    suffix, rows = choose.choice([".jsonl", ".jsonl", ".json"]), reading.table(choose)
    lines = [json.dumps(row) for row in rows]
    clean = reading.expected(rows)
    deep = "[" * 100_000 + "]" * 100_000
    harmless = {
        "CRLF": lambda: "\r\n".join(lines),
        "blank lines": lambda: "\n\n \n".join(lines) + "\n\n",
        "an integer of 5,000 digits beside": lambda: "\n".join([f'{{"other": {HUGE}, {lines[0][1:]}', *lines[1:]]),
        "deep nesting beside": lambda: "\n".join([f'{{"other": {deep}, {lines[0][1:]}', *lines[1:]]),
        "NaN beside": lambda: "\n".join([f'{{"other": NaN, {lines[0][1:]}', *lines[1:]]),
        "a huge cell beside": lambda: "\n".join([f'{{"other": "{"x" * 3_000_000}", {lines[0][1:]}', *lines[1:]]),
        "a null row's column more": lambda: "\n".join([f'{{"other": null, {lines[0][1:]}', *lines[1:]]),
        "spaces around": lambda: "\n".join(f"  {line}\t" for line in lines),
        "an empty object": lambda: "\n".join([*lines, "{}"]),
        "the text nested": lambda: "\n".join([*lines, '{"row": {"text": "a", "label": 1}}']),
    }
    broken = {
        "an array": lambda: "\n".join([*lines, "[1]"]),
        "a number": lambda: "\n".join([*lines, "1"]),
        "null": lambda: "\n".join(["null", *lines]),
        "a text": lambda: "\n".join(['"text"', *lines]),
        "rubbish at the end": lambda: "\n".join([*lines, "#"]),
        "a NUL at the end": lambda: "\n".join([*lines, "\0"]),
        "single quotes": lambda: "\n".join([*lines, str(rows[0])]),
        "a comma too many": lambda: "\n".join([*lines[:-1], lines[-1][:-1] + ",}"]),
        "two objects in a line": lambda: "\n".join([lines[0] + lines[1], *lines[2:]]),
        "nothing": lambda: "",
        "a mark alone": lambda: "\ufeff",
        "spaces alone": lambda: " \n\n",
        "deep nesting alone": lambda: deep,
        "an integer alone": lambda: HUGE,
        "the text missing in one row": lambda: "\n".join([*lines, '{"label": 1}']),
        "the label of 5,000 digits": lambda: "\n".join([*lines, f'{{"text": "a", "label": {HUGE}}}']),
        "the text of 5,000 digits": lambda: "\n".join([*lines, f'{{"text": {HUGE}, "label": 1}}']),
        "a control character": lambda: "\n".join([*lines, '{"text": "a\x01", "label": 1}']),
        "a bad escape": lambda: "\n".join([*lines, '{"text": "\\x41", "label": 1}']),
    }
    kinds = harmless if choose.random() < 0.35 else broken
    what = choose.choice(list(kinds))
    text = kinds[what]()
    if suffix == ".json":
        text = "[" + ",\n".join(part for part in text.split("\n") if part.strip()) + "]" if kinds is harmless else text
    reading.write(folder, suffix, text.encode("utf-8", "surrogatepass"))
    right = clean if kinds is harmless else None
    return Case(f"{suffix}: {what}", reading.reader(folder, reading.template()), right)


def places(choose: random.Random, folder: pathlib.Path) -> Case:
    """The file is not where, what or how it should be."""
    rows = reading.table(choose)
    path, clean = reading.write(folder, ".jsonl", reading.jsonl(rows)), reading.expected(rows)
    what = choose.choice(list(PLACES))
    is_harmless, act = PLACES[what]
    act(path)
    return Case(what, reading.reader(folder, reading.template()), clean if is_harmless else None)


def _become(make: Any) -> Any:
    def act(path: pathlib.Path) -> None:
        content = path.read_bytes()
        path.unlink()
        make(path, content)

    return act


def _to_link(path: pathlib.Path, content: bytes) -> None:
    path.with_name("elsewhere").write_bytes(content)
    path.symlink_to(path.with_name("elsewhere"))


PLACES: dict[str, tuple[bool, Any]] = {
    "both train.csv and train.jsonl": (False, lambda path: path.with_suffix(".csv").write_text("text,label\na,0\n")),
    "both train.JSONL and train.jsonl": (True, lambda path: path.with_suffix(".JSONL").write_text("{}")),
    "a directory": (False, _become(lambda path, _: path.mkdir())),
    "a link to nothing": (False, _become(lambda path, _: path.symlink_to(path.with_name("nothing")))),
    "a link to itself": (False, _become(lambda path, _: path.symlink_to(path))),
    "a link to the file": (True, _become(_to_link)),
    "a named pipe": (False, _become(lambda path, _: os.mkfifo(path))),
    "an endless device": (False, _become(lambda path, _: path.symlink_to("/dev/zero"))),
    "an empty device": (False, _become(lambda path, _: path.symlink_to("/dev/null"))),
    "the suffix in capitals": (True, lambda path: path.rename(path.with_suffix(".JSONL"))),
    "compressed": (False, lambda path: path.rename(path.with_name("train.jsonl.gz"))),
    "JSON lines called .json": (False, lambda path: path.rename(path.with_suffix(".json"))),
    "JSON lines called .csv": (False, lambda path: path.rename(path.with_suffix(".csv"))),
    "JSON lines called .parquet": (False, lambda path: path.rename(path.with_suffix(".parquet"))),
    "a backup beside it": (True, lambda path: path.with_name("train.jsonl~").write_text("{}")),
    "a copy beside it": (True, lambda path: path.with_name("train (1).jsonl").write_text("{}")),
    "a hidden file beside it": (True, lambda path: path.with_name(".train.jsonl").write_text("{}")),
    "no data set": (False, lambda path: path.parent.rename(path.parent.with_name("yours"))),
    "the data set is a file": (False, lambda path: (path.unlink(), path.parent.rmdir(), path.parent.write_text(""))),
}


def splits(choose: random.Random, folder: pathlib.Path) -> Case:
    """Slices of a split, and names of data sets."""
    rows = reading.table(choose)
    reading.write(folder, ".jsonl", reading.jsonl(rows))
    clean = reading.expected(rows)
    if choose.random() < 0.3:
        name = choose.choice(
            [
                "",
                ".",
                "..",
                "mine/",
                "./mine",
                "MINE",
                "mine\0",
                "n" * 300,
                "\ud800",
                "mine\n",
                "mine,mine",
                ",",
                "/etc",
                "mine/../mine",
                "mine/train",
                "*",
                "mine,yours",
                " mine",
            ]
        )
        return Case(
            f"task.name={name!r:.60}", reading.reader(folder, reading.template(), task__name=name), lambda r: r == clean
        )
    split, part = choose.choice(SPLITS)
    return Case(
        f"task.train_split={split!r:.60}",
        reading.reader(folder, reading.template(), task__train_split=split),
        None if part is None else clean[part],
    )
