"""The table printed at the end of a run."""

from __future__ import annotations

from infoprompt_jax.reports import final_table


def test_seeds_are_one_line_and_what_is_missing_a_dash() -> None:
    half = {"accuracy": 0.5}
    members = [
        {"name": "plain-seed0", "steps": 100, "best": {"accuracy": 0.6, "f1": 0.1}, "best_step": 60, "final": half},
        {"name": "plain-seed1", "steps": 100, "best": {"accuracy": 0.7, "f1": 0.1}, "best_step": 80, "final": half},
        {
            "name": "both",
            "steps": 80,
            "best": {"accuracy": None},
            "best_step": 20,
            "mutual_information": {"head_mi": 1.25},
        },
    ]
    assert final_table.table({"members": members}).splitlines() == [
        "member           steps    best accuracy  best step  final accuracy  head MI, nats",
        "---------------------------------------------------------------------------------",
        "plain (2 seeds)    100  0.6500 ± 0.0707    70 ± 14          0.5000              -",
        "both                80                -         20               -         1.2500",
    ]


def test_references_stand_above_the_members() -> None:
    summary = {
        "references": [{"name": "no prompt", "best": {"accuracy": 0.5}}],
        "members": [{"name": "run", "steps": 3, "best": {"accuracy": 0.75}, "best_step": 3}],
    }
    assert [line.split() for line in final_table.table(summary).splitlines()[2:]] == [
        ["no", "prompt", "-", "0.5000", "-"],
        ["run", "3", "0.7500", "3"],
    ]


def test_what_training_did_not_improve_is_named() -> None:
    def member(name: str, best_step: int, **more: int) -> dict[str, object]:
        return {"name": name, "steps": 9, "best": {"accuracy": 0.5}, "best_step": best_step, **more}

    members = [member("a", 0), member("b", 4), member("c", 0, failed_at_step=2)]
    assert final_table.table({"members": members}).splitlines()[-2:] == [
        "c stopped at step 2: its loss was not finite.",
        "The untrained prompt (step 0) was the best one of a, c: training did not improve it.",
    ]
    *_, last = final_table.table({"members": [member(name, 0) for name in "abcdefg"]}).splitlines()
    assert "the best one of a, b, c, d and 3 more: training" in last
    assert len(final_table.table({"members": [member("b", 4)]}).splitlines()) == 3


def test_members_below_a_reference_are_named() -> None:
    values = {"a": 0.7, "b": 0.8, "c": None, "d": 0.3}
    members = [{"name": name, "steps": 9, "best": {"accuracy": of}, "best_step": 4} for name, of in values.items()]
    references = [
        {"name": "most frequent answer", "best": {"accuracy": 0.3}},
        {"name": "no prompt", "best": {"accuracy": 0.75, "f1": 0.9}},
    ]
    *_, last = final_table.table({"references": references, "members": members}).splitlines()
    assert last == "no prompt: best accuracy 0.7500, higher than that of the best prompt of a, d."
    tested = [member | {"test": {"accuracy": 0.5 + n / 10}} for n, member in enumerate(members)]
    references[1]["test"] = {"accuracy": 0.65}
    *_, last = final_table.table({"references": references, "members": tested}).splitlines()
    assert last == "no prompt: test accuracy 0.6500, higher than that of the best prompt of a, b."
    references = [{"name": "no prompt: sst2:tone", "best": {"accuracy": 0.75}}, {"name": "no prompt", "best": {}}]
    assert "higher" not in final_table.table({"references": references, "members": members})


def test_without_an_evaluation_there_is_no_best_step() -> None:
    member = {"name": "run", "steps": 9, "best": {}, "best_step": 0, "final": {}}
    assert [line.split() for line in final_table.table({"members": [member]}).splitlines()] == [
        ["member", "steps"],
        ["-" * 13],
        ["run", "9"],
    ]


def test_an_evaluation_has_no_steps_and_one_value() -> None:
    """The prompt is not trained, so its best value is its only one."""
    half, third = {"accuracy": 0.5, "f1": 0.4}, {"accuracy": 0.75}
    members = [{"name": "run", "steps": 0, "best": half, "final": half, "test": third}]
    assert [line.split() for line in final_table.table({"members": members}).splitlines()] == [
        ["member", "accuracy", "test", "accuracy"],
        ["-" * 31],
        ["run", "0.5000", "0.7500"],
    ]
