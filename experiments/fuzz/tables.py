"""What only CSV and Parquet have: separators, quotes, headers, cells that look like numbers; types of columns."""

from __future__ import annotations

import datetime
import decimal
import math
import pathlib
import random
from typing import Any

from experiments.fuzz import reading
from experiments.fuzz.cases import Case

NUMBERS = [
    "7",
    "007",
    "-0",
    "+5",
    "1_000",
    "\uff11",
    "1\u0663",
    "1.0",
    "1e5",
    " 5",
    "9" * 4400,
    "-1",
    "--1",
    "0x1f",
    "\u0661",
]
BROKEN = (
    "text,label\na,0,0\n",
    "text,label\na\n",
    'text,label\n"a,0\nb,1\n',
    "text\n",
    "text,label\n",
    "\n\n",
    ",\na,0\n",
    "text,\na,0\n",
    'text,label\na"b"c,0\n"a"b,0\n',
    "text,label\n\0,0\n",
    "text;label,x\na;0,1\n",
    'text,label\na,0\n"',
    "label\n0\n1\n",
)


def case(choose: random.Random, folder: pathlib.Path) -> Case:
    """One CSV or Parquet file."""
    return choose.choice([tables, tables, columns, flips])(choose, folder)


def tables(choose: random.Random, folder: pathlib.Path) -> Case:
    """What only CSV has: separators, quotes, headers, cells that look like numbers."""
    rows = reading.table(choose)
    clean, fields = reading.expected(rows), reading.template()
    what = choose.choice(["numbers", "separator", "ends", "broken", "spaces"])
    if what == "numbers":
        cell = choose.choice(NUMBERS)
        texts = [cell if choose.random() < 0.8 else str(number) for number in range(len(rows))]
        rows = [row | {"text": text} for row, text in zip(rows, texts, strict=True)]
        reading.write(folder, ".csv", reading.delimited(rows))
        return Case(f"cells {texts!r:.80}", reading.reader(folder, fields), reading.expected(rows))
    if what == "separator":
        separator = choose.choice([",", ";", "\t", "|", ":", " "])
        reading.write(folder, ".csv", reading.delimited(rows, separator))
        return Case(
            f"separated by {separator!r}", reading.reader(folder, fields), clean if separator in ",;\t" else None
        )
    if what == "ends":
        ends = choose.choice(["\r\n", "\r", "\n\n", "\r\r\n"])
        reading.write(folder, choose.choice([".csv", ".tsv"]), reading.delimited(rows, "\t", ends))
        return Case(f"lines end in {ends!r}", reading.reader(folder, fields), clean)
    if what == "spaces":
        lines = [
            "text ,label",
            *(f'"{row["number"]}", {row["label"]}' for row in [r | {"number": n} for n, r in enumerate(rows)]),
        ]
        reading.write(folder, ".csv", "\n".join(lines).encode())
        return Case("spaces around names and cells", reading.reader(folder, fields))
    broken = choose.choice(BROKEN)
    right = None
    if broken == "text,label\n\0,0\n":
        right = [["Review: \0 End", "bad", 0]]
    reading.write(folder, ".csv", broken.encode())
    return Case(f"CSV {broken!r}", reading.reader(folder, fields), right)


def columns(choose: random.Random, folder: pathlib.Path) -> Case:
    """Parquet's types: a text or a label as something else."""
    import pyarrow

    rows = reading.table(choose)
    labels, texts = [row["label"] for row in rows], [row["text"] for row in rows]
    day = datetime.date(2024, 2, 29)
    as_text: dict[str, tuple[Any, list[str] | None]] = {
        "large_string": (pyarrow.array(texts, pyarrow.large_string()), texts),
        "dictionary": (pyarrow.array(texts).dictionary_encode(), texts),
        "binary": (pyarrow.array([text.encode() for text in texts]), texts),
        "binary that is no text": (pyarrow.array([b"\xff\xfe"] * len(rows)), None),
        "date": (pyarrow.array([day] * len(rows)), ["2024-02-29"] * len(rows)),
        "decimal": (pyarrow.array([decimal.Decimal("1.50")] * len(rows)), ["1.50"] * len(rows)),
        "null": (pyarrow.nulls(len(rows)), [""] * len(rows)),
        "NaN": (pyarrow.array([math.nan] * len(rows)), [""] * len(rows)),
        "list": (pyarrow.array([["a"]] * len(rows)), ['["a"]'] * len(rows)),
        "struct": (pyarrow.array([{"a": 1}] * len(rows)), ['{"a": 1}'] * len(rows)),
        "duration": (pyarrow.array([datetime.timedelta(1)] * len(rows)), ["1 day, 0:00:00"] * len(rows)),
        "time": (pyarrow.array([datetime.time(1, 2, 3)] * len(rows)), ["01:02:03"] * len(rows)),
        "map": (
            pyarrow.array([[("k", 1)]] * len(rows), pyarrow.map_(pyarrow.string(), pyarrow.int64())),
            ['{"k": 1}'] * len(rows),
        ),
    }
    as_label: dict[str, tuple[Any, list[int] | None]] = {
        "int8": (pyarrow.array(labels, pyarrow.int8()), labels),
        "uint64": (pyarrow.array(labels, pyarrow.uint64()), labels),
        "float": (pyarrow.array([float(one) for one in labels]), labels),
        "float16": (pyarrow.array([float(one) for one in labels]).cast(pyarrow.float16()), labels),
        "bool": (pyarrow.array([bool(one) for one in labels]), labels),
        "string": (pyarrow.array([str(one) for one in labels]), labels),
        "decimal": (pyarrow.array([decimal.Decimal(one) for one in labels]), labels),
        "binary": (pyarrow.array([str(one).encode() for one in labels]), labels),
        "half": (pyarrow.array([0.5] * len(rows)), None),
        "nulls": (pyarrow.nulls(len(rows)), None),
    }
    if choose.random() < 0.6:
        name = choose.choice(list(as_text))
        column, right = as_text[name]
        table = {"text": column, "label": labels}
        rights = (
            reading.expected([{"text": t, "label": one} for t, one in zip(right, labels, strict=True)])
            if right
            else None
        )
    else:
        name = choose.choice(list(as_label))
        column, numbers = as_label[name]
        table = {"text": texts, "label": column}
        rights = (
            reading.expected([{"text": t, "label": n} for t, n in zip(texts, numbers, strict=True)])
            if numbers
            else None
        )
        name = f"{name} labels"
    reading.write(folder, ".parquet", reading.parquet(table))
    return Case(f"Parquet: {name}", reading.reader(folder, reading.template()), None, (rights,) if rights else ())


def flips(choose: random.Random, folder: pathlib.Path) -> Case:
    """Bytes of a Parquet file changed. The format has no checksum, so that only the manner of the failure counts."""
    content = bytearray(reading.written(".parquet", reading.table(choose)))
    for _ in range(choose.choice([1, 1, 3, 20])):
        content[choose.randrange(len(content))] ^= 1 << choose.randrange(8)
    reading.write(folder, ".parquet", bytes(content))
    return Case("Parquet: flipped bits", reading.reader(folder, reading.template()), lambda result: True)
