"""The loop from batches to predictions. Every evaluation goes through it: of fleets, of prompts, of a bare backbone.

A task with answer choices is ranked: the prediction is the choice with the largest score, and NaN is no answer
(`metrics.NO_ANSWER`). A task without choices is continued greedily: the prediction is the text. docs/scoring.md defines
the scores.

N models predict a batch together. A fleet has one model a member, and each member has rows of its own (N = M). Prompts
given by their values predict the same rows (M = 1), or each row has its own prompt (N = M = 1).
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from infoprompt_jax import memory
from infoprompt_jax.batch import EvalBatch
from infoprompt_jax.data.batches import eval_batches
from infoprompt_jax.data.rows import Rows
from infoprompt_jax.evaluation import metrics
from infoprompt_jax.evaluation.copies import NO_COPIES, Copies
from infoprompt_jax.fleet.fleet import Fleet
from infoprompt_jax.infoprompt.trainable import Trainable
from infoprompt_jax.progress import watched
from infoprompt_jax.t5 import partition, scoring
from infoprompt_jax.t5.backbone import Backbone, Prompts, SoftPrompt
from infoprompt_jax.t5.tokenizer import Tokenizer

Output = tuple[EvalBatch[np.ndarray], np.ndarray | None, np.ndarray | None]
TOO_MUCH = "lower train.eval_batch_size, data.max_input_length or fleet.at_once"
MODEL_FIELDS = ("inputs", "targets", "choices", "label", "weight")  # of a batch, that a fleet's program takes


class Models(Protocol):
    """N models that predict the same batch [M, B, ...]; M is N or 1."""

    def scores(self, batch: EvalBatch[np.ndarray]) -> np.ndarray:
        """Log-probabilities [N, B, C] of the answer choices, in nats; -inf for a choice that does not exist."""
        ...

    def generate(self, batch: EvalBatch[np.ndarray]) -> np.ndarray:
        """Greedy continuations, tokens [N, B, T]."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Members:
    """The members of a fleet, in one program; each predicts its own rows with its own trainable."""

    fleet: Fleet
    backbone: Backbone
    trainable: Trainable
    max_length: int

    def scores(self, batch: EvalBatch[np.ndarray]) -> np.ndarray:
        """As `Models.scores`; N is the number of members."""
        placed = self._placed(batch, MODEL_FIELDS)
        return np.asarray(self._run(self.fleet.scores, "Scoring", self.trainable, self.backbone.frozen, placed))

    def generate(self, batch: EvalBatch[np.ndarray]) -> np.ndarray:
        """As `Models.generate`; T is `max_length`."""
        placed = self._placed(batch, ("inputs",))  # not the answers, whose lengths would each need a program
        arguments = self.trainable, self.backbone.frozen, placed, self.max_length
        return np.asarray(self._run(self.fleet.generate, "Generation", *arguments))

    def _run(self, program: Any, what: str, trainable: Trainable, frozen: Any, placed: Any, *others: Any) -> jax.Array:
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves((placed, trainable)))
        what = f"{what} on inputs of {placed['inputs'].shape[-1]} tokens"
        return memory.run(program, (trainable, frozen, placed, *others), shapes, what, TOO_MUCH)

    def _placed(self, batch: EvalBatch[np.ndarray], fields: Sequence[str]) -> Any:
        sharding = partition.split(self.backbone.mesh, self.fleet.split_axis)
        return partition.place({name: batch[name] for name in fields}, sharding)


@dataclasses.dataclass(frozen=True, eq=False)
class Prompted:
    """A backbone with prompts given by their values; `prompts` gives N of them for the rows [B] of a batch.

    A prompt is what the backbone's methods take: None, [P, D], [B, P, D] with one for each row, or a saved prompt.
    """

    backbone: Backbone
    prompts: Callable[[np.ndarray], Sequence[Prompts]]
    max_length: int = 32

    @classmethod
    def with_each(cls, backbone: Backbone, prompts: Sequence[Prompts], max_length: int = 32) -> Prompted:
        """Each prompt predicts all rows."""
        placed = [p if p is None or isinstance(p, SoftPrompt) else jnp.asarray(p) for p in prompts]  # once for all
        return cls(backbone, lambda _: placed, max_length)

    def scores(self, batch: EvalBatch[np.ndarray]) -> np.ndarray:
        """As `Models.scores`, for a batch of M = 1; N is the number of prompts."""
        inputs, choices = batch["inputs"][0], batch["choices"][0]
        scores = [self.backbone.score(inputs, choices, prompt) for prompt in self.prompts(batch["row"][0])]
        return np.stack(jax.device_get(scores))

    def generate(self, batch: EvalBatch[np.ndarray]) -> np.ndarray:
        """As `Models.generate`, for a batch of M = 1; T is `max_length`."""
        inputs, prompts = batch["inputs"][0], self.prompts(batch["row"][0])
        return np.stack(jax.device_get([self.backbone.generate(inputs, self.max_length, p) for p in prompts]))


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """What one model predicts for the rows of a task, in their order, and what is right.

    Both arrays hold numbers of answer choices, int32 [rows], where `metrics.NO_ANSWER` stands for NaN. Where the task
    has no answer choices they hold texts, object [rows].
    """

    predicted: np.ndarray
    expected: np.ndarray

    def __len__(self) -> int:
        return len(self.expected)

    @property
    def unanswered(self) -> int:
        """How many rows have no answer, because one of their scores is NaN."""
        return int(np.count_nonzero(self.predicted == metrics.NO_ANSWER))

    def measure(self, metric: str) -> float:
        """The metric of that name; UserError where there is none."""
        return metrics.find_metric(metric)(self.predicted, self.expected)


@dataclasses.dataclass(frozen=True)
class Predictor:
    """The loop, with the settings that all evaluations of a run share."""

    tokenizer: Tokenizer
    batch_size: int
    buckets: Sequence[int]
    max_input_length: int
    normalize: str = "none"  # what scores are divided by, see `scoring.lengths`
    limit: int = 0  # the first rows of each task that are predicted; 0 = all
    before_batch: Callable[[], None] = lambda: None  # what it raises ends the loop
    title: str = "Evaluation, batches"  # of the progress in the log; "" = none

    def predict(
        self, models: Models, members: Sequence[Sequence[Rows]], copies: Copies = NO_COPIES
    ) -> list[list[Predictions]]:
        """The predictions of each of N models for each task: [N][tasks].

        Args:
          models: N of them.
          members: the tasks' rows of each of M members. With M = 1 all N models predict the same rows.
          copies: which of the members are equal.

        Raises:
          UserError: `normalize` is unknown, or whatever `before_batch` raises.
        """
        right = [[expected_answers(rows, self.limit) for rows in tasks] for tasks in members]
        results: list[list[Predictions]] = []
        for batch, scores_NBC, texts_NB in self.outputs(models, members, copies):
            answers_NB = None if scores_NBC is None else metrics.answers(scores_NBC)
            numbers = range(len(next(part for part in (answers_NB, texts_NB) if part is not None)))
            results = results or [[_blank(task) for task in right[n % len(right)]] for n in numbers]
            for n in numbers:
                answers_B, texts_B = (None if part is None else part[n] for part in (answers_NB, texts_NB))
                _record(results[n], batch, n % len(right), answers_B, texts_B)
        return results

    def outputs(
        self, models: Models, members: Sequence[Sequence[Rows]], copies: Copies = NO_COPIES
    ) -> Iterator[Output]:
        """Each batch with the scores [N, B, C] of its choices and the texts [N, B] that continue its inputs.

        Scores are None where no task has answer choices, texts where all have. Arguments and errors are `predict`'s.
        """
        free = [rows.max_choices == 0 for tasks in members for rows in tasks]
        for batches in copies.together(self.batches(members)):
            packed, count = copies.packed(batches), len(batches)
            none: list[np.ndarray | None] = [None] * count
            scores = none if all(free) else copies.unpacked(self.scores(models, packed), count)
            texts = copies.unpacked(self._texts(models, packed), count) if any(free) else none
            yield from zip(batches, scores, texts, strict=True)

    def batches(self, members: Sequence[Sequence[Rows]]) -> Iterator[EvalBatch[np.ndarray]]:
        """Every row once, in order of buckets; rows of weight 0 fill up the last batch (`batches.eval_batches`)."""
        batches = eval_batches(members, self.batch_size, self.buckets, self.max_input_length, self.limit)
        most = max(sum(min(len(rows), self.limit or len(rows)) for rows in tasks) for tasks in members)
        for batch in watched(batches, self.title, -(-most // self.batch_size)) if self.title else batches:
            self.before_batch()
            yield batch

    def scores(self, models: Models, batch: EvalBatch[np.ndarray]) -> np.ndarray:
        """The scores [N, B, C] that choices are ranked by: log-probabilities, divided as `normalize` says."""
        return models.scores(batch) / scoring.lengths(batch["choices"], self.normalize, self.tokenizer.decode)

    def _texts(self, models: Models, batch: EvalBatch[np.ndarray]) -> np.ndarray:
        tokens_NBT = models.generate(batch)
        return np.array([[self.tokenizer.decode(row) for row in rows] for rows in tokens_NBT], object)


def expected_answers(rows: Rows, limit: int = 0) -> np.ndarray:
    """The right answers of the first `limit` rows (0 = all), as `Predictions` holds them."""
    count = min(len(rows), limit or len(rows))
    if rows.max_choices:
        return np.array(rows.labels[:count])
    return np.array([rows.target_text(row) for row in range(count)], object)


def majority(rows: Rows, limit: int = 0) -> Predictions:
    """The most frequent right answer of the rows, given to all of them: what a model must beat."""
    right = expected_answers(rows, limit)
    answers = right.tolist() if rows.max_choices else [metrics.normal_form(text) for text in right]
    ((frequent, _),) = collections.Counter(answers).most_common(1)
    return Predictions(np.full(len(right), frequent, right.dtype), right)


def _blank(expected: np.ndarray) -> Predictions:
    """Room for the predictions of these rows."""
    nothing = "" if expected.dtype == object else metrics.NO_ANSWER
    return Predictions(np.full(len(expected), nothing, expected.dtype), expected)


def _record(
    tasks: Sequence[Predictions],
    batch: EvalBatch[np.ndarray],
    m: int,
    answers_B: np.ndarray | None,
    texts_B: np.ndarray | None,
) -> None:
    """Stores one model's answers for member m's rows of a batch."""
    task_B, row_B, counts_B = batch["task"][m], batch["row"][m], batch["weight"][m] > 0
    for task in np.unique(task_B[counts_B]):
        here_B, predictions = counts_B & (task_B == task), tasks[task]
        answers = texts_B if predictions.expected.dtype == object else answers_B
        if answers is not None:
            predictions.predicted[row_B[here_B]] = answers[here_B]
