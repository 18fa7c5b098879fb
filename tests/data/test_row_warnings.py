"""What is odd about rows is logged in each run: the first time, and where their tokens come from the cache."""

from __future__ import annotations

import json
import logging
import pathlib
from typing import Any

import pytest
from tiny_data import INLINE, ROWS, configure, one_task, write_jsonl

from infoprompt_jax.data import row_warnings
from infoprompt_jax.data.examples import checked, source_fingerprint
from infoprompt_jax.data.rows import Rows
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.data.tokenization import Part, tokenize_parts
from infoprompt_jax.t5.tokenizer import load_tokenizer


def read(directory: pathlib.Path, *tasks: Task, length: int = 64) -> list[Rows]:
    """The training rows, as a run reads them."""
    parts = [Part(checked(task, "train"), source_fingerprint(task, "train"), f"{task.id}, train") for task in tasks]
    return tokenize_parts(parts, load_tokenizer("bytes"), directory / "cache", True, length, 16)


def logged(directory: pathlib.Path, caplog: pytest.LogCaptureFixture, length: int = 64, **fields: Any) -> str:
    """What is logged of the training rows in a first run; a second one logs the same."""
    task, texts = one_task(configure(directory, "mine", **INLINE | fields)), list[str]()
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            row_warnings.warn(read(directory, task, length=length)[0], task, "train")
        texts.append(caplog.text)
    assert texts[0] == texts[1]
    return texts[0]


def test_rows_that_are_left_out_are_counted(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"text": "b", "label": 0.0}, *({"text": "a", "label": label} for label in (-1, None, "nan", -1.0))]
    write_jsonl(tmp_path / "mine" / "train.jsonl", rows)
    assert "1 rows, 4 more that the template does not apply to." in logged(tmp_path, caplog)
    write_jsonl(tmp_path / "mine" / "train.jsonl", ROWS)
    assert logged(tmp_path, caplog) == ""


def test_each_part_has_its_own_count(tmp_path: pathlib.Path) -> None:
    write_jsonl(tmp_path / "one" / "train.jsonl", [{"text": "b", "label": 0}, {"text": "a", "label": -1}])
    write_jsonl(tmp_path / "two" / "train.jsonl", ROWS)
    tasks = [one_task(configure(tmp_path, name, **INLINE)) for name in ("one", "two")]
    for _ in range(2):
        assert [(len(rows), rows.left_out) for rows in read(tmp_path, *tasks)] == [(1, 1), (len(ROWS), 0)]


@pytest.mark.parametrize(
    ("source", "length", "warned"),
    [("Review: {{ text }}", 64, False), ("Review: {text}", 64, True), ("A long beginning, {{ text }}", 8, False)],
    ids=["differ", "same", "differ after the cut"],
)
def test_inputs_that_are_all_the_same(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture, source: str, length: int, warned: bool
) -> None:
    write_jsonl(tmp_path / "mine" / "train.jsonl", ROWS)
    text = logged(tmp_path, caplog, length, input=source)
    assert (f"all {len(ROWS)} inputs are the same tokens, those of 'Review: {{text}}'" in text) == warned


@pytest.mark.parametrize(
    ("labels", "warned"), [([1, 0, 1], False), ([1, 1, -1], True), ([1], False), (["yes", "no", "yes"], True)]
)
def test_targets_that_are_all_the_same(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture, labels: list[Any], warned: bool
) -> None:
    write_jsonl(tmp_path / "mine" / "train.jsonl", [{"text": str(n), "label": one} for n, one in enumerate(labels)])
    text = logged(tmp_path, caplog, target="{% if label == 1 %}good{% else %}bad{% endif %}")
    answer, count = ("good", 2) if labels[0] == 1 else ("bad", 3)
    assert (f"all {count} rows have the target {answer!r}." in text) == warned


@pytest.mark.parametrize(
    ("labels", "warned"), [([0, 0, 1], True), ([0, 1, 0], False), ([0, 0, 0], False), ([0], False)]
)
def test_evaluated_rows_of_one_target(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture, labels: list[int], warned: bool
) -> None:
    write_jsonl(tmp_path / "mine" / "train.jsonl", [{"text": str(n), "label": one} for n, one in enumerate(labels)])
    (rows,) = read(tmp_path, one_task(configure(tmp_path, "mine", **INLINE)))
    row_warnings.warn_of_limit(rows, 2)
    assert ("the first 2 rows, which task.eval_limit takes, all have the target 'bad'" in caplog.text) == warned
    caplog.clear()
    row_warnings.warn_of_limit(rows, 0)
    assert not caplog.text


def test_cut_inputs_are_counted(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    write_jsonl(tmp_path / "mine" / "train.jsonl", [{"text": text, "label": 0} for text in ("short", "longer " * 9)])
    assert "of 2 rows, the inputs of 1 and a target or answer choice of 0 were cut" in logged(
        tmp_path, caplog, 20, input="{{ text }}"
    )


def test_repeated_choices_of_a_file(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    write_jsonl(tmp_path / "mine" / "train.jsonl", ROWS)
    (tmp_path / "templates" / "mine").mkdir(parents=True)
    entry = {"name": "p", "jinja": "{{ text }} ||| {{ answer_choices[label] }}", "answer_choices": "a ||| b ||| a"}
    (tmp_path / "templates" / "mine" / "templates.yaml").write_text(json.dumps({"templates": {"x": entry}}))
    task = one_task(configure(tmp_path, "mine", templates_dir=str(tmp_path / "templates")))
    row_warnings.warn(read(tmp_path, task)[0], task, "train")
    assert "templates.yaml lists 'a' for more than one label: it counts as one answer" in caplog.text
