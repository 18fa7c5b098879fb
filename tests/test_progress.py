"""Lines while a job works: by the clock, and never at the price of a device that waits."""

from __future__ import annotations

import io
import itertools
import logging
import pathlib
import re
from typing import Any

import pytest
import tiny_runs

from infoprompt_jax import jobs
from infoprompt_jax.fleet.fleet import Fleet
from infoprompt_jax.progress import Progress, Rhythm, pace, watched


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> Any:
    with caplog.at_level(logging.INFO, logger="infoprompt_jax"):
        yield


def test_lines_grow_rarer_as_a_run_grows_longer(clock: Clock) -> None:
    rhythm, due = Rhythm(now=clock), []
    for clock.seconds in range(36_000):
        if rhythm.due():
            due.append(clock.seconds)
    gaps = [after - before for before, after in itertools.pairwise(due)]
    assert due[:3] == [10, 20, 30] and gaps == sorted(gaps) and gaps[-1] == 300
    assert len([second for second in due if second < 3600]) < 110


@pytest.mark.parametrize(
    ("count", "seconds", "shown"),
    [
        (13804, 10, "1,380 rows/s"),
        (25, 10, "2.5 rows/s"),
        (99.7, 10, "10 rows/s"),
        (4, 10, "24 rows/min"),
        (1, 50, "1.2 rows/min"),
        (2, 300, "24 rows/h"),
    ],
)
def test_a_slow_pace_has_a_number(count: float, seconds: float, shown: str) -> None:
    assert pace(count, seconds, "rows") == shown


def test_what_takes_long_is_reported(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    for _ in watched(range(20), "Evaluation, batches", 20, now=clock):
        clock.seconds += 4
    for _ in watched(range(20), "Keys", now=clock):
        clock.seconds += 0.1
    assert caplog.messages[:2] == ["Evaluation, batches: 3 of 20 done.", "Evaluation, batches: 6 of 20 done."]
    assert not any("Keys" in message for message in caplog.messages)


def test_a_line_has_step_loss_speed_and_what_is_left(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """A step of 8 examples takes 2 s, an evaluation every 10 steps takes 5 s, and compilation 30 s and then 7 s."""
    compiled = Clock()
    with Progress(0, 40, 8, 10, compiled, io.StringIO(), clock) as progress:
        progress.begin()
        clock.seconds, compiled.seconds = 32, 30
        for step in range(1, 41):
            progress.report(step, 1 / step)
            clock.seconds += 2 + 7 * (step == 3)
            compiled.seconds += 7 * (step == 3)
            if step % 10 == 0:
                with progress.pause():
                    clock.seconds += 5
    first, second, third, fourth, *_ = caplog.messages[1:]
    assert caplog.messages[0] == "Compiling the training step."
    assert first == "step 1/40: loss 1.0000, 32 s with compilation, evaluation in 9 steps"
    assert second == "step 4/40: loss 0.2500, 4 examples/s, 0:01:12 left, evaluation in 6 steps"
    assert third.startswith("step 9/40: loss 0.1111, 4 examples/s, 0:01:02 left, evaluation in 1 step")
    assert fourth == "step 12/40: loss 0.0833, 4 examples/s, 0:01:09 left, evaluation in 8 steps"


def test_a_line_has_the_utilisation_of_a_chip_whose_peak_is_known(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with Progress(0, 2, 8, stream=io.StringIO(), now=clock) as progress:
        progress.begin()
        progress.report(1, 0.5, mfu=0.414)
    assert caplog.messages[-1].startswith("step 1/2: loss 0.5000, 0 s with compilation, MFU 41.4%")


def test_a_line_without_evaluations_and_at_one(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    for every in (0, 5):
        with Progress(4, 8, 1, every, stream=io.StringIO(), now=clock) as progress:
            progress.begin()
            progress.report(5, 0.5)
    assert caplog.messages[1::2] == [
        "step 5/8: loss 0.5000, 0 s with compilation",
        "step 5/8: loss 0.5000, 0 s with compilation, evaluation next",
    ]


def test_a_terminal_has_a_bar(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    terminal = Terminal()
    with Progress(0, 3, 8, 2, stream=terminal, now=clock) as progress:
        progress.begin()
        for step in (1, 2, 3):
            clock.seconds += 1
            progress.report(step, 0.25)
    assert caplog.messages == ["Compiling the training step."]
    shown = terminal.getvalue()
    assert "3/3" in shown and "loss 0.2500, 8 examples/s" in shown


@pytest.mark.usefixtures("programs")
def test_a_step_is_dispatched_before_the_one_before_is_shown(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Only an evaluation or a save needs the step before. All steps are reported; lines are few."""
    events: list[str] = []
    monkeypatch.setattr(Fleet, "step", tiny_runs.acting("step", lambda state, *_: True, lambda: events.append("step")))
    report = Progress.report
    monkeypatch.setattr(
        Progress, "report", lambda self, *rest: (events.append(f"shown {rest[0]}"), report(self, *rest))
    )
    fields = {"train__steps": 4, "train__eval_every": 0, "train__save_every": 0, "infoprompt__beta": 0.0}
    jobs.run(tiny_runs.config(tmp_path, **fields), str(tmp_path / "run"))
    assert events == ["step", "step", "shown 1", "step", "shown 2", "step", "shown 3", "shown 4"]
    lines = [message for message in caplog.messages if re.match(r"step \d+/4: loss", message)]
    assert len(lines) == 1 and lines[0].startswith("step 1/4: ")
