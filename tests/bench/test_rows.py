"""Real rows: both sides read the same ones, and rank the same answers."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

from bench import generation, ranking, real, rows, start
from bench.synthetic import Size

SIZE = Size("toy", batch=8, prompt_length=2, input_length=16)
VOCABULARY = 32000  # of the embedded mini, at most


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench import synthetic

    monkeypatch.setitem(synthetic.SHAPES, "toy", synthetic.SHAPES["toy"] | {"vocab_size": VOCABULARY})


def test_a_pass_has_the_same_rows_on_both_sides(invented: pathlib.Path) -> None:
    read = real.read(str(invented), "super_glue/rte", "train", real.vocabulary(""))
    ours, peft = (subject.arguments for subject in rows.subjects(SIZE, read, 16))
    work = rows.ours(**ours)
    work.step()
    assert work.facts["examples"] == 128 == len(peft["tokens"])
    assert 0 <= work.facts["padding_share"] < 1 and work.facts["model_flops"] > 0
    pytest.importorskip("peft")
    other = rows.peft(**peft)
    other.step()
    same = ("examples", "tokens", "model_flops")
    assert [work.facts[name] for name in same] == [other.facts[name] for name in same]


def test_answers_are_ranked_on_both_sides(invented: pathlib.Path) -> None:
    read = real.read(str(invented), "super_glue/rte", "validation", real.vocabulary(""), limit=5)
    part = next(one for one in read if one.max_choices == 2)
    ours, torch = (subject.arguments for subject in ranking.subjects(SIZE, part))
    assert [len(choices) for _, choices in torch["pairs"]] == [2] * len(part)
    work = ranking.ours(**ours)
    work.step()
    assert work.facts["examples"] == len(part)
    pytest.importorskip("torch")
    ranking.reencoded(**torch).step()


def test_generation_makes_so_many_tokens() -> None:
    work = generation.ours(SIZE, 3)
    assert np.asarray(work.step()).shape == (8, 3) and work.facts["tokens"] == 24
    pytest.importorskip("peft")
    generation.peft(SIZE, 3).step()


@pytest.mark.slow
def test_a_start_is_measured_to_the_first_step() -> None:
    records = start.measure(1, "--config.fleet.seeds=(0,)", "--config.task.eval_split=validation[:8]")
    assert [record["subject"] for record in records] == ["cold", "warm"]
    assert records[1]["seconds"] < records[0]["seconds"]
