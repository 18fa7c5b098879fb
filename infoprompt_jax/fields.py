"""What a config field is: its default, its meaning, the values it takes, and who may change it.

`settings.py` declares all fields with `Section` and `Field`. Everything else that is known about them comes from these
declarations: the defaults, the checks, the fields of a fleet's members, what a resumed run may change, and
docs/configuration.md.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from infoprompt_jax.errors import UserError

COLUMNS = ("field", "default", "values", "meaning", "may be set by")


@dataclasses.dataclass(frozen=True)
class Field:
    """One field. Its type is the type of the default; a field of type float also takes whole numbers.

    `choices` and `least` hold for a value or, of a tuple, for each element; `of` is the type of a tuple's elements.
    `member`: a member of a fleet may set the field for itself (`fleet.members`); the other fields shape the compiled
    program or the host. `resume`: a resumed run may change it, for it changes where the run computes, how much memory
    it takes and what it reports; results differ by rounding at most. `grows`: a run that goes on may have more of it: a
    larger number, or a value where it had none. What the run has computed stays valid, and the rest is added.
    """

    name: str
    default: Any
    meaning: str
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    of: type | None = None
    member: bool = False
    resume: bool = False
    grows: bool = False

    def has_grown(self, before: Any, now: Any) -> bool:
        """Whether a run with the value `before` may go on with `now`."""
        return self.grows and (not before or (isinstance(before, int) and now > before))

    def check(self, name: str, value: Any) -> None:
        """Raises UserError unless the field, which the config calls `name`, may hold the value."""
        kind = type(self.default)
        if not _is_of(kind, value):
            raise UserError(f"{name}={value!r} is of type {type(value).__name__}: {kind.__name__} was expected.")
        elements: tuple[Any, ...] = value if kind is tuple else (value,)
        if self.of and not all(_is_of(self.of, element) for element in elements):
            raise UserError(f"{name}={value!r} was not understood: a tuple of {self.of.__name__} was expected.")
        if self.choices and not set(elements) <= set(self.choices):
            why = " (T5 overflows in float16)" if value == "float16" else ""
            known = ", ".join(filter(None, self.choices))
            raise UserError(f"{name}={value!r} is not supported{why}: choose one of {known}.")
        if kind is float and not math.isfinite(value):
            raise UserError(f"{name}={value} is not a number that can be computed with: choose a finite one.")
        if self.least is not None and min(elements, default=self.least) < self.least:
            raise UserError(f"{name}={value} is out of range: it must be at least {self.least}.")
        if self.most is not None and max(elements, default=self.most) > self.most:
            raise UserError(f"{name}={value} is out of range: it must be at most {self.most}.")

    def values(self) -> str:
        """The values that the field takes, as a cell of docs/configuration.md."""
        if self.choices:
            return ", ".join(f"`{choice}`" for choice in self.choices if choice)
        if isinstance(self.default, bool):
            return "`True`, `False`"
        if self.least is None:
            return ""
        return f"at least {self.least:g}" if self.most is None else f"{self.least:g} to {self.most:.10g}"


def _is_of(kind: type, value: Any) -> bool:
    """Whether the value is of the type; a whole number is a float too, and Python's True is no number here."""
    return isinstance(value, (float, int) if kind is float else kind) and (kind is bool or not isinstance(value, bool))


class Section:
    """Fields that belong together, a group of the config; the section named "" holds the fields of no group."""

    def __init__(self, name: str, meaning: str, *fields: Field) -> None:
        self.name, self.meaning, self.fields = name, meaning, fields

    def named(self) -> Iterator[tuple[str, Field]]:
        """(`train.steps`, its declaration) for each field."""
        prefix = f"{self.name}." if self.name else ""
        return ((prefix + field.name, field) for field in self.fields)

    def defaults(self) -> dict[str, Any]:
        """The default of each field, by its name without the section."""
        return {field.name: field.default for field in self.fields}

    def page(self) -> str:
        """The section of docs/configuration.md."""
        rows = [COLUMNS, ("---",) * len(COLUMNS)]
        for name, field in self.named():
            default = f"`{field.default}`" if str(field.default) else '`""`'
            setters = ["members"] * field.member + ["resumed runs"] * field.resume + ["longer runs"] * field.grows
            rows.append((f"`{name}`", default, field.values(), field.meaning, ", ".join(setters)))
        title = f"`{self.name}`" if self.name else "The run"
        # A bar is also what separates cells.
        table = "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)
        return f"## {title}\n\n{self.meaning}\n\n{table}\n"
