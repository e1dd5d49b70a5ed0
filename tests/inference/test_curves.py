"""The curves of pictures: the same whether a density of states or a Debye temperature gives them, and within bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cloud_hf.data.inputs import Item
from cloud_hf.inference.curves import (
    DULONG_PETIT,
    STEP,
    binned_dos,
    excited_share,
    heat_capacity_curve,
    highest_wavenumber,
)
from cloud_hf.inference.prediction import Prediction
from cloud_hf.models.debye import heat_capacity
from cloud_hf.models.phonon_dos import DEBYE_TEMPERATURES, KELVIN_CM, phonon_dos

KELVIN = torch.linspace(0.0, 1000.0, 11, dtype=torch.float64)


def prediction(name: str, cutoff: float | None = None, **quantity: Any) -> Prediction:
    """One temperature and, with a cut-off in 1/cm, the density of states of a Debye solid."""
    dos = None if cutoff is None else phonon_dos([0.0], [cutoff] * 3, 1, edges=[0, 2000])
    return Prediction(Item("a"), ({"name": name, "unit": "K", **quantity},), phonon_dos=dos)


@given(st.floats(50, 1000), st.floats(1, 3))
def test_a_debye_solid_has_one_curve_and_band_by_either_way(theta: float, factor: float) -> None:
    band = {"value": theta, "low": theta / factor, "high": theta * factor, "level": 0.9}
    ways = [
        prediction("debye_temperature", **band),
        prediction(DEBYE_TEMPERATURES[0], cutoff=theta / KELVIN_CM, **band),
    ]
    for found in (heat_capacity_curve(one, KELVIN) for one in ways):
        assert found is not None
        assert found.level == 0.9
        for curve, value in ((found.values, theta), (found.softest, theta / factor), (found.stiffest, theta * factor)):
            assert curve is not None
            torch.testing.assert_close(curve, heat_capacity(value, KELVIN), rtol=1e-6, atol=1e-9)
            assert (curve <= DULONG_PETIT * (1 + 1e-9)).all()
        assert found.stiffest is not None
        assert found.softest is not None
        assert (found.stiffest <= found.softest + 1e-9).all()


@pytest.mark.parametrize("cutoff", [None, 300.0])
def test_without_an_interval_there_is_no_band(cutoff: float | None) -> None:
    name = "debye_temperature" if cutoff is None else DEBYE_TEMPERATURES[0]
    bare = heat_capacity_curve(prediction(name, cutoff, value=400.0), KELVIN)
    banded = prediction(name, cutoff, value=400.0, low=300.0, high=500.0, level=0.9)
    unasked = heat_capacity_curve(banded, KELVIN, banded=False)
    for found in (bare, unasked):
        assert found is not None
        assert (found.softest, found.stiffest, found.level) == (None, None, None)


def test_what_has_neither_has_no_curve() -> None:
    assert heat_capacity_curve(prediction("band_gap", value=1.0), KELVIN) is None


@given(st.floats(30, 1900))
def test_a_picture_ends_where_the_modes_do(cutoff: float) -> None:
    dos = prediction("x", cutoff).phonon_dos
    assert dos is not None
    edges, density = binned_dos(dos)
    assert float(density.sum()) * STEP == pytest.approx(3)
    assert 0.95 * cutoff - STEP <= highest_wavenumber(edges, density) <= cutoff + STEP


def test_heat_excites_slow_modes_first_and_all_in_the_end() -> None:
    wavenumber = torch.tensor([50.0, 200.0, 800.0], dtype=torch.float64)
    shares = np.array([excited_share(wavenumber, kelvin).numpy() for kelvin in (0.0, 50.0, 300.0, 1e5)])
    assert (shares[0] == 0).all()
    assert (np.diff(shares, axis=0) > 0).all()
    assert (np.diff(shares[1:], axis=1) < 0).all()
    assert shares[-1] == pytest.approx(1, abs=1e-4)
