"""What a run's results become in summary.json."""

from __future__ import annotations

from infoprompt_jax.training.results import MemberResult, Reference, Results

FINGERPRINTS = {"backbone": "b", "data": "d"}


def test_a_trained_fleets_summary() -> None:
    half = {"accuracy": 0.5}
    failed = MemberResult("bad", 1, half, half, best_step=0, mutual_information={}, failed_at_step=2)
    good = MemberResult(
        "good", 9, half, half, 4, test=half, mutual_information={"head_mi": 1.0}, to_quality={"steps": 4}
    )
    speed = {"steps_per_second": 2.0, "mfu": None}
    results = Results(
        [failed, good],
        {"validation": 8},
        "nano",
        "full",
        FINGERPRINTS,
        [Reference("no prompt", half)],
        speed,
        training_examples=7,
    )
    summary = results.to_json()
    assert list(summary) == [
        "members",
        "references",
        "examples",
        "steps_per_second",
        "mfu",
        "training_examples",
        "backbone",
        "weights",
        "fingerprints",
    ]
    assert summary["members"][0] == {
        "name": "bad",
        "steps": 1,
        "final": half,
        "best": half,
        "best_step": 0,
        "mutual_information": {},
        "failed_at_step": 2,
    }
    assert summary["members"][1].keys() == summary["members"][0].keys() - {"failed_at_step"} | {"test", "to_quality"}
    assert summary["references"] == [{"name": "no prompt", "best": half}]


def test_an_evaluation_has_no_entries_of_training() -> None:
    one = MemberResult("run", 0, {"accuracy": 0.5}, {"accuracy": 0.5})
    summary = Results([one], {"validation": 8}, "nano", "int8", FINGERPRINTS).to_json()
    assert summary == {
        "members": [{"name": "run", "steps": 0, "final": {"accuracy": 0.5}, "best": {"accuracy": 0.5}}],
        "examples": {"validation": 8},
        "backbone": "nano",
        "weights": "int8",
        "fingerprints": FINGERPRINTS,
    }
