"""Curves, tables and JSON files."""

from __future__ import annotations

import json
import pathlib
import struct
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from infoprompt_jax import files
from infoprompt_jax.reports import report
from infoprompt_jax.reports.report import Records


def fleet_records(members: list[str], steps: int = 60) -> Records:
    rng = np.random.default_rng(0)
    names = {
        "task_loss": 1,
        "head_mi": 1,
        "representation_mi": 1,
        "eval/accuracy": 20,
        "eval/f1": 20,
        "prompt_norm": 20,
    }
    return {
        member: {name: {step: float(rng.random()) for step in range(0, steps, every)} for name, every in names.items()}
        for member in members
    }


def png_size(path: pathlib.Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


@pytest.mark.parametrize(
    "members",
    [
        ["run"],
        ["plain-seed0", "both-seed0"],
        [f"{v}-seed{s}" for v in ("a", "b") for s in range(5)],
        list("abcdefghij"),
    ],
)
def test_curves_of_any_fleet(tmp_path: pathlib.Path, members: list[str]) -> None:
    report.curves(tmp_path / "curves.png", fleet_records(members), members)
    width, height = png_size(tmp_path / "curves.png")
    assert 1000 < width < 3000 and 500 < height < 2000
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def test_curves_show_what_was_logged(tmp_path: pathlib.Path) -> None:
    records: Records = {"run": {"task_loss": {1: 0.5, 2: float("nan")}, "gradient_norm": {1: 1.0}}}
    panels = report._panels(records, ["run", "absent"])
    assert [names for _, names, _ in panels] == [{"task_loss": ""}]
    report.curves(tmp_path / "curves.png", records, ["run", "absent"])
    assert png_size(tmp_path / "curves.png")
    report.curves(tmp_path / "none.png", {"run": {"gradient_norm": {1: 1.0}}}, ["run"])
    assert not (tmp_path / "none.png").exists()


def test_the_first_evaluation_metric_is_drawn() -> None:
    panels = report._panels(fleet_records(["run"]), ["run"])
    assert ("Evaluation: accuracy", {"eval/accuracy": "accuracy"}, False) in panels


def test_noisy_curves_are_centred_running_means() -> None:
    values = {step: float(step % 2) for step in range(100)}
    values[40] = float("nan")  # left out
    steps, smooth = report._curve(values, noisy=True)  # 5 % of 99 points: 2 on each side
    assert len(steps) == 99 and 40 not in steps
    np.testing.assert_allclose(smooth[:3], [1 / 3, 1 / 2, 2 / 5])
    raw_steps, raw = report._curve({3: 0.0, 1: 2.0}, noisy=False)
    np.testing.assert_array_equal([raw_steps, raw], [[1, 3], [2, 0]])


def test_bands_span_the_members_that_have_the_step() -> None:
    long, short = (np.array([0.0, 1, 2]), np.array([1.0, 2, 3])), (np.array([0.0, 1]), np.array([3.0, 6]))
    steps, low, mean, high = report._band([long, short])
    np.testing.assert_array_equal([steps, low, mean, high], [[0, 1, 2], [1, 2, 3], [2, 4, 3], [3, 6, 3]])


def test_variants() -> None:
    members = ["plain-seed0", "both-seed10", "plain-seed1", "run", "a-seedling"]
    assert report.group(members) == {
        "plain": ["plain-seed0", "plain-seed1"],
        "both": ["both-seed10"],
        "run": ["run"],
        "a-seedling": ["a-seedling"],
    }


def test_table() -> None:
    members = [
        {"name": "plain-seed0", "steps": 100, "best": {"accuracy": 0.6, "f1": 0.1}, "final": {"accuracy": 0.5}},
        {"name": "plain-seed1", "steps": 100, "best": {"accuracy": 0.7, "f1": 0.1}, "final": {"accuracy": 0.5}},
        {"name": "both", "steps": 80, "best": {"accuracy": None}, "mutual_information": {"head": 1.25}},
    ]
    assert report.table({"members": members}).splitlines() == [
        "member           steps    best accuracy  final accuracy  MI head",
        "----------------------------------------------------------------",
        "plain (2 seeds)    100  0.6500 ± 0.0707          0.5000        -",
        "both                80                -               -   1.2500",
    ]


def test_steps_to_quality_are_counted_against_plain_members_of_the_same_setting() -> None:
    """Plain members end at 0.8 and 0.6: 90 % of their mean is 0.63."""
    ends = {"plain-seed0": 0.8, "plain-seed1": 0.6, "both-seed0": 0.9, "both-seed1": 0.6, "x-both-seed0": 0.9}
    curves = {
        "plain-seed0": {0: 0.5, 10: 0.6, 20: 0.8},
        "plain-seed1": {0: 0.5, 10: 0.65, 20: 0.6},  # once there, it counts, wherever it ends
        "both-seed0": {0: 0.5, 10: 0.7, 20: 0.9},
        "both-seed1": {0: 0.5, 10: 0.6, 20: 0.6},
    }
    members = [{"name": name, "final": {"accuracy": end}} for name, end in ends.items()]
    records: Records = {name: {"eval/accuracy": curve} for name, curve in curves.items()}
    report.add_steps_to_quality(members, records, ["accuracy"] * len(members))
    found = {member["name"]: member["to_quality"]["steps"] for member in members if "to_quality" in member}
    assert found == {"plain-seed0": 20, "plain-seed1": 10, "both-seed0": 10, "both-seed1": None}
    assert members[0]["to_quality"]["accuracy"] == pytest.approx(0.63)


def test_references_stand_above_the_members() -> None:
    summary = {
        "references": [{"name": "no prompt", "best": {"accuracy": 0.5}}],
        "members": [{"name": "run", "steps": 3, "best": {"accuracy": 0.75}}],
    }
    assert [line.split() for line in report.table(summary).splitlines()[2:]] == [
        ["no", "prompt", "-", "0.5000"],
        ["run", "3", "0.7500"],
    ]


def test_write_json_is_strict_and_replaces_whole(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "deep" / "summary.json"
    value = {"a": np.float32(0.5), "b": [jnp.arange(2), float("inf")], 3: (np.int64(4), None, "é"), "n": np.nan}
    files.write_json(path, value)
    assert json.loads(path.read_text()) == {"a": 0.5, "b": [[0, 1], None], "3": [4, None, "é"], "n": None}
    with pytest.raises(TypeError):
        files.write_json(path, {"a": object()})
    assert json.loads(path.read_text())["a"] == 0.5
    assert [p.name for p in path.parent.iterdir()] == ["summary.json"]


def test_importing_is_light() -> None:
    code = "import sys, infoprompt_jax.reports.report; print({'matplotlib', 'tensorflow', 'clu'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_half_a_surrogate_pair_is_kept(tmp_path: pathlib.Path) -> None:
    files.write_json(tmp_path / "x.json", {"text": "a\ud800\u00e9"})
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == {"text": "a\ud800\u00e9"}
