"""The vocabulary of the embedded backbone: a SentencePiece unigram model, for this package and for transformers.

This package reads `spiece.model`. transformers would convert that file and lose its byte pieces, so `tokenizer.json`
has them, and `tokenizer_config.json` names the class that reads it unchanged. Text is lower-cased (nmt_nfkc_cf), or
keeps its case (nmt_nfkc). Text that no piece spells becomes UTF-8 bytes.
"""

from __future__ import annotations

import importlib.resources
import io
import json
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from infoprompt_jax.data.template_yaml import load_templates
from infoprompt_jax.files import whole
from infoprompt_jax.t5.tokenizer import EOS, PAD, SENTINELS

UNKNOWN = 2
LONGEST_LINE = 4096  # bytes; SentencePiece leaves longer lines out
JINJA = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\|\|\|", re.DOTALL)
SPECIAL_TOKENS = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}


def train(lines: Iterable[str], directory: pathlib.Path, pieces: int = 1948, cased: bool = False) -> None:
    """Writes the vocabulary of `lines` to `directory`, whole or not at all; the same files for the same lines.

    Args:
      lines: text, one sentence or row each; all of it is read.
      pieces: the most there may be, 256 bytes and 3 control tokens included; too little text gives fewer. T5's 100
        sentinels follow them.
      cased: whether upper case is kept.
    """
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="unigram",
        vocab_size=pieces,
        hard_vocab_limit=False,
        byte_fallback=True,
        normalization_rule_name="nmt_nfkc" if cased else "nmt_nfkc_cf",
        character_coverage=1.0,
        pad_id=PAD,
        eos_id=EOS,
        unk_id=UNKNOWN,
        bos_id=-1,
        max_sentence_length=LONGEST_LINE,
        num_threads=1,  # sums in one order, so that the scores are the same every time
        minloglevel=2,
    )
    with whole(directory) as partial:
        partial.mkdir()
        (partial / "spiece.model").write_bytes(model.getvalue())
        tokenizer_json(model.getvalue()).save(str(partial / "tokenizer.json"))
        (partial / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(), indent=2) + "\n")


def template_lines() -> Iterator[str]:
    """The text of the package's templates, without their jinja."""
    root = importlib.resources.files("infoprompt_jax.data") / "template_files"
    with importlib.resources.as_file(root) as folder:
        for file in sorted(folder.rglob("templates.yaml")):
            for template in load_templates(None, file.parent.relative_to(folder).as_posix()).values():
                text = JINJA.sub("\n", f"{template.jinja}\n{template.answer_choices}")
                yield from filter(None, map(str.strip, text.splitlines()))


def tokenizer_config() -> dict[str, Any]:
    """The content of tokenizer_config.json, for `transformers`."""
    return {"tokenizer_class": "PreTrainedTokenizerFast", **SPECIAL_TOKENS, "clean_up_tokenization_spaces": False}


def tokenizer_json(serialized: bytes) -> Any:
    """A `tokenizers.Tokenizer` that gives the ids of a SentencePiece unigram model, followed by T5's sentinels.

    Two differences remain: "</s>", "<pad>", "<unk>" and "<0x41>" in a text are taken for the tokens of these names, and
    several accents on one letter are put into Unicode's order before they are joined to it.
    """
    import tokenizers
    from sentencepiece import sentencepiece_model_pb2
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

    proto = sentencepiece_model_pb2.ModelProto.FromString(serialized)  # pyright: ignore[reportAttributeAccessIssue]
    vocab = [(piece.piece, piece.score) for piece in proto.pieces]
    sentinels = list(reversed(SENTINELS))  # <extra_id_0> is the last id
    made = tokenizers.Tokenizer(
        models.Unigram([*vocab, *((name, 0.0) for name in sentinels)], unk_id=UNKNOWN, byte_fallback=True)
    )
    made.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),  # what follows takes letters apart that are written as several code points
            normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap),
            normalizers.Strip(),
            normalizers.Replace(tokenizers.Regex(" {2,}"), " "),
        ]
    )
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    end = SPECIAL_TOKENS["eos_token"]
    made.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", pair=f"$A {end} $B {end}", special_tokens=[(end, EOS)]
    )
    made.add_special_tokens([*SPECIAL_TOKENS.values(), *sentinels])
    return made
