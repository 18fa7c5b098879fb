"""int8 weights: the rounding against values worked by hand, and products, scores and gradients against full weights."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from infoprompt_jax.t5.int8 import quantize


@pytest.mark.parametrize("library", [np, jnp])
def test_quantize_by_hand(library: Any) -> None:
    kernel_IO = library.asarray(
        [[1.27, 0.0, -254.0, 1e-45], [-0.634, 0.0, 3.0, 0.0], [0.0, 0.0, 1.01, 0.0]], np.float32
    )
    values, scale = quantize(kernel_IO)
    assert values.dtype == np.int8 and scale.dtype == np.float32
    assert isinstance(values, np.ndarray) == isinstance(kernel_IO, np.ndarray)
    # -0.634 / 0.01 = -63.4; 3 / 2 = 1.5, to the even 2; 1.01 / 2 = 0.505; what is too small for a scale becomes 0
    np.testing.assert_array_equal(values, [[127, 0, -127, 0], [-63, 0, 2, 0], [0, 0, 1, 0]])
    np.testing.assert_allclose(scale, [0.01, 1.0, 2.0, 1.0], rtol=1e-6)
    rows, row_scale = quantize(kernel_IO.T, axis=-1)
    np.testing.assert_array_equal(rows, values.T)
    np.testing.assert_array_equal(row_scale, scale)


def test_each_layer_and_channel_has_its_scale_and_an_error_of_half_of_it() -> None:
    kernel_NIO = np.random.default_rng(0).standard_normal((3, 16, 8)).astype(jnp.bfloat16)
    values, scale = quantize(kernel_NIO)
    assert values.shape == (3, 16, 8) and scale.shape == (3, 8)
    error = np.abs(values * scale[:, None] - kernel_NIO.astype(np.float32))
    assert (error <= 0.5001 * scale[:, None]).all()
    assert (np.abs(values).max(axis=1) == 127).all()
