"""Locks on a directory, so that two processes do not write the same library or run at once.

A lock is `flock`'s on the file `.lock` in the directory (a file, for NFS wants what is locked open for writing); it is
gone with the process that holds it, however that ends, and the file stays. Where the operating system or the file
system knows no such locks, there is none.
"""

from __future__ import annotations

import errno
import pathlib
import sys
from typing import IO

NAME = ".lock"
UNKNOWN = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}  # the file system has no locks


def lock(directory: pathlib.Path, wait: bool) -> IO[bytes]:
    """The lock of a directory, as a file: it is held until that is closed.

    Args:
      directory: one that is there.
      wait: for whoever holds it, be it another part of this process.

    Raises:
      BlockingIOError: another holds it, and `wait` is False.
      OSError: the file cannot be made.
    """
    file = (directory / NAME).open("ab")
    if sys.platform == "win32":
        return file
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno not in UNKNOWN:
            file.close()
            raise
    return file
