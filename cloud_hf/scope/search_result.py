"""`SymmetryResult`: what any symmetry search gives."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["SymmetryResult"]


@dataclass(frozen=True, slots=True)
class SymmetryResult:
    """What a symmetry search says, site by site of the cell that was searched.

    Attributes:
        space_group: Number in the International Tables, 1 to 230.
        space_group_symbol: Short Hermann-Mauguin symbol, e.g. `P2_1/c`.
        letters: Wyckoff letter of each site.
        orbits: Number of the orbit of each site: equal numbers for equivalent sites.
        std_lattice: Vectors of the conventional standard cell as rows, shape (3, 3), Å.
        n_standard_sites: Sites in the conventional standard cell.
        note: How it was found, where the search that was asked for failed; else empty.
    """

    space_group: int
    space_group_symbol: str
    letters: Sequence[str]
    orbits: Sequence[int]
    std_lattice: NDArray[np.float64]
    n_standard_sites: int
    note: str = ""
