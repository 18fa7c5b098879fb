"""The representation loss: its critic's scores, its negatives, and where its gradient flows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from infoprompt_jax.infoprompt.estimators import mutual_information
from infoprompt_jax.infoprompt.representation_loss import (
    in_batch_negatives,
    noisy_negatives,
    representation_information,
    representation_scores,
)


def test_representation_scores() -> None:
    rng = np.random.default_rng(0)
    z, others, context = rng.normal(size=(3, 16)), rng.normal(size=(3, 7, 16)), rng.normal(size=(3, 16))
    positive, negative = representation_scores(z, others, context)
    np.testing.assert_allclose(positive, [z[b] @ context[b] / 4 for b in range(3)], rtol=1e-5)
    np.testing.assert_allclose(negative, [[n @ context[b] / 4 for n in others[b]] for b in range(3)], rtol=1e-4)


def test_noisy_negatives_lie_around_the_examples_own_features() -> None:
    h = jnp.asarray([[10.0, 0.0], [0.0, -10.0]])
    negatives, mask = noisy_negatives(h, 4000, 0.5, jax.random.key(0))
    assert negatives.shape == (2, 4000, 2) and mask is None
    np.testing.assert_allclose(negatives.mean(axis=1), h, atol=0.05)
    np.testing.assert_allclose(negatives.std(axis=1), 0.5, atol=0.05)


def test_in_batch_negatives_are_the_others_that_count() -> None:
    z = jnp.asarray([[1.0], [2.0], [3.0]])
    negatives, mask = in_batch_negatives(z, jnp.asarray([1.0, 1.0, 0.0]))
    assert mask is not None
    kept = [negatives[b, :, 0][mask[b]].tolist() for b in range(3)]
    assert kept == [[2], [1], [1, 2]]


def test_the_gradient_reaches_the_prompt_through_z_alone() -> None:
    rng = np.random.default_rng(1)
    value, z, others = (jnp.float32(rng.normal(size=shape)) for shape in ((5, 8), (4, 8), (4, 6, 8)))
    critic = {"kernel": jnp.float32(rng.normal(size=(8, 8))), "bias": jnp.zeros(8)}

    def bound(positive: jax.Array, negative: jax.Array, mask: jax.Array | None) -> jax.Array:
        return mutual_information("infonce", positive, negative, mask)

    def information(value: jax.Array, z: jax.Array) -> jax.Array:
        return representation_information(bound, critic, value, z, (others, None))

    to_prompt, to_z = jax.jit(jax.grad(information, argnums=(0, 1)))(value, z)
    assert not np.any(to_prompt) and np.abs(to_z).max() > 1e-6
