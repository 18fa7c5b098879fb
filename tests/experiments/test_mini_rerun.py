"""The first steps of mini's pretraining again: a batch in parts, and the steps that were recorded."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments import mini_rerun
from infoprompt_jax.pretraining import step
from infoprompt_jax.t5.config import T5Config

TINY = T5Config(32, 8, 4, 16, 1, 1, 2, tied=True, scale_decoder_outputs=True)


@pytest.fixture
def batch() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {name: random.integers(2, 32, (4, length)) for name, length in (("inputs", 6), ("targets", 5))}


def test_a_batch_in_parts_has_the_gradient_of_the_whole(batch: dict[str, np.ndarray]) -> None:
    graph, params = step.initial(TINY, 0)
    (whole, gradient), (parts, of_parts) = (mini_rerun.whole(graph, params, batch, rows) for rows in (4, 2))
    assert parts == pytest.approx(whole, rel=1e-6)
    # Gradients of rounded weights are rounded, too.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0.02, atol=1e-3), gradient, of_parts)
    with pytest.raises(ValueError, match="--rows=3 does not divide the batch of 4 rows"):
        mini_rerun.whole(graph, params, batch, 3)


def test_weights_are_rounded_to_bfloat16(batch: dict[str, np.ndarray]) -> None:
    graph, params = step.initial(TINY, 0)
    rounded = jax.tree.map(lambda weight: weight.astype(jnp.bfloat16).astype(jnp.float32), params)
    expected = step.losses(nnx.merge(graph, rounded), {name: jnp.asarray(value) for name, value in batch.items()})
    assert mini_rerun.whole(graph, params, batch, 4)[0] == pytest.approx(float(expected.mean()), rel=1e-6)


def test_the_recorded_run_has_every_tenth_step() -> None:
    recorded = mini_rerun.recorded()
    assert min(recorded) == 10 and {"loss", "gradient_norm"} <= recorded[10].keys()
