"""The log of metrics: bit-exact numbers, torn lines, cutting back to a checkpoint."""

from __future__ import annotations

import json
import math
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from infoprompt_jax.errors import UserError
from infoprompt_jax.reports.records import read_records, series
from infoprompt_jax.training.metrics_log import EventFiles, MetricsLog, check_log


def write_steps(path: pathlib.Path, *steps: int) -> MetricsLog:
    log = MetricsLog.resume(path, -1)
    for step in steps:
        log.write(step, "both-seed0", {"task_loss": 1 / (step + 3), "head_mi": np.float32(0.1) * step})
    log.flush()
    return log


def test_numbers_read_back_bit_for_bit(tmp_path: pathlib.Path) -> None:
    rng = np.random.default_rng(0)
    doubles = rng.normal(size=50) * 10.0 ** rng.integers(-300, 300, 50)
    singles = jnp.float32(rng.normal(size=50))
    log = MetricsLog.resume(tmp_path / "metrics.jsonl", -1)
    for step in range(50):
        log.write(step, "run", {"double": doubles[step], "single": singles[step], "integer": step})
    log.flush()
    records = series(read_records(tmp_path / "metrics.jsonl"))["run"]
    np.testing.assert_array_equal(list(records["double"].values()), doubles)
    np.testing.assert_array_equal(np.float32(list(records["single"].values())), singles)
    assert records == log.records["run"]


def test_a_record_is_one_object_a_line(tmp_path: pathlib.Path) -> None:
    write_steps(tmp_path / "metrics.jsonl", 5)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert lines[0] == '{"step": 5, "member": "both-seed0", "name": "task_loss", "value": 0.125}'
    assert len(lines) == 2


def test_what_is_not_finite_is_null(tmp_path: pathlib.Path) -> None:
    log = MetricsLog.resume(tmp_path / "metrics.jsonl", -1)
    log.write(1, "run", {"a": float("nan"), "b": jnp.float32(-np.inf)})
    log.flush()

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line, parse_constant=refuse)["value"] for line in lines] == [None, None]
    resumed = MetricsLog.resume(tmp_path / "metrics.jsonl", 1)
    assert all(math.isnan(resumed.records["run"][name][1]) for name in "ab")


def test_resume_drops_later_records_and_goes_on(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write_steps(path, 10, 20, 30)
    whole = path.read_bytes()
    log = MetricsLog.resume(path, 20)
    assert log.last_step("both-seed0", "") == 20
    assert [record["step"] for record in read_records(path)] == [10, 10, 20, 20]
    log.write(30, "both-seed0", {"task_loss": 1 / 33, "head_mi": np.float32(0.1) * 30})
    log.flush()
    assert path.read_bytes() == whole  # an interrupted run's log equals an uninterrupted one's


@pytest.mark.parametrize("cut", range(1, 68, 6))
def test_a_torn_last_line_is_dropped(tmp_path: pathlib.Path, cut: int) -> None:
    path = tmp_path / "metrics.jsonl"
    write_steps(path, 10, 20)
    path.write_bytes(path.read_bytes()[:-cut])
    assert [record["step"] for record in read_records(path)] == [10, 10, 20]
    MetricsLog.resume(path, 20).flush()
    assert path.read_bytes().endswith(b"}\n")


@pytest.mark.parametrize("junk", [b"\0\0\0\0\n", b"\xff\xfe", b'{"step": 3}\n', b"17\n"])
def test_junk_in_the_last_line_is_dropped(tmp_path: pathlib.Path, junk: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    write_steps(path, 10)
    path.write_bytes(path.read_bytes() + junk)
    assert len(read_records(path)) == 2


def test_junk_elsewhere_is_a_sentence(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write_steps(path, 10)
    path.write_bytes(b"junk\n" + path.read_bytes())
    with pytest.raises(UserError, match="no metrics record in line 1"):
        MetricsLog.resume(path, 10)
    assert path.read_bytes().startswith(b"junk\n")  # and nothing was lost


def test_values_of_a_step(tmp_path: pathlib.Path) -> None:
    log = MetricsLog.resume(tmp_path / "metrics.jsonl", -1)
    log.write(0, "run", {"eval/accuracy": 0.5, "eval/f1": 0.4})
    log.write(10, "run", {"task_loss": 0.7})
    assert log.last_step("run", "eval/") == 0 and log.last_step("run", "") == 10
    assert log.last_step("run", "test/") == log.last_step("other", "eval/") == -1
    assert log.at("run", 0, "eval/") == {"accuracy": 0.5, "f1": 0.4}
    assert log.at("run", 10, "eval/") == log.at("other", 0, "eval/") == {}


def test_tensorboard_gets_the_same_values(tmp_path: pathlib.Path) -> None:
    tf = pytest.importorskip("tensorflow")
    log = MetricsLog.resume(tmp_path / "metrics.jsonl", -1, [EventFiles(tmp_path / "tensorboard")])
    log.write(7, "both-seed0", {"task_loss": 0.25})
    log.close()
    (events,) = (tmp_path / "tensorboard" / "both-seed0").iterdir()
    found = [
        (event.step, value.tag, value.metadata.plugin_data.plugin_name, float(tf.make_ndarray(value.tensor)))
        for event in tf.compat.v1.train.summary_iterator(str(events))
        for value in event.summary.value
    ]
    assert found == [(7, "task_loss", "scalars", 0.25)]


@pytest.mark.parametrize("damage", ["changed", "lost", "no file"])
def test_a_log_that_a_checkpoint_counts_on_is_checked(tmp_path: pathlib.Path, damage: str) -> None:
    """What was logged after it may be anything."""
    path = tmp_path / "metrics.jsonl"
    log = write_steps(path, 10, 20)
    content = log.content()
    log.close()
    counted = path.read_bytes()
    path.write_bytes(counted + b"junk")
    check_log(path, content)
    lines = counted.splitlines(keepends=True)
    wrong = {"changed": counted.replace(b"task_loss", b"task_lost", 1), "lost": b"".join(lines[1:])}
    path.write_bytes(wrong.get(damage, b""))
    if damage == "no file":
        path.unlink()
    with pytest.raises(UserError, match="does not begin with what was logged"):
        check_log(path, content)


def test_resume_cuts_the_log_back_to_what_the_checkpoint_counts_on(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = write_steps(path, 10, 20)
    content, counted = log.content(), path.read_bytes()
    log.write(20, "both-seed0", {"late": 1})
    log.close()
    resumed = MetricsLog.resume(path, 20, logged=content)
    assert path.read_bytes() == counted and resumed.content() == content
