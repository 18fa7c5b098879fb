"""A run on several hosts equals that on one; what happens when one of them stops, dies or makes a mistake."""

from __future__ import annotations

import json
import pathlib

import ml_collections
import numpy as np
import pytest
import several_hosts
import tiny_runs

from infoprompt_jax import jobs

pytestmark = pytest.mark.usefixtures("programs")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ml_collections.ConfigDict:
    return tiny_runs.config(tmp_path_factory.mktemp("data"), train__steps=4)


@pytest.fixture(scope="module")
def on_one_host(config: ml_collections.ConfigDict, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The run of this process, on eight devices."""
    workdir = tmp_path_factory.mktemp("one")
    jobs.run(config, str(workdir))
    return workdir


def assert_same(found: pathlib.Path, expected: pathlib.Path) -> None:
    """The same records, with the same values to float rounding."""
    logs = [
        [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()] for path in (found, expected)
    ]
    here, there = ([(r["step"], r["member"], r["name"]) for r in records] for records in logs)
    assert here == there
    values = [np.array([record["value"] for record in records]) for records in logs]
    np.testing.assert_allclose(*values, rtol=1e-5, atol=1e-5)


def test_two_processes_train_as_one(
    config: ml_collections.ConfigDict, on_one_host: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    first, second = several_hosts.run(config, tmp_path / "run")
    assert (first.status, second.status) == (0, 0), first.said + second.said
    assert_same(tmp_path / "run", on_one_host)
    assert "best accuracy" in first.printed and "best accuracy" not in second.printed
    assert "step 4: accuracy" in first.said and "accuracy" not in second.said  # the first reports for both
