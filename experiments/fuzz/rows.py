"""Rows: encodings, values, labels, names of columns, files that end too early.

The right result comes from the clean rows and docs/data.md, never from the program's own readers.
"""

from __future__ import annotations

import json
import math
import pathlib
import random
from typing import Any

from experiments.fuzz import reading
from experiments.fuzz.cases import Case
from experiments.fuzz.reading import LINES, Text

HUGE = "9" * 5000
REFUSED: tuple[Any, ...] = ()
# A text cell, and what it may become in `{{ text }}`; nothing: it must be refused.
CELLS: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (None, ("",)),
    ("", ("",)),
    (5, ("5",)),
    (1.5, ("1.5",)),
    (1e22, ("1e+22", "1e22", "10000000000000000000000")),
    (True, ("True", "true")),
    (math.nan, ("",)),
    (math.inf, REFUSED),
    ([1, "a"], ('[1, "a"]',)),
    ({"a": None}, ('{"a": null}',)),
    ([], ("[]",)),
    ("nan", ("nan",)),
    ("None", ("None",)),
    ("null", ("null",)),
    ("\ud800 half", ("? half",)),
    ("a ||| b", ("a ||| b",)),
    ("{{ 1 + 1 }}", ("{{ 1 + 1 }}",)),
    ("</s><pad>", ("</s><pad>",)),
    ("nul \0 sign", ("nul \0 sign",)),
    ("a\u2028b\u0085c\x1cd", ("a\u2028b\u0085c\x1cd",)),
    ("x" * 300_000, ("x" * 300_000,)),
    ("b'bytes'", ("b'bytes'",)),
    ("line\nline\rline\r\n", ("line\nline\rline\r\n",)),
    ("007", ("007",)),
    ("1e5", ("1e5",)),
    ("\ufeffmark", ("\ufeffmark",)),
)
LEFT_OUT, SECOND, FIRST = -1, 1, 0
# A label, and the choice that it means; None: it must be refused.
LABELS: tuple[tuple[Any, int | None], ...] = (
    (1.0, SECOND),
    ("1", SECOND),
    ("1.0", SECOND),
    (" 1 ", SECOND),
    (True, SECOND),
    ("true", SECOND),
    (0.0, FIRST),
    ("0", FIRST),
    (False, FIRST),
    ("false", FIRST),
    (None, LEFT_OUT),
    ("", LEFT_OUT),
    (-1, LEFT_OUT),
    (-1.0, LEFT_OUT),
    ("-1", LEFT_OUT),
    (math.nan, LEFT_OUT),
    ("nan", LEFT_OUT),
    (0.5, None),
    ("0.5", None),
    ("one", None),
    (2, None),
    (-2, None),
    ("-2", None),
    (1.0000001, None),
    (1e300, None),
    (math.inf, None),
    (2**64, None),
    ([1], None),
    ({"label": 1}, None),
    ("1e0", None),
    ("\u0661", None),
    ("good", None),
    ("yes", None),
    ("1_0", None),
)
NAMES = (
    "zip",
    "range",
    "dict",
    "self",
    "lipsum",
    "cycler",
    "joiner",
    "namespace",
    "row",
    "loop",
    "caller",
    "varargs",
    "kwargs",
    "super",
    "answer_choices",
    "true",
    "none",
    "True",
    "None",
    "not",
    "in",
    "is",
    "if",
    "else",
    "for",
    "set",
    "filter",
    "block",
    "context",
    "environment",
    "resolve",
    "undefined",
    "item",
    "missing",
    "choice",
    "label",
    "random",
    "length",
    "__class__",
    "_",
    "é",
    "ﬁeld",
    "l_0_text",
    "a-b",
    "a b",
    "1st",
    "label ",
    " text",
    "a.b",
    "a'b",
    'a"b',
    "a]b",
)


def case(choose: random.Random, folder: pathlib.Path) -> Case:
    """One file of rows, or several."""
    return choose.choice(MAKERS)(choose, folder)


def encodings(choose: random.Random, folder: pathlib.Path) -> Case:
    """UTF-8 is read, with or without a mark; everything else is refused."""
    suffix = choose.choice([".jsonl", ".json", ".csv", ".tsv", ".txt"])
    rows = reading.table(choose)
    for row in rows:
        row["text"] = f"{row['text'] if choose.random() < 0.5 else 'plain'} é".encode("latin-1", "ignore").decode(
            "latin-1"
        )
    encoding = choose.choice(["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252", "utf-8"])
    if suffix == ".txt":
        content = "".join(f"{row['text']}\n" for row in rows)
        if choose.random() < 0.5:
            content = content.replace("é", "e").encode("ascii", "ignore").decode()
        right = [[f"Say: {line.strip()}", line.strip(), -1] for line in content.splitlines() if line.strip()]
        fields = {"task.input": "Say: {{ text }}", "task.target": "{{ text }}"}
    else:
        content = (
            reading.written(suffix, rows).decode()
            if suffix != ".jsonl"
            else reading.jsonl(rows, ensure_ascii=False).decode()
        )
        right, fields = reading.expected(rows), reading.template()
    raw = content.encode(encoding)
    reading.write(folder, suffix, raw)
    is_utf8 = encoding.startswith("utf-8") or (encoding in ("latin-1", "cp1252") and content.isascii())
    return Case(f"{suffix} in {encoding}", reading.reader(folder, fields), right if is_utf8 else None)


def cells(choose: random.Random, folder: pathlib.Path) -> Case:
    """One text is replaced by a value that is none, or an odd one."""
    suffix, rows = choose.choice([".jsonl", ".json"]), reading.table(choose)
    value, texts = choose.choice(CELLS)
    place = choose.randrange(len(rows))
    rows[place]["text"] = value
    reading.write(folder, suffix, reading.written(suffix, rows))
    rights = [reading.expected([*rows[:place], rows[place] | {"text": text}, *rows[place + 1 :]]) for text in texts]
    return Case(f"{suffix}: the text {value!r:.80}", reading.reader(folder, reading.template()), None, tuple(rights))


def labels(choose: random.Random, folder: pathlib.Path) -> Case:
    """One label, or all of them, in other clothes, or none at all."""
    suffix, rows = choose.choice([".jsonl", ".json", ".csv", ".tsv"]), reading.table(choose)
    value, choice = choose.choice(LABELS)
    places = choose.choice([range(len(rows)), [choose.randrange(len(rows))]])
    right: list[Text] | None = [] if choice is not None else None
    for place, row in enumerate(rows):
        if place not in places:
            right = right if right is None else [*right, *reading.expected([row])]
        elif right is not None and choice != LEFT_OUT:
            right = [*right, *reading.expected([row | {"label": choice}])]
        if place in places:
            row["label"] = value
    content = reading.delimited(rows, "," if suffix == ".csv" else "\t") if suffix in (".csv", ".tsv") else None
    reading.write(folder, suffix, content or reading.written(suffix, rows))
    what = f"{suffix}: the label {value!r:.80} in {len(places)} of {len(rows)} rows"
    if suffix in (".csv", ".tsv") and isinstance(value, str | float) and str(value).lower() in ("inf", "nan"):
        right = right or None
    return Case(what, reading.reader(folder, reading.template()), None, (right,) if right else ())


def names(choose: random.Random, folder: pathlib.Path) -> Case:
    """The text's column is called as something of jinja's or Python's; the template reads it by that name."""
    suffix, rows, name = choose.choice(LINES), reading.table(choose), choose.choice(NAMES)
    is_identifier = name.replace("-", "_").isidentifier()
    column = f"{{{{ {name.replace('-', '_')} }}}}" if is_identifier else f"{{{{ row[{name!r}] }}}}"
    if name == "label":
        renamed = [{"label": row["text"], "sentiment": row["label"]} for row in rows]
        fields = reading.template(column, "sentiment")
    else:
        renamed = [{name: row["text"], "label": row["label"]} for row in rows]
        fields = reading.template(column)
    reading.write(folder, suffix, reading.written(suffix, renamed))
    return Case(f"{suffix}: the column {name!r} as {column}", reading.reader(folder, fields), reading.expected(rows))


def duplicates(choose: random.Random, folder: pathlib.Path) -> Case:
    """Two columns of one name, or of names that templates cannot tell apart."""
    suffix, rows = choose.choice(LINES), reading.table(choose)
    first, second = choose.choice([("text", "text"), ("text", "text"), ("label", "label"), ("of-text", "of_text")])
    others = [f"other {row['text']}" if first != "label" else 1 - row["label"] for row in rows]
    values = [[row["label" if first == "label" else "text"], other] for row, other in zip(rows, others, strict=True)]
    if choose.random() < 0.3 and first == "text":
        values = [[one, one] for one, _ in values]  # equal twice is harmless, but nobody can know
    rest = "text" if first == "label" else "label"
    reading.write(
        folder,
        suffix,
        _doubled(suffix, (first, second, rest), [[*v, r[rest]] for v, r in zip(values, rows, strict=True)]),
    )
    fields = reading.template("{{ of_text }}" if second == "of_text" else "{{ text }}")
    exact = [row | {"text": pair[1]} for row, pair in zip(rows, values, strict=True)]
    documented = (reading.expected(exact),) if second == "of_text" else ()
    return Case(f"{suffix}: columns {first!r} and {second!r}", reading.reader(folder, fields), None, documented)


def _doubled(suffix: str, columns: tuple[str, ...], rows: list[list[Any]]) -> bytes:
    if suffix in (".csv", ".tsv"):
        numbered = [{str(n): cell for n, cell in enumerate(row)} for row in rows]
        return reading.delimited(numbered, "," if suffix == ".csv" else "\t", header=columns)
    if suffix == ".parquet":
        import pyarrow

        return reading.parquet(
            pyarrow.Table.from_arrays([pyarrow.array(c) for c in zip(*rows, strict=True)], list(columns))
        )
    objects = [
        "{" + ", ".join(f"{json.dumps(n)}: {json.dumps(c)}" for n, c in zip(columns, row, strict=True)) + "}"
        for row in rows
    ]
    return ("\n".join(objects) if suffix == ".jsonl" else f"[{', '.join(objects)}]").encode()


def cut(choose: random.Random, folder: pathlib.Path) -> Case:
    """A file that ends too early. Whole rows may be missing, where no reader can tell; no row may be changed."""
    suffix, rows = choose.choice(LINES), reading.table(choose)
    content = reading.written(suffix, rows)
    length = choose.randrange(len(content))
    reading.write(folder, suffix, content[:length])
    clean = reading.expected(rows)

    def is_right(result: list[Text]) -> bool:
        if suffix in (".json", ".parquet"):
            return result == clean and not content[length:].strip()
        if suffix in (".csv", ".tsv") and result:  # what is cut inside the last cell is a shorter text
            return result[:-1] == clean[: len(result) - 1]
        return result == clean[: len(result)]

    return Case(
        f"{suffix} cut to {length} of {len(content)} bytes", reading.reader(folder, reading.template()), is_right
    )


MAKERS = (encodings, cells, cells, labels, labels, names, names, duplicates, cut)
