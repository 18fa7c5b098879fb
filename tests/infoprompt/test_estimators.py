"""Estimators against float64 NumPy, closed forms, finite differences and scores that overflow."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_expit, logsumexp

from infoprompt_jax.errors import UserError
from infoprompt_jax.infoprompt.estimators import mutual_information, select

ESTIMATORS = ("infonce", "nwj", "dv", "smile", "js")

bound = jax.jit(mutual_information, static_argnums=0)


def reference(
    estimator: str, positive: np.ndarray, negative: np.ndarray, mask: np.ndarray, weight: np.ndarray, tau: float = 5.0
) -> float:
    """Row by row, in float64; for `js` the Jensen-Shannon bound whose gradient is used."""
    rows = [(p, n[m], w) for p, n, m, w in zip(positive, negative, mask, weight, strict=True) if m.any() and w > 0]
    weights = np.array([w for *_, w in rows]) / sum(w for *_, w in rows)

    def mean(f: Callable[[float, np.ndarray], float]) -> float:
        return float(weights @ [f(p, n) for p, n, _ in rows])

    if estimator == "infonce":
        return mean(lambda p, n: np.log(len(n) + 1) + p - logsumexp([p, *n]))
    if estimator == "nwj":
        return mean(lambda p, n: p) - mean(lambda p, n: np.exp(n - 1).mean())
    if estimator == "js":
        return mean(lambda p, n: log_expit(p)) + mean(lambda p, n: log_expit(-n).mean())
    clip = (-np.inf, np.inf) if estimator == "dv" else (-tau, tau)
    return mean(lambda p, n: p) - np.log(mean(lambda p, n: np.exp(np.clip(n, *clip)).mean()))


def random_scores(seed: int = 0) -> tuple[np.ndarray, ...]:
    """Scores of 6 rows: row 2 has no unmasked negative, row 4 only fills up the batch, row 5 counts twice."""
    rng = np.random.default_rng(seed)
    positive, negative = rng.normal(1, 2, size=6), rng.normal(-1, 4, size=(6, 9))
    mask = rng.random((6, 9)) > 0.3
    mask[2] = False
    return positive, negative, mask, np.array([1.0, 1, 1, 1, 0, 2])


@functools.cache
def gaussians(rho: float, dim: int, rows: int, negatives: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Log density ratios of correlated Gaussian pairs drawn together and apart, and their mutual information."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(rows, 1, dim))
    y = rng.normal(size=(rows, negatives + 1, dim))
    y[:, 0] = rho * x[:, 0] + np.sqrt(1 - rho**2) * y[:, 0]
    quadratic = (2 * rho * x * y - rho**2 * (x**2 + y**2)) / (2 * (1 - rho**2))
    ratio = (quadratic - 0.5 * np.log(1 - rho**2)).sum(axis=-1)
    return ratio[:, 0], ratio[:, 1:], -0.5 * dim * np.log(1 - rho**2)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_values_match_float64(estimator: str) -> None:
    positive, negative, mask, weight = random_scores()
    got = bound(estimator, positive, negative, mask, weight_B=jnp.asarray(weight))
    value = "nwj" if estimator == "js" else estimator
    np.testing.assert_allclose(got, reference(value, positive, negative, mask, weight), rtol=2e-5)
    plain = bound(estimator, positive, negative)
    expected = reference(value, positive, negative, np.ones_like(mask), np.ones(6))
    np.testing.assert_allclose(plain, expected, rtol=2e-5)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_gradients_match_finite_differences(estimator: str) -> None:
    positive, negative, mask, weight = random_scores()
    positive, negative = positive.astype(np.float32), negative.astype(np.float32)
    negative[0, :2], mask[0, :2] = (4.0, 6.0), True  # on both sides of smile's clip

    def value_of(positive: jax.Array, negative: jax.Array) -> jax.Array:
        return bound(estimator, positive, negative, mask, weight_B=jnp.asarray(weight))

    scores = [positive.astype(np.float64), negative.astype(np.float64)]
    for which, got in enumerate(jax.grad(value_of, argnums=(0, 1))(positive, negative)):
        expected = np.zeros(scores[which].shape)
        for index in np.ndindex(expected.shape):
            shifted = []
            for sign in (1, -1):
                moved = [s.copy() for s in scores]
                moved[which][index] += sign * 1e-5
                shifted.append(reference(estimator, *moved, mask, weight))
            expected[index] = (shifted[0] - shifted[1]) / 2e-5
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


def test_worked_by_hand() -> None:
    """One row, s+ = 1, s- = 0 and log 3: exp s- is 1 and 3, so its mean is 2."""
    positive, negative = jnp.array([1.0]), jnp.log(jnp.array([[1.0, 3.0]]))
    table = {
        "infonce": np.log(3) + 1 - np.log(np.e + 4),
        "nwj": 1 - 2 / np.e,
        "dv": 1 - np.log(2),
        "smile": 1 - np.log(1.5),  # tau = log 2
    }
    for estimator, value in table.items():
        got = bound(estimator, positive, negative, tau=float(np.log(2)))
        np.testing.assert_allclose(got, value, rtol=1e-6)


@pytest.mark.parametrize(
    ("estimator", "shift", "bias"),
    [("infonce", 0.0, 0.0), ("nwj", 1.0, 0.0), ("dv", 0.0, 0.0), ("smile", 0.0, 0.0), ("js", 0.0, -np.exp(-1))],
)
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8])
def test_the_best_critic_recovers_the_mutual_information(estimator: str, shift: float, bias: float, rho: float) -> None:
    """Correlated Gaussians: -d/2 log(1 - rho^2), 0 to 2.04 nats; the best critic is the log density ratio + `shift`."""
    positive, negative, truth = gaussians(rho, dim=4, rows=3000, negatives=400)
    got = bound(estimator, positive + shift, negative + shift, tau=20.0)
    assert abs(got - truth - bias) < 0.07
    assert got < truth + 0.07  # the bound's direction, within sampling noise
    worse = bound(estimator, 0.5 * positive + shift, 0.5 * negative + shift, tau=20.0)
    assert worse < got + 1e-3 and (rho == 0 or worse < truth - 0.1)


def test_infonce_saturates_at_log_of_its_own_count() -> None:
    positive, negative, truth = gaussians(0.99, dim=8, rows=500, negatives=15)
    mask = np.arange(15)[None, :] < np.where(np.arange(500) % 2 == 0, 15, 3)[:, None]
    limit = 0.5 * (np.log(16) + np.log(4))
    assert truth > 2 * limit
    got = bound("infonce", positive, negative, mask)
    assert limit - 0.01 < got <= limit + 1e-5


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("scale", [1e2, 1e30])
def test_huge_scores_stay_finite(estimator: str, scale: float) -> None:
    rng = np.random.default_rng(0)
    positive, negative = jnp.float32(scale * rng.normal(size=8)), jnp.float32(scale * rng.normal(size=(8, 5)))
    value, gradients = jax.value_and_grad(
        lambda positive, negative: bound(estimator, positive, negative), argnums=(0, 1)
    )(positive, negative)
    assert np.isfinite(value)
    squares = [np.square(np.asarray(g)) for g in gradients]  # in float32, as a gradient norm takes them
    assert all(np.isfinite(s).all() for s in squares)
    if estimator in ("nwj", "dv", "js"):
        assert squares[1].max() > 1e-4  # an exploded negative is still pushed down


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("poison", [np.inf, -np.inf, np.nan])
def test_what_does_not_count_reaches_nothing(estimator: str, poison: float) -> None:
    positive, negative, mask, weight = random_scores()
    poisoned = np.where(mask & (weight > 0)[:, None], negative, poison)
    poisoned_positive = np.where((weight > 0) & mask.any(axis=1), positive, poison)

    def value_of(positive: jax.Array, negative: jax.Array) -> jax.Array:
        return bound(estimator, positive, negative, mask, weight_B=jnp.asarray(weight))

    expected = jax.value_and_grad(value_of, argnums=(0, 1))(positive, negative)
    got = jax.value_and_grad(value_of, argnums=(0, 1))(poisoned_positive, poisoned)
    jax.tree.map(np.testing.assert_array_equal, got, expected)
    assert np.isfinite(got[0]) and not got[1][1][~mask].any()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_without_any_row_the_bound_is_zero(estimator: str) -> None:
    def value_of(positive: jax.Array) -> jax.Array:
        return bound(estimator, positive, jnp.full((3, 2), jnp.nan), jnp.zeros((3, 2), bool))

    value, gradient = jax.value_and_grad(value_of)(jnp.ones(3))
    assert value == 0 and not gradient.any()


def test_js_has_the_value_of_nwj() -> None:
    positive, negative, mask, _ = random_scores()
    assert mutual_information("js", positive, negative, mask) == mutual_information("nwj", positive, negative, mask)


def test_scores_may_be_bfloat16() -> None:
    positive, negative, mask, _ = random_scores()
    half = jnp.bfloat16(positive), jnp.bfloat16(negative)
    got = bound("infonce", *half, mask)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, bound("infonce", *(x.astype(jnp.float32) for x in half), mask), rtol=1e-6)


def test_select_is_each_members_own_estimator() -> None:
    """One member an estimator, under vmap; the scores of `infonce`'s member overflow any exponential."""
    positive, negative, mask, weight = (np.stack([x] * len(ESTIMATORS)) for x in random_scores())
    positive[0], negative[0] = positive[0] * 1e4, negative[0] * 1e4

    def value_of(index: jax.Array, positive: jax.Array, negative: jax.Array, mask: jax.Array, weight: jax.Array):  # noqa: ANN202
        return select(ESTIMATORS, index, positive, negative, mask, weight, 2.0)

    members = jax.jit(jax.vmap(jax.value_and_grad(value_of, argnums=(1, 2))))
    got = members(jnp.arange(len(ESTIMATORS)), positive, negative, mask, weight)
    for m, estimator in enumerate(ESTIMATORS):
        alone = jax.value_and_grad(
            lambda positive, negative, name=estimator, m=m: mutual_information(
                name, positive, negative, mask[m], weight_B=jnp.asarray(weight[m]), tau=2.0
            ),
            argnums=(0, 1),
        )(positive[m], negative[m])
        jax.tree.map(lambda a, b, m=m: np.testing.assert_allclose(a[m], b, rtol=1e-5, atol=1e-7), got, alone)


def test_select_of_one_is_the_call_itself() -> None:
    positive, negative, mask, _ = random_scores()
    got = select(("dv",), jnp.int32(0), positive, negative, mask)
    assert got == mutual_information("dv", positive, negative, mask)


def test_an_unknown_estimator_is_a_sentence() -> None:
    with pytest.raises(UserError, match=r"infoprompt\.estimator is 'mine'.*infonce, nwj"):
        mutual_information("mine", jnp.zeros(1), jnp.zeros((1, 1)))


def test_weights_may_be_a_list() -> None:
    positive, negative, mask, _ = random_scores()
    weight = [float(n % 2) for n in range(len(positive))]
    expected = mutual_information("dv", positive, negative, mask, weight_B=jnp.array(weight))
    assert mutual_information("dv", positive, negative, mask, weight_B=weight) == expected  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("place", "shape"), [(0, (3, 1)), (0, (1,)), (1, (5,)), (2, (3, 1)), (3, (4,))])
def test_scores_of_other_shapes_are_a_sentence(place: int, shape: tuple[int, ...]) -> None:
    """A mask [B, 1] would be spread over K, and each negative then count K times."""
    arrays = [jnp.ones(shape if n == place else own) for n, own in enumerate([(3,), (3, 5), (3, 5), (3,)])]
    with pytest.raises(UserError, match=r"have the shapes .*, but \[B\], \[B, K\], \[B, K\] and \[B\] were expected"):
        mutual_information("dv", *arrays[:3], weight_B=arrays[3])
