"""Span corruption: the paper's example, what may never be lost, and how much is dropped."""

from __future__ import annotations

import numpy as np
import pytest

from infoprompt_jax.pretraining import corruption

SENTINELS = [999 - i for i in range(100)]


def corrupted(length: int, seed: int = 0, rows: int = 7) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    tokens_BN = np.random.default_rng(100 + seed).integers(3, 800, (rows, length))
    return tokens_BN, *corruption.corrupt(tokens_BN, np.random.default_rng(seed), SENTINELS)


def spans(target: np.ndarray) -> dict[int, list[int]]:
    """What follows each sentinel of a target."""
    found: dict[int, list[int]] = {}
    for token in target.tolist():
        if token in SENTINELS:
            found[token] = []
        else:
            found[list(found)[-1]].append(token)
    return found


def test_example(monkeypatch: pytest.MonkeyPatch) -> None:
    """ "thank you for inviting me to your party last week" of the paper's figure 2, as the module has it."""
    lengths = {6: [[2, 4]], 4: [[2, 2]]}
    monkeypatch.setattr(corruption, "counts", lambda length: (4, 2))
    monkeypatch.setattr(corruption, "parts", lambda total, *_: np.array(lengths[total]))
    inputs, targets = corruption.corrupt(np.arange(10)[None], np.random.default_rng(0), SENTINELS)
    assert inputs.tolist() == [[0, 1, 999, 4, 5, 6, 7, 998]]
    assert targets.tolist() == [[999, 2, 3, 998, 8, 9]]


@pytest.mark.parametrize("length", [2, 3, 5, 13, 34, 52, 70, 512])
def test_text_comes_back(length: int) -> None:
    for text, given, target in zip(*corrupted(length), strict=True):
        dropped = spans(target)
        assert list(dropped) == SENTINELS[: len(dropped)] == [t for t in given.tolist() if t in SENTINELS]
        assert all(dropped.values())
        whole = [token for mark in given.tolist() for token in dropped.get(mark, [mark])]
        assert whole == text.tolist()


@pytest.mark.parametrize(("length", "noise", "count"), [(2, 1, 1), (10, 2, 1), (20, 3, 1), (52, 8, 3), (512, 77, 26)])
def test_counts(length: int, noise: int, count: int) -> None:
    """round(0.15 * length) tokens in round(noise / 3) spans, at least one of each."""
    assert corruption.counts(length) == (noise, count)
    _, inputs, targets = corrupted(length)
    assert inputs.shape[1] == length - noise + count
    assert targets.shape[1] == noise + count


def test_longest_text_fills_the_input() -> None:
    for room in (3, 32, 48, 64, 512):
        longest = corruption.longest_text(room)
        needed = [corrupted(length)[1].shape[1] + 1 for length in (longest, longest + 1)]
        assert needed[0] <= room < needed[1]


def test_draws_follow_the_generator() -> None:
    first, again, other = (
        corrupted(52)[1],
        corrupted(52)[1],
        corruption.corrupt(corrupted(52)[0], np.random.default_rng(1), SENTINELS)[1],
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(corrupted(52)[2], other)


def test_every_way_to_part_is_as_likely() -> None:
    drawn = corruption.parts(5, 3, 6000, np.random.default_rng(0))
    ways, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(ways) == 6 and (ways >= 1).all() and (ways.sum(axis=1) == 5).all()
    assert abs(counts - 1000).max() < 120  # four standard deviations


def test_only_what_is_said_twice_is_dropped() -> None:
    """Of each repeated token one place stays, in its own line; with the target the text is whole again."""
    lines = [np.array([5, 6, 7, 6, 5, 7, 7, 8]), np.array([9, 5, 9, 8])]  # twice: 5 and 6; 9
    sides = set()
    for seed in range(30):
        given, target = corruption.drop_repeated(lines, np.random.default_rng(seed), SENTINELS, 7)
        dropped = spans(target)
        assert sorted(token for span in dropped.values() for token in span) == [5, 6, 9]
        assert list(dropped) == SENTINELS[: len(dropped)] == [t for t in given.tolist() if t in SENTINELS]
        whole = [token for mark in given.tolist() for token in dropped.get(mark, [mark])]
        assert whole == np.concatenate(lines).tolist()
        sides.add(given[0] == SENTINELS[0])
    assert sides == {True, False}  # either place


def test_drops_so_many_at_most() -> None:
    twice = np.repeat(np.arange(20), 2)
    for most in (1, 7):
        given, target = corruption.drop_repeated([twice], np.random.default_rng(0), SENTINELS, most)
        assert len(given) == 40 and len(target) == 2 * most
    given, target = corruption.drop_repeated([np.arange(3, 9)], np.random.default_rng(0), SENTINELS, 7)
    assert given.tolist() == list(range(3, 9)) and not len(target)
