"""The symmetry search behind one interface: spglib, or moyopy where it is installed."""

import contextlib
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from math import inf, isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

os.environ.setdefault("SPGLIB_WARNING", "OFF")  # its C code prints to the terminal when it retries a tolerance
import spglib

from cloud_hf.errors import CloudError, SymmetryError, one_line
from cloud_hf.scope._relabelings import LETTERS, wyckoff_table
from cloud_hf.scope.cubic import find_cubic
from cloud_hf.scope.search_result import SymmetryResult

__all__ = ["BACKENDS", "SymmetryResult", "check_backend", "search_symmetry"]


Search = Callable[[NDArray[np.float64], NDArray[np.float64], NDArray[np.intc], float, float], SymmetryResult | None]


def _search_spglib(
    lattice: NDArray[np.float64],
    frac_coords: NDArray[np.float64],
    types: NDArray[np.intc],
    symprec: float,
    angle_tolerance: float,
) -> SymmetryResult | None:
    cell: Any = (lattice, frac_coords, types)
    dataset = spglib.get_symmetry_dataset(cell, symprec=symprec, angle_tolerance=angle_tolerance)
    if dataset is None:
        return None
    return SymmetryResult(
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
) -> SymmetryResult:
    # No angle tolerance: with 5 degrees moyopy 0.21 takes all memory and does not end on flat cells (mp-573608,
    # angles of 8 degrees). Without one it compares angles by the distances that they span, with symprec.
    del angle_tolerance
    moyopy, setting = _moyopy()
    cell = moyopy.Cell(lattice.tolist(), frac_coords.tolist(), types.tolist())
    dataset = moyopy.MoyoDataset(cell, symprec=symprec, setting=setting)
    standard = dataset.std_cell
    return SymmetryResult(
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
) -> SymmetryResult:
    """Search the symmetry of a cell; where the search fails on a valid crystal, others follow, and the note says so.

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
        SymmetryError: No search finds a space group, or sites lie within the tolerance of one another.
    """
    if backend != "spglib":
        check_backend(backend)
    # spglib ends the whole process on some of these and moyopy panics
    if not (len(types) and isfinite(np.abs(frac_coords).max()) and 0 < abs(_volume(*lattice.tolist())) < inf):
        raise SymmetryError(
            f"{backend} finds no consistent space group (no sites, no volume, or numbers that are not finite).",
            source=name,
        )
    if any_origin and backend == "spglib":  # moyopy is fast on cubic crystals too
        with contextlib.suppress(ValueError, TypeError, spglib.SpglibError):  # the search itself says what is wrong
            cubic = find_cubic(lattice, frac_coords, types, symprec, angle_tolerance)
            if cubic is not None:
                return cubic
    symmetry, reason = _attempt(backend, lattice, frac_coords, types, symprec, angle_tolerance, any_origin)
    if symmetry is not None:
        return symmetry
    _refuse_close_sites(lattice, frac_coords, symprec, name, backend, reason)
    reasons = [f"{backend}: {reason}"]
    for other, tolerance, note in _RETRIES:
        if (other, tolerance) == (backend, angle_tolerance) or not _is_installed(other):
            continue
        symmetry, reason = _attempt(other, lattice, frac_coords, types, symprec, tolerance, any_origin)
        if symmetry is not None:
            return replace(symmetry, note=f"symmetry by {note}, as {backend} found none with the settings given")
        reasons.append(f"{note}: {reason}")
    raise SymmetryError(
        f"{backend} finds no consistent space group at symprec {symprec} Å ({'; '.join(reasons)}); choose another "
        "`symprec`.",
        source=name,
        flag="symprec",
    )


_RETRIES = (
    ("spglib", -1.0, "spglib without an angle tolerance"),
    ("moyopy", -1.0, "moyopy"),
)
"""What is tried when a search fails: back-end, angle tolerance, name. Without an angle tolerance spglib uses distances
only, which helps where the two tolerances disagree."""


def _is_installed(backend: str) -> bool:
    try:
        check_backend(backend)
    except CloudError:
        return False
    return True


def _attempt(
    backend: str,
    lattice: NDArray[np.float64],
    frac_coords: NDArray[np.float64],
    types: NDArray[np.intc],
    symprec: float,
    angle_tolerance: float,
    is_checked: bool,
) -> tuple[SymmetryResult | None, str]:
    """Return what a search finds, or why there is nothing that can be used."""
    try:
        symmetry = BACKENDS[backend](lattice, frac_coords, types, symprec, angle_tolerance)
    except (ValueError, TypeError, spglib.SpglibError) as error:
        return None, one_line(error, None)
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # a failure inside moyopy's Rust code, no Exception of Python's
            raise
        return None, one_line(error, None)
    if symmetry is None:
        return None, "no reason given"
    reason = contradiction(symmetry) if is_checked else ""
    return (None, reason) if reason else (symmetry, "")


def contradiction(symmetry: SymmetryResult) -> str:
    """Return what speaks against the orbits of a search: their sites must be those of the conventional cell."""
    multiplicities = wyckoff_table(symmetry.space_group).multiplicities
    letters = dict(zip(symmetry.orbits, symmetry.letters, strict=True))
    n_conventional = sum([multiplicities[LETTERS.index(letter)] for letter in letters.values()])
    if n_conventional == symmetry.n_standard_sites:
        return ""
    return f"orbits of {n_conventional} sites in a conventional cell of {symmetry.n_standard_sites}"


def _refuse_close_sites(
    lattice: NDArray[np.float64],
    frac_coords: NDArray[np.float64],
    symprec: float,
    name: str,
    backend: str,
    reason: str,
) -> None:
    """Sites within the tolerance of one another have no symmetry; other crystals have one, however it is found."""
    limit = max(2 * symprec, _COINCIDING)
    structure = Structure(lattice, ["H"] * len(frac_coords), frac_coords)
    distances = structure.distance_matrix  # a neighbour list of so short a range fills the memory in a large cell
    np.fill_diagonal(distances, np.inf)
    first, second = np.unravel_index(np.argmin(distances), distances.shape)
    if distances[first, second] <= limit:
        raise SymmetryError(
            f"{backend} finds no consistent space group at symprec {symprec} Å ({reason}): sites {first} "
            f"and {second} are {distances[first, second]:.3g} Å apart; remove one of them, or lower `symprec`.",
            source=name,
            flag="symprec",
        )


_COINCIDING = 0.05
"""Å; sites nearer than this are one atom, given twice, or parts of a disordered one."""


def _volume(a: list[float], b: list[float], c: list[float]) -> float:
    return a[0] * (b[1] * c[2] - b[2] * c[1]) + a[1] * (b[2] * c[0] - b[0] * c[2]) + a[2] * (b[0] * c[1] - b[1] * c[0])
