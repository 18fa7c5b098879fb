"""Checksums of what the program writes and reads back later, so that damage is noticed and never changes a result.

A JSON object holds its own: the first key, `checksum`, is over all other content. A file without it, which a former
version wrote or from which a person removed it, is read unchecked. Of other files, `of_file` goes into a JSON object
beside them.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
from typing import Any

import numpy as np

from infoprompt_jax import bucket, files, foreign
from infoprompt_jax.errors import UserError

KEY = "checksum"


class DamagedError(UserError):
    """A file is not what was written."""


def sealed(content: dict[str, Any], kind: str = "") -> dict[str, Any]:
    """The object in JSON's own types, with its checksum as the first key: its line can be removed by hand.

    Args:
      kind: what the object is, which the checksum depends on: one of another kind is not taken for it.
    """
    content = files.strict({name: value for name, value in content.items() if name != KEY})
    return {KEY: _of_content(content, kind), **content}


def opened(content: dict[str, Any], place: str, remedy: str, kind: str = "") -> dict[str, Any]:
    """A sealed object without its checksum.

    Args:
      place: the file, as the subject of a sentence.
      remedy: what to do, the end of the sentence.
      kind: as of `sealed`.

    Raises:
      DamagedError: the content is not what was sealed.
    """
    rest = {name: value for name, value in content.items() if name != KEY}
    if KEY in content and content[KEY] != _of_content(rest, kind):
        hint = f', or remove the line "{KEY}" if you have changed it on purpose'
        raise DamagedError(f"{place} is not what was written, as its checksum differs: {remedy}{hint}.")
    return rest


def write_json(path: str | pathlib.Path, content: dict[str, Any], kind: str = "") -> None:
    """Writes a sealed object as strict, indented JSON; a reader, or a crash, finds the old file or the new one."""
    text = json.dumps(sealed(content, kind), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # Half a surrogate pair, which text from JSON may hold, becomes the escape that it came from.
    with files.whole(path) as partial, partial.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)


def read_json(path: str | pathlib.Path, remedy: str, place: str = "", kind: str = "") -> dict[str, Any]:
    """The object that `write_json` wrote. Arguments as of `opened`; without a `place` the path is it.

    Raises:
      DamagedError: the file cannot be read, or is not what was written.
    """
    place = place or str(path)
    try:
        with foreign.reading(place, remedy):
            file = files.path(path)
            text = file.read_text(encoding="utf-8") if bucket.is_in(path) else foreign.text(file)
            content = foreign.parsed(text)
    except UserError as error:
        raise DamagedError(str(error)) from error
    if not isinstance(content, dict):
        raise DamagedError(f"{place} holds {type(content).__name__}, but an object was expected: {remedy}.")
    return opened(content, place, remedy, kind)


def of_file(path: str | pathlib.Path) -> str:
    """The SHA-256 sum of a file's bytes, in hexadecimal."""
    with files.local(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def of_arrays(arrays: dict[str, np.ndarray]) -> str:
    """The SHA-256 sum of named arrays: names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        array = np.ascontiguousarray(array)
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _of_content(content: dict[str, Any], kind: str) -> str:
    return hashlib.sha256(f"{kind}{json.dumps(content, sort_keys=True)}".encode()).hexdigest()
