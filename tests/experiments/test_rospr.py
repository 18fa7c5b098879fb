"""The page on RoSPr: its tables from results made up by hand."""

from __future__ import annotations

import copy
import pathlib
from typing import Any

import numpy as np
import pytest

from experiments import rospr
from experiments.estimates import student
from infoprompt_jax.rospr.results import VARIED


def result(seed: int) -> dict[str, Any]:
    """Retrieval gains ten points on one data set and loses two on the other, whatever the seed."""
    none = 0.5 + seed / 100
    datasets = {
        "nano/a": {"none": none, "rospr": none + 0.1, "oracle": none + 0.2},
        "nano/b": {"none": none, "rospr": none - 0.02, "oracle": none + 0.2},
    }
    relations = {"every": {"neither": {"pairs": 4, "gain": -0.01, "better": 0.25}}, "retrieved": {}}
    varied = {name: [{"value": 1, "mean": 0.5, "spread": 0}] for name in VARIED}
    found = {"datasets": datasets, "relations": relations, "varied": varied}
    return {name: copy.deepcopy(found) for name in rospr.LIBRARIES}


def test_gains_are_paired_by_seed() -> None:
    """So their intervals are narrow although the seeds differ."""
    lines = rospr.main_table([result(seed) for seed in range(5)], "sources").splitlines()
    assert lines[0] == "| data set, 5 seeds | no prompt | RoSPr | oracle |"
    assert lines[2] == "| a | 52.0 ± 1.6 | 62.0 ± 1.6 | 72.0 ± 1.6 |"
    assert lines[3] == "| minus no prompt |  | **+10.0 [10.0, 10.0]** | **+20.0 [20.0, 20.0]** |"
    assert lines[5].startswith("| minus no prompt |  | **-2.0 [-2.0, -2.0]**")
    assert lines[6].startswith("| mean | 52.0 ± 1.6 | 56.0 ± 1.6")
    assert lines[8] == "| minus RoSPr |  |  | **+16.0 [16.0, 16.0]** |"


def test_the_other_tables() -> None:
    found = [result(seed) for seed in range(3)]
    np.testing.assert_allclose(rospr.scores(found, "both", "mean", "rospr"), [0.54, 0.55, 0.56])
    relations = rospr.relations_table(found).splitlines()[2:]
    assert relations[0] == "| held-in | every | neither | 4 | **-1.0 [-1.0, -1.0]** | 25 |" and len(relations) == 2
    found[0]["both"]["varied"]["top"].append({"value": 2, "mean": 0.5, "spread": 0})
    for other in found[1:]:
        other["both"]["varied"]["top"].append({"value": 2, "mean": 0.6, "spread": 0})
    varied = rospr.varied_table(found).splitlines()[2:]
    assert len(varied) == len(VARIED) + 1 and varied[-2].endswith("| 2 |  | 56.7 ± 5.8 |")
    assert varied[0] == "| n, instances a source prompt | 1 | 50.0 ± 0.0 | 50.0 ± 0.0 |"


def test_gains_of_the_data_sets_that_start_below_guessing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rospr, "BELOW", ("nano/b",))
    lines = rospr.starts_table([result(seed) for seed in range(5)]).splitlines()
    below, others = lines[2:4]
    assert lines[0] == "| library | data sets | RoSPr | oracle |" and len(lines) == 2 + 2 * len(rospr.LIBRARIES)
    start = "| held-in | start below guessing: b | **-2.00 [-2.00, -2.00]** | **+20.00 [20.00, 20.00]** |"
    assert below == start and others.startswith("| held-in | the others: a | **+10.00 [10.00, 10.00]**")


def test_contrasts_are_paired_by_seed() -> None:
    """Format alone gains 1, 2 and 3 points, neither 2 less in each seed, without spread. What one lacks is left out."""
    found = [result(seed) for seed in range(3)]
    for seed, one in enumerate(found):
        one["both"]["relations"]["every"] = {
            "neither": {"gain": (seed - 1) / 100},
            "format alone": {"gain": (seed + 1) / 100},
        }
    found[0]["both"]["relations"]["every"]["family alone"] = {"gain": 0.5}
    lines = rospr.contrasts_table(found).splitlines()[2:]
    assert lines == ["| held-in and others | format alone | neither | **+2.0 [2.0, 2.0]** |"]


def test_intervals_of_few_seeds_are_students() -> None:
    """Of 1 ... 5: 2.776 standard deviations of the mean, which is 0.7071, on each side."""
    mean, low, high = student(np.arange(1.0, 6.0))
    assert (mean, low, high) == pytest.approx((3, 3 - 1.963, 3 + 1.963), abs=1e-3)


def test_the_plot_is_of_all_methods(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict[str, Any]] = []
    plot = rospr.plots.plot_methods
    monkeypatch.setattr(rospr.plots, "plot_methods", lambda *a, **k: (shown.append(a[1]), plot(*a, **k)))
    rospr.draw([result(seed) for seed in range(3)], "both", tmp_path / "plot.png")
    assert list(shown[0]) == ["a", "b"] and list(shown[0]["a"]) == ["none", "rospr", "oracle"]
    assert shown[0]["a"]["rospr"]["mean"] == pytest.approx(0.61)
    assert (tmp_path / "plot.png").stat().st_size > 10_000
