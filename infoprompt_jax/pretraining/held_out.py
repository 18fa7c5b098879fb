"""What a corpus keeps apart, measured while a backbone is pretrained: the loss of span corruption, and accuracies.

Every answer choice is a row of its own beside its input, so all batches have the shapes of training's batches, and
few programs are compiled. The predicted choice is the one with the largest log-probability (`t5/scoring.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from infoprompt_jax.data.batches import bucket_lengths
from infoprompt_jax.data.rows import Rows
from infoprompt_jax.pretraining import corruption
from infoprompt_jax.pretraining.corpus import Measured
from infoprompt_jax.pretraining.mixture import item, padded
from infoprompt_jax.pretraining.step import computing
from infoprompt_jax.t5 import scoring
from infoprompt_jax.t5.config import EOS, PAD

TEXT_BATCHES = 8  # of span corruption

Pair = tuple[np.ndarray, np.ndarray]  # the tokens of an input and of a target
Entries = dict[str, dict[str, Any]]


class HeldOut:
    """The batches of one corpus; they do not depend on the model.

    Args:
      text: tokens of plain text.
      tasks: prompted rows, each with its choices.
      limit: the rows of a task that are measured, the first ones; 0 = all.
      sentinels: ids of <extra_id_0>, ...
      batch_size, buckets, target_length: of training's batches.
    """

    def __init__(
        self,
        text: np.ndarray,
        tasks: Sequence[Measured],
        limit: int,
        sentinels: Sequence[int],
        batch_size: int,
        buckets: Sequence[int],
        target_length: int,
    ) -> None:
        self.tasks, self.size, self.buckets, self.target_length = tasks, batch_size, buckets, target_length
        self.text = self._batches(list(spans(text, TEXT_BATCHES * batch_size, max(buckets), sentinels)))[1]
        self.counts = [rows.choice_counts(np.arange(len(rows)))[: limit or None] for _, _, rows in tasks]
        self.order, self.pairs = self._batches(
            [pair for task, counts in zip(tasks, self.counts, strict=True) for pair in choices(task, counts)]
        )

    def _batches(self, pairs: Sequence[Pair]) -> tuple[np.ndarray, list[dict[str, np.ndarray]]]:
        """The pairs as batches, and the number of the pair in each place of them, -1 where there is none."""
        lengths = bucket_lengths(np.array([len(inputs) for inputs, _ in pairs], int), self.buckets)
        order, batches = [], []
        for length in self.buckets:
            numbers = np.flatnonzero(lengths == length)
            for start in range(0, len(numbers), self.size):
                chosen = numbers[start : start + self.size]
                filled = [pairs[number] for number in chosen] + [pairs[chosen[0]]] * (self.size - len(chosen))
                inputs, targets = zip(*filled, strict=True)
                batches.append({"inputs": padded(inputs, length), "targets": padded(targets, self.target_length)})
                order.append(np.pad(chosen, (0, self.size - len(chosen)), constant_values=-1))
        return np.concatenate(order) if order else np.empty(0, int), batches

    def measure(self, graph: nnx.GraphDef, params: nnx.State) -> tuple[float, Entries]:
        """The loss and the accuracies."""
        return self.loss(graph, params), self.accuracies(graph, params)

    def loss(self, graph: nnx.GraphDef, params: nnx.State) -> float:
        """Cross-entropy of held-out text's spans in nats a token, the mean over texts."""
        tokens = np.concatenate([(batch["targets"] != PAD).sum(axis=1) for batch in self.text])
        return float(np.mean(-self._scores(graph, params, self.text) / tokens))

    def accuracies(self, graph: nnx.GraphDef, params: nnx.State) -> Entries:
        """By data set: value, chance and majority (means over templates), rows, and each template's `hard_prompts`."""
        scores = np.empty(len(self.order) and self.order.max() + 1, np.float32)
        measured = self._scores(graph, params, self.pairs)
        scores[self.order[self.order >= 0]] = measured[self.order >= 0]
        starts = np.cumsum([0, *(counts.sum() for counts in self.counts)])
        entries: Entries = {}
        for (dataset, template, rows), counts, start in zip(self.tasks, self.counts, starts[:-1], strict=True):
            parts = np.split(scores[start : start + counts.sum()], np.cumsum(counts)[:-1])
            predicted, labels = np.array([part.argmax() for part in parts]), rows.labels[: len(counts)]
            values = np.mean(predicted == labels), np.mean(1 / counts), np.bincount(labels).max() / len(labels)
            entry = entries.setdefault(dataset, {"metric": "accuracy", "rows": 0, "hard_prompts": {}, "all": []})
            entry["rows"] = max(entry["rows"], len(counts))
            entry["hard_prompts"][template] = float(values[0])
            entry["all"].append(values)
        for entry in entries.values():
            means = np.mean(entry.pop("all"), axis=0).tolist()
            entry |= dict(zip(("value", "chance", "majority"), means, strict=True))
        return entries

    def _scores(self, graph: nnx.GraphDef, params: nnx.State, batches: Sequence[dict[str, np.ndarray]]) -> np.ndarray:
        pending = [log_probabilities(graph, params, batch) for batch in batches]
        return np.concatenate([np.asarray(scores) for scores in pending]) if pending else np.empty(0, np.float32)


def spans(text: np.ndarray, count: int, length: int, sentinels: Sequence[int]) -> Iterator[Pair]:
    """`count` windows of a text at even distances with corrupted spans, as inputs and targets with EOS."""
    size = min(corruption.longest_text(length), len(text))
    starts = np.linspace(0, len(text) - size, count).astype(int)
    windows = text[starts[:, None] + np.arange(size)[None]]
    for inputs, target in zip(*corruption.corrupt(windows, np.random.default_rng(0), sentinels), strict=True):
        yield np.append(inputs, EOS), np.append(target, EOS)


def choices(task: Measured, counts: np.ndarray) -> Iterator[Pair]:
    """Each row's input with each of its answer choices."""
    rows: Rows = task[2]
    for row in range(len(counts)):
        inputs = item(rows.arrays, "input", row)
        for choice in rows.choice_list(int(rows.arrays["choice_index"][row])):
            yield inputs, np.array(choice, np.int32)


@functools.partial(jax.jit, static_argnums=0)
def log_probabilities(graph: nnx.GraphDef, params: nnx.State, batch: dict[str, jax.Array]) -> jax.Array:
    """log p(target | input) of each row [B], in nats."""
    model = computing(graph, params)
    logits_BTV = model.logits(model.decode(batch["targets"], *model.encode(batch["inputs"])))
    return scoring.token_log_probabilities(logits_BTV, batch["targets"]).sum(axis=1)
