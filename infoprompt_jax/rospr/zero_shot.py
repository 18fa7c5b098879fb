"""RoSPr on one evaluation task: retrieve source prompts, and rank answers with every method (arXiv 2210.03029).

Q unlabelled queries vote for source prompts. A method makes a prompt of the votes:

    none        no soft prompt                         var        of the N' most voted for the best by VAR's score
    rospr       the most voted for                     inter_var  those N', weighted by VAR's score
    inter       the N' most voted for, weighted        per_query  for each row the winner of the row's own votes
    oracle      the best source prompt by the labels: an upper bound for a single source prompt, and no method

With the oracle every source prompt answers every row. These answers are kept, and a method that takes a single source
prompt reads them. Without the oracle only the prompts that a method takes are scored.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Iterator, Sequence

import ml_collections
import numpy as np
from jax.typing import ArrayLike

from infoprompt_jax.data.batches import complete
from infoprompt_jax.data.rows import Rows
from infoprompt_jax.evaluation.predictions import Models, Predictor, Prompted
from infoprompt_jax.rospr import retrieval, source_keys
from infoprompt_jax.rospr.library import PromptLibrary
from infoprompt_jax.rospr.retrieval import Choice, Hits, Votes
from infoprompt_jax.t5.backbone import Backbone

log = logging.getLogger(__name__)

METHODS = ("none", "rospr", "inter", "var", "inter_var", "per_query", "oracle")


@dataclasses.dataclass(frozen=True, eq=False)
class Instances:
    """Rows `numbers` [B] of a task, in the backbone's tokens and in the retriever's."""

    rows: Rows
    retriever_rows: Rows
    numbers: np.ndarray

    @functools.cached_property
    def taken(self) -> Rows:
        """Only the rows `numbers`, in the backbone's tokens."""
        return self.rows.take(self.numbers)

    @property
    def labels(self) -> np.ndarray:
        """Numbers of the right answer choices, int32 [B]."""
        return self.rows.labels[self.numbers]


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Source prompts by their numbers in the library, with weights that sum to 1; empty = no prompt."""

    owners: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()

    def __iter__(self) -> Iterator[tuple[int, float]]:
        """Each source prompt with its weight."""
        return zip(self.owners, self.weights, strict=True)


@dataclasses.dataclass(frozen=True, eq=False)
class Candidates:
    """The N' most voted for, with the bias of their answers to the queries; empty arrays where no method needs it."""

    owners: np.ndarray
    answers_NQ: np.ndarray  # as `retrieval.comparable_answers` counts them
    variances: np.ndarray
    scores: np.ndarray  # VAR's: frequency / (variance + eps)


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """What each method predicts for every evaluated row, and why."""

    predictions: dict[str, np.ndarray]  # method -> [B]
    mixtures: dict[str, Mixture]  # of the methods that have one prompt for all rows
    hits: Hits
    votes: Votes
    candidates: Candidates
    owners_B: np.ndarray | None  # the source prompt of each row, with per_query
    table_MB: np.ndarray | None  # every source prompt's answers, with the oracle
    query_keys_QR: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class ZeroShot:
    """How tasks are evaluated: the library, the retriever that finds prompts in it, and the backbone that answers."""

    library: PromptLibrary
    retriever: Backbone
    backbone: Backbone
    predictor: Predictor
    settings: ml_collections.ConfigDict  # config.rospr

    def evaluate(
        self,
        evaluated: Instances,
        queries: Instances,
        metric: Callable[[np.ndarray, np.ndarray], float],
        exclude: Sequence[int] = (),
    ) -> Outcome:
        """Predictions of the methods in `settings.methods`.

        Args:
          metric: of predictions and labels, for the oracle.
          exclude: source prompts, not all, that no method may take.
        """
        methods, top = self.settings.methods, self.settings.top
        query_keys_QR = self.encode(queries)
        choice = retrieval.retrieve(self.library, query_keys_QR, top, self.settings.interpolate, exclude)
        candidates = self.candidates(choice, queries)
        mixtures = self.mixtures(choice, candidates)
        table_MB = owners_B = None
        if "oracle" in methods:
            table_MB = self.answers_with_each(evaluated, list(self.library.prompts_MPD))
            scores_M = np.array([metric(answers_B, evaluated.labels) for answers_B in table_MB])
            scores_M[list(exclude)] = -np.inf
            mixtures["oracle"] = Mixture((int(np.argmax(scores_M)),), (1.0,))
        mixtures = {method: mixtures[method] for method in methods if method in mixtures}
        predictions = self.predictions(mixtures, evaluated, table_MB)
        if "per_query" in methods:
            owners_B = retrieval.per_query(retrieval.search(self.library, self.encode(evaluated), top, exclude))
            predictions["per_query"] = self.predictions_by_row(owners_B, evaluated, table_MB)
        return Outcome(predictions, mixtures, choice.hits, choice.votes, candidates, owners_B, table_MB, query_keys_QR)

    def encode(self, instances: Instances) -> np.ndarray:
        """Keys [B, R], by the function that makes the library's keys."""
        rows = instances.retriever_rows
        buckets = complete(self.predictor.buckets, rows.max_input_length)
        return source_keys.encode(self.retriever, rows, instances.numbers, buckets)

    def answers_with_each(self, instances: Instances, prompts: Sequence[ArrayLike | None]) -> np.ndarray:
        """The answers [N, B] of each of N prompts [P, D], or none; `metrics.NO_ANSWER` where a score is NaN."""
        if not prompts:
            return np.empty((0, len(instances.numbers)), np.int32)
        return self._answers(instances, Prompted.with_each(self.backbone, prompts))

    def _answers(self, instances: Instances, models: Models) -> np.ndarray:
        predictions = [of_task for (of_task,) in self.predictor.predict(models, [[instances.taken]])]
        if unanswered := sum(one.unanswered for one in predictions):
            # One source prompt that overflows is no reason to end the evaluation of the others.
            log.warning(
                "%s: the scores of %d answers are NaN; they count as wrong. backbone.dtype='float32' may help.",
                instances.rows.name,
                unanswered,
            )
        return np.stack([one.predicted for one in predictions])

    def candidates(self, choice: Choice, queries: Instances) -> Candidates:
        """The first N' with the bias of their answers (RoSPr, VAR); scored only where a method needs it."""
        owners = choice.owners
        if not {"var", "inter_var"} & set(self.settings.methods):
            return Candidates(owners, np.empty((0, 0), np.int32), np.empty(0), np.empty(0))
        answers_NQ = self.answers_with_each(queries, list(self.library.prompts(owners)))
        answers_NQ = retrieval.comparable_answers(answers_NQ, queries.rows.shared_choices(queries.numbers))
        variances = retrieval.answer_variance(answers_NQ, queries.rows.choice_counts(queries.numbers))
        scores = retrieval.variance_scores(choice.votes.frequencies[: len(owners)], variances, self.settings.eps)
        return Candidates(owners, answers_NQ, variances, scores)

    def mixtures(self, choice: Choice, candidates: Candidates) -> dict[str, Mixture]:
        """What each method makes of the votes, for those that have one prompt for all rows."""
        owners = tuple(choice.owners.tolist())
        by_method = {
            "none": Mixture(),
            "rospr": Mixture(owners[:1], (1.0,)),
            "inter": Mixture(owners, tuple(choice.weights.tolist())),
        }
        if len(candidates.scores):
            by_score = retrieval.interpolation_weights(candidates.scores)
            by_method["var"] = Mixture((owners[int(np.argmax(candidates.scores))],), (1.0,))
            by_method["inter_var"] = Mixture(owners, tuple(by_score.tolist()))
        return by_method

    def prompt(self, mixture: Mixture) -> np.ndarray | None:
        """The value [P, D]."""
        if not mixture.owners:
            return None
        return retrieval.interpolated(self.library.prompts(np.array(mixture.owners)), mixture.weights)

    def predictions(
        self, mixtures: dict[str, Mixture], evaluated: Instances, table_MB: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        """The answers [B] by method; a mixture that several methods share is scored once."""
        answers: dict[Mixture, np.ndarray] = {}
        if table_MB is not None:
            answers = {m: table_MB[m.owners[0]] for m in mixtures.values() if len(m.owners) == 1}
        missing = [mixture for mixture in dict.fromkeys(mixtures.values()) if mixture not in answers]
        scored = self.answers_with_each(evaluated, [self.prompt(mixture) for mixture in missing])
        answers |= dict(zip(missing, scored, strict=True))
        return {method: answers[mixture] for method, mixture in mixtures.items()}

    def predictions_by_row(self, owners_B: np.ndarray, evaluated: Instances, table_MB: np.ndarray | None) -> np.ndarray:
        """The answers [B] of rows with a source prompt for each row."""
        if table_MB is not None:
            return table_MB[owners_B, np.arange(len(owners_B))]
        prompts = Prompted(self.backbone, lambda places: [self.library.prompts(owners_B[places])])
        return self._answers(evaluated, prompts)[0]
