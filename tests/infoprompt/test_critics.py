"""Critics: their scores against NumPy, and that two of their forms do not depend on the scale of what they compare."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infoprompt_jax.infoprompt.critics import FORMS, Pairs, learned_temperature, scores


def pairs(seed: int = 0) -> Pairs:
    rng = np.random.default_rng(seed)
    vectors = (jnp.float32(rng.normal(size=shape)) for shape in ((3, 16), (3, 16), (3, 7, 16)))
    return Pairs(*vectors)


def reference(a: np.ndarray, b: np.ndarray, form: str, temperature: float) -> float:
    a, b = np.float64(a), np.float64(b)
    if form == "product":
        return a @ b / 4.0  # sqrt(D)
    if form == "layer_norm":
        a, b = a - a.mean(), b - b.mean()
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b) / temperature


@pytest.mark.parametrize("form", FORMS)
def test_scores(form: str) -> None:
    made = pairs()
    positive, negative = scores(made, form, 0.2)
    assert positive.dtype == negative.dtype == jnp.float32
    for b, anchor in enumerate(made.anchor_BD):
        expected = reference(made.positive_BD[b], anchor, form, 0.2)
        np.testing.assert_allclose(positive[b], expected, rtol=1e-5, atol=1e-5)
        expected = [reference(other, anchor, form, 0.2) for other in made.negative_BKD[b]]
        np.testing.assert_allclose(negative[b], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", ["cosine", "layer_norm"])
@pytest.mark.parametrize("scale", [1e-20, 1e-3, 1e3, 1e25])
def test_the_scale_of_the_vectors_does_not_matter(form: str, scale: float) -> None:
    """Squares of the largest overflow float32, those of the smallest vanish."""
    made = pairs()
    scaled = Pairs(*(x if x is None else scale * x for x in made))
    for one, two in zip(scores(made, form, 0.2), scores(scaled, form, 0.2), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["cosine", "layer_norm"])
def test_a_vector_of_zeros_scores_zero_and_has_a_finite_gradient(form: str) -> None:
    made = pairs()

    def total(anchor_BD: jax.Array) -> jax.Array:
        return sum(part.sum() for part in scores(made._replace(anchor_BD=anchor_BD), form, 0.2))  # type: ignore[return-value]

    value, gradient = jax.jit(jax.value_and_grad(total))(jnp.zeros((3, 16)))
    assert value == 0 and np.isfinite(gradient).all()


@pytest.mark.parametrize("form", FORMS[1:])
def test_zeros_that_are_constants_of_the_program_give_no_nan(form: str) -> None:
    """XLA folds them in other steps than it computes with: the square of a small divisor was 0."""
    made = pairs()
    zeros = made.anchor_BD.at[2].set(0.0)

    def total(positive_BD: jax.Array) -> jax.Array:
        return scores(made._replace(anchor_BD=zeros, positive_BD=positive_BD), form, 0.1)[0].sum()

    value, gradient = jax.jit(jax.value_and_grad(total))(made.positive_BD)
    assert np.isfinite(value) and np.isfinite(gradient).all() and not gradient[2].any()


def test_a_learned_temperature_is_a_factor_with_a_floor() -> None:
    assert learned_temperature(0.2, {"kernel": jnp.eye(2)}) == 0.2
    assert float(learned_temperature(0.2, {"log_temperature": jnp.log(3.0)})) == pytest.approx(0.6)
    assert float(learned_temperature(0.2, {"log_temperature": jnp.float32(-50)})) == pytest.approx(0.01)
