"""Estimates with 95 % intervals over seeds, and the cells that show them in tables.

`bootstrap` resamples the seeds. `student` is for the mean of few seeds, where a bootstrap's interval is too narrow.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import stats

RESAMPLES = 10_000

Statistic = Callable[[np.ndarray], np.ndarray]  # [..., seeds] -> [...]
Estimate = tuple[float, float, float]  # value, lower and upper end of its interval


def bootstrap(samples: np.ndarray, statistic: Statistic) -> Estimate:
    """The statistic of `samples` [..., seeds] with the percentile interval over resampled seeds."""
    draws = np.random.default_rng(0).integers(samples.shape[-1], size=(RESAMPLES, samples.shape[-1]))
    resampled = statistic(np.moveaxis(samples[..., draws], -2, 0))
    low, high = np.quantile(resampled, (0.025, 0.975))
    return float(statistic(samples)), float(low), float(high)


def student(samples: np.ndarray) -> Estimate:
    """The mean of `samples` [seeds] with Student's t interval."""
    half = stats.t.ppf(0.975, len(samples) - 1) * samples.std(ddof=1) / np.sqrt(len(samples))
    value = float(samples.mean())
    return value, value - float(half), value + float(half)


def mean(samples: np.ndarray) -> np.ndarray:
    return samples.mean(axis=-1)


def ratio_of_deviations(pairs: np.ndarray) -> np.ndarray:
    """The first row's standard deviation over the second's, of `pairs` [..., 2, seeds]."""
    deviations = pairs.std(axis=-1, ddof=1)
    return deviations[..., 0] / np.maximum(deviations[..., 1], 1e-9)


def interval(estimate: Estimate, digits: int, factor: float = 1.0) -> str:
    """`+1.2 [0.3, 2.0]`, in bold if the interval excludes zero."""
    value, low, high = (factor * number for number in estimate)
    text = f"{value:+.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
    return f"**{text}**" if low > 0 or high < 0 else text


def ratio(estimate: Estimate) -> str:
    """`0.80 [0.61, 0.95]`, in bold if the interval excludes one; `-` for NaN."""
    value, low, high = estimate
    if np.isnan(value):
        return "-"
    text = f"{value:.2f} [{low:.2f}, {high:.2f}]"
    return f"**{text}**" if low > 1 or high < 1 else text


def plus_minus(samples: np.ndarray, digits: int = 1, factor: float = 100.0) -> str:
    """`65.5 ± 3.6`: mean and standard deviation of `samples` [seeds]."""
    return f"{factor * samples.mean():.{digits}f} ± {factor * samples.std(ddof=1):.{digits}f}"
