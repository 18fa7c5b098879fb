"""Votes, weights and variances against tables worked by hand, and against counting one by one."""

from __future__ import annotations

import collections

import numpy as np
import pytest

from infoprompt_jax.errors import UserError
from infoprompt_jax.rospr import retrieval
from infoprompt_jax.rospr.retrieval import Hits

# Three queries with four hits each. Owner 7 has 4 hits, 2 and 5 have 3 each, 0 and 1 have one: of 2 and 5 it is 5
# that is more similar in sum (6 against 5), and 0 and 1 are equal there too.
HITS = Hits(
    scores_QN=np.array([[4, 3, 2, 1], [2.5, 2, 1.5, 0.5], [3, 1, 0.5, 0.5]], np.float32),
    owners_QN=np.array([[7, 5, 2, 7], [2, 5, 7, 1], [7, 5, 2, 0]], np.int32),
    keys_QN=np.array([[70, 50, 20, 71], [21, 51, 70, 10], [70, 52, 20, 0]], np.int32),
)


def test_votes_by_hand() -> None:
    votes = retrieval.votes(HITS)
    assert votes.owners.tolist() == [7, 5, 2, 0, 1]
    assert votes.frequencies.tolist() == [4, 3, 3, 1, 1]
    assert votes.similarities.tolist() == [9.5, 6.0, 5.0, 0.5, 0.5]


def test_frequency_outweighs_similarity_and_similarity_the_number() -> None:
    hits = Hits(np.array([[9, 1, 1], [3, 4, 0]], np.float32), np.array([[0, 2, 2], [3, 4, 5]]), np.zeros((2, 3)))
    assert retrieval.votes(hits).owners.tolist() == [2, 0, 4, 3, 5]


def test_votes_equal_counting() -> None:
    random = np.random.default_rng(0)
    hits = Hits(
        random.standard_normal((32, 10)).astype(np.float32),
        random.integers(0, 20, (32, 10)).astype(np.int32),
        np.zeros((32, 10), np.int32),
    )
    votes = retrieval.votes(hits)
    counted = collections.Counter(hits.owners_QN.ravel().tolist())
    assert dict(zip(votes.owners.tolist(), votes.frequencies.tolist(), strict=True)) == counted
    assert (np.diff(votes.frequencies) <= 0).all() and votes.frequencies.sum() == 320


def test_each_query_has_a_winner_of_its_own() -> None:
    """7 twice; four owners with one hit each, of which 2 is the most similar; 7."""
    assert retrieval.per_query(HITS).tolist() == [7, 2, 7]


def test_the_nearest_instances_of_a_candidate() -> None:
    """Key 70 is found three times and named once, with the query that is nearest to it."""
    assert retrieval.nearest(HITS, 7) == [(70, 0, 4.0), (71, 0, 1.0)]
    assert retrieval.nearest(HITS, 2, count=1) == [(21, 1, 2.5)]
    assert retrieval.nearest(HITS, 3) == []


def test_interpolation_by_hand() -> None:
    weights = retrieval.interpolation_weights([4, 3, 3])
    np.testing.assert_allclose(weights, [0.4, 0.3, 0.3], rtol=1e-15)
    prompts = np.array([[[1, 0]], [[0, 10]], [[-1, 10]]], np.float32)
    actual = retrieval.interpolated(prompts, weights)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, [[0.1, 6.0]], rtol=1e-6)


def test_one_prompt_is_left_as_it_is() -> None:
    prompt = np.random.default_rng(0).standard_normal((1, 5, 8)).astype(np.float32)
    np.testing.assert_array_equal(retrieval.interpolated(prompt, retrieval.interpolation_weights([3])), prompt[0])


@pytest.mark.parametrize(
    ("predictions", "choices", "variance"),
    [
        ([0, 1, 0, 1], 2, 0.0),  # 1/2, 1/2
        ([1, 1, 1, 1], 2, 0.25),  # 0, 1
        ([0, 0, 0, 1], 2, 0.0625),  # 3/4, 1/4: a quarter from the mean each
        ([0, 0, 1, 1], 3, 1 / 18),  # 1/2, 1/2, 0: (1/36 + 1/36 + 4/36) / 3
        ([2, 2, 2], 3, 2 / 9),
        ([0], 1, 0.0),
        ([-1, -1, -1], 3, 4 / 9),  # no answer: (1/9 + 1/9 + 1/9 + 1) / 3, twice that of one answer alone
        ([-1, 0, 1, 2], 3, (3 * (1 / 12) ** 2 + (1 / 4) ** 2) / 3),
    ],
)
def test_answer_variance_by_hand(predictions: list[int], choices: int, variance: float) -> None:
    np.testing.assert_allclose(retrieval.answer_variance(predictions, choices), variance, atol=1e-15)
    both = retrieval.answer_variance([predictions, predictions[::-1]], choices)
    np.testing.assert_allclose(both, [variance, variance], atol=1e-15)


@pytest.mark.parametrize("choices", [2, 3, 5])
def test_answer_variance_is_that_of_the_fractions_where_all_have_as_many_choices(choices: int) -> None:
    predictions_NQ = np.random.default_rng(choices).integers(0, choices, (4, 32))
    fractions_NC = (predictions_NQ[..., None] == np.arange(choices)).mean(axis=1)
    actual = retrieval.answer_variance(predictions_NQ, np.full(32, choices))
    np.testing.assert_allclose(actual, fractions_NC.var(axis=-1), atol=1e-15)


def test_answer_variance_of_unequal_numbers_of_choices_by_hand() -> None:
    """Two queries with two choices and four with four: of A and B each 2/6 are expected, of C and D 1/6."""
    counts_Q = [2, 2, 4, 4, 4, 4]
    balanced, always_a = [0, 1, 0, 1, 2, 3], [0] * 6
    expected = [0.0, ((4 / 6) ** 2 + (2 / 6) ** 2 + 2 * (1 / 6) ** 2) / 4]
    np.testing.assert_allclose(retrieval.answer_variance([balanced, always_a], counts_Q), expected, atol=1e-15)


def test_variance_scores_by_hand() -> None:
    """6 / 1, 4 / 0.5, 2 / 0.25: the most frequent one is biased and comes last."""
    scores = retrieval.variance_scores([6, 4, 2], [0.75, 0.25, 0.0], eps=0.25)
    assert scores.tolist() == [6, 8, 8]
    np.testing.assert_allclose(retrieval.interpolation_weights(scores[1:]), [0.5, 0.5])


@pytest.mark.parametrize("eps", [0.0, -1.0, float("nan")])
def test_eps_must_be_positive(eps: float) -> None:
    with pytest.raises(UserError, match=r"^eps=.* is not positive"):
        retrieval.variance_scores([1], [0.0], eps)
