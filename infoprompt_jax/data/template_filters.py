"""What a template may call: jinja's filters and tests, promptsource's filters, and methods of texts and lists.

Each pays for what it goes through and for what it gives (`template_work.py`). Where the result can be far larger than
what goes in, COSTS knows what it will cost beforehand. Filters that print Python (`pprint`), make HTML, or take far
longer than their input is long (`wordwrap`) are left out.
"""

from __future__ import annotations

import collections
import functools
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from typing import Any

import jinja2
import jinja2.runtime
import markupsafe
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS, make_attrgetter
from jinja2.tests import TESTS
from jinja2.utils import htmlsafe_json_dumps

from infoprompt_jax.data.template_formats import percent
from infoprompt_jax.data.template_text import is_null, text, texts
from infoprompt_jax.data.template_work import ITEM, STEP, Budget

PRECISION = 15  # digits that `round` may take, before and after the point
RANDOM = frozenset(("choice", "random"))  # the filters that draw by the row
LEFT_OUT = ("attr", "filesizeformat", "forceescape", "pprint", "striptags", "urlize", "wordwrap", "xmlattr")
OF_TEXT = ("capitalize", "center", "e", "escape", "indent", "lower", "title", "trim", "truncate", "upper", "wordcount")
CONSTANT = ("count", "d", "default", "first", "last", "length")  # filters that take no longer for a longer value
CONSTANT_TESTS = ("boolean", "callable", "defined", "false", "float", "integer", "iterable", "mapping", "none")
CONSTANT_TESTS += ("number", "sameas", "sequence", "string", "true", "undefined")

# fmt: off
TEXT_METHODS = frozenset((
    "capitalize", "casefold", "center", "count", "endswith", "expandtabs", "find", "index", "isalnum", "isalpha",
    "isascii", "isdecimal", "isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper", "join", "ljust",
    "lower", "lstrip", "partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rjust", "rpartition",
    "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "swapcase", "title", "upper", "zfill",
))
# fmt: on
LIST_METHODS = frozenset(("copy", "count", "index"))
DICTIONARY_METHODS = frozenset(("copy", "get", "items", "keys", "values"))
VIEWS = (Iterator, type({}.keys()), type({}.values()), type({}.items()))


class Rendering(jinja2.runtime.Context):
    """The context of one rendering: the names in the template, its budget and its random draws."""

    budget: Budget
    draws: Draws


class Draws:
    """Random draws for one template and row, seeded by both, once something is drawn."""

    def __init__(self, template: str, row: Mapping[str, Any]) -> None:
        self.template, self.row = template, row

    @functools.cached_property
    def generator(self) -> random.Random:
        """Seeded by the template and the row, so that a row has the same text in every run."""
        return random.Random(self.template + json.dumps(self.row, sort_keys=True, default=str))


def _padded(value: Any, width: int = 80, *rest: Any) -> int:
    return max(width, 0)


def _tabs(value: str, tabsize: int = 8) -> int:
    return value.count("\t") * max(tabsize, 0)


def _replaced(value: Any, old: Any, new: Any, *rest: Any, **named: Any) -> int:
    return text(value).count(text(old)) * len(text(new))


def _searched(value: Any, *others: Any, **named: Any) -> int:
    """At worst, Python compares each character of the one with each of the other."""
    longest = max((len(other) for other in (*others, *named.values()) if isinstance(other, str)), default=0)
    return len(text(value)) * longest // 4


def _indented(value: Any, width: int | str = 4, *rest: Any, **named: Any) -> int:
    return (text(value).count("\n") + 1) * (len(width) if isinstance(width, str) else max(width, 0))


def _divided(value: Any, *others: Any, **named: Any) -> int:
    return ITEM * len(value) // 2


def _listed(value: Any, *others: Any, **named: Any) -> int:
    """One step for each item, and each character of the path to an attribute of it."""
    written = sum(len(other) for other in (*others, *named.values()) if isinstance(other, str))
    return len(value) * (ITEM + written) if isinstance(value, Sized) else 0


def _cut(value: Any, *others: Any, **named: Any) -> int:
    numbers = [other for other in (*others, *named.values()) if isinstance(other, int) and other > 0]
    return _listed(value) + ITEM * sum(numbers)


def _rounded(value: Any, precision: int = 0, *rest: Any, **named: Any) -> int:
    if abs(precision) > PRECISION:
        raise SecurityError(f"`round` takes at most {PRECISION} digits")
    return 0


COSTS: dict[str, Callable[..., int]] = {
    **dict.fromkeys(("center", "ljust", "rjust", "zfill"), _padded),
    **dict.fromkeys(("strip", "lstrip", "rstrip", "trim", "rfind", "rindex", "rsplit", "rpartition"), _searched),
    **dict.fromkeys(("split", "splitlines", "title", "wordcount"), _divided),
    **dict.fromkeys(
        ("choice", "groupby", "join", "list", "map", "max", "min", "random", "reject", "rejectattr"), _listed
    ),
    **dict.fromkeys(("select", "selectattr", "sort", "sum", "unique"), _listed),
    **dict.fromkeys(("batch", "slice"), _cut),
    "expandtabs": _tabs,
    "indent": _indented,
    "replace": _replaced,
    "round": _rounded,
}


def whole(value: Any) -> Any:
    """What a call gives, without what is still to be worked out: an iterator becomes a list, marked text plain text."""
    if isinstance(value, markupsafe.Markup):
        return str(value)
    return list(value) if isinstance(value, VIEWS) else value


def paid(name: str, function: Callable[..., Any], constant: Sequence[str]) -> Callable[..., Any]:
    """A filter or test of jinja that pays for its work; `constant` names those that go through nothing."""
    first = getattr(getattr(function, "jinja_pass_arg", None), "name", "")
    cost, is_constant, is_of_text = COSTS.get(name), name in constant, name in OF_TEXT and constant is CONSTANT

    def paid_function(context: Rendering, value: Any, *args: Any, **named: Any) -> Any:
        budget, given = context.budget, (text(value) if is_of_text else value, *args)
        budget.spend(STEP)
        if not is_constant:
            budget.count(given, named)
        if cost is not None:
            budget.spend(cost(*given, **named))
        if first:
            given = ({"context": context, "eval_context": context.eval_ctx}.get(first, context.environment), *given)
        result = function(*given, **named)
        return result if is_constant else budget.made(whole(result))

    return jinja2.pass_context(paid_function)


def pay_method(budget: Budget, method: Callable[..., Any], *args: Any, **named: Any) -> None:
    """Spends what a method of a text, list or dictionary is going to cost."""
    owner, name = method.__self__, method.__name__  # pyright: ignore[reportFunctionMemberAccess]
    budget.count(owner)
    if name == "join":
        budget.spend(sum(len(owner) for _ in args[0]))
    elif name in COSTS:
        budget.spend(COSTS[name](owner, *args, **named))


@jinja2.pass_context
def zipped(context: Rendering, *lists: Any) -> Any:
    """promptsource's function `zip`."""
    context.budget.spend(ITEM * (1 + len(lists)) * min(map(len, lists), default=0))
    return list(zip(*lists, strict=False))


@jinja2.pass_context
def choice(context: Rendering, options: Any) -> Any:
    """The filter `choice` (also `random`): one of the options, drawn by the generator of the row."""
    return context.draws.generator.choice(list(options))


def most_frequent(items: Sequence[Any]) -> list[Any]:
    """The items that occur most often, in order of first occurrence."""
    counts = collections.Counter(items)
    most = max(counts.values(), default=0)
    return [item for item, count in counts.items() if count == most]


@jinja2.pass_context
def join(context: Rendering, value: Any, d: Any = "", attribute: Any = None) -> str:
    """The texts of the items, separated by `d`."""
    if attribute is not None:
        value = map(make_attrgetter(context.environment, attribute), value)
    separator, parts = text(d), texts(value)
    context.budget.spend(sum(map(len, parts)) + len(separator) * len(parts))
    return separator.join(parts)


@jinja2.pass_context
def total(context: Rendering, value: Any, attribute: Any = None, start: Any = 0) -> Any:
    """The filter `sum`, item by item, so that each sum is paid for."""
    if attribute is not None:
        value = map(make_attrgetter(context.environment, attribute), value)
    for item in value:
        start = context.environment.call_binop(context, "+", start, item)  # pyright: ignore
    return start


@jinja2.pass_context
def formatted(context: Rendering, pattern: Any, *args: Any, **named: Any) -> str:
    """The filter `format`: `pattern % args`."""
    return percent(context.budget, text(pattern), named or args)


def replace(value: Any, old: Any, new: Any, count: int | None = None) -> str:
    """The text with one part replaced by another."""
    return text(value).replace(text(old), text(new), -1 if count is None else count)


def tojson(value: Any) -> str:
    """JSON, with the characters of HTML escaped, as jinja's filter does."""
    return str(htmlsafe_json_dumps(value, sort_keys=True))


def filters() -> dict[str, Callable[..., Any]]:
    """All filters that templates have, by name."""
    ours = {"choice": choice, "random": choice, "most_frequent": most_frequent, "join": join, "sum": total}
    ours |= {"format": formatted, "replace": replace, "safe": text, "string": text, "tojson": tojson}
    theirs = {name: function for name, function in FILTERS.items() if name not in LEFT_OUT}
    return {name: paid(name, function, CONSTANT) for name, function in (theirs | ours).items()}


def tests() -> dict[str, Callable[..., Any]]:
    """All tests that templates have, by name."""
    return {name: paid(name, function, CONSTANT_TESTS) for name, function in (TESTS | {"none": is_null}).items()}
