"""Which values have a text, and what it is.

Texts, numbers and truths have one. What has no text but Python's own spelling of it, `None`, `['a']` or `b'a'`, is an
error, because a model would be trained on that. A null of a row is empty text.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any

import jinja2
from jinja2.exceptions import TemplateRuntimeError


class Null(str):
    """A null of a row: empty text that equals none."""

    def __eq__(self, other: object) -> bool:
        return other is None or super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


NULL = Null()


class Whole(int):
    """A whole number of a row: it equals its text, too: a CSV has 1 where the template's author had "1"."""

    def __eq__(self, other: object) -> bool:
        return str(self) == other if isinstance(other, str) else super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = int.__hash__


class Truth(str):
    """A row's label that is the text of a truth, as of a CSV: in a condition it is that truth, and equals 1 or 0."""

    def __bool__(self) -> bool:
        return self.strip().lower() == "true"

    def __eq__(self, other: object) -> bool:
        return bool(self) == other if isinstance(other, int) else super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


def is_null(value: Any) -> bool:
    """jinja's test `none`, for the nulls of a row."""
    return value is None or isinstance(value, Null)


def text(value: Any) -> str:
    """What a template prints for a value: text, a number, or True and False, as in promptsource.

    Raises:
      TemplateRuntimeError: the value has no text but Python's own spelling of it.
    """
    if isinstance(value, str | int | jinja2.Undefined):
        return str(value)
    if isinstance(value, numbers.Real) and math.isfinite(value):
        return str(value)
    raise TemplateRuntimeError(f"it prints {_kind(value)}")


def texts(values: Iterable[Any]) -> list[str]:
    """`text` of each."""
    return [text(value) for value in values]


def _kind(value: Any) -> str:
    """A value without a text, in words, with what to write instead."""
    if value is None:
        return "`none`, which has no text: write a default, or row['none'] for a column of this name"
    if isinstance(value, numbers.Number):
        return f"{value}, which is no number"
    if isinstance(value, bytes):
        return "bytes, which have no text: decode the column first"
    if isinstance(value, Mapping):
        return "a dictionary, which has no text: write the name of one of its keys, or `| tojson`"
    if isinstance(value, list | tuple | range):
        return "a list, which has no text: write `| join(', ')`, or one of its items"
    if name := getattr(value, "__name__", ""):
        return f"the function {name!r}, which has no text: call it, {name}()"
    whose = "jinja's" if type(value).__module__.startswith("jinja2") else "a value of type"
    return f"{whose} {type(value).__name__}, which has no text"
