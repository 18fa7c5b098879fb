"""Steps to 90 % of plain prompt tuning's final quality."""

from __future__ import annotations

import pytest

from infoprompt_jax.reports.quality import steps_to_quality
from infoprompt_jax.reports.records import Records


def test_steps_to_quality_are_counted_against_plain_members_of_the_same_setting() -> None:
    """Plain members end at 0.8 and 0.6: 90 % of their mean is 0.63."""
    ends = {"plain-seed0": 0.8, "plain-seed1": 0.6, "both-seed0": 0.9, "both-seed1": 0.6, "x-both-seed0": 0.9}
    curves = {
        "plain-seed0": {0: 0.5, 10: 0.6, 20: 0.8},
        "plain-seed1": {0: 0.5, 10: 0.65, 20: 0.6},  # once there, it counts, wherever it ends
        "both-seed0": {0: 0.5, 10: 0.7, 20: 0.9},
        "both-seed1": {0: 0.5, 10: 0.6, 20: 0.6},
    }
    final = {name: {"accuracy": end} for name, end in ends.items()}
    records: Records = {name: {"eval/accuracy": curve} for name, curve in curves.items()}
    *compared, alone = steps_to_quality(final, records, ["accuracy"] * len(final))
    assert [one and one["steps"] for one in compared] == [20, 10, 10, None] and alone is None
    assert all(one and one["accuracy"] == pytest.approx(0.63) for one in compared)


def test_plain_members_that_stopped_before_an_evaluation_do_not_count() -> None:
    records = {"both-seed0": {"eval/accuracy": {4: 0.5}}}
    final = {"plain-seed0": {}, "both-seed0": {"accuracy": 0.5}}
    assert steps_to_quality(final, records, ["accuracy"] * 2) == [None, None]
    final |= {"plain-seed1": {"accuracy": 0.4}}
    assert steps_to_quality(final, records, ["accuracy"] * 3)[1] == {"steps": 4, "accuracy": pytest.approx(0.36)}
