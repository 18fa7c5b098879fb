"""The table printed at the end of a run."""

from __future__ import annotations

from infoprompt_jax.reports import final_table


def test_seeds_are_one_line_and_what_is_missing_a_dash() -> None:
    members = [
        {"name": "plain-seed0", "steps": 100, "best": {"accuracy": 0.6, "f1": 0.1}, "final": {"accuracy": 0.5}},
        {"name": "plain-seed1", "steps": 100, "best": {"accuracy": 0.7, "f1": 0.1}, "final": {"accuracy": 0.5}},
        {"name": "both", "steps": 80, "best": {"accuracy": None}, "mutual_information": {"head": 1.25}},
    ]
    assert final_table.table({"members": members}).splitlines() == [
        "member           steps    best accuracy  final accuracy  MI head",
        "----------------------------------------------------------------",
        "plain (2 seeds)    100  0.6500 ± 0.0707          0.5000        -",
        "both                80                -               -   1.2500",
    ]


def test_references_stand_above_the_members() -> None:
    summary = {
        "references": [{"name": "no prompt", "best": {"accuracy": 0.5}}],
        "members": [{"name": "run", "steps": 3, "best": {"accuracy": 0.75}}],
    }
    assert [line.split() for line in final_table.table(summary).splitlines()[2:]] == [
        ["no", "prompt", "-", "0.5000"],
        ["run", "3", "0.7500"],
    ]
