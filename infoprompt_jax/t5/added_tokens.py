"""Tokens beside a SentencePiece model: its sentinels, and what was added to the vocabulary after it was made.

The model itself holds neither. T5's 100 sentinels follow its pieces, <extra_id_0> last; tokenizer_config.json may give
another number (mT5: 0). added_tokens.json and tokenizer_config.json list further tokens with their ids.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from infoprompt_jax import foreign
from infoprompt_jax.fields import shortened

log = logging.getLogger(__name__)

SENTINELS = tuple(f"<extra_id_{i}>" for i in range(100))
MOST_SENTINELS = 10_000
LARGEST = 2**24  # of ids: a vocabulary has far fewer
FILES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


@dataclasses.dataclass(frozen=True)
class AddedTokens:
    """What the files beside a vocabulary list; `special` are named as special tokens, perhaps without an id."""

    sentinels: int
    texts: dict[int, str]
    special: tuple[str, ...]

    @classmethod
    def beside(cls, file: Path) -> AddedTokens:
        """Of the vocabulary `file`; only sentinels where there is nothing beside it."""
        config, special, listed = (_json(file.with_name(name)) for name in FILES)
        pairs = [(text, whole(i)) for text, i in listed.items()]
        pairs += [(_text(token), whole(i)) for i, token in (config.get("added_tokens_decoder") or {}).items()]
        texts = _by_id(pairs)
        names = special.get("additional_special_tokens") or ()
        sentinels = whole(config.get("extra_ids", len(SENTINELS)))
        if sentinels > MOST_SENTINELS:
            raise ValueError(f"tokenizer_config.json has {sentinels:,} extra_ids, at most {MOST_SENTINELS:,} expected")
        return cls(sentinels, texts, tuple(map(_text, names)))

    def ids(self, file: Path, pieces: list[str], control: Collection[int]) -> tuple[dict[str, int], dict[str, int]]:
        """The ids of the sentinels and of all other added tokens; special tokens without an id are logged.

        Args:
          file: the vocabulary.
          pieces: the model's, by id.
          control: ids that no text may become.

        Raises:
          ValueError: a token has the id of another piece or token.
        """
        count = len(pieces)
        sentinels = {f"<extra_id_{n}>": count + self.sentinels - 1 - n for n in range(self.sentinels)}
        added: dict[str, int] = {}
        for i, text in self.texts.items():
            if i >= count:
                (sentinels if text in sentinels or text in SENTINELS else added)[text] = i
            elif i not in control and pieces[i].lstrip("▁") != text.strip():
                raise ValueError(f"{text!r} was added with the id {i}, which is that of the piece {pieces[i]!r}")
        _by_id((sentinels | added).items())
        if unknown := sorted({*self.special} - {*pieces, *sentinels, *added}):
            log.warning(
                "%s: special_tokens_map.json names %s, which have no ids and are read as plain text: list them in "
                "added_tokens.json.",
                file,
                ", ".join(unknown),
            )
        return sentinels, added


def _by_id(tokens: Iterable[tuple[str, int]]) -> dict[int, str]:
    """The tokens by id. Raises ValueError for two of one id: either would be read as the other."""
    texts: dict[int, str] = {}
    for text, i in tokens:
        if (other := texts.setdefault(i, text)) != text:
            raise ValueError(f"{text!r} was added with the id {i}, which is that of {other!r}")
    return texts


def by_text(tokens: Iterable[tuple[Any, Any]]) -> dict[str, int]:
    """The ids of tokens. Raises ValueError where one is no text, or has an id that is none or differs from another."""
    ids: dict[str, int] = {}
    for text, i in tokens:
        if ids.setdefault(_text(text), whole(i)) != i:
            raise ValueError(f"{text!r} has two ids, {ids[text]} and {i}")
    return ids


def whole(number: Any) -> int:
    """An id or a count, perhaps written as text. Raises ValueError for what is none."""
    if isinstance(number, str) and re.fullmatch(r"\d{1,8}", number, re.ASCII):
        number = int(number)
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < LARGEST:
        raise ValueError(f"{shortened(number)} is no id or count below {LARGEST:,}")
    return number


def _text(token: Any) -> str:
    text = token["content"] if isinstance(token, dict) else token
    if not isinstance(text, str):
        raise ValueError(f"the token {shortened(token)} is no text")
    return text


def _json(file: Path) -> dict[str, Any]:
    """The object in a file; empty where there is no file."""
    with foreign.reading(f"{file}, which lies beside a vocabulary,", "correct or remove it"):
        return foreign.table(file) if os.path.lexists(file) else {}
