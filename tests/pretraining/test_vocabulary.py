"""A vocabulary trained here: that transformers gives the same ids, that no text is lost, that it is reproducible."""

from __future__ import annotations

import pathlib

import pytest

from infoprompt_jax.pretraining import vocabulary
from infoprompt_jax.t5.tokenizer import SENTINELS, Tokenizer, load_tokenizer

LINES = [
    f"{who} {did} the {colour} {thing} in the {place}."
    for who in ("Victor", "Lucy", "Simon")
    for did in ("sold", "painted", "broke")
    for colour in ("red", "Yellow", "green")
    for thing in ("letter", "candle", "mirror")
    for place in ("garden", "street", "Church")
]
TEXTS = [
    "Victor PAINTED the Green letter, in the street!",
    "fill <extra_id_0> in<extra_id_1> and <extra_id_99>",
    "naïve café, Éclair, e\u0301 \u0327a\u0308 ﬁne Ⅷ \uff46\uff55\uff4c\uff4c ½",
    "日本語 🙂 👨‍👩‍👧 🇩🇪 नमस्ते עִבְרִית \ud55c \u1112\u1161\u11ab",
    "ΣΊΣΥΦΟΣ Straße ẞ İstanbul",
    "  two  spaces\tand\na line\u00a0no-break\u3000wide \u200bzero\ufeff ",
    "</ b> ▁ \x07 a_b (c) {d} 50% ~",
    " ",
    "",
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("vocabulary") / "trained"
    vocabulary.train(LINES, path, 400)
    return path


@pytest.fixture(scope="module")
def tokenizer(directory: pathlib.Path) -> Tokenizer:
    return load_tokenizer(directory)


def test_ids_are_those_of_transformers(directory: pathlib.Path, tokenizer: Tokenizer) -> None:
    transformers = pytest.importorskip("transformers")
    (directory / "config.json").write_text('{"model_type": "t5"}')
    theirs = transformers.AutoTokenizer.from_pretrained(directory)
    (directory / "config.json").unlink()
    assert len(theirs) == tokenizer.vocab_size
    assert theirs(TEXTS).input_ids == [[*ids.tolist(), 1] for ids in tokenizer.encode(TEXTS)]
    for ids in tokenizer.encode(TEXTS[:1] + TEXTS[2:]):
        assert theirs.decode(ids, skip_special_tokens=True).strip() == tokenizer.decode(ids).strip()


def test_tokenizer_json_alone_gives_the_same_ids(directory: pathlib.Path, tokenizer: Tokenizer) -> None:
    alone = load_tokenizer(directory / "tokenizer.json")
    assert [ids.tolist() for ids in alone.encode(TEXTS)] == [ids.tolist() for ids in tokenizer.encode(TEXTS)]
    assert alone.sentinels == tokenizer.sentinels


def test_any_text_comes_back_folded(tokenizer: Tokenizer) -> None:
    for text, folded in {
        "Lucy SOLD it": "lucy sold it",
        "日本語 🙂 Été": "日本語 🙂 été",
        "x\ty": "x y",
    }.items():
        ids = tokenizer.encode([text])[0]
        assert vocabulary.UNKNOWN not in ids
        assert tokenizer.decode(ids) == folded


def test_sentinels_come_last(tokenizer: Tokenizer) -> None:
    assert [tokenizer.sentinels[name] for name in SENTINELS] == list(
        range(tokenizer.vocab_size - 1, tokenizer.vocab_size - 101, -1)
    )
    assert tokenizer.vocab_size <= 500
    assert tokenizer.pieces.max() < tokenizer.vocab_size - 100


def test_training_again_gives_the_same_files(directory: pathlib.Path, tmp_path: pathlib.Path) -> None:
    vocabulary.train(LINES, tmp_path / "again", 400)
    names = {file.name for file in (tmp_path / "again").iterdir()}
    assert names == {"spiece.model", "tokenizer.json", "tokenizer_config.json"}
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (directory / name).read_bytes()


def test_templates_are_read_without_their_jinja() -> None:
    lines = list(vocabulary.template_lines())
    assert "Is this review negative or positive?" in lines
    assert not any(mark in line for line in lines for mark in ("{{", "{%", "|||"))
