"""Intervals of the bootstrap hold the truth as often as they say, and the AUROC is what counting pairs gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from cloud_hf.metrics.statistics import auroc, bootstrap_interval, mean_interval, ratio_interval

NUMBERS = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=12)


@settings(deadline=None)
@given(NUMBERS, NUMBERS)
def test_the_auroc_counts_pairs(one: list[float], two: list[float]) -> None:
    counted = np.mean([[(a > b) + (a == b) / 2 for b in two] for a in one])
    assert auroc(one, two) == pytest.approx(counted)
    assert auroc(two, one) == pytest.approx(1 - counted)


def test_the_auroc_along_an_axis() -> None:
    chance = np.random.default_rng(0)
    one, two = chance.normal(1, 1, (4, 30)), chance.normal(0, 1, (4, 20))
    np.testing.assert_allclose(auroc(one, two), [auroc(a, b) for a, b in zip(one, two, strict=True)])
    low, high = bootstrap_interval(auroc, [one[0], two[0]], resamples=500)
    assert 0 < low < auroc(one[0], two[0]) < high <= 1


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(0).normal(3, 2, 2000)
    half = norm.ppf(0.975) * values.std() / np.sqrt(len(values))
    np.testing.assert_allclose(mean_interval(values), (values.mean() - half, values.mean() + half), atol=0.004)


def test_nineteen_of_twenty_intervals_hold_the_truth() -> None:
    chance = np.random.default_rng(1)
    ends = np.array([mean_interval(chance.normal(0, 1, 80), resamples=400, seed=seed) for seed in range(300)])
    held = ((ends[:, 0] <= 0) & (ends[:, 1] >= 0)).mean()
    assert held == pytest.approx(0.95, abs=0.04)


def test_rows_of_a_ratio_are_drawn_together() -> None:
    below = np.random.default_rng(0).uniform(1, 100, 50)
    np.testing.assert_allclose(ratio_interval(2 * below, below), (2, 2))


def test_the_seed_decides_and_one_row_has_no_spread() -> None:
    values = np.arange(20.0)
    assert mean_interval(values, seed=1) == mean_interval(values, seed=1) != mean_interval(values, seed=2)
    assert mean_interval([4.0]) == (4.0, 4.0)
    assert ratio_interval([4.0], [2.0]) == (2.0, 2.0)
