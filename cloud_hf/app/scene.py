"""What is drawn of a crystal: the edges of its cell, the atoms in it and on its faces, and the bonds between them."""

from dataclasses import dataclass
from functools import cache
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cloud_hf.crystals.cell import Cell

__all__ = ["Scene", "scene_of"]

ON_FACE = 0.01
"""Fractional coordinate; atoms this close to a face of the cell are drawn on both sides of it."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A drawn cell.

    Attributes:
        lattice: Lattice vectors as rows, shape (3, 3), Å.
        fractions: Fractional coordinates of the drawn atoms, shape (n, 3).
        symbols: Element of each; of a shared site the one with the largest share.
        labels: Contents of each, with their shares if there are several.
        bonds: Pairs of atoms that are bonded, shape (m, 2).
    """

    lattice: NDArray[np.float64]
    fractions: NDArray[np.float64]
    symbols: tuple[str, ...]
    labels: tuple[str, ...]
    bonds: NDArray[np.int64]

    @property
    def positions(self) -> NDArray[np.float64]:
        """Of the drawn atoms, Å, shape (n, 3)."""
        return self.fractions @ self.lattice

    @property
    def edges(self) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """The two ends of each of the twelve edges of the cell, Å."""
        corners = [np.array(corner, dtype=float) for corner in product((0, 1), repeat=3)]
        pairs = combinations(corners, 2)
        return [(one @ self.lattice, other @ self.lattice) for one, other in pairs if np.abs(one - other).sum() == 1]


def scene_of(cell: Cell) -> Scene:
    """Return what is drawn of a cell; bonds are those that VESTA draws by default, as pymatgen lists them."""
    fractions: list[NDArray[np.float64]] = []
    symbols: list[str] = []
    labels: list[str] = []
    for site, content in zip(cell.frac_coords, cell.contents, strict=True):
        inside = site - np.floor(site + ON_FACE / 2)
        sides = [(0.0, 1.0) if abs(x) < ON_FACE else (0.0,) for x in inside]
        symbol = max(content, key=lambda part: part[1])[0]
        label = symbol if content[0][1] > 0.999 else ", ".join(f"{element} {share:.2f}" for element, share in content)
        for shift in product(*sides):
            fractions.append(inside + shift)
            symbols.append(symbol)
            labels.append(label)
    table = np.array(fractions)
    bonds = _bonds(table @ cell.lattice, symbols)
    return Scene(cell.lattice, table, tuple(symbols), tuple(labels), bonds)


def _bonds(positions: NDArray[np.float64], symbols: list[str]) -> NDArray[np.int64]:
    longest = _longest_bonds()
    pairs = cKDTree(positions).query_pairs(max(longest.values()), output_type="ndarray")
    kept = [
        (i, j)
        for i, j in pairs
        if np.linalg.norm(positions[i] - positions[j]) < longest.get(frozenset((symbols[i], symbols[j])), 0.0)
    ]
    return np.array(kept, dtype=np.int64).reshape(-1, 2)


@cache
def _longest_bonds() -> dict[frozenset[str], float]:
    """The longest bond in Å between two elements; pairs that VESTA leaves without bonds are missing."""
    from pymatgen.analysis.local_env import CutOffDictNN  # half a second, only to draw

    return {
        frozenset(pair): float(length) for pair, length in CutOffDictNN.from_preset("vesta_2019").cut_off_dict.items()
    }
