"""The symmetry search of the paper's released encoder: spglib, site by site of the cell as it is given."""

from dataclasses import dataclass

import numpy as np

from cloud_hf.crystals.cell import Cell
from cloud_hf.scope._relabelings import LETTERS, wyckoff_table
from cloud_hf.scope.backends import search_symmetry

__all__ = ["SymmetrySites", "find_symmetry"]


@dataclass(frozen=True, slots=True)
class SymmetrySites:
    """What the symmetry search says about a crystal, site by site of the cell that was given.

    Attributes:
        space_group: Number in the International Tables, 1 to 230.
        space_group_symbol: Short Hermann-Mauguin symbol, e.g. `Fm-3m`.
        wyckoff: Multiplicity in the conventional cell + letter per site, e.g. `4a`; as many as sites.
        n_primitive_cells: How many primitive cells the given cell holds.
        note: How the symmetry was found, where spglib failed with the settings given; else empty.
    """

    space_group: int
    space_group_symbol: str
    wyckoff: tuple[str, ...]
    n_primitive_cells: int
    note: str = ""


def find_symmetry(cell: Cell, symprec: float = 0.01, angle_tolerance: float = 5.0) -> SymmetrySites:
    """Search the symmetry of a cell with spglib, sites in their order.

    Args:
        cell: One or more sites; a partially occupied site is a kind of its own.
        symprec: Distance tolerance in Å.
        angle_tolerance: Angle tolerance in degrees.

    Returns:
        Space group and Wyckoff position of every site.

    Raises:
        SymmetryError: spglib finds no space group within the tolerance.
    """
    types = np.array(cell.kinds(), dtype=np.intc)
    symmetry = search_symmetry(cell.lattice, cell.frac_coords, types, symprec, angle_tolerance, cell.name)
    table = wyckoff_table(symmetry.space_group)
    return SymmetrySites(
        space_group=symmetry.space_group,
        space_group_symbol=symmetry.space_group_symbol,
        wyckoff=tuple(table.words[LETTERS.index(letter)] for letter in symmetry.letters),
        n_primitive_cells=len(cell) * table.lattice_points // symmetry.n_standard_sites,
        note=symmetry.note,
    )
