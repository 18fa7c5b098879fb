"""The boundary for files that other programs or people wrote: whatever their readers raise becomes one `UserError`.

A parser of a hostile or damaged file may raise anything, and each parser raises something else. So the readers of a
format raise what they like, inside `reading`, and `except Exception` around a reader stands only here. Readers open a
file by `regular`, because a pipe would wait for ever and a device has no end, and read JSON by `parsed`, which refuses
what Python's parser takes silently: a key twice in an object, NaN, infinity.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import pathlib
import re
import stat
from collections.abc import Iterator
from typing import Any, NoReturn

from infoprompt_jax.errors import Stopped, UserError

LONGEST_REASON = 400  # characters
LARGEST_TEXT = 2**28  # bytes of a file that is read whole: the largest published tokenizer.json has 2**24
TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[][{}:,]|[^][\s"{}:,]+', re.DOTALL)  # of JSON
NOT_FINITE = ("NaN", "Infinity", "-Infinity")  # which Python's parser reads, and JSON does not have


@contextlib.contextmanager
def reading(place: str, remedy: str = "") -> Iterator[None]:
    """Turns what a reader raises inside the block into a sentence; `UserError` and `Stopped` pass as they are.

    Args:
      place: what is read and who names it, the subject of the sentence: "data.file: 'rows.csv', line 7,".
      remedy: what to do about it, without a full stop; "" where the reason says it.

    Raises:
      UserError: `<place> cannot be read: <reason>: <remedy>.`
    """
    with calling(f"{place} cannot be read", remedy):
        yield


@contextlib.contextmanager
def calling(failed: str, remedy: str = "", kind: type[Exception] = UserError) -> Iterator[None]:
    """`reading` in other words, and for code of other people: raises `<failed>: <reason>: <remedy>.`, of `kind`."""
    try:
        yield
    except (UserError, Stopped, kind):
        raise
    except Exception as error:  # parsers' errors have no common base
        raise kind(sentence(failed, error, remedy)) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of a library in Rust, which is no Exception
            raise
        raise kind(sentence(failed, ValueError(str(error)), remedy)) from error


def sentence(failed: str, error: Exception, remedy: str = "") -> str:
    """`<failed>: <reason>: <remedy>.`"""
    return f"{': '.join([failed, reason(error), *filter(None, [remedy])])}."


def reason(error: Exception) -> str:
    """What an exception says, as a part of a sentence: one line without a full stop."""
    if isinstance(error, UnicodeDecodeError):
        return f"it is not {error.encoding.upper()} text ({error.reason} at byte {error.start})"
    if isinstance(error, json.JSONDecodeError):
        return f"it is not JSON ({error.msg}, line {error.lineno}, column {error.colno})"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MemoryError):
        return "it claims more memory than there is"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = next(iter(str(error).strip().splitlines()), "").partition(". See full")[0]  # of TensorStore, for programmers
    text = text[:LONGEST_REASON].rstrip(". ")
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    if "for integer string conversion" in text:
        return "it holds a number of more digits than can be read"
    if isinstance(error, KeyError):
        return f"it lacks {text}"
    return text or type(error).__name__


def regular(path: pathlib.Path) -> pathlib.Path:
    """The path of a regular file, or of a link to one. Raises OSError, or ValueError where it is something else."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise ValueError("it is a directory, not a file")
    if not stat.S_ISREG(mode):
        raise ValueError("it is a pipe or a device, not a file")
    return path


def text(path: pathlib.Path) -> str:
    """The text of a file of settings, UTF-8. Raises what `regular` does; ValueError if it is far too large for one."""
    size = regular(path).stat().st_size
    if size > LARGEST_TEXT:
        raise ValueError(f"it has {size:,} bytes, but at most {LARGEST_TEXT:,} were expected")
    return path.read_text(encoding="utf-8-sig")


def table(path: pathlib.Path) -> dict[str, Any]:
    """The one object of a JSON file. Raises what `text` and `parsed` do; ValueError if it is no object."""
    content = parsed(text(path))
    if not isinstance(content, dict):
        raise ValueError(f"it holds {type(content).__name__}, but a JSON object was expected")
    return content


def parsed(text: str) -> Any:
    """The value of JSON text.

    Raises:
      JSONDecodeError: the text is not JSON, has a key twice in one object, or a number that is not finite.
      ValueError, RecursionError: it has a number of too many digits, or is nested too deeply.
    """
    try:
        return DECODER.decode(text)
    except _OddError as error:
        raise _located(text) from error


class _OddError(ValueError):
    """What JSON's syntax allows, or Python's parser does, but no value can be."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise _OddError
    return made


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise _OddError
    return value


def _refuse(constant: str) -> NoReturn:
    raise _OddError


DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_refuse)


def _located(text: str) -> json.JSONDecodeError:
    """The error for the first key that is twice in an object, or number that is not finite, with its place."""
    objects: list[set[str]] = []
    for token, following in itertools.pairwise(itertools.chain(TOKEN.finditer(text), TOKEN.finditer("}"))):
        word = token[0]
        if word in ("{", "["):
            objects.append(set())
        elif word in ("}", "]"):
            objects.pop()
        elif word.startswith('"') and following[0] == ":":
            if (key := json.loads(word, strict=False)) in objects[-1]:
                twice = f"an object has the key {key[:LONGEST_REASON]!r} twice"
                return json.JSONDecodeError(twice, text, token.start())
            objects[-1].add(key)
        elif word in NOT_FINITE or (re.match(r"-?\d+[.eE]", word) and not math.isfinite(float(word))):
            return json.JSONDecodeError(f"{word[:LONGEST_REASON]} is not a finite number", text, token.start())
    return json.JSONDecodeError("an object has a key twice, or a number is not finite", text, 0)
