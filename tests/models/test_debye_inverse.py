"""Debye temperatures of heat capacities that a Debye solid has, and of those that none has."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_hf.debye import GAS_CONSTANT, LARGEST_SHARE, DebyeInputError, effective_debye_temperature, heat_capacity

LIMIT = 3 * GAS_CONSTANT


@settings(deadline=None)
@given(st.floats(50, 2500), st.floats(20, 1000), st.integers(1, 50))
def test_it_inverts_the_debye_function(theta: float, kelvin: float, atoms: int) -> None:
    cv = heat_capacity(theta, kelvin, atoms).numpy()
    found = effective_debye_temperature(cv, kelvin, atoms)
    if cv <= LARGEST_SHARE * LIMIT * atoms:
        np.testing.assert_allclose(found, theta, rtol=1e-6)
    else:
        assert np.isnan(found)
        assert effective_debye_temperature(cv, kelvin, atoms, clip=True) >= theta


def test_what_no_debye_solid_has_is_none_or_the_softest() -> None:
    values = [0.0, -1.0, np.nan, 25.0, LIMIT, LIMIT * (1 - 1e-9), 20.0]
    assert np.isnan(effective_debye_temperature(values, 300.0)).tolist() == [True] * 6 + [False]
    clipped = effective_debye_temperature(values, 300.0, clip=True)
    assert np.isnan(clipped).tolist() == [True] * 3 + [False] * 4
    np.testing.assert_allclose(clipped[3:6], 300 * np.sqrt(20 * (1 - LARGEST_SHARE)), rtol=1e-4)


def test_shapes_broadcast_and_impossible_temperatures_are_refused() -> None:
    assert effective_debye_temperature(np.full((3, 1), 20.0), np.array([100.0, 300.0])).shape == (3, 2)
    assert effective_debye_temperature([], 300.0).shape == (0,)
    with pytest.raises(DebyeInputError, match="temperature is 0"):
        effective_debye_temperature(20.0, 0.0)


def test_no_harmonic_heat_capacity_lies_beyond_the_cut_off(shared: Path) -> None:
    for table, kelvins in (("phonons", (50, 300, 1000)), ("heat_capacity_structures_train", (300, 1000))):
        columns = [f"cv_{kelvin}K_per_atom" for kelvin in kelvins]
        shares = pd.read_parquet(shared / "data" / f"{table}.parquet", columns=columns).to_numpy() / LIMIT
        assert 1 - shares.max() > 3 * (1 - LARGEST_SHARE)
        assert (1 - shares < 1e-3).sum() > 20  # a cut-off at 0.999 would lose these
