"""Measures subjects in turns, A B C A B C ..., each in a separate process.

In turns, because the speed of a machine drifts: ratios are taken within a round, and the median over rounds is the
result. In separate processes, because the thread pools of two libraries slow each other down, and because peak memory
is known for a process. While one subject runs, the others wait.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import multiprocessing
import os
import pathlib
import resource
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np


class Work(NamedTuple):
    """What a subject builds. `step` does the work once and waits for its end."""

    step: Callable[[], Any]
    facts: dict[str, Any]  # of one step: examples, tokens, padding_share, model_flops, peak_flops, device
    finish: Callable[[], dict[str, Any]]  # what is known after the steps


@dataclasses.dataclass(frozen=True)
class Subject:
    """`build` is "module:function", which is called with `arguments` in the subject's process and returns `Work`."""

    name: str
    build: str
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    checkout: str = ""  # another checkout of the project to measure; "" = this one
    environment: dict[str, str] = dataclasses.field(default_factory=dict)  # variables its process starts with


def compare(subjects: list[Subject], rounds: int, steps: int) -> list[dict[str, Any]]:
    """A record for each subject, with ratios to the first; `steps` are timed in each turn.

    A subject whose library is not installed is reported and skipped.
    """
    with contextlib.ExitStack() as stack:
        opened = [(subject, *stack.enter_context(_process(subject))) for subject in subjects]
        for subject, _, facts in opened:
            if "skipped" in facts:
                print(f"{subject.name}: skipped, {facts['skipped']}.", flush=True)
        opened = [each for each in opened if "skipped" not in each[2]]
        turns = {subject.name: np.empty((rounds, steps, 2)) for subject, _, _ in opened}
        for turn in range(rounds):
            for subject, connection, _ in opened:
                connection.send(steps)
                turns[subject.name][turn] = connection.recv()
        for _, connection, facts in opened:
            connection.send(0)
            facts.update(connection.recv())
    first = turns[opened[0][0].name]
    return [_record(subject.name, facts, turns[subject.name], first) for subject, _, facts in opened]


@contextlib.contextmanager
def _process(subject: Subject) -> Iterator[tuple[Connection, dict[str, Any]]]:
    """The connection to a subject's process, and its facts after its first step."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, subject), daemon=True)
    with variables(subject.environment):
        process.start()
    there.close()
    try:
        yield here, here.recv()
    finally:
        here.close()
        process.join(timeout=10)


@contextlib.contextmanager
def variables(values: dict[str, str]) -> Iterator[None]:
    """Environment variables for the processes that are started within the context."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _serve(connection: Connection, subject: Subject) -> None:
    if subject.checkout:
        sys.path.insert(0, os.path.abspath(subject.checkout))
    module, function = subject.build.split(":")
    try:
        work: Work = getattr(importlib.import_module(module), function)(**subject.arguments)
    except ModuleNotFoundError as error:
        connection.send({"skipped": f"{error.name} is not installed"})
        return
    since = time.perf_counter()
    work.step()
    connection.send({"first_step_seconds": time.perf_counter() - since, **work.facts})
    while steps := connection.recv():
        connection.send([_timed(work.step) for _ in range(steps)])
    connection.send({"peak_memory_bytes": peak_memory(), **work.finish()})


def peak_memory() -> int:
    """Bytes of this process at its peak; Linux counts in ru_maxrss that of the process that started it, too."""
    try:
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _timed(step: Callable[[], Any]) -> tuple[float, float]:
    """Wall-clock and CPU seconds of one step."""
    wall, cpu = time.perf_counter(), time.process_time()
    step()
    return time.perf_counter() - wall, time.process_time() - cpu


def _record(name: str, facts: dict[str, Any], turns: np.ndarray, first: np.ndarray) -> dict[str, Any]:
    wall, cpu = turns[..., 0], turns[..., 1]
    ratios = np.median(wall, axis=1) / np.median(first[..., 0], axis=1)
    cpu_ratios = np.median(cpu, axis=1) / np.median(first[..., 1], axis=1)
    p50 = float(np.median(wall))
    facts, peak = dict(facts), facts.get("peak_flops")
    facts.pop("peak_flops", None)
    return {
        "subject": name,
        "ratio": float(np.median(ratios)),
        "ratio_least": float(ratios.min()),
        "ratio_most": float(ratios.max()),
        "cpu_ratio": float(np.median(cpu_ratios)),
        "p50_seconds": p50,
        "p95_seconds": float(np.percentile(wall, 95)),
        "cpu_seconds": float(np.median(cpu)),
        "examples_per_second": facts["examples"] / p50,
        "tokens_per_second": facts["tokens"] / p50 if "tokens" in facts else None,
        "flops_per_second": facts["model_flops"] / p50,
        "mfu": facts["model_flops"] / p50 / peak if peak else None,
        **facts,
    }
