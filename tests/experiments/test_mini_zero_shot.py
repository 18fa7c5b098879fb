"""Which data sets and templates mini is measured on without a prompt, and what stands beside its accuracies."""

from __future__ import annotations

import json
import pathlib

import pytest

from experiments import mini_page, mini_zero_shot
from infoprompt_jax.data.datasets import Dataset

LOUD = [{"text": f"{'splendid' if n % 2 else 'dreadful'} item {n}", "label": n % 2} for n in range(40)]


@pytest.fixture
def data(tmp_path: pathlib.Path) -> str:
    """CR's columns; words alone tell the label."""
    (tmp_path / "cr").mkdir()
    for split, rows in {"train": LOUD[:30], "validation": LOUD[30:]}.items():
        (tmp_path / "cr" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path)


def test_the_held_out_templates_are_those_of_t0() -> None:
    held_out = mini_zero_shot.data_sets(mini_zero_shot.HELD_OUT)
    assert (len(held_out), sum(len(dataset.templates) for dataset in held_out)) == (11, 116)


def test_a_bag_of_words_needs_a_training_split_and_labels(data: str, tmp_path: pathlib.Path) -> None:
    assert mini_zero_shot.words_alone(data, Dataset("cr", "cr", "validation")) == 1.0
    assert mini_zero_shot.words_alone(data, Dataset("cr", "cr", "test")) is None
    assert mini_zero_shot.words_alone(data, Dataset("trec", "trec", "test")) is None
    (tmp_path / "cr" / "train.jsonl").write_text('{"text": "no label"}\n')
    assert mini_zero_shot.words_alone(data, Dataset("cr", "cr", "validation")) is None


def test_the_table_has_each_group_and_the_mean_of_the_held_out_sets() -> None:
    entry = {"value": 0.5, "chance": 0.5, "majority": 0.6, "rows": 8, "hard_prompts": {"a": 0.25, "b": 0.75}}
    record = {"group": "held out", "family": "word sense", "bag_of_words": None, **entry}
    skipped = {"data_set": "story_cloze", "group": "held out", "skipped": {"story_cloze:a": "it is gated"}}
    records = [record | {"data_set": "one"}, record | {"data_set": "two", "value": 0.7}, skipped]
    table = mini_page.zero_shot_table(records)
    assert "| one | word sense | 2 | 8 | 50.0 | 25.0 | 75.0 | 50.0 | 60.0 | - |" in table
    assert "| mean of 2 held-out sets |  | 4 |  | 60.0 |  |  | 50.0 | 60.0 |  |" in table
    assert mini_page.zero_shot_table([skipped]) == "Not measured."


@pytest.mark.slow
def test_a_measured_data_set_is_not_measured_again(data: str, tmp_path: pathlib.Path) -> None:
    """Only CR is at hand; the file of another data set says why it is skipped."""
    out = tmp_path / "out"
    mini_zero_shot.run(data, 4, out, ["cr", "glue/sst2"])
    record = json.loads((out / "real-cr.json").read_text())
    assert record["rows"] == 4 and set(record["hard_prompts"]) == set(mini_zero_shot.INLINE["cr"])
    (sst2,) = json.loads((out / "real-glue-sst2.json").read_text())["skipped"].values()
    assert "glue/sst2/validation" in sst2
    (out / "real-cr.json").write_text("kept")
    mini_zero_shot.run(data, 4, out, ["cr"])
    assert (out / "real-cr.json").read_text() == "kept"


def test_an_unknown_data_set_ends_the_command(data: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(SystemExit, match=r"no data set nope: choose from glue/sst2, cr, ag_news, trec, "):
        mini_zero_shot.run(data, 4, tmp_path / "out", ["cr", "nope"])
