"""Where prompts start, by hand on a table of four embeddings."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infoprompt_jax.errors import UserError
from infoprompt_jax.prompts import prompts

TABLE = np.arange(12, dtype=np.float32).reshape(6, 2)
WORDS = {"yes": [2], "not so": [3, 4], "a b c": [2, 3, 4]}


def value(method: str, length: int, key: int = 0, **fields: Any) -> np.ndarray:
    return prompts.initial_value(
        method,
        length,
        jax.random.key(key),
        width=2,
        embed=lambda ids: jnp.asarray(TABLE[ids]),
        encode=lambda texts: [np.array(WORDS[text]) for text in texts],
        pieces=np.array([3, 4, 5]),
        **fields,
    )


def test_vocabulary_samples_the_given_pieces_without_repeating_while_there_are_enough() -> None:
    rows = {tuple(TABLE[i]) for i in (3, 4, 5)}
    for key in range(5):
        assert {tuple(row) for row in value("vocabulary", 3, key)} == rows
    assert value("vocabulary", 7).shape == (7, 2)
    assert {tuple(row) for row in value("vocabulary", 7)} <= rows


def test_labels_are_means_of_their_pieces_then_sampled() -> None:
    found = value("labels", 4, labels=("yes", "not so"))
    np.testing.assert_array_equal(found[0], TABLE[2])
    np.testing.assert_array_equal(found[1], (TABLE[3] + TABLE[4]) / 2)
    np.testing.assert_array_equal(found[2:], value("vocabulary", 4)[:2])
    assert value("labels", 1, labels=("yes", "not so")).shape == (1, 2)


def test_text_repeats_to_fill_and_is_cut() -> None:
    np.testing.assert_array_equal(value("text", 4, text="a b c"), TABLE[[2, 3, 4, 2]])
    np.testing.assert_array_equal(value("text", 2, text="a b c"), TABLE[[2, 3]])


def test_uniform_lies_within_half() -> None:
    found = value("uniform", 500)
    assert np.abs(found).max() <= 0.5 and found.std() == pytest.approx(1 / 12**0.5, rel=0.1)


@pytest.mark.parametrize("method", ["uniform", "vocabulary"])
def test_the_key_decides(method: str) -> None:
    np.testing.assert_array_equal(value(method, 3, key=1), value(method, 3, key=1))
    assert not np.array_equal(value(method, 9, key=1), value(method, 9, key=2))


@pytest.mark.parametrize(
    ("method", "words"),
    [("labels", "needs a task with fixed answer choices"), ("text", "set prompt.text"), ("vocab", "is neither one of")],
)
def test_what_cannot_be_started_from_is_refused(method: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        value(method, 3)


def test_an_instance_prompt_starts_near_its_value_and_no_gradient_reaches_the_features() -> None:
    static = np.ones((3, 8), np.float32)
    generator = prompts.generator(3, 8, 4, jax.random.key(0))
    features = jax.random.normal(jax.random.key(1), (2, 8))
    rows = prompts.prompt_rows(jnp.asarray(static), generator, features)
    assert rows.shape == (2, 3, 8) and 0 < np.abs(rows - static[None]).max() < 0.2
    assert not np.array_equal(rows[0], rows[1])
    assert not np.any(jax.grad(lambda h: prompts.prompt_rows(jnp.asarray(static), generator, h).sum())(features))
