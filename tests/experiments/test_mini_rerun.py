"""The first steps of mini's pretraining again: a batch in parts, and the steps that were recorded."""

from __future__ import annotations

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments import mini_rerun
from infoprompt_jax.pretraining import step
from infoprompt_jax.t5.config import T5Config
from infoprompt_jax.t5.model import T5

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


@pytest.mark.slow
def test_weights_are_rounded_to_bfloat16(batch: dict[str, np.ndarray]) -> None:
    graph, params = step.initial(TINY, 0)
    rounded = jax.tree.map(lambda weight: weight.astype(jnp.bfloat16).astype(jnp.float32), params)
    expected = step.losses(nnx.merge(graph, rounded), {name: jnp.asarray(value) for name, value in batch.items()})
    assert mini_rerun.whole(graph, params, batch, 4)[0] == pytest.approx(float(expected.mean()), rel=1e-6)


def test_batches_are_read_back_as_they_were_written(tmp_path: pathlib.Path) -> None:
    random, file = np.random.default_rng(0), tmp_path / "batches.npz"
    batches = [
        {
            "inputs": random.integers(0, 8192, (4, length), np.int32),
            "targets": random.integers(0, 8192, (4, 5), np.int32),
            "denoising": random.integers(0, 2, 4).astype(bool),
        }
        for length in (6, 12, 6)
    ]
    mini_rerun.keep(file, batches, same_data=True)
    found, same_data = mini_rerun.kept(file)
    assert same_data
    for one, other in zip(found, batches, strict=True):
        for name, value in other.items():
            np.testing.assert_array_equal(one[name], value, strict=True)


@pytest.mark.slow
def test_a_step_in_bfloat16_is_that_of_pretraining(batch: dict[str, np.ndarray]) -> None:
    optimizer, (_, params) = step.make_optimizer(0.0, 1.0), step.initial(TINY, 0)
    batch["denoising"] = np.array([True, False, True, False])

    def state() -> step.State:
        copied = jax.tree.map(jnp.copy, params)
        return {"params": copied, "optimizer": optimizer.init(copied)}

    low = nnx.graphdef(nnx.eval_shape(lambda: T5(dataclasses.replace(TINY, dtype="bfloat16"), nnx.Rngs(0))))
    expected, metrics = step.step(low, optimizer, state(), batch, np.float32(0.1))
    found, loss, norm = mini_rerun.stepper(TINY, optimizer, "bfloat16", 1)(state(), batch, np.float32(0.1))
    assert (loss, norm) == (float(metrics["loss"]), float(metrics["gradient_norm"]))
    jax.tree.map(np.testing.assert_array_equal, found["params"], expected["params"])
    parts, loss, norm = mini_rerun.stepper(TINY, optimizer, "float32", 2)(state(), batch, np.float32(0.1))
    assert (loss, norm) == pytest.approx((float(metrics["loss"]), float(metrics["gradient_norm"])), rel=0.05)
    assert jax.tree.structure(parts) == jax.tree.structure(found)


def test_the_recorded_run_has_every_tenth_step() -> None:
    recorded = mini_rerun.recorded()
    assert min(recorded) == 10 and {"loss", "gradient_norm"} <= recorded[10].keys()
