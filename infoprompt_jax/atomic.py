"""Files and directories that appear whole or not at all, whatever moment the process or the machine dies at."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator

UMASK = os.umask(0)
os.umask(UMASK)


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
    """Waits until the files are on disk, with the permissions of `open`: safetensors writes for their owner alone."""
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
