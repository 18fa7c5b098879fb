"""Measures groups of cases until a deadline; each case has a file as soon as it is done."""

from __future__ import annotations

import collections
import dataclasses
import json
import pathlib
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from bench.device import rates
from bench.device.cases import Case, Group
from bench.device.worker import Worker
from infoprompt_jax.files import whole
from infoprompt_jax.reports import measurements

CASE_SECONDS = 120.0  # limit of a case
LEAST_SECONDS = 15.0  # with less time left no case is started: the smallest takes about as long to compile


@dataclasses.dataclass
class Run:
    """The directory of the results, and the deadline."""

    directory: pathlib.Path
    minutes: float
    least: float = LEAST_SECONDS
    case_limit: float = CASE_SECONDS

    def __post_init__(self) -> None:
        self.deadline = time.monotonic() + 60 * self.minutes
        (self.directory / "cases").mkdir(parents=True, exist_ok=True)

    @property
    def left(self) -> float:
        return self.deadline - time.monotonic()

    def path(self, case: Case) -> pathlib.Path:
        return self.directory / "cases" / f"{case.name}.json"

    def done(self, case: Case) -> bool:
        """Whether an earlier run into the same directory measured the case."""
        path = self.path(case)
        return path.exists() and "p50_seconds" in json.loads(path.read_text())

    def keep(self, case: Case, outcome: dict[str, Any]) -> None:
        """Writes the record and prints its line."""
        record = rates.complete(case, outcome) if "seconds" in outcome else rates.about(case) | outcome
        with whole(self.path(case)) as path:
            path.write_text(json.dumps(measurements.rounded(record), indent=1) + "\n")
        print(f"{60 * self.minutes - self.left:6.1f} s  {case.name:40}  {line(record)}", flush=True)


def line(record: dict[str, Any]) -> str:
    if "p50_seconds" not in record:
        return record.get("error") or f"not run: {record['not_run']}"
    share = "" if record["mfu"] is None else f", MFU {record['mfu']:.3f}"
    return f"{1e3 * record['p50_seconds']:.2f} ms, ready in {record.get('compile_seconds', 0):.1f} s{share}"


def measure(groups: Sequence[Group], run: Run) -> None:
    """Writes a file for every case: the measurement, its error, or that no time was left."""
    with tempfile.TemporaryDirectory() as programs:
        kept = {"JAX_COMPILATION_CACHE_DIR": programs, "TORCHINDUCTOR_CACHE_DIR": programs}
        queue = collections.deque(
            dataclasses.replace(group, cases=cases, environment={**kept, **group.environment})
            for group in groups
            if (cases := tuple(case for case in group.cases if not run.done(case)))
        )
        _measure(queue, run)


def _measure(queue: collections.deque[Group], run: Run) -> None:
    log = run.directory / "log.txt"
    ahead: Worker | None = None
    try:
        while queue:
            group = queue.popleft()
            if run.left < run.least:
                for case in group.cases:
                    run.keep(case, {"not_run": "no time left"})
                continue
            worker = ahead or Worker(group, log)
            # The next group's process imports its libraries meanwhile, which takes seconds; it does not use the device.
            ahead = Worker(queue[0], log) if queue else None
            rest = _group(group, worker, run, log)
            if rest is not None:
                if ahead is None:
                    ahead = Worker(rest, log)
                queue.append(rest)
    finally:
        if ahead is not None:
            ahead.close(kill=True)


def _group(group: Group, worker: Worker, run: Run, log: pathlib.Path) -> Group | None:
    """Measures the group's cases and ends its process; returns the cases that its share of time was too short for."""
    until = time.monotonic() + group.share * 60 * run.minutes
    try:
        for index, case in enumerate(group.cases):
            if run.left < run.least:
                run.keep(case, {"not_run": "no time left"})
                continue
            if time.monotonic() > until:
                return dataclasses.replace(group, cases=group.cases[index:], share=1.0)
            if not worker.alive:
                worker.close()
                worker = Worker(group, log)
            since = time.monotonic()
            outcome = worker.measure(case, min(run.left, run.case_limit))
            run.keep(case, outcome | {"wall_seconds": time.monotonic() - since})
    except BaseException:
        worker.close(kill=True)
        raise
    finally:
        worker.close()
    return None
