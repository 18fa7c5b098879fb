"""The boundary for files that other programs or people wrote: whatever their readers raise becomes one `UserError`.

A parser of a hostile or damaged file may raise anything, and each parser raises something else. So the readers of a
format raise what they like, inside `reading`, and `except Exception` stands only here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from infoprompt_jax.errors import Stopped, UserError

LONGEST_REASON = 200  # characters


@contextlib.contextmanager
def reading(place: str, remedy: str = "") -> Iterator[None]:
    """Turns what a reader raises inside the block into a sentence; `UserError` and `Stopped` pass as they are.

    Args:
      place: what is read and who names it, the subject of the sentence: "data.file: 'rows.csv', line 7,".
      remedy: what to do about it, without a full stop; "" where the reason says it.

    Raises:
      UserError: `<place> cannot be read: <reason>: <remedy>.`
    """
    try:
        yield
    except (UserError, Stopped):
        raise
    except Exception as error:  # parsers' errors have no common base
        parts = [f"{place} cannot be read", reason(error), *filter(None, [remedy])]
        raise UserError(f"{': '.join(parts)}.") from error


def reason(error: Exception) -> str:
    """What an exception says, as a part of a sentence: one line without a full stop."""
    if isinstance(error, UnicodeDecodeError):
        return f"it is not {error.encoding.upper()} text ({error.reason} at byte {error.start})"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MemoryError):
        return "it claims more memory than there is"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = next(iter(str(error).strip().splitlines()), "")[:LONGEST_REASON].rstrip(". ")
    if isinstance(error, KeyError):
        return f"it lacks {text}"
    return text or type(error).__name__
