"""Span corruption, T5's task on unlabelled text (Raffel et al. 2020, section 3.1.4).

    text     thank you for inviting me to your party last week
    input    thank you <extra_id_0> me to your party <extra_id_1>
    target   <extra_id_0> for inviting <extra_id_1> last week

As in the code of that paper, text is kept and dropped by turns, kept first and dropped last, and no sentinel ends the
target. How many tokens and spans are dropped follows from the length alone; where they are is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NOISE_DENSITY = 0.15
MEAN_SPAN = 3.0


def counts(length: int) -> tuple[int, int]:
    """Tokens that are dropped from a text of so many, and in how many spans."""
    noise = min(max(round(length * NOISE_DENSITY), 1), length - 1)
    return noise, min(max(round(noise / MEAN_SPAN), 1), length - noise)


def longest_text(input_length: int) -> int:
    """The most tokens a text may have so that its corrupted input and an EOS fit into `input_length`, at least 3."""

    def needed(length: int) -> int:
        noise, spans = counts(length)
        return length - noise + spans + 1

    return max(length for length in range(2, 2 * input_length) if needed(length) <= input_length)


def corrupt(
    tokens: np.ndarray, generator: np.random.Generator, sentinels: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Input and target, int32 and without EOS, of a text of 2 or more tokens.

    Args:
      tokens: int [n], free of sentinels.
      sentinels: ids of <extra_id_0>, <extra_id_1>, ...: one for each span.
    """
    noise, spans = counts(len(tokens))
    lengths = np.stack([parts(len(tokens) - noise, spans, generator), parts(noise, spans, generator)], axis=1)
    pieces = np.split(tokens, np.cumsum(lengths.reshape(-1))[:-1])  # kept, dropped, kept, dropped, ...
    marks = np.asarray(sentinels[:spans], np.int32).reshape(-1, 1)
    inputs = [part for pair in zip(pieces[::2], marks, strict=True) for part in pair]
    targets = [part for pair in zip(marks, pieces[1::2], strict=True) for part in pair]
    return np.concatenate(inputs).astype(np.int32), np.concatenate(targets).astype(np.int32)


def parts(total: int, count: int, generator: np.random.Generator) -> np.ndarray:
    """`count` positive numbers that sum to `total`, each way of it as likely as any other."""
    cuts = np.sort(generator.choice(total - 1, count - 1, replace=False)) + 1
    return np.diff(cuts, prepend=0, append=total)
