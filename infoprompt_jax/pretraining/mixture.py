"""The pretraining mixture: templates of all held-in data sets, and denoising of plain text.

A batch is a pure function of (seed, step), so a run resumes by its step alone. All data sets are drawn equally often,
and so are all templates of a data set. Rows of similar length share a batch (`batches.Stream`). Half of the denoising
rows are windows of one long list of tokens, long enough to fill the batch's input after their spans are dropped. The
others are whole lines, without words that occur twice in them.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import logging
import pathlib
from collections.abc import Iterator, Sequence

import ml_collections
import numpy as np

from infoprompt_jax.data import rows
from infoprompt_jax.data.batches import Batch, Stream, bucket_lengths, complete, generator
from infoprompt_jax.data.examples import examples, source_fingerprint
from infoprompt_jax.data.rows import Rows
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.pretraining import corruption
from infoprompt_jax.t5.model import EOS, PAD
from infoprompt_jax.t5.tokenizer import SENTINELS, Tokenizer

log = logging.getLogger(__name__)

DENOISING = 4  # what a random number is for, beside the purposes of `batches`
MOST_REPEATED = 7  # words that a row of whole lines loses: with sentinels and EOS, 15 tokens of target


def tokenize(
    task: Task, split: str, tokenizer: Tokenizer, directory: pathlib.Path, data: ml_collections.ConfigDict
) -> Rows:
    """The tokenised examples, kept in `directory`."""
    fingerprint = source_fingerprint(task, split)
    lengths = data.max_input_length, data.max_target_length
    name = f"{task.id}, {split}"
    found = rows.tokenize(examples(task, split), tokenizer, directory, fingerprint, True, *lengths, name=name)
    if cut := found.truncated_inputs + found.truncated_targets:
        log.warning("%s: %d inputs or targets of %d were cut.", name, cut, len(found))
    return found


def equal_rates(own: Sequence[Task]) -> list[float]:
    """Rates at which every data set is drawn equally often, and so are the hard prompts of one."""
    prompts = collections.Counter(task.name for task in own)
    return [1 / prompts[task.name] for task in own]


@dataclasses.dataclass(frozen=True)
class Mixture:
    """The batches of a pretraining run.

    Attributes:
      stream: of the rows that are hard prompts; its batch size is theirs in a batch.
      text: tokens of the plain text, [tokens].
      lines: where each of its lines starts, and the end of the last, [lines + 1].
      sentinels: ids of <extra_id_0>, ...
      batch_size: rows of a batch, of both kinds.
      first: the step from which on batches hold hard prompts.
      buckets: input lengths, in order.
    """

    stream: Stream
    text: np.ndarray
    lines: np.ndarray
    sentinels: Sequence[int]
    seed: int
    batch_size: int
    first: int
    buckets: Sequence[int]

    def batch(self, step: int) -> Batch:
        """inputs [B, L], targets [B, T] (T a multiple of 8), both int32, and denoising [B], bool."""
        found: list[tuple[np.ndarray, np.ndarray]] = []
        random = generator(DENOISING, self.seed, step)
        length = int(random.choice(self.buckets))
        if step >= self.first:
            numbers = self.stream.numbers_of(step - self.first)
            length = int(bucket_lengths(self.stream.pool.input_lengths[numbers].max(), self.buckets))
            found = list(self.prompted(numbers))
        prompted = len(found)
        found += self.denoising(self.batch_size - prompted, length, random)
        inputs, targets = zip(*found, strict=True)
        return {
            "inputs": padded(inputs, length),
            "targets": padded(targets, -(-max(map(len, targets)) // 8) * 8),
            "denoising": np.arange(self.batch_size) >= prompted,
        }

    def prompted(self, numbers: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for task, row in zip(*self.stream.pool.split(numbers), strict=True):
            arrays = self.stream.rows[task].arrays
            yield item(arrays, "input", row), item(arrays, "target", arrays["target_index"][row])

    def denoising(
        self, count: int, length: int, random: np.random.Generator
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Inputs, of up to `length` tokens, and targets of corrupted text; both end in EOS."""
        size = min(corruption.longest_text(length), len(self.text))
        starts = random.integers(len(self.text) - size + 1, size=count // 2)
        windows = self.text[starts[:, None] + np.arange(size)[None]]
        found = list(zip(*corruption.corrupt(windows, random, self.sentinels), strict=True))
        for start in random.integers(len(self.lines) - 1, size=count - len(found)):
            lines = self.whole_lines(int(start), length - 1)
            found.append(corruption.drop_repeated(lines, random, self.sentinels, MOST_REPEATED))
        for parts in found:
            given, target = (np.append(part, EOS) for part in parts)
            yield given, target

    def whole_lines(self, start: int, room: int) -> list[np.ndarray]:
        """As many lines from `start` on as fit into so many tokens; of a first one that does not, its beginning."""
        bounds = self.lines[start:][: room + 2]
        count = max(1, int(np.searchsorted(bounds, bounds[0] + room, side="right")) - 1)
        return [self.text[a:b][:room] for a, b in itertools.pairwise(bounds[: count + 1])]


def item(arrays: dict[str, np.ndarray], name: str, index: int) -> np.ndarray:
    """One item of a ragged list of `rows.Rows`."""
    start, end = arrays[f"{name}_offsets"][index : index + 2]
    return arrays[f"{name}_tokens"][start:end]


def padded(items: Sequence[np.ndarray], length: int) -> np.ndarray:
    """[items, length], PAD after each item's end."""
    array = np.full((len(items), length), PAD, np.int32)
    for row, item in zip(array, items, strict=True):
        row[: len(item)] = item
    return array


def mixture(
    config: ml_collections.ConfigDict,
    own: Sequence[Task],
    found: Sequence[Rows],
    lines: Sequence[str],
    tokenizer: Tokenizer,
) -> Mixture:
    """The batches that the config asks for, of tasks and their rows, and of plain text."""
    size, pretrain = config.train.batch_size, config.pretrain
    tokens = tokenizer.encode(lines)
    return Mixture(
        Stream(found, equal_rates(own), config.seed, max(1, size - round(size * pretrain.denoising_share))),
        np.concatenate(tokens),
        np.cumsum([0, *map(len, tokens)]),
        [tokenizer.sentinels[name] for name in SENTINELS],
        config.seed,
        size,
        round(config.train.steps * pretrain.denoising_phase),
        complete(config.data.buckets, config.data.max_input_length),
    )
