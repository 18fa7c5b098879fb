"""Verdicts follow from intervals, in the direction of the claim."""

from __future__ import annotations

import pathlib

import pytest

from experiments import pages, rospr, summary
from experiments.claims_results import RESULTS, read


@pytest.mark.parametrize(
    ("effect", "better", "unit", "verdict"),
    [
        ((2.0, 1.0, 3.0), 1, "points", "holds"),
        ((2.0, 1.0, 3.0), -1, "steps", "the opposite"),
        ((-2.0, -3.0, -1.0), -1, "steps", "holds"),
        ((2.0, -1.0, 5.0), 1, "points", "no effect shown"),
        ((0.8, 0.6, 0.9), -1, summary.RATIO, "holds"),
        ((0.8, 0.6, 1.1), -1, summary.RATIO, "no effect shown"),
        ((1.2, 1.1, 1.3), -1, summary.RATIO, "the opposite"),
    ],
)
def test_a_verdict_follows_from_the_interval(
    effect: tuple[float, float, float], better: int, unit: str, verdict: str
) -> None:
    claim = summary.Claim("paper", "claim", "measured", effect, "where", better, unit)
    assert claim.verdict == verdict
    assert claim.cell.startswith("**") == (verdict != "no effect shown") and claim.cell.endswith(unit)


def test_the_verdicts_repeat_the_pages_tables() -> None:
    """The effects stand in docs/rospr.md too, where another function computes them."""
    table = summary.blocks(RESULTS, rospr.RESULTS)[pages.CLAIMS]["verdicts"].splitlines()[2:]
    effects = {tuple(line.split(" | ")[1:3]): line.split(" | ")[4].removesuffix(" points") for line in table}
    rows = [line for line in pages.ROSPR.read_text().splitlines() if line.startswith("| minus ")]
    for claim in (
        ("retrieved prompts help unseen tasks", "RoSPr - no prompt, six tasks; held-in and others"),
        ("INTER helps", "minus RoSPr, six tasks; held-in and others"),
        ("INTER+VAR helps", "minus RoSPr, six tasks; held-in"),
    ):
        assert any(f" {effects[claim]} |" in row for row in rows), claim


def test_an_estimator_is_compared_with_infonce() -> None:
    """On causes, docs/claims-tables.md has +0.6 for js and +0.7 for InfoNCE, both beside plain prompt tuning."""
    results = read(RESULTS)
    assert summary.estimators(results, [results["causes-256"]], ("js",))[0] == pytest.approx(-0.1, abs=0.1)


def test_what_has_no_results_is_not_measured(tmp_path: pathlib.Path) -> None:
    blocks = summary.blocks(tmp_path, tmp_path)
    assert {text for content in blocks.values() for text in content.values()} == {pages.UNMEASURED}
