"""Fits of power laws: known laws are found again, intervals cover them and say when they mean little."""

from __future__ import annotations

import numpy as np
import pytest

from cloud_hf.errors import StudyError
from cloud_hf.studies.scaling.laws import LossLaw, bootstrap, fit_loss_law, fit_power_law, frontier, interval

LAW = LossLaw(floor=0.8, parameter_factor=40.0, parameter_exponent=0.42, data_factor=900.0, data_exponent=0.57)
SIZES, TOKENS = (
    values.ravel() for values in np.meshgrid(np.geomspace(1e4, 1e7, 5), np.geomspace(1e5, 1e8, 5), indexing="ij")
)


def test_a_known_law_is_found_again() -> None:
    found = fit_loss_law(SIZES, TOKENS, LAW(SIZES, TOKENS))
    assert found.floor == pytest.approx(LAW.floor, rel=1e-3)
    assert found.parameter_exponent == pytest.approx(LAW.parameter_exponent, rel=1e-3)
    assert found.data_exponent == pytest.approx(LAW.data_exponent, rel=1e-3)
    assert found(SIZES, TOKENS) == pytest.approx(LAW(SIZES, TOKENS), rel=1e-5)


def test_the_intervals_cover_the_law_and_are_informative_on_a_wide_grid() -> None:
    loss = LAW(SIZES, TOKENS) * np.exp(np.random.default_rng(0).normal(0, 0.003, SIZES.size))
    fitted = fit_loss_law(SIZES, TOKENS, loss)
    found = interval(fitted, bootstrap(SIZES, TOKENS, loss, fitted, resamples=20))
    for name in ("parameter_exponent", "data_exponent"):
        assert found[name]["low"] < getattr(LAW, name) < found[name]["high"]
        assert found[name]["informative"]
    assert found["best_parameters"]["value"] + found["best_data"]["value"] == pytest.approx(1)


def test_a_narrow_and_noisy_grid_is_called_uninformative() -> None:
    size, data = (part.ravel() for part in np.meshgrid([1e6, 1.2e6, 1.5e6], [1e7, 1.2e7, 1.5e7], indexing="ij"))
    loss = LAW(size, data) * np.exp(np.random.default_rng(1).normal(0, 0.02, size.size))
    fitted = fit_loss_law(size, data, loss)
    found = interval(fitted, bootstrap(size, data, loss, fitted, resamples=6))
    assert not found["parameter_exponent"]["informative"] or not found["data_exponent"]["informative"]


def test_two_sizes_are_too_few_for_a_law() -> None:
    with pytest.raises(StudyError, match="at least 3"):
        fit_loss_law([1e4, 1e5, 1e4, 1e5], [1e5, 1e5, 1e6, 1e6], [3.0, 2.5, 2.0, 1.5])


def test_the_best_loss_of_a_budget_is_the_lowest_along_it() -> None:
    compute = 1e15
    sizes = np.geomspace(1e3, 1e10, 20_001)
    along = LAW(sizes, compute / 6 / sizes)
    assert float(LAW.best(compute)) == pytest.approx(along.min(), rel=1e-6)
    # the best size grows with the power that `allocation` names
    best = [sizes[LAW(sizes, budget / 6 / sizes).argmin()] for budget in (1e13, 1e15)]
    assert np.log(best[1] / best[0]) / np.log(100) == pytest.approx(LAW.allocation[0], abs=2e-3)


def test_a_straight_line_has_its_slope_and_interval() -> None:
    x = np.geomspace(1, 1e4, 8)
    exact = fit_power_law(x, 3 * x**-0.25)
    assert (exact.factor, exact.exponent) == pytest.approx((3, 0.25))
    noisy = fit_power_law(x, 3 * x**-0.25 * np.exp(np.random.default_rng(0).normal(0, 0.05, 8)))
    assert noisy.low is not None
    assert noisy.high is not None
    assert noisy.low < 0.25 < noisy.high
    assert fit_power_law([1, 2], [2, 1]).low is None


def test_nothing_cheaper_beats_the_frontier() -> None:
    chance = np.random.default_rng(0)
    compute, loss = chance.lognormal(size=40), chance.lognormal(size=40)
    best = frontier(compute, loss)
    for row in range(40):
        beaten = [other for other in range(40) if compute[other] <= compute[row] and loss[other] < loss[row]]
        assert (row in best) == (not beaten)
    assert np.all(np.diff(compute[best]) > 0)
    assert np.all(np.diff(loss[best]) < 0)
