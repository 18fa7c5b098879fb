"""What a config field is: its default, its meaning, the values it takes, and who may change it.

`run_fields.py` and `recipe_fields.py` declare all fields with `Section` and `Field`. Everything else that is known
about them comes from these declarations: the defaults, the checks, the fields of a fleet's members, what a resumed run
may change, and docs/configuration.md.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from infoprompt_jax.errors import UserError

COLUMNS = ("field", "default", "values", "meaning", "may be set by")

# Upper ends of ranges: beyond them, int32 overflows or no memory holds what the field asks for.
MOST_SEED = 2**32 - 1
MOST_ROWS = 2**31 - 1
MOST_STEPS = 10**9
MOST_TOKENS = MOST_WIDTH = MOST_DEVICES = 2**16
MOST_BATCH = 2**22
MOST_WEIGHT = 10**6  # of weights and other factors; products with a loss stay finite in float32
MOST_RATE = 1e30  # finite in float32; a member whose loss overflows stops with a sentence
LEAST = 2.0**-126  # the least normal number of float32; devices take what is less as zero
MOST_TEXT = 100_000  # characters of templates
MOST_PATH = 4096  # characters of names and paths
MOST_ELEMENTS = 2**16  # of a tuple
SHOWN = 200  # characters of a value in an error


@dataclasses.dataclass(frozen=True)
class Field:
    """One field. Its type is the type of the default; a field of type float also takes whole numbers.

    `choices` and `between` hold for a value or, of a tuple, for each element; `of` is the type of a tuple's elements.
    `between`: the least and the most of a number; every number has both. `also`: values outside that mean something
    else. `longest`: characters of a text. `distinct`, `ascending`: a tuple's elements. `registered`: code adds choices.
    `member`: a member of a fleet may set the field for itself (`fleet.members`); the other fields shape the compiled
    program or the host. `resume`: a resumed run may change it, for it changes where the run computes, how much memory
    it takes and what it reports; results differ by rounding at most. `grows`: a run that goes on may have more of it: a
    larger number, or a value where it had none. What the run has computed stays valid, and the rest is added.
    """

    name: str
    default: Any
    meaning: str
    choices: Sequence[str] = ()
    registered: bool = False
    between: tuple[float, float] | None = None
    also: tuple[float, ...] = ()
    longest: int = MOST_PATH
    of: type | None = None
    distinct: bool = False
    ascending: bool = False
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
            raise UserError(
                f"{name}={shortened(value)} is of type {type(value).__name__}: {kind.__name__} was expected."
            )
        elements: tuple[Any, ...] = value if kind is tuple else (value,)
        if self.of and not all(_is_of(self.of, element) for element in elements):
            raise UserError(
                f"{name}={shortened(value)} was not understood: a tuple of {self.of.__name__} was expected."
            )
        if self.choices and not set(elements) <= set(self.choices):
            why = " (T5 overflows in float16)" if value == "float16" else ""
            known = ", ".join(filter(None, self.choices))
            more = ", or register yours in the config file" if self.registered else ""
            raise UserError(f"{name}={shortened(value)} is not supported{why}: choose one of {known}{more}.")
        for element in elements:
            if isinstance(element, str):
                _check_text(name, element, self.longest)
            elif not self._holds(element):
                raise UserError(f"{name}={shortened(value)} is out of range: it must be {self.values()}.")
            elif kind is float and 0 < abs(element) < LEAST:
                raise UserError(f"{name}={shortened(value)} becomes zero in float32: write 0, or at least {LEAST:g}.")
        if kind is tuple:
            self._check_tuple(name, elements)

    def _holds(self, value: Any) -> bool:
        """Whether the range holds the number; NaN and the infinities are in none."""
        return self.between is None or value in self.also or self.between[0] <= value <= self.between[1]

    def _check_tuple(self, name: str, elements: tuple[Any, ...]) -> None:
        if len(elements) > MOST_ELEMENTS:
            raise UserError(f"{name} has {len(elements):,} elements: give it at most {MOST_ELEMENTS:,}.")
        if self.ascending and any(after <= before for before, after in itertools.pairwise(elements)):
            raise UserError(f"{name}={shortened(elements)} is not in ascending order: sort it, with each element once.")
        if self.distinct and len(set(elements)) < len(elements):
            twice = max(elements, key=elements.count)
            raise UserError(f"{name}={shortened(elements)} has {twice!r} more than once: leave it once.")

    def values(self) -> str:
        """The values that the field takes, in words."""
        if self.choices:
            return ", ".join(f"`{choice}`" for choice in self.choices if choice) + " or your own" * self.registered
        if isinstance(self.default, bool):
            return "`True`, `False`"
        if self.between is None:
            return ""
        least, most = (f"{end:,}" if isinstance(end, int) else f"{end:g}" for end in self.between)
        ends = f"{least} to {most}" + ", ascending" * self.ascending
        return " or ".join([*(f"{value:g}" for value in self.also), ends])


def shortened(value: Any) -> str:
    """The value as an error shows it: of long ones the beginning."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of more digits than Python prints, or deep nesting
        return f"a {'number' if isinstance(value, int) else 'value'} that is too long to show"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _check_text(name: str, text: str, longest: int) -> None:
    if len(text) > longest:
        raise UserError(f"{name}={shortened(text)} has {len(text):,} characters: give it at most {longest:,}.")
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise UserError(
            f"{name}={shortened(text)} holds a character that no text or path may have (NUL, or bytes that are not "
            "UTF-8): remove it."
        )


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
