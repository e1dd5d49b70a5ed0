"""Between heat capacities at 300 K and Debye temperatures: what one says about other quantities and temperatures."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cloud_hf.models.debye import effective_debye_temperature, internal_energy

__all__ = ["thermal_energy", "theta_of"]

Numbers = NDArray[np.float64]

SMALLEST = 1e-6
"""J/(mol atom K); for predictions of no heat capacity at all: theta is 4e5 K at 300 K, stiffer than any solid."""


def theta_of(per_atom: ArrayLike, temperature: float = 300.0) -> Numbers:
    """Return the Debye temperature in K at which Cv is the given one.

    Args:
        per_atom: Cv in J/(mol atom K), any shape; values outside 0 to 3R, which no Debye temperature has, count as the
            nearest that one has.
        temperature: K.
    """
    return effective_debye_temperature(np.maximum(per_atom, SMALLEST), temperature, clip=True)


def thermal_energy(theta: ArrayLike, temperature: float) -> Numbers:
    """Return U(T) - U(0) in J/(mol atom) of Debye temperatures in K."""
    given = np.asarray(theta, dtype=float)
    energy: Numbers = (internal_energy(given, float(temperature)) - internal_energy(given, 0.0)).numpy()
    return energy
