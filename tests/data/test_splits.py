"""Slices of a split are those of TFDS."""

from __future__ import annotations

import pytest

from infoprompt_jax.data.splits import split_bounds
from infoprompt_jax.errors import UserError


@pytest.mark.parametrize(
    "split", ["train[:90%]", "train[10:20]", "train[-5:]", "train[33%:66%]", "train[:-7]", "train"]
)
def test_slices_are_those_of_tfds(split: str) -> None:
    import tensorflow_datasets as tfds

    for rows in (2490, 56, 333):
        infos = {"train": tfds.core.SplitInfo(name="train", shard_lengths=[rows], num_bytes=0)}
        (exact,) = tfds.core.ReadInstruction.from_spec(split).to_absolute(infos)
        assert split_bounds(split, rows) == (exact.from_ or 0, exact.to or rows)


@pytest.mark.parametrize("end", ["9" * 5000, "9" * 5000 + "%", "\uff13", "1\u0663", "+1", "1.5", "9" * 18])
def test_other_positions_are_refused_in_a_short_sentence(end: str) -> None:
    with pytest.raises(UserError, match=r"The split .* (is malformed|selects no rows)") as error:
        split_bounds(f"train[:{end}]", 9)
    assert len(str(error.value)) < 300
