"""What a run does about the information terms: the head's first steps, gradient shares, warnings, relative noise."""

from __future__ import annotations

import json
import logging
import pathlib
import signal
import time
import types
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
import tiny
import tiny_runs

from infoprompt_jax import jobs, load_prompt, settings
from infoprompt_jax.errors import Stopped, UserError
from infoprompt_jax.fleet.assembly import assemble
from infoprompt_jax.fleet.fleet import Fleet
from infoprompt_jax.fleet.members import Member, expand
from infoprompt_jax.reports.records import read_records, series
from infoprompt_jax.training import speed
from infoprompt_jax.training.estimates import LONG, Estimates, disabled
from infoprompt_jax.training.features import deviation

pytestmark = pytest.mark.usefixtures("programs")


def record(path: pathlib.Path, name: str, member: str = "run") -> dict[int, float]:
    return series(read_records(path / "metrics.jsonl"))[member].get(name, {})


def before_head_step(number: int, act: Callable[[], None]) -> property:
    return tiny_runs.acting("head_step", lambda *arguments: int(arguments[-1]) == number, act)


def exhaust() -> None:
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")


def test_a_run_with_head_steps_starts_elsewhere_and_resumes_bit_for_bit(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"infoprompt__head": "answer", "infoprompt__score": "cosine", "train__steps": 6}
    fields |= {"infoprompt__noise": "relative", "train__eval_every": 0}
    whole = tiny_runs.config(tmp_path, **fields, infoprompt__head_steps=3)
    jobs.run(whole, tmp_path / "whole")
    jobs.run(tiny_runs.config(tmp_path, **fields), tmp_path / "without")
    starts = [record(tmp_path / name, "task_loss")[1] for name in ("whole", "without")]
    assert starts[0] != starts[1]
    with (
        monkeypatch.context() as patch,
        pytest.raises(UserError, match="head start on inputs of 64 tokens needs more memory"),
    ):
        patch.setattr(Fleet, "head_step", before_head_step(0, exhaust))
        jobs.run(whole, tmp_path / "stopped")
    with monkeypatch.context() as patch, pytest.raises(Stopped, match="head start, after 1 of 3 steps"):
        patch.setattr(Fleet, "head_step", before_head_step(0, lambda: signal.raise_signal(signal.SIGTERM)))
        jobs.run(whole, tmp_path / "stopped")
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Fleet, "step", tiny_runs.before_step(4, lambda: signal.raise_signal(signal.SIGTERM)))
        jobs.run(whole, tmp_path / "stopped")
    jobs.run(whole, tmp_path / "stopped")
    logs = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "stopped")]
    assert logs[0] == logs[1]


def test_a_member_that_diverges_in_its_head_start_stops_alone(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    members = ({"name": "good"}, {"name": "bad", "train.learning_rate": 1e30, "infoprompt.estimator": "dv"})
    fields = {"train__steps": 2, "infoprompt__gamma": 0.0, "infoprompt__beta": 0.0, "infoprompt__head": "answer"}
    config = tiny_runs.config(tmp_path, **fields, fleet__members=members, infoprompt__head_steps=2)
    with caplog.at_level(logging.ERROR):
        jobs.run(config, tmp_path / "run")
    (sentence,) = (record.getMessage() for record in caplog.records)
    assert "bad stopped at step 2 of its head start" in sentence and "its last finite prompt is kept" in sentence
    good, bad = json.loads((tmp_path / "run" / "summary.json").read_text())["members"]
    assert good["steps"] == 2 and "failed_at_step" not in good
    assert (bad["steps"], bad["failed_at_step"]) == (0, 1)
    assert [*record(tmp_path / "run", "eval/accuracy", "bad")] == [0] and not record(tmp_path / "run", "loss", "bad")
    assert np.isfinite(load_prompt(tmp_path / "run" / "prompts" / "bad").value_PD).all()


def test_a_run_logs_the_terms_gradient_shares_at_evaluations(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And their time is no part of the steps': here each takes a day, by the clock of the speed."""
    days: list[float] = []
    monkeypatch.setattr(speed, "time", types.SimpleNamespace(monotonic=lambda: time.monotonic() + sum(days)))
    monkeypatch.setattr(
        Fleet, "gradient_norms", tiny_runs.acting("gradient_norms", lambda *_: True, lambda: days.append(86400.0))
    )
    config = tiny_runs.config(tmp_path, train__steps=8, fleet__presets=("plain", "both"))
    jobs.run(config, tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert len(days) == 2 and 8 / summary["steps_per_second"] < days[0]
    head, representation = (
        record(tmp_path / "run", f"gradient_share/{term}", "both") for term in ("head", "representation")
    )
    assert [*head] == [*representation] == [0, 4]
    for step in head:
        assert head[step] > 0 and representation[step] > 0 and head[step] + representation[step] < 1
    assert not record(tmp_path / "run", "gradient_share/head", "plain")


def member(name: str, **terms: Any) -> Member:
    config = settings.defaults()
    config.infoprompt.update(terms)
    return Member(name, config)


def test_an_estimate_without_gradient_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    watch = Estimates()
    a, b, unlimited = member("a"), member("b"), member("c", estimator="nwj")
    with caplog.at_level(logging.WARNING):
        for step in range(3 * LONG):
            watch.observe(a, "head", 3.49, 3.5)
            watch.observe(b, "head", 3.49, 3.5)
            watch.observe(a, "representation", -0.1, 3.5)
            watch.observe(b, "representation", -0.1 if step % LONG else 0.1, 3.5)  # never for long
            watch.observe(unlimited, "head", 99.0, 3.5)
            watch.observe(unlimited, "representation", 0.0, 0.0)
    assert [(record.args[0], record.args[1]) for record in caplog.records if isinstance(record.args, tuple)] == [
        ("a", "head"),
        ("a", "representation"),
        ("c", "representation"),
    ]
    assert all(words in caplog.text for words in ("at its ceiling, 3.50 nats", "below 0 nats", "want of negatives"))


@pytest.mark.parametrize(
    ("term", "nats", "fields", "proposed"),
    [
        ("head", -1.0, {}, "infoprompt.head='conditional', infoprompt.score='cosine' or infoprompt.gamma=0"),
        ("head", -1.0, {"head": "conditional", "score": "cosine"},
         "a higher infoprompt.temperature or infoprompt.gamma=0"),
        ("head", 3.5, {"head_steps": 2}, "infoprompt.score='cosine' or infoprompt.gamma=0"),
        ("representation", 3.5, {"score": "layer_norm"},
         "a higher infoprompt.temperature, other infoprompt.negatives or infoprompt.beta=0"),
    ],
)  # fmt: skip
def test_a_warning_proposes_only_what_would_change(
    term: str, nats: float, fields: dict[str, Any], proposed: str, caplog: pytest.LogCaptureFixture
) -> None:
    watch = Estimates()
    for _ in range(LONG):
        watch.observe(member("a", **fields), term, nats, 3.5)
    assert caplog.records[0].getMessage().endswith(f"try {proposed}.")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"noise": "relative", "noise_scale": 0.5}, {}),
        ({"noise": "relative", "negatives": "shuffled"}, {"noise": "negatives"}),
        ({"noise": "relative", "negatives": "shuffled", "beta": 0.0}, {}),
        ({"noise_scale": 0.5, "variational": True}, {"noise_scale": "variational"}),
        ({"learn_temperature": True}, {"learn_temperature": "score"}),
        ({"learn_temperature": True, "score": "cosine"}, {}),
    ],
)
def test_fields_without_effect_are_known(fields: dict[str, Any], expected: dict[str, str]) -> None:
    config = member("a", **{"gamma": 0.1, "beta": 0.2} | fields).config
    assert disabled(config, assemble(config, expand(config), tiny.backbone()).fleet.objective) == expected


def test_a_run_reports_its_saturated_head_term(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    """The form of the released code, on embeddings as large as T5's: the product saturates at once."""
    config = tiny_runs.config(
        tmp_path, train__learning_rate=30.0, infoprompt__critic="dot", train__warmup=0.0, train__clip_apart=True,
        infoprompt__beta=0.0, train__eval_every=0, train__save_every=0,
    )  # fmt: skip
    with caplog.at_level(logging.WARNING):
        jobs.run(config, tmp_path / "run")
    assert "the head term's estimate was at its ceiling" in caplog.text


def test_negatives_from_rows_and_a_static_prompt_are_reported(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    fields = {"train__steps": 1, "infoprompt__negatives": "labels", "infoprompt__noise": "relative"}
    fields |= {"infoprompt__gamma": 0.0, "train__eval_every": 0}
    with caplog.at_level(logging.WARNING):
        jobs.run(tiny_runs.config(tmp_path, **fields), tmp_path / "static")
        assert "tells nothing about it" in caplog.text
        assert "infoprompt.noise='relative' has no effect with infoprompt.negatives='labels'" in caplog.text
        caplog.clear()
        jobs.run(tiny_runs.config(tmp_path, **fields, prompt__kind="instance"), tmp_path / "instance")
    assert "tells nothing about it" not in caplog.text


def test_the_deviation_is_over_rows() -> None:
    rng = np.random.default_rng(0)
    features = 100 + rng.normal(size=(5000, 1)) * np.array([[3.0, 4.0]])  # a common part does not count
    assert deviation(np.float32(features)) == pytest.approx(np.sqrt((9 + 16) / 2), rel=0.05)
    assert deviation(np.ones((1, 2), np.float32)) == 0
