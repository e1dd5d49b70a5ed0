"""Densities of states, Debye temperatures and measured crystals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cloud_hf import ScopeEncoder
from cloud_hf.errors import TableError
from cloud_hf.models.debye import GAS_CONSTANT, heat_capacity, internal_energy
from cloud_hf.studies.common.heat_capacities import check_heat_capacities
from cloud_hf.studies.debye.figures import rows_at_quantiles
from cloud_hf.studies.debye.known import COMPOUNDS, ELEMENTS
from cloud_hf.studies.debye.phonons import phonon_energy, phonon_heat_capacity, read_densities
from cloud_hf.studies.debye.temperatures import thermal_energy, theta_of


class TestDensities:
    @pytest.mark.parametrize("kelvin", [50.0, 300.0, 1000.0])
    def test_phonons_of_a_debye_solid_give_the_debye_model(self, kelvin: float) -> None:
        wavenumber = np.linspace(0, 420.0 / 1.438776877, 20_001)
        found = phonon_heat_capacity(wavenumber, wavenumber**2, kelvin)
        assert found == pytest.approx(float(heat_capacity(420.0, kelvin)), rel=1e-6)
        energy = float(internal_energy(420.0, kelvin) - internal_energy(420.0, 0.0))
        assert phonon_energy(wavenumber, wavenumber**2, kelvin) == pytest.approx(energy, rel=1e-6)
        assert float(thermal_energy(420.0, kelvin)) == pytest.approx(energy)

    def test_lists_and_their_text_are_read_and_others_not(self) -> None:
        good = [0.0, 20.0, 40.0]
        wrong = ([0.0, 20.0], [0.0, 40.0, 20.0], [-20.0, 0.0, 20.0], [0.0, np.nan, 40.0], "[0, 20", None, 3.0)
        points = [good, json.dumps(good), *wrong]
        heights = [np.array([0.0, 1.0, 0.5])] * len(points)
        found = read_densities([*points, good, good], [*heights, [0.0, 0.0, 0.0], [0.0, -1.0, 2.0]])
        assert [density is not None for density in found] == [True, True] + [False] * (len(wrong) + 2)


class TestDebyeTemperatures:
    def test_it_is_the_inverse_of_the_heat_capacity(self) -> None:
        theta = np.array([60.0, 343.0, 2230.0])
        assert theta_of(heat_capacity(theta, 300.0).numpy()) == pytest.approx(theta, rel=1e-6)

    def test_what_no_debye_temperature_has_counts_as_the_nearest(self) -> None:
        assert np.isfinite(theta_of([-1.0, 0.0, 3 * GAS_CONSTANT, 100.0])).all()
        assert theta_of([30.0])[0] < 20

    @pytest.mark.parametrize(("label", "text"), [(0.0, "mp-2"), (-3.0, "mp-2"), (90.0, "3NR = 49.89")])
    def test_labels_that_are_no_heat_capacities(self, label: float, text: str) -> None:
        with pytest.raises(TableError, match=text):
            check_heat_capacities(np.array([40.0, label, np.nan]), np.full(3, 2.0), ["mp-1", "mp-2", "mp-3"], "cv", "x")
        check_heat_capacities(np.array([40.0, np.nan]), np.full(2, 2.0), ["mp-1", "mp-2"], "cv", "x")


def test_known_crystals_are_those_of_the_examples(root: Path) -> None:
    known = {one.name: one for one in (*COMPOUNDS, *ELEMENTS)}
    files = {"Al2O3": "Al2O3_corundum", "CaTiO3": "CaTiO3_perovskite", "GaN": "GaN_wurtzite", "C": "C_diamond"}
    for name in ("Al2O3", "CaTiO3", "GaN", "C", "Cu", "W", "Si"):
        assert known[name].scope == ScopeEncoder("sites").encode(root / "examples" / f"{files.get(name, name)}.cif")


def test_rows_are_drawn_by_their_error_not_by_hand() -> None:
    errors = np.array([5.0, 1.0, 9.0, 3.0])
    assert rows_at_quantiles(errors, [True, True, False, True], (0.0, 0.5, 1.0)) == [1, 3, 0]
    assert rows_at_quantiles(errors, [False] * 4, (0.5,)) == []
