"""A worker process that runs cases, and is killed and started again when one hangs or takes too much memory.

The process is spawned once and reused, because importing JAX takes seconds. Its memory is read from outside; it also
has a limit on its address space, which a case can reach between two readings.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import pathlib
import resource
import signal
import tempfile
import time
from typing import Any

from experiments.fuzz import cases
from experiments.fuzz.cases import Outcome

HANG = 60.0  # seconds
MEMORY = 4e9  # bytes of resident memory
ADDRESS_SPACE = 12e9  # bytes
READ_EVERY = 0.05  # seconds between readings of the memory
CASES_EACH = 400  # of a worker: compiled programs stay in its memory
PREPARED = "prepared"  # a message: the case's time starts


class Worker:
    """One process that runs cases, restarted as needed."""

    def __init__(self) -> None:
        self.scratch = tempfile.TemporaryDirectory(prefix="fuzz-shared-")
        self.process: Any = None
        self.connection: Any = None
        self.left = 0

    def run(self, kind: str, seed: int, number: int) -> Outcome:
        """The case's outcome, in at most about HANG seconds."""
        if self.left <= 0:
            self.restart()
        self.left -= 1
        start, what = time.perf_counter(), ""
        self.connection.send((kind, seed, number))
        while True:
            if self.connection.poll(READ_EVERY):
                try:
                    received = self.connection.recv()
                except EOFError:
                    self.process.join()
                    outcome, detail = "traceback", f"the process died with status {self.process.exitcode}"
                else:
                    if isinstance(received, Outcome):
                        return received
                    if received == PREPARED:
                        start = time.perf_counter()
                    else:
                        what = received
                    continue
            elif what:
                outcome, detail = self._stop_reason(time.perf_counter() - start)
            else:
                outcome, detail = "", ""
            if outcome:
                self.stop()
                return Outcome(kind, seed, number, outcome, what, detail, round(time.perf_counter() - start, 1))

    def _stop_reason(self, seconds: float) -> tuple[str, str]:
        resident = resident_memory(self.process.pid)
        if resident > MEMORY:
            return "memory", f"{resident / 1e9:.1f} GB after {seconds:.1f} s"
        if seconds > HANG:
            return "hang", f"{seconds:.0f} s"
        return "", ""

    def restart(self) -> None:
        """Starts a new process, which imports what cases need before the first one's time counts."""
        self.stop()
        spawn = multiprocessing.get_context("spawn")
        self.connection, theirs = spawn.Pipe()
        self.process = spawn.Process(target=serve, args=(theirs, self.scratch.name), daemon=True)
        self.process.start()
        theirs.close()
        self.connection.recv()
        self.left = CASES_EACH

    def stop(self) -> None:
        """Kills the process."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.connection.close()
        self.process, self.left = None, 0


def serve(connection: multiprocessing.connection.Connection, scratch: str) -> None:
    """The worker's loop; `scratch` outlives it."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, which ends this one
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    keep_programs(pathlib.Path(scratch, "programs"))
    resource.setrlimit(resource.RLIMIT_AS, (int(ADDRESS_SPACE), int(ADDRESS_SPACE)))
    connection.send("ready")
    while True:
        try:
            named = connection.recv()
        except EOFError:
            return
        cases.prepare(named[0], pathlib.Path(scratch))
        connection.send(PREPARED)
        connection.send(cases.run(*named, announce=connection.send))


def keep_programs(folder: pathlib.Path) -> None:
    """Lets JAX keep what it compiles in a folder, so that the next process does not compile it again."""
    import jax

    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def resident_memory(process: int) -> int:
    """Bytes of a process's memory that is resident and its own: files that it maps do not count."""
    try:
        parts = pathlib.Path(f"/proc/{process}/statm").read_text().split()
    except OSError:
        return 0
    return (int(parts[1]) - int(parts[2])) * resource.getpagesize()
