"""How a job ends before its time: the exceptions that `main` turns into one sentence and an exit status.

Sentences name config fields. `in_python` makes of a function the public one, whose sentences name its arguments.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar

LONGEST = 2000  # characters of a sentence
# What sentences name as a config field and callers of these public functions as an argument, as patterns.
ARGUMENTS: Mapping[str, Mapping[str, str]] = {
    "load_backbone": {r"\bbackbone\.(?=\w)": ""},
    "predict": {
        r"train\.eval_batch_size": "batch_size",
        r"prompt\.init": "prompt",
        r"\b(data|scoring|task)\.(?=\w)": "",
    },
}

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class UserError(Exception):
    """A mistake that the user can correct; exit status 2.

    Its text is one sentence: what was seen, what was expected, which config field to change. It is printed without a
    traceback, and nothing is written after it is raised. Of a sentence that quotes pages of a file, the middle is left
    out.
    """

    def __init__(self, sentence: str = "") -> None:
        half = LONGEST // 2
        super().__init__(sentence if len(sentence) <= LONGEST else f"{sentence[:half]} [...] {sentence[-half:]}")


class OfflineError(UserError):
    """A download is needed and there is no network; `main` adds a command that runs without one."""


class Stopped(Exception):  # noqa: N818
    """SIGTERM or Ctrl-C stopped the job after it saved; exit status 143. The same command resumes it."""


def in_python(function: Callable[Arguments, Result], words: Mapping[str, str]) -> Callable[Arguments, Result]:
    """The same function for callers in Python: in its sentences, each pattern of `words` is replaced."""

    @functools.wraps(function)
    def public(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except UserError as error:
            text = str(error)
            for field, argument in words.items():
                text = re.sub(field, argument, text)
            error.args = (text,)
            raise

    return public
