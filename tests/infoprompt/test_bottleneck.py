"""The variational bottleneck against its closed forms."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from infoprompt_jax.infoprompt import bottleneck

# Of width and latent width 3, the identity but for the log standard deviations -0.5 h.
POSTERIOR = {"mean": jnp.eye(3), "log_std": -0.5 * jnp.eye(3), "out": jnp.eye(3)}
SPREAD = np.exp([-0.5, 0.0, 1.0])


def test_gaussian_kl() -> None:
    np.testing.assert_allclose(bottleneck.gaussian_kl(jnp.zeros((2, 3)), jnp.zeros((2, 3))), np.zeros(2))
    # By hand: mean 1, std 1 gives 1/2; mean 0, std 2 gives (4 - 1) / 2 - log 2; their average.
    got = bottleneck.gaussian_kl(jnp.array([1.0, 0.0]), jnp.log(jnp.array([1.0, 2.0])))
    np.testing.assert_allclose(got, (0.5 + 1.5 - np.log(2)) / 2, rtol=1e-6)


def test_the_log_std_is_clipped() -> None:
    mean, log_std = bottleneck.encode(POSTERIOR, jnp.asarray([[-30.0, 1.0, 30.0]]))
    assert mean.tolist() == [[-30, 1, 30]] and log_std.tolist() == [[10, -0.5, -2]]


def test_samples_and_negatives_are_drawn_from_the_posterior() -> None:
    h = jnp.tile(jnp.asarray([[1.0, 0.0, -2.0]]), (4000, 1))
    z, _ = bottleneck.sample(POSTERIOR, h, h, jax.random.key(0))
    negatives, mask = bottleneck.negatives(POSTERIOR, h, 2, jax.random.key(1))
    assert negatives.shape == (4000, 2, 3) and mask is None
    for samples in (z, negatives[:, 0]):
        np.testing.assert_allclose(samples.mean(axis=0), h[0], atol=0.15)
        np.testing.assert_allclose(samples.std(axis=0), SPREAD, rtol=0.05)
    assert not np.array_equal(negatives[:, 0], negatives[:, 1])


def test_the_divergence_is_that_of_both_passes() -> None:
    z, h = jnp.asarray([[1.0, 2.0, 3.0]]), jnp.asarray([[0.0, 0.5, -1.0]])
    _, kl_B = bottleneck.sample(POSTERIOR, z, h, jax.random.key(0))
    parts = [bottleneck.gaussian_kl(*bottleneck.encode(POSTERIOR, x)) for x in (z, h)]
    np.testing.assert_allclose(kl_B, parts[0] + parts[1], rtol=1e-6)
    assert float(parts[0][0]) != float(parts[1][0])
