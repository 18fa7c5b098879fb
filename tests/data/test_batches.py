"""Which rows a step reads, and the batches that members and hosts see."""

from __future__ import annotations

import dataclasses
import itertools
import json
import pathlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from infoprompt_jax.data.batches import (
    WINDOW,
    Batch,
    Stream,
    bucket_lengths,
    complete,
    eval_batches,
    mixture_cycle,
    subset,
    train_batches,
)
from infoprompt_jax.data.rows import Rows
from infoprompt_jax.data.templates import Example
from infoprompt_jax.data.tokenization import tokenize
from infoprompt_jax.errors import UserError
from infoprompt_jax.t5.tokenizer import load_tokenizer

BUCKETS = (8, 16, 32)
MAX_LENGTH = 32


@dataclasses.dataclass(frozen=True)
class Maker:
    """Tokenises rows that say their own number and have random lengths."""

    directory: pathlib.Path

    def __call__(self, count: int, seed: int = 0, longest: int = 28, choices: Sequence[str] = ("No", "Yes")) -> Rows:
        lengths = np.random.default_rng(seed).integers(3, longest + 1, count)
        examples = [
            Example(f"{row:03}".ljust(length, "."), choices[row % 2], tuple(choices))
            for row, length in enumerate(lengths)
        ]
        source = f"{count} {seed} {longest} {choices}"
        return tokenize(examples, load_tokenizer("bytes"), self.directory, source, True, MAX_LENGTH, 64)


@pytest.fixture
def make(tmp_path: pathlib.Path) -> Maker:
    return Maker(tmp_path)


def numbers(inputs: np.ndarray) -> np.ndarray:
    """The numbers that rows say they are."""
    return (inputs[..., :3].astype(np.int64) - 3 - ord("0")) @ np.array([100, 10, 1])


def train(streams: Sequence[Stream], start: int, stop: int, threads: int = 2, **share: Any) -> list[Batch]:
    return list(train_batches(streams, start, stop, BUCKETS, MAX_LENGTH, threads, **share))


def assert_equal(left: Iterator[Batch] | list[Batch], right: Iterator[Batch] | list[Batch]) -> None:
    for a, b in zip(left, right, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            assert a[name].dtype == b[name].dtype
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def visits(stream: Stream, windows: int) -> Counter:
    pairs = [zip(*map(np.ndarray.tolist, stream.indices(step)), strict=True) for step in range(windows * WINDOW)]
    return Counter(pair for batch in pairs for pair in batch)


def test_every_epoch_holds_each_row_once_in_a_new_order(make: Maker) -> None:
    stream = Stream([make(7)], [1.0], seed=3, batch_size=4)
    epochs = stream.drawn(np.arange(400 * 7)).reshape(400, 7)  # more than two cycles of the mixture
    assert (np.sort(epochs) == np.arange(7)[None]).all()
    assert len({tuple(epoch) for epoch in epochs.tolist()}) > 350  # of 5040 orders


def test_the_batches_of_an_epoch_hold_each_row_once(make: Maker) -> None:
    stream = Stream([make(64)], [1.0], seed=3, batch_size=4)  # an epoch is two windows of 8 batches
    for epoch in range(3):
        rows = np.concatenate([stream.indices(WINDOW * epoch + k)[1] for k in range(WINDOW)])
        assert sorted(rows) == list(range(64))


@pytest.mark.parametrize(("rows", "batch_size"), [(64, 32), (64, 8), (66, 32), (256, 32), (40, 40)])
def test_few_rows_fill_a_batch_with_as_many_as_they_are(make: Maker, rows: int, batch_size: int) -> None:
    """Sorted over several epochs, 64 rows would be 4 in a batch of 32, eight times each."""
    stream = Stream([make(rows, longest=28)], [1.0], seed=3, batch_size=batch_size)
    counts = [len(set(stream.numbers_of(step).tolist())) for step in range(3 * rows // batch_size)]
    assert np.mean(counts) > 0.9 * batch_size
    if rows % batch_size == 0:
        assert set(counts) == {batch_size}


@pytest.mark.parametrize(("rows", "batch_size"), [(64, 8), (64, 32), (128, 8)])
def test_few_rows_meet_others_in_each_epoch(make: Maker, rows: int, batch_size: int) -> None:
    """Sorted as a whole, each epoch would have the same batches, but for rows of equal length."""
    stream, steps = Stream([make(rows)], [1.0], seed=3, batch_size=batch_size), rows // batch_size
    partners = [
        {frozenset(pair) for k in range(steps) for pair in itertools.combinations(stream.numbers_of(epoch + k), 2)}
        for epoch in (0, steps)
    ]
    assert len(partners[0] & partners[1]) < 0.6 * len(partners[0])


@pytest.mark.parametrize(("rows", "batch_size"), [(10, 4), (7, 16), (100, 3), (1, 2)])
def test_no_row_is_ever_more_than_one_epoch_ahead(make: Maker, rows: int, batch_size: int) -> None:
    stream = Stream([make(rows)], [1.0], seed=0, batch_size=batch_size)
    for windows in (1, 2, 5):
        counts = [visits(stream, windows)[0, row] for row in range(rows)]
        assert sum(counts) == windows * WINDOW * batch_size
        assert max(counts) - min(counts) <= 1


def test_batches_of_a_window_do_not_overlap_in_length(make: Maker) -> None:
    rows = make(200)
    stream = Stream([rows], [1.0], seed=0, batch_size=4)
    spans = sorted((lengths.min(), lengths.max()) for k in range(WINDOW) for lengths in [of_step(stream, rows, k)])
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    order = [of_step(stream, rows, k).max() for k in range(WINDOW)]
    assert order != sorted(order)  # not a curriculum from short to long


def of_step(stream: Stream, rows: Rows, step: int) -> np.ndarray:
    return rows.input_lengths[stream.indices(step)[1]]


def test_a_step_depends_on_nothing_but_its_number(make: Maker) -> None:
    rows = [make(30), make(50, seed=1)]
    first, second = (Stream(rows, [1, 2], seed=5, batch_size=4) for _ in range(2))
    forwards = [first.numbers_of(step) for step in range(100)]
    for step in reversed(range(100)):
        assert np.array_equal(second.numbers_of(step), forwards[step])
    assert not np.array_equal(Stream(rows, [1, 2], seed=6, batch_size=4).numbers_of(0), forwards[0])


def test_a_run_from_the_middle_is_the_tail_of_a_whole_run(make: Maker) -> None:
    streams = [Stream([make(30), make(50, seed=1)], [1, 2], seed, 4) for seed in (0, 1)]
    assert_equal(train(streams, 0, 40)[23:], train(streams, 23, 40))
    assert train(streams, 7, 7) == []


def test_threads_do_not_change_the_batches(make: Maker) -> None:
    streams = [Stream([make(60)], [1], seed, 4) for seed in (0, 1)]
    expected = train(streams, 0, 40, threads=0)
    assert_equal(train(streams, 0, 40, threads=1), expected)
    assert_equal(train(streams, 0, 40, threads=8), expected)


def test_rates_hold_and_each_task_has_its_epochs(make: Maker) -> None:
    stream = Stream([make(80), make(320, seed=1)], [3, 1], seed=0, batch_size=8)
    counts = visits(stream, 10)
    totals = [sum(counts[task, row] for row in range(n)) for task, n in enumerate((80, 320))]
    assert totals == [960, 320]
    for task, n in enumerate((80, 320)):
        assert {counts[task, row] for row in range(n)} == {totals[task] // n}
    shares = [np.mean(stream.pool.split(stream.window(w))[0]) for w in range(10)]
    np.testing.assert_allclose(shares, 0.25, atol=0.02)  # evenly spread: also in every window


def test_a_cycle_draws_every_task(make: Maker) -> None:
    tasks, draws, counts = mixture_cycle([1e6, 1, 2e6], seed=0)
    assert np.bincount(tasks).tolist() == counts.tolist() == [1024, 1, 2048]
    for task in range(3):
        assert draws[tasks == task].tolist() == list(range(counts[task]))


def test_a_task_of_rate_0_is_never_drawn() -> None:
    """As in seqio, where it switches a task of a mixture off; and as a share of a corpus."""
    tasks, _, counts = mixture_cycle([1.0, 0.0, 3.0], seed=0)
    assert np.bincount(tasks, minlength=3).tolist() == counts.tolist() == [768, 0, 2304]
    with pytest.raises(UserError, match="All 2 rates of the mixture are 0"):
        mixture_cycle([0.0, 0.0], seed=0)


def test_subsets_are_all_that_is_read(make: Maker) -> None:
    subsets = [np.array([1, 5, 8, 9]), np.array([39])]
    counts = visits(Stream([make(10), make(40, seed=1)], [1, 1], 0, 8, subsets), 4)
    assert set(counts) == {(0, 1), (0, 5), (0, 8), (0, 9), (1, 39)}
    assert {counts[0, row] for row in subsets[0]} == {64} and counts[1, 39] == 256


def test_few_shots_are_balanced_and_reproducible() -> None:
    labels = np.array([0] * 80 + [1] * 17 + [2] * 3)
    chosen = subset(100, 16, 0, labels)
    assert np.bincount(labels[chosen]).tolist() in ([7, 6, 3], [6, 7, 3])  # all of the rare label, the rest shared
    assert np.array_equal(chosen, subset(100, 16, 0, labels)) and len(set(chosen)) == 16
    assert not np.array_equal(chosen, subset(100, 16, 1, labels))
    assert np.bincount(labels[subset(100, 9, 4, labels)]).tolist() == [3, 3, 3]
    assert subset(5, 8, 0, np.full(5, -1)).tolist() == [0, 1, 2, 3, 4]


def test_train_batches_hold_the_rows_they_name(make: Maker) -> None:
    mixed = Stream([make(30), make(50, seed=1, choices=("Maybe so", "Never", "?"))], [1, 1], 0, 4)
    for step, batch in enumerate(train([mixed, Stream([make(64)], [1], 1, 4)], 0, 20)):
        assert {name: (array.dtype, array.shape) for name, array in batch.items() if name != "inputs"} == {
            "targets": (np.int32, (2, 4, 16)),  # "Maybe so" and EOS, to a multiple of 8
            "choices": (np.int32, (2, 4, 3, 16)),
            "label": (np.int32, (2, 4)),
            "row": (np.int32, (2, 4)),
            "weight": (np.float32, (2, 4)),
        }
        task_B, row_B = mixed.indices(step)
        assert batch["row"][0].tolist() == (task_B * 30 + row_B).tolist()
        assert numbers(batch["inputs"][0]).tolist() == row_B.tolist()
        assert batch["label"][0].tolist() == (row_B % 2).tolist()
        picked = np.take_along_axis(batch["choices"], batch["label"][..., None, None], 2)[:, :, 0]
        assert np.array_equal(picked, batch["targets"])
        assert (batch["choices"][1, :, 2] == 0).all() and (batch["weight"] == 1).all()


def test_the_bucket_holds_the_longest_input_of_all_members(make: Maker) -> None:
    streams = [Stream([make(100, longest=6)], [1], 0, 4), Stream([make(100, seed=1)], [1], 1, 4)]
    batches = train(streams, 0, 64)
    for batch in batches:
        longest = (batch["inputs"] != 0).sum(-1).max()
        assert batch["inputs"].shape == (2, 4, min(bucket for bucket in BUCKETS if bucket >= longest))
    assert {batch["inputs"].shape[-1] for batch in batches} == set(BUCKETS)  # no more shapes than buckets


def test_short_batches_of_a_fleet_meet(make: Maker) -> None:
    rows = make(300)
    streams = [Stream([rows], [1], seed, 4) for seed in range(6)]
    together = [batch["inputs"].shape[-1] for batch in train(streams, 0, 48)]
    alone = [batch["inputs"].shape[-1] for batch in train(streams[:1], 0, 48)]
    assert np.mean(together) < 1.2 * np.mean(alone)


def test_a_member_reads_in_a_fleet_what_it_reads_alone(make: Maker) -> None:
    streams = [Stream([make(90)], [1], 0, 4), Stream([make(31, seed=2)], [1], 1, 4)]
    for fleet, alone in zip(train(streams, 0, 20), train(streams[:1], 0, 20), strict=True):
        length = alone["inputs"].shape[-1]
        assert np.array_equal(fleet["row"][0], alone["row"][0])
        assert np.array_equal(fleet["inputs"][0, :, :length], alone["inputs"][0])
        assert not fleet["inputs"][0, :, length:].any()


def test_hosts_shares_make_up_the_batch(make: Maker) -> None:
    streams = [Stream([make(60)], [1], seed, 4) for seed in (0, 1)]
    whole = train(streams, 0, 20)
    hosts = [train(streams, 0, 20, places=np.array(places)) for places in ([0, 3], [1, 2])]
    for shares, batch in zip(zip(*hosts, strict=True), whole, strict=True):
        for name, values in batch.items():
            assert np.array_equal(np.concatenate([share[name] for share in shares], axis=1)[:, [0, 2, 3, 1]], values)
    hosts = [train(streams, 0, 20, members=[member]) for member in (0, 1)]
    for shares, batch in zip(zip(*hosts, strict=True), whole, strict=True):
        for name, values in batch.items():
            assert np.array_equal(np.concatenate([share[name] for share in shares]), values)


def test_evaluation_reads_every_row_once(make: Maker) -> None:
    members = [[make(11)], [make(5), make(30, seed=1)], [make(40, longest=6)]]
    seen: list[Counter] = [Counter() for _ in members]
    batches = list(eval_batches(members, 8, BUCKETS, MAX_LENGTH))
    for batch in batches:
        assert (batch["inputs"] != 0).any(-1).all()  # no row without a token, also where the weight is 0
        for m, b in np.ndindex(3, 8):
            assert numbers(batch["inputs"][m, b]) == batch["row"][m, b]
            seen[m][int(batch["task"][m, b]), int(batch["row"][m, b])] += int(batch["weight"][m, b])
    for counts, member in zip(seen, members, strict=True):
        assert {key for key, n in counts.items() if n} == {
            (t, r) for t, part in enumerate(member) for r in range(len(part))
        }
        assert set(counts.values()) == {1}
    assert len(batches) == 5 and {batch["inputs"].shape[-1] for batch in batches} <= set(BUCKETS)
    assert [batch["inputs"].shape[-1] for batch in batches] == sorted(batch["inputs"].shape[-1] for batch in batches)


def test_evaluation_pads_answers_to_the_bucket_of_their_batch(tmp_path: pathlib.Path) -> None:
    """Choices of 2 to 41 bytes, EOS included: each is whole, and few batches are as wide as the longest."""
    choices = [("a" * (1 + row % 3), "b" * (1 + row // 2)) for row in range(80)]
    examples = [Example("text", pair[row % 2], pair) for row, pair in enumerate(choices)]
    rows = tokenize(examples, load_tokenizer("bytes"), tmp_path, "x", True, 8, 64)
    batches = list(eval_batches([[rows]], 8, BUCKETS, MAX_LENGTH))
    for batch in batches:
        lengths = (batch["choices"][0] != 0).sum(axis=-1)
        assert lengths.tolist() == [[len(text) + 1 for text in choices[row]] for row in batch["row"][0]]
        assert batch["choices"].shape[-1] == min(t for t in (4, 8, 16, 24, 32, 48) if t >= lengths.max())
        assert batch["targets"].shape[-1] == batch["choices"].shape[-1]
    assert [batch["choices"].shape[-1] for batch in batches] == [8, 16, 16, 24, 24, 32, 32, 48, 48, 48]


@pytest.mark.parametrize(("longest", "expected"), [(2, 2), (3, 4), (4, 4), (5, 8), (8, 8), (9, 16), (17, 24)])
def test_targets_have_the_length_of_the_runs_longest(tmp_path: pathlib.Path, longest: int, expected: int) -> None:
    """EOS included."""
    choices = ("b", "a" * (longest - 1))
    rows = tokenize([Example("text", "b", choices)], load_tokenizer("bytes"), tmp_path, "x", True, 8, 64)
    (batch,) = train([Stream([rows], [1.0], 0, 1)], 0, 1)
    assert batch["targets"].shape[-1] == batch["choices"].shape[-1] == expected


def test_rows_that_fill_up_a_batch_do_not_widen_its_answers(tmp_path: pathlib.Path) -> None:
    long, short = ("a" * 40, "b" * 40), ("a", "b")
    examples = [Example("text", long[0], long)] * 8 + [Example("a longer text", short[0], short)]
    rows = tokenize(examples, load_tokenizer("bytes"), tmp_path, "x", True, 16, 64)
    first, last = eval_batches([[rows]], 8, BUCKETS, MAX_LENGTH)
    assert first["choices"].shape[-1] == 48 and last["choices"].shape[-1] == 4
    assert last["weight"].tolist() == [[1] + [0] * 7] and last["row"][0, 0] == 8


def test_evaluation_of_the_first_rows_of_each_task(make: Maker) -> None:
    (batch,) = eval_batches([[make(11), make(2), make(30, seed=1)]], 16, BUCKETS, MAX_LENGTH, limit=3)
    real = batch["weight"][0] == 1
    pairs = sorted(zip(batch["task"][0, real].tolist(), batch["row"][0, real].tolist(), strict=True))
    assert pairs == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)]


def test_what_members_share_is_gathered_once(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, calls, gather = make(40), [], Rows.gather
    monkeypatch.setattr(Rows, "gather", lambda self, *args: calls.append(self) or gather(self, *args))
    paired = Stream([rows], [1], 0, 8)
    other = Stream([rows], [1], 1, 8)
    (batch,) = train([paired, other, paired, paired], 0, 1)
    assert len(calls) == 2
    assert np.array_equal(batch["row"][0], batch["row"][2]) and not np.array_equal(batch["row"][0], batch["row"][1])
    calls.clear()
    (batch,) = eval_batches([[rows]] * 5, 40, BUCKETS, MAX_LENGTH)
    assert len(calls) == 1 and batch["inputs"].shape[:2] == (5, 40)
    assert all(np.shares_memory(values[0], values[4]) for values in batch.values())


def test_buckets() -> None:
    assert bucket_lengths(np.array([1, 8, 9, 32]), (32, 8, 16)).tolist() == [8, 8, 16, 32]
    assert complete((16, 8), 16) == (8, 16) == complete((8, 16), 12)
    assert complete((8, 16), 20) == (8, 16, 20) and complete((), 20) == (20,)


def test_free_text_has_one_choice_that_is_all_padding(tmp_path: pathlib.Path) -> None:
    examples = [Example("000", "one two three")]
    rows = tokenize(examples, load_tokenizer("bytes"), tmp_path, "x", False, 8, 64)
    (batch,) = train([Stream([rows], [1], 0, 2)], 0, 1)
    assert batch["choices"].shape == (1, 2, 1, 16) and not batch["choices"].any()
    assert (batch["label"] == -1).all()


def test_rows_of_a_data_set(invented: pathlib.Path, vocabulary: pathlib.Path, tmp_path: pathlib.Path) -> None:
    tokenizer, choices = load_tokenizer(vocabulary), ("True", "False")
    lines = (invented / "super_glue" / "rte" / "validation.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    texts = [f"{row['premise']} Question: {row['hypothesis']} True or False?" for row in found]
    examples = [Example(t, choices[r["label"]], choices) for t, r in zip(texts, found, strict=True)]
    rows = tokenize(examples, tokenizer, tmp_path, "rte", True, 512, 16, "super_glue/rte")
    buckets = (32, 64, 128, 256, 512)
    for batch in train_batches([Stream([rows], [1], 0, 16)], 0, 16, buckets, 512, 2):
        texts_B = [texts[row] for row in batch["row"][0]]
        expected = [[*tokens.tolist(), 1] for tokens in tokenizer.encode(texts_B)]
        assert [tokens[tokens != 0].tolist() for tokens in batch["inputs"][0]] == expected
        assert batch["inputs"].shape[-1] == min(b for b in buckets if b >= max(map(len, expected)))
    padding = [1 - (b["inputs"] != 0).mean() for b in eval_batches([[rows]], 16, buckets, 512)]
    assert np.mean(padding) < 0.45  # 0.94 if all inputs were padded to 512
