"""What the cases about rows share: clean rows, files of them, and the texts that the program makes of a file.

Texts are decoded from the tokenised rows, so that a result covers reading, rendering and tokenising.
"""

from __future__ import annotations

import csv
import io
import json
import pathlib
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from infoprompt_jax import settings
from infoprompt_jax.data import examples, selection, tokenization
from infoprompt_jax.t5 import tokenizer

Row = dict[str, Any]
Text = list[Any]  # input, target and label of a row as text

NAME = "mine"
CHOICES = ("bad", "good")
WORDS = (
    "film",
    "plot,",
    "never",
    "“quite”",
    "good;",
    "naïve",
    "café",
    "acting\tbut",
    "it's",
    "'fine'",
    "--",
    "7",
    "1.0",
    "null",
    "true",
    "a|b",
    "50%",
    "{x}",
    "<b>",
    "ü",
    "日本",
    "😀",
)
LINES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")  # that hold columns
LONGEST = 2**24  # tokens


def table(choose: random.Random, count: int = 6) -> list[Row]:
    """Clean rows: a text, and a label 0 or 1. The texts differ, so that none can take another's place."""
    return [
        {"text": f"{number} {' '.join(choose.choices(WORDS, k=choose.randint(1, 8)))} x", "label": choose.randrange(2)}
        for number in range(count)
    ]


def expected(rows: Sequence[Row]) -> list[Text]:
    """The texts of rows whose `text` is a string and whose label is 0 or 1."""
    return [[f"Review: {row['text']} End", CHOICES[row["label"]], row["label"]] for row in rows]


def template(column: str = "{{ text }}", label: str = "label") -> dict[str, str]:
    """The config's fields of the template that `expected` renders."""
    return {
        "task.input": f"Review: {column} End",
        "task.target": f"{{{{ answer_choices[{label}] }}}}",
        "task.answer_choices": " ||| ".join(CHOICES),
    }


def write(folder: pathlib.Path, suffix: str, content: bytes, split: str = "train", name: str = NAME) -> pathlib.Path:
    """Writes a split's file below `folder`."""
    path = folder / "data" / name / f"{split}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def reader(folder: pathlib.Path, fields: Mapping[str, Any], **changed: Any) -> Callable[[], list[Text]]:
    """Reads the training split as a run does: see `texts`. `changed` are more fields of the config, a__b for a.b."""
    return lambda: texts(folder, {**fields, **{name.replace("__", "."): value for name, value in changed.items()}})


def texts(folder: pathlib.Path, fields: Mapping[str, Any]) -> list[Text]:
    """Input, target and label of each training row, tokenised and decoded again.

    Raises UserError as the program does.
    """
    config = settings.defaults()
    config.update_from_flattened_dict({"data.dir": str(folder / "data"), "task.name": NAME, **fields})
    (task,) = selection.find_tasks(settings.check(config))
    split, vocabulary = config.task.train_split, tokenizer.load_tokenizer("bytes")
    made = tokenization.tokenize(
        examples.examples(task, split),
        vocabulary,
        folder / "cache",
        examples.source_fingerprint(task, split),
        takes_eos=True,
        max_input_length=LONGEST,
        max_target_length=LONGEST,
    )
    tokens, offsets = made.arrays["input_tokens"], made.arrays["input_offsets"]
    inputs = [vocabulary.decode(tokens[offsets[n] : offsets[n + 1]]) for n in range(len(made))]
    return [[text, made.target_text(n), int(made.labels[n])] for n, text in enumerate(inputs)]


def jsonl(rows: Sequence[Any], **options: Any) -> bytes:
    """The rows as lines of JSON."""
    return "".join(json.dumps(row, **options) + "\n" for row in rows).encode("utf-8", "surrogatepass")


def delimited(rows: Sequence[Row], separator: str = ",", ends: str = "\n", header: Sequence[str] = ()) -> bytes:
    """The rows as CSV. `header` replaces the columns' names."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator, lineterminator=ends)
    writer.writerow(header or list(rows[0]))
    writer.writerows([["" if cell is None else cell for cell in row.values()] for row in rows])
    return text.getvalue().encode("utf-8", "surrogatepass")


def parquet(columns: Mapping[str, Any] | Any) -> bytes:
    """Columns, or a pyarrow table, as Parquet."""
    import pyarrow
    import pyarrow.parquet

    made = columns if isinstance(columns, pyarrow.Table) else pyarrow.table(dict(columns))
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(made, sink)
    return sink.getvalue().to_pybytes()


def written(suffix: str, rows: Sequence[Row]) -> bytes:
    """The rows in the format of that suffix."""
    if suffix == ".jsonl":
        return jsonl(rows)
    if suffix == ".json":
        return json.dumps(list(rows)).encode()
    if suffix in (".csv", ".tsv"):
        return delimited(rows, "," if suffix == ".csv" else "\t")
    return parquet({name: [row[name] for row in rows] for name in rows[0]})
