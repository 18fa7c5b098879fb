"""Span corruption of unlabelled text: T5's random spans (Raffel et al. 2020, section 3.1.4), or repeated words.

    text     thank you for inviting me to your party last week
    input    thank you <extra_id_0> me to your party <extra_id_1>
    target   <extra_id_0> for inviting <extra_id_1> last week

As in that paper's code, kept and dropped spans alternate, the first is kept, the last is dropped, and no sentinel ends
the target. The length of a text determines how many tokens and spans are dropped; their places are drawn.

`drop_repeated` drops words that the rest of the text repeats (salient spans: Guu et al. 2020, section 3.4):

    text     anna likes tea and tom likes milk. tom likes milk.
    input    anna likes tea and tom likes <extra_id_0>. tom likes milk.
    target   <extra_id_0> milk
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NOISE_DENSITY = 0.15
MEAN_SPAN = 3.0


def counts(length: int) -> tuple[int, int]:
    """The number of tokens that are dropped from a text of `length` tokens, and the number of spans."""
    noise = min(max(round(length * NOISE_DENSITY), 1), length - 1)
    return noise, min(max(round(noise / MEAN_SPAN), 1), length - noise)


def longest_text(input_length: int) -> int:
    """The length of the longest text whose corrupted input and EOS fit into `input_length`, which is at least 3."""

    def needed(length: int) -> int:
        noise, spans = counts(length)
        return length - noise + spans + 1

    return max(length for length in range(2, 2 * input_length) if needed(length) <= input_length)


def corrupt(
    tokens_BN: np.ndarray, generator: np.random.Generator, sentinels: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets, int32 [B, ...] without EOS. All texts have one length, so all inputs do, and all targets.

    Args:
      tokens_BN: int, free of sentinels, N >= 2.
      sentinels: ids of <extra_id_0>, <extra_id_1>, ...: one for each span.
    """
    rows, length = tokens_BN.shape
    noise, spans = counts(length)
    kept, dropped = (parts(total, spans, rows, generator) for total in (length - noise, noise))
    lengths = np.stack([kept, dropped], axis=-1)  # kept, dropped, kept, dropped, ...
    part_BN = np.repeat(np.tile(np.arange(2 * spans), rows), lengths.reshape(-1)).reshape(rows, length)
    dropped_BN = part_BN % 2 == 1
    first_BN = dropped_BN & ~np.pad(dropped_BN, ((0, 0), (1, 0)))[:, :-1]
    before_BN = np.pad(first_BN, ((0, 0), (0, 1)))[:, 1:]  # always a token that is kept
    sentinel_BN = np.asarray(sentinels)[part_BN // 2]
    inputs = np.where(first_BN, sentinel_BN, tokens_BN)[~dropped_BN | first_BN]
    targets = np.where(before_BN, sentinel_BN, tokens_BN)[dropped_BN | before_BN]
    return inputs.reshape(rows, -1).astype(np.int32), targets.reshape(rows, -1).astype(np.int32)


def drop_repeated(
    lines: Sequence[np.ndarray], generator: np.random.Generator, sentinels: Sequence[int], most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Input and target of a row, int32 without EOS; drops one place of up to `most` tokens that a line holds twice.

    Most of them can be predicted only from their other place. Of random spans, few can.
    """
    tokens, starts = np.concatenate(lines), np.cumsum([0, *map(len, lines)])
    places = [start + place for start, line in zip(starts, lines, strict=False) for place in _twice(line)]
    chosen = generator.permutation(len(places))[:most]
    dropped = np.zeros(len(tokens), bool)
    dropped[[places[pair][side] for pair, side in zip(chosen, generator.integers(2, size=most), strict=False)]] = True
    first = dropped & ~np.pad(dropped, (1, 0))[:-1]
    marks = np.asarray(sentinels)[np.cumsum(first) - 1]
    target = np.insert(tokens[dropped], np.flatnonzero(first[dropped]), marks[first])
    return np.where(first, marks, tokens)[~dropped | first].astype(np.int32), target.astype(np.int32)


def _twice(line: np.ndarray) -> np.ndarray:
    """Both places of every token that the line holds exactly twice, [n, 2]."""
    order = np.argsort(line, kind="stable")
    _, first, counts = np.unique(line[order], return_index=True, return_counts=True)
    return order[first[counts == 2][:, None] + np.arange(2)]


def parts(total: int, count: int, rows: int, generator: np.random.Generator) -> np.ndarray:
    """Positive integers [rows, count]; each row sums to `total`, and all such rows are equally likely."""
    places = generator.random((rows, total - 1)).argsort(axis=1)[:, : count - 1]
    return np.diff(np.sort(places, axis=1) + 1, axis=1, prepend=0, append=total)
