"""Kills and flips: a few of each, and that a difference would be seen."""

from __future__ import annotations

import pathlib
import random

import pytest

from experiments import kills, tiny_jobs
from experiments.kills import Bench, Outcome
from infoprompt_jax.training.workdir import finish


def test_the_report_counts_kills_and_flips() -> None:
    outcomes = [
        Outcome("kill", "train", 0, 2, "after 1.00, 0.50 of 2.00 s", "equal"),
        Outcome("kill", "train", 1, 1, "after 1.00 of 2.00 s", "different", "metrics.jsonl"),
        Outcome("flip", "train", 0, 0, "finished: byte 3 of workdir/summary.json", "refused"),
        Outcome("flip", "predict", 1, 0, "killed: byte 4 of workdir/config.json", "traceback", "KeyError: 'x'"),
    ]
    page = kills.page(outcomes, 7)
    assert "| train | 3 | 1 of 2 runs | 1 | 1 | 0 | 1 | 0 | 0 |" in page
    assert "| all | 3 | 1 of 2 runs | 2 | 1 | 0 | 1 | 1 | 0 |" in page
    assert "## kill 1, train: different" in page and "    metrics.jsonl" in page
    assert "KeyError: 'x'" in page


def test_what_differs_from_run_to_run_does_not_count() -> None:
    summary = {
        "members": [{"name": "a", "best": {"accuracy": 0.5}}],
        "compile_seconds": 2.0,
        "library": "/tmp/x/library",
        "files": {"report.html": "a checksum"},
    }
    assert tiny_jobs.without_speed(summary) == {"members": [{"name": "a", "best": {"accuracy": 0.5}}]}


def test_a_summary_counts_as_it_is_read(tmp_path: pathlib.Path) -> None:
    finish(tmp_path, {"members": [], "compile_seconds": 2.0})
    assert tiny_jobs.counted(tmp_path) == {"summary.json": {"members": []}}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("kills"), tiny_jobs.JOBS)


@pytest.mark.slow
@pytest.mark.parametrize("job", tiny_jobs.JOBS)
def test_a_killed_job_ends_like_an_undisturbed_one(bench: Bench, job: str) -> None:
    outcome = kills.kill_one(bench, random.Random(f"kill {job}"), job, 0, most=2)
    assert (outcome.outcome, outcome.detail) == ("equal", "")


@pytest.mark.slow
@pytest.mark.parametrize("job", tiny_jobs.JOBS)
def test_a_flipped_byte_changes_no_result(bench: Bench, job: str) -> None:
    outcome = kills.flip_one(bench, random.Random(f"flip {job}"), job, 0)
    assert outcome.outcome in kills.GOOD, outcome


@pytest.mark.slow
def test_a_difference_is_seen(bench: Bench) -> None:
    state = bench.folder / "states" / "train" / "undisturbed"
    log = state / "workdir" / "metrics.jsonl"
    assert bench.judge("train", state) == ("equal", "")
    before = log.read_bytes()
    log.write_bytes(before.replace(b'"step": 1', b'"step": 2', 1))
    try:
        assert bench.judge("train", state) == ("different", "metrics.jsonl")
    finally:
        log.write_bytes(before)


@pytest.mark.slow
def test_the_command_writes_a_report(tmp_path: pathlib.Path) -> None:
    status = kills.main(["--kills", "1", "--flips", "1", "--jobs", "predict", "--out", str(tmp_path)])
    assert status == 0
    assert "| predict | 1 | 1 of 1 runs | 1 |" in (tmp_path / "kills.md").read_text()
