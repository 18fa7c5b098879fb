"""Verdicts follow from the fresh seeds' corrected p-values, in the direction of the claim."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from xml.etree import ElementTree

import pytest

from experiments import pages, summary, verdicts
from experiments.claims_results import RESULTS, read
from experiments.estimates import Estimate

UP, DOWN, NONE = Estimate(2, 1, 3, 0.001), Estimate(-2, -3, -1, 0.001), Estimate(2, -1, 5, 0.2)
SMALLER, LARGER = Estimate(0.8, 0.6, 0.9, 0.01), Estimate(1.2, 1.1, 1.3, 0.01)


@pytest.mark.parametrize(
    ("first", "fresh", "better", "unit", "verdict", "replicated"),
    [
        (UP, UP, 1, "points", "holds", "yes"),
        (UP, UP, -1, "steps", "the opposite", "yes"),
        (UP, DOWN, -1, "steps", "holds", "no"),
        (UP, NONE, 1, "points", "no effect shown", "no"),
        (NONE, UP, 1, "points", "holds", "first seeds show no effect"),
        (None, UP, 1, "points", "holds", "fresh seeds only"),
        (UP, None, 1, "points", "exploration only", "not measured again"),
        (SMALLER, SMALLER, -1, verdicts.RATIO, "holds", "yes"),
        (SMALLER, LARGER, -1, verdicts.RATIO, "the opposite", "no"),
    ],
)
def test_a_verdict_is_of_the_fresh_seeds(
    first: Estimate | None, fresh: Estimate | None, better: int, unit: str, verdict: str, replicated: str
) -> None:
    claim = verdicts.Claim("claim", "measured", first, fresh, better, unit)
    row = verdicts.verdict_table([claim]).splitlines()[2].strip("| ").split(" | ")
    assert row[2] == verdict and row[-1] == replicated
    assert row[3].startswith("**") is False and row[4].startswith("**") == (verdict in ("holds", "the opposite"))


def test_verdicts_are_corrected_for_the_whole_table() -> None:
    """0.03 holds alone and not beside another of 0.03; claims without fresh seeds do not count."""
    claim = verdicts.Claim("a", "b", UP, Estimate(2, 1, 3, 0.03))
    explored = verdicts.Claim("a", "b", UP, None)
    assert [row.split(" | ")[2::3] for row in verdicts.verdict_table([claim, explored]).splitlines()[2:]] == [
        ["holds", "0.030"],
        ["exploration only", ""],
    ]
    assert "| no effect shown | +2.0 [1.0, 3.0] points | +2.0 [1.0, 3.0] points | 0.060 | no |" in (
        verdicts.verdict_table([claim, claim])
    )


def test_the_verdicts_repeat_the_pages_tables() -> None:
    """The effects stand in docs/rospr.md too."""
    table = summary.blocks(summary.Folders())[pages.CLAIMS]["verdicts"].splitlines()[2:]
    first = {line.split(" | ")[1].partition("]")[0]: line.split(" | ")[3].removesuffix(" points") for line in table}
    rows = [line for line in pages.ROSPR.read_text().splitlines() if line.startswith("| minus ")]
    for claim in (
        "[RoSPr - no prompt, six tasks; held-in and others",
        "[minus RoSPr, six tasks; held-in and others",
        "[minus RoSPr, six tasks; held-in",
    ):
        assert any(f" {first[claim]} |" in row for row in rows), claim


def test_an_estimator_is_compared_with_infonce() -> None:
    """On causes, docs/claims-tables.md has +0.6 for js and +0.7 for InfoNCE, both beside plain prompt tuning."""
    results = read(RESULTS)
    assert summary.estimators(results, [results["causes-256"]], ("js",)).value == pytest.approx(-0.1, abs=0.1)


def test_what_has_no_results_is_not_measured(tmp_path: pathlib.Path) -> None:
    nowhere = summary.Folders(tmp_path, tmp_path, tmp_path, tmp_path, tmp_path)
    blocks = summary.blocks(nowhere)
    assert {text for content in blocks.values() for text in content.values()} == {pages.UNMEASURED}
    assert not summary.drawn(nowhere)


@pytest.mark.parametrize(
    ("block", "name", "columns"),
    [("verdicts", "verdicts.svg", slice(3, 5)), ("verdicts mini", "verdicts-mini.svg", slice(3, 4))],
)
def test_the_charts_of_the_verdicts_have_the_tables_numbers(block: str, name: str, columns: slice) -> None:
    """And docs/charts has these charts."""
    table = summary.blocks(summary.Folders())[pages.CLAIMS][block].splitlines()[2:]
    cells = [cell.strip("* ") for line in table for cell in line.split(" | ")[columns] if cell.strip()]
    chart = summary.drawn(summary.Folders())[name]
    texts = [title.text or "" for title in ElementTree.fromstring(chart).findall(".//{*}g/{*}title")]
    assert sorted(text.partition(": ")[2] for text in texts) == sorted(cells) and len(texts) >= len(table) > 20
    current = (pages.CHARTS / name).read_text(encoding="utf-8") == chart
    assert current, "python -m experiments.claims report"


def test_what_is_measured_on_mini_changes_no_verdict_on_nano(tmp_path: pathlib.Path) -> None:
    without = dataclasses.replace(summary.Folders(), real=tmp_path, real_rospr=tmp_path)
    table, bare = (summary.blocks(folders)[pages.CLAIMS]["verdicts"] for folders in (summary.Folders(), without))
    assert table == bare and "| holds |" in table


def test_a_confirmation_has_no_columns_of_first_seeds() -> None:
    """0.001 of two is 0.002 after the correction: it holds, and is bold."""
    claims = [verdicts.Claim("a", "b", None, effect) for effect in (UP, NONE, None)]
    assert verdicts.confirmation_table(claims).splitlines() == [
        "| claim of the paper | measured as | verdict | effect | p, Holm |",
        "| --- | --- | --- | --- | --- |",
        "| a | b | holds | **+2.0 [1.0, 3.0] points** | 0.002 |",
        "| a | b | no effect shown | +2.0 [-1.0, 5.0] points | 0.200 |",
        "| a | b | exploration only |  |  |",
    ]


def test_readmes_tables_repeat_the_pages(tmp_path: pathlib.Path) -> None:
    """The means of both pages, and a task that has not run with all examples."""
    folders = summary.Folders(real=tmp_path)
    for path in summary.Folders().real.glob("*.json"):
        if not path.name.startswith("mrpc-full"):
            (tmp_path / path.name).symlink_to(path)
    without = summary.blocks(folders)[pages.README]["results"]
    assert re.search(r"^\| mrpc \| 68 \| 59 \| 64\.7 \| 67\.0 \| - \|.* \| - \|$", without, re.M)
    readme = summary.blocks(summary.Folders())[pages.README]
    (mean,) = [line for line in readme["results"].splitlines() if line.startswith("| mean of the 9 |")]
    for shots, cell in zip(("64", "256", "all"), mean.strip("| ").split(" | ")[-3:], strict=True):
        assert f"| mean of the 9 | {shots} |  |  |  | {cell} |" in pages.CLAIMS.read_text()
    lines = [line for line in pages.ROSPR.read_text().splitlines() if line.startswith("| minus no prompt |")]
    for line in readme["rospr"].splitlines()[2:]:
        gains = " | ".join(line.strip("| ").split(" | ")[2:])
        assert any(gains in other for other in lines), line
