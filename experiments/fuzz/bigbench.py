"""BIG-bench's task.json: odd scores, choices and layouts, and files that are broken.

What is accepted is compared with the rows of the clean file, which the program reads in the same folder.
"""

from __future__ import annotations

import copy
import json
import math
import pathlib
import random
from collections.abc import Callable
from typing import Any

from experiments.fuzz import reading
from experiments.fuzz.cases import Case

NAME = "bigbench/mine"
HUGE = "9" * 5000
Task = dict[str, Any]


def case(choose: random.Random, folder: pathlib.Path) -> Case:
    """One task's file, or those of its sub-tasks."""
    return choose.choice([values, values, values, texts, texts])(choose, folder)


def _task(choose: random.Random) -> Task:
    examples = [
        {
            "input": f"{n} {' '.join(choose.choices(reading.WORDS, k=3))}?",
            "target_scores": {"yes": n % 2, "no": 1 - n % 2},
        }
        for n in range(4)
    ]
    return {"name": "mine", "canary": "c", "examples": examples, "task_prefix": "Answer. "}


def _read(folder: pathlib.Path) -> Callable[[], list[reading.Text]]:
    fields = {
        "job": "evaluate",
        "task.name": NAME,
        "task.train_split": "validation",
        "task.input": "{{ inputs }}",
        "task.target": "{{ targets }}",
        "task.answer_choices": '{{ choices | join(" ||| ") }}',
    }
    return reading.reader(folder, fields)


def _write(folder: pathlib.Path, content: bytes, part: str = "") -> None:
    path = folder / "data" / NAME / part / "task.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _clean(folder: pathlib.Path, task: Task) -> list[reading.Text]:
    _write(folder / "clean", json.dumps(task).encode())
    return _read(folder / "clean")()


def values(choose: random.Random, folder: pathlib.Path) -> Case:
    """One value of the task is replaced."""
    task = _task(choose)
    clean = _clean(folder, task)
    changed = copy.deepcopy(task)
    first = changed["examples"][0]
    harmless: dict[str, Callable[[], Any]] = {
        "scores as floats": lambda: first["target_scores"].update(yes=0.0, no=1.0),
        "more keys": lambda: first.update(comment="x", target=["no"]),
        "scores beyond one": lambda: first["target_scores"].update(yes=1, no=7),
        "negative scores": lambda: first["target_scores"].update(yes=-5, no=-1),
        "a null comment": lambda: changed.update(description=None, keywords=None),
        "a deep comment": lambda: changed.update(other=[[[[[[]]]]]]),
    }
    broken: dict[str, Callable[[], Any]] = {
        "scores as texts": lambda: first["target_scores"].update(yes="0", no="1"),
        "NaN as a score": lambda: first["target_scores"].update(yes=math.nan),
        "NaN as every score": lambda: first.update(target_scores={"yes": math.nan, "no": math.nan}),
        "infinite scores": lambda: first.update(target_scores={"yes": math.inf, "no": math.inf}),
        "null as a score": lambda: first["target_scores"].update(yes=None),
        "true as a score": lambda: first["target_scores"].update(yes=False, no=True),
        "a list as a score": lambda: first["target_scores"].update(yes=[1]),
        "equal scores": lambda: first.update(target_scores={"yes": 1, "no": 1}),
        "no scores": lambda: first.update(target_scores={}),
        "scores as a list": lambda: first.update(target_scores=["yes", "no"]),
        "one choice": lambda: first.update(target_scores={"no": 1}),
        "choices that differ by spaces": lambda: first.update(target_scores={"no": 1, " no": 0}),
        "an empty choice": lambda: first.update(target_scores={"no": 1, "": 0}),
        "an input that is a list": lambda: first.update(input=["a"]),
        "an input that is null": lambda: first.update(input=None),
        "an input that is a number": lambda: first.update(input=5),
        "no input": lambda: first.pop("input"),
        "an example that is null": lambda: changed["examples"].append(None),
        "an example that is a list": lambda: changed["examples"].append([1]),
        "free text": lambda: first.pop("target_scores") and first.update(target="no"),
        "no examples": lambda: changed.update(examples=[]),
        "examples null": lambda: changed.update(examples=None),
        "examples an object": lambda: changed.update(examples={"a": 1}),
        "a prefix that is a number": lambda: changed.update(example_input_prefix=5),
        "a prefix that is null": lambda: changed.update(task_prefix=None),
    }
    kinds = harmless if choose.random() < 0.3 else broken
    what = choose.choice(list(kinds))
    kinds[what]()
    _write(folder, json.dumps(changed).encode("utf-8", "surrogatepass"))
    return Case(what, _read(folder), clean if kinds is harmless else None)


def texts(choose: random.Random, folder: pathlib.Path) -> Case:
    """The file's text is cut, doubled, encoded otherwise, or odd."""
    task = _task(choose)
    text, clean = json.dumps(task), _clean(folder, task)
    place = choose.randrange(1, len(text) - 1)
    twice = text.replace('"yes": 0', '"yes": 0, "yes": 1', 1)
    harmless = {
        "with a mark": b"\xef\xbb\xbf" + text.encode(),
        "with spaces": f"\n {text}\n".encode(),
        "indented with CRLF": json.dumps(task, indent=1).replace("\n", "\r\n").encode(),
    }
    broken = {
        "cut": text[:place].encode(),
        "empty": b"",
        "null": b"null",
        "an array": f"[{text}]".encode(),
        "doubled": (text + text).encode(),
        "UTF-16": text.encode("utf-16"),
        "a byte that is no UTF-8": text.encode()[:40] + b"\xff" + text.encode()[40:],
        "a choice twice": twice.encode(),
        "a NUL": text.encode() + b"\0",
        "deep": b"[" * 100_000,
        "deep inside": text.replace('"c"', "[" * 100_000 + "]" * 100_000).encode(),
        "an integer of 5,000 digits": text.replace('"yes": 0', f'"yes": {HUGE}', 1).encode(),
        "a score of 1e999": text.replace('"yes": 0', '"yes": 1e999', 1).encode(),
    }
    kinds = harmless if choose.random() < 0.25 else broken
    what = choose.choice(list(kinds))
    _write(folder, kinds[what], choose.choice(["", "", "part"]))
    is_deep = what == "deep inside"
    right = clean if kinds is harmless or is_deep else None
    return Case(what, _read(folder), right)
