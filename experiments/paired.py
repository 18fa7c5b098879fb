"""Members of a fleet compared in pairs, with intervals.

A variant's member and the plain one of the same seed start from the same prompt and see the same batches, so their
difference is taken seed by seed. Intervals are 95 % percentile bootstraps over the seeds; the tasks of a mean over
tasks are taken as given, not as drawn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

RESAMPLES = 10_000

Result = Mapping[str, Any]  # what experiments.claims keeps of a run
Statistic = Callable[[np.ndarray], np.ndarray]  # [..., seeds] -> [...]
Estimate = tuple[float, float, float]  # value, lower and upper end of its interval


def values(result: Result, variant: str, field: str) -> np.ndarray:
    """[seeds] of one variant, in the order of the seeds.

    Two fields are of the validation accuracies: `mean curve`, over a member's evaluations, and `last`. A member that
    never reached the quality counts with the step after the last evaluation.
    """
    return np.array([_value(member, field) for member in of_variant(result, variant)])


def of_variant(result: Result, variant: str) -> list[Mapping[str, Any]]:
    """The variant's members, in the order of the seeds."""
    found = {name: m for name, m in result["members"].items() if re.fullmatch(rf"{variant}-seed\d+", name)}
    return [found[name] for name in sorted(found, key=lambda name: int(name.rsplit("seed")[-1]))]


def _value(member: Mapping[str, Any], field: str) -> float:
    curve = member["curve"]
    if field == "mean curve":
        return float(np.mean([value for _, value in curve]))
    if field == "last":
        return curve[-1][1]
    if field == "steps_to_quality" and member[field] is None:
        return curve[-1][0] + curve[1][0] - curve[0][0]
    return member[field]


def having(results: Sequence[Result], variant: str) -> list[Result]:
    """The runs that have members of the variant."""
    return [result for result in results if f"{variant}-seed0" in result["members"]]


def bootstrap(samples: np.ndarray, statistic: Statistic) -> Estimate:
    """The statistic of `samples` [..., seeds] and its 95 % interval over resampled seeds."""
    draws = np.random.default_rng(0).integers(samples.shape[-1], size=(RESAMPLES, samples.shape[-1]))
    resampled = statistic(np.moveaxis(samples[..., draws], -2, 0))
    low, high = np.quantile(resampled, (0.025, 0.975))
    return float(statistic(samples)), float(low), float(high)


def difference(result: Result, variant: str, field: str, base: Result | None = None, plain: str = "plain") -> Estimate:
    """Mean of the paired differences to plain prompt tuning, which `base` may have in the place of `result`.

    Raises ValueError unless the two have the same seeds, rows and backbone.
    """
    base = base or result
    check_pairs(base, result)
    return bootstrap(values(result, variant, field) - values(base, plain, field), mean)


def spread(result: Result, variant: str, field: str) -> Estimate:
    """Ratio of the standard deviations over seeds, the variant's over plain prompt tuning's; NaN if the latter is 0."""
    pair = np.stack([values(result, variant, field), values(result, "plain", field)])
    if pair[1].std() == 0:
        return np.nan, np.nan, np.nan
    return bootstrap(pair, ratio_of_deviations)


def pooled(results: Iterable[Result], variant: str, field: str) -> Estimate:
    """The mean over runs of the paired differences, seeds resampled together."""
    pairs = [values(result, variant, field) - values(result, "plain", field) for result in results]
    return bootstrap(np.mean(pairs, axis=0), mean)


def pooled_spread(results: Iterable[Result], variant: str, field: str) -> Estimate:
    """The geometric mean over runs of the spreads' ratios, seeds resampled together."""
    pairs = [np.stack([values(result, variant, field), values(result, "plain", field)]) for result in results]
    return bootstrap(np.stack(pairs), lambda s: np.exp(np.log(ratio_of_deviations(s)).mean(axis=-1)))


def mean(samples: np.ndarray) -> np.ndarray:
    return samples.mean(axis=-1)


def ratio_of_deviations(pairs: np.ndarray) -> np.ndarray:
    deviations = pairs.std(axis=-1, ddof=1)
    return deviations[..., 0] / np.maximum(deviations[..., 1], 1e-9)


def joined(base: Result, terms: Result) -> Result:
    """A run of `pair` with the head's and the representation's own members, which ran apart from it.

    Raises ValueError unless they have the same seeds, rows, backbone and evaluated steps.
    """
    check_pairs(base, terms)
    if _steps(base) != _steps(terms):
        raise ValueError(f"{terms['run']} does not belong to {base['run']}: they were evaluated at other steps.")
    reached = {
        name: next((step for step, value in member["curve"] if value >= base["quality"]), None)
        for name, member in terms["members"].items()
    }
    members = {name: {**member, "steps_to_quality": reached[name]} for name, member in terms["members"].items()}
    return {**base, "members": {**base["members"], **members}}


def check_pairs(base: Result, other: Result) -> None:
    """Raises ValueError unless members of the two can be compared seed by seed."""
    one, two = base["fingerprints"], other["fingerprints"]  # older results have fewer
    same = all(one[name] == two[name] for name in one.keys() & two.keys())
    if not same or _pairing(base) != _pairing(other):
        raise ValueError(f"{other['run']} does not belong to {base['run']}: seeds, rows or backbone differ.")


def _pairing(result: Result) -> tuple[Any, ...]:
    seeds = sorted({name.rsplit("-", 1)[-1] for name in result["members"]})
    return seeds, result["training_examples"]


def _steps(result: Result) -> set[tuple[int, ...]]:
    return {tuple(step for step, _ in member["curve"]) for member in result["members"].values()}
