"""The symmetry search behind one interface: spglib, or moyopy where it is installed."""

import logging
import os
from collections.abc import Callable
from functools import cache
from math import inf, isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("SPGLIB_WARNING", "OFF")  # its C code prints to the terminal when it retries a tolerance
import spglib

from cloud_hf.errors import CloudError, SymmetryError
from cloud_hf.scope._relabelings import wyckoff_table
from cloud_hf.scope.cubic import find_cubic
from cloud_hf.scope.found import FoundSymmetry

__all__ = ["BACKENDS", "FoundSymmetry", "check_backend", "search_symmetry"]


Search = Callable[[NDArray[np.float64], NDArray[np.float64], NDArray[np.intc], float, float], FoundSymmetry]


def _search_spglib(
    lattice: NDArray[np.float64],
    frac_coords: NDArray[np.float64],
    types: NDArray[np.intc],
    symprec: float,
    angle_tolerance: float,
) -> FoundSymmetry:
    cell: Any = (lattice, frac_coords, types)
    dataset = spglib.get_symmetry_dataset(cell, symprec=symprec, angle_tolerance=angle_tolerance)
    if dataset is None:
        raise ValueError("no reason given")
    return FoundSymmetry(
        space_group=int(dataset.number),
        space_group_symbol=str(dataset.international),
        letters=dataset.wyckoffs,
        orbits=dataset.crystallographic_orbits.tolist(),
        std_lattice=dataset.std_lattice,
        n_standard_sites=len(dataset.std_types),
    )


@cache
def _moyopy() -> tuple[Any, Any]:
    """Return the module and its spglib-compatible setting (the smallest Hall number of each space group)."""
    try:
        import moyopy
    except ImportError:
        raise CloudError(
            "The symmetry back-end 'moyopy' is not installed: pip install cloud-hf[moyopy], or use 'spglib'."
        ) from None
    # it warns of every supercell of lower symmetry than its crystal; the orbits asked for here are the crystal's
    logging.getLogger("moyo").setLevel(logging.ERROR)
    return moyopy, moyopy.Setting.spglib()


def _search_moyopy(
    lattice: NDArray[np.float64],
    frac_coords: NDArray[np.float64],
    types: NDArray[np.intc],
    symprec: float,
    angle_tolerance: float,
) -> FoundSymmetry:
    # No angle tolerance: with 5 degrees moyopy 0.21 takes all memory and does not end on flat cells (mp-573608,
    # angles of 8 degrees). Without one it compares angles by the distances that they span, with symprec.
    del angle_tolerance
    moyopy, setting = _moyopy()
    cell = moyopy.Cell(lattice.tolist(), frac_coords.tolist(), types.tolist())
    dataset = moyopy.MoyoDataset(cell, symprec=symprec, setting=setting)
    standard = dataset.std_cell
    return FoundSymmetry(
        space_group=dataset.number,
        space_group_symbol=wyckoff_table(dataset.number).symbol,
        letters=dataset.wyckoffs,
        orbits=dataset.orbits,
        std_lattice=np.array(standard.basis),
        n_standard_sites=standard.num_atoms,
    )


BACKENDS: dict[str, Search] = {"spglib": _search_spglib, "moyopy": _search_moyopy}
"""Name of each back-end and its search. They treat crystals near the tolerance differently: never mix them."""


def check_backend(backend: str) -> None:
    """Refuse a back-end that is unknown or not installed.

    Args:
        backend: A name in `BACKENDS`.

    Raises:
        CloudError: No such back-end, or the package behind it is missing; the message says what to do.
    """
    if backend not in BACKENDS:
        raise CloudError(f"{backend!r} is not a symmetry back-end; there are {', '.join(map(repr, BACKENDS))}.")
    if backend == "moyopy":
        _moyopy()


def search_symmetry(
    lattice: NDArray[np.float64],
    frac_coords: NDArray[np.float64],
    types: NDArray[np.intc],
    symprec: float = 0.01,
    angle_tolerance: float = 5.0,
    name: str = "structure",
    backend: str = "spglib",
    any_origin: bool = False,
) -> FoundSymmetry:
    """Search the symmetry of a cell.

    Args:
        lattice: Lattice vectors as rows, shape (3, 3), Å.
        frac_coords: Fractional coordinates, shape (n, 3).
        types: Positive number of what sits on each site, shape (n,).
        symprec: Distance tolerance in Å.
        angle_tolerance: Angle tolerance in degrees; moyopy goes by distances alone and does not use it.
        name: What an error message calls the crystal.
        backend: A name in `BACKENDS`.
        any_origin: Letters for any of the equivalent origins will do, as the canonical form undoes the choice;
            spglib is then many times faster on cubic crystals. `False` leaves the choice to the back-end.

    Returns:
        Space group, Wyckoff letters and orbits.

    Raises:
        CloudError: The back-end is unknown or not installed.
        SymmetryError: The search finds no space group.
    """
    if backend not in BACKENDS:
        check_backend(backend)
    # spglib ends the whole process on some of these and moyopy panics
    if not (len(types) and isfinite(np.abs(frac_coords).max()) and 0 < abs(_volume(*lattice.tolist())) < inf):
        raise no_symmetry(name, symprec, backend, "no sites, no volume, or numbers that are not finite")
    try:
        if any_origin and backend == "spglib":  # moyopy is fast on cubic crystals too
            found = find_cubic(lattice, frac_coords, types, symprec, angle_tolerance)
            if found is not None:
                return found
        return BACKENDS[backend](lattice, frac_coords, types, symprec, angle_tolerance)
    except (ValueError, TypeError, spglib.SpglibError) as error:
        raise no_symmetry(name, symprec, backend, str(error)) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # a failure inside moyopy's Rust code, no Exception of Python's
            raise
        raise no_symmetry(name, symprec, backend, str(error)) from error


def _volume(a: list[float], b: list[float], c: list[float]) -> float:
    return a[0] * (b[1] * c[2] - b[2] * c[1]) + a[1] * (b[2] * c[0] - b[0] * c[2]) + a[2] * (b[0] * c[1] - b[1] * c[0])


def no_symmetry(name: str, symprec: float, backend: str, reason: str) -> SymmetryError:
    """Return the error for a search without a usable answer.

    Args:
        name: What the message calls the crystal.
        symprec: Distance tolerance of the search in Å.
        backend: The back-end that searched.
        reason: What it said.
    """
    return SymmetryError(
        f"{name}: {backend} finds no consistent space group at symprec {symprec} Å ({reason}); "
        "look for atoms that nearly coincide, or choose another tolerance."
    )
