"""A process that measures the cases of a group, one after another.

Its parent (`run.py`) sends a case and waits for the result until a time limit. An exception in a case is its result. A
case that exceeds the limit or ends the process has that as its error, and a new process continues with the next case.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import multiprocessing
import os
import pathlib
import signal
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from bench.device.cases import Case, Group
from bench.turns import variables

WORDS_OF_OOM = ("RESOURCE_EXHAUSTED", "out of memory", "OutOfMemory")


class Worker:
    """A started process; it imports its modules before the first case arrives."""

    def __init__(self, group: Group, log: pathlib.Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, there = context.Pipe()
        self._process = context.Process(target=serve, args=(there, group.modules, str(log)), daemon=True)
        with variables(group.environment):
            self._process.start()
        there.close()

    def measure(self, case: Case, seconds: float) -> dict[str, Any]:
        """The result of the case's function, or {"error": one line}; after some errors the worker is not `alive`."""
        since = time.monotonic()
        try:
            self._connection.send(case)
            if self._connection.poll(max(seconds, 0)):
                return self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join(timeout=10)
            return {"error": f"its process ended with exit code {self._process.exitcode}"}
        self.close(kill=True)
        return {"error": f"stopped after {time.monotonic() - since:.0f} s, when its time was up"}

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def close(self, kill: bool = False) -> None:
        """Returns when the process has ended and released the device."""
        self._connection.close()
        if not kill:
            self._process.join(timeout=20)
        if self._process.pid is not None and self._process.is_alive():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)  # with the compilers that it started
            self._process.kill()
        self._process.join()


def serve(connection: Connection, modules: Sequence[str], log: str) -> None:
    """The process's main function; the output of libraries goes to the log."""
    os.setsid()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    for module in modules:
        # A missing library is the error of each case that needs it.
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    while True:
        try:
            case: Case = connection.recv()
        except EOFError:
            return
        connection.send(measured(case))


def measured(case: Case) -> dict[str, Any]:
    module, function = case.build.split(":")
    try:
        return getattr(importlib.import_module(module), function)(case)
    except Exception as error:
        failure = {"error": one_line(error)}
    gc.collect()  # frees the arrays of the error's frames
    return failure


def one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    known = isinstance(error, MemoryError) or any(word in f"{type(error).__name__} {text}" for word in WORDS_OF_OOM)
    return f"{'out of memory' if known else type(error).__name__}: {text[:300]}"
