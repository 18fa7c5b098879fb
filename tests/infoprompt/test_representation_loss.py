"""The representation loss: its critic's scores, its negatives, and where its gradient flows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infoprompt_jax.infoprompt.critics import scores
from infoprompt_jax.infoprompt.estimators import mutual_information
from infoprompt_jax.infoprompt.representation_loss import (
    context,
    in_batch_negatives,
    noisy_negatives,
    representation_pairs,
    shuffled_pairs,
    unprompted_negatives,
)


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


def test_noise_is_relative_to_the_spread_of_the_rows_task() -> None:
    negatives, _ = noisy_negatives(jnp.zeros((2, 2)), 4000, 0.5, jax.random.key(0), jnp.asarray([2.0, 20.0]))
    np.testing.assert_allclose(negatives[0].std(axis=0), 1.0, atol=0.05)
    np.testing.assert_allclose(negatives[1].std(axis=0), 10.0, atol=0.5)


def test_negatives_of_other_labels_and_without_a_prompt() -> None:
    z, weight = jnp.asarray([[1.0], [2.0], [3.0], [4.0]]), jnp.asarray([1.0, 1.0, 1.0, 0.0])
    targets = jnp.asarray([[5, 1], [5, 6], [5, 1], [7, 1]])
    for found, expected in (
        (in_batch_negatives(z, weight, targets), [[2], [1, 3], [2], [1, 2, 3]]),
        (unprompted_negatives(10 * z, weight), 4 * [[10, 20, 30]]),
    ):
        negatives, mask = found
        assert mask is not None
        assert [negatives[b, :, 0][mask[b]].tolist() for b in range(4)] == expected


def made(seed: int = 1) -> tuple[dict[str, jax.Array], jax.Array, jax.Array, jax.Array]:
    """A critic, a static prompt, an instance prompt and Z."""
    rng = np.random.default_rng(seed)
    value, instance, z = (jnp.float32(rng.normal(size=shape)) for shape in ((5, 8), (4, 5, 8), (4, 8)))
    return {"kernel": jnp.float32(rng.normal(size=(8, 8))), "bias": jnp.float32(rng.normal(size=8))}, value, instance, z


def test_shuffled_prompts_have_the_prompts_coordinates() -> None:
    """With the identity as the critic, and a product, the maps are the mean prompts themselves."""
    _, value, _, z = made()
    critic = {"kernel": jnp.eye(8), "bias": jnp.zeros(8)}
    pairs = shuffled_pairs(critic, value, z, jnp.ones(4), 6, jax.random.key(0), "product")
    np.testing.assert_array_equal(pairs.anchor_BD, z)
    np.testing.assert_allclose(pairs.positive_BD, np.tile(value.mean(axis=0), (4, 1)), rtol=1e-5)
    assert pairs.negative_BKD.shape == (4, 6, 8)
    orders = {tuple(row) for row in np.asarray(pairs.negative_BKD[0]).tolist()}
    assert len(orders) == 6
    for row in orders:
        np.testing.assert_allclose(sorted(row), np.sort(value.mean(axis=0)), rtol=1e-5)


def test_shuffled_instance_prompts_are_those_of_the_other_rows() -> None:
    critic, _, instance, z = made()
    pairs = shuffled_pairs(critic, instance, z, jnp.asarray([1.0, 1.0, 0.0, 1.0]), 6, jax.random.key(0), "cosine")
    assert pairs.mask_BK is not None
    assert pairs.mask_BK[0].tolist() == [False, True, False, True]
    np.testing.assert_array_equal(pairs.negative_BKD[0], pairs.positive_BD)


def test_a_prompts_scale_does_not_matter_to_a_normalised_critic() -> None:
    critic, value, _, _ = made()
    mean = value.mean(axis=0)
    np.testing.assert_allclose(context(critic, 1e4 * mean, "cosine"), context(critic, mean, "cosine"), rtol=1e-4)
    assert np.abs(context(critic, 1e4 * mean) - context(critic, mean)).max() > 100


def test_the_gradient_reaches_the_prompt_through_z_alone() -> None:
    critic, value, instance, z = made()
    others = in_batch_negatives(z, jnp.ones(4))

    def information(prompt: jax.Array, z: jax.Array, shuffled: bool) -> jax.Array:
        pairs = representation_pairs(critic, prompt, z, others)
        if shuffled:
            pairs = shuffled_pairs(critic, prompt, z, jnp.ones(4), 3, jax.random.key(0), "cosine")
        return mutual_information("infonce", *scores(pairs, "product", 1.0), pairs.mask_BK)

    for prompt in (value, instance):
        for shuffled in (False, True):
            to_prompt, to_z = jax.grad(information, argnums=(0, 1))(prompt, z, shuffled)
            assert not np.any(to_prompt) and np.abs(to_z).max() > 1e-6


@pytest.mark.parametrize("by_label", [False, True])
def test_rows_of_the_batch_give_a_static_prompt_at_most_zero_nats(by_label: bool) -> None:
    """Jensen's inequality: the critic's map is one vector, and each Z is a partner as often as it is a negative.

    Of labels that holds where the answers are equally frequent, as here.
    """
    for seed in range(20):
        critic, value, _, z = made(seed)
        targets = jnp.asarray([[1], [1], [2], [2]]) if by_label else None
        pairs = representation_pairs(critic, value, z, in_batch_negatives(z, jnp.ones(4), targets), "cosine")
        assert mutual_information("infonce", *scores(pairs, "cosine", 0.05), pairs.mask_BK) <= 1e-6
