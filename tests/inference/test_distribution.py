"""How likely a predicted quantity lies within limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_hf.inference.distribution import Distribution
from cloud_hf.models.conformal import LEVELS


def normal(values: np.ndarray, sigma: float, bounded: bool = False) -> Distribution:
    """Intervals as they are around predictions with normal errors."""
    from scipy.stats import norm

    halves = [(level, norm.ppf((1 + level) / 2) * sigma) for level in LEVELS]
    cut = 0.0 if bounded else -math.inf
    intervals = [(level, np.maximum(values - half, cut), values + half) for level, half in halves]
    return Distribution.of_intervals(values, intervals, bounded)


def test_an_interval_is_met_with_its_level() -> None:
    values = np.array([0.0, 3.0, -2.0])
    found = normal(values, 0.5)
    for level in LEVELS:
        low, high = found.ends(level)
        for row in range(3):
            assert found.within(low[row], high[row])[row] == pytest.approx(level)


@given(st.floats(-5, 5), st.floats(0.05, 3), st.floats(-6, 6), st.floats(-6, 6))
def test_the_distribution_is_one(value: float, sigma: float, one: float, other: float) -> None:
    low, high = sorted((one, other))
    for bounded in (False, True):
        found = normal(np.array([abs(value) if bounded else value]), sigma, bounded)
        inside = float(found.within(low, high)[0])
        below, above = float(found.within(-math.inf, low)[0]), float(found.within(high, math.inf)[0])
        assert 0 <= inside <= 1
        assert inside + below + above >= 1 - 1e-9  # limits count on both sides
        assert float(found.within(-math.inf, math.inf)[0]) == 1
        assert below <= float(found.within(-math.inf, high)[0]) + 1e-12


def test_a_normal_error_gives_normal_probabilities() -> None:
    from scipy.stats import norm

    found = normal(np.zeros(1), 1.0)
    for limit in np.linspace(-2.5, 2.5, 21):
        assert float(found.within(limit, math.inf)[0]) == pytest.approx(norm.sf(limit), abs=0.025)


def test_what_cannot_be_negative_is_not() -> None:
    found = normal(np.array([0.0, 0.3]), 1.0, bounded=True)
    assert found.within(0.0, math.inf).tolist() == [1.0, 1.0]
    assert found.within(-math.inf, -0.1).tolist() == [0.0, 0.0]
    assert found.within(-math.inf, 0.0)[0] == pytest.approx(0.5)


def test_a_value_without_intervals_is_exact() -> None:
    found = Distribution.of_intervals(np.array([1.0, 2.0]), [])
    assert found.within(1.0, 1.5).tolist() == [1.0, 0.0]
    assert np.isnan(found.ends(0.9)).all()


def test_a_level_without_end_is_left_out() -> None:
    values, endless = np.zeros(2), np.full(2, math.inf)
    found = Distribution.of_intervals(values, [(0.5, values - 1, values + 1), (0.99, -endless, endless)])
    assert found.levels.tolist() == [0.25, 0.5, 0.75]


def test_the_hull_shifts_a_distribution() -> None:
    found = normal(np.zeros(2), 0.1).shifted(np.array([1.0, -1.0]))
    assert found.values.tolist() == [1.0, -1.0]
    assert found.within(0.9, 1.1) == pytest.approx([0.68, 0.0], abs=0.02)
