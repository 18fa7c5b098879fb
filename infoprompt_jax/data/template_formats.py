"""Texts with places for values, within the limit: `'%s' % value`, and the methods `format` and `format_map`.

A format of a few characters can ask for any width. Widths are paid for (`template_work.py`), and must be written out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.sandbox import SandboxedFormatter

from infoprompt_jax.data.template_text import text, texts
from infoprompt_jax.data.template_work import STEP, Budget

BY_VALUE = re.compile(r"%[-+ #0-9.]*\*")  # a width that the values decide
WIDE = re.compile(r"\d{5,}[.\d]*[hlL]?[a-zA-Z%]")
AS_PYTHON = re.compile(r"%(?:\([^()%]*\))?[-+ #0-9.]*[ra]")
REFUSED = "formats take neither Python's spelling (`%r`, `!r`) nor widths above 9999 and `*`"


def percent(budget: Budget, pattern: str, values: Any) -> str:
    """`pattern % values`, once it is paid for.

    Raises:
      SecurityError: the pattern has a width of more than four digits, or `*`, or asks for Python's spelling, `%r`.
      TemplateRuntimeError: one of the values has no text.
    """
    if BY_VALUE.search(pattern) or WIDE.search(pattern) or AS_PYTHON.search(pattern):
        raise SecurityError(REFUSED)
    names = re.findall(r"%\(([^()]*)\)", pattern) if isinstance(values, Mapping) else []
    if names:
        values = {name: values[name] for name in names}
    shown = [values[name] for name in names] or (values if isinstance(values, tuple) else [values])
    budget.spend(len(pattern) + _widths(pattern) + sum(map(len, texts(shown))))
    return pattern % values


def _widths(pattern: str) -> int:
    return sum(map(int, re.findall(r"(?<!\d)\d{1,4}(?!\d)", pattern)))


class Format:
    """The method `format` or `format_map` of a text, until it is called."""

    def __init__(self, pattern: str, name: str) -> None:
        self.pattern, self.__name__ = pattern, name

    def __call__(self, environment: jinja2.Environment, budget: Budget, *args: Any, **named: Any) -> str:
        """The text with its values. Raises as `percent` does."""
        budget.spend(STEP * len(self.pattern))
        if self.__name__ == "format_map":
            args, named = (), dict(*args)
        return Formatter(environment, budget).vformat(self.pattern, args, named)


class Formatter(SandboxedFormatter):
    """jinja's formatter, in which each place is paid for."""

    def __init__(self, environment: jinja2.Environment, budget: Budget) -> None:
        super().__init__(environment)
        self.budget = budget

    def convert_field(self, value: Any, conversion: Any) -> Any:
        """Raises SecurityError for Python's spelling of the value."""
        if conversion in ("r", "a"):
            raise SecurityError(REFUSED)
        return super().convert_field(value, conversion)

    def format_field(self, value: Any, format_spec: str) -> str:
        """Raises SecurityError for a width of more than four digits."""
        if re.search(r"\d{5,}", format_spec):
            raise SecurityError(REFUSED)
        self.budget.spend(len(text(value)) + _widths(format_spec))
        return super().format_field(value, format_spec)


def method(value: Any) -> Format | None:
    """The method `format` of a text, as templates may call it; None for any other value."""
    owner, name = getattr(value, "__self__", None), getattr(value, "__name__", "")
    return Format(owner, name) if isinstance(owner, str) and name in ("format", "format_map") else None
