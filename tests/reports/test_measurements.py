"""Files of results."""

from __future__ import annotations

import json
import pathlib
import socket

from infoprompt_jax.reports import measurements


def test_a_file_names_the_machine_and_rounds_its_records(tmp_path: pathlib.Path) -> None:
    records = [{"subject": "a", "seconds": 1 / 3, "of": {"each": [2e-7 / 3, 12]}}]
    measurements.save(tmp_path / "new", "step", records, size={"batch": 8})
    content = json.loads((tmp_path / "new" / "step.json").read_text())
    assert content["records"] == [{"subject": "a", "seconds": 0.33333, "of": {"each": [6.6667e-8, 12]}}]
    assert content["size"] == {"batch": 8}
    assert content["machine"]["cores"] >= 1 and content["machine"]["jax"]


def test_a_machine_has_no_name() -> None:
    assert socket.gethostname() not in json.dumps(measurements.machine())
