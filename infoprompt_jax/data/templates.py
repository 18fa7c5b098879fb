"""Templates turn a row of a data set into an input, a target and answer choices.

Format and meaning are promptsource's. A file `<directory>/<data set>/templates.yaml` holds templates in jinja, where
`|||` separates input from target, and their `answer_choices`, also jinja, where `|||` separates the choices. Parts are
stripped, `|||` inside a row is text, and a template does not apply to a row whose input or target renders to nothing.

Five things differ from promptsource. Templates run in jinja's sandbox (`sandbox.py`). A column that the row lacks is an
error, and a null is empty text. `row["Tweet text"]` reads a column of any name. Random filters (`choice`) draw by
template and row, so a row always renders to the same text. Answer choices of equal text count as one choice, because no
score distinguishes them; public data has such rows.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import importlib.resources
import pathlib
import re
from collections.abc import Iterable, Mapping
from importlib.resources.abc import Traversable
from typing import Any

import jinja2
import jinja2.meta
import jinja2.nodes
import yaml
from jinja2.exceptions import SecurityError
from jinja2.nodes import Call, Const, Getitem, Name

from infoprompt_jax import files
from infoprompt_jax.data import bigbench
from infoprompt_jax.data.sandbox import DRAWS, ENVIRONMENT, NULL, Choices, Draws, Row
from infoprompt_jax.errors import UserError

SEPARATOR = "|||"
PROTECTED = "3ed2dface8203c4c9dfb1a5dc58e41e0"  # stands for ||| inside a row; some public templates look for this value
ROW = "row"  # the name of the whole row, unless it has a column of that name
SPACED = re.compile(r"\{\{-?\s*([^\W\d]\w*(?: +\w+)+)")
JINJA_WORDS = {"if", "else", "is", "in", "not", "and", "or"}
LONGEST_SOURCE = 50_000  # characters of one template's jinja


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
        self._check_choices()
        try:
            self._syntax()
        except jinja2.TemplateSyntaxError as error:
            raise UserError(f"{self} is not valid jinja (line {error.lineno}): {self._reason(error)}.") from error

    def __str__(self) -> str:
        return f"template {self.name!r} of {self.origin}"

    def _syntax(self) -> list[jinja2.nodes.Template]:
        return [ENVIRONMENT.parse(source) for source in (self.jinja, self.answer_choices)]

    def _reason(self, error: jinja2.TemplateSyntaxError) -> str:
        for name in SPACED.findall(self.jinja + self.answer_choices):
            if not JINJA_WORDS & set(name.split()):
                return f'{error.message}; a column with a space in its name is row["{name}"], or rename it'
        return str(error.message)

    @functools.cached_property
    def _names(self) -> frozenset[str]:
        """What the template does not define itself; a function of jinja only where it is not called."""
        trees = self._syntax()
        called = {call.node.name for tree in trees for call in tree.find_all(Call) if isinstance(call.node, Name)}
        names = {name.name for tree in trees for name in tree.find_all(Name)} & ENVIRONMENT.globals.keys()
        return frozenset(names - called).union(*map(jinja2.meta.find_undeclared_variables, trees)) - {"answer_choices"}

    @functools.cached_property
    def columns(self) -> frozenset[str]:
        """The columns of a row that the template reads, as far as they can be told from its text."""
        trees = self._syntax()
        assigned = {name.name for tree in trees for name in tree.find_all(Name) if name.ctx == "store"}
        items = [item for tree in trees for item in tree.find_all(Getitem) if isinstance(item.arg, Const)]
        by_row = {item.arg.as_const() for item in items if isinstance(item.node, Name) and item.node.name == ROW}
        return (self._names - assigned - ENVIRONMENT.globals.keys() - {ROW}) | by_row

    @functools.cached_property
    def fixed_choices(self) -> tuple[str, ...] | None:
        """The answer choices if they are the same for every row, () for free text, None if they depend on the row."""
        if any(jinja2.meta.find_undeclared_variables(tree) for tree in self._syntax()[1:]):
            return None
        return distinct(self.render_choices({}))

    @functools.cached_property
    def written_choices(self) -> tuple[str, ...]:
        """The answer choices that are written out; () where jinja makes them, and for free text."""
        written = self.answer_choices.strip()
        return () if not written or "{" in written else tuple(map(str.strip, written.split(SEPARATOR)))

    @property
    def repeated(self) -> tuple[str, ...]:
        """The written choices that are listed more than once."""
        return distinct(choice for choice in self.written_choices if self.written_choices.count(choice) > 1)

    @functools.cached_property
    def _compiled(self) -> tuple[jinja2.Template, jinja2.Template]:
        return ENVIRONMENT.from_string(self.jinja), ENVIRONMENT.from_string(self.answer_choices)

    def render_choices(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """The answer choices of a row, as listed. The row's text is `protect`ed, and so are the choices."""
        text = self._compiled[1].render(row).strip()
        return tuple(choice.strip() for choice in text.split(SEPARATOR)) if text else ()

    def _check_choices(self) -> None:
        """Raises UserError for written choices if one is empty or all are equal; a row's text may be either."""
        choices, written = self.written_choices, self.answer_choices.strip()
        if not all(choices):
            raise UserError(f"{self} has an empty answer choice in {written!r}: write `{SEPARATOR}` only between two.")
        if choices and len(set(choices)) < 2:
            raise UserError(
                f"{self} has no two answer choices that differ in {written!r}: write at least two, separated by "
                f"`{SEPARATOR}`."
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
        context, choices, pieces = self._context(row), (), []
        try:
            choices = self.render_choices(context)
            for piece in self._compiled[0].generate(context, answer_choices=Choices(choices)):
                pieces.append(piece)  # the input is complete before the target is evaluated
        except Exception as error:  # templates are data, so any exception is their fault
            question, separator, _ = "".join(pieces).partition(SEPARATOR)
            if not (is_question and separator and self._lacking(error, row)):
                raise UserError(self._complaint(error, row)) from error
            pieces = [question, separator]
        parts = [restore(part.strip()) for part in "".join(pieces).split(SEPARATOR)]
        differing = distinct(map(restore, choices))
        if len(parts) != 2 or not parts[0] or len(differing) == 1:
            return None
        return Example(parts[0], parts[1], differing)

    def _context(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """What the names in the template stand for."""
        named = {name.replace("-", "_"): value for name, value in row.items()}
        if ROW in self._names and ROW not in named:
            named[ROW] = row
        used = {name: protect(named[name]) for name in self._names & named.keys()}
        context = {name: without_nulls(value) for name, value in used.items()}
        if named.get(ROW) is row:
            context[ROW] = Row(context[ROW])
        return context | {DRAWS: Draws(self.id, used)}

    def _lacking(self, error: Exception, row: Mapping[str, Any]) -> str:
        """The column without which the row could not be rendered; "" if that was not the reason."""
        lacking = self.columns - {name.replace("-", "_") for name in row} - row.keys()
        is_undefined = isinstance(error, jinja2.UndefinedError)
        return next((name for name in lacking if is_undefined and str(error) == f"{name!r} is undefined"), "")

    def _complaint(self, error: Exception, row: Mapping[str, Any]) -> str:
        reason = str(error).rstrip(".")
        if isinstance(error, SecurityError):
            return f"{self} does what templates may not: {reason}."
        if lacking := self._lacking(error, row):
            names = ", ".join(name.replace("-", "_") for name in row)
            return (
                f"{self} uses the column {lacking!r}, but the columns are {names}: rename the column, or use another "
                "template."
            )
        return f"{self} cannot be rendered: {reason}."


def distinct(choices: Iterable[str]) -> tuple[str, ...]:
    """Each of them once, in order of first occurrence."""
    return tuple(dict.fromkeys(choices))


def protect(value: Any) -> Any:
    """A row's value in which `|||` cannot be taken for a separator."""
    if isinstance(value, str):
        return value.replace(SEPARATOR, PROTECTED)
    if isinstance(value, Mapping):
        return {name: protect(part) for name, part in value.items()}
    return [protect(part) for part in value] if isinstance(value, list | tuple) else value


def without_nulls(value: Any) -> Any:
    """A row's value in which nulls are empty text."""
    if isinstance(value, Mapping):
        return {name: without_nulls(part) for name, part in value.items()}
    return [without_nulls(part) for part in value] if isinstance(value, list) else NULL if value is None else value


def restore(text: str) -> str:
    """The text that `protect` changed, in valid Unicode: JSON can carry half a surrogate pair, which becomes a `?`."""
    return text.replace(PROTECTED, SEPARATOR).encode(errors="replace").decode()


class Loader(yaml.SafeLoader):
    """Safe YAML plus promptsource's two tags, read as plain mappings."""


def _mapping(loader: Loader, node: Any) -> dict[Any, Any]:
    """A mapping; equal keys are an error, where YAML's loader silently keeps the last."""
    if isinstance(node, yaml.MappingNode):
        names = [(key.tag, str(key.value)) for key, _ in node.value]
        if twice := [name for name in names if names.count(name) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"key {twice[0][1]!r} is there twice", node.start_mark)
    return loader.construct_mapping(node, deep=True)


Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
Loader.add_constructor("!Template", _mapping)
Loader.add_constructor("!TemplateMetadata", _mapping)


def _root(directory: str | None) -> Traversable:
    return files.local(directory) if directory else importlib.resources.files("infoprompt_jax.data") / "template_files"


def _file(directory: str | None, dataset: str) -> Traversable:
    """The data set's file, or the nearest one above it: anli/r1 uses anli/templates.yaml."""
    parts = pathlib.PurePosixPath(dataset).parts
    for depth in range(len(parts), 0, -1):
        file = _root(directory).joinpath(*parts[:depth], "templates.yaml")
        if file.is_file():
            return file
    if directory and bigbench.is_task(dataset):
        return _file(None, dataset)  # promptsource has none for them
    raise UserError(
        f"There are no templates for {dataset} in {_root(directory)}: give task.templates_dir a folder that holds "
        f"{dataset}/templates.yaml, or write a template in task.input and task.target."
    )


def _template(entry: Any, origin: str) -> Template:
    if not isinstance(entry, Mapping) or not {"name", "jinja"} <= entry.keys():
        raise UserError(f"A template of {origin} lacks `name` or `jinja`.")
    metadata, choices = entry.get("metadata") or {}, entry.get("answer_choices") or ""
    if not isinstance(metadata, Mapping):
        raise UserError(
            f"Template {entry['name']!r} of {origin} has metadata={metadata!r}, but a mapping was expected."
        )
    if not isinstance(choices, str):
        raise UserError(
            f"Template {entry['name']!r} of {origin} has answer_choices={choices!r}, but one text was expected: write "
            f"'first {SEPARATOR} second'."
        )
    return Template(
        name=str(entry["name"]),
        id=str(entry.get("id") or entry["name"]),
        jinja=str(entry["jinja"]),
        answer_choices=choices,
        metadata=Metadata(
            metadata.get("original_task"), metadata.get("choices_in_prompt"), tuple(metadata.get("metrics") or ())
        ),
        origin=origin,
    )


def load_templates(directory: str | None, dataset: str) -> dict[str, Template]:
    """The templates of a data set by name, in file order, from `directory`, or from this package if that is empty.

    Raises:
      UserError: there is no file, it is not YAML, or one of its templates is not valid jinja.
    """
    file = _file(directory, dataset)
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not YAML in promptsource's format: {' '.join(str(error).split())}.") from error
    entries = content.get("templates") if isinstance(content, Mapping) else None
    if not isinstance(entries, Mapping) or not entries:
        raise UserError(f"{file} has no templates under the key `templates`.")
    templates: dict[str, Template] = {}
    for template in (_template(entry, str(file)) for entry in entries.values()):
        if template.name in templates:
            raise UserError(f"{file} has two templates of the name {template.name!r}: rename one of them.")
        templates[template.name] = template
    return templates


def choose(templates: Mapping[str, Template], name: str) -> list[Template]:
    """The template of that name; for `all`, those of the data set's original task, or every one if none is marked."""
    if name == "all":
        return [t for t in templates.values() if t.metadata.original_task] or list(templates.values())
    if name in templates:
        return [templates[name]]
    near = difflib.get_close_matches(name, templates, n=3, cutoff=0.0)
    origin = next(iter(templates.values())).origin
    raise UserError(f"{name!r} is not a template of {origin}: the nearest are {near}; set task.template.")
