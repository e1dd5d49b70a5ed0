"""The Debye model under its public name: heat capacity, energies and entropy, differentiable (see `models.debye`).

Beside it, the inverse for measured, computed and predicted heat capacities, some of which no Debye solid has.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cloud_hf.models import debye as _model
from cloud_hf.models.debye import *  # noqa: F403

__all__ = [*_model.__all__, "LARGEST_SHARE", "effective_debye_temperature"]

LARGEST_SHARE = 1 - 1e-4
"""Largest share of the Dulong-Petit limit 3NR that is turned into a Debye temperature.

With d = 1 - Cv/3NR the temperature is theta = T sqrt(20 d) near the limit, so that an error of d changes ln(theta) by
half its relative size: the closer to the limit, the less theta means. 1e-4 is the largest round distance that keeps
every harmonic heat capacity at hand: of 8309 + 1213 crystals at 50 to 1000 K the nearest to the limit has d = 3.7e-4
(theta = 86 K at 1000 K); 1e-3 would drop the 77 softest of them at 1000 K. It stands for theta = 13 K at 300 K and 45 K
at 1000 K, below the softest known solids (caesium 38 K, AFLOW's softest crystal 44 K), and ln(theta) there is good to 5
% if Cv is good to 1e-5. Closer cut-offs would let one value at the limit, where anharmonic solids lie at room
temperature, stand for 0.04 K, seventeen standard deviations of ln(theta) below the rest.
"""


def effective_debye_temperature(
    heat_capacity: ArrayLike, temperature: ArrayLike, n_atoms: ArrayLike = 1, *, clip: bool = False
) -> NDArray[np.float64]:
    """Return the Debye temperatures at which Cv is the given one.

    Args:
        heat_capacity: Cv in J/(mol K), any shapes that broadcast.
        temperature: T > 0 in K.
        n_atoms: N >= 1, atoms that Cv is meant for.
        clip: Take values above `LARGEST_SHARE` of 3NR for that share, as the softest solid there is. Otherwise they
            have no Debye temperature.

    Returns:
        theta in K, of the broadcast shape; NaN at 0 and below, where Cv is NaN, and above `LARGEST_SHARE` of the limit
        unless `clip`.

    Raises:
        DebyeInputError: A temperature or a number of atoms that cannot be.
    """
    cv, kelvin, atoms = np.broadcast_arrays(
        *(np.asarray(values, dtype=float) for values in (heat_capacity, temperature, n_atoms))
    )
    most = LARGEST_SHARE * 3 * _model.GAS_CONSTANT * atoms
    if clip:
        cv = np.minimum(cv, most)
    theta = np.full(cv.shape, np.nan)
    inside = (cv > 0) & (cv <= most)
    if inside.any():
        solved = _model.debye_temperature_from_heat_capacity(cv[inside], kelvin[inside], atoms[inside])
        theta[inside] = solved.numpy()
    return theta
