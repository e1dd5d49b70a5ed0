"""The symmetry of undoubtedly cubic crystals, without a full search.

spglib spends 3 to 25 ms on a cubic crystal of few atoms, nearly all of it on comparing every image of a site with every
other to name its Wyckoff position; other crystals take 0.3 to 1 ms. Here the metric of the lattice and five rotations
tell the space group, and the site symmetry of each orbit its letter. Letters are taken over from spglib, from the first
crystal that has them, and remembered. Any doubt (a distance neither well inside nor well outside the tolerance, origins
off the usual fractions, other lattices) ends in `None`, and the search of the back-end decides.
"""

from functools import cache, lru_cache
from math import isfinite, sqrt
from typing import Any

import numpy as np
import spglib
from numpy.typing import NDArray

from cloud_hf.errors import SymmetryError
from cloud_hf.scope._relabelings import LATTICE_POINTS, wyckoff_table
from cloud_hf.scope.search_result import SymmetryResult

__all__ = ["find_cubic"]

_CENTRING = {
    "P": np.zeros((1, 3)),
    "I": np.array([[0, 0, 0], [0.5, 0.5, 0.5]]),
    "F": np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]),
}
_REDUCED_TO_AXES = {
    0.0: ("P", np.eye(3)),
    0.5: ("F", np.ones((3, 3)) - 2 * np.eye(3)),
    -1 / 3: ("I", np.ones((3, 3)) - np.eye(3)),
}
"""Cosine between the vectors of a Niggli cell → centring, cubic axes (rows) as sums of these vectors."""

_ROTATIONS = np.array(
    [
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],  # identity
        [[0, 0, 1], [1, 0, 0], [0, 1, 0]],  # threefold along the diagonal
        [[-1, 0, 0], [0, -1, 0], [0, 0, 1]],  # twofold along z; these generate 23, which every cubic group holds
        [[-1, 0, 0], [0, -1, 0], [0, 0, -1]],  # inversion: m-3
        [[0, 1, 0], [1, 0, 0], [0, 0, 1]],  # mirror between x and y: -43m
        [[0, -1, 0], [1, 0, 0], [0, 0, 1]],  # fourfold along z: 432; two of these three make m-3m
    ]
)
_TURN = _ROTATIONS[5]
"""Some groups of class m-3 have two orientations, which a quarter turn exchanges."""

_WELL_INSIDE, _WELL_OUTSIDE = 0.1, 5.0
"""Times the tolerance: smaller deviations are rounding, larger ones no symmetry."""
_APART = 0.2
"""Å; closer sites, as partial occupancies allow, are left to the back-end."""
_COMPARISONS = 300_000
"""Pairs of sites that take about as long as the search of the back-end."""


def find_cubic(
    lattice: NDArray[np.float64],
    frac_coords: NDArray[np.float64],
    types: NDArray[np.intc],
    symprec: float,
    angle_tolerance: float,
) -> SymmetryResult | None:
    """Return the symmetry of a crystal that is cubic beyond doubt, `None` for every other.

    Args:
        lattice: Lattice vectors as rows, shape (3, 3), Å.
        frac_coords: Fractional coordinates, shape (n, 3).
        types: Positive number of what sits on each site, shape (n,).
        symprec: Distance tolerance in Å.
        angle_tolerance: Angle tolerance in degrees.

    Returns:
        The space group that spglib and moyopy find at these tolerances; letters for one of the equivalent origins.
    """
    if not (1e-4 <= symprec <= 0.05 and angle_tolerance >= 0.1 and len(types)):
        return None
    axes = _cubic_axes(lattice, symprec)
    if axes is None or not np.isfinite(frac_coords).all():
        return None
    centring, basis, edge = axes
    kinds = types.tolist()
    rarest = min(sorted(set(kinds)), key=kinds.count)
    rare = (types == rarest).nonzero()[0]
    n_sites = len(types)
    if 6 * len(rare) * n_sites**2 * len(_CENTRING[centring]) > _COMPARISONS:
        return None
    coords = (frac_coords - frac_coords[rare[0]]) @ np.linalg.inv(basis)
    operations = _operations(coords, types, rare, _CENTRING[centring], symprec / edge, _APART / edge)
    if operations is None:
        return None
    shifts, present, neighbours = operations
    n_standard = n_sites * len(_CENTRING[centring])
    if len(shifts) > 1:
        centring = {2: "I", 4: "F"}.get(len(shifts), "") if centring == "P" else ""
        if not (centring and _same_points(shifts, _CENTRING[centring], symprec / edge)):
            return None
    eighths = {rotation: np.rint(shift * 8) for rotation, shift in present.items()}
    if any(np.abs(present[r] - eighths[r] / 8).max() > _WELL_INSIDE * symprec / edge for r in present):
        return None
    setting = _setting(centring, tuple((r, *map(int, (shift % 8).tolist())) for r, shift in eighths.items()))
    if setting is None:
        return None
    number, turn, origin = setting
    orbits = _orbits(neighbours, n_sites)
    first = sorted(set(orbits))
    points = coords[first] @ turn.T - origin
    keys = _site_keys(points, number, 0.5 * _APART / edge)
    if any(key not in _letters for key in keys):
        _learn(lattice, frac_coords, types, symprec, angle_tolerance, number, edge)
    if any(key not in _letters for key in keys):
        return None
    letters = dict(zip(first, [_letters[key] for key in keys], strict=True))
    return SymmetryResult(
        space_group=number,
        space_group_symbol=wyckoff_table(number).symbol,
        letters=[letters[orbit] for orbit in orbits],
        orbits=orbits,
        std_lattice=edge * np.eye(3),
        n_standard_sites=n_standard,
    )


def _cubic_axes(lattice: NDArray[np.float64], symprec: float) -> tuple[str, NDArray[np.float64], float] | None:
    """Return centring, right-handed cubic axes in terms of the lattice vectors (rows), and their length in Å."""
    if not isfinite(np.abs(lattice).max()):
        return None
    reduced = lattice
    (aa, ab, ac), (_, bb, bc), (_, _, cc) = (reduced @ reduced.T).tolist()
    if not aa > 0 or max(abs(bb - aa), abs(cc - aa)) > 1e-3 * aa:
        return None  # databases describe cubic crystals by vectors of one length; for others a reduction is too dear
    if max(abs(ab - ac), abs(ab - bc)) > 1e-3 * aa:
        niggli = spglib.niggli_reduce(lattice)
        if niggli is None:
            return None
        reduced = niggli
        (aa, ab, ac), (_, bb, bc), (_, _, cc) = (reduced @ reduced.T).tolist()
        if max(abs(bb - aa), abs(cc - aa), abs(ab - ac), abs(ab - bc)) > 1e-3 * aa:
            return None
    for cosine, (centring, sums) in _REDUCED_TO_AXES.items():
        if abs(ab / aa - cosine) < 1e-3:
            axes = sums @ reduced
            square = axes @ axes.T
            edge = sqrt(np.trace(square) / 3)
            if np.abs(square - edge**2 * np.eye(3)).max() > _WELL_INSIDE * symprec * edge:
                return None
            basis = np.rint(axes @ np.linalg.inv(lattice))
            if np.abs(basis @ lattice - axes).max() > _WELL_INSIDE * symprec:
                return None
            return centring, (basis if np.linalg.det(axes) > 0 else -basis), edge
    return None


_Operations = tuple[NDArray[np.float64], dict[int, NDArray[np.float64]], list[NDArray[np.intp]]]


def _operations(
    coords: NDArray[np.float64],
    types: NDArray[np.intc],
    rare: NDArray[np.intp],
    centring: NDArray[np.float64],
    tolerance: float,
    apart: float,
) -> _Operations | None:
    """Find the translation that goes with each rotation, lengths in units of the cubic axes.

    Returns:
        Pure translations, zero first; the translation of each rotation (its place in `_ROTATIONS`) that is a symmetry;
        permutations of the sites under all of them. `None` in case of doubt, or if the rotations make no cubic group.
    """
    n_sites = len(types)
    targets = (coords + centring[:, None]).reshape(-1, 3)
    other = np.tile(types, len(centring)) != types[:, None]
    shifts = coords[rare]
    images = coords @ _ROTATIONS.transpose(0, 2, 1)
    steps = (images[:, None] + shifts[:, None])[:, :, :, None] - targets
    steps -= np.rint(steps)
    squares = np.einsum("rkijx,rkijx->rkij", steps, steps)
    pairs = squares[0, 0].copy()
    np.fill_diagonal(pairs, 1.0)
    if pairs.min() < max(apart, 2 * _WELL_OUTSIDE * tolerance) ** 2:
        return None
    squares += other
    worst = np.sqrt(squares.min(axis=3).max(axis=2))
    good = worst < _WELL_INSIDE * tolerance
    if ((worst <= _WELL_OUTSIDE * tolerance) & ~good).any():
        return None
    held = good.any(axis=1).tolist()
    if not (held[1] and held[2]) or sum(held[3:]) == 2:
        return None
    chosen = good.argmax(axis=1)
    present = {r: shifts[chosen[r]] for r in range(1, 6) if held[r]}
    maps = [(r, int(chosen[r])) for r in present] + [(0, int(k)) for k in good[0].nonzero()[0][1:]]
    return shifts[good[0]], present, [squares[r, k].argmin(axis=1) % n_sites for r, k in maps]


def _same_points(points: NDArray[np.float64], others: NDArray[np.float64], tolerance: float) -> bool:
    steps = points[:, None] - others
    steps -= np.rint(steps)
    return bool((np.abs(steps).max(axis=2).min(axis=0) < _WELL_INSIDE * tolerance).all())


def _orbits(maps: list[NDArray[np.intp]], n_sites: int) -> list[int]:
    """Return the first site of the orbit of each site."""
    orbits = np.arange(n_sites)
    while True:
        lower = orbits
        for image in maps:
            lower = np.minimum(lower, lower[image])
        if (lower == orbits).all():
            return lower.tolist()
        orbits = lower


# ------------------------------------------------------------------------------------------------ standard settings


@cache
def _standard_halls() -> dict[int, int]:
    """Return the Hall number that the search takes for each cubic space group, the smallest one."""
    halls: dict[int, int] = {}
    for hall in range(530, 488, -1):
        kind = spglib.get_spacegroup_type(hall)
        if kind is not None:
            halls[int(kind.number)] = hall
    return halls


@cache
def _standard_operations(number: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return rotations (m, 3, 3) and translations (m, 3) of the standard setting, centring included."""
    database = spglib.get_symmetry_from_database(_standard_halls()[number])
    if database is None:
        raise SymmetryError(f"spglib knows no operations of space group {number}.")
    return database["rotations"].astype(float), np.asarray(database["translations"], dtype=float)


@lru_cache(maxsize=4096)
def _setting(
    centring: str, operations: tuple[tuple[int, int, int, int], ...]
) -> tuple[int, NDArray[np.int64], NDArray[np.float64]] | None:
    """Find the space group, and the turn and origin that lead to its standard setting.

    Args:
        centring: P, I or F.
        operations: Place in `_ROTATIONS` and translation in eighths of the cubic axes of each operation found.
    """
    order = {2: 12, 3: 24, 5: 48}[len(operations)]
    grid = np.stack(np.meshgrid(*[np.arange(16)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)  # origins, in sixteenths
    for number in _standard_halls():
        if wyckoff_table(number).symbol[0] != centring:
            continue
        rotations, translations = _standard_operations(number)
        if len(rotations) != order * LATTICE_POINTS[centring]:
            continue
        for turn in (_ROTATIONS[0], _TURN):
            keeps = np.ones(len(grid), dtype=bool)
            for place, *eighths in operations:
                rotation = turn @ _ROTATIONS[place] @ turn.T
                same = (rotations == rotation).all(axis=(1, 2))
                wanted = np.rint(16 * translations[same]).astype(int)
                moved = 2 * turn @ eighths + grid @ (rotation - np.eye(3, dtype=int)).T
                keeps &= ((moved[:, None] - wanted) % 16 == 0).all(axis=2).any(axis=1)
            if keeps.any():
                return number, turn, grid[keeps.argmax()] / 16
    return None


# ------------------------------------------------------------------------------------------------ letters

SiteKey = tuple[int, bytes, bytes]
_letters: dict[SiteKey, str] = {}
"""Wyckoff letter of the positions met so far. The site symmetry, as operations about a point, determines it."""


def _site_keys(points: NDArray[np.float64], number: int, tolerance: float) -> list[SiteKey]:
    """Describe points of a standard setting by the operations that keep them, lattice translations included."""
    rotations, translations = _standard_operations(number)
    points = points - np.floor(points + 1e-3)
    steps = points @ rotations.transpose(0, 2, 1) + translations[:, None] - points  # (operations, points, 3)
    whole = np.rint(steps)
    keeps = (np.abs(steps - whole).max(axis=2) < tolerance).T
    lattice_steps = whole.astype(np.int8).transpose(1, 0, 2)
    return [(number, keep.tobytes(), step[keep].tobytes()) for keep, step in zip(keeps, lattice_steps, strict=True)]


def _learn(
    lattice: NDArray[np.float64],
    frac_coords: NDArray[np.float64],
    types: NDArray[np.intc],
    symprec: float,
    angle_tolerance: float,
    number: int,
    edge: float,
) -> None:
    """Take over the letters that spglib gives to this crystal's sites and to all their images."""
    cell: Any = (lattice, frac_coords, types)
    dataset = spglib.get_symmetry_dataset(cell, symprec, angle_tolerance)
    if dataset is None or dataset.number != number or dataset.hall_number != _standard_halls()[number]:
        return
    rotations, translations = _standard_operations(number)
    for site in np.unique(dataset.crystallographic_orbits).tolist():
        point = dataset.transformation_matrix @ frac_coords[site] + dataset.origin_shift
        images = rotations @ point + translations
        _letters.update(dict.fromkeys(_site_keys(images, number, 0.5 * _APART / edge), dataset.wyckoffs[site]))
