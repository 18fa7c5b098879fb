"""From scores to metrics: which rows count, for which member, and the summary over several templates."""

from __future__ import annotations

import logging
import pathlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny

from infoprompt_jax.data.tasks import Task
from infoprompt_jax.data.templates import Example, Template
from infoprompt_jax.data.tokenization import tokenize
from infoprompt_jax.errors import UserError
from infoprompt_jax.evaluation.evaluator import Evaluator, Split

CHOICES = ("no", "certainly")  # 3 and 10 tokens with their EOS, 2 and 9 characters


@pytest.fixture(scope="module")
def model() -> tiny.Backbone:
    return tiny.backbone()


def split(directory: pathlib.Path, model: tiny.Backbone, *members: dict[str, list[int]]) -> Split:
    """For each member, labels of its rows by template; the rows of one template have one length."""

    def rows(name: str, labels: list[int]) -> Any:
        examples = [Example(f"{name}{i}", CHOICES[label], CHOICES) for i, label in enumerate(labels)]
        return tokenize(examples, model.tokenizer, directory, f"{name}{labels}", True, 16, 16)

    tasks = [[Task("data", Template(name, name, "a ||| b"), "accuracy") for name in of_member] for of_member in members]
    return Split(tasks, [[rows(name, labels) for name, labels in of_member.items()] for of_member in members])


def evaluator(model: tiny.Backbone, scores: list[list[float]], **fields: Any) -> Evaluator:
    """Member m gives every row the scores `scores[m]`."""

    def give(_: Any, __: Any, batch: dict[str, Any]) -> np.ndarray:
        members, rows = batch["inputs"].shape[:2]
        assert members == len(scores)
        return np.broadcast_to(np.float32(scores)[:, None], (members, rows, 2))

    return Evaluator(SimpleNamespace(scores=give, split_axis=1), model, 4, (16,), 16, **fields)


NO, YES = [-1.0, -2.0], [-2.0, -1.0]
NAN = [float("nan"), float("nan")]


def test_each_member_is_judged_by_its_own_predictions_on_its_own_rows(
    model: tiny.Backbone, tmp_path: pathlib.Path
) -> None:
    """Five rows and one in batches of four: what fills a batch up does not count."""
    metrics = evaluator(model, [NO, YES]).evaluate(None, split(tmp_path, model, {"a": [0, 0, 0, 1, 1]}, {"a": [1]}))
    assert [member["accuracy"] for member in metrics] == [0.6, 1.0]
    assert metrics[0]["macro_f1"] == pytest.approx(0.375)


def test_the_most_frequent_answer(model: tiny.Backbone, tmp_path: pathlib.Path) -> None:
    """Of each template's own rows, up to the limit."""
    rows = split(tmp_path, model, {"a": [1, 0, 0, 1, 1], "b": [0]}, {"a": [1, 0, 0, 1, 1]})
    metrics = evaluator(model, [NO, NO]).majority(rows)
    assert [member["accuracy"] for member in metrics] == [pytest.approx(0.8), 0.6]
    assert evaluator(model, [NO, NO], limit=3).majority(rows)[1]["accuracy"] == pytest.approx(2 / 3)


def test_templates_are_averaged_beside_their_spread(model: tiny.Backbone, tmp_path: pathlib.Path) -> None:
    data = split(tmp_path, model, {"a": [0, 0, 0, 0], "b": [1], "c": [1, 1, 0, 0]})
    (metrics,) = evaluator(model, [NO]).evaluate(None, data)
    accuracies = {name: value for name, value in metrics.items() if name.startswith("accuracy")}
    spread = {"accuracy": 0.5, "accuracy_median": 0.5, "accuracy_q25": 0.25, "accuracy_q75": 0.75}
    assert accuracies == spread | {"accuracy/data:a": 1.0, "accuracy/data:b": 0.0, "accuracy/data:c": 0.5}
    assert data.examples() == 4 and data.examples(limit=3) == 3


def test_only_the_first_rows_count_under_a_limit(model: tiny.Backbone, tmp_path: pathlib.Path) -> None:
    (metrics,) = evaluator(model, [NO], limit=2).evaluate(None, split(tmp_path, model, {"a": [0, 1, 1, 1]}))
    assert metrics["accuracy"] == 0.5


@pytest.mark.parametrize(("normalize", "accuracy"), [("none", 1.0), ("tokens", 0.0), ("characters", 0.0)])
def test_scores_are_normalised_once(
    normalize: str, accuracy: float, model: tiny.Backbone, tmp_path: pathlib.Path
) -> None:
    data = split(tmp_path, model, {"a": [0, 0]})
    (metrics,) = evaluator(model, [[-3.0, -7.0]], normalize=normalize).evaluate(None, data)
    assert metrics["accuracy"] == accuracy
    # A division by the length's square would prefer the long choice.
    (metrics,) = evaluator(model, [[-3.0, -14.0]], normalize=normalize).evaluate(None, data)
    assert metrics["accuracy"] == 1.0


def test_a_collapse_is_logged(model: tiny.Backbone, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        evaluator(model, [NO]).evaluate(None, split(tmp_path, model, {"a": [0, 0]}))
        assert not caplog.records
        evaluator(model, [NO]).evaluate(None, split(tmp_path, model, {"a": [0, 1], "b": [0, 0]}))
    assert "1 of 2 evaluations always predict the same class although labels differ (data:a: choice 0)" in caplog.text


def test_a_warning_that_recurs_is_logged_once_and_counted(
    model: tiny.Backbone, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, data = evaluator(model, [NO]), split(tmp_path, model, {"a": [0, 1]})
    for _ in range(3):
        one.evaluate(None, data)
    assert len(caplog.records) == 1
    one.warnings.repeated()
    assert caplog.records[-1].getMessage() == "Predictions of one class alone in 3 evaluations of this run."
    one.evaluate(None, data)
    one.warnings.repeated()
    assert len(caplog.records) == 3, "of a single one there is no count"


def test_nan_is_no_answer(model: tiny.Backbone, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    """NaN is not even the first choice. It is logged once, and an error with `strict`."""
    data = split(tmp_path, model, {"a": [0, 0, 1], "b": [0]}, {"a": [0, 0, 1], "b": [0]})
    with caplog.at_level(logging.WARNING):
        metrics = evaluator(model, [NAN, NO]).evaluate(None, data)
    assert [member["accuracy"] for member in metrics] == [0.0, pytest.approx((2 / 3 + 1) / 2)]
    messages = [record.getMessage() for record in caplog.records if "NaN" in record.getMessage()]
    assert (
        len(messages) == 1 and "scores of 4 rows are NaN (data:a and 1 more tasks); they count as wrong" in messages[0]
    )
    with pytest.raises(UserError, match=r"scores of 4 rows are NaN \(data:a .*backbone\.dtype='float32'"):
        evaluator(model, [NAN, NO]).evaluate(None, data, strict=True)


def test_free_text_is_generated_and_compared(
    model: tiny.Backbone, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = ["blue", "red"]
    examples = [Example(f"a{i}", text) for i, text in enumerate(texts)]
    rows = tokenize(examples, model.tokenizer, tmp_path, "free", True, 16, 16)
    data = Split([[Task("data", Template("a", "a", "a ||| b"), "exact_match")]], [[rows]])
    says_red = np.zeros((1, 4, 8), np.int32)
    says_red[..., :4] = [*model.tokenizer.encode(["red"])[0], 1]
    program = SimpleNamespace(generate=lambda trainable, frozen, batch, max_length: says_red, split_axis=1)
    assert Evaluator(program, model, 4, (16,), 16).evaluate(None, data) == [{"exact_match": 0.5}]
    assert not caplog.records
    short = Evaluator(program, model, 4, (16,), 16, max_length=3)  # "blue" has four tokens
    short.evaluate(None, data, warn=False)
    assert not caplog.records
    short.evaluate(None, data)
    message = (
        "data:a: 1 of 2 targets are longer than scoring.max_length=3 tokens, so that none of them is generated whole"
    )
    assert [record.getMessage() for record in caplog.records] == [f"{message}: set it to 4."]
