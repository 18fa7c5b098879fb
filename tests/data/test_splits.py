"""Slices of a split are those of TFDS."""

from __future__ import annotations

import pytest

from infoprompt_jax.data.splits import split_bounds


@pytest.mark.parametrize(
    "split", ["train[:90%]", "train[10:20]", "train[-5:]", "train[33%:66%]", "train[:-7]", "train"]
)
def test_slices_are_those_of_tfds(split: str) -> None:
    import tensorflow_datasets as tfds

    for rows in (2490, 56, 333):
        infos = {"train": tfds.core.SplitInfo(name="train", shard_lengths=[rows], num_bytes=0)}
        (exact,) = tfds.core.ReadInstruction.from_spec(split).to_absolute(infos)
        assert split_bounds(split, rows) == (exact.from_ or 0, exact.to or rows)
