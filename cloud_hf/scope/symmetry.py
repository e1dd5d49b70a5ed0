"""The symmetry search: space group, Wyckoff letters and multiplicities, primitive cell."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from pymatgen.core import Structure

os.environ.setdefault("SPGLIB_WARNING", "OFF")  # its C code prints to the terminal when it retries a tolerance
import spglib

from cloud_hf.errors import SymmetryError

__all__ = ["SymmetrySites", "find_symmetry"]


@dataclass(frozen=True, slots=True)
class SymmetrySites:
    """What the symmetry search says about a crystal, site by site of the cell that was given.

    Attributes:
        space_group: Number in the International Tables, 1 to 230.
        space_group_symbol: Short Hermann-Mauguin symbol, e.g. `Fm-3m`.
        wyckoff: Multiplicity in the conventional cell + letter per site, e.g. `4a`; as many as sites.
        n_primitive_cells: How many primitive cells the given cell holds.
    """

    space_group: int
    space_group_symbol: str
    wyckoff: tuple[str, ...]
    n_primitive_cells: int


def find_symmetry(
    structure: Structure, symprec: float = 0.01, angle_tolerance: float = 5.0, name: str = "structure"
) -> SymmetrySites:
    """Search the symmetry of a crystal with spglib.

    Args:
        structure: Crystal with one or more sites; a partially occupied site is a kind of its own.
        symprec: Distance tolerance in Å.
        angle_tolerance: Angle tolerance in degrees.
        name: What an error message calls the crystal.

    Returns:
        Space group and Wyckoff position of every site.

    Raises:
        SymmetryError: spglib finds no space group within the tolerance.
    """
    kinds: dict[object, int] = {}
    types: list[int] = [kinds.setdefault(site.species, len(kinds) + 1) for site in structure]
    cell: Any = (structure.lattice.matrix, structure.frac_coords, types)
    try:
        dataset = spglib.get_symmetry_dataset(cell, symprec=symprec, angle_tolerance=angle_tolerance)
    except spglib.SpglibError as error:
        raise _no_symmetry(name, symprec, str(error)) from error
    if dataset is None:
        raise _no_symmetry(name, symprec, "no reason given")
    orbits, orbit_of_site = np.unique(dataset.crystallographic_orbits, return_inverse=True)
    sites_per_orbit = np.bincount(orbit_of_site, minlength=len(orbits))
    multiplicity = sites_per_orbit * len(dataset.std_types) // len(structure)
    wyckoff = tuple(
        f"{multiplicity[orbit]}{letter}" for orbit, letter in zip(orbit_of_site, dataset.wyckoffs, strict=True)
    )
    n_primitive_sites = len(np.unique(dataset.mapping_to_primitive))
    return SymmetrySites(
        space_group=int(dataset.number),
        space_group_symbol=str(dataset.international),
        wyckoff=wyckoff,
        n_primitive_cells=len(structure) // n_primitive_sites,
    )


def _no_symmetry(name: str, symprec: float, reason: str) -> SymmetryError:
    return SymmetryError(
        f"{name}: spglib finds no space group at symprec {symprec} Å ({reason}); "
        "look for atoms that nearly coincide, or choose another tolerance."
    )
