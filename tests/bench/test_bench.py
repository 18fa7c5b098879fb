"""The benchmarks run on a tiny shape, count what they say they count, and need no TensorFlow."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import pytest

from bench import command, fleet, flops, int8, ours, search, synthetic
from bench.synthetic import Size
from bench.turns import Subject, compare

TINY = {"vocab_size": 300, "d_model": 64, "d_kv": 8, "d_ff": 128, "num_layers": 2, "num_decoder_layers": 2}
SIZE = Size("tiny", batch=8, input_length=16, target_length=4, prompt_length=8)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(synthetic.SHAPES, "tiny", TINY | {"num_heads": 4})


def test_subjects_take_turns_and_the_missing_one_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    subjects = [Subject(name, "bench_subjects:counting", {"name": name}) for name in ("a", "b")]
    records = compare([*subjects, Subject("c", "bench_subjects:missing")], rounds=3, steps=2)
    assert [(record["subject"], record["calls"]) for record in records] == [("a", 7), ("b", 7)]
    assert records[0]["ratio"] == 1.0 and "bench.ours" in records[0].pop("modules")
    assert "tensorflow" not in records[1].pop("modules")
    assert "c: skipped, absent is not installed." in capsys.readouterr().out
    command.finish(None, "counting", records)
    assert "CPU ratio" in capsys.readouterr().out


def test_a_subject_starts_with_its_own_variables() -> None:
    name = "INFOPROMPT_BENCH_TEST"
    build = {"build": "bench_subjects:variable", "arguments": {"name": name}}
    records = compare([Subject("set", **build, environment={name: "1"}), Subject("not", **build)], rounds=1, steps=1)
    assert [record["value"] for record in records] == ["1", ""] and name not in os.environ


@pytest.mark.parametrize(
    ("members", "fields"),
    [
        (1, synthetic.BOTH),
        (2, synthetic.BOTH | {"infoprompt.cache_features": False}),
        (2, synthetic.PLAIN),
    ],
)
def test_a_step_compiles_once(members: int, fields: dict[str, Any]) -> None:
    work = ours.train_step(Size("tiny", members, 8, 16, 4, 8), fields)
    for _ in range(3):
        work.step()
    assert work.finish()["compilations"] == 1
    assert work.facts["examples"] == 8 * members


@pytest.mark.parametrize("shared", [True, False])
def test_choices_are_scored(shared: bool) -> None:
    work = ours.score_choices(SIZE, shared)
    work.step()
    assert work.facts["model_flops"] > 0


def test_only_the_prompt_is_differentiated() -> None:
    """Twice the forward pass and a little, not three times."""
    counts = {record["subject"]: record["forwards"] for record in flops.records(SIZE)}
    assert counts["gradient of the prompt, remat=none"] < 2.2 < 2.8 < counts["gradient of the whole tree, and its norm"]
    assert counts["gradient of the prompt, remat=none"] < counts["gradient of the prompt, remat=dots"]
    assert counts["gradient of the prompt, remat=dots"] < counts["gradient of the prompt, remat=full"] < 3


def test_searches_find_the_same() -> None:
    size = search.Size(keys=250, width=8, queries=5, top=3)
    assert len(size.made()) == 250 and len(size.query_rows()) == 5
    records = compare(search.subjects(size), rounds=1, steps=1)
    assert {record["subject"] for record in records} >= {"exact", "approximate"}
    for record in records:
        assert record["recall"] == record["same_places"] == 1.0, record["subject"]


def test_a_fleet_stands_beside_a_run_of_as_many_rows() -> None:
    """Also where its members take turns: every subject counts the same examples a step."""
    subjects = fleet.subjects(dataclasses.replace(SIZE, members=16, batch=8))
    sizes = [subject.arguments["size"] for subject in subjects]
    assert [(size.members, size.batch) for size in sizes] == [(1, 128), (16, 8), (16, 8)]
    assert [subject.arguments["fields"]["fleet.at_once"] for subject in subjects] == [0, 0, 2]
    works = [ours.train_step(**subject.arguments) for subject in subjects]
    for work in works:
        work.step()
    assert [work.facts["examples"] for work in works] == [128, 128, 128]


@pytest.mark.slow
def test_int8_is_compared_with_float32() -> None:
    records = {record["subject"]: record for record in int8.errors(SIZE, layers=2)}
    assert len(records) == 3
    of_bfloat16, of_int8 = (
        records[f"{held} activations"] for held in ("full weights, bfloat16", "int8 weights, float32")
    )
    for name in ("state_error", "logit_error", "gradient_error"):
        assert 1e-4 < of_bfloat16[name] < of_int8[name] < 0.06, name
    assert of_int8["cosine"] > 0.998


@pytest.mark.slow
def test_prompts_of_nano_are_evaluated_with_both_weights() -> None:
    fields = {"train.steps": 2, "train.eval_every": 2, "fleet.seeds": (0, 1), "task.eval_split": "validation[:64]"}
    records = {record.pop("subject"): record for record in int8.nano(**fields)}
    assert set(records) == {f"trained with {t}, evaluated with {e}" for t in ("full", "int8") for e in ("full", "int8")}
    for record in records.values():
        assert len(record["accuracies"]) == 2 and record["accuracy"] == pytest.approx(sum(record["accuracies"]) / 2)
