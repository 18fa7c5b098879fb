"""Rows that are trained on and evaluated on too are counted, by data set and split, in one warning each."""

from __future__ import annotations

import logging
import pathlib
from typing import Any

import pytest
from tiny_data import ROWS, write_jsonl

from infoprompt_jax import settings
from infoprompt_jax.training.experiment import build

NEW = [{"text": f"review {number}", "label": number % 2} for number in range(20)]


def warnings(folder: pathlib.Path, caplog: pytest.LogCaptureFixture, **task: Any) -> list[str]:
    """What building an experiment on the rows in `folder` warns of."""
    config = settings.defaults()
    config.backbone.name = "random"
    config.data.update(dir=str(folder), cache_dir=str(folder / "cache"), max_input_length=64, buckets=(64,))
    inline = {"input": "Review: {{ text }}", "target": "{{ answer_choices[label] }}", "answer_choices": "bad ||| good"}
    config.task.update(name="mine", **inline, **task)
    config.train.batch_size = config.train.eval_batch_size = 8
    config.prompt.length, config.fleet.seeds = 4, (0, 1)
    with caplog.at_level(logging.WARNING):
        build(settings.check(config))
    return [record.getMessage() for record in caplog.records if "are also rows of" in record.getMessage()]


@pytest.mark.parametrize(
    ("validation", "count"),
    [
        (NEW[:4], 0),
        ([ROWS[0], *NEW[:4]], 1),
        ([ROWS[0] | {"id": 7}, ROWS[0] | {"label": "1.0"}, *ROWS[1:3]], 4),
        ([ROWS[0] | {"label": 0}], 0),  # another answer
    ],
)
def test_rows_of_two_files(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture, validation: list[dict[str, Any]], count: int
) -> None:
    write_jsonl(tmp_path / "mine/train.jsonl", [*ROWS, *NEW[10:]])
    write_jsonl(tmp_path / "mine/validation.jsonl", validation)
    logged = warnings(tmp_path, caplog)
    assert len(logged) == bool(count)
    if count:
        assert logged[0] == (
            f"mine: {count} of the {len(validation)} rows of validation are also rows of train, which are trained on, "
            "so that metrics on them are too high: change task.train_split or task.eval_split, or remove the rows "
            "from the files."
        )


def test_slices_of_one_file(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    write_jsonl(tmp_path / "mine/train.jsonl", NEW)
    slices = {"train_split": "train[:90%]", "eval_split": "train[80%:]", "test_split": "train[90%:]"}
    (logged,) = warnings(tmp_path, caplog, **slices)
    assert logged.startswith("mine: 2 of the 4 rows of train[80%:] are also rows of train[:90%], which")
