"""Heat capacities as labels: their unit, what heads can learn of them, and a check of the unit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_hf.errors import TableError
from cloud_hf.models.debye import GAS_CONSTANT

__all__ = ["HEAD_TARGETS", "UNIT", "check_heat_capacities"]

UNIT = "J/(mol cell K)"

HEAD_TARGETS: dict[str, dict[str, Any]] = {
    "debye": {"debye": "heat_capacity", "per_cell": True},
    "per_atom": {"transform": "per_atom", "per_cell": True},
    "per_cell": {"transform": "standardise"},
}
"""Target of each head: ln(Debye temperature), Cv per atom, Cv per cell, the last two standardised.

The second and third differ by extensivity only, the first and second by the Debye model only.
"""

MARGIN = 1.2
"""Labels above this many times 3R per atom are taken for a mistake of unit, not for a measurement."""

Numbers = NDArray[np.float64]


def check_heat_capacities(labels: Numbers, n_atoms: Numbers, ids: Sequence[str], column: str, path: str | Path) -> None:
    """Refuse labels that cannot be heat capacities of this many atoms.

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
