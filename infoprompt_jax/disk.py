"""A disk that is full, or that cannot be written any more: one sentence, and the same command goes on when it can be.

What writes a file raises `OSError`, or an error of its own that only its text tells apart (safetensors, TensorStore and
NumPy have such). All of them leave the last whole state as it was.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from typing import Any

from infoprompt_jax.errors import UserError

ERRORS = {
    errno.ENOSPC: "No space left on device",
    errno.EDQUOT: "Disk quota exceeded",
    errno.EFBIG: "File too large",
    errno.EROFS: "Read-only file system",
    errno.EIO: "Input/output error",
}
FULL = re.compile("no space|quota|requested and", re.IGNORECASE)
IN_TEXTS = re.compile("|".join([*ERRORS.values(), r"\d+ requested and \d+ written"]), re.IGNORECASE)


@contextlib.contextmanager
def watched(directory: str | os.PathLike[str]) -> Iterator[None]:
    """Turns what a full disk raises inside the block into a sentence; `directory` is what the block writes into.

    Raises:
      UserError: there is no room, or no permission to write any more.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if (why := refusal(error, directory)) is None:
            raise
        raise UserError(
            f"{directory} cannot be written ({why}): {'make room' if FULL.search(why) else 'let it be written'}, and "
            "start the same command again, which goes on from the last state that is whole."
        ) from error


def refusal(error: BaseException | None, directory: str | os.PathLike[str]) -> str | None:
    """Why the disk refused to be written, if that is what the error, or one that led to it, says; else None.

    In `directory`, any refusal counts: a file may stand where a directory is to be.
    """
    while error is not None:
        if isinstance(error, OSError) and (error.errno in ERRORS or _is_inside(error.filename, directory)):
            place = f", {error.filename}" if error.filename else ""
            return f"{error.strerror}{place}"
        if match := IN_TEXTS.search(str(error)):
            return match[0]
        error = error.__cause__ or error.__context__
    return None


def _is_inside(name: Any, directory: str | os.PathLike[str]) -> bool:
    return isinstance(name, (str, os.PathLike)) and str(name).startswith(f"{directory}{os.sep}")
