"""The pretraining mixture: templates of all held-in data sets, and denoising of plain text.

A batch is a pure function of (seed, step), so a run needs only its step to resume. Rows of similar length share a batch
(`batches.Stream`). Denoising rows are windows of one long list of tokens, long enough to fill the batch's input after
their spans are dropped. Of the generated world, all data sets are drawn equally often, and so are all templates of a
data set; half of the denoising rows are whole lines, without words that occur twice in them. Of a corpus, data sets are
drawn by its shares, and targets have one length, so that there is one program for each length of inputs.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Sequence

import ml_collections
import numpy as np

from infoprompt_jax.data import row_warnings, tokenization
from infoprompt_jax.data.batches import Fields, Stream, bucket_lengths, complete, generator
from infoprompt_jax.data.examples import checked, source_fingerprint
from infoprompt_jax.data.rows import Rows
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.errors import UserError
from infoprompt_jax.pretraining import corruption
from infoprompt_jax.pretraining.corpus import Corpus
from infoprompt_jax.t5.config import EOS, PAD
from infoprompt_jax.t5.tokenizer import SENTINELS, Tokenizer

DENOISING = 4  # what a random number is for; `batches` has purposes 0 to 3
MOST_REPEATED = 7  # words that a row of whole lines loses: with sentinels and EOS, 15 tokens of target


def tokenize(
    task: Task, split: str, tokenizer: Tokenizer, directory: pathlib.Path, data: ml_collections.ConfigDict
) -> Rows:
    """The tokenised examples, kept in `directory`."""
    fingerprint = source_fingerprint(task, split)
    lengths = data.max_input_length, data.max_target_length
    name = f"{task.id}, {split}"
    tokenized = tokenization.tokenize(
        checked(task, split), tokenizer, directory, fingerprint, True, *lengths, name=name
    )
    row_warnings.warn(tokenized, task, split)
    return tokenized


def equal_rates(tasks: Sequence[Task]) -> list[float]:
    """Rates that draw all data sets equally often, and all templates of a data set."""
    templates = collections.Counter(task.name for task in tasks)
    return [1 / templates[task.name] for task in tasks]


@dataclasses.dataclass(frozen=True)
class Mixture:
    """The batches of a pretraining run.

    Attributes:
      stream: of the templates' rows; its batch size is their number in a batch.
      text: tokens of the plain text, [tokens].
      lines: where each of its lines starts, and the end of the last, [lines + 1]; None: rows of denoising are windows.
      sentinels: ids of <extra_id_0>, ...
      batch_size: the rows of a batch, denoising included.
      first: the first step whose batch has rows of templates.
      buckets: input lengths, in order.
      target_length: of all batches; 0: a batch's longest target, rounded up to a multiple of 8.
    """

    stream: Stream
    text: np.ndarray
    lines: np.ndarray | None
    sentinels: Sequence[int]
    seed: int
    batch_size: int
    first: int
    buckets: Sequence[int]
    target_length: int = 0

    def batch(self, step: int) -> Fields:
        """inputs [B, L] and targets [B, T], both int32, and denoising [B], bool."""
        pairs: list[tuple[np.ndarray, np.ndarray]] = []
        random = generator(DENOISING, self.seed, step)
        length = int(random.choice(self.buckets)) if self.lines is not None else max(self.buckets)
        if step >= self.first:
            numbers = self.stream.numbers_of(step - self.first)
            length = int(bucket_lengths(self.stream.pool.input_lengths[numbers].max(), self.buckets))
            pairs = list(self.templated(numbers))
        templated = len(pairs)
        pairs += self.denoising(self.batch_size - templated, length, random)
        inputs, targets = zip(*pairs, strict=True)
        return {
            "inputs": padded(inputs, length),
            "targets": padded(targets, self.target_length or -(-max(map(len, targets)) // 8) * 8),
            "denoising": np.arange(self.batch_size) >= templated,
        }

    def templated(self, numbers: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The inputs and targets of the stream's rows `numbers`, as token ids that end in EOS."""
        for task, row in zip(*self.stream.pool.split(numbers), strict=True):
            arrays = self.stream.rows[task].arrays
            yield item(arrays, "input", row), item(arrays, "target", arrays["target_index"][row])

    def denoising(
        self, count: int, length: int, random: np.random.Generator
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Inputs, of up to `length` tokens, and targets of corrupted text; both end in EOS."""
        if not count:
            return
        size = min(corruption.longest_text(length), len(self.text))
        windowed = count if self.lines is None else count // 2
        starts = random.integers(len(self.text) - size + 1, size=windowed)
        windows = self.text[starts[:, None] + np.arange(size)[None]]
        pairs = list(zip(*corruption.corrupt(windows, random, self.sentinels), strict=True))
        if self.lines is not None:
            for start in random.integers(len(self.lines) - 1, size=count - windowed):
                lines = self.whole_lines(self.lines, int(start), length - 1)
                pairs.append(corruption.drop_repeated(lines, random, self.sentinels, MOST_REPEATED))
        for pair in pairs:
            corrupted, target = (np.append(part, EOS) for part in pair)
            yield corrupted, target

    def whole_lines(self, every: np.ndarray, start: int, room: int) -> list[np.ndarray]:
        """The lines from `start` on that fit into `room` tokens; the beginning of the first line if it does not fit."""
        bounds = every[start:][: room + 2]
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
    tasks: Sequence[Task],
    tokenized: Sequence[Rows],
    lines: Sequence[str],
    tokenizer: Tokenizer,
) -> Mixture:
    """The batches of a config: of tasks with their tokenised rows, and of plain text."""
    size, pretrain = config.train.batch_size, config.pretrain
    tokens = tokenizer.encode(lines)
    return Mixture(
        Stream(tokenized, equal_rates(tasks), config.seed, max(1, size - round(size * pretrain.denoising_share))),
        np.concatenate(tokens),
        np.cumsum([0, *map(len, tokens)]),
        [tokenizer.sentinels[name] for name in SENTINELS],
        config.seed,
        size,
        round(config.train.steps * pretrain.denoising_phase),
        complete(config.data.buckets, config.data.max_input_length),
    )


def check_lengths(config: ml_collections.ConfigDict) -> None:
    """Raises UserError where the targets of span corruption, of a config that names a corpus, do not fit."""
    data = config.data
    longest = max(complete(data.buckets, data.max_input_length))
    noise, spans = corruption.counts(corruption.longest_text(longest))
    if noise + spans + 1 > data.max_target_length:
        raise UserError(
            f"data.max_target_length={data.max_target_length} is too short for span corruption of {longest} tokens: "
            f"at least {noise + spans + 1} was expected."
        )


def corpus_mixture(config: ml_collections.ConfigDict, corpus: Corpus, tokenizer: Tokenizer) -> Mixture:
    """The batches of a config that names a corpus.

    Raises UserError where a data set has no share.
    """
    size, pretrain, data = config.train.batch_size, config.pretrain, config.data
    buckets, prompted = complete(data.buckets, data.max_input_length), corpus.rows(tokenizer)
    if unknown := sorted(prompted.keys() - corpus.shares.keys()):
        raise UserError(f"{corpus.path / 'corpus.json'} has no share for {unknown[0]}: add it under shares.")
    rates = [corpus.shares[name] for name in prompted]
    return Mixture(
        Stream(list(prompted.values()), rates, config.seed, max(1, size - round(size * pretrain.denoising_share))),
        np.array(corpus.text(tokenizer).arrays["input_tokens"]),
        None,
        [tokenizer.sentinels[name] for name in SENTINELS],
        config.seed,
        size,
        round(config.train.steps * pretrain.denoising_phase),
        buckets,
        data.max_target_length,
    )
