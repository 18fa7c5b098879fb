"""The feature cache computes what the run reads, once, and hands it to the right rows."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import tiny

from infoprompt_jax.data.batches import Stream, train_batches
from infoprompt_jax.data.rows import Rows
from infoprompt_jax.data.templates import Example
from infoprompt_jax.data.tokenization import tokenize
from infoprompt_jax.training import stored_rows
from infoprompt_jax.training.features import Features


@pytest.fixture(scope="module")
def model() -> tiny.Backbone:
    return tiny.backbone()


@pytest.fixture
def rows(model: tiny.Backbone, tmp_path: pathlib.Path) -> list[Rows]:
    sizes = {"a": 40, "b": 7}
    return [
        tokenize(
            [Example(name * (i % 30 + 1), "yes", ("yes", "no")) for i in range(n)],
            model.tokenizer,
            tmp_path,
            name,
            True,
            32,
            8,
        )
        for name, n in sizes.items()
    ]


def test_every_visited_row_gets_its_own_features(
    model: tiny.Backbone, rows: list[Rows], tmp_path: pathlib.Path
) -> None:
    program = tiny.fleet(model)
    streams = [Stream(rows, [1.0, 1.0], 0, 4), Stream(rows[:1], [1.0], 1, 4)]
    features = Features(tmp_path / "features", streams, 64)
    features.fill(program, model, 3, (16, 32), 8)
    for batch in train_batches(streams, 0, 3, (16, 32), 32, 1):
        found = features.gather(batch["row"])
        np.testing.assert_array_equal(features.gather(batch["row"][1:], np.array([1])), found[1:])  # of one process
        spread = features.spread(batch["row"])
        for m in range(2):
            for task in range(2):
                here = streams[m].pool.split(batch["row"][m])[0] == task
                read = [streams[m].indices(step) for step in range(3)]  # by this member, not by the others
                visited = np.unique(np.concatenate([inner[of_task == task] for of_task, inner in read]))
                stored = features.values[id(rows[task])].values[visited]
                expected = np.sqrt(np.var(stored, axis=0).mean()) if len(stored) else 0.0
                np.testing.assert_allclose(spread[m, here], np.full(here.sum(), expected), rtol=1e-4)
            expected = program.features(model.frozen, batch["inputs"][m])
            np.testing.assert_allclose(found[m], expected, rtol=1e-4, atol=1e-5)
    filled = [int((~np.isnan(stored.values[:, 0])).sum()) for stored in features.values.values()]
    assert 0 < filled[0] < 40, "rows that no step reads are left alone"


def test_an_interrupted_fill_ends_in_the_same_bits(
    model: tiny.Backbone, rows: list[Rows], tmp_path: pathlib.Path
) -> None:
    program, streams = tiny.fleet(model), [Stream(rows[:1], [1.0], 0, 4)]
    whole = Features(tmp_path / "whole", streams, 64)
    whole.fill(program, model, 8, (16, 32), 8)
    calls = []

    def until_killed(frozen: object, inputs: jax.Array) -> jax.Array:
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(1)
        return program.features(frozen, inputs)

    with pytest.raises(KeyboardInterrupt):
        Features(tmp_path / "killed", streams, 64).fill(SimpleNamespace(features=until_killed), model, 8, (16, 32), 8)
    resumed = Features(tmp_path / "killed", streams, 64)
    left = [np.isnan(stored.values[:, 0]).sum() for stored in resumed.values.values()]
    resumed.fill(program, model, 8, (16, 32), 8)
    for a, b in zip(whole.values.values(), resumed.values.values(), strict=True):
        np.testing.assert_array_equal(a.values, b.values)
    assert left[0] > np.isnan(next(iter(whole.values.values())).values[:, 0]).sum(), "the first attempt left rows to do"


def test_what_is_computed_is_kept_and_a_block_written_in_part_is_not(
    model: tiny.Backbone, rows: list[Rows], tmp_path: pathlib.Path
) -> None:
    program, streams = tiny.fleet(model), [Stream(rows[:1], [1.0], 0, 4)]
    Features(tmp_path / "features", streams, 64).fill(program, model, 8, (16, 32), 8)
    features = Features(tmp_path / "features", streams, 64)
    (stored,) = features.values.values()
    values = stored.values
    filled = np.flatnonzero(~np.isnan(values).any(axis=1))
    kept = np.array(values[filled])
    assert len(kept) > 16
    features.fill(SimpleNamespace(features=None), model, 8, (16, 32), 8)  # nothing is left to compute
    values[filled[::2], 1:] = np.nan
    features.fill(program, model, 8, (16, 32), 8)
    np.testing.assert_array_equal(values[filled], kept)


def flip(file: pathlib.Path) -> None:
    content = bytearray(file.read_bytes())
    for place in range(len(content) // 2, len(content), 7):
        content[place] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    "damage", [flip, lambda file: os.truncate(file, file.stat().st_size // 2), lambda file: file.write_bytes(b"")]
)
def test_damaged_rows_are_computed_again(
    damage: Callable[[pathlib.Path], object],
    model: tiny.Backbone,
    rows: list[Rows],
    tmp_path: pathlib.Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Flipped bits, a file that was cut, an empty file."""
    monkeypatch.setattr(stored_rows, "BLOCK", 16)
    program, streams = tiny.fleet(model), [Stream(rows[:1], [1.0], 0, 40)]
    features = Features(tmp_path, streams, 64)
    features.fill(program, model, 8, (16, 32), 8)
    (stored,) = features.values.values()
    visited = np.flatnonzero(~stored.lacks(np.arange(40)))
    kept = np.array(stored.values[visited])
    (file,) = tmp_path.glob("*.npy")
    damage(file)
    features = Features(tmp_path, streams, 64)
    assert "again" in caplog.text
    features.fill(program, model, 8, (16, 32), 8)
    (stored,) = features.values.values()
    np.testing.assert_array_equal(stored.values[visited], kept)
