"""Rows a few at a time give what all at once give, and no block is larger than it should be."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from infoprompt_jax.t5 import blocks
from infoprompt_jax.t5.partition import Layout


@pytest.mark.parametrize(
    ("batch", "length", "expected"),
    [(32, 228, 2), (32, 20, 16), (7, 600, 1), (6, 100, 3), (8, 64, 8), (31, 20, 31), (3, 7, 3)],
    ids=["pairs", "divisor", "long rows", "not a power of two", "one block", "a prime of short rows", "few"],
)
def test_blocks_are_equal_and_small(batch: int, length: int, expected: int) -> None:
    seen = list[tuple[int, ...]]()

    def function(x_BSD: jax.Array, mask_BS: jax.Array, nothing: None) -> Any:
        seen.append(x_BSD.shape)
        assert nothing is None and mask_BS.shape == x_BSD.shape[:2]
        return x_BSD * 2, {"masked": jnp.where(mask_BS, x_BSD[..., 0], 0)}

    x_BSD = np.random.default_rng(0).standard_normal((batch, length, 2)).astype(np.float32)
    mask_BS = np.arange(batch * length).reshape(batch, length) % 3 > 0
    double, found = blocks.by_rows(function, Layout(), jnp.asarray(x_BSD), jnp.asarray(mask_BS), None)
    assert set(seen) == {(expected, length, 2)}
    np.testing.assert_array_equal(double, 2 * x_BSD)
    np.testing.assert_array_equal(found["masked"], np.where(mask_BS, x_BSD[..., 0], 0))


def test_a_backbone_reads_rows_in_blocks_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of two rows, in the encoder and where generation reads its states; rows differ in length."""
    inputs = np.array(tiny.batch(rows=6)["inputs"][0])
    inputs[::2, -3:] = 0
    found = {}
    for positions in (2 * inputs.shape[1], 1 << 20):
        monkeypatch.setattr(blocks, "POSITIONS", positions)
        jax.clear_caches()
        model = tiny.backbone(tiny.one_device())
        found[positions] = model.encode(inputs), model.generate(inputs, 5)
    in_blocks, at_once = found.values()
    np.testing.assert_allclose(in_blocks[0], at_once[0], atol=1e-5)
    np.testing.assert_array_equal(in_blocks[1], at_once[1])


@pytest.mark.parametrize(
    ("count", "positions", "most", "expected"),
    [(8, 600, 8, 1), (8, 100, 8, 4), (7, 100, 7, 1), (64, 50, 6, 4), (8, 10, 8, 8), (3, 0, 3, 3)],
    ids=["each a block", "a divisor", "a prime", "at most", "all in a block", "no positions"],
)
def test_members_together_fill_a_block(count: int, positions: int, most: int, expected: int) -> None:
    assert blocks.members(count, positions, most) == expected
