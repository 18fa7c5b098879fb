"""What killed processes leave of writing files whole: `.NAME.PROCESS-TOKEN.partial`, and `.NAME.PROCESS-TOKEN.old`.

`files.whole` writes at the first name. A directory cannot be renamed onto another, so that the old one takes the second
name for a moment. A process that is killed leaves either; whoever next holds the lock of the directory sweeps it. The
token is random, because processes of two containers that share a folder may have the same number.
"""

from __future__ import annotations

import logging
import os
import pathlib
import re
import secrets
import shutil
import sys

NAME = re.compile(r"\.(?P<name>.+)\.(?P<process>\d+)(-[0-9a-f]{8})?\.(?P<state>partial|old)", re.DOTALL)
TOKEN = secrets.token_hex(4)

log = logging.getLogger(__name__)


def names(path: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """Where this process writes what is to stand at `path`, and where it puts what stands there."""
    partial, old = (path.with_name(f".{path.name}.{os.getpid()}-{TOKEN}.{state}") for state in ("partial", "old"))
    return partial, old


def sweep(directory: pathlib.Path) -> None:
    """Removes what ended processes left in a directory and below it.

    Where one was killed between two renames, so that nothing stands at a path, the new content takes its place.
    """
    matches = [(file, match) for file in directory.rglob(".*") if (match := NAME.fullmatch(file.name))]
    ended = [(file, match) for file, match in matches if not _runs(int(match["process"]))]
    for file, match in ended:
        path = file.with_name(match["name"])
        if match["state"] == "old" and not path.exists():
            partial = file.with_name(file.name.removesuffix("old") + "partial")  # whole, or `old` were not there
            (partial if partial.exists() else file).rename(path)
            log.info("%s was being replaced when a process was killed: it is whole again.", path)
    for file, _ in ended:
        remove(file)


def remove(path: pathlib.Path) -> None:
    """Removes a file or a directory, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    """Whether another process of this number runs on this host."""
    if process == os.getpid():
        return False
    if sys.platform == "win32":  # where signal 0 is no question
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
