"""Between heat capacities at 300 K and Debye temperatures: what one says about other quantities and temperatures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cloud_hf.debye import GAS_CONSTANT, effective_debye_temperature, internal_energy
from cloud_hf.errors import TableError

__all__ = ["check_heat_capacities", "thermal_energy", "theta_of"]

Numbers = NDArray[np.float64]

MARGIN = 1.2
"""Labels above so many times 3R per atom are taken for a mistake of unit, not for a measurement."""


def theta_of(per_atom: ArrayLike, temperature: float = 300.0) -> Numbers:
    """Return the Debye temperature in K at which Cv is the given one.

    Args:
        per_atom: Cv in J/(mol atom K), any shape; values outside 0 to 3R, which no Debye temperature has, count as the
            nearest that one has.
        temperature: K.
    """
    return effective_debye_temperature(np.maximum(per_atom, 1e-6), temperature, clip=True)


def thermal_energy(theta: ArrayLike, temperature: float) -> Numbers:
    """Return U(T) - U(0) in J/(mol atom) of Debye temperatures in K."""
    given = np.asarray(theta, dtype=float)
    energy: Numbers = (internal_energy(given, float(temperature)) - internal_energy(given, 0.0)).numpy()
    return energy


def check_heat_capacities(labels: Numbers, n_atoms: Numbers, ids: Sequence[str], column: str, path: str | Path) -> None:
    """Refuse labels that cannot be heat capacities of so many atoms.

    Args:
        labels: J/(mol K), shape (n,), NaN where there is none.
        n_atoms: Atoms that each is meant for, shape (n,).
        ids: What each crystal is called.
        column: Name of the labels, for the message.
        path: Their table, for the message.

    Raises:
        TableError: A label that is not positive, or far above the Dulong-Petit limit 3NR.
    """
    limit = 3 * GAS_CONSTANT
    bad = np.flatnonzero((labels <= 0) | (labels > MARGIN * limit * n_atoms))
    if len(bad):
        row = bad[0]
        raise TableError(
            f"column {column!r} must hold heat capacities between 0 and 3NR = {limit * n_atoms[row]:.4g} "
            f"J/(mol K); {ids[row]} with N = {n_atoms[row]:g} has {labels[row]:.6g} ({len(bad)} such rows). Check the "
            "unit, and whether the values are per primitive cell or per atom. Strings of the paper's grammars can lose "
            "atoms; where the table has a column of atoms per primitive cell, name it with --n-atoms.",
            source=str(path),
        )
