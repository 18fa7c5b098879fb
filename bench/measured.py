"""The files of bench/results as the pages read them. What has no file is not measured."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

RESULTS = pathlib.Path(__file__).parent / "results"
MISSING = "not measured"

Record = Mapping[str, Any]


class Measured:
    """The records in a directory of results, by the file's name (`one-core/train_step-v1.1-small`) and the subject."""

    def __init__(self, results: pathlib.Path = RESULTS) -> None:
        self.results = results

    def content(self, name: str) -> dict[str, Any]:
        """What the file holds; {} where there is none."""
        path = self.results / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def record(self, name: str, subject: str) -> Record | None:
        """A subject's record, or a device's case; None where it was not measured."""
        records = self.content(name).get("records", ())
        found = (r for r in records if subject in (r.get("subject"), r.get("case")))
        return next((r for r in found if r.keys() & {"p50_seconds", "seconds", "part_seconds"}), None)

    def beside(self, name: str, case: str) -> tuple[Record, Record] | None:
        """A device's case, and the one that it stands beside."""
        record = self.record(name, case)
        other = self.record(name, record["beside"]) if record else None
        return (record, other) if record and other else None


def ratio(record: Record | None) -> str:
    """The record's ratio and its spread over the rounds."""
    if record is None:
        return MISSING
    return "{ratio:.2f} ({ratio_least:.2f} - {ratio_most:.2f})".format(**record)


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, with two digits that count."""
    for unit, size in (("s", 1), ("min", 60), ("h", 3600)):
        if seconds < 100 * size or unit == "h":
            break
    value = seconds / size
    return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
