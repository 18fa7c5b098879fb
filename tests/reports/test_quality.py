"""Steps to 90 % of plain prompt tuning's final quality."""

from __future__ import annotations

import pytest

from infoprompt_jax.reports.quality import add_steps_to_quality
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
    members = [{"name": name, "final": {"accuracy": end}} for name, end in ends.items()]
    records: Records = {name: {"eval/accuracy": curve} for name, curve in curves.items()}
    add_steps_to_quality(members, records, ["accuracy"] * len(members))
    steps = {member["name"]: member["to_quality"]["steps"] for member in members if "to_quality" in member}
    assert steps == {"plain-seed0": 20, "plain-seed1": 10, "both-seed0": 10, "both-seed1": None}
    assert members[0]["to_quality"]["accuracy"] == pytest.approx(0.63)
