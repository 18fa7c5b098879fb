"""The loop from batches to predictions: prompts by value, rows of their own prompts, NaN, and texts."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import tiny

from infoprompt_jax.command_line import read_config
from infoprompt_jax.data.examples import examples
from infoprompt_jax.data.rows import Rows
from infoprompt_jax.data.selection import find_tasks
from infoprompt_jax.data.templates import Example
from infoprompt_jax.data.tokenization import tokenize
from infoprompt_jax.evaluation import metrics
from infoprompt_jax.evaluation.predictions import Predictor, Prompted, majority
from infoprompt_jax.t5.backbone import load_backbone

CONFIG = pathlib.Path(__file__).parents[2] / "configs" / "nano_pretrain.py"
TEXTS = ["a", "some longer text", "bb", "ccc", "d"]
CHOICES = ("animals", "gadgets", "flowers")


@pytest.fixture(scope="module")
def model() -> tiny.Backbone:
    return tiny.backbone()


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory, model: tiny.Backbone) -> Rows:
    shown = [Example(text, CHOICES[i % 3], CHOICES) for i, text in enumerate(TEXTS)]
    return tokenize(shown, model.tokenizer, tmp_path_factory.mktemp("ranked"), "ranked", True, 24, 16)


def free(directory: pathlib.Path, model: tiny.Backbone, targets: list[str]) -> Rows:
    shown = [Example(f"a{i}", target) for i, target in enumerate(targets)]
    return tokenize(shown, model.tokenizer, directory, "free", True, 24, 16)


def predictor(model: tiny.Backbone, **fields: object) -> Predictor:
    return Predictor(model.tokenizer, 2, (8, 24), 24, **fields)


def prompts(model: tiny.Backbone, count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(scale=3, size=(count, 3, model.config.d_model)).astype(np.float32)


def alone(model: tiny.Backbone, rows: Rows, row: int, prompt: np.ndarray | None) -> int:
    """The prediction of one row, scored in a batch of its own."""
    batch = rows.gather(np.array([row]), 24, 16, 3)
    return int(np.argmax(model.score(batch["inputs"], batch["choices"], prompt)))


def test_each_prompt_predicts_every_row(model: tiny.Backbone, ranked: Rows) -> None:
    """Sorted by length and padded to full batches on the way; the results are in the rows' own order."""
    values = [None, *prompts(model, 3)]
    results = predictor(model).predict(Prompted.with_each(model, values), [[ranked]])
    for prompt, (predictions,) in zip(values, results, strict=True):
        assert predictions.predicted.tolist() == [alone(model, ranked, row, prompt) for row in range(5)]
        assert predictions.expected.tolist() == [0, 1, 2, 0, 1] and predictions.unanswered == 0


def test_rows_of_a_batch_have_prompts_of_their_own(model: tiny.Backbone, ranked: Rows) -> None:
    values = prompts(model, 5)
    ((predictions,),) = predictor(model).predict(Prompted(model, lambda rows: [values[rows]]), [[ranked]])
    assert predictions.predicted.tolist() == [alone(model, ranked, row, values[row]) for row in range(5)]
    assert len(set(predictions.predicted.tolist())) > 1


def test_nan_is_no_answer_of_any_row(model: tiny.Backbone, ranked: Rows) -> None:
    overflowed = np.full((3, model.config.d_model), np.nan, np.float32)
    (first,), (second,) = predictor(model).predict(Prompted.with_each(model, [None, overflowed]), [[ranked]])
    assert first.unanswered == 0 and second.unanswered == 5 and second.measure("accuracy") == 0.0
    assert (second.predicted == metrics.NO_ANSWER).all()


def test_tasks_of_both_kinds_and_a_limit(model: tiny.Backbone, ranked: Rows, tmp_path: pathlib.Path) -> None:
    texts = free(tmp_path, model, ["blue", "red", "blue", "red"])
    models = Prompted.with_each(model, [None], 4)
    ((choices, continued),) = predictor(model, limit=3).predict(models, [[ranked, texts]])
    assert choices.predicted.tolist() == [alone(model, ranked, row, None) for row in range(3)]
    assert continued.expected.tolist() == ["blue", "red", "blue"]
    tokens = np.asarray(model.generate(texts.inputs(np.arange(3), 24), 4))
    assert continued.predicted.tolist() == [model.tokenizer.decode(row) for row in tokens]


def test_the_loop_can_be_ended_between_batches(model: tiny.Backbone, ranked: Rows) -> None:
    seen = []

    def stop() -> None:
        seen.append(1)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predictor(model, before_batch=stop).predict(Prompted.with_each(model, [None]), [[ranked]])
    assert len(seen) == 2


def test_the_most_frequent_answer_is_counted_as_exact_match_compares(
    model: tiny.Backbone, ranked: Rows, tmp_path: pathlib.Path
) -> None:
    frequent = majority(free(tmp_path, model, ["blue", "Red", "red "]))
    assert frequent.measure("exact_match") == pytest.approx(2 / 3)
    assert majority(ranked, limit=4).measure("accuracy") == 0.5


def test_rows_taken_are_those_rows(ranked: Rows) -> None:
    numbers = np.array([3, 1])
    taken = ranked.take(numbers)
    assert len(taken) == 2 and taken.fingerprint == ranked.fingerprint
    expected, actual = (rows.gather(n, 24, 16, 3) for rows, n in ((ranked, numbers), (taken, np.arange(2))))
    for name, values in expected.items():
        np.testing.assert_array_equal(actual[name], values)


def test_the_embedded_vocabulary_can_spell_every_free_answer() -> None:
    """But for case, so that exact match with the text as it is written is fair to what the backbone generates."""
    tokenizer, count = load_backbone("nano", mesh=tiny.one_device()).tokenizer, 0
    for task in find_tasks(read_config(str(CONFIG)), every_template=True):
        if task.metric == "exact_match":
            written = [example.target for example in examples(task, "validation[:100]")]
            spelled = [tokenizer.decode(tokens) for tokens in tokenizer.encode(written)]
            assert metrics.exact_match(spelled, written) == 1.0, task.id
            count += spelled != written
    assert count  # case is folded
