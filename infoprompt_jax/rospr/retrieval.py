"""RoSPr's choice of a soft prompt for an unseen task (arXiv 2210.03029): votes, INTER and VAR.

    search      the N nearest keys of each query, without those of excluded source prompts
    votes       each hit is a vote for the source prompt that owns the key; the most voted for is RoSPr's choice
    INTER       the mean of the N' most voted for, weighted by their votes
    VAR         ranks candidates by votes / (variance of the answers + eps): a prompt that gives most queries the same
                answer is biased
    per query   each query takes the winner of its own hits

Ties are broken by rules, so that a choice can be repeated. Candidates with equal votes are ordered by their summed
similarity, the larger first; then by their number in the library, the lower first.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from infoprompt_jax.errors import UserError
from infoprompt_jax.evaluation.metrics import NO_ANSWER


@dataclasses.dataclass(frozen=True, eq=False)
class Hits:
    """The N nearest keys of Q queries, the most similar first."""

    scores_QN: np.ndarray  # float32, similarities
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
    """The prompt retrieved for a task, its source prompts with their weights (sum 1), and the votes behind it."""

    prompt_PD: np.ndarray
    owners: np.ndarray
    weights: np.ndarray
    votes: Votes
    hits: Hits


class Library(Protocol):
    """What retrieval reads of a `PromptLibrary`."""

    @functools.cached_property
    def owners_K(self) -> np.ndarray: ...  # noqa: N802 (axes are capitals)
    def search(self, queries_QR: ArrayLike, top: int = 10, approximate: bool = False) -> Hits: ...
    def prompts(self, owners: ArrayLike) -> np.ndarray: ...


def retrieve(
    library: Library,
    queries_QR: ArrayLike,
    top: int = 10,
    interpolate: int = 1,
    exclude: Iterable[int] = (),
    approximate: bool = False,
) -> Choice:
    """One prompt for a task: the most voted for, or the mean of the `interpolate` most voted for (INTER).

    Args:
      queries_QR: from `keys.encode_keys`, with the library's retriever.
      top: N, hits of each query; each hit is a vote.
      interpolate: N', source prompts in the mean; all candidates where there are fewer.
      exclude: numbers of source prompts that get no votes, for example those trained on the task itself.
      approximate: as in `PromptLibrary.search`.

    Raises:
      UserError: as `PromptLibrary.search`, or `interpolate` is less than 1.
    """
    interpolate = whole("interpolate", interpolate)
    if interpolate < 1:
        raise UserError(f"interpolate={interpolate} candidates make no prompt: choose 1 or more.")
    hits = search(library, queries_QR, top, exclude, approximate)
    candidates = votes(hits)
    owners = candidates.owners[:interpolate]
    weights = interpolation_weights(candidates.frequencies[:interpolate])
    return Choice(interpolated(library.prompts(owners), weights), owners, weights, candidates, hits)


def search(
    library: Library, queries_QR: ArrayLike, top: int, exclude: Iterable[int] = (), approximate: bool = False
) -> Hits:
    """The `top` nearest keys of each query that excluded source prompts do not own.

    The library is searched for as many more keys as the excluded prompts own. Where the others own fewer than `top`
    keys, each query's hits are all of them.

    Raises:
      UserError: as `PromptLibrary.search`, or nothing is left to find.
    """
    top = whole("top", top)
    exclude = _numbers(exclude, int(library.owners_K.max()) + 1)
    excluded_K = np.isin(library.owners_K, exclude)
    excluded, total = int(excluded_K.sum()), len(excluded_K)
    if not excluded:
        return library.search(queries_QR, top, approximate)
    if top < 1 or excluded == total:
        raise UserError(
            f"top={top} must be at least 1, and `exclude` must leave a source prompt; {total - excluded} keys are left."
        )
    hits = library.search(queries_QR, min(top + excluded, total), approximate)
    order_QN = np.argsort(np.isin(hits.owners_QN, exclude), axis=1, kind="stable")  # the excluded ones last
    kept_QN = order_QN[:, : min(top, total - excluded)]
    return Hits(*(np.take_along_axis(part, kept_QN, axis=1) for part in (hits.scores_QN, hits.owners_QN, hits.keys_QN)))


def whole(name: str, value: Any) -> int:
    """The value, if it is a whole number. Raises UserError."""
    try:
        return operator.index(value)
    except TypeError as error:
        raise UserError(f"{name}={value!r} is of type {type(value).__name__}: a whole number was expected.") from error


def _numbers(exclude: Iterable[int], count: int) -> list[int]:
    """The numbers as a list, which NumPy takes apart as it does not a set. Raises UserError for others than `count`."""
    if not isinstance(exclude, Iterable):
        raise UserError(f"exclude={exclude!r} is no list: write [{exclude!r}].")
    numbers = [whole("exclude", number) for number in exclude]
    for number in numbers:
        if not 0 <= number < count:
            raise UserError(
                f"exclude names the source prompt {number}, but the library has the numbers 0 to {count - 1}."
            )
    return numbers


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
    """The `count` most similar keys of a candidate, each as (key, the query nearest to it, similarity)."""
    places = np.argwhere(hits.owners_QN == owner)
    scores = hits.scores_QN[tuple(places.T)]
    by_key: dict[int, tuple[int, int, float]] = {}
    for place in np.argsort(-scores, kind="stable"):
        query, rank = places[place]
        key = int(hits.keys_QN[query, rank])
        by_key.setdefault(key, (key, int(query), float(scores[place])))
    return list(by_key.values())[:count]


def interpolation_weights(scores: ArrayLike) -> np.ndarray:
    """w_i = score_i / sum of scores, of frequencies (INTER) or of `variance_scores` (VAR with INTER)."""
    scores = np.asarray(scores, np.float64)
    return scores / scores.sum()


def interpolated(prompts_NPD: np.ndarray, weights_N: ArrayLike) -> np.ndarray:
    """INTER: E = sum_i w_i E_i, summed in float64, as float32 [P, D]."""
    return np.einsum("NPD,N->PD", prompts_NPD, np.asarray(weights_N, np.float64)).astype(np.float32)


def comparable_answers(answers_NQ: np.ndarray, shared_QC: np.ndarray | None) -> np.ndarray:
    """Answers as VAR counts them: by their text where all queries share one set of choices, else by their position.

    Queries may have the same choices in different orders, as BIG-bench's do. A prompt that always gives one of them
    then answers at every position, and only the text shows its bias.

    Args:
      answers_NQ: positions of the chosen answers, or `NO_ANSWER`.
      shared_QC: `Rows.shared_choices` of the queries: the number of each choice among the first query's, or None.
    """
    if shared_QC is None:
        return answers_NQ
    number_NQ = shared_QC[np.arange(len(shared_QC)), answers_NQ]
    return np.where(answers_NQ == NO_ANSWER, NO_ANSWER, number_NQ)


def answer_variance(predictions: ArrayLike, choices: ArrayLike) -> np.ndarray:
    """How far the answers to Q queries are from an even spread over the answer choices; 0 = no bias.

    Where all queries have C choices, it is the variance of the C fractions of queries that chose each (RoSPr, VAR).
    Where they differ in their numbers of choices, the first choices are chosen more often by chance. Query q then
    expects each of its C_q choices with 1 / C_q, and deviations are taken from expected_c, the mean over the queries.

    Args:
      predictions: numbers of the chosen answers in [0, C_q), any leading axes and Q: [Q] or [candidates, Q]. A
        `NO_ANSWER` counts as an answer that no query is expected to get: a broken prompt is not an unbiased one.
      choices: the numbers of answer choices C_q, [Q], or one number for all.

    Returns:
      The sum over answers of (fraction of queries that chose it - expected)**2, divided by C = max C_q. With constant C
      and no `NO_ANSWER` the largest value is (C - 1) / C**2, where one answer is always chosen.
    """
    predictions_NQ = np.asarray(predictions)
    choices_Q1 = np.broadcast_to(choices, predictions_NQ.shape[-1:])[:, None]
    numbers_C = np.arange(choices_Q1.max())
    expected_C = np.where(numbers_C < choices_Q1, 1 / choices_Q1, 0.0).mean(axis=0)
    fractions_NC = (predictions_NQ[..., None] == numbers_C).mean(axis=-2)
    unanswered_N = (predictions_NQ == NO_ANSWER).mean(axis=-1)
    return ((fractions_NC - expected_C) ** 2).mean(axis=-1) + unanswered_N**2 / len(numbers_C)


def variance_scores(frequencies: ArrayLike, variances: ArrayLike, eps: float) -> np.ndarray:
    """The VAR score of each candidate: frequency / (variance + eps).

    Raises:
      UserError: eps is not positive; a candidate without any bias would divide by it.
    """
    if not eps > 0:
        raise UserError(f"eps={eps} is not positive, but is added to variances that may be 0: choose one such as 0.01.")
    return np.asarray(frequencies, np.float64) / (np.asarray(variances, np.float64) + eps)
