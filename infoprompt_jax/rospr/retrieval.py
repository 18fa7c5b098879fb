"""RoSPr's choice of a soft prompt for an unseen task: from the keys that are found to one prompt (arXiv 2210.03029).

Each query instance finds its N nearest keys, and each hit votes for the source prompt that owns the key. The most
frequent candidate is taken, or the N' most frequent are interpolated (INTER). VAR ranks candidates by frequency over
the variance of the answers that they lead to: a prompt that always gives the same answer is biased. An answer is its
text where all queries share one set of answer choices, and else its position (`zero_shot.counted`). Where queries
differ in their number of answer choices, the first are chosen more often by chance too; that much is no bias. Per
query, every instance takes the winner of its own hits.

What is equal is told apart by rules, so that a choice can be repeated: candidates of one frequency by their summed
similarity, the larger first, and of one similarity by their number in the library, the lower first.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from infoprompt_jax.errors import UserError


@dataclasses.dataclass(frozen=True, eq=False)
class Hits:
    """What Q queries found, N hits each, the most similar first."""

    scores_QN: np.ndarray  # float32
    owners_QN: np.ndarray  # int32, the source prompt that owns the key
    keys_QN: np.ndarray  # int32, the key's number in the library


@dataclasses.dataclass(frozen=True, eq=False)
class Votes:
    """The candidates, the most voted for first; all arrays have one entry a candidate."""

    owners: np.ndarray  # int32
    frequencies: np.ndarray  # int64, hits of all queries
    similarities: np.ndarray  # float64, the scores of these hits summed


@dataclasses.dataclass(frozen=True, eq=False)
class Choice:
    """A prompt for a task, the source prompts that it is made of with their weights (sum 1), and why."""

    prompt_PD: np.ndarray
    owners: np.ndarray
    weights: np.ndarray
    votes: Votes
    hits: Hits


def votes(hits: Hits) -> Votes:
    """Counts the hits of each source prompt that has any (RoSPr, retrieval)."""
    owners, candidate = np.unique(hits.owners_QN.ravel(), return_inverse=True)
    frequencies = np.bincount(candidate, minlength=len(owners))
    similarities = np.bincount(candidate, hits.scores_QN.ravel().astype(np.float64), minlength=len(owners))
    order = np.lexsort((owners, -similarities, -frequencies))
    return Votes(owners[order], frequencies[order], similarities[order])


def per_query(hits: Hits) -> np.ndarray:
    """The source prompt [Q] that wins the votes of each query's own hits."""
    rows = zip(hits.scores_QN, hits.owners_QN, hits.keys_QN, strict=True)
    return np.array([votes(Hits(*row)).owners[0] for row in rows], np.int32)


def nearest(hits: Hits, owner: int, count: int = 3) -> list[tuple[int, int, float]]:
    """Why a candidate was voted for: its `count` most similar keys as (key, the query nearest to it, score)."""
    places = np.argwhere(hits.owners_QN == owner)
    scores = hits.scores_QN[tuple(places.T)]
    found: dict[int, tuple[int, int, float]] = {}
    for place in np.argsort(-scores, kind="stable"):
        query, rank = places[place]
        key = int(hits.keys_QN[query, rank])
        found.setdefault(key, (key, int(query), float(scores[place])))
    return list(found.values())[:count]


def interpolation_weights(scores: ArrayLike) -> np.ndarray:
    """w_i = score_i / sum of scores, of frequencies (INTER) or of `variance_scores` (VAR with INTER)."""
    scores = np.asarray(scores, np.float64)
    return scores / scores.sum()


def interpolate(prompts_NPD: np.ndarray, weights_N: ArrayLike) -> np.ndarray:
    """E = sum_i w_i E_i, summed in float64, as float32 [P, D]."""
    return np.einsum("NPD,N->PD", prompts_NPD, np.asarray(weights_N, np.float64)).astype(np.float32)


def answer_variance(predictions: ArrayLike, choices: ArrayLike) -> np.ndarray:
    """How unevenly answers fall on the answer choices, beyond what the queries' numbers of choices make them.

    With C_q choices for query q, answers that fall evenly choose the c-th in a share expected_c = mean over q of
    [c < C_q] / C_q; where all have C, that is 1 / C, the mean of the fractions, and the result is their variance.

    Args:
      predictions: numbers of the chosen answers in [0, C_q), any leading axes and Q: [Q] or [candidates, Q].
      choices: the numbers of answer choices C_q, [Q], or one number for all.

    Returns:
      The mean over the C = max C_q answers of (fraction of queries that chose it - expected)**2: 0 where all are chosen
      as often as expected, with constant C (C - 1) / C**2 where one always is.
    """
    predictions_NQ = np.asarray(predictions)
    choices_Q1 = np.broadcast_to(choices, predictions_NQ.shape[-1:])[:, None]
    numbers_C = np.arange(choices_Q1.max())
    expected_C = np.where(numbers_C < choices_Q1, 1 / choices_Q1, 0.0).mean(axis=0)
    fractions_NC = (predictions_NQ[..., None] == numbers_C).mean(axis=-2)
    return ((fractions_NC - expected_C) ** 2).mean(axis=-1)


def variance_scores(frequencies: ArrayLike, variances: ArrayLike, eps: float) -> np.ndarray:
    """VAR: score = frequency / (variance + eps), of candidates in the order given.

    Raises:
      UserError: eps is not positive; a candidate without any bias would divide by it.
    """
    if not eps > 0:
        raise UserError(f"eps={eps} is not positive, but is added to variances that may be 0: choose one such as 0.01.")
    return np.asarray(frequencies, np.float64) / (np.asarray(variances, np.float64) + eps)
