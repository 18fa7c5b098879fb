"""What jinja may do inside a template: its sandbox, and what promptsource adds to it.

Templates come from files of other people, so they run in jinja's sandbox, without the operators that exhaust memory.
promptsource's `choice`, `most_frequent` and `zip` are there; a random choice is the same for the same row every time.
"""

from __future__ import annotations

import collections
import functools
import json
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jinja2
import jinja2.runtime
import jinja2.sandbox
from jinja2.exceptions import SecurityError, TemplateRuntimeError
from jinja2.utils import missing

LONGEST_REPEAT = 10_000  # items that `*` may produce from a string or list
WHOLE = re.compile(r"\d+(\.0+)?", re.ASCII)
TRUTHS = {"false": 0, "true": 1}
DRAWS = " draws"  # a name that no template can spell


class Choices(list):
    """The answer choices inside a template.

    An index out of range is an error, -1 included: it is the label of a row without one, not the last choice.
    """

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int) and index < 0:
            raise IndexError(index)
        return super().__getitem__(index)


class Row(dict):
    """The whole row, for columns whose names are not jinja's: row["Tweet text"]."""


class Null(str):
    """A null of a row: empty text that equals none."""

    def __eq__(self, other: object) -> bool:
        return other is None or super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


NULL = Null()


class Missing(jinja2.Undefined):
    """A missing part of a column is empty, as in promptsource; a missing column or choice is an error."""

    def __new__(
        cls,
        hint: str | None = None,
        obj: Any = missing,
        name: str | None = None,
        exc: type[TemplateRuntimeError] = jinja2.UndefinedError,
    ) -> jinja2.Undefined:
        is_column = obj is missing and name is not None
        if isinstance(obj, Choices):
            hint = f"answer choice {name} (from 0) does not exist; there are {len(obj)}"
        if isinstance(obj, Row):
            hint = f"{name!r} is undefined"
        if is_column or isinstance(obj, Choices | Row) or exc is not jinja2.UndefinedError:
            return jinja2.StrictUndefined(hint, obj, name, exc)
        return super().__new__(cls)


class Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """jinja's sandbox, without operators that exhaust memory in one step."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        """Raises SecurityError for `**`, and for `*` that repeats a sequence beyond LONGEST_REPEAT items."""
        length = max((len(x) for x in (left, right) if isinstance(x, Sequence)), default=0)
        times = min((x for x in (left, right) if isinstance(x, int)), default=0)
        if operator == "**" or length * times > LONGEST_REPEAT:
            raise SecurityError(f"`{operator}` of that size is not available in templates")
        return super().call_binop(context, operator, left, right)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """`obj[argument]`; a list's index may be a label of any spelling. What lacks an index is what the index is."""
        if isinstance(argument, jinja2.Undefined):
            return argument
        return super().getitem(obj, position(argument) if isinstance(obj, list | tuple) else argument)


def position(label: Any) -> Any:
    """A label of a file as a list's index: of 1, 1.0, true, "1", "1.0" and "true" the number 1; others as they are."""
    if isinstance(label, float) and label.is_integer():
        return int(label)
    if isinstance(label, str):
        if WHOLE.fullmatch(label.strip()):
            return int(float(label))
        return TRUTHS.get(label.strip().lower(), label)
    return label


def is_null(value: Any) -> bool:
    """jinja's test `none`, for the nulls of a row."""
    return value is None or isinstance(value, Null)


class Draws:
    """Random draws for one template and row, seeded by both, once something is drawn."""

    def __init__(self, template: str, row: Mapping[str, Any]) -> None:
        self.template, self.row = template, row

    @functools.cached_property
    def generator(self) -> random.Random:
        """Seeded by the template and the row, so that a row has the same text in every run."""
        return random.Random(self.template + json.dumps(self.row, sort_keys=True, default=str))


@jinja2.pass_context
def choice(context: jinja2.runtime.Context, options: Iterable[Any]) -> Any:
    """The filter `choice` (also `random`): one of the options, drawn by the generator of the row."""
    return context[DRAWS].generator.choice(list(options))


def most_frequent(items: Sequence[Any]) -> list[Any]:
    """The items that occur most often, in order of first occurrence."""
    counts = collections.Counter(items)
    return [item for item, count in counts.items() if count == max(counts.values())]


def sandbox() -> Sandbox:
    """The environment of all templates: the sandbox with the functions and filters of promptsource."""
    environment = Sandbox(undefined=Missing)
    del environment.globals["lipsum"]
    environment.globals["zip"] = zip
    environment.tests["none"] = is_null
    environment.filters |= {"choice": choice, "random": choice, "most_frequent": most_frequent}
    return environment


ENVIRONMENT = sandbox()
