"""Files and directories that appear whole or not at all, whatever moment the process is killed at."""

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

    What stood at `path` is replaced: whether it may be is the caller's to check.
    """
    path = pathlib.Path(path).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, old = (path.with_name(f".{path.name}.{os.getpid()}.{state}") for state in ("partial", "old"))
    for leftover in (partial, old):  # of a killed process whose number this one has got
        _remove(leftover)
    try:
        yield partial
        _share(partial)
        if path.is_dir():  # a directory cannot be renamed onto another that holds files
            path.rename(old)
        partial.replace(path)
    finally:
        for leftover in (partial, old):
            _remove(leftover)


def _share(path: pathlib.Path) -> None:
    """Gives files the permissions that `open` would: safetensors writes them for their owner alone."""
    for file in (path, *path.rglob("*")):
        if file.is_file():
            file.chmod(0o666 & ~UMASK)


def _remove(path: pathlib.Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
