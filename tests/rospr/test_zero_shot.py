"""Zero-shot evaluation where rows are out of the ordinary."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import ml_collections
import numpy as np
import pytest
import tiny
from tiny_library import random_library

from infoprompt_jax.evaluation import metrics
from infoprompt_jax.rospr import evaluation_tasks, records, retrieval
from infoprompt_jax.rospr.evaluate import Evaluation
from infoprompt_jax.settings import defaults

pytestmark = pytest.mark.usefixtures("programs")


@pytest.fixture(scope="module")
def model() -> tiny.Backbone:
    return tiny.backbone()


def configure(
    directory: pathlib.Path, rows: list[dict[str, Any]], library: str, **fields: Any
) -> ml_collections.ConfigDict:
    """The data set `mine`, whose rows hold their choices."""
    file = directory / "data" / "mine" / "validation.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = defaults()
    config.update_from_flattened_dict({
        "job": "rospr_eval", "backbone.name": "random", "data.dir": str(directory / "data"),
        "data.cache_dir": str(directory / "cache"), "data.max_input_length": 64, "data.buckets": (64,),
        "task.name": "mine", "task.input": "{{ text }}", "task.target": "{{ answer_choices[label] }}",
        "task.answer_choices": "{{ options | join('|||') }}", "rospr.library": library, "rospr.queries": len(rows),
    })  # fmt: skip
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in fields.items()})
    return config


def test_var_counts_each_querys_own_choices_and_nan_is_no_answer(
    model: tiny.Backbone, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    counts = [2, 5, 2, 2, 3, 2]
    rows = [{"text": f"t{i}", "options": list("abcde")[:count], "label": i % 2} for i, count in enumerate(counts)]
    config = configure(tmp_path, rows, random_library(tmp_path / "library", model, 3))
    evaluation = Evaluation(config, tmp_path)
    evaluated, queries = evaluation.instances(evaluation_tasks.find(config)[0][0])
    candidates = evaluation.zero_shot.evaluate(evaluated, queries, metrics.accuracy).candidates
    np.testing.assert_allclose(candidates.variances, retrieval.answer_variance(candidates.answers_NQ, counts))
    assert not np.allclose(candidates.variances, retrieval.answer_variance(candidates.answers_NQ, max(counts)))
    overflowed = np.full((3, model.config.d_model), np.nan, np.float32)
    answers_NQ = evaluation.zero_shot.answers_with_each(queries, [None, overflowed])
    assert (answers_NQ[0] >= 0).all() and (answers_NQ[1] == metrics.NO_ANSWER).all()
    assert "validation: the scores of 6 answers are NaN; they count as wrong" in caplog.text
    assert records.answer_counts(answers_NQ[1], 5).tolist() == [0] * 5


def bigbench(directory: pathlib.Path, library: str, answers: list[str]) -> ml_collections.ConfigDict:
    """A BIG-bench task of sixteen rows with the same answers, whose order the reader shuffles by row."""
    file = directory / "data" / "bigbench" / "mine" / "task.json"
    file.parent.mkdir(parents=True)
    examples = [
        {"input": f"Sentence {n} is", "target_scores": {answer: int(answer == "correct") for answer in answers}}
        for n in range(16)
    ]
    file.write_text(json.dumps({"examples": examples}))
    config = defaults()
    config.update_from_flattened_dict({
        "job": "rospr_eval", "backbone.name": "random", "data.dir": str(directory / "data"),
        "data.cache_dir": str(directory / "cache"), "data.max_input_length": 128, "data.buckets": (128,),
        "task.name": "bigbench/mine", "rospr.library": library, "rospr.queries": 16,
    })  # fmt: skip
    return config


def test_var_counts_an_answer_by_its_text_where_only_the_order_differs(
    model: tiny.Backbone, tmp_path: pathlib.Path
) -> None:
    """By position, a prompt that always answers "correct" would be the least biased of all."""
    answers = ["correct", "incorrect", "neither"]
    config = bigbench(tmp_path, random_library(tmp_path / "library", model, 4), answers)
    evaluation = Evaluation(config, tmp_path)
    _, queries = evaluation.instances(evaluation_tasks.find(config)[0][0])
    texts_Q = [
        [model.tokenizer.decode(choice) for choice in row]
        for row in queries.rows.gather(queries.numbers, 1, queries.rows.max_target_length, 3)["choices"]
    ]
    assert len({tuple(texts) for texts in texts_Q}) > 3 and all(sorted(texts) == answers for texts in texts_Q)

    always_NQ = np.array([[texts.index(answer) for texts in texts_Q] for answer in answers])
    by_position = retrieval.answer_variance(always_NQ, 3)
    assert (by_position < 0.05).all()
    shared_QC = queries.rows.shared_choices(queries.numbers)
    by_text = retrieval.comparable_answers(always_NQ, shared_QC)
    assert by_text.tolist() == [[texts_Q[0].index(answer)] * 16 for answer in answers]
    np.testing.assert_allclose(retrieval.answer_variance(by_text, 3), 2 / 9)  # the most that three answers have

    turns_Q = np.array([texts.index(answers[q % 3]) for q, texts in enumerate(texts_Q)])
    turns_Q[3] = metrics.NO_ANSWER  # it was "correct": 5, 5, 5 of 16 are left
    assert retrieval.comparable_answers(turns_Q[None], shared_QC)[0, 3] == metrics.NO_ANSWER
    variance = (3 * (1 / 48) ** 2 + (1 / 16) ** 2) / 3
    np.testing.assert_allclose(
        retrieval.answer_variance(retrieval.comparable_answers(turns_Q[None], shared_QC), 3), variance
    )


def test_the_candidates_answers_are_counted_by_text(model: tiny.Backbone, tmp_path: pathlib.Path) -> None:
    config = bigbench(tmp_path, random_library(tmp_path / "library", model, 4), ["correct", "incorrect"])
    evaluation = Evaluation(config, tmp_path)
    evaluated, queries = evaluation.instances(evaluation_tasks.find(config)[0][0])
    candidates = evaluation.zero_shot.evaluate(evaluated, queries, metrics.accuracy).candidates
    answers_NQ = evaluation.zero_shot.answers_with_each(queries, list(evaluation.library.prompts(candidates.owners)))
    np.testing.assert_array_equal(
        candidates.answers_NQ, retrieval.comparable_answers(answers_NQ, queries.rows.shared_choices(queries.numbers))
    )
    assert not np.array_equal(candidates.answers_NQ, answers_NQ)
    np.testing.assert_allclose(candidates.variances, retrieval.answer_variance(candidates.answers_NQ, 2))
