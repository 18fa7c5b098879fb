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

from infoprompt_jax import metrics, rospr, rospr_eval, rospr_targets
from infoprompt_jax.rospr_eval import Evaluation
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
    evaluated, queries = evaluation.instances(rospr_targets.find(config)[0][0])
    found = evaluation.zero_shot(evaluated, queries, metrics.accuracy).candidates
    np.testing.assert_allclose(found.variances, rospr.answer_variance(found.answers_NQ, counts))
    assert not np.allclose(found.variances, rospr.answer_variance(found.answers_NQ, max(counts)))
    overflowed = np.full((3, model.config.d_model), np.nan, np.float32)
    answers_NQ = evaluation.zero_shot.scorer.with_each(queries.rows, queries.numbers, [None, overflowed])
    assert (answers_NQ[0] >= 0).all() and (answers_NQ[1] == metrics.NO_ANSWER).all()
    assert "validation: the scores of 6 answers are NaN; they count as wrong" in caplog.text
    assert rospr_eval.answered(answers_NQ[1], 5).tolist() == [0] * 5
