"""Tokenised rows: what is stored, how it is gathered, when it is stored again."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from infoprompt_jax.data import rows as rows_module
from infoprompt_jax.data import tokenization
from infoprompt_jax.data.rows import Rows, combined_fingerprint, data_fingerprint
from infoprompt_jax.data.templates import Example
from infoprompt_jax.data.tokenization import tokenize
from infoprompt_jax.errors import UserError
from infoprompt_jax.t5.tokenizer import Tokenizer, load_tokenizer

BYTES = load_tokenizer("bytes")
YES_NO = ("No", "Yes")
THREE = [Example("abc", "Yes", YES_NO), Example("a", "No", YES_NO), Example("abcdefg", "No", YES_NO)]


def ids(text: str, eos: bool = True) -> list[int]:
    return [byte + 3 for byte in text.encode()] + [1] * eos


def padded(tokens: list[int], length: int) -> list[int]:
    return (tokens + [0] * length)[:length]


def make(directory: pathlib.Path, examples: list[Example], source: str = "x", **changes: object) -> Rows:
    settings = {"tokenizer": BYTES, "takes_eos": True, "max_input_length": 6, "max_target_length": 8} | changes
    return tokenize(iter(examples), directory=directory, fingerprint=source, **settings)


def random_examples(count: int) -> list[Example]:
    """Inputs, targets and choices of random lengths, some empty; free text among them."""
    rng = np.random.default_rng(0)

    def text() -> str:
        return "".join(chr(c) for c in rng.integers(97, 123, rng.integers(0, 12)))

    examples = []
    for _ in range(count):
        choices = tuple(text() for _ in range(rng.integers(0, 5)))
        label = int(rng.integers(len(choices))) if choices else -1
        examples.append(Example(text(), choices[label] if choices else text(), choices))
    return examples


def test_hand_worked_rows(tmp_path: pathlib.Path) -> None:
    batch = make(tmp_path, THREE).gather(np.array([2, 0, 1]), 8, 4, 3)
    assert batch["inputs"].tolist() == [
        [100, 101, 102, 103, 104, 1, 0, 0],  # abcde: cut to 6 tokens, EOS kept
        [100, 101, 102, 1, 0, 0, 0, 0],
        [100, 1, 0, 0, 0, 0, 0, 0],
    ]
    no, yes = [81, 114, 1, 0], [92, 104, 118, 1]
    assert batch["targets"].tolist() == [no, yes, no]
    assert batch["choices"].tolist() == [[no, yes, [0] * 4]] * 3
    assert batch["label"].tolist() == [0, 1, 0]
    assert {array.dtype for array in batch.values()} == {np.dtype(np.int32)}


def test_counts_and_lengths(tmp_path: pathlib.Path) -> None:
    rows = make(tmp_path, THREE)
    assert (len(rows), rows.truncated_inputs, rows.truncated_answers) == (3, 1, 0)
    assert (rows.max_input_length, rows.max_target_length, rows.max_choices) == (6, 4, 2)
    assert rows.input_lengths.tolist() == [4, 2, 6]
    assert rows.labels.tolist() == [1, 0, 0]
    assert rows.arrays["choice_offsets"].tolist() == [0, 3, 7]  # once, not once per row
    shorter = make(tmp_path, THREE, max_target_length=3)
    assert (shorter.truncated_answers, shorter.max_target_length) == (3, 3)  # "Yes" is a choice of each
    assert shorter.gather(np.array([0]), 1, 3, 1)["targets"].tolist() == [[92, 104, 1]]


def test_a_wrong_choice_that_is_cut_is_counted(tmp_path: pathlib.Path) -> None:
    """Its score is that of its beginning, while the right answer's is whole."""
    rows = make(tmp_path, [Example("a", "No", ("No", "much longer")), Example("b", "No", YES_NO)], max_target_length=5)
    assert (rows.truncated_inputs, rows.truncated_answers) == (0, 1)


def test_inputs_without_eos_but_targets_with(tmp_path: pathlib.Path) -> None:
    rows = make(tmp_path, [*THREE, Example("", "")], takes_eos=False)
    batch = rows.gather(np.arange(4), 7, 4, 1)
    expected = [ids("abc", False), ids("a", False), ids("abcdef", False), [1]]  # never a row without any token
    assert batch["inputs"].tolist() == [padded(tokens, 7) for tokens in expected]
    assert batch["targets"].tolist() == [padded(ids(text), 4) for text in ("Yes", "No", "No", "")]
    assert rows.truncated_inputs == 1


def test_gather_equals_a_loop_over_rows(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenization, "CHUNK", 7)
    examples = random_examples(50)
    rows = make(tmp_path, examples, max_input_length=10, max_target_length=9)
    chosen = np.random.default_rng(1).integers(0, 50, 40)
    batch = rows.gather(chosen, 12, 10, 4)
    assert rows.choice_counts(chosen).tolist() == [len(examples[row].choices) for row in chosen]
    for b, example in enumerate(examples[row] for row in chosen):
        assert batch["inputs"][b].tolist() == padded(ids(example.input[:9]), 12)
        assert batch["targets"][b].tolist() == padded(ids(example.target[:8]), 10)
        choices = [padded(ids(choice[:8]), 10) for choice in example.choices]
        assert batch["choices"][b].tolist() == choices + [[0] * 10] * (4 - len(choices))
        assert batch["label"][b] == example.label
        assert rows.target_text(chosen[b]) == example.target
    assert rows.truncated_inputs == sum(len(example.input) > 9 for example in examples)


@pytest.mark.parametrize(
    ("choices", "length", "sentence"),
    [
        (
            ("abcd", "x", "abce"),
            4,
            r"'abcd' and 'abce' are the same once .*data\.max_target_length=4 tokens: set it to 5 or",
        ),
        (
            ("ab", "abcd"),
            3,
            r"'ab' and 'abcd' are the same once .*data\.max_target_length=3 tokens: set it to 4 or more",
        ),
        (
            ("a b", "a  b"),
            8,
            r"'a b' and 'a  b' differ as text, but not as tokens, .* in other words, or choose a backbone",
        ),
    ],
)
def test_choices_that_no_score_can_tell_apart_are_refused(
    tmp_path: pathlib.Path, choices: tuple[str, ...], length: int, sentence: str
) -> None:
    """A length more, and they differ. The vocabulary of bytes is taught here to read white space as T5's does."""
    spaces = dataclasses.replace(
        BYTES, fingerprint="spaces", encode_plain=lambda texts: BYTES.encode_plain([" ".join(t.split()) for t in texts])
    )
    examples = [*THREE, Example("x", choices[0], choices)]
    with pytest.raises(UserError, match=rf"^mine:p, train: the answer choices {sentence}"):
        make(tmp_path, examples, tokenizer=spaces, max_target_length=length, name="mine:p, train")
    assert os.listdir(tmp_path) == []
    assert len(make(tmp_path, examples, max_target_length=length + 1)) == 4


@pytest.mark.parametrize("choices", [("in  the house", "in the house"), ("A1", "\uff21\uff11"), ("\u4eca", "\u5929")])
def test_choices_that_are_one_to_t5s_vocabulary_are_refused(
    vocabulary: pathlib.Path, tmp_path: pathlib.Path, choices: tuple[str, ...]
) -> None:
    """White space, full width, and letters that it does not have."""
    with pytest.raises(UserError, match="differ as text, but not as tokens"):
        make(tmp_path, [Example("x", choices[0], choices)], tokenizer=load_tokenizer(vocabulary))


def test_which_choices_rows_share(tmp_path: pathlib.Path) -> None:
    lists = [("a", "b", "c"), ("c", "a", "b"), ("a", "b", "c"), ("b", "a"), ("a", "b", "d")]
    rows = make(tmp_path, [Example("x", own[0], own) for own in lists])
    assert rows.choice_list(1) == [tuple(ids(text)) for text in "cab"]
    shared = rows.shared_choices(np.array([1, 0, 2, 1]))
    assert shared is not None and shared.tolist() == [[0, 1, 2], [1, 2, 0], [1, 2, 0], [0, 1, 2]]
    for others in ([0, 3], [3, 0], [0, 4]):
        assert rows.shared_choices(np.array(others)) is None


def test_free_text_only(tmp_path: pathlib.Path) -> None:
    rows = make(tmp_path, [Example("a", "été"), Example("b", "\ud83d")])
    assert rows.max_choices == 0
    assert rows.gather(np.array([0, 1]), 4, 3, 2)["choices"].tolist() == [[[0] * 3] * 2] * 2
    assert [rows.target_text(row) for row in (0, 1)] == ["été", "\ud83d"]


def test_large_arrays_are_mapped_and_equal(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = make(tmp_path, THREE)
    monkeypatch.setattr(rows_module, "MAPPED_BYTES", 0)
    mapped = make(tmp_path, THREE)
    assert isinstance(mapped.arrays["input_tokens"], np.memmap) and not isinstance(read.labels, np.memmap)
    for name, array in read.arrays.items():
        assert np.array_equal(mapped.arrays[name], array)


def refuse() -> Iterator[Example]:
    raise AssertionError("the examples were read again")
    yield


def test_the_second_call_reads_no_examples(tmp_path: pathlib.Path) -> None:
    first = make(tmp_path, THREE)
    second = tokenize(refuse(), BYTES, tmp_path, "x", True, 6, 8)
    assert second.fingerprint == first.fingerprint and len(second) == 3
    assert sorted(os.listdir(tmp_path)) == [first.fingerprint]  # nothing partial is left


@pytest.mark.parametrize(
    "change", [{"source": "y"}, {"takes_eos": False}, {"max_input_length": 5}, {"max_target_length": 7}]
)
def test_everything_rows_depend_on_makes_new_ones(tmp_path: pathlib.Path, change: dict) -> None:
    assert make(tmp_path, THREE).fingerprint != make(tmp_path, THREE, **change).fingerprint
    assert len(os.listdir(tmp_path)) == 2


def test_another_vocabulary_makes_new_rows(tmp_path: pathlib.Path) -> None:
    other = dataclasses.replace(BYTES, fingerprint="other")
    assert make(tmp_path, THREE).fingerprint != make(tmp_path, THREE, tokenizer=other).fingerprint


def cut_short(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def emptied(path: pathlib.Path) -> None:
    path.write_bytes(b"")


def another_shape(path: pathlib.Path) -> None:
    np.save(path, np.zeros(2, np.int32))


def another_label(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"\x4d")


@pytest.mark.parametrize("file", ["input_tokens.npy", "labels.npy", "manifest.json"])
@pytest.mark.parametrize("damage", [pathlib.Path.unlink, cut_short, emptied, another_shape, another_label])
@pytest.mark.parametrize("mapped_bytes", [0, 2**20])
def test_damaged_rows_are_made_again(
    tmp_path: pathlib.Path,
    file: str,
    damage: Callable[[pathlib.Path], Any],
    mapped_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rows_module, "MAPPED_BYTES", mapped_bytes)
    whole = make(tmp_path, THREE)
    expected = {name: array.copy() for name, array in whole.arrays.items()}
    damage(tmp_path / whole.fingerprint / file)
    again = make(tmp_path, THREE)
    assert all(np.array_equal(again.arrays[name], array) for name, array in expected.items())
    assert len(tokenize(refuse(), BYTES, tmp_path, "x", True, 6, 8)) == 3


def test_rows_of_other_rules_are_made_again_and_are_the_same_data(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = make(tmp_path, THREE)
    monkeypatch.setattr(rows_module, "RULES", rows_module.RULES + 1)
    with pytest.raises(AssertionError, match="read again"):
        tokenize(refuse(), BYTES, tmp_path, "x", True, 6, 8)
    assert make(tmp_path, THREE).fingerprint == before.fingerprint
    assert len(tokenize(refuse(), BYTES, tmp_path, "x", True, 6, 8)) == 3


def test_a_failure_half_way_leaves_nothing(tmp_path: pathlib.Path) -> None:
    with pytest.raises(AssertionError):
        tokenize(refuse(), BYTES, tmp_path, "x", True, 6, 8)
    assert os.listdir(tmp_path) == []


def test_no_examples_is_a_sentence(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"super_glue/rte holds 0 examples.*task\.name"):
        make(tmp_path, [], name="super_glue/rte")


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written.*data\.cache_dir"):
        make(tmp_path / "file" / "rows", THREE)


def test_fingerprints_depend_on_content_and_not_on_task_order(tmp_path: pathlib.Path) -> None:
    assert combined_fingerprint("ab", "c") != combined_fingerprint("a", "bc")
    a, b = make(tmp_path, THREE), make(tmp_path, THREE, source="y")
    assert data_fingerprint([a, b]) == data_fingerprint([b, a, a]) != data_fingerprint([a])


def test_rows_of_a_data_set(invented: pathlib.Path, vocabulary: pathlib.Path, tmp_path: pathlib.Path) -> None:
    tokenizer: Tokenizer = load_tokenizer(vocabulary)
    lines = (invented / "super_glue" / "rte" / "validation.jsonl").read_text().splitlines()
    choices = ("True", "False")
    examples = [
        Example(
            f"{row['premise']} Question: {row['hypothesis']} True or False?",
            choices[row["label"]],
            choices,
        )
        for row in map(json.loads, lines)
    ]
    full = [tokens.tolist() for tokens in tokenizer.encode([example.input for example in examples])]
    length = int(np.median([len(tokens) for tokens in full]))
    rows = tokenize(examples, tokenizer, tmp_path, "rte", True, length, 16, "super_glue/rte")
    batch = rows.gather(np.arange(len(lines)), length, 16, 2)
    assert rows.truncated_inputs == sum(len(tokens) > length - 1 for tokens in full) > 0
    assert batch["inputs"].tolist() == [padded([*tokens[: length - 1], 1], length) for tokens in full]
    assert np.array_equal(
        batch["targets"], np.take_along_axis(batch["choices"], batch["label"][:, None, None], 1)[:, 0]
    )
