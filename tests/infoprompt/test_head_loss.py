"""The head loss: which vectors it compares, and that its gradient reaches the prompt."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from infoprompt_jax.infoprompt.head_loss import answer_pairs, label_pairs
from infoprompt_jax.infoprompt.objective import Objective
from infoprompt_jax.t5.model import T5


@pytest.fixture(scope="module")
def model() -> tiny.Backbone:
    return tiny.backbone()


@pytest.fixture
def rows() -> dict[str, np.ndarray]:
    return {name: value[0] for name, value in tiny.batch(seed=11).items()}


def merged(model: tiny.Backbone) -> T5:
    return nnx.merge(model.graph, model.frozen)


@pytest.mark.parametrize("bilinear", [False, True])
def test_label_pairs(model: tiny.Backbone, rows: dict[str, Any], bilinear: bool) -> None:
    rng = np.random.default_rng(0)
    prompt, kernel = rng.normal(size=(tiny.P, 64)), rng.normal(size=(64, 64))
    made = label_pairs(merged(model), rows, jnp.float32(prompt), None, jnp.float32(kernel) if bilinear else None)
    for b, first in enumerate(rows["choices"][..., 0]):
        label = np.asarray(model.head_rows(first), np.float64).mean(axis=0)
        np.testing.assert_allclose(made.anchor_BD[b], kernel @ label if bilinear else label, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(made.positive_BD[b], prompt.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(made.negative_BKD, model.embed(rows["inputs"]))
    np.testing.assert_array_equal(made.mask_BK, rows["inputs"] != 0)


def test_answer_pairs_know_the_answer_of_each_row(model: tiny.Backbone, rows: dict[str, Any]) -> None:
    """Row 0 has two choices that begin alike, row 1 two choices, row 2 none; a sampled piece equals row 3's answer."""
    rows = {name: value.copy() for name, value in rows.items()}
    rows["label"][:] = [0, 1, -1, 2]
    rows["choices"][0, 1, 0] = rows["choices"][0, 0, 0]
    rows["choices"][1, 2], rows["choices"][2] = 0, 0
    first = rows["choices"][..., 0]
    answers = np.array([first[0, 0], first[1, 1], rows["targets"][2, 0], first[3, 2]])
    sampled = np.array([200, answers[3]])
    anchor = np.random.default_rng(0).normal(size=(4, 64))
    made = answer_pairs(merged(model), rows, jnp.float32(anchor), jnp.asarray(sampled))
    np.testing.assert_allclose(made.anchor_BD, anchor, rtol=1e-6)
    np.testing.assert_array_equal(made.positive_BD, model.head_rows(answers))
    for b, answer in enumerate(answers):
        others = [piece for piece in (*first[b], *sampled) if piece not in (0, answer)]
        found = np.asarray(made.negative_BKD[b])[np.asarray(made.mask_BK)[b]]
        np.testing.assert_array_equal(found, model.head_rows(np.array(others)), err_msg=str(b))


def test_a_verbalizer_replaces_the_choices_and_not_the_sampled_pieces(
    model: tiny.Backbone, rows: dict[str, Any]
) -> None:
    verbalizer = jnp.float32(np.random.default_rng(1).normal(size=(tiny.C, 64)))
    rows = {name: value.copy() for name, value in rows.items()}
    rows["choices"][0, :, 0] = rows["choices"][0, 0, 0]  # choices that begin alike have rows of their own
    made = answer_pairs(merged(model), rows, jnp.zeros(64), jnp.array([7]), verbalizer, 2 * jnp.eye(64))
    np.testing.assert_allclose(made.positive_BD, 2 * verbalizer[rows["label"]], rtol=1e-6)
    np.testing.assert_allclose(made.negative_BKD[0, : tiny.C], 2 * verbalizer, rtol=1e-6)
    np.testing.assert_array_equal(made.mask_BK[:, : tiny.C], np.arange(tiny.C) != rows["label"][:, None])
    np.testing.assert_allclose(made.negative_BKD[0, tiny.C], 2 * model.head_rows(np.array([7]))[0], rtol=1e-5)


@pytest.mark.parametrize("head", ["released_code", "answer", "conditional"])
@pytest.mark.parametrize("score", ["product", "cosine"])
def test_the_gradient_reaches_the_prompt(model: tiny.Backbone, rows: dict[str, Any], head: str, score: str) -> None:
    objective = Objective(
        graph=model.graph, representation_term=False, head=head, score=score, vocabulary=tuple(range(3, 60))
    )
    value = np.asarray(model.embed(np.arange(5, 5 + tiny.P)[None])[0])
    trainable = objective.init(value, jax.random.key(0))

    def gradients(trainable: Any) -> Any:
        by_addend, _ = objective.gradients(trainable, model.frozen, rows, tiny.hyper_of_one(), jax.random.key(1), 0.0)
        return by_addend["head"]

    assert np.abs(jax.jit(gradients)(trainable)["prompt"]["value"]).max() > 1e-6


def test_choices_that_all_begin_alike_estimate_nothing(model: tiny.Backbone, rows: dict[str, Any]) -> None:
    """Without sampled pieces no row has negatives: no gradient, and a ceiling of 0 that says so."""
    objective = Objective(graph=model.graph, representation_term=False, head="answer", vocabulary_negatives=0)
    rows = rows | {"choices": rows["choices"].copy()}
    rows["choices"][..., 0] = 7
    trainable = objective.init(np.asarray(model.embed(np.arange(5, 5 + tiny.P)[None])[0]), jax.random.key(0))
    _, parts = jax.jit(objective.loss)(
        trainable, model.frozen, rows, tiny.hyper_of_one(), jax.random.key(1), jnp.float32(0)
    )
    assert (parts["head_mi"], parts["head_most"]) == (0, 0)
