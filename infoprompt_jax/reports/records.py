"""The values that a run logged, read back from its metrics.jsonl.

The log has one record a line: {"step": 10, "member": "both-seed0", "name": "task_loss", "value": 0.69}. A value that
is not finite is null. `training.metrics_log` writes it.
"""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Iterable
from typing import Any

from infoprompt_jax import files
from infoprompt_jax.errors import UserError

FIELDS = ("step", "member", "name", "value")

Record = dict[str, Any]  # one line: the FIELDS
Records = dict[str, dict[str, dict[int, float]]]  # member -> name -> step -> value; NaN where the file has null


def read_records(path: str | pathlib.Path) -> list[Record]:
    """The records of a log in order, without a torn last line; none where there is no file.

    Raises:
      UserError: a line before the last is not a record.
    """
    path = files.path(path)
    *lines, _torn = path.read_bytes().split(b"\n") if path.exists() else [b""]
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            records.append({field: record[field] for field in FIELDS})
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                break  # a machine that loses power may leave anything in the last line
            raise UserError(
                f"{path} holds no metrics record in line {number}: remove that line, or choose another --workdir."
            ) from error
    return records


def series(records: Iterable[Record]) -> Records:
    """Records by member, name and step."""
    by_member: Records = {}
    for record in records:
        insert(by_member, record)
    return by_member


def insert(records: Records, record: Record) -> None:
    """Adds a record; a later one of the same member, name and step takes the place of the earlier."""
    value = math.nan if record["value"] is None else record["value"]
    records.setdefault(record["member"], {}).setdefault(record["name"], {})[record["step"]] = value
