"""Token ids against Hugging Face's T5 tokenizer, on sentences and on text that tries to break them."""

from __future__ import annotations

import json
import pathlib
import shutil
from typing import Any

import numpy as np
import pytest

from infoprompt_jax.errors import UserError
from infoprompt_jax.t5.tokenizer import SENTINELS, Tokenizer, check_vocabulary, load_tokenizer

GERMAN = "translate English to German: That is good."
GERMAN_IDS = [13959, 1566, 12, 2968, 10, 466, 19, 207, 5]
ODD = [
    "",
    "   ",
    "\n\t",
    " leading and trailing ",
    "two  spaces\tand\na line",
    "no\u00a0break \u3000 wide\u200bzero",
    "ﬁne ½ Ⅷ \uff46\uff55\uff4c\uff4c e\u0301",
    "日本語 and Привет, naïve café",
    "emoji 🙂 and 👩‍👩‍👧",
    "<b>HTML</b> {curly} ~ ^ \\ `",
    "a\x00b\x07c",
    "x" * 300,
    "Fill <extra_id_0> and<extra_id_1>, then <extra_id_99>",
    "<extra_id_0>",
    "<extra_id_100> <extra_id_-1> <extra_id_01>",
]


@pytest.fixture(scope="module", params=["vocabulary", "t5_vocabulary"])
def file(request: pytest.FixtureRequest) -> pathlib.Path:
    """A small vocabulary, and Google's where it is."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def spiece(file: pathlib.Path) -> Tokenizer:
    return load_tokenizer(file)


@pytest.fixture(scope="module")
def googles(t5_vocabulary: pathlib.Path) -> Tokenizer:
    return load_tokenizer(t5_vocabulary)


@pytest.fixture(scope="module")
def hugging_face(file: pathlib.Path) -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.T5Tokenizer.from_pretrained(file.parent)


@pytest.fixture(scope="module")
def json_directory(hugging_face: Any, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("tokenizer_json")
    hugging_face.save_pretrained(path)
    return path


def premises(data_dir: pathlib.Path) -> list[str]:
    lines = (data_dir / "super_glue" / "rte" / "validation.jsonl").read_text().splitlines()
    return [json.loads(line)["premise"] for line in lines]


def as_lists(arrays: list[np.ndarray]) -> list[list[int]]:
    return [array.tolist() for array in arrays]


def test_known_ids(googles: Tokenizer) -> None:
    (ids,) = googles.encode([GERMAN])
    assert ids.tolist() == GERMAN_IDS and ids.dtype == np.int32
    assert googles.decode([*GERMAN_IDS, 1, 0, 0]) == GERMAN
    assert as_lists(googles.encode(["Hello<extra_id_0>there <extra_id_99>"])) == [[8774, 32099, 132, 32000]]
    assert googles.pieces.tolist() == list(range(3, 32000)) and googles.vocab_size == 32100


def test_both_formats_give_hugging_faces_ids(
    spiece: Tokenizer, hugging_face: Any, json_directory: pathlib.Path, data_dir: pathlib.Path
) -> None:
    texts = premises(data_dir) + ODD
    expected = hugging_face(texts, add_special_tokens=False).input_ids
    assert as_lists(spiece.encode(texts)) == expected
    assert as_lists(load_tokenizer(json_directory).encode(texts)) == expected


def test_decoding_gives_hugging_faces_text(
    spiece: Tokenizer, hugging_face: Any, json_directory: pathlib.Path, data_dir: pathlib.Path
) -> None:
    converted = load_tokenizer(json_directory)
    for ids in spiece.encode(premises(data_dir)[:20] + ODD):
        expected = hugging_face.decode(ids, skip_special_tokens=True).strip()  # unknown tokens leave spaces at the ends
        assert spiece.decode(ids).strip() == expected
        assert converted.decode(ids).strip() == expected


def test_text_cannot_spell_control_tokens(spiece: Tokenizer, json_directory: pathlib.Path) -> None:
    texts = ["a </s> b", "</s>", "<pad><pad>", "x<unk>y", "▁</s>"]
    encoded = as_lists(spiece.encode(texts))
    assert not any({0, 1} & set(ids) for ids in encoded)
    assert as_lists(load_tokenizer(json_directory).encode(texts)) == encoded


def test_sentinels_are_the_last_ids(spiece: Tokenizer) -> None:
    (ids,) = as_lists(spiece.encode(["a<extra_id_0>b <extra_id_99>"]))
    last = spiece.vocab_size - 1
    assert [token for token in ids if token > last - 100] == [last, last - 99]
    assert spiece.sentinels[SENTINELS[0]] == last


def test_pieces_lie_between_control_tokens_and_sentinels(spiece: Tokenizer, json_directory: pathlib.Path) -> None:
    assert spiece.pieces.tolist() == list(range(3, spiece.vocab_size - 100))
    converted = load_tokenizer(json_directory)
    assert np.array_equal(converted.pieces, spiece.pieces) and converted.vocab_size == spiece.vocab_size


def test_half_a_surrogate_pair_is_replaced(spiece: Tokenizer, json_directory: pathlib.Path) -> None:
    for tokenizer in (spiece, load_tokenizer(json_directory), load_tokenizer("bytes")):
        assert as_lists(tokenizer.encode(["a\ud83db"])) == as_lists(tokenizer.encode(["a?b"]))


def test_bytes_need_no_file() -> None:
    tokenizer = load_tokenizer("bytes")
    assert as_lists(tokenizer.encode(["A\n", "é", ""])) == [[68, 13], [0xC3 + 3, 0xA9 + 3], []]
    assert tokenizer.decode([68, 0xC3 + 3, 0xA9 + 3, 1, 0]) == "Aé"
    assert tokenizer.vocab_size == 259 and tokenizer.pieces.tolist() == list(range(3, 259))
    assert tokenizer.encode(["<extra_id_0>"])[0].size == len("<extra_id_0>")


def test_a_directory_prefers_sentencepiece_and_lists_what_to_copy(
    spiece: Tokenizer, json_directory: pathlib.Path, file: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    shutil.copytree(json_directory, tmp_path, dirs_exist_ok=True)
    shutil.copy(file, tmp_path / "spiece.model")
    tokenizer = load_tokenizer(tmp_path)
    assert {"spiece.model", "tokenizer.json", "tokenizer_config.json"} <= {one.name for one in tokenizer.files}
    assert tokenizer.fingerprint == spiece.fingerprint != load_tokenizer(json_directory).fingerprint
    assert len(spiece.fingerprint) == 16 and spiece.files == (file,)


def test_a_missing_vocabulary_names_the_field(tmp_path: pathlib.Path) -> None:
    for path in (tmp_path, tmp_path / "spiece.model"):
        with pytest.raises(UserError, match=r"no vocabulary .*spiece.model or tokenizer.json.*backbone\.tokenizer"):
            load_tokenizer(path)


@pytest.mark.parametrize("name", ["spiece.model", "tokenizer.json"])
@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1", b"{}", b"\xff" * 99])
def test_a_broken_vocabulary_is_a_sentence(tmp_path: pathlib.Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=r"not a readable vocabulary: .*backbone\.name"):
        load_tokenizer(tmp_path)


def test_another_models_vocabulary_is_refused(json_directory: pathlib.Path, tmp_path: pathlib.Path) -> None:
    content = json.loads((json_directory / "tokenizer.json").read_text())
    for token in content["added_tokens"]:
        token["id"] = {0: 1, 1: 0}.get(token["id"], token["id"])
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="<pad> at 1 and </s> at 0"):
        load_tokenizer(tmp_path)


def test_more_ids_than_rows_are_refused(spiece: Tokenizer) -> None:
    size = spiece.vocab_size
    check_vocabulary(spiece, size + 28)
    check_vocabulary(spiece, size)
    with pytest.raises(UserError, match=rf"wrong vocabulary: it has {size} ids but the backbone embeds {size - 1}"):
        check_vocabulary(spiece, size - 1)


def beside(directory: pathlib.Path, vocabulary: pathlib.Path, **files: Any) -> pathlib.Path:
    """The vocabulary in a directory, with JSON files by their names."""
    shutil.copy(vocabulary, directory / "spiece.model")
    for name, content in files.items():
        (directory / f"{name}.json").write_text(json.dumps(content))
    return directory


def test_added_tokens_become_their_ids(vocabulary: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """As in transformers, from all the files that list them; text still cannot spell a control token."""
    transformers = pytest.importorskip("transformers")
    plain, texts = load_tokenizer(vocabulary), ["a [C][=N] boat", "a[C]boat", "[CC]", "[C]<extra_id_0></s> b"]
    size, control = plain.vocab_size, {"<pad>": 0, "</s>": 1, "<unk>": 2, "<extra_id_0>": plain.vocab_size - 1}
    listed = control | {"[C]": size, "[=N]": size + 1}
    decoder = {str(i): {"content": text} for text, i in listed.items()}
    directories = [tmp_path / name for name in ("one", "two", "three")]
    for directory in directories:
        directory.mkdir()
    beside(directories[0], vocabulary, added_tokens=listed)
    beside(directories[1], vocabulary, tokenizer_config={"added_tokens_decoder": decoder})
    theirs = transformers.T5Tokenizer.from_pretrained(vocabulary.parent)
    theirs.add_tokens(["[C]", "[=N]"])
    theirs.save_pretrained(directories[2])
    loaded = [load_tokenizer(directory) for directory in directories]
    expected = theirs(texts[:3], add_special_tokens=False).input_ids
    for tokenizer in loaded:
        assert tokenizer.vocab_size == size + 2 and tokenizer.sentinels == plain.sentinels
        assert as_lists(tokenizer.encode(texts[:3])) == expected
        assert as_lists(tokenizer.encode(texts)) == as_lists(loaded[0].encode(texts))
        assert tokenizer.decode([1, *expected[0], 0]) == "a [C][=N] boat"
    assert loaded[0].fingerprint == loaded[1].fingerprint == load_tokenizer(directories[0] / "spiece.model").fingerprint
    assert loaded[0].fingerprint != plain.fingerprint
    assert {"spiece.model", "added_tokens.json"} == {file.name for file in loaded[0].files}
    with pytest.raises(UserError, match=f"has {size + 2} ids but the backbone embeds {size}"):
        check_vocabulary(loaded[0], size)


def test_another_number_of_sentinels(vocabulary: pathlib.Path, tmp_path: pathlib.Path) -> None:
    plain = load_tokenizer(vocabulary)
    none = load_tokenizer(beside(tmp_path, vocabulary, tokenizer_config={"extra_ids": 0}))
    assert not none.sentinels and none.vocab_size == plain.vocab_size - 100 and none.fingerprint != plain.fingerprint
    usual = load_tokenizer(beside(tmp_path, vocabulary, tokenizer_config={"extra_ids": 100}))
    assert usual.fingerprint == plain.fingerprint and usual.sentinels == plain.sentinels


def test_an_added_token_with_the_id_of_another_piece_is_refused(
    vocabulary: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(UserError, match=r"'\[C\]' was added with the id 7, which is that of the piece"):
        load_tokenizer(beside(tmp_path, vocabulary, added_tokens={"[C]": 7}))


def test_two_added_tokens_of_one_id_are_refused(vocabulary: pathlib.Path, tmp_path: pathlib.Path) -> None:
    last = load_tokenizer(vocabulary).sentinels["<extra_id_0>"]
    for tokens, sentence in (
        ({"[C]": last + 1, "[N]": last + 1}, rf"'\[N\]' was added with the id {last + 1}, which is that of '\[C\]'"),
        ({"[C]": last}, rf"'\[C\]' was added with the id {last}, which is that of '<extra_id_0>'"),
        ({"": last + 1}, "has an added token without text"),
    ):
        with pytest.raises(UserError, match=sentence):
            load_tokenizer(beside(tmp_path, vocabulary, added_tokens=tokens))


@pytest.mark.parametrize("content", ["no JSON", "[]"])
def test_a_broken_file_beside_a_vocabulary_is_named(
    content: str, vocabulary: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (beside(tmp_path, vocabulary) / "added_tokens.json").write_text(content)
    with pytest.raises(
        UserError,
        match=r"added_tokens\.json, which lies beside a vocabulary, cannot be read: it (is not JSON|holds list)",
    ):
        load_tokenizer(tmp_path)


def test_special_tokens_without_ids_are_logged(
    vocabulary: pathlib.Path, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ["<extra_id_0>", "<bom>", {"content": "<eom>"}]
    beside(tmp_path, vocabulary, special_tokens_map={"additional_special_tokens": names})
    tokenizer = load_tokenizer(tmp_path)
    assert "names <bom>, <eom>, which have no ids and are read as plain text" in caplog.text
    assert tokenizer.encode(["<bom>"])[0].size > 1


def test_a_tokenizer_json_without_normalizer_is_warned_of(
    vocabulary: pathlib.Path, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its ids differ where the lost normaliser would have changed the text; spiece.model is preferred."""
    transformers = pytest.importorskip("transformers")
    transformers.T5Tokenizer.from_pretrained(vocabulary.parent).save_pretrained(tmp_path)
    texts, expected = ["ﬁne ½"], load_tokenizer(vocabulary).encode(["ﬁne ½"])
    assert as_lists(load_tokenizer(tmp_path).encode(texts)) == as_lists(expected) and not caplog.records
    content = json.loads((tmp_path / "tokenizer.json").read_text()) | {"normalizer": None}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert as_lists(load_tokenizer(tmp_path).encode(texts)) != as_lists(expected)
    (record,) = caplog.records
    assert "has no normalizer" in record.getMessage() and record.levelname == "WARNING"
    caplog.clear()
    shutil.copy(vocabulary, tmp_path)
    assert as_lists(load_tokenizer(tmp_path).encode(texts)) == as_lists(expected) and not caplog.records


def pieces(directory: pathlib.Path, texts: list[str]) -> pathlib.Path:
    """A SentencePiece model of these pieces, that normalises nothing."""
    proto = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
    model = proto.ModelProto()
    kinds = {"<pad>": 3, "</s>": 3, "<unk>": 2}  # control, unknown; all others are normal
    for rank, text in enumerate([*kinds, *texts]):
        model.pieces.add(piece=text, score=-float(rank), type=kinds.get(text, 1))
    model.trainer_spec.MergeFrom(proto.TrainerSpec(model_type=1, pad_id=0, eos_id=1, unk_id=2, bos_id=-1))
    model.normalizer_spec.MergeFrom(proto.NormalizerSpec(name="identity"))
    (directory / "spiece.model").write_bytes(model.SerializeToString())
    return directory


def test_a_vocabulary_without_charsmap_loads(tmp_path: pathlib.Path) -> None:
    tokenizer = load_tokenizer(pieces(tmp_path, ["▁", "▁a", "½", "ﬁ"]))
    assert as_lists(tokenizer.encode(["a½ﬁ"])) == [[4, 5, 6]]


def test_64_000_pieces(tmp_path: pathlib.Path) -> None:
    """ke-t5: 64,100 ids with the sentinels, in embeddings of 64,128 rows."""
    tokenizer = load_tokenizer(pieces(tmp_path, ["▁", *(f"▁w{i}" for i in range(63_996))]))
    assert (len(tokenizer.pieces), tokenizer.vocab_size) == (63_997, 64_100)
    assert as_lists(tokenizer.encode(["w63995 <extra_id_0>"])) == [[63_999, 64_099]]
    check_vocabulary(tokenizer, 64_128)
