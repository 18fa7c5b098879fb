"""Curves of a run's log."""

from __future__ import annotations

import pathlib
import struct
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from infoprompt_jax.reports import curves
from infoprompt_jax.reports.records import Records


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


def note(figure: Figure) -> str:
    return figure.get_supxlabel()


def lines(axes: Axes) -> list[tuple[list[float], list[float]]]:
    """Steps and values of the lines drawn; those of the legend are empty."""
    drawn = [[np.asarray(values).tolist() for values in line.get_data()] for line in axes.lines]
    return [(steps, values) for steps, values in drawn if steps]


@pytest.mark.parametrize(
    "members",
    [
        ["run"],
        ["plain-seed0", "both-seed0"],
        [f"{v}-seed{s}" for v in ("a", "b") for s in range(5)],
        list("abcdefghij"),
        ["$$", "a$_$b", "^{$", "_hidden", "a|<b>`"],  # no formulas, and all are in the legend
    ],
)
def test_curves_of_any_fleet(tmp_path: pathlib.Path, members: list[str]) -> None:
    curves.draw(tmp_path / "curves.png", fleet_records(members), members)
    width, height = png_size(tmp_path / "curves.png")
    assert 1000 < width < 3000 and 500 < height < 2000
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def test_every_member_is_in_the_legend() -> None:
    """Matplotlib leaves out what begins with an underscore."""
    figure = curves.figure(fleet_records(["_hidden", "b$"]), ["_hidden", "b$"])
    assert figure and [text.get_text().strip() for text in figure.legends[0].get_texts()] == ["_hidden", "b$"]


def test_curves_show_what_was_logged(tmp_path: pathlib.Path) -> None:
    records: Records = {"run": {"task_loss": {1: 0.5, 2: float("nan")}, "gradient_norm": {1: 1.0}}}
    figure = curves.figure(records, ["run", "absent"])
    assert figure and [axes.get_title(loc="left") for axes in figure.axes] == ["Task loss, nats"]
    assert lines(figure.axes[0]) == [([1], [0.5])]
    curves.draw(tmp_path / "none.png", {"run": {"gradient_norm": {1: 1.0}}}, ["run"])
    assert not (tmp_path / "none.png").exists()


def test_the_first_evaluation_metric_is_drawn() -> None:
    figure = curves.figure(fleet_records(["run"]), ["run"])
    assert figure and [axes.get_title(loc="left") for axes in figure.axes] == [
        "Task loss, nats",
        "Evaluation: accuracy",
        "Mutual information (estimate), nats",
        "Prompt norm, mean over tokens",
    ]
    steps, _ = lines(figure.axes[1])[0]
    assert len(lines(figure.axes[1])) == 1 and steps == [0, 20, 40]


def test_noisy_curves_are_centred_running_means() -> None:
    losses = {step: float(step % 2) for step in range(100)}
    losses[40] = float("nan")  # left out
    figure = curves.figure({"run": {"task_loss": losses, "prompt_norm": {3: 0.0, 1: 2.0}}}, ["run"])
    assert figure
    ((steps, smooth),) = lines(figure.axes[0])  # 5 % of 99 points: 2 on each side
    assert len(steps) == 99 and 40 not in steps
    np.testing.assert_allclose(smooth[:3], [1 / 3, 1 / 2, 2 / 5])
    assert lines(figure.axes[1]) == [([1, 3], [2, 0])]


def test_bands_span_the_members_that_have_the_step() -> None:
    norms = [{0: 1.0, 1: 2.0, 2: 3.0}, {0: 3.0, 1: 6.0}, {0: 5.0, 1: 4.0}]
    members = [f"plain-seed{seed}" for seed in range(len(norms))]
    figure = curves.figure({name: {"prompt_norm": norm} for name, norm in zip(members, norms, strict=True)}, members)
    assert figure
    (axes,) = figure.axes
    assert lines(axes) == [([0, 1, 2], [3, 4, 3])]
    corners = {tuple(point) for point in axes.collections[0].get_paths()[0].vertices.tolist()}
    assert corners == {(0, 1), (1, 2), (2, 3), (0, 5), (1, 6)}
    assert note(figure).endswith("Lines: mean over seeds; bands: lowest to highest seed.")


@pytest.mark.parametrize(
    ("members", "count", "banded", "words"),
    [
        (["run"], 1, False, ""),
        (["plain", "both"], 2, False, ""),
        (["plain-seed0", "both-seed0"], 2, False, ""),
        (["plain-seed0", "plain-seed1", "both-seed0", "both-seed1"], 2, True, "seeds"),
        (["plain-seed0", "plain-seed1", "both"], 2, True, "seeds"),
        (list("abcdefghij"), 1, True, "members"),
    ],
)
def test_seeds_share_a_line_and_others_have_their_own(members: list[str], count: int, banded: bool, words: str) -> None:
    figure = curves.figure({name: {"prompt_norm": {0: 1.0, 9: 2.0}} for name in members}, members)
    assert figure
    assert len(lines(figure.axes[0])) == count and bool(figure.axes[0].collections) == banded
    assert (f"mean over {words}" in note(figure)) == banded


def test_importing_is_light() -> None:
    modules = "infoprompt_jax.reports.curves, infoprompt_jax.reports.final_table"
    code = f"import sys, {modules}; print({{'matplotlib', 'tensorflow', 'jax'}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
