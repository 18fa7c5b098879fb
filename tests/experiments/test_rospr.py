"""The page on RoSPr: its tables from results made up by hand, and which seeds are trained."""

from __future__ import annotations

import copy
import json
import pathlib
import sys
from typing import Any

import numpy as np
import pytest

from experiments import pages, rospr, rospr_report
from experiments.estimates import student
from experiments.rospr_report import Sides
from infoprompt_jax.rospr.results import VARIED


def result(seed: int, more: float = 0.0) -> dict[str, Any]:
    """Retrieval gains ten points and `more` on one data set and loses two on the other, whatever the seed."""
    none = 0.5 + seed / 100
    datasets = {
        "nano/a": {"none": none, "rospr": none + 0.1 + more, "oracle": none + 0.2},
        "nano/b": {"none": none, "rospr": none - 0.02, "oracle": none + 0.2},
    }
    relations = {"every": {"neither": {"pairs": 4, "gain": -0.01, "better": 0.25}}, "retrieved": {}}
    varied = {name: [{"value": 1, "mean": 0.5, "spread": 0}] for name in VARIED}
    made = {"datasets": datasets, "relations": relations, "varied": varied}
    return {"seed": seed, **{name: copy.deepcopy(made) for name in rospr_report.LIBRARIES}}


def sides(fresh: int = 3) -> Sides:
    return Sides([result(seed, more=0.3) for seed in range(5)], [result(seed) for seed in range(5, 5 + fresh)])


def test_gains_are_of_the_fresh_seeds_beside_the_first_ones() -> None:
    """They are paired by seed, so their intervals are narrow although the seeds differ.

    Only the fresh are bold, and not the oracle's.
    """
    lines = rospr_report.main_table(sides(), "sources").splitlines()
    assert lines[0] == "| data set | measured on | no prompt | RoSPr | oracle |"
    assert lines[2] == "| a | seeds 5-7 | 56.0 ± 1.0 | 66.0 ± 1.0 | 76.0 ± 1.0 |"
    assert lines[3] == "| minus no prompt | seeds 5-7 |  | **+10.0 [10.0, 10.0]** | +20.0 [20.0, 20.0] |"
    assert lines[4] == "| minus no prompt | seeds 0-4 |  | +40.0 [40.0, 40.0] | +20.0 [20.0, 20.0] |"
    assert lines[8].startswith("| mean | seeds 5-7 | 56.0 ± 1.0 | 60.0 ± 1.0")
    assert lines[11] == "| minus RoSPr | seeds 5-7 |  |  | +16.0 [16.0, 16.0] |" and len(lines) == 13


def test_without_fresh_seeds_nothing_is_bold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rospr_report, "BELOW", ("nano/b",))
    made = sides(fresh=0)
    lines = rospr_report.main_table(made, "sources").splitlines()
    assert lines[2] == "| a | seeds 0-4 | 52.0 ± 1.6 | 92.0 ± 1.6 | 72.0 ± 1.6 |"
    assert lines[3] == "| minus no prompt | fresh seeds |  | Not measured. |  |"
    tables = (rospr_report.starts_table, rospr_report.relations_table, rospr_report.varied_table)
    assert all("**" not in text for text in ("".join(lines), *(make(made) for make in tables)))


def test_seeds_are_first_or_fresh_by_their_number(tmp_path: pathlib.Path) -> None:
    """Fresh seeds are not reported before all that are planned are there."""
    for seed in (0, 1, 10, 5, 6, 7, 8):
        (tmp_path / f"{seed}.json").write_text(json.dumps({"both": seed}))
    first, fresh = rospr_report.read(tmp_path)
    assert [one["both"] for one in first] == [0, 1] and [one["seed"] for one in fresh] == [5, 6, 7, 8, 10]
    assert [rospr_report.seeds_of(side) for side in (first, fresh, [])] == [
        "seeds 0-1",
        "seeds 5, 6, 7, 8, 10",
        "fresh seeds",
    ]
    (tmp_path / "10.json").unlink()
    assert rospr_report.read(tmp_path).fresh == []


def test_blocks_name_the_rows_they_were_measured_on(tmp_path: pathlib.Path) -> None:
    assert set(rospr_report.blocks(tmp_path).values()) == {pages.UNMEASURED}
    assert all(block.startswith("On 128 test rows") for block in rospr_report.blocks(rospr_report.RESULTS).values())


def test_the_other_tables() -> None:
    made = [result(seed) for seed in range(3)]
    np.testing.assert_allclose(rospr_report.scores(made, "both", "mean", "rospr"), [0.54, 0.55, 0.56])
    relations = rospr_report.relations_table(Sides(made, [result(5), result(6)])).splitlines()[2:]
    assert relations == ["| every | held-in | neither | 4 | 25 | **-1.0 [-1.0, -1.0]** | -1.0 [-1.0, -1.0] |"]
    made[0]["both"]["varied"]["top"].append({"value": 2, "mean": 0.5, "spread": 0})
    for other in made[1:]:
        other["both"]["varied"]["top"].append({"value": 2, "mean": 0.6, "spread": 0})
    varied = rospr_report.varied_table(Sides(made, [])).splitlines()[2:]
    assert len(varied) == len(VARIED) + 1 and varied[-2].endswith("| 2 |  | 56.7 ± 5.8 |")
    assert varied[0] == "| n, instances a source prompt | 1 | 50.0 ± 0.0 | 50.0 ± 0.0 |"


def test_gains_of_the_data_sets_that_start_below_guessing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rospr_report, "BELOW", ("nano/b",))
    lines = rospr_report.starts_table(sides()).splitlines()
    below, first, others = lines[2:5]
    assert lines[0] == "| library | data sets | measured on | RoSPr | oracle |"
    assert len(lines) == 2 + 4 * len(rospr_report.LIBRARIES)
    start = "| held-in | start below guessing: b | seeds 5-7 | **-2.00 [-2.00, -2.00]** | +20.00 [20.00, 20.00] |"
    assert below == start and first.endswith("| seeds 0-4 | -2.00 [-2.00, -2.00] | +20.00 [20.00, 20.00] |")
    assert others.startswith("| held-in | the others: a | seeds 5-7 | **+10.00 [10.00, 10.00]**")


def with_siblings(seed: int) -> dict[str, Any]:
    """Four held-in pairs lose a point, two siblings of the same format gain 3 + seed, one of neither gains 1 + seed."""
    made = result(seed)
    made["both"]["relations"]["every"] = {
        "neither": {"pairs": 5, "gain": (4 * -0.01 + (1 + seed) / 100) / 5, "better": (4 * 0.25 + 1) / 5},
        "format alone": {"pairs": 2, "gain": (3 + seed) / 100, "better": 0.5},
    }
    return made


def test_siblings_are_what_the_larger_library_adds() -> None:
    added = rospr_report.siblings(with_siblings(2))
    assert added["neither"] == pytest.approx({"pairs": 1, "gain": 0.03, "better": 1.0})
    assert added["format alone"] == pytest.approx({"pairs": 2, "gain": 0.05, "better": 0.5})
    assert rospr_report.siblings(result(0)) == {}  # both libraries hold the same source prompts


def of_tasks(seed: int, **gains: float) -> list[dict[str, Any]]:
    """Two templates of data set a and one of b; with the seed, every source prompt gains more on both."""
    more = {"a": 0.2, "b": 0.0}
    known = {kind.replace("_", " "): gain for kind, gain in gains.items()}
    return [
        {"dataset": name, "gains": {kind: {"gain": more[name] + seed + gain} for kind, gain in known.items()}}
        for name in ("a", "a", "b")
    ]


def test_contrasts_are_within_tasks_and_paired_by_seed() -> None:
    """On each task the format gains two points more than neither, whatever the seed gains there.

    The first seeds did not keep the gains by task: they have no contrast, and held-in prompts have no line.
    """
    first, fresh = ([result(seed) for seed in seeds] for seeds in (range(3), range(5, 8)))
    assert rospr_report.contrasts_table(Sides(first, fresh)) == pages.UNMEASURED
    for one in fresh:
        one["siblings"] = {"by_task": of_tasks(one["seed"], format_alone=0.02, neither=0.0)}
    table = rospr_report.contrasts_table(Sides(first, fresh)).splitlines()
    shown = "| siblings | format alone | neither | 2 | **+2.0 [2.0, 2.0]** |"
    assert table[2:] == [f"{shown}  | +2.0 [2.0, 2.0] |"]
    for one in first:
        one["siblings"] = {"by_task": of_tasks(one["seed"], format_alone=0.03, neither=0.0)}
    table = rospr_report.contrasts_table(Sides(first, fresh)).splitlines()
    assert table[2:] == [f"{shown} +3.0 [3.0, 3.0] | +2.0 [2.0, 2.0] |"]
    first[0]["siblings"] = {}
    assert rospr_report.with_tasks(Sides(first, fresh), "siblings") == Sides([], fresh)


def test_siblings_by_the_first_seeds() -> None:
    """As an independent audit found them: format alone +2.4 [1.6, 3.2], family alone +0.15, both +9.3."""
    first, _ = rospr_report.read(rospr_report.RESULTS)
    kinds = ("format alone", "family alone", "format and family")
    alone, family, both = (rospr_report.relation_gain(first, rospr_report.siblings, kind) for kind in kinds)
    assert alone[:3] == pytest.approx((2.4, 1.6, 3.2), abs=0.05)
    assert (family.value, both.value) == pytest.approx((0.15, 9.3), abs=0.05)


def test_intervals_of_few_seeds_are_students() -> None:
    """Of 1 ... 5: 2.776 standard deviations of the mean, which is 0.7071, on each side."""
    assert student(np.arange(1.0, 6.0))[:3] == pytest.approx((3, 3 - 1.963, 3 + 1.963), abs=1e-3)


def test_only_what_results_lack_is_measured(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of seeds 5, 6 and 7, the first lacks nothing, the second the evaluation with siblings, the third everything."""
    monkeypatch.setattr(rospr, "RESULTS", tmp_path)
    for seed, known in {5: rospr.EVALUATED, 6: rospr_report.LIBRARIES}.items():
        (tmp_path / f"{seed}.json").write_text(json.dumps({name: {"kept": True} for name in known}))
    jobs: list[str] = []

    def start(command: list[str], **_: object) -> None:
        jobs.append(" ".join(command))
        if "runs/7" in jobs[-1]:
            raise InterruptedError

    monkeypatch.setattr(rospr.subprocess, "run", start)
    monkeypatch.setattr(rospr, "extract", lambda workdir: {"of": workdir.name})
    monkeypatch.setattr(sys, "argv", ["rospr", "run", "--first", "5", "--seeds", "3", f"--workdir={tmp_path}/runs"])
    with pytest.raises(InterruptedError):
        rospr.main()
    train, evaluate, other = jobs
    assert "nano_rospr.py:siblings" in train and "runs/6/siblings --config.seed=6" in train
    assert "nano_rospr.py:eval" in evaluate and evaluate.endswith("runs/6/siblings/library")
    assert "nano_rospr.py:sources" in other and "runs/7/sources --config.seed=7" in other
    made = json.loads((tmp_path / "6.json").read_text())
    assert made["siblings"]["of"] == "eval-siblings" and made["siblings"]["machine"]["cores"]
    assert made["sources"] == made["both"] == {"kept": True}


def test_the_plot_is_of_all_methods(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict[str, Any]] = []
    plot = rospr_report.plots.plot_methods
    monkeypatch.setattr(rospr_report.plots, "plot_methods", lambda *a, **k: (shown.append(a[1]), plot(*a, **k)))
    rospr_report.draw([result(seed) for seed in range(3)], "both", tmp_path / "plot.png")
    assert list(shown[0]) == ["a", "b"] and list(shown[0]["a"]) == ["none", "rospr", "oracle"]
    assert shown[0]["a"]["rospr"]["mean"] == pytest.approx(0.61)
    assert (tmp_path / "plot.png").stat().st_size > 10_000
