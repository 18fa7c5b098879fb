"""Lower bounds on mutual information, computed from a critic's scores.

A critic gives one score to a pair that is drawn together (`positive_B`) and K scores to pairs that are drawn apart
(`negative_BK`). An estimator turns the scores into a bound in nats (Poole et al. 2019, "On variational bounds of mutual
information"). InfoPrompt maximises two bounds: I(prompt; head), with the scores of `head_loss.py`, and
I(prompt; representation), with those of `representation_loss.py`.

Rows count equally, or by `weight_B`; within a row its unmasked negatives count equally. A row without an unmasked
negative carries no information and is left out of the mean; if no row is left, the bound is 0. Masked scores and rows
that are left out may be inf or NaN: they reach neither the value nor the gradient.

Axes as in `t5/model.py`, and K negatives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from infoprompt_jax import estimator_names
from infoprompt_jax.errors import UserError

MAX_EXPONENT = 80.0  # exp of it is still a float32
MAX_GRADIENT_EXPONENT = 40.0  # the square of exp of it is: gradient norms and second moments stay finite


class Scores(NamedTuple):
    """Scores free of inf and NaN, with weights that sum to 1 over what counts."""

    positive_B: jax.Array
    negative_BK: jax.Array
    mask_BK: jax.Array
    weight_B: jax.Array
    weight_BK: jax.Array
    tau: jax.Array | float

    def mean(self, x_B: jax.Array) -> jax.Array:
        """The weighted mean over the rows."""
        return jnp.sum(self.weight_B * x_B)

    def log_mean_exp(self, negative_BK: jax.Array) -> jax.Array:
        """The logarithm of the weighted mean of exp over all negatives of all rows."""
        return jax.nn.logsumexp(negative_BK, b=self.weight_BK)


@jax.custom_jvp
def bounded_exp(x: jax.Array) -> jax.Array:
    """exp for exponents that may exceed float32: value and slope stop growing, but the slope never vanishes."""
    return jnp.exp(jnp.minimum(x, MAX_EXPONENT))


@bounded_exp.defjvp
def _bounded_exp_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    return bounded_exp(x), jnp.exp(jnp.minimum(x, MAX_GRADIENT_EXPONENT)) * dx


def infonce(s: Scores) -> jax.Array:
    """van den Oord et al. 2018; at most log(K+1), K the row's own count of negatives."""
    scores_BK = jnp.concatenate([s.positive_B[:, None], s.negative_BK], axis=1)
    mask_BK = jnp.concatenate([jnp.ones_like(s.mask_BK[:, :1]), s.mask_BK], axis=1)
    count_B = jnp.sum(mask_BK, axis=1).astype(jnp.float32)
    return s.mean(jnp.log(count_B) + s.positive_B - jax.nn.logsumexp(scores_BK, axis=1, where=mask_BK))


def most(mask_BK: jax.Array, weight_B: jax.Array) -> jax.Array:
    """The most that `infonce` can estimate from these negatives, in nats: the mean of log(K+1) over the rows."""
    count_B = jnp.sum(mask_BK, axis=1)
    weight_B = jnp.where(count_B > 0, weight_B, 0.0)
    return jnp.sum(weight_B * jnp.log1p(count_B.astype(jnp.float32))) / jnp.maximum(jnp.sum(weight_B), 1e-9)


def nwj(s: Scores) -> jax.Array:
    """Nguyen, Wainwright and Jordan 2010; tight for scores of 1 + log density ratio."""
    return s.mean(s.positive_B) - bounded_exp(s.log_mean_exp(s.negative_BK) - 1.0)


def dv(s: Scores) -> jax.Array:
    """Donsker and Varadhan 1983, as in MINE (Belghazi et al. 2018); one logarithm over all rows."""
    return s.mean(s.positive_B) - s.log_mean_exp(s.negative_BK)


def smile(s: Scores) -> jax.Array:
    """Song and Ermon 2020: `dv` with the partition term's scores clipped to [-tau, tau]."""
    return s.mean(s.positive_B) - s.log_mean_exp(jnp.clip(s.negative_BK, -s.tau, s.tau))


def js(s: Scores) -> jax.Array:
    """The gradient of the Jensen-Shannon bound (Hjelm et al. 2019), the value of `nwj`.

    Its best critic is the log density ratio, at which `nwj` lies 1/e below the mutual information.
    """
    softplus_B = jnp.sum(s.weight_BK * jax.nn.softplus(s.negative_BK), axis=1)
    surrogate = -s.mean(jax.nn.softplus(-s.positive_B)) - jnp.sum(softplus_B)
    # Not surrogate + stop_gradient(nwj - surrogate): that rounds the value.
    return jax.lax.stop_gradient(nwj(s)) + (surrogate - jax.lax.stop_gradient(surrogate))


Estimator = Callable[[Scores], jax.Array]
ESTIMATORS: dict[str, Estimator] = {"infonce": infonce, "nwj": nwj, "dv": dv, "smile": smile, "js": js}


def register_estimator(name: str, estimator: Estimator) -> None:
    """Adds an estimator: `infoprompt.estimator=name` trains with it, and `mutual_information(name, ...)` computes it.

    Call it in the config file, or before `ip.train`; a resumed run needs it again. `examples/estimator.py` does it.

    Args:
        name: of the estimator, in configs and in the log.
        estimator: from `Scores`, which are finite, to a bound in nats, a float32 scalar. JAX traces it; critics and
            prompts are trained with its gradient.

    Raises:
        UserError: there is an estimator of that name. It is not replaced, because compiled programs may hold it.
    """
    if name in ESTIMATORS:
        raise UserError(f"There is an estimator {name!r} already: register yours under another name.")
    ESTIMATORS[name] = estimator
    estimator_names.NAMES.append(name)


register = register_estimator  # its first name


def _scores(
    positive_B: ArrayLike,
    negative_BK: ArrayLike,
    mask_BK: ArrayLike | None,
    weight_B: ArrayLike | None,
    tau: jax.Array | float,
) -> tuple[Scores, jax.Array]:
    """Scores without inf and NaN, and whether any row counts. Raises UserError where the shapes are others."""
    positive_B, negative_BK = jnp.asarray(positive_B, jnp.float32), jnp.asarray(negative_BK, jnp.float32)
    mask_BK = jnp.ones(negative_BK.shape, bool) if mask_BK is None else jnp.asarray(mask_BK, bool)
    weight_B = jnp.ones(positive_B.shape) if weight_B is None else jnp.asarray(weight_B, jnp.float32)
    shapes, size = [x.shape for x in (positive_B, negative_BK, mask_BK, weight_B)], negative_BK.shape
    if len(size) != 2 or shapes != [size[:1], size, size, size[:1]]:
        raise UserError(
            "positive_B, negative_BK, mask_BK and weight_B have the shapes "
            f"{', '.join(str(list(shape)) for shape in shapes)}, but [B], [B, K], [B, K] and [B] were expected."
        )
    count_B = jnp.sum(mask_BK, axis=1)
    weight_B = jnp.where(count_B > 0, weight_B, 0.0)
    counts_B = weight_B > 0
    some = jnp.any(counts_B)
    # If no row counts, every row counts, with scores of zero: all intermediate values stay finite.
    weight_B = jnp.where(some, weight_B, 1.0)
    weight_B = weight_B / jnp.sum(weight_B)
    mask_BK = (mask_BK & counts_B[:, None]) | ~some
    share_BK = mask_BK / jnp.maximum(jnp.sum(mask_BK, axis=1, keepdims=True), 1)
    cleaned = Scores(
        positive_B=jnp.where(counts_B, positive_B.astype(jnp.float32), 0.0),
        negative_BK=jnp.where(mask_BK & some, negative_BK.astype(jnp.float32), 0.0),
        mask_BK=mask_BK,
        weight_B=weight_B,
        weight_BK=weight_B[:, None] * share_BK,
        tau=tau,
    )
    return cleaned, some


def mutual_information(
    estimator: str,
    positive_B: ArrayLike,
    negative_BK: ArrayLike,
    mask_BK: ArrayLike | None = None,
    *,
    weight_B: ArrayLike | None = None,
    tau: jax.Array | float = 5.0,
) -> jax.Array:
    """A lower bound on the mutual information, a float32 scalar in nats; its gradient is the one to train with.

    Args:
        estimator: infonce | nwj | dv | smile | js, or one that was added with `register_estimator`.
        positive_B: the critic's scores of pairs drawn together.
        negative_BK: its scores of pairs drawn apart, K for every row.
        mask_BK: true where a negative counts; None = all.
        weight_B: weight of each row in the mean over B, 0 for rows that only fill a batch; None = equal weights.
        tau: the clip of `smile`.

    Raises:
        UserError: the estimator is none of these, or the shapes are others.
    """
    if estimator not in ESTIMATORS:
        raise UserError(f"infoprompt.estimator is {estimator!r}; set it to one of {', '.join(ESTIMATORS)}.")
    scores, some = _scores(positive_B, negative_BK, mask_BK, weight_B, tau)
    return jnp.where(some, ESTIMATORS[estimator](scores), 0.0)


def select(
    estimators: tuple[str, ...],
    index: jax.Array | int,
    positive_B: jax.Array,
    negative_BK: jax.Array,
    mask_BK: jax.Array | None = None,
    weight_B: jax.Array | None = None,
    tau: jax.Array | float = 5.0,
) -> jax.Array:
    """`mutual_information` with the estimator at `index` of `estimators`; `index` may be a traced array.

    The members of a fleet share one program and each may choose its estimator: all are computed and one is kept. The
    others are computed from zeros, so they cannot reach the gradient. Arguments and result as `mutual_information`.
    """
    if len(estimators) == 1:
        return mutual_information(estimators[0], positive_B, negative_BK, mask_BK, weight_B=weight_B, tau=tau)
    bound = jnp.zeros(())
    for i, name in enumerate(estimators):
        kept = index == i
        positive, negative = (jnp.where(kept, x, 0.0) for x in (positive_B, negative_BK))
        value = mutual_information(name, positive, negative, mask_BK, weight_B=weight_B, tau=tau)
        bound = bound + jnp.where(kept, value, 0.0)
    return bound
