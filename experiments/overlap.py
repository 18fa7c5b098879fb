"""Which texts overlap with evaluation rows, by content: exact copies and near-duplicates.

Texts are compared as words: lower case, no punctuation, "does n't" as "doesn't". A text
overlaps with an evaluation text

    of up to 5 words       if it equals it
    of 6 or 7 words        if it contains all of them in a row
    of 8 to 30 words       if it contains any 8 of them in a row
    of more                if it contains any 13 of them in a row, the rule of GPT-3's and FLAN's checks
"""

from __future__ import annotations

import collections
import functools
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

SHORT, MEDIUM, LONG = 6, 8, 13
LONG_TEXT = 30  # words of a text from which on only LONG words in a row count
LENGTHS = (SHORT, SHORT + 1, MEDIUM, LONG)
CHUNK = 20_000  # texts at once
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
CLITIC = re.compile(r"\s+(n\s?'\s?t|'\s?(?:s|m|d|re|ve|ll))\b")
BRACKET = re.compile(r"-[lr][rcs]b-")
WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """The words of a text as they are compared."""
    text = BRACKET.sub(" ", text.lower().replace("\u2019", "'").replace("`", "'"))
    return WORD.findall(CLITIC.sub(lambda clitic: clitic[1].replace(" ", ""), text).replace("'", ""))


@functools.lru_cache(maxsize=2**21)
def _number(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")


class Grams:
    """The words of some texts end to end, and hashes of n words in a row."""

    def __init__(self, texts: Iterable[Sequence[str]]) -> None:
        texts = list(texts)
        self.counts = np.array([len(text) for text in texts], np.int64)
        self.numbers = np.array([_number(word) for text in texts for word in text], np.uint64)
        self.text = np.repeat(np.arange(len(texts)), self.counts)

    def of(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        """The hashes of `length` words in a row, and the text of each."""
        count = len(self.numbers) - length + 1
        if count <= 0:
            return np.empty(0, np.uint64), np.empty(0, np.int64)
        hashes = np.zeros(count, np.uint64)
        for place in range(length):
            hashes = hashes * MULTIPLIER + self.numbers[place : place + count]
        inside = self.text[:count] == self.text[length - 1 :]
        return hashes[inside], self.text[:count][inside]


class Overlap:
    """The evaluation rows' texts, by name of their split, and which texts overlap with them."""

    def __init__(self, splits: Mapping[str, Iterable[str]]) -> None:
        self.names = tuple(splits)
        self.whole: dict[tuple[str, ...], int] = {}
        kept: list[tuple[list[str], int]] = []
        for number, texts in enumerate(splits.values()):
            for text in map(words, texts):
                if len(text) < SHORT:
                    self.whole.setdefault(tuple(text), number)
                else:
                    kept.append((text, number))
        grams = Grams(text for text, _ in kept)
        split = np.array([number for _, number in kept], np.int64)
        lengths = np.where(grams.counts > LONG_TEXT, LONG, np.minimum(grams.counts, MEDIUM))
        self.index = {length: self._sorted(grams, split, lengths, length) for length in LENGTHS}

    @staticmethod
    def _sorted(grams: Grams, split: np.ndarray, lengths: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
        hashes, text = grams.of(length)
        counts = lengths[text] == length
        unique, first = np.unique(hashes[counts], return_index=True)
        return unique, split[text[counts][first]]

    def found_in(self, texts: Sequence[str]) -> Iterator[set[str]]:
        """Of each text, the names of the splits that it overlaps with."""
        for start in range(0, len(texts), CHUNK):
            chunk = texts[start : start + CHUNK]
            hits: dict[int, set[str]] = collections.defaultdict(set)
            grams = Grams(map(words, chunk))
            for length, (known, split) in self.index.items():
                hashes, text = grams.of(length)
                place = np.minimum(np.searchsorted(known, hashes), max(len(known) - 1, 0))
                for here in np.flatnonzero(known[place] == hashes) if len(known) else ():
                    hits[int(text[here])].add(self.names[split[place[here]]])
            for number, text in enumerate(chunk):
                if grams.counts[number] < SHORT and (split := self.whole.get(tuple(words(text)))) is not None:
                    hits[number].add(self.names[split])
            yield from (hits.get(number, set()) for number in range(len(chunk)))
