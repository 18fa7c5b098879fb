"""Templates turn a row of a data set into an input, a target and answer choices.

Format and meaning are promptsource's. A file `<directory>/<data set>/templates.yaml` holds templates in jinja, where
`|||` separates input from target, and their `answer_choices`, also jinja, where `|||` separates the choices. Parts are
stripped, `|||` inside a row is text, and a template does not apply to a row whose input or target renders to nothing.

Six things differ from promptsource. Templates run in jinja's sandbox (`sandbox.py`). A column that the row lacks is an
error, and a null is empty text. A whole number equals its text: a file has 1 where the hub has "1". `row["Tweet text"]`
reads a column of any name. Random filters (`choice`) draw by template and row, so a row always renders to the same
text. Answer choices of equal text count as one choice, because no score distinguishes them; public data has such rows.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jinja2
import jinja2.meta
from jinja2 import nodes
from jinja2.exceptions import SecurityError

from infoprompt_jax.data.sandbox import ENVIRONMENT, Choices, Row
from infoprompt_jax.data.template_filters import RANDOM, Draws
from infoprompt_jax.data.template_syntax import SELF
from infoprompt_jax.data.template_text import NULL, Whole
from infoprompt_jax.data.template_work import Budget
from infoprompt_jax.errors import UserError

SEPARATOR = "|||"
PROTECTED = "3ed2dface8203c4c9dfb1a5dc58e41e0"  # stands for ||| inside a row; some public templates look for this value
ROW = "row"  # the name of the whole row, unless it has a column of that name
SPACED = re.compile(r"\{\{-?\s*([^\W\d]\w*(?: +\w+)+)")
JINJA_WORDS = {"if", "else", "is", "in", "not", "and", "or"}
LONGEST_SOURCE = 50_000  # characters of one template's jinja
LONGEST_REASON = 500  # characters of what an error inside a template says


@dataclasses.dataclass(frozen=True)
class Metadata:
    """Facts about a template from promptsource; None where its author left them out."""

    original_task: bool | None = None  # the task that the data set was made for
    choices_in_prompt: bool | None = None
    metrics: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Example:
    """One row as text."""

    input: str
    target: str  # "" for a question without its answer
    choices: tuple[str, ...] = ()  # () for free text

    @property
    def label(self) -> int:
        """The index of the target among the choices; -1 for free text, and without a target."""
        return self.choices.index(self.target) if self.choices and self.target else -1


@dataclasses.dataclass(frozen=True)
class Template:
    """One template. `origin`, a file or a config field, is where messages say that it comes from."""

    name: str
    id: str
    jinja: str
    answer_choices: str = ""
    metadata: Metadata = Metadata()
    origin: str = "task.input"

    def __post_init__(self) -> None:
        if len(self.jinja) + len(self.answer_choices) > LONGEST_SOURCE:
            raise UserError(f"{self} is longer than the {LONGEST_SOURCE} characters that a template may have.")
        if SEPARATOR not in self.jinja:
            raise UserError(f"{self} has no `{SEPARATOR}` between input and target.")
        try:
            self._undeclared  # noqa: B018
        except jinja2.TemplateSyntaxError as error:
            raise UserError(f"{self} is not valid jinja (line {error.lineno}): {self._reason(error)}.") from error
        self._check_choices()

    def __str__(self) -> str:
        return f"template {self.name!r} of {self.origin}"

    def _reason(self, error: jinja2.TemplateSyntaxError) -> str:
        for name in SPACED.findall(self.jinja + self.answer_choices):
            if not JINJA_WORDS & set(name.split()):
                return f'{error.message}; a column with a space in its name is row["{name}"], or rename it'
        return str(error.message).rstrip(".")

    @functools.cached_property
    def _trees(self) -> list[nodes.Template]:
        return [ENVIRONMENT.tree(source) for source in (self.jinja, self.answer_choices)]

    @functools.cached_property
    def _undeclared(self) -> list[set[str]]:
        """The names that the two trees read and do not define."""
        return [jinja2.meta.find_undeclared_variables(tree) for tree in self._trees]

    @functools.cached_property
    def _names(self) -> frozenset[str]:
        """The names that stand for columns."""
        return frozenset[str]().union(*self._undeclared) - self._given

    @property
    def _given(self) -> frozenset[str]:
        """The names that stand for no column: those of a template without answer choices may be columns too."""
        return frozenset(("answer_choices",) if self.answer_choices.strip() else ())

    @functools.cached_property
    def columns(self) -> frozenset[str]:
        """The columns of a row that the template reads, as far as they can be told from its text."""
        assigned = {name.name for tree in self._trees for name in tree.find_all(nodes.Name) if name.ctx == "store"}
        items = [item for tree in self._trees for item in tree.find_all(nodes.Getitem)]
        by_row = {
            item.arg.as_const()
            for item in items
            if isinstance(item.arg, nodes.Const) and isinstance(item.node, nodes.Name) and item.node.name == ROW
        }
        named = {"self" if name == SELF else name for name in self._names}
        return (frozenset(named) - assigned - {ROW}) | by_row

    @functools.cached_property
    def fixed_choices(self) -> tuple[str, ...] | None:
        """The answer choices if they are the same for every row, () for free text, None if they depend on the row."""
        return None if self._listed is None else distinct(self._listed)

    @property
    def repeated(self) -> tuple[str, ...]:
        """Of the choices that are the same for every row, those that are listed more than once."""
        return tuple(choice for choice, times in collections.Counter(self._listed).items() if times > 1)

    @functools.cached_property
    def _listed(self) -> tuple[str, ...] | None:
        """`fixed_choices`, with those that are listed more than once.

        Raises:
          UserError: they cannot be rendered.
        """
        if "{" not in self.answer_choices:
            return split(self.answer_choices)
        draws = any(part.name in RANDOM for part in self._trees[1].find_all(nodes.Filter))
        if draws or self._undeclared[1]:
            return None
        with self._blamed({}):
            return self._choices({}, Budget({}), Draws(self.id, {}))

    @functools.cached_property
    def _compiled(self) -> list[jinja2.Template]:
        return [ENVIRONMENT.compiled(tree) for tree in self._trees]

    def _choices(self, names: Mapping[str, Any], budget: Budget, draws: Draws) -> tuple[str, ...]:
        """The answer choices of a row, as listed. The row's text is `protect`ed, and so are the choices."""
        if "{" not in self.answer_choices:
            return self._listed or ()
        rendering = ENVIRONMENT.rendering(self._compiled[1], names, budget, draws)
        return split("".join(self._compiled[1].root_render_func(rendering)))

    def _check_choices(self) -> None:
        """Raises UserError for choices of every row if one is empty or all are equal; a row's text may be either."""
        choices, written = self._listed or (), self.answer_choices.strip()
        if not all(choices):
            raise UserError(f"{self} has an empty answer choice in {written!r}: write `{SEPARATOR}` only between two.")
        if choices and len(set(choices)) < 2:
            raise UserError(
                f"{self} has no two answer choices that differ in {written!r}: write at least two, separated by "
                f"`{SEPARATOR}`, or none for free text."
            )

    def render(self, row: Mapping[str, Any]) -> Example | None:
        """The row as text; None if the template does not apply to it, or gives it no two answer choices that differ.

        Raises:
          UserError: the row lacks a column, an answer choice does not exist, the sandbox forbids an operation, or
            anything else fails inside the template.
        """
        example = self._example(row, is_question=False)
        return example if example and example.target else None

    def render_question(self, row: Mapping[str, Any]) -> Example | None:
        """What `render` gives; if the row lacks a column that only the target reads, the same with the target "".

        The target is "" also where it renders to nothing. Raises as `render` does, if the input or the answer choices
        read a column that the row lacks.
        """
        return self._example(row, is_question=True)

    def _example(self, row: Mapping[str, Any], is_question: bool) -> Example | None:
        pieces: list[str] = []
        with self._blamed(row):
            names, used = self._names_of(row)
            budget, draws = Budget(used), Draws(self.id, used)
            choices = self._choices(names, budget, draws)
            differing = distinct(map(restore, choices))
            if len(differing) < 2 and self.fixed_choices != ():
                return None  # before the target asks for one that is not there
            names |= {name: Choices(choices) for name in self._given}
            rendering = ENVIRONMENT.rendering(self._compiled[0], names, budget, draws)
            try:
                for piece in self._compiled[0].root_render_func(rendering):
                    pieces.append(piece)  # the input is complete before the target is evaluated
            except jinja2.UndefinedError as error:
                question, separator, _ = "".join(pieces).partition(SEPARATOR)
                if not (is_question and separator and self._lacking(error, row)):
                    raise
                pieces = [question, separator]
        parts = [restore(part.strip()) for part in "".join(pieces).split(SEPARATOR)]
        if len(parts) != 2 or not parts[0]:
            return None
        return Example(parts[0], parts[1], differing)

    @contextlib.contextmanager
    def _blamed(self, row: Mapping[str, Any]) -> Iterator[None]:
        """Turns whatever fails inside the template into a sentence: it is data, so any exception is its fault."""
        try:
            yield
        except Exception as error:
            raise UserError(self._complaint(error, row)) from error

    def _names_of(self, row: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the names in the template stand for, and the same as the row has it."""
        named = {name.replace("-", "_"): value for name, value in row.items()} | dict(row)
        if ROW in self._names and ROW not in named:
            named[ROW] = row
        if SELF in self._names and "self" in named:
            named[SELF] = named["self"]
        used = {name: protect(named[name]) for name in self._names & named.keys()}
        names = {name: comparable(value) for name, value in used.items()}
        if named.get(ROW) is row:
            names[ROW] = Row(names[ROW])
        return names, used

    def _lacking(self, error: Exception, row: Mapping[str, Any]) -> str:
        """The column without which the row could not be rendered; "" if that was not the reason."""
        lacking = self.columns - {name.replace("-", "_") for name in row} - row.keys()
        is_undefined = isinstance(error, jinja2.UndefinedError)
        return next((name for name in lacking if is_undefined and str(error) == f"{name!r} is undefined"), "")

    def _complaint(self, error: Exception, row: Mapping[str, Any]) -> str:
        if isinstance(error, RecursionError):
            return f"{self} cannot be rendered: its macros call themselves, or the row is nested, too deep."
        reason = " ".join(str(error).split())[:LONGEST_REASON].rstrip(".")
        if isinstance(error, SecurityError):
            return f"{self} does what templates may not: {reason}."
        if lacking := self._lacking(error, row):
            names = ", ".join(name.replace("-", "_") for name in row)
            return (
                f"{self} uses the column {lacking!r}, but the columns are {names}: rename the column, or use another "
                "template."
            )
        return f"{self} cannot be rendered: {reason}."


def split(text: str) -> tuple[str, ...]:
    """The answer choices in a text; () in one without any."""
    return tuple(choice.strip() for choice in text.split(SEPARATOR)) if text.strip() else ()


def distinct(choices: Iterable[str]) -> tuple[str, ...]:
    """Each of them once, in order of first occurrence."""
    return tuple(dict.fromkeys(choices))


def protect(value: Any) -> Any:
    """A row's value in which `|||` cannot be taken for a separator."""
    if isinstance(value, str):
        return value.replace(SEPARATOR, PROTECTED) if SEPARATOR in value else value  # a `Truth` stays one
    if isinstance(value, Mapping):
        return {name: protect(part) for name, part in value.items()}
    return [protect(part) for part in value] if isinstance(value, list | tuple) else value


def comparable(value: Any) -> Any:
    """A row's value in which nulls are empty text and a whole number equals its text.

    NaN is a null to the program that wrote the row.
    """
    if isinstance(value, Mapping):
        return {name: comparable(part) for name, part in value.items()}
    if isinstance(value, list):
        return [comparable(part) for part in value]
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NULL
    return Whole(value) if type(value) is int else value  # True is an integer, too


def restore(text: str) -> str:
    """The text that `protect` changed, in valid Unicode: JSON can carry half a surrogate pair, which becomes a `?`."""
    return text.replace(PROTECTED, SEPARATOR).encode(errors="replace").decode()
