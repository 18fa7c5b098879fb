"""Whether a program fits a device: it is compiled, and its memory is counted or the compiler's refusal is read."""

from __future__ import annotations

import dataclasses
import re
import time
from typing import Any

import jax

from infoprompt_jax.capacity import hlo
from infoprompt_jax.capacity.chips import UNITS

# "... HLO temporaries (31.39G) exceeds available HBM (15.75G)", and "Used 16.01G of 15.75G hbm."
_NEEDED = (re.compile(r"\(([\d.]+)([KMGT]?)\) exceeds"), re.compile(r"Used ([\d.]+)([KMGT]?) of"))
SHOWN = 8  # arrays that are reported


@dataclasses.dataclass(frozen=True)
class Fit:
    """What a program needs of one device, in bytes."""

    fits: bool
    needed: int  # what must be free; of a refused program, what the compiler states
    arguments: int  # weights, state and batch
    outputs: int  # those that do not take the place of arguments
    temporaries: int
    code: int
    message: str  # the compiler's, where it refused
    seconds: float  # of compilation
    arrays: tuple[hlo.Made, ...]  # the largest that the program makes
    text: str = dataclasses.field(repr=False)  # "" of a refused program


def compile_fit(lowered: jax.stages.Lowered) -> Fit:
    """Compiles a program for the devices that it is lowered for.

    Raises:
      JaxRuntimeError: the compiler refuses it for another reason than memory.
    """
    start = time.monotonic()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if not str(error).startswith("RESOURCE_EXHAUSTED"):
            raise
        return _refused(str(error), time.monotonic() - start)
    seconds = time.monotonic() - start
    counted: Any = compiled.memory_analysis()
    outputs = counted.output_size_in_bytes - counted.alias_size_in_bytes
    parts = (counted.argument_size_in_bytes, outputs, counted.temp_size_in_bytes, counted.generated_code_size_in_bytes)
    text = compiled.as_text() or ""
    return Fit(True, sum(parts), *parts, "", seconds, tuple(hlo.largest_made(hlo.read(text))[:SHOWN]), text)


def _refused(message: str, seconds: float) -> Fit:
    """The compiler's number, and the first sentence of its message."""
    match = next((found for pattern in _NEEDED if (found := pattern.search(message))), None)
    needed = round(float(match[1]) * UNITS[match[2]]) if match else 0
    return Fit(False, needed, 0, 0, 0, 0, message.splitlines()[0], seconds, (), "")
