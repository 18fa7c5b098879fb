"""Estimates over seeds: a value, its 95 % interval, and the p-value of "no difference".

Means have Student's t intervals. Ratios of standard deviations have t intervals from the jackknife of the log ratio.
Percentile bootstraps are too narrow with 20 seeds or fewer, so `bootstrap`, of tasks and seeds, stands beside a t
interval and has no p-value. `holm` corrects p-values for their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.05  # below it a Holm-adjusted p-value shows an effect
RESAMPLES = 10_000


class Estimate(NamedTuple):
    """A value, the ends of its interval, and the two-sided p-value of "no difference"; all NaN if there is none."""

    value: float
    low: float
    high: float
    p: float = np.nan

    def scaled(self, factor: float) -> Estimate:
        """In another unit: percentage points of shares with a factor of 100."""
        return Estimate(factor * self.value, factor * self.low, factor * self.high, self.p)


def student(samples: np.ndarray) -> Estimate:
    """The mean of `samples` [seeds] with Student's t interval; "no difference" is zero. NaNs for a single sample."""
    if len(samples) < 2:
        return Estimate(np.nan, np.nan, np.nan)
    error = samples.std(ddof=1) / np.sqrt(len(samples))
    return _t(float(samples.mean()), float(error), len(samples))


def _t(value: float, error: float, count: int) -> Estimate:
    """The t interval of a value with this standard error from `count` samples."""
    half = float(stats.t.ppf(0.975, count - 1)) * error
    rounding = 1e-12 * max(1, abs(value))  # equal samples, whose error is not exactly zero
    p = 2 * stats.t.sf(abs(value) / error, count - 1) if error > rounding else abs(value) <= rounding
    return Estimate(value, value - half, value + half, float(p) if np.isfinite(error) else np.nan)


def bootstrap(samples: np.ndarray) -> Estimate:
    """The mean of `samples` [tasks, seeds] with the 95 % percentile interval over resampled tasks and seeds.

    Tasks share their seeds, so a resample has its seeds for all of its tasks. The generator is fixed. NaNs for a single
    task or seed.
    """
    tasks, seeds = samples.shape
    if min(tasks, seeds) < 2:
        return Estimate(np.nan, np.nan, np.nan)
    rng = np.random.default_rng(0)
    drawn = rng.integers(tasks, size=(RESAMPLES, tasks, 1)), rng.integers(seeds, size=(RESAMPLES, 1, seeds))
    low, high = np.quantile(samples[drawn].mean(axis=(1, 2)), (0.025, 0.975))
    return Estimate(float(samples.mean()), float(low), float(high))


def ratio_of_deviations(pairs: np.ndarray) -> Estimate:
    """How much larger the standard deviations of the first of each pair are; "no difference" is a ratio of one.

    The value is the geometric mean over runs of the ratios. Its interval is a t interval of the log, with the standard
    error of the jackknife, which leaves out one seed at a time in all runs together (Miller, "Jackknifing variances",
    Annals of Mathematical Statistics 39, 1968). It needs no resampling. With 20 normal samples it covers 95 %, the
    percentile bootstrap 93 %; with exponential ones 91 % and 89 %.

    Args:
      pairs: [runs, 2, seeds].

    Returns:
      NaNs if a deviation is zero, with all seeds or without one of them.
    """
    count = pairs.shape[-1]
    kept = [np.delete(pairs, seed, axis=-1).std(axis=-1, ddof=1) for seed in range(count)]
    deviations = np.stack([pairs.std(axis=-1, ddof=1), *kept])  # [1 + seeds, runs, 2]
    if (deviations <= 1e-9).any():
        return Estimate(np.nan, np.nan, np.nan)
    value, *others = np.log(deviations[..., 0] / deviations[..., 1]).mean(axis=-1)
    error = np.sqrt((count - 1) * np.var(others))
    log = _t(float(value), float(error), count)
    value, low, high = np.exp(log[:3]).tolist()
    return Estimate(value, low, high, log.p)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values, adjusted so that 5 % of families with no effect have one below 0.05 (Holm, 1979).

    The smallest of m is multiplied by m, the next by m - 1, and so on; none is below a smaller one's. A NaN stays, and
    does not count.
    """
    adjusted = np.array(p_values, dtype=float)
    order = [index for index in np.argsort(adjusted) if not np.isnan(adjusted[index])]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(factors * adjusted[order])) if order else []
    return adjusted.tolist()
