"""Model FLOPs against a count by hand."""

from __future__ import annotations

import jax
import pytest

from infoprompt_jax.speed import peak_flops, step_flops
from infoprompt_jax.t5 import T5Config


@pytest.mark.parametrize(("feed_forward", "matrices"), [("relu", 2), ("gated-gelu", 3)])
def test_step_flops_are_four_per_weight_and_token(feed_forward: str, matrices: int) -> None:
    config = T5Config(100, 8, 4, 16, 3, 2, 2, feed_forward=feed_forward)
    attention, mlp = 4 * 8 * 8, matrices * 8 * 16
    encoder = 3 * (attention + mlp) * 50
    decoder = 2 * (attention + mlp + 2 * 8 * 8) * 5 + 2 * 2 * 8 * 8 * 50 + 100 * 8 * 5  # cross K and V read the input
    assert step_flops(config, 50, 5) == 4 * (encoder + decoder)


def test_a_cpus_peak_is_not_known() -> None:
    assert peak_flops(jax.devices("cpu")[0]) is None
