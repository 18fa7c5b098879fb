"""RoSPr on one target: retrieve, choose, and rank answers with every way of choosing (arXiv 2210.03029).

Q unlabelled instances vote for source prompts. The methods are the ways to make a prompt of the votes:

    none        the hard prompt alone              var        the best of the N' first candidates by votes / variance
    rospr       the most voted for                 inter_var  those N' mixed, with these scores as weights
    inter       the N' most voted for, mixed       per_query  for every row the prompt that its own hits vote for
    oracle      the best of all source prompts, found by the labels: an upper bound for one prompt, no method

For the oracle every source prompt answers every row. These answers are kept, and whatever takes one source prompt as it
is reads them; without it only the prompts that are needed are scored.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.typing import ArrayLike

from infoprompt_jax.data.batches import Batch, Shapes, bucket_lengths, complete
from infoprompt_jax.data.rows import Rows
from infoprompt_jax.evaluation import metrics
from infoprompt_jax.rospr import retrieval, source_keys
from infoprompt_jax.rospr.library import PromptLibrary
from infoprompt_jax.rospr.retrieval import Hits, Votes
from infoprompt_jax.t5.backbone import Backbone

log = logging.getLogger(__name__)

PromptsAt = Callable[[np.ndarray], Sequence[ArrayLike | None]]  # places in a list of rows -> N prompts for them
METHODS = ("none", "rospr", "inter", "var", "inter_var", "per_query", "oracle")


@dataclasses.dataclass(frozen=True, eq=False)
class Instances:
    """Rows `numbers` [B] of a task, in the backbone's tokens and in the retriever's."""

    rows: Rows
    retriever_rows: Rows
    numbers: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        return self.rows.labels[self.numbers]


def counted(answers_NQ: np.ndarray, instances: Instances) -> np.ndarray:
    """Answers as VAR counts them: by text where all instances share one set of choices, else by position.

    Rows may have the same choices in an order of their own, as BIG-bench's do; a prompt that always gives one of them
    gives it at every position. Texts are numbered as in the first instance.
    """
    number_QC = instances.rows.shared_choices(instances.numbers)
    if number_QC is None:
        return answers_NQ
    number_NQ = number_QC[np.arange(len(number_QC)), answers_NQ]
    return np.where(answers_NQ == metrics.NO_ANSWER, metrics.NO_ANSWER, number_NQ)


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Source prompts by their numbers in the library, with weights that sum to 1; of none of them, no prompt."""

    owners: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Candidates:
    """The N' most voted for, and what they answered the queries."""

    owners: np.ndarray
    answers_NQ: np.ndarray  # `counted`
    variances: np.ndarray
    scores: np.ndarray  # frequency / (variance + eps)


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """What each method predicts for every evaluated row, and why."""

    predictions: dict[str, np.ndarray]  # method -> [B]
    mixtures: dict[str, Mixture]  # of the methods that have one prompt for all rows
    hits: Hits
    votes: Votes
    candidates: Candidates
    own_B: np.ndarray | None  # the source prompt of each row, where asked for
    table_MB: np.ndarray | None  # every source prompt's answers, where asked for
    query_keys_QR: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Scorer:
    """Rank classification of tokenised rows, with soft prompts given by their values."""

    backbone: Backbone
    batch_size: int
    buckets: Sequence[int]
    max_input_length: int
    normalize: str = "none"
    check: Callable[[], None] = lambda: None  # called before every batch; what it raises ends the scoring

    def with_each(self, rows: Rows, numbers: np.ndarray, prompts: Sequence[ArrayLike | None]) -> np.ndarray:
        """The answers [N, B] to rows `numbers` [B] with each of N prompts [P, D], or none; NaN is `NO_ANSWER`."""
        if not prompts:
            return np.empty((0, len(numbers)), np.int32)
        placed = [None if prompt is None else jnp.asarray(prompt) for prompt in prompts]  # once for all batches
        return self._answers(rows, numbers, lambda _: placed)

    def with_own(self, rows: Rows, numbers: np.ndarray, prompts: Callable[[np.ndarray], ArrayLike]) -> np.ndarray:
        """The answers [B] to rows `numbers` [B]; `prompts` gives the values [b, P, D] of those at some places of B."""
        return self._answers(rows, numbers, lambda places: [prompts(places)])[0]

    def scores(self, rows: Rows, numbers: np.ndarray, prompts: PromptsAt) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batch by batch, places [b] among `numbers` and log-probabilities [N, b, C] of the answer choices there."""
        for places, batch in self._batches(rows, numbers):
            inputs, choices = batch["inputs"], batch["choices"]
            found = [self.backbone.score(inputs, choices, prompt, self.normalize) for prompt in prompts(places)]
            yield places, np.stack(jax.device_get(found))

    def _answers(self, rows: Rows, numbers: np.ndarray, prompts: PromptsAt) -> np.ndarray:
        found = [(places, metrics.answers(scores_NbC)) for places, scores_NbC in self.scores(rows, numbers, prompts)]
        order, answers = zip(*found, strict=True)
        answers_NB = np.empty((len(answers[0]), len(numbers)), np.int32)
        answers_NB[:, np.concatenate(order)] = np.concatenate(answers, axis=1)
        if unanswered := np.count_nonzero(answers_NB == metrics.NO_ANSWER):
            # One source prompt that overflows is no reason to end the evaluation of the others.
            log.warning(
                "%s: the scores of %d answers are NaN; they count as wrong. backbone.dtype='float32' may help.",
                rows.name,
                unanswered,
            )
        return answers_NB

    def _batches(self, rows: Rows, numbers: np.ndarray) -> Iterator[tuple[np.ndarray, Batch]]:
        """Places among `numbers`, short inputs first, with their rows; repetitions fill up the last batch."""
        shapes = Shapes.of([rows], self.buckets, self.max_input_length)
        order = np.argsort(rows.input_lengths[numbers], kind="stable")
        for start in range(0, len(order), self.batch_size):
            self.check()
            places = np.resize(order[start : start + self.batch_size], self.batch_size)
            longest = rows.input_lengths[numbers[places]].max()
            length = int(bucket_lengths(longest, shapes.buckets))
            yield places, rows.gather(numbers[places], length, shapes.target_length, shapes.choices)


@dataclasses.dataclass(frozen=True, eq=False)
class ZeroShot:
    """How targets are evaluated: the library, what finds prompts in it and what answers; `settings` is config.rospr."""

    library: PromptLibrary
    retriever: Backbone
    scorer: Scorer
    settings: ml_collections.ConfigDict

    def __call__(
        self,
        evaluated: Instances,
        queries: Instances,
        metric: Callable[[np.ndarray, np.ndarray], float],
        left_out: Sequence[int] = (),
    ) -> Outcome:
        """Predictions of the methods in `settings.methods`.

        Args:
          metric: of predictions and labels, for the oracle.
          left_out: source prompts, not all, that no method may take.
        """
        methods = self.settings.methods
        query_keys_QR = self.encode(queries)
        hits = self.search(query_keys_QR, left_out)
        votes = retrieval.votes(hits)
        candidates = self.candidates(votes, queries)
        mixtures = self.mixtures(votes, candidates)
        table_MB = own_B = None
        if "oracle" in methods:
            every = list(self.library.prompts_MPD)
            table_MB = self.scorer.with_each(evaluated.rows, evaluated.numbers, every)
            scores_M = np.array([metric(answers_B, evaluated.labels) for answers_B in table_MB])
            scores_M[list(left_out)] = -np.inf
            mixtures["oracle"] = Mixture((int(np.argmax(scores_M)),), (1.0,))
        mixtures = {method: mixtures[method] for method in methods if method in mixtures}
        predictions = self.predictions(mixtures, evaluated, table_MB)
        if "per_query" in methods:
            own_B = retrieval.per_query(self.search(self.encode(evaluated), left_out))
            predictions["per_query"] = self.own_predictions(own_B, evaluated, table_MB)
        return Outcome(predictions, mixtures, hits, votes, candidates, own_B, table_MB, query_keys_QR)

    def search(self, queries_QR: np.ndarray, left_out: Sequence[int]) -> Hits:
        """The library's hits without those of some source prompts: as many more are asked for as these have keys.

        Where the others have fewer than `top` keys, each query's hits are all of them.
        """
        top, owners_K = self.settings.top, self.library.owners_K
        more = int(np.isin(owners_K, left_out).sum())
        hits = self.library.search(queries_QR, min(top + more, len(owners_K)) if more else top)
        others_first = np.argsort(np.isin(hits.owners_QN, left_out), axis=1, kind="stable")
        kept = others_first[:, : min(top, len(owners_K) - more)]
        return Hits(
            *(np.take_along_axis(part, kept, axis=1) for part in (hits.scores_QN, hits.owners_QN, hits.keys_QN))
        )

    def encode(self, instances: Instances) -> np.ndarray:
        """Keys [B, R], by the function that has made the library's."""
        rows = instances.retriever_rows
        return source_keys.encode(
            self.retriever, rows, instances.numbers, complete(self.scorer.buckets, rows.max_input_length)
        )

    def candidates(self, votes: Votes, queries: Instances) -> Candidates:
        """The first N' with the bias of their answers (methods: RoSPr, VAR); answered only where a method asks."""
        owners = votes.owners[: self.settings.interpolate]
        if not {"var", "inter_var"} & set(self.settings.methods):
            return Candidates(owners, np.empty((0, 0), np.int32), np.empty(0), np.empty(0))
        answers_NQ = self.scorer.with_each(queries.rows, queries.numbers, list(self.library.prompts(owners)))
        answers_NQ = counted(answers_NQ, queries)
        variances = retrieval.answer_variance(answers_NQ, queries.rows.choice_counts(queries.numbers))
        scores = retrieval.variance_scores(votes.frequencies[: len(owners)], variances, self.settings.eps)
        return Candidates(owners, answers_NQ, variances, scores)

    def mixtures(self, votes: Votes, candidates: Candidates) -> dict[str, Mixture]:
        """What each method makes of the votes, for those that have one prompt for all rows."""
        owners = tuple(candidates.owners.tolist())
        by_votes = retrieval.interpolation_weights(votes.frequencies[: len(owners)])
        made = {
            "none": Mixture(),
            "rospr": Mixture(owners[:1], (1.0,)),
            "inter": Mixture(owners, tuple(by_votes.tolist())),
        }
        if len(candidates.scores):
            by_score = retrieval.interpolation_weights(candidates.scores)
            made["var"] = Mixture((owners[int(np.argmax(candidates.scores))],), (1.0,))
            made["inter_var"] = Mixture(owners, tuple(by_score.tolist()))
        return made

    def prompt(self, mixture: Mixture) -> np.ndarray | None:
        """The value [P, D]."""
        if not mixture.owners:
            return None
        return retrieval.interpolate(self.library.prompts(np.array(mixture.owners)), mixture.weights)

    def predictions(
        self, mixtures: dict[str, Mixture], evaluated: Instances, table_MB: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        """The answers [B] by method; what several methods have in common is scored once."""
        answers: dict[Mixture, np.ndarray] = {}
        if table_MB is not None:
            answers = {m: table_MB[m.owners[0]] for m in mixtures.values() if len(m.owners) == 1}
        wanted = [mixture for mixture in dict.fromkeys(mixtures.values()) if mixture not in answers]
        found = self.scorer.with_each(evaluated.rows, evaluated.numbers, [self.prompt(m) for m in wanted])
        answers |= dict(zip(wanted, found, strict=True))
        return {method: answers[mixture] for method, mixture in mixtures.items()}

    def own_predictions(self, own_B: np.ndarray, evaluated: Instances, table_MB: np.ndarray | None) -> np.ndarray:
        """The answers [B] of each row's own source prompt."""
        if table_MB is not None:
            return table_MB[own_B, np.arange(len(own_B))]
        return self.scorer.with_own(
            evaluated.rows, evaluated.numbers, lambda places: self.library.prompts(own_B[places])
        )
