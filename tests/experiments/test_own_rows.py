"""The experiment with a hundred rows: its table, and that its bag of words reads what the prompts read."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import pytest

from experiments import mini_page, own_rows
from infoprompt_jax.data.splits import split_bounds, split_name


def test_the_table_has_the_mean_and_the_range_over_seeds() -> None:
    record = {"task": "topics", "rows": 400, "majority": 0.25, "no_prompt": 0.3, "bag_of_words": [0.6, 0.7]}
    prompts = {"prompts": {"run-seed0": 0.7, "run-seed1": 0.8}}
    assert "| topics | 400 | 25.0 | 30.0 | 75.0 (70.0 to 80.0) | 65.0 |" in mini_page.own_rows_table([record | prompts])
    assert mini_page.own_rows_table([]) == "Not measured."


def test_each_seed_has_its_own_rows(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A word that only one row has is of use to the seeds that draw that row."""
    (tmp_path / "cr").mkdir()
    rows = [{"text": f"word{n % 8}", "label": n % 2} for n in range(16)]
    (tmp_path / "cr" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(own_rows, "SHOTS", 6)
    halves = dataclasses.replace(own_rows.TASKS["CR, good or bad"], train="train[:-8]", measured="train[-8:]")
    accuracies = own_rows.words_alone(halves, str(tmp_path))
    assert len(accuracies) == len(own_rows.SEEDS)
    assert all(6 / 8 <= accuracy < 1 for accuracy in accuracies)


def test_the_measured_rows_of_a_split_are_its_slice_alone(tmp_path: pathlib.Path) -> None:
    (tmp_path / "cr").mkdir()
    rows = [{"text": f"word{n}", "label": 0, "other": n} for n in range(6)]
    (tmp_path / "cr" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = own_rows.TASKS["CR, good or bad"]
    measured = own_rows.rows_of(own, str(tmp_path), "train[-2:]")
    assert measured == [{"text": "word4", "label": 0}, {"text": "word5", "label": 0}]


@pytest.mark.parametrize("own", own_rows.TASKS.values(), ids=own_rows.TASKS.keys())
def test_no_row_is_both_trained_on_and_measured(own: own_rows.Own) -> None:
    if split_name(own.train) == split_name(own.measured):
        (_, end), (start, _) = (split_bounds(split, 1000) for split in (own.train, own.measured))
        assert end <= start
    else:
        assert split_name(own.measured) in ("validation", "test")
