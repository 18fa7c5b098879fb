"""The workdir, a run's directory: which config it belongs to, whether the run is complete, what is in it.

config.json  metrics.jsonl  summary.json  curves.png  report.html  checkpoints/  features/
prompts/<member>/  the best prompt of each member       last_prompts/<member>/  the last

Of a run's processes the first one looks at the directory and decides for all (`hosts.decided`).

A run with a summary is finished. When a finished run goes on, its summary becomes former_summary.json before
config.json names what is new.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections

from infoprompt_jax import bucket, checksums, disk, files, hosts, saved_config
from infoprompt_jax.errors import UserError
from infoprompt_jax.settings import FIELDS

SUMMARY, FORMER_SUMMARY = "summary.json", "former_summary.json"
FILES = "files"  # in summary.json, the checksums of OUTPUTS by name; Python callers do not see it
# What jobs make for a reader, patterns of files and directories. A library has checksums of its own.
LOG = "metrics.jsonl"
OUTPUTS = (
    LOG,
    "prompts",
    "last_prompts",
    "predictions.jsonl",
    "targets",
    "results.json",
    "results.md",
    "results.png",
    "analysis.png",
    "curves.png",
    "report.html",
    "backbone",
    "groups/*/metrics.jsonl",
    "groups/*/summary.json",
    "groups/*/*prompts",
)
MARK = ".hosts.json"  # of a run on several hosts

log = logging.getLogger(__name__)


class Workdir:
    """The directory of one run; nothing is written before `claim`.

    `grown` has the run's former values of the fields that have grown (`Field.grows`), which only some jobs allow.
    """

    def __init__(self, path: str | os.PathLike[str], config: ml_collections.ConfigDict, may_grow: bool = False) -> None:
        files.keep_copies_in(config.data.cache_dir)
        self.path = files.path(path) if bucket.is_in(path) else files.path(path).absolute()
        self.config, self.may_grow = saved_config.content(config), may_grow
        self.grown: dict[str, Any] = {}
        self.grown = hosts.decided(self._check_same_run)
        hosts.decided(self._check_writable)

    def _check_writable(self) -> None:
        if (self.path / SUMMARY).exists() and not self.grown:  # of a finished run, which is read
            return
        if bucket.is_in(self.path):  # which has answered, and refuses to be written when the lock is taken
            return
        existing = next(p for p in (self.path, *self.path.parents) if p.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
            raise UserError(f"The workdir {self.path} cannot be written: choose another --workdir.")

    def _check_same_run(self) -> dict[str, Any]:
        """What `grown` holds. Raises UserError where the directory is another run's."""
        saved = self.path / "config.json"
        if not saved.exists():
            # A process that is killed while it writes its first file leaves one whose name starts with a dot.
            if self.path.is_dir() and any(not file.name.startswith(".") for file in self.path.iterdir()):
                raise UserError(f"The workdir {self.path} holds files but no config.json: choose an empty --workdir.")
            return {}
        try:
            before = saved_config.current(checksums.read_json(saved, "choose another --workdir"))
            now = saved_config.current(self.config)
        except (ValueError, AttributeError) as error:  # JSON, but no config
            raise UserError(f"{saved} is not the config of a run ({error}): choose another --workdir.") from error
        changed = {field for field in before.keys() | now.keys() if before.get(field) != now.get(field)}
        changed -= {name for name, field in FIELDS.items() if field.resume}
        growing = {name for name, field in FIELDS.items() if field.grows and self.may_grow}
        more = {field for field in changed & growing if FIELDS[field].has_grown(before[field], now[field])}
        for field in sorted(changed - more):
            larger = field in growing and isinstance(before[field], int)
            values = "the same or a larger value" if larger else "the same value"
            raise UserError(
                f"The workdir {self.path} holds a run with {field}={before.get(field)!r}, this one has "
                f"{now.get(field)!r}: choose another --workdir, or {values} to resume."
            )
        return {field: before[field] for field in more}

    def finished(self) -> dict[str, Any] | None:
        """The summary of a finished run; None for a run that is not finished. Raises UserError if it cannot be read."""
        return hosts.decided(self._finished)

    def _finished(self) -> dict[str, Any] | None:
        summary = self.path / SUMMARY
        if self.grown or not summary.exists():
            return None
        try:
            content = checksums.read_json(summary, "the run is finished again from its checkpoint", kind="summary")
        except checksums.DamagedError as error:
            log.warning("%s", error)
            return None
        for name, what in not_as_written(self.path, content.pop(FILES, {})).items():
            # The log is where the rest comes from.
            remedy = "put back a copy" if name == LOG else f"delete {summary} to have it written again"
            log.warning("%s %s: %s.", self.path / name, what, remedy)
        log.info("This run is done; its results stand in %s.", self.path)
        return content

    @contextlib.contextmanager
    def claim(self) -> Iterator[None]:
        """Makes the directory this run's and locks it against other processes for the length of the block.

        Raises:
          UserError: another process is running in it, or it cannot be written, be it later, when the disk is full.
        """
        with contextlib.ExitStack() as stack:
            self.check_shared(hosts.decided(lambda: self._claim(stack)))
            with disk.watched(self.path):
                yield
            hosts.meet()  # the first process lets go when all are done

    def _claim(self, stack: contextlib.ExitStack) -> str:
        """As `claim`, until `stack` is closed; returns what the directory's mark holds."""
        try:
            if not bucket.is_in(self.path):  # which has no directories
                self.path.mkdir(parents=True, exist_ok=True)
            stack.enter_context(files.lock(self.path, wait=False))
            self.grown = self._check_same_run()  # again: another may have claimed it while this one was loading
            if self.grown and (self.path / SUMMARY).exists():
                (self.path / SUMMARY).replace(self.path / FORMER_SUMMARY)
            if self.grown or not (self.path / "config.json").exists():
                checksums.write_json(self.path / "config.json", self.config)
            return self._mark()
        except BlockingIOError as error:
            raise UserError(
                f"Another process is running in the workdir {self.path}: choose another --workdir, or wait."
            ) from error
        except OSError as error:
            reason = error.strerror or error
            raise UserError(
                f"The workdir {self.path} cannot be written ({reason}): choose another --workdir."
            ) from error

    def _mark(self) -> str:
        """Writes a file by which the other processes know the directory; of one process there is none."""
        if hosts.count() == 1:
            return ""
        value = secrets.token_hex(8)
        checksums.write_json(self.path / MARK, {"mark": value})
        return value

    def check_shared(self, mark: str) -> None:
        """Raises UserError unless this process sees the file that the first one has written into the directory."""
        file = self.path / MARK
        if mark and (not file.exists() or checksums.read_json(file, "start again").get("mark") != mark):
            raise UserError(
                f"The workdir {self.path} of process {hosts.index()} is not that of process 0, but a run on several "
                "hosts needs one that they share: choose a --workdir on a shared file system, or in a bucket (gs://)."
            )


def finish(path: pathlib.Path, summary: Mapping[str, Any]) -> None:
    """Writes the summary into a workdir, with the checksums of what the job made; with that, the run is finished."""
    checksums.write_json(path / SUMMARY, {**summary, FILES: made(path)}, kind="summary")


def made(path: pathlib.Path) -> dict[str, str]:
    """The checksums of a workdir's OUTPUTS, by name; a bucket has its own, which each download is checked against."""
    if bucket.is_in(path):
        return {}
    outputs = [file for pattern in OUTPUTS for file in sorted(path.glob(pattern))]
    files_of = [file for output in outputs for file in (output, *sorted(output.rglob("*"))) if file.is_file()]
    return {file.relative_to(path).as_posix(): checksums.of_file(file) for file in files_of}


def not_as_written(path: pathlib.Path, written: Mapping[str, str]) -> dict[str, str]:
    """By name, what is wrong with the files that are missing or are not what was written."""
    now = made(path) if written else {}
    wrong = [name for name, digest in written.items() if now.get(name) != digest]
    return {name: "is not what the run wrote" if name in now else "is missing" for name in wrong}
