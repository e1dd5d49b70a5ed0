"""Heat and energy of a phonon density of states, in the harmonic approximation."""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cloud_hf.models.debye import GAS_CONSTANT
from cloud_hf.models.phonon_dos import KELVIN_CM

__all__ = ["Density", "phonon_energy", "phonon_heat_capacity", "read_densities"]

Numbers = NDArray[np.float64]
Density = tuple[Numbers, Numbers]
"""Wavenumbers in 1/cm and the density of states at them in any unit, each of shape (m,)."""


def phonon_heat_capacity(wavenumber: ArrayLike, density: ArrayLike, temperature: float) -> float:
    """Return Cv in J/(mol atom K) of a phonon density of states with 3 modes an atom.

    Args:
        wavenumber: 1/cm, shape (m,).
        density: Density of states in any unit, shape (m,).
        temperature: K, above 0.
    """
    x, weight = _modes(wavenumber, density, temperature)
    small = np.maximum(x, 1e-6)
    return float(3 * GAS_CONSTANT * (weight * small**2 * np.exp(-small) / np.expm1(-small) ** 2).sum())


def phonon_energy(wavenumber: ArrayLike, density: ArrayLike, temperature: float) -> float:
    """Return U(T) - U(0) in J/(mol atom); arguments as for `phonon_heat_capacity`."""
    x, weight = _modes(wavenumber, density, temperature)
    small = np.maximum(x, 1e-6)
    return float(3 * GAS_CONSTANT * temperature * (weight * small * np.exp(-small) / -np.expm1(-small)).sum())


def read_densities(wavenumbers: Iterable[Any], densities: Iterable[Any]) -> list[Density | None]:
    """Read densities of states from two columns of a table.

    Args:
        wavenumbers: A list of numbers for each row, or one as JSON text (as in a CSV file), in 1/cm.
        densities: Densities of states, in the same form.

    Returns:
        One for each row; None where the two lists are no density of states: of different lengths or fewer than two
        points, not finite, wavenumbers that do not increase from 0 or above, a negative density, or nothing but zeros.
    """
    return [_density(*pair) for pair in zip(wavenumbers, densities, strict=True)]


def _density(wavenumber: Any, density: Any) -> Density | None:
    try:
        points, heights = (
            np.asarray(json.loads(values) if isinstance(values, str) else values, dtype=float)
            for values in (wavenumber, density)
        )
    except (TypeError, ValueError):
        return None
    usable = (
        points.ndim == 1
        and points.shape == heights.shape
        and len(points) > 1
        and bool(np.isfinite(points).all() and np.isfinite(heights).all())
        and points[0] >= 0
        and bool((np.diff(points) > 0).all() and (heights >= 0).all() and heights.any())
    )
    return (points, heights) if usable else None


def _modes(wavenumber: ArrayLike, density: ArrayLike, temperature: float) -> Density:
    """H nu / kT of each point and its share of the modes, by the trapezoidal rule."""
    points, heights = np.asarray(wavenumber, dtype=float), np.asarray(density, dtype=float)
    steps = np.diff(points)
    weight = heights * (np.concatenate([steps, [0.0]]) + np.concatenate([[0.0], steps])) / 2
    return points * KELVIN_CM / temperature, weight / weight.sum()
