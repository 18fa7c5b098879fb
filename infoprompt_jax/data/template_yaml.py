"""Files of templates, in promptsource's YAML.

A file is read as text: 1_000, 2020-01-01 and 0x10 stay as they are written. Only what promptsource's files use of YAML
is read: no aliases, no tags but its own two, no key twice. A file's size, nesting and number of parts have limits,
because a few lines of YAML can stand for more than a machine holds.
"""

from __future__ import annotations

import difflib
import functools
import importlib.resources
import pathlib
from collections.abc import Mapping
from importlib.resources.abc import Traversable
from typing import Any, ClassVar

import yaml
from yaml.constructor import ConstructorError

from infoprompt_jax import files, foreign
from infoprompt_jax.data import bigbench
from infoprompt_jax.data.templates import SEPARATOR, Metadata, Template
from infoprompt_jax.errors import UserError

LARGEST = 4_000_000  # bytes of a file; promptsource's have at most 13,000
MOST_PARTS = 200_000  # keys, values, lists and mappings of a file; 2,000 templates have 40,000
DEEPEST = 20  # levels of nesting; promptsource's files have 6
CORE = "tag:yaml.org,2002:"
READ_AS = ("bool", "null")  # the words of YAML that are more than text


class Loader(yaml.SafeLoader):
    """The part of YAML that promptsource's files are written in."""

    yaml_constructors: ClassVar[dict[Any, Any]] = {}
    yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag.removeprefix(CORE) in READ_AS]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = self.parts = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _problem("aliases (`*name`, `&name`) are not available: write the text again", event)
        self.depth, self.parts = self.depth + 1, self.parts + 1
        if self.depth > DEEPEST or self.parts > MOST_PARTS:
            raise _problem(f"it has more than {DEEPEST} levels, or more than {MOST_PARTS:,} parts", event)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _problem(reason: str, place: Any) -> ConstructorError:
    return ConstructorError(None, None, reason, place.start_mark)


def _mapping(loader: Loader, node: Any) -> dict[str, Any]:
    """A mapping whose keys are texts; equal keys are an error, where YAML's loader keeps the last."""
    if not isinstance(node, yaml.MappingNode):
        raise _problem(f"a mapping was expected, not {node.value!r:.40}", node)
    mapping: dict[str, Any] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
            raise _problem("a text was expected as the key", key)
        if key.value in mapping:
            raise _problem(f"key {key.value!r:.80} is there twice", key)
        mapping[key.value] = loader.construct_object(value, deep=True)
    return mapping


def _sequence(loader: Loader, node: Any) -> list[Any]:
    return loader.construct_sequence(node, deep=True)


def _unknown(loader: Loader, node: Any) -> None:
    raise _problem(f"the tag {node.tag!r:.80} is not available", node)


Loader.yaml_constructors |= {
    **dict.fromkeys((CORE + "map", "!Template", "!TemplateMetadata"), _mapping),
    CORE + "seq": _sequence,
    CORE + "str": yaml.SafeLoader.construct_yaml_str,
    CORE + "bool": yaml.SafeLoader.construct_yaml_bool,
    CORE + "null": yaml.SafeLoader.construct_yaml_null,
    None: _unknown,
}


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


def _bytes(file: Traversable) -> bytes:
    """What a file holds."""
    with foreign.reading(str(file)), file.open("rb") as stream:
        data = stream.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise UserError(f"{file} is larger than the {LARGEST:,} bytes that a file of templates may have.")
    return data


def _content(data: bytes, file: str) -> Any:
    """The YAML of a file."""
    with foreign.reading(file):
        try:
            return yaml.load(data.decode(), Loader)
        except yaml.YAMLError as error:  # several lines, with the place in the last
            raise UserError(f"{file} is not YAML in promptsource's format: {_reason(error)}.") from error


def _reason(error: yaml.YAMLError) -> str:
    """The problem and its place, on one line."""
    context, problem, mark = (getattr(error, name, None) for name in ("context", "problem", "problem_mark"))
    if not problem or not mark:
        return " ".join(str(error).split())
    hint, context = "; indent with spaces" if "'\\t'" in problem else "", f"{context}, " if context else ""
    return f"{context}{problem}{hint}, line {mark.line + 1}, column {mark.column + 1}"


FIELDS = {"name": (str,), "jinja": (str,), "id": (str, type(None)), "answer_choices": (str, type(None))}
METADATA = {"original_task": (bool, type(None)), "choices_in_prompt": (bool, type(None)), "metrics": (list, type(None))}
# promptsource's other fields, which nothing here depends on.
UNREAD, UNREAD_METADATA = ("metadata", "reference"), ("languages",)
EXPECTED = {str: "one text", bool: "true or false", list: "a list"}


def _check(place: str, mapping: Mapping[str, Any], fields: Mapping[str, tuple[type, ...]]) -> None:
    """Raises UserError where a field has another type than it should, or no template has a field of that name."""
    known = [*fields, *(UNREAD if fields is FIELDS else UNREAD_METADATA)]
    for name in mapping:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}" if close else f"known are {', '.join(known)}"
            raise UserError(f"{place} has the field {name!r:.80}, which is unknown: {hint}?")
    for name, kinds in fields.items():
        value = mapping.get(name)
        if not isinstance(value, kinds):
            hint = f": write 'first {SEPARATOR} second'" if name == "answer_choices" else ""
            hint = ": write it in quotes" if isinstance(value, bool) else hint
            raise UserError(f"{place} has {name}={value!r:.80}, but {EXPECTED[kinds[0]]} was expected{hint}.")


def _template(entry: Any, origin: str) -> Template:
    if not isinstance(entry, Mapping) or not {"name", "jinja"} <= entry.keys():
        raise UserError(f"A template of {origin} lacks `name` or `jinja`.")
    place = f"Template {entry['name']!r} of {origin}"
    _check(place, entry, FIELDS)
    metadata = entry.get("metadata") or {}
    if not isinstance(metadata, Mapping):
        raise UserError(f"{place} has metadata={metadata!r:.80}, but a mapping was expected.")
    _check(place, metadata, METADATA)
    return Template(
        name=entry["name"],
        id=entry.get("id") or entry["name"],
        jinja=entry["jinja"],
        answer_choices=entry.get("answer_choices") or "",
        metadata=Metadata(
            metadata.get("original_task"),
            metadata.get("choices_in_prompt"),
            tuple(map(str, metadata.get("metrics") or ())),
        ),
        origin=origin,
    )


def load_templates(directory: str | None, dataset: str) -> dict[str, Template]:
    """The templates of a data set by name, in file order, from `directory`, or from this package if that is empty.

    Raises:
      UserError: there is no file, it is not YAML, or one of its templates is not valid jinja.
    """
    file = _file(directory, dataset)
    return dict(_templates(_bytes(file), str(file)))


@functools.lru_cache(maxsize=16)
def _templates(data: bytes, file: str) -> dict[str, Template]:
    """The templates of a file, parsed once however many members and source tasks take one each."""
    content = _content(data, file)
    entries = content.get("templates") if isinstance(content, Mapping) else None
    if not isinstance(entries, Mapping) or not entries:
        raise UserError(f"{file} has no templates under the key `templates`.")
    templates: dict[str, Template] = {}
    for template in (_template(entry, file) for entry in entries.values()):
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
    origin = next(iter(templates.values())).origin
    if not name:
        raise UserError(f"task.template is empty: set it to all, or to one of {origin}: {', '.join(templates)}.")
    near = difflib.get_close_matches(name, templates, n=3, cutoff=0.0)
    raise UserError(f"{name!r} is not a template of {origin}: the nearest are {near}; set task.template.")
