"""Text to token ids and back, with T5's vocabulary.

There are three kinds: a SentencePiece model (`spiece.model`), a `tokenizer.json`, and "bytes" (id = byte + 3), which
needs no file and is for untrained backbones. PAD is 0 and EOS is 1 in all of them.

Text never becomes a control token: "</s>" and "<pad>" in a data set are plain text, so that no row can end or mask
itself. T5's sentinels "<extra_id_0>" ... "<extra_id_99>" become their ids, because templates use them on purpose.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from infoprompt_jax.errors import UserError

PAD, EOS = 0, 1
SENTINELS = tuple(f"<extra_id_{i}>" for i in range(100))
VOCABULARIES = ("spiece.model", "tokenizer.json")  # the first that a directory has is read
FILES = (*VOCABULARIES, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
FIRST_BYTE = 3  # of the "bytes" vocabulary, after PAD, EOS and the unknown token


@dataclasses.dataclass(frozen=True, eq=False)
class Tokenizer:
    """One vocabulary.

    `vocab_size` includes the sentinels. `pieces` are the ids of text, most frequent first: no control token, no
    sentinel, none of the unused rows that pad T5's embeddings to 32128. `fingerprint` is of the vocabulary's content;
    `files` are copied by an export.
    """

    vocab_size: int
    pieces: np.ndarray
    sentinels: dict[str, int]
    fingerprint: str
    files: tuple[Path, ...]
    encode_plain: Callable[[list[str]], list[list[int]]]  # without sentinels
    decode_plain: Callable[[list[int]], str]  # of the ids in `pieces`

    @functools.cached_property
    def sentinel_pattern(self) -> re.Pattern[str]:
        """Splits a text at its sentinels and keeps them; matches nothing where the vocabulary has none."""
        return re.compile(f"({'|'.join(map(re.escape, self.sentinels)) or '(?!)'})")

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """An int32 array for each text, without EOS; fastest with thousands of texts a call, which share threads."""
        parts = [self.sentinel_pattern.split(well_formed(text)) for text in texts]  # text, sentinel, text, ...
        encoded = iter(self.encode_plain([plain for row in parts for plain in row[::2]]))
        return [np.array(list(self.joined(row, encoded)), np.int32) for row in parts]

    def joined(self, parts: list[str], encoded: Iterator[list[int]]) -> Iterator[int]:
        """The ids of one text.

        Args:
          parts: plain text and sentinels in turn; plain text is first and last.
          encoded: the ids of each plain part; as many are taken as the text has.
        """
        yield from next(encoded)
        for sentinel in parts[1::2]:
            yield self.sentinels[sentinel]
            yield from next(encoded)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the `pieces` among `ids`; PAD, EOS, unknown tokens and sentinels are skipped."""
        ids = np.asarray(ids, np.int64)
        return self.decode_plain(ids[np.isin(ids, self.pieces)].tolist())


def has_vocabulary(directory: Path) -> bool:
    """Whether the directory has a vocabulary file of a known name."""
    return any((directory / name).is_file() for name in VOCABULARIES)


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The vocabulary of a directory or file; "bytes" needs neither.

    Raises:
      UserError: there is no vocabulary, it cannot be read, or its PAD and EOS are not T5's.
    """
    if str(path) == "bytes":
        return bytes_tokenizer()
    path = Path(path)
    candidates = [path / name for name in VOCABULARIES] if path.is_dir() else [path]
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if file is None:
        raise UserError(
            f"no vocabulary was found at {path}, expected {' or '.join(VOCABULARIES)}: put one there or set "
            "backbone.tokenizer to one."
        )
    files = tuple(path / name for name in FILES if (path / name).is_file()) if path.is_dir() else (path,)
    try:
        tokenizer, ends = (tokenizer_json if file.suffix == ".json" else sentencepiece_model)(file)
    except Exception as error:  # the two parsers raise bare RuntimeError, Exception, KeyError, ...
        raise UserError(
            f"{file} is not a readable vocabulary ({error}), expected T5's {' or '.join(VOCABULARIES)}: download it "
            "again or change backbone.name."
        ) from error
    if ends != (PAD, EOS):
        raise UserError(
            f"the vocabulary {file} has <pad> at {ends[0]} and </s> at {ends[1]}, expected T5's 0 and 1: change "
            "backbone.name to a T5 model."
        )
    return dataclasses.replace(tokenizer, files=files)


def sentencepiece_model(file: Path) -> tuple[Tokenizer, tuple[int, int]]:
    """The format of the T5 release. Sentinels are not in the model; their ids follow it, <extra_id_0> last."""
    import sentencepiece

    model = sentencepiece.SentencePieceProcessor(model_file=str(file))
    ids = range(model.get_piece_size())
    tokenizer = Tokenizer(
        vocab_size=len(ids) + len(SENTINELS),
        pieces=np.array([i for i in ids if not (model.is_control(i) or model.is_unknown(i))], np.int32),
        sentinels={name: len(ids) + i for i, name in enumerate(reversed(SENTINELS))},
        fingerprint=digest(file.read_bytes()),
        files=(file,),
        encode_plain=functools.partial(model.encode, num_threads=-1),
        decode_plain=model.decode,
    )
    return tokenizer, (model.pad_id(), model.eos_id())


def tokenizer_json(file: Path) -> tuple[Tokenizer, tuple[int, int]]:
    """Hugging Face's format: the sentinels are listed among the added tokens."""
    import tokenizers

    content = json.loads(file.read_text(encoding="utf-8"))
    added = {token["content"]: token["id"] for token in content["added_tokens"]}
    model = tokenizers.Tokenizer.from_str(json.dumps(unspellable(content, set(added.values()))))
    pieces = sorted(set(model.get_vocab().values()) - set(added.values()))
    tokenizer = Tokenizer(
        vocab_size=1 + max(*pieces, *added.values()),
        pieces=np.array(pieces, np.int32),
        sentinels={name: added[name] for name in SENTINELS if name in added},
        fingerprint=digest(file.read_bytes()),
        files=(file,),
        encode_plain=lambda texts: [line.ids for line in model.encode_batch_fast(texts, add_special_tokens=False)],
        decode_plain=model.decode,
    )
    return tokenizer, (added["<pad>"], added["</s>"])


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
