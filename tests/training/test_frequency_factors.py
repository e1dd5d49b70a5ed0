"""Factors on frequencies: 1 for a spectrum beside itself, and what the spectrum was scaled by."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cloud_hf.models.phonon_dos import PhononDOS
from cloud_hf.training.frequency_factors import LARGEST_LN_FACTOR, frequency_factors

KELVIN = (50.0, 300.0, 1000.0)


def spectra(scale: float = 1.0, n: int = 4) -> PhononDOS:
    """Optical modes alone, so that the shares of all modes are those of the bins."""
    optical = torch.rand(n, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    edges = scale * torch.linspace(0, 600, 13, dtype=torch.float64)
    return PhononDOS(edges, optical / optical.sum(-1, keepdim=True), torch.zeros(n), torch.ones(n, 3))


def test_a_spectrum_beside_itself() -> None:
    dos = spectra()
    found = frequency_factors(dos, dos.optical, {}, KELVIN)
    assert len(found) == 1 + 4 * len(KELVIN)
    for factor in found.values():
        torch.testing.assert_close(factor, torch.ones(4, dtype=torch.float64), rtol=1e-6, atol=0)


@given(st.floats(0.2, 5.0))
def test_heat_capacities_of_a_spectrum_times_a_factor(factor: float) -> None:
    dos = spectra()
    known = {kelvin: spectra(factor).heat_capacity(kelvin) for kelvin in KELVIN}
    known[50.0][1] = torch.nan  # not measured: that of the known shares
    found = frequency_factors(dos, dos.optical, known, KELVIN)
    for kelvin in KELVIN:
        expected = torch.full((4,), factor, dtype=torch.float64)
        if kelvin == 50:
            expected[1] = 1
        torch.testing.assert_close(found[f"heat_capacity_{kelvin:g}K"], expected, rtol=1e-5, atol=0)
        torch.testing.assert_close(found[f"entropy_{kelvin:g}K"], torch.ones_like(expected), rtol=1e-6, atol=0)


def test_every_quantity_tells_a_stiffer_spectrum() -> None:
    dos, stiff = spectra(), torch.zeros(4, 12, dtype=torch.float64)
    stiff[:, -1] = 1
    for name, factor in frequency_factors(dos, stiff, {}, KELVIN).items():
        assert (factor > 1).all(), name
    for name, factor in frequency_factors(dos, stiff.flip(-1), {}, KELVIN).items():
        assert (factor < 1).all(), name


def test_a_value_that_no_factor_gives() -> None:
    dos = spectra()
    known = {300.0: torch.tensor([0.0, 30.0, 0.0, 30.0])}
    found = frequency_factors(dos, dos.optical, known, [300.0])["heat_capacity_300K"].log()
    assert found.tolist() == pytest.approx([LARGEST_LN_FACTOR, -LARGEST_LN_FACTOR] * 2)
