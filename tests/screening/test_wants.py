"""What is wanted, and how likely it is met."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_hf.errors import CloudError
from cloud_hf.models.conformal import LEVELS
from cloud_hf.screening.distribution import Distribution
from cloud_hf.screening.wants import Want, parse_wants

NAMES = ["band_gap", "bulk_modulus", "energy_above_hull"]


def test_wants_are_read() -> None:
    found = parse_wants(["band_gap=1.1:1.7", "bulk_modulus>=100", "energy_above_hull<=0.1"], NAMES)
    assert found == [Want("band_gap", 1.1, 1.7), Want("bulk_modulus", 100.0), Want("energy_above_hull", high=0.1)]
    assert [str(want) for want in found] == ["band_gap=1.1:1.7", "bulk_modulus>=100", "energy_above_hull<=0.1"]
    assert [want.direction for want in found] == [0, 1, -1]


def test_wants_of_one_quantity_hold_together() -> None:
    assert parse_wants(["band_gap>=1", "band_gap<=2", "band_gap>=0.5"], NAMES) == [Want("band_gap", 1.0, 2.0)]


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ([], "say what is wanted"),
        (["gap"], "NAME>=NUMBER"),
        (["bandgap>=1"], "Did you mean band_gap"),
        (["colour>=1"], "no head gives 'colour'; there is band_gap, bulk_modulus"),
        (["band_gap=1"], "a window"),
        (["band_gap>=x"], "no number"),
        (["band_gap=2:1"], "both at least 2 and at most 1"),
        (["band_gap>=2", "band_gap<=1"], "both at least 2 and at most 1"),
        (["band_gap>=nan"], "no limit"),
        (["band_gap=:"], "no limit"),
    ],
)
def test_wants_that_cannot_be_read(texts: list[str], reason: str) -> None:
    with pytest.raises(CloudError, match=reason):
        parse_wants(texts, NAMES)


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
