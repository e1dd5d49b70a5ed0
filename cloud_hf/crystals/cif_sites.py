"""Symmetry-made sites of a CIF: images under the operations, coinciding ones merged as pymatgen's parser does."""

from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["Operations", "Sites", "distinct_sites", "symmetry_images"]

Operations: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Rotations (m, 3, 3) and translations (m, 3), in fractions of the lattice vectors."""
Sites: TypeAlias = tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]
"""Coordinates (n, 3), the atom that made each site (n,), and for each atom the first one on the same sites."""

_SAME, _DIFFERENT = 4e-5, 1.6e-4
"""Fractions of a lattice vector. pymatgen's limit is 1e-4; between these two its answer depends on the order."""


def symmetry_images(coords: NDArray[np.float64], operations: Operations) -> NDArray[np.float64]:
    """Return the images of all atoms in the cell, atom by atom, shape (atoms * operations, 3), in [0, 1)."""
    rotations, translations = operations
    if len(rotations) == 1:
        images = coords @ rotations[0].T + translations[0]
    else:
        images = (coords @ rotations.transpose(0, 2, 1) + translations[:, None]).transpose(1, 0, 2).reshape(-1, 3)
    images -= np.floor(images)
    images[images >= 1.0] = 0.0
    return images


def distinct_sites(coords: NDArray[np.float64], operations: Operations) -> Sites | None:
    """Apply the operations and keep the first of all coinciding images; `None` where that is not clear-cut."""
    images = symmetry_images(coords, operations)
    if len(operations[0]) == 1:  # the identity
        pairs = _near_pairs(images)
        if pairs is not None and not len(pairs):
            return images, np.arange(len(images)), np.arange(len(images))
    first = inverse = leader = np.arange(len(images))
    if len(operations[0]) > 1:  # most images coincide to rounding: merging those first leaves fewer to compare
        grid = np.rint(images * 2**20).astype(np.int64) % 2**20 @ (2**40, 2**20, 1)
        _, first, inverse = np.unique(grid, return_index=True, return_inverse=True)
        order = np.argsort(first)
        first, leader = first[order], np.arange(len(first))
        rank = np.empty_like(order)
        rank[order] = leader
        inverse = rank[inverse]
    pairs = _near_pairs(images[first])
    if pairs is None:
        return None
    if len(pairs):
        leader = leader.copy()
        np.minimum.at(leader, pairs[:, 1], pairs[:, 0])
    images_per_atom = len(operations[0])
    leaders = leader[inverse].reshape(len(coords), images_per_atom)
    owners = first[leaders] // images_per_atom
    orbits = owners[:, 0]
    if not (owners == owners[:, :1]).all():
        return None
    for atom in np.flatnonzero(orbits != np.arange(len(coords))).tolist():  # atoms that share their site
        if len(np.unique(leaders[atom])) != len(np.unique(leaders[orbits[atom]])):
            return None
    chosen = first[leader == np.arange(len(leader))]
    return images[chosen], chosen // images_per_atom, orbits


def _near_pairs(points: NDArray[np.float64]) -> NDArray[np.intp] | None:
    """Return the pairs (i < j) of points that coincide, shape (p, 2); `None` where some nearly do."""
    if len(points) <= 40:
        pairs = _all_pairs(len(points))
        apart = points.take(pairs[0], 0)
        apart -= points.take(pairs[1], 0)
        apart -= np.rint(apart)
        apart = np.abs(apart, out=apart).max(axis=1, initial=0.0)
        near = apart < _DIFFERENT
        if not near.any():
            return np.empty((0, 2), dtype=np.intp)
        return None if (apart[near] > _SAME).any() else np.transpose(pairs)[near]
    tree = cKDTree(points, boxsize=1.0)
    if len(points) > 5000 and tree.count_neighbors(tree, _DIFFERENT, p=np.inf) > 20 * len(points):
        return None  # a heap of atoms on one spot; the list of its pairs would fill the memory
    found = tree.query_pairs(_DIFFERENT, p=np.inf, output_type="ndarray")
    apart = np.abs(points[found[:, 0]] - points[found[:, 1]])
    return None if (np.minimum(apart, 1.0 - apart) > _SAME).any() else found


@lru_cache(maxsize=64)
def _all_pairs(n_points: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return np.triu_indices(n_points, 1)
