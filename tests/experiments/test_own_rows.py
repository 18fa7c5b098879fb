"""The experiment with a hundred rows: its table, and that its bag of words reads what the prompts read."""

from __future__ import annotations

import json
import pathlib

import pytest

from experiments import mini_page, own_rows


def test_the_table_has_the_mean_and_the_range_over_seeds() -> None:
    record = {"task": "topics", "rows": 400, "majority": 0.25, "no_prompt": 0.3, "bag_of_words": [0.6, 0.7]}
    prompts = {"prompts": {"run-seed0": 0.7, "run-seed1": 0.8}}
    assert "| topics | 400 | 25.0 | 30.0 | 75.0 (70.0 to 80.0) | 65.0 |" in mini_page.own_rows_table([record | prompts])
    assert mini_page.own_rows_table([]) == "Not measured."


def test_each_seed_has_its_own_rows(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A word that only one row has is of use to the seeds that draw that row."""
    (tmp_path / "cr").mkdir()
    rows = [{"text": f"word{n}", "label": n % 2} for n in range(8)]
    for split in ("train", "validation"):
        (tmp_path / "cr" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(own_rows, "SHOTS", 6)
    accuracies = own_rows.words_alone(own_rows.TASKS["CR, good or bad"], str(tmp_path))
    assert len(accuracies) == len(own_rows.SEEDS)
    assert all(6 / 8 <= accuracy < 1 for accuracy in accuracies)
