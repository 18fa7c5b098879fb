"""Compiled programs are kept between runs, so that a command that was run before starts without compiling.

They lie in `programs/` of the cache, in a folder for each kind of processor: a program for one may end a process on
another. Who can write the folder can have a program run, so it must be the user's own. JAX writes and reads them, and
compiles again what it cannot read. JAX_ENABLE_COMPILATION_CACHE=false turns this off; JAX_COMPILATION_CACHE_DIR names
another folder, which is then used as it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import pathlib
import platform
import shutil
import stat
import tempfile
from typing import Any

from infoprompt_jax import files, hosts
from infoprompt_jax.errors import UserError

ROOM = 2**30  # bytes that must be free on the disk
MOST = 2**32  # bytes of programs; beyond that, the oldest go

log = logging.getLogger(__name__)


def keep(cache_dir: str, room: int = ROOM) -> pathlib.Path | None:
    """Has JAX keep the programs of this process; before its first one, and after `cluster.join`.

    Args:
      cache_dir: `data.cache_dir`.
      room: bytes that must be free.

    Returns:
      The folder. None where programs are not kept: the user chose, several processes run, the user has no home, the
      folder is not the user's own or cannot be written, or its disk is nearly full.
    """
    import jax

    # Of several processes, JAX lets the first one write. The others would compile where it does not, and compilers that
    # share work between processes would wait for it.
    options: Any = jax.config  # which has these by name alone
    chosen = options.jax_compilation_cache_dir or not options.jax_enable_compilation_cache
    if chosen or hosts.count() > 1:
        return None
    try:
        folder = files.cache_directory(cache_dir) / "programs" / processor()
    except UserError as error:  # a container's user may have no home
        log.info("Compiled programs are not kept: %s", error)
        return None
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not is_own(folder):
            log.info("Compiled programs are not kept in %s: other users may write there.", folder)
            return None
        with tempfile.TemporaryFile(dir=folder):
            pass
        prune(folder, MOST)
        if shutil.disk_usage(folder).free < room:
            log.info("Compiled programs are not kept: the disk of %s is nearly full.", folder)
            return None
    except OSError as error:
        log.info("Compiled programs are not kept in %s (%s).", folder, error.strerror)
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # a run has many small programs
    return folder


def processor() -> str:
    """A name of the processor's kind and its instructions, the same on every machine that has them."""
    cpus = pathlib.Path("/proc/cpuinfo")
    lines = cpus.read_text(errors="replace").splitlines() if cpus.exists() else []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    return f"{platform.machine()}-{hashlib.sha256(flags.encode()).hexdigest()[:8]}"


def is_own(folder: pathlib.Path) -> bool:
    """Whether the folder is this user's, and nobody else may write into it."""
    state = folder.stat()
    return state.st_uid == os.getuid() and not state.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def prune(folder: pathlib.Path, most: int) -> None:
    """Removes the oldest files of `folder` until the others have at most `most` bytes; other processes may, too."""
    found = []
    for file in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append((file.stat().st_mtime, file.stat().st_size, file))
    found.sort(reverse=True)
    total = 0
    for _, size, file in found:
        total += size
        if total > most:
            file.unlink(missing_ok=True)
