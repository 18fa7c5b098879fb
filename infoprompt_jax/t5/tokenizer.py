"""Text to token ids and back, with T5's vocabulary.

There are three kinds: a SentencePiece model (`spiece.model`), a `tokenizer.json`, and "bytes" (id = byte + 3), which
needs no file and is for untrained backbones. PAD is 0 and EOS is 1 in all of them.

Text never becomes a control token: "</s>" and "<pad>" in a data set are plain text, so that no row can end or mask
itself. T5's sentinels "<extra_id_0>" ... "<extra_id_99>" become their ids, because templates use them on purpose; so do
the tokens that were added to a vocabulary after it was made (added_tokens.json, tokenizer_config.json).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from infoprompt_jax import foreign
from infoprompt_jax.errors import UserError
from infoprompt_jax.fields import shortened
from infoprompt_jax.t5 import added_tokens
from infoprompt_jax.t5.added_tokens import SENTINELS, AddedTokens

log = logging.getLogger(__name__)

PAD, EOS = 0, 1
VOCABULARIES = ("spiece.model", "tokenizer.json")  # the first that a directory has is read
FILES = (*VOCABULARIES, *added_tokens.FILES)
SHARED = 256  # texts that are worth starting threads for
FIRST_BYTE = 3  # of the "bytes" vocabulary, after PAD, EOS and the unknown token


@dataclasses.dataclass(frozen=True, eq=False)
class Tokenizer:
    """One vocabulary.

    `vocab_size` includes the sentinels and the added tokens. `pieces` are the ids of text, most frequent first: no
    control token, no sentinel, no added token, none of the unused rows that pad T5's embeddings to 32128. `fingerprint`
    is of the vocabulary's content; `files` are copied by an export.
    """

    vocab_size: int
    pieces: np.ndarray
    sentinels: dict[str, int]
    fingerprint: str
    files: tuple[Path, ...]
    encode_plain: Callable[[list[str]], list[list[int]]]  # without sentinels and added tokens
    decode_plain: Callable[[list[int]], str]  # of the ids in `pieces`
    added: dict[str, int] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def whole(self) -> dict[str, int]:
        """The texts that become one id wherever they stand, longest first: sentinels and added tokens."""
        return dict(sorted((self.sentinels | self.added).items(), key=lambda item: -len(item[0])))

    @functools.cached_property
    def whole_pattern(self) -> re.Pattern[str]:
        """Splits a text at those of `whole` and keeps them; matches nothing where the vocabulary has none."""
        return re.compile(f"({'|'.join(map(re.escape, self.whole)) or '(?!)'})")

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """An int32 array for each text, without EOS; fastest with thousands of texts a call, which share threads."""
        parts = [self.whole_pattern.split(well_formed(text)) for text in texts]  # text, sentinel, text, ...
        encoded = iter(self.encode_plain([plain for row in parts for plain in row[::2]]))
        return [np.array(list(self.joined(row, encoded)), np.int32) for row in parts]

    def joined(self, parts: list[str], encoded: Iterator[list[int]]) -> Iterator[int]:
        """The ids of one text.

        Args:
          parts: plain text and texts of `whole` in turn; plain text is first and last.
          encoded: the ids of each plain part; as many are taken as the text has.
        """
        yield from next(encoded)
        for text in parts[1::2]:
            yield self.whole[text]
            yield from next(encoded)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the `pieces` and added tokens among `ids`; PAD, EOS, unknown tokens and sentinels are skipped."""
        ids = np.asarray(ids, np.int64)
        if not self.added:
            return self.decode_plain(ids[np.isin(ids, self.pieces)].tolist())
        names = {i: text for text, i in self.added.items()}
        kept = ids[np.isin(ids, self.pieces) | np.isin(ids, list(names))].tolist()
        runs = itertools.groupby(kept, key=names.__contains__)  # added tokens stand side by side, as they were written
        texts = ("".join(names[i] for i in run) if added else self.decode_plain(list(run)) for added, run in runs)
        return " ".join(texts)


def has_vocabulary(directory: Path) -> bool:
    """Whether the directory has a vocabulary file of a known name."""
    return any(os.path.isfile(directory / name) for name in VOCABULARIES)


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The vocabulary of a directory or file; "bytes" needs neither.

    Raises:
      UserError: there is no vocabulary, it cannot be read, or its PAD and EOS are not T5's.
    """
    if str(path) == "bytes":
        return bytes_tokenizer()
    path = Path(path)
    candidates = [path / name for name in VOCABULARIES] if os.path.isdir(path) else [path]
    file = next((candidate for candidate in candidates if os.path.lexists(candidate)), None)
    if file is None:
        raise UserError(
            f"no vocabulary was found at {shortened(str(path))}, expected {' or '.join(VOCABULARIES)}: put one "
            "there or set backbone.tokenizer to one."
        )
    names = FILES if path.is_dir() else (path.name, *added_tokens.FILES)
    files = tuple(file.with_name(name) for name in names if file.with_name(name).is_file())
    again = f"T5's {' or '.join(VOCABULARIES)} was expected, so download it again or change backbone.name"
    with foreign.calling(f"{file} is not a readable vocabulary", again):
        tokenizer, ends = (tokenizer_json if file.suffix == ".json" else sentencepiece_model)(foreign.regular(file))
    if ends != (PAD, EOS):
        raise UserError(
            f"the vocabulary {file} has <pad> at {ends[0]} and </s> at {ends[1]}, expected T5's 0 and 1: change "
            "backbone.name to a T5 model."
        )
    if "" in tokenizer.added:
        raise UserError(
            f"the vocabulary {file} has an added token without text, which would stand everywhere: remove it."
        )
    return dataclasses.replace(tokenizer, files=files)


def sentencepiece_model(file: Path) -> tuple[Tokenizer, tuple[int, int]]:
    """The format of the T5 release; `added_tokens` reads the files beside it."""
    import sentencepiece

    model = sentencepiece.SentencePieceProcessor(model_file=str(file))
    ids = range(model.get_piece_size())
    control = {i for i in ids if model.is_control(i) or model.is_unknown(i)}
    sentinels, added = AddedTokens.beside(file).ids(file, [model.id_to_piece(i) for i in ids], control)
    usual = not added and sentinels == {name: len(ids) + i for i, name in enumerate(reversed(SENTINELS))}
    beside = b"" if usual else repr((sorted(sentinels.items()), sorted(added.items()))).encode()
    tokenizer = Tokenizer(
        vocab_size=1 + max([ids[-1], *sentinels.values(), *added.values()]),
        pieces=np.array([i for i in ids if i not in control], np.int32),
        sentinels=sentinels,
        fingerprint=digest(file.read_bytes() + beside),
        files=(file,),
        encode_plain=lambda texts: model.encode(texts, num_threads=-1 if len(texts) >= SHARED else 1),
        decode_plain=model.decode,
        added=added,
    )
    return tokenizer, (model.pad_id(), model.eos_id())


def tokenizer_json(file: Path) -> tuple[Tokenizer, tuple[int, int]]:
    """Hugging Face's format: the sentinels are listed among the added tokens."""
    import tokenizers

    content = foreign.table(file)
    listed = added_tokens.by_text((token["content"], token["id"]) for token in content["added_tokens"])
    model = tokenizers.Tokenizer.from_str(json.dumps(unspellable(content, set(listed.values()))))
    if content.get("normalizer") is None and content["model"]["type"] == "Unigram":
        log.warning(
            "%s has no normalizer, which some versions of transformers lose: ids of text such as ½, ﬁ or a zero-width "
            "space may differ from those in training; put the model's spiece.model beside it, which is preferred.",
            file,
        )
    pieces = sorted(set(model.get_vocab().values()) - set(listed.values()))
    control = {PAD, EOS, content["model"].get("unk_id")}
    sentinels = {name: listed[name] for name in SENTINELS if name in listed}
    tokenizer = Tokenizer(
        vocab_size=1 + max(*pieces, *listed.values()),
        pieces=np.array(pieces, np.int32),
        sentinels=sentinels,
        fingerprint=digest(file.read_bytes()),
        files=(file,),
        encode_plain=lambda texts: [line.ids for line in model.encode_batch_fast(texts, add_special_tokens=False)],
        decode_plain=model.decode,
        added={text: i for text, i in listed.items() if text not in sentinels and i not in control},
    )
    return tokenizer, (listed["<pad>"], listed["</s>"])


def unspellable(content: dict[str, Any], added: set[int]) -> dict[str, Any]:
    """The same `tokenizer.json` without everything by which text could become an added token."""
    vocab = content["model"]["vocab"]
    if isinstance(vocab, list):  # Unigram has them as pieces too; normalised text has no NUL
        vocab = [[f"\0{i}" if i in added else piece, score] for i, (piece, score) in enumerate(vocab)]
    model = content["model"] | {"vocab": vocab}
    return content | {"model": model, "added_tokens": [], "post_processor": None, "truncation": None, "padding": None}


def bytes_tokenizer() -> Tokenizer:
    """A vocabulary without files: one id for each byte of UTF-8, from FIRST_BYTE on, and no sentinels."""
    return Tokenizer(
        vocab_size=FIRST_BYTE + 256,
        pieces=np.arange(FIRST_BYTE, FIRST_BYTE + 256, dtype=np.int32),
        sentinels={},
        fingerprint=digest(b"bytes"),
        files=(),
        encode_plain=lambda texts: [[byte + FIRST_BYTE for byte in text.encode()] for text in texts],
        decode_plain=lambda ids: bytes(i - FIRST_BYTE for i in ids).decode(errors="replace"),
    )


def check_vocabulary(tokenizer: Tokenizer, vocab_rows: int) -> None:
    """Checks that the backbone's embeddings [vocab_rows, D] have a row for every id.

    Raises:
      UserError: the vocabulary has more ids than the embeddings have rows.
    """
    if tokenizer.vocab_size > vocab_rows:
        raise UserError(
            f"wrong vocabulary: it has {tokenizer.vocab_size} ids but the backbone embeds {vocab_rows}, expected no "
            "more ids than rows: change backbone.name or put the model's own vocabulary beside its weights."
        )


def well_formed(text: str) -> str:
    """The text with a question mark for each lone surrogate, which JSON can hold and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def digest(content: bytes) -> str:
    """A fingerprint: the first 16 hexadecimal digits of SHA-256."""
    return hashlib.sha256(content).hexdigest()[:16]
