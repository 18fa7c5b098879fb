"""A case: one hostile or careless input, what reads it, and which results are right.

A case is made from a seed, its kind and its number, so that it can be repeated. Running it ends in one outcome:

| outcome | what happened |
|---|---|
| sentence | the input was refused with a `UserError`, or exit status 2 |
| equal | it was accepted, with the result of the clean input |
| documented | it was accepted, with another result that a document names |
| silent | it was accepted, with any other result: silently wrong |
| traceback | any other exception, or the process died |
| memory | more than 4 GB of memory |
| hang | more than 60 seconds |
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import pathlib
import random
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from infoprompt_jax import files
from infoprompt_jax.errors import UserError

ACCEPTED = ("equal", "documented")
BAD = ("silent", "traceback", "memory", "hang")
OUTCOMES = ("sentence", *ACCEPTED, *BAD)
LONGEST_SENTENCE = 3000  # characters; what is longer is no sentence
SHOWN = 1500  # characters of a detail in the report


@dataclasses.dataclass(frozen=True)
class Case:
    """One input.

    `clean` is the result of the same input without its fault; `documented` are other right results. Either may be a
    function of the result that says whether it is right. Without both, the input must be refused.
    """

    what: str  # the input in a few words
    run: Callable[[], Any]  # reads it; the result is JSON
    clean: Any = None
    documented: tuple[Any, ...] = ()


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a case ended in."""

    kind: str
    seed: int
    number: int
    outcome: str
    what: str
    detail: str = ""  # the sentence, the exception or the wrong result
    seconds: float = 0.0

    @property
    def is_bad(self) -> bool:
        """Whether it is a fault of the program."""
        return self.outcome in BAD

    @property
    def command(self) -> str:
        """What repeats the case."""
        return f"python -m experiments.fuzz --seed {self.seed} --case {self.kind}/{self.number}"


def prepare(kind: str, scratch: pathlib.Path) -> None:
    """What the kind's cases share, in `scratch`: nothing, or what the kind's module makes, once."""
    getattr(_module(kind), "prepare", lambda _: None)(scratch)


def _module(kind: str) -> Any:
    return importlib.import_module(kind if "." in kind else f"experiments.fuzz.{kind}")


def make(kind: str, seed: int, number: int, folder: pathlib.Path) -> Case:
    """The case, with its files in `folder`. `kind` is a module of this package, or another one by its dotted name."""
    folder.mkdir(parents=True, exist_ok=True)
    return _module(kind).case(random.Random(f"{seed} {kind} {number}"), folder)


def run(kind: str, seed: int, number: int, announce: Callable[[str], None] = lambda what: None) -> Outcome:
    """Makes the case in a temporary folder and runs it in this process; `announce` gets what it is, before."""
    start = time.perf_counter()
    with temporary_folder() as folder:
        case = make(kind, seed, number, folder)
        announce(case.what)
        outcome, detail = _outcome(case)
    shown = detail.replace(str(folder), "FOLDER")
    return Outcome(
        kind, seed, number, outcome, case.what[:SHOWN], shortened(shown), round(time.perf_counter() - start, 3)
    )


@contextlib.contextmanager
def temporary_folder() -> Iterator[pathlib.Path]:
    """A folder that is removed at the end, whatever it holds."""
    with tempfile.TemporaryDirectory(prefix="fuzz-", ignore_cleanup_errors=True) as folder:
        yield pathlib.Path(folder)


def _outcome(case: Case) -> tuple[str, str]:
    try:
        result = case.run()
    except UserError as error:
        sentence = str(error)
        is_sentence = 0 < len(sentence) <= LONGEST_SENTENCE
        return ("sentence", sentence) if is_sentence else ("traceback", f"a sentence of {len(sentence)} characters")
    except MemoryError:
        return "memory", traceback.format_exc()
    except SystemExit as stop:
        return ("sentence" if stop.code == 2 else "traceback"), f"exit status {stop.code}"
    except KeyboardInterrupt:
        raise
    except BaseException:
        return "traceback", traceback.format_exc()
    if _is(result, case.clean):
        return "equal", ""
    if any(_is(result, right) for right in case.documented):
        return "documented", ""
    return "silent", _difference(_text(result), _expected(case))


def _is(result: Any, right: Any) -> bool:
    if callable(right):
        return bool(right(result))
    return right is not None and _text(result) == _text(right)


def _text(value: Any) -> str:
    return json.dumps(files.strict(value), sort_keys=True, default=repr)


def _expected(case: Case) -> str:
    rights = [right for right in (case.clean, *case.documented) if right is not None]
    return " or ".join("what its check allows" if callable(right) else _text(right) for right in rights) or "a sentence"


def _difference(result: str, expected: str) -> str:
    """Both, from shortly before the place where they begin to differ."""
    same = next((n for n, (a, b) in enumerate(zip(result, expected, strict=False)) if a != b), 0)
    start = max(0, same - 60)
    before = "[...] " if start else ""
    return f"result: {before}{result[start : start + 400]}\nexpected: {before}{expected[start : start + 400]}"


def shortened(text: str) -> str:
    """The beginning and the end of a long text."""
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 3]} [...] {text[-2 * SHOWN // 3 :]}"
