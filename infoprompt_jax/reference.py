"""The text of docs/api.md: every public name with its signature and docstring.

    python -m infoprompt_jax.reference > docs/api.md

Docstrings have a first sentence, paragraphs, and the sections Args, Returns and Raises.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import infoprompt_jax

INTRODUCTION = """\
# Python

Written by `python -m infoprompt_jax.reference > docs/api.md` from the docstrings. `import infoprompt_jax as ip` gives
these names and `ip.__version__`; the import alone loads neither JAX nor TensorFlow. The letters after an array's name
are its axes, listed in [design.md](design.md#axes).

Two modules are meant for use beside them: `infoprompt_jax.settings.defaults()` is a config with
[all fields](configuration.md), and `infoprompt_jax.jobs.run(config, workdir)` runs any job and returns the table that
the command prints. [notebooks/quickstart.ipynb](../notebooks/quickstart.ipynb) and
[notebooks/rospr.ipynb](../notebooks/rospr.ipynb) are examples, and so is each file of [examples/](../examples).

"""
SECTION = re.compile(r"^(Args|Returns|Raises):$")
ITEM = re.compile(r"^(\w[\w, ]*): ")
WIDTH = 100  # of a signature that stays on one line


def page() -> str:
    """The text of docs/api.md."""
    names = sorted(infoprompt_jax.__all__, key=str.lower)
    contents = "".join(f"* [`ip.{name}`](#{_anchor(_title(name))})\n" for name in names)
    return INTRODUCTION + contents + "\n" + "\n".join(_entry(name) for name in names)


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties that a class defines, in the order of its source."""
    for name, value in vars(cls).items():
        kinds = (property, functools.cached_property, classmethod)
        if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, kinds)):
            yield name, value


def function(member: Any) -> Callable[..., Any]:
    """The function behind a method, a class method or a property."""
    for attribute in ("fget", "func", "__func__"):
        member = getattr(member, attribute, member)
    return member


def _title(name: str) -> str:
    return f"ip.{name}"


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _entry(name: str) -> str:
    value = getattr(infoprompt_jax, name)
    if not inspect.isclass(value):
        return f"## {_title(name)}\n\n{_described(f'ip.{name}', value)}"
    parts = [f"## {_title(name)}\n\n{markdown(inspect.getdoc(value) or '')}"]
    if dataclasses.is_dataclass(value):
        parts.append(f"Fields:\n\n{_fields(value)}")
    parts += [f"### {name}.{member}\n\n{_member(name, member, found)}" for member, found in members(value)]
    return "\n".join(parts)


def _member(cls: str, name: str, member: Any) -> str:
    if isinstance(member, property | functools.cached_property):
        returns = inspect.signature(function(member)).return_annotation
        return f"```python\n{cls}.{name}: {returns}\n```\n\n{markdown(inspect.getdoc(member) or '')}"
    return _described(f"{cls}.{name}", function(member), bound=True)


def _described(name: str, function: Callable[..., Any], bound: bool = False) -> str:
    text = markdown(inspect.getdoc(function) or "")
    returned = _returned(function)
    return f"```python\n{name}{_signature(function, bound)}\n```\n\n{text}" + (f"\n{returned}" if returned else "")


def _signature(function: Callable[..., Any], bound: bool) -> str:
    """Without `self`, and with one parameter a line if it is long."""
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())[bound:]
    # Annotations are strings, which would be quoted.
    text = str(signature.replace(parameters=parameters)).replace("'", '"')
    text = re.sub(r': "([^"]+)"', r": \1", re.sub(r'-> "([^"]+)"', r"-> \1", text))
    if len(text) <= WIDTH:
        return text
    shown = [re.sub(r': "([^"]+)"', r": \1", str(parameter).replace("'", '"')) for parameter in parameters]
    first_keyword = next((i for i, p in enumerate(parameters) if p.kind is p.KEYWORD_ONLY), None)
    if first_keyword is not None:
        shown.insert(first_keyword, "*")
    return "(\n" + "".join(f"    {one},\n" for one in shown) + f") -> {signature.return_annotation}"


def _returned(function: Callable[..., Any]) -> str:
    """The fields of what a method returns, where that is a class of this package without an entry of its own."""
    name = inspect.signature(function).return_annotation
    cls = function.__globals__.get(name)
    if not inspect.isclass(cls) or name in infoprompt_jax.__all__ or not cls.__module__.startswith("infoprompt_jax."):
        return ""
    return f"`{name}`: {markdown(inspect.getdoc(cls) or '')}\n{_fields(cls)}"


def _fields(cls: type) -> str:
    return "".join(f"* `{name}`: `{kind}`\n" for name, kind in inspect.get_annotations(cls).items())


def markdown(docstring: str) -> str:
    """A docstring as Markdown: its sections become lists."""
    lines, section, item = [], False, ""
    for line in docstring.splitlines():
        if heading := SECTION.match(line):
            lines += [f"**{heading[1]}**", ""]
            section, item = True, ""
        elif section and line.strip():
            lines.append(_item(line, item))
            item = item or ("  " if lines[-1].startswith("* ") else "")
        else:
            lines.append(line)
    return "\n".join(lines).rstrip() + "\n"


def _item(line: str, before: str) -> str:
    """A line of a section: an entry is indented by two or four, what continues it by more; `before` indents that."""
    indent, text = len(line) - len(line.lstrip()), line.strip()
    if indent <= 4 and (item := ITEM.match(text)):
        return f"* `{item[1]}`: {text[item.end() :]}"
    return before + text


if __name__ == "__main__":
    print(page(), end="")
