"""Measures groups of cases within a time: results as they come, one file a case, and nothing after the deadline."""

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

CASE_SECONDS = 120.0  # that no case may exceed
LEAST_SECONDS = 15.0  # under which no case is started: about what the smallest takes to compile


@dataclasses.dataclass
class Run:
    """Where results go and when the time is up."""

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
        """Whether an earlier run into the same directory measured it."""
        path = self.path(case)
        return path.exists() and "p50_seconds" in json.loads(path.read_text())

    def keep(self, case: Case, found: dict[str, Any]) -> None:
        """Writes the record and prints its line."""
        record = rates.complete(case, found) if "seconds" in found else rates.about(case) | found
        with whole(self.path(case)) as path:
            path.write_text(json.dumps(measurements.rounded(record), indent=1) + "\n")
        print(f"{60 * self.minutes - self.left:6.1f} s  {case.name:40}  {outcome(record)}", flush=True)


def outcome(record: dict[str, Any]) -> str:
    if "p50_seconds" not in record:
        return record.get("error") or f"not run: {record['not_run']}"
    share = "" if record["mfu"] is None else f", MFU {record['mfu']:.3f}"
    return f"{1e3 * record['p50_seconds']:.2f} ms, ready in {record.get('compile_seconds', 0):.1f} s{share}"


def measure(groups: Sequence[Group], run: Run) -> None:
    """Every case of every group gets a file: what was measured, its error, or that no time was left."""
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
            # Libraries take seconds to import: the next group's process does that now, and touches no device yet.
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
    """Measures the group's cases and ends its process; what its share of the time does not suffice for is returned."""
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
            found = worker.measure(case, min(run.left, run.case_limit))
            run.keep(case, found | {"wall_seconds": time.monotonic() - since})
    except BaseException:
        worker.close(kill=True)
        raise
    finally:
        worker.close()
    return None
