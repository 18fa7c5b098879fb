"""`metrics.jsonl`, the log of a run: appended to during training, cut back to the checkpoint when the run resumes.

One record a line: {"step": 10, "member": "both-seed0", "name": "task_loss", "value": 0.69}. Numbers read back bit for
bit. A value that is not finite is written as null, so the file is strict JSON. What else wants the records, such as
TensorBoard's event files or a tracker (`trackers`), is a `Sink`. Of several processes the first one writes; all have
the records.
"""

from __future__ import annotations

import hashlib
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from infoprompt_jax import files, hosts
from infoprompt_jax.errors import UserError
from infoprompt_jax.reports.records import Record, Records, insert, read_records, series

Content = dict[str, Any]  # bytes: how many there are; sha256: their checksum


class Sink(Protocol):
    """What gets the same records as metrics.jsonl. A resumed run sends those after its checkpoint a second time."""

    def write(self, step: int, member: str, values: Mapping[str, float]) -> None:
        """Takes the values of a member at a step, by name; they may be NaN or infinite."""
        ...

    def flush(self) -> None:
        """Writes to disk what it has taken."""
        ...

    def close(self) -> None:
        """Ends the log: no more records come."""
        ...


class MetricsLog:
    """The open log; `records` holds its content."""

    def __init__(self, path: pathlib.Path, records: Records, sinks: Sequence[Sink]) -> None:
        self.records, self._sinks = records, sinks
        self._file = files.Growing(path) if hosts.first() else None
        self._digest = hashlib.sha256(path.read_bytes() if self._file and path.exists() else b"")

    @classmethod
    def resume(
        cls, path: str | pathlib.Path, step: int, sinks: Sequence[Sink] = (), logged: Content | None = None
    ) -> MetricsLog:
        """Opens the log after `step` (-1: from the start); later records and a torn last line are dropped.

        Args:
          sinks: get what is written from here on.
          logged: of the checkpoint that is resumed, what `content` gave: the log is cut back to that. None: the
            checkpoint is a former version's, which did not know.

        Raises:
            UserError: a line before the last is not a record.
        """
        path = files.path(path)
        hosts.decided(lambda: _cut(path, step, logged))
        return cls(path, series(_kept(path, step)), sinks)

    def content(self) -> Content | None:
        """The size and the checksum of what is written; None in other processes than the first."""
        if self._file is None:
            return None
        return {"bytes": self._file.size(), "sha256": self._digest.hexdigest()}

    def write(self, step: int, member: str, values: Mapping[str, Any]) -> None:
        """Appends one record for each value (a Python, NumPy or JAX number); `flush` writes them to disk."""
        numbers = {name: float(scalar) for name, scalar in values.items()}
        for name, value in numbers.items():
            number = value if math.isfinite(value) else None
            record = {"step": int(step), "member": member, "name": name, "value": number}
            if self._file:
                line = _line(record).encode("utf-8")
                self._file.write(line)
                self._digest.update(line)
            insert(self.records, record)
        for sink in self._sinks:
            sink.write(int(step), member, numbers)

    def flush(self) -> None:
        """Returns when everything is on disk; called before a checkpoint is saved, which relies on the log up to it."""
        if self._file:
            self._file.sync()
        for sink in self._sinks:
            sink.flush()

    def close(self) -> None:
        """Writes everything to disk and ends the log; `records` stays."""
        self.flush()
        if self._file:
            self._file.close()
        for sink in self._sinks:
            sink.close()

    def last_step(self, member: str, prefix: str) -> int:
        """The last step with a record whose name starts with `prefix`; -1 if there is none."""
        names = self.records.get(member, {})
        return max((max(steps) for name, steps in names.items() if name.startswith(prefix)), default=-1)

    def at(self, member: str, step: int, prefix: str) -> dict[str, float]:
        """The values of one step whose names start with `prefix`, by name without it."""
        names = self.records.get(member, {})
        values = {name: steps[step] for name, steps in names.items() if name.startswith(prefix) and step in steps}
        return {name.removeprefix(prefix): value for name, value in values.items()}


def _kept(path: pathlib.Path, step: int) -> list[Record]:
    return [record for record in read_records(path) if record["step"] <= step]


def check_log(path: pathlib.Path, logged: Content | None) -> None:
    """Raises UserError unless the log begins with the content that a checkpoint counts on; None: it does not know."""
    if logged is None or not hosts.first():
        return
    read = _begin(path, logged)
    if len(read) < logged["bytes"] or hashlib.sha256(read).hexdigest() != logged["sha256"]:
        raise UserError(f"{path} does not begin with what was logged up to its step: lines were changed or lost.")


def _begin(path: pathlib.Path, logged: Content) -> bytes:
    return path.read_bytes()[: logged["bytes"]] if path.exists() else b""


def _cut(path: pathlib.Path, step: int, logged: Content | None) -> None:
    """Drops what was written after `logged`, or the records after `step`."""
    kept = _begin(path, logged) if logged else "".join(map(_line, _kept(path, step))).encode()
    with files.whole(path) as partial:
        partial.write_bytes(kept)


def _line(record: Record) -> str:
    return json.dumps(record, allow_nan=False) + "\n"


class EventFiles:
    """TensorBoard's event files, one directory per member, written by TensorFlow without the package tensorboard."""

    def __init__(self, directory: pathlib.Path) -> None:
        import tensorflow as tf

        self._summary, self._outbox, self._writers = tf.summary, files.Outbox(directory), {}
        # The metadata that TensorBoard's own `scalar` attaches: it marks the values as curves.
        self._scalar = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "scalars"}, data_class=1)

    def write(self, step: int, member: str, values: Mapping[str, float]) -> None:
        """Adds values to the member's events; their names are those of the curves."""
        if member not in self._writers:
            self._writers[member] = self._summary.create_file_writer(str(self._outbox.path / member))
        with self._writers[member].as_default():
            for name, value in values.items():
                self._summary.write(name, np.float32(value), step=step, metadata=self._scalar)

    def flush(self) -> None:
        """Writes all buffered events to disk."""
        for writer in self._writers.values():
            writer.flush()
        self._outbox.send()

    def close(self) -> None:
        """Closes the files."""
        for writer in self._writers.values():
            writer.close()
        self._outbox.send()
