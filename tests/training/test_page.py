"""The report of a run: what is on it, and that data are text on it."""

from __future__ import annotations

import logging
import pathlib
from typing import Any

import numpy as np
import pytest
from html_elements import HOSTILE, Elements, assert_fetches_nothing

import infoprompt_jax as ip
from infoprompt_jax import checksums, settings
from infoprompt_jax.reports import curves
from infoprompt_jax.training import page
from infoprompt_jax.training.warning_log import WarningLog

NAMES = ["plain-seed0", "plain-seed1", "both <b>"]


def summary(trained: bool) -> dict[str, Any]:
    """Three members with two templates, one of hostile name."""
    members: list[dict[str, Any]] = []
    for number, name in enumerate(NAMES):
        best = {"accuracy": 0.5 + number / 8, f"accuracy/data:{HOSTILE}": 0.25, "accuracy/data:two": 0.75}
        member = {"name": name, "steps": 9, "best": best, "final": best, "test": {"accuracy": 0.125}}
        members.append(member | {"best_step": 4 * number} if trained else member)
    made = {"members": members, "examples": {"validation": 16, "test": 8}, "backbone": HOSTILE}
    speed = {"steps_per_second": 2.5, "input_wait_share": 0.125, "mfu": None, "training_examples": 32}
    return made | speed if trained else made


def write(workdir: pathlib.Path, trained: bool, warnings: list[str]) -> str:
    config = settings.defaults()
    config.update_from_flattened_dict({"job": "train" if trained else "evaluate", "task.input": HOSTILE})
    checksums.write_json(workdir / "config.json", config.to_dict())
    if trained:
        curves.draw(workdir / "curves.png", {"plain-seed0": {"task_loss": {1: 0.5, 2: 0.25}}}, NAMES)
        for name in NAMES:
            metadata = {"nearest_tokens": [HOSTILE, "good"], "init": "vocabulary", "backbone": "b", "fingerprint": "f"}
            diverged = np.full((2, 4), np.inf, np.float32)  # cannot be loaded; the report names it all the same
            ip.save_prompt(workdir / "prompts" / name, ip.Prompt(diverged, metadata))
    page.write(workdir, summary(trained), warnings)
    return (workdir / "report.html").read_text(encoding="utf-8")


def rows(shown: Elements) -> list[list[str]]:
    """The cells of every table row on the page."""
    found: list[list[str]] = []
    for tag, _, text in shown.elements:
        if tag == "tr":
            found.append([])
        elif tag in ("td", "th"):
            found[-1].append("".join(text))
    return found


def test_a_training_runs_report(tmp_path: pathlib.Path) -> None:
    text = write(tmp_path, True, ["twice", HOSTILE, "twice"])
    assert_fetches_nothing(text)
    shown = Elements(text)
    headings = ["Results", "Curves", "Metrics", "Prompts", "Speed", "Warnings", "Config"]
    assert shown.texts("h2") == headings and shown.texts("h1") == [f"Training run: {tmp_path.name}"]
    found = rows(shown)
    assert ["plain (2 seeds)", "9", "0.5625 ± 0.0884", "2 ± 3", "0.5625 ± 0.0884", "0.1250"] in found
    assert [f"accuracy, data:{HOSTILE}", "0.2500", "0.2500"] in found
    assert ["both <b>", f"{HOSTILE} · good", "8", "vocabulary"] in found
    assert ["steps/s", "2.50"] in found and not [row for row in found if "MFU" in row[0]]
    assert [row for row in found if row[0] == "task.input" and "document.title" in row[1] and row[2] == '""']
    assert not [row for row in found if row[0] == "train.steps"], "that is at its default"
    assert shown.texts("li") == ["twice", HOSTILE]
    assert len([tag for tag, _, _ in shown.elements if tag == "img"]) == 1
    assert any("(step 0) was the best one of plain-seed0" in text for text in shown.texts("p"))


def test_a_run_that_only_got_a_test_split_has_no_speed(tmp_path: pathlib.Path) -> None:
    write(tmp_path, True, [])
    page.write(tmp_path, summary(True) | {"steps_per_second": 0.0}, [])
    assert "Speed" not in Elements((tmp_path / "report.html").read_text(encoding="utf-8")).texts("h2")


def test_an_evaluations_report_has_no_training(tmp_path: pathlib.Path) -> None:
    text = write(tmp_path, False, [])
    assert_fetches_nothing(text)
    shown = Elements(text)
    assert shown.texts("h2") == ["Results", "Metrics", "Warnings", "Config"]
    assert shown.texts("h1") == [f"Evaluation: {tmp_path.name}"] and "None." in shown.texts("p")
    assert ["both <b>", "0.7500", "0.1250"] in rows(shown)


def test_warnings_of_the_package_are_kept_in_their_context(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("infoprompt_jax.data.rows")
    with caplog.at_level(logging.INFO), WarningLog() as warnings:
        log.info("no warning")
        log.warning("%d rows were cut", 3)
        log.error("bad")
        logging.getLogger("other").warning("not of the package")
    log.warning("afterwards")
    assert warnings.messages == ["3 rows were cut", "bad"]
