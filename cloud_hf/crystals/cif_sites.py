"""Symmetry-made sites of a CIF: images under the operations, atoms put on the special positions that are meant."""

from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["SAME_SITE", "Operations", "Sites", "distinct_sites", "same_sites"]

Operations: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Rotations (m, 3, 3) and translations (m, 3), in fractions of the lattice vectors."""
Sites: TypeAlias = tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]
"""Coordinates (n, 3), the atom that made each site (n,), and for each atom the first one on the same sites."""

SAME_SITE = 1e-4
"""Fractions of a lattice vector; points nearer than this in each of the three are one site, as in pymatgen's parser."""

_BASE = np.array([1.0, 1e5, 1e10])
"""Makes one number of three whole ones below 10,000."""
_PARTS = 2**16
"""Exact images of an atom coincide to rounding, or differ by more than one of these parts of a lattice vector."""
_SHIFT = np.array([0.1327391, 0.2714913, 0.4193877])
"""Keeps the bounds of these parts away from the fractions that coordinates have."""


def distinct_sites(
    coords: NDArray[np.float64], operations: Operations, tolerances: NDArray[np.float64], is_full: bool = False
) -> Sites | None:
    """Apply the operations and keep the first of all coinciding images.

    An atom that an operation moves by less than its tolerance is meant to lie on that symmetry element, and is put
    there first: the mean of such images, so that coordinates rounded to three digits make no second atom.

    Args:
        coords: Fractional coordinates of the atoms, shape (n, 3).
        operations: A group; the identity is among them.
        tolerances: Of each atom, shape (n,), fractions of a lattice vector.
        is_full: Whether all atoms are fully occupied, so that none shares its site with another.

    Returns:
        The sites; `None` where atoms lie so near to a special position that their images cannot be told apart, or
        where two atoms share some of their images only.
    """
    if len(operations[0]) == 1:
        images = _wrapped(coords)
        if is_full and len(set((np.rint(images * 1e4) @ _BASE).tolist())) == len(images):
            return images, np.arange(len(images)), np.arange(len(images))
        pairs = near_pairs(images)
        orbits = _leaders(len(images), pairs)
        chosen = np.flatnonzero(orbits == np.arange(len(images)))
        return images[chosen], chosen, orbits
    shared = _leaders(len(coords), near_pairs(_wrapped(coords)))  # atoms on one place move together
    placed = _on_special_positions(coords[shared], operations, tolerances[shared])
    if placed is None:
        return None
    images, n_distinct = placed
    n_atoms, n_operations = images.shape[:2]
    parts = (np.floor((images + _SHIFT) % 1.0 * _PARTS) % _PARTS).astype(np.int64) @ (2**32, 2**16, 1)
    keys = parts + 0
    first = np.zeros((n_atoms, n_operations), dtype=bool)
    order = np.argsort(keys, axis=1, kind="stable")
    ranked = np.take_along_axis(keys, order, axis=1)
    is_new = np.concatenate([np.ones((n_atoms, 1), dtype=bool), ranked[:, 1:] != ranked[:, :-1]], axis=1)
    np.put_along_axis(first, order, is_new, axis=1)
    if (first.sum(axis=1) != n_distinct).any():
        return None
    points = _wrapped(images[first])
    owners = np.repeat(np.arange(n_atoms), n_distinct)
    leaders = _leaders(len(points), near_pairs(points))
    is_own = leaders == np.arange(len(points))
    orbits = np.arange(n_atoms)
    if not is_own.all():
        starts = np.concatenate([[0], np.cumsum(n_distinct)])
        for atom in np.unique(owners[~is_own]).tolist():
            theirs = np.unique(owners[leaders[starts[atom] : starts[atom + 1]]])
            if len(theirs) != 1 or n_distinct[theirs[0]] != n_distinct[atom] or theirs[0] == atom:
                return None
            orbits[atom] = theirs[0]
    return points[is_own], owners[is_own], orbits


def _on_special_positions(
    coords: NDArray[np.float64], operations: Operations, tolerances: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]] | None:
    """Return all images of the placed atoms, shape (n, m, 3), and how many of them differ, shape (n,)."""
    rotations, translations = operations
    n_operations = len(rotations)

    def images_of(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return (points @ rotations.transpose(0, 2, 1) + translations[:, None]).transpose(1, 0, 2)

    images = images_of(coords)
    steps = images - coords[:, None]
    steps -= np.rint(steps)
    keeps = np.abs(steps).max(axis=2) <= tolerances[:, None]
    n_kept = keeps.sum(axis=1)
    if (n_operations % n_kept).any() or not n_kept.all():
        return None
    off = (keeps & (np.abs(steps).max(axis=2) > 1e-9)).any(axis=1)
    if off.any():
        coords = coords.copy()
        coords[off] += (steps[off] * keeps[off][..., None]).sum(axis=1) / n_kept[off][:, None]
        images[off] = images_of(coords[off])
    return images, n_operations // n_kept


def _wrapped(points: NDArray[np.float64]) -> NDArray[np.float64]:
    points = points - np.floor(points)
    points[points >= 1.0] = 0.0
    return points


def _leaders(n_points: int, pairs: NDArray[np.intp]) -> NDArray[np.intp]:
    leaders = np.arange(n_points)
    if len(pairs):
        np.minimum.at(leaders, pairs[:, 1], pairs[:, 0])
        leaders = leaders[leaders]
    return leaders


def near_pairs(points: NDArray[np.float64], limit: float = SAME_SITE) -> NDArray[np.intp]:
    """Return the pairs (i < j) of points in [0, 1) that coincide, shape (p, 2)."""
    if len(points) <= 40:
        pairs = _all_pairs(len(points))
        apart = points.take(pairs[0], 0)
        apart -= points.take(pairs[1], 0)
        apart -= np.rint(apart)
        near = np.abs(apart, out=apart).max(axis=1, initial=0.0) < limit
        return np.transpose(pairs)[near] if near.any() else np.empty((0, 2), dtype=np.intp)
    from scipy.spatial import cKDTree  # takes a second, which small cells need not wait for

    tree = cKDTree(points, boxsize=1.0)
    if len(points) > 5000 and tree.count_neighbors(tree, limit, p=np.inf) > 20 * len(points):
        # a heap of atoms on one spot: the list of its pairs would fill the memory, and one of them tells enough
        return np.array([sorted(tree.query(points, k=2, p=np.inf)[1][0])], dtype=np.intp)
    near_pairs: NDArray[np.intp] = tree.query_pairs(limit, p=np.inf, output_type="ndarray")
    return near_pairs


def same_sites(one: NDArray[np.float64], other: NDArray[np.float64], limit: float = 1e-3) -> NDArray[np.intp] | None:
    """Return for each point of `one` the point of `other` on it; `None` if they are not the same points.

    Args:
        one: Fractional coordinates, shape (n, 3).
        other: Fractional coordinates, shape (n, 3).
        limit: Fractions of a lattice vector.
    """
    if len(one) != len(other):
        return None
    from scipy.spatial import cKDTree

    tree = cKDTree(_wrapped(other), boxsize=1.0)
    distances, nearest = tree.query(_wrapped(one), p=np.inf)
    if (distances > limit).any() or len(np.unique(nearest)) != len(one):
        return None
    return np.asarray(nearest)


@lru_cache(maxsize=64)
def _all_pairs(n_points: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return np.triu_indices(n_points, 1)
