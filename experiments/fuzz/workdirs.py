"""Workdirs that were damaged between two starts of a job, and inputs that changed: half-finished and finished runs.

The job is started again. It must refuse with a sentence, or end with the results of a run that nothing happened to.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Any

from experiments import tiny_jobs
from experiments.fuzz.cases import Case

FRACTIONS = (0.3, 0.6, 0.9)  # of a job's written files, after which it was stopped
PARTS = ("workdir", "workdir", "workdir", "cache")  # what is damaged


class Stop:
    """Stops a job before one of the files that it writes appears, as a kill does; counts them where `left` is None."""

    def __init__(self) -> None:
        self.counted, self.left, self.armed = 0, None, False
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename" and self.armed and "programs" not in str(arguments[1]):
            self.counted += 1
            if self.left is not None and self.counted > self.left:
                self.armed = False
                raise StoppedHere

    @contextlib.contextmanager
    def after(self, left: int | None) -> Iterator[None]:
        """Within the block, the job is stopped after so many files."""
        self.counted, self.left, self.armed = 0, left, True
        try:
            yield
        except StoppedHere:
            pass
        finally:
            self.armed = False


class StoppedHere(BaseException):
    """The end of the process, in this process."""


shared: pathlib.Path | None = None


def prepare(scratch: pathlib.Path) -> None:
    """Makes the jobs' inputs, and of each job a finished workdir and some that were stopped, with their caches."""
    global shared
    base = shared = scratch / "jobs"  # a config.json holds its path, so that it stays where it was made
    if (base / "ready").exists():
        return
    shutil.rmtree(base, ignore_errors=True)
    tiny_jobs.prepare(base)
    stop = Stop()
    for job in tiny_jobs.JOBS:
        with stop.after(None):
            _run(job, base, base / "states" / job / "finished")
        for fraction in FRACTIONS:
            with stop.after(int(fraction * stop_count(stop, job, base))):
                _run(job, base, base / "states" / job / f"{fraction:g}")
    (base / "ready").touch()


def stop_count(stop: Stop, job: str, base: pathlib.Path) -> int:
    """The number of files that the job writes, counted once."""
    kept = base / "counts.json"
    counts = json.loads(kept.read_text()) if kept.exists() else {}
    counts.setdefault(job, stop.counted)
    kept.write_text(json.dumps(counts))
    return counts[job]


def _run(job: str, base: pathlib.Path, state: pathlib.Path, **fields: Any) -> dict[str, Any]:
    """Runs the job in state/workdir with the cache state/cache; what it ends with."""
    ended = tiny_jobs.ended(job, base, state / "workdir", data__cache_dir=str(state / "cache"), **fields)
    return {**ended, **tiny_jobs.counted(state / "workdir")}


def case(choose: random.Random, folder: pathlib.Path) -> Case:
    """One workdir, finished or stopped, that was damaged; or one whose inputs changed."""
    assert shared, "cases.prepare comes first"
    job = choose.choice(tiny_jobs.JOBS)
    states = sorted(path.name for path in (shared / "states" / job).iterdir())
    if choose.random() < 0.2:
        return changed(choose, folder, job, choose.choice([state for state in states if state != "finished"]))
    state = choose.choice(states)
    shutil.copytree(shared / "states" / job / state, folder / "state", symlinks=True)
    what = damage(choose, folder / "state")
    clean = _clean(job)
    return Case(f"{job}, {state}: {what}", lambda: differences(_again(job, folder / "state"), clean), {})


def _again(job: str, state: pathlib.Path, **fields: Any) -> dict[str, Any]:
    assert shared
    return _run(job, shared, state, **fields)


def _clean(job: str) -> dict[str, Any]:
    """The results of the undisturbed run, which is started again and has ended."""
    assert shared
    return _again(job, shared / "states" / job / "finished")


def differences(result: dict[str, Any], clean: dict[str, Any]) -> dict[str, Any]:
    """What is silently different, by name: what it is, and what it should be."""
    return {name: [result.get(name), clean[name]] for name in tiny_jobs.differences(result, clean)[0]}


def damage(choose: random.Random, state: pathlib.Path) -> str:
    """Damages one file, or one folder, of a state; returns what was done."""
    part = choose.choice(PARTS)
    found = sorted(path for path in (state / part).rglob("*") if path.is_file() and path.name != ".lock")
    if not found:
        return "nothing"
    file, other = choose.choice(found), choose.choice(found)
    content = file.read_bytes()
    acts: dict[str, Callable[[], Any]] = {
        "a bit flipped": lambda: file.write_bytes(_flipped(choose, content, 1)),
        "20 bits flipped": lambda: file.write_bytes(_flipped(choose, content, 20)),
        "cut": lambda: file.write_bytes(content[: choose.randrange(len(content) + 1)]),
        "empty": lambda: file.write_bytes(b""),
        "removed": lambda: file.unlink(),
        "zeros": lambda: file.write_bytes(b"\0" * len(content)),
        "longer": lambda: file.write_bytes(content + content[-20:]),
        "a line less": lambda: file.write_bytes(_without_line(choose, content)),
        "a line twice": lambda: file.write_bytes(content + b"\n" + content.splitlines()[-1] if content else b""),
        f"exchanged with {other.name}": lambda: (file.write_bytes(other.read_bytes()), other.write_bytes(content)),
        "a directory": lambda: (file.unlink(), file.mkdir()),
        "its folder removed": lambda: shutil.rmtree(file.parent),
        "a partial file beside": lambda: file.with_name(f".{file.name}.123.partial").write_bytes(content[:10]),
        "a copy beside": lambda: file.with_name(f"{file.name} (1)").write_bytes(content),
    }
    what = choose.choice([*acts, "a bit flipped", "a bit flipped"])
    acts[what]()
    return f"{file.relative_to(state)} {what}"


def _flipped(choose: random.Random, content: bytes, count: int) -> bytes:
    flipped = bytearray(content)
    for _ in range(count if content else 0):
        flipped[choose.randrange(len(flipped))] ^= 1 << choose.randrange(8)
    return bytes(flipped)


def _without_line(choose: random.Random, content: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    return (
        b"".join(lines[:place] + lines[place + 1 :])
        if (place := choose.randrange(len(lines) or 1)) < len(lines)
        else b""
    )


def changed(choose: random.Random, folder: pathlib.Path, job: str, state: str) -> Case:
    """The rows, the templates, the backbone's switches or other inputs changed while the job was stopped."""
    assert shared
    shutil.copytree(shared / "states" / job / state, folder / "state")
    shutil.copytree(shared / "data", folder / "data")
    read = tiny_jobs.OTHER if job == "rospr_eval" else tiny_jobs.DATASET
    fields = {"data__dir": str(folder / "data")}
    if job == "predict":
        fields["data__file"] = str(shared / "data" / read / "validation.jsonl")
    split = choose.choice(["train", "validation"]) if job in ("train", "rospr_sources") else "validation"
    rows = folder / "data" / read / f"{split}.jsonl"
    lines = rows.read_text().splitlines()
    acts: dict[str, Callable[[], Any]] = {
        "labels exchanged": lambda: _write_rows(rows, [line[:-2] + str(1 - int(line[-2])) + "}" for line in lines]),
        "rows in another order": lambda: _write_rows(rows, lines[::-1]),
        "a row less": lambda: _write_rows(rows, lines[:-1]),
        "a word changed": lambda: _write_rows(rows, [lines[0].replace('": "', '": "zebra ', 1), *lines[1:]]),
    }
    what = choose.choice(list(acts)) if job != "predict" else "the same"
    acts.get(what, lambda: None)()
    base = shared

    def run() -> dict[str, Any]:
        """What the job had not read when it was stopped may change: it ends like one that began with it."""
        result = _again(job, folder / "state", **fields)
        return differences(result, _run(job, base, folder / "fresh", **fields))

    return Case(f"{job}, {state}: {split}: {what}", run, {})


def _write_rows(path: pathlib.Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n")
