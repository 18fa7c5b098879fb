"""The generated tables of docs/performance.md: from files, and current."""

from __future__ import annotations

import json
import pathlib

from bench import goals, report
from bench.measured import MISSING, Measured, duration, ratio


def test_the_page_holds_what_the_command_writes() -> None:
    page = report.device.PAGE.read_text()
    for name, text in report.texts().items():
        assert f"<!-- {name} -->\n\n{text}\n\n<!-- end -->" in page, "python -m bench report"


def test_without_files_nothing_is_claimed(tmp_path: pathlib.Path) -> None:
    texts = report.texts(tmp_path)
    assert all(MISSING in text for text in texts.values())
    rows = texts["goals"].splitlines()[2:]
    assert len(rows) == len(goals.GOALS) and all(f"| {MISSING} |" in row for row in rows)


def test_a_goal_is_reached_or_not(tmp_path: pathlib.Path) -> None:
    (tmp_path / "one-core").mkdir()
    records = [
        {"subject": "PEFT", "ratio": 2.4, "ratio_least": 2.3, "ratio_most": 2.5, "p50_seconds": 1.0},
        {"subject": "both terms, features cached", "ratio": 1.04, "p50_seconds": 1.0},
    ]
    (tmp_path / "one-core" / "train_step-v1.1-small.json").write_text(json.dumps({"records": records}))
    lines = goals.goals(Measured(tmp_path)).splitlines()
    assert "| training step, PEFT / ours, one core of an AMD EPYC | >= 2.3 | 2.4 | yes |" in lines
    assert "| InfoPrompt / plain step, one core of the EPYC | <= 1.03 | 1.04 | no |" in lines
    assert ratio(Measured(tmp_path).record("one-core/train_step-v1.1-small", "PEFT")) == "2.40 (2.30 - 2.50)"


def test_durations_have_a_unit_that_fits() -> None:
    assert [duration(s) for s in (0.25, 9.96, 99, 264, 5400, 9e5)] == [
        "0.2 s",
        "10.0 s",
        "99 s",
        "4.4 min",
        "90 min",
        "250 h",
    ]
