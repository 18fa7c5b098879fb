"""Rows that are trained on and evaluated on too are counted, by data set and split, in one warning each."""

from __future__ import annotations

import logging
import pathlib
from collections.abc import Mapping
from typing import Any

import pytest
from tiny_data import ROWS, write_jsonl

from infoprompt_jax import settings
from infoprompt_jax.training.experiment import build

NEW = [{"text": f"review {number}", "label": number % 2} for number in range(20)]


def warnings(
    folder: pathlib.Path, caplog: pytest.LogCaptureFixture, template: Mapping[str, str] | None = None, **task: Any
) -> list[str]:
    """What building an experiment on the rows in `folder` warns of."""
    config = settings.defaults()
    config.backbone.name = "random"
    config.data.update(dir=str(folder), cache_dir=str(folder / "cache"), max_input_length=64, buckets=(64,))
    template = template or {
        "input": "Review: {{ text }}",
        "target": "{{ answer_choices[label] }}",
        "answer_choices": "bad ||| good",
    }
    config.task.update(name="mine", **template, **task)
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


def test_evaluated_rows_of_one_target(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    """Once for both members, which share the rows."""
    write_jsonl(tmp_path / "mine/train.jsonl", ROWS)
    write_jsonl(tmp_path / "mine/validation.jsonl", sorted(NEW, key=lambda row: row["label"]))
    warnings(tmp_path, caplog, eval_limit=10)
    assert caplog.text.count("the first 10 rows, which task.eval_limit takes, all have the target 'bad'") == 1


TEMPLATES = """
dataset: mine
templates:
  A: !Template
    {answer_choices: bad ||| good, id: A, jinja: "{{ id }}: {{ text }} ||| {{ answer_choices[label] }}", name: numbered}
  B: !Template
    {answer_choices: bad ||| good, id: B, jinja: "Review: {{ text }} ||| {{ answer_choices[label] }}", name: alone}
"""


@pytest.mark.parametrize("templates", ["all", "numbered", "alone"])
def test_every_template_is_compared(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture, templates: str) -> None:
    """The first template shows a number, by which rows differ that the second one makes the same of."""
    write_jsonl(tmp_path / "mine/train.jsonl", [row | {"id": number} for number, row in enumerate(NEW)])
    write_jsonl(tmp_path / "mine/validation.jsonl", [NEW[0] | {"id": 30}, NEW[1] | {"id": 31}, ROWS[0] | {"id": 32}])
    (tmp_path / "T/mine").mkdir(parents=True)
    (tmp_path / "T/mine/templates.yaml").write_text(TEMPLATES)
    logged = warnings(tmp_path, caplog, {"template": templates, "templates_dir": f"{tmp_path}/T"})
    assert [text[: text.index(" rows")] for text in logged] == {
        "all": ["mine:alone: 2 of the 3"],
        "numbered": [],
        "alone": ["mine: 2 of the 3"],
    }[templates]


def test_rows_that_differ_between_the_tokens_that_are_marked(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Long inputs that differ in one letter, wherever it is, are not the same."""
    texts = ["".join("b" if letter == place else "a" for letter in range(30)) for place in range(30)]
    write_jsonl(tmp_path / "mine/train.jsonl", [{"text": text, "label": 1} for text in texts[::2]])
    write_jsonl(tmp_path / "mine/validation.jsonl", [{"text": text, "label": 1} for text in [*texts[1::2], texts[4]]])
    (logged,) = warnings(tmp_path, caplog)
    assert logged.startswith("mine: 1 of the 16 rows")
