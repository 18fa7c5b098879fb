"""Files on disk: the cache's folder; files written whole or not at all, locked, and as strict JSON.

A lock is `flock`'s on the file `.lock` in the directory (a file, because NFS wants what is locked open for writing). It
ends with the process that holds it, and the file stays. Where the operating system or the file system has no such
locks, there is none.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import pathlib
import shutil
import sys
from collections.abc import Iterator, Mapping
from typing import IO, Any

UMASK = os.umask(0)
os.umask(UMASK)
LOCK = ".lock"
CACHE = "~/.cache/infoprompt_jax"
WITHOUT_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}  # the file system has no locks


def cache_directory(configured: str) -> pathlib.Path:
    """The folder of `data.cache_dir`, or the default where that is empty; it need not exist."""
    return pathlib.Path(configured or CACHE).expanduser()


@contextlib.contextmanager
def whole(path: str | pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a path beside `path` to write a file or a directory at; it takes `path`'s place when the block succeeds.

    What stood at `path` is replaced: whether it may be is the caller's to check. All that was written is on disk before
    it appears there, and so before whatever is written next.
    """
    path = pathlib.Path(path).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, old = (path.with_name(f".{path.name}.{os.getpid()}.{state}") for state in ("partial", "old"))
    for leftover in (partial, old):  # of a killed process whose number this one has got
        _remove(leftover)
    try:
        yield partial
        _complete(partial)
        if path.is_dir():  # a directory cannot be renamed onto another that holds files
            path.rename(old)
        partial.replace(path)
    finally:
        for leftover in (partial, old):
            _remove(leftover)


def _complete(path: pathlib.Path) -> None:
    """Waits until the files are on disk, with the permissions of `open`: safetensors lets only the owner read."""
    for file in (path, *path.rglob("*")):
        if file.is_file():
            with file.open("r+b") as stream:
                os.fsync(stream.fileno())
            file.chmod(0o666 & ~UMASK)


def _remove(path: pathlib.Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def lock(directory: pathlib.Path, wait: bool) -> IO[bytes]:
    """The lock of a directory, as a file: it is held until that is closed.

    Args:
      directory: one that is there.
      wait: for whoever holds it, be it another part of this process.

    Raises:
      BlockingIOError: another holds it, and `wait` is False.
      OSError: the file cannot be made.
    """
    file = (directory / LOCK).open("ab")
    if sys.platform == "win32":
        return file
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            file.close()
            raise
    return file


def strict(value: Any) -> Any:
    """`value` in JSON's own types: NumPy's and JAX's become Python's, what is not finite becomes null."""
    if isinstance(value, Mapping):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(item) for item in value]
    if hasattr(value, "tolist"):
        return strict(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: str | pathlib.Path, value: Any) -> None:
    """Writes strict, indented JSON; a reader, or a crash, finds the old file or the new one, never a part."""
    text = json.dumps(strict(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # Half a surrogate pair, which text from JSON may hold, becomes the escape that it came from.
    with whole(path) as partial, partial.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
