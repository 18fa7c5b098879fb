"""Intervals, p-values and Holm's correction: numbers worked by hand, and coverage on simulated seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from experiments.cells import confirmed, confirmed_together, interval, ratio
from experiments.estimates import Estimate, bootstrap, holm, ratio_of_deviations, student


def test_a_t_interval_worked_by_hand() -> None:
    """Of 1, 2, 3 and 6: mean 3, deviation sqrt(14 / 3); with 3 degrees of freedom, t's 97.5 % point is 3.1824."""
    samples = np.array([1.0, 2.0, 3.0, 6.0])
    half = 3.1824 * (14 / 3) ** 0.5 / 2
    assert student(samples)[:3] == pytest.approx((3, 3 - half, 3 + half), abs=1e-3)
    assert student(samples)[:3] == pytest.approx((3, -0.437, 6.437), abs=1e-3)
    assert student(samples).p == pytest.approx(stats.ttest_1samp(samples, 0).pvalue)


def test_equal_samples_have_no_doubt() -> None:
    """Rounding is no spread: 0.05 is not the difference of every two floats that are 0.05 apart."""
    assert student(np.arange(20) / 100 + 0.05 - np.arange(20) / 100).p == 0
    assert student(np.zeros(5)).p == 1
    assert all(math.isnan(number) for number in student(np.ones(1)))


def bootstrapped(samples: np.ndarray, draws: np.ndarray) -> tuple[float, float]:
    """The percentile bootstrap's interval of the mean."""
    low, high = np.quantile(samples[draws].mean(axis=-1), (0.025, 0.975))
    return low, high


def test_intervals_of_twenty_seeds_cover_what_they_say() -> None:
    """Of normal gains around zero: Student's t covers 95 %, the percentile bootstrap less."""
    rng = np.random.default_rng(0)
    draws = rng.integers(20, size=(500, 20))
    simulated = rng.normal(size=(4000, 20))
    t = np.mean([low < 0 < high for _, low, high, _ in map(student, simulated)])
    percentile = np.mean([low < 0 < high for low, high in (bootstrapped(one, draws) for one in simulated)])
    assert t == pytest.approx(0.95, abs=0.01) and percentile < 0.935


def test_resampled_tasks_and_seeds() -> None:
    """The variance of a resampled mean: of the task means / tasks, and of the seed means / seeds, where both add up."""
    rng = np.random.default_rng(1)
    tasks, seeds = 3 * rng.normal(size=(40, 1)), rng.normal(size=(1, 50))
    value, low, high, p = bootstrap(tasks + seeds)
    half = 1.96 * np.sqrt(tasks.var() / 40 + seeds.var() / 50)
    assert value == pytest.approx((tasks + seeds).mean()) and math.isnan(p)
    assert (low, high) == pytest.approx((value - half, value + half), abs=0.1 * half)
    assert bootstrap(tasks + seeds) == (value, low, high, pytest.approx(math.nan, nan_ok=True))  # drawn alike
    assert math.isnan(bootstrap(np.ones((1, 5))).low)
    shared = bootstrap(np.repeat(seeds, 40, axis=0))  # tasks that agree seed by seed are no more than one
    assert shared.high - shared.low == pytest.approx(2 * 1.96 * np.sqrt(seeds.var() / 50), rel=0.05)


def test_intervals_of_ratios_cover_what_they_say() -> None:
    """Of two independent runs of equal spread; the p-value is below 0.05 where the interval leaves out one."""
    rng = np.random.default_rng(0)
    made = [ratio_of_deviations(pair) for pair in rng.normal(size=(2000, 1, 2, 20))]
    assert np.mean([low < 1 < high for _, low, high, _ in made]) == pytest.approx(0.95, abs=0.012)
    assert all((one.p < 0.05) == (not one.low < 1 < one.high) for one in made)


def test_a_ratio_by_the_jackknife_worked_by_hand() -> None:
    """Of two numbers, the deviation is their distance over sqrt(2), and the ratio is that of the distances."""
    pairs = np.array([[[0.0, 2.0, 4.0], [0.0, 1.0, 3.0]]])
    logs = np.log([2 / 2, 4 / 3, 2 / 1])  # without the first, the second, the third
    error = np.sqrt(2 / 3 * np.sum((logs - logs.mean()) ** 2))
    value, low, high, _ = ratio_of_deviations(pairs)
    assert value == pytest.approx(2 / np.sqrt(7 / 3))
    assert (low, high) == pytest.approx((value / np.exp(4.3027 * error), value * np.exp(4.3027 * error)), rel=1e-4)


def test_holm_worked_by_hand() -> None:
    """0.01 x 4, 0.02 x 3, 0.03 x 2, 0.04 x 1: the last two are no smaller than the second. NaN does not count."""
    assert holm([0.04, 0.01, math.nan, 0.03, 0.02]) == pytest.approx([0.06, 0.04, math.nan, 0.06, 0.06], nan_ok=True)
    assert holm([0.4, 0.6]) == [0.8, 0.8] and holm([0.9, 0.8]) == [1, 1] and holm([]) == []


def test_holm_is_the_closure_of_bonferroni() -> None:
    """By its definition: the largest of Bonferroni's p-values, of all sets of tests that the test belongs to."""
    p_values = np.random.default_rng(0).uniform(size=7) ** 3
    sets = [[i for i in range(7) if bits >> i & 1] for bits in range(1, 2**7)]
    closed = [max(len(s) * p_values[s].min() for s in sets if test in s) for test in range(7)]
    np.testing.assert_allclose(holm(list(p_values)), np.minimum(1, closed))


def test_bold_is_what_the_whole_tables_correction_shows() -> None:
    """0.03 alone is bold; beside 0.04 it is not, unless that is text, of another set of seeds. Text and NaN stay."""
    one, two = interval(Estimate(0.02, 0.01, 0.03, 0.03), 1, 100), ratio(Estimate(0.5, 0.4, 0.6, 0.04))
    none = ratio(Estimate(math.nan, math.nan, math.nan))
    assert confirmed(("a", "b"), [(one, none)]).splitlines()[2] == "| **+2.0 [1.0, 3.0]** | - |"
    assert confirmed(("a", "b"), [(one, str(two))]).splitlines()[2] == "| **+2.0 [1.0, 3.0]** | 0.50 [0.40, 0.60] |"
    assert confirmed(("a", "b"), [(one, two)]).splitlines()[2] == "| +2.0 [1.0, 3.0] | 0.50 [0.40, 0.60] |"


def test_tables_of_one_confirmation_are_corrected_together() -> None:
    """What two tables show is what one table with all of their cells shows."""
    one, two = (interval(Estimate(2, 1, 3, p), 1) for p in (0.01, 0.03))
    tables = [(("a",), [(one,), (two,)]), (("b", "c"), [("text", two)])]
    assert confirmed_together(*tables)[0].splitlines()[2:] == ["| **+2.0 [1.0, 3.0]** |", "| +2.0 [1.0, 3.0] |"]
    assert confirmed_together(*tables)[1].splitlines()[2:] == ["| text | +2.0 [1.0, 3.0] |"]
    assert "**" in confirmed(*tables[1])  # alone


def test_a_sample_that_is_not_a_number_shows_nothing() -> None:
    assert np.isnan(student(np.array([1.0, np.nan, 2.0])).p)
