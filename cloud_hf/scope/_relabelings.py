"""What the International Tables know about Wyckoff letters: multiplicities, free coordinates, relabellings.

Letters depend on the choice of origin and axes. Two descriptions of one crystal differ by an element of the
affine normaliser of its space group, which permutes the letters. The tables are facts taken from pymatgen
(`scripts/build_relabelings.py`); the lattice-dependent part for six triclinic and monoclinic groups is derived
here from the coordinates of the positions (International Tables, Vol. A).
"""

import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from cloud_hf.errors import CloudError

__all__ = ["LETTERS", "WyckoffTable", "generated_group", "lattice_relabelings", "relabelings", "wyckoff_table"]

LETTERS = "abcdefghijklmnopqrstuvwxyzA"
"""Wyckoff letters in their fixed order; space group 47 needs the 27th, an alpha in the International Tables."""

LATTICE_POINTS = {"P": 1, "A": 2, "B": 2, "C": 2, "I": 2, "R": 3, "F": 4}
"""Primitive cells per conventional cell, by the first letter of the Hermann-Mauguin symbol (R: hexagonal axes)."""


@dataclass(frozen=True, slots=True)
class WyckoffTable:
    """The Wyckoff positions of one space group, from `a` on.

    Attributes:
        symbol: Short Hermann-Mauguin symbol, e.g. `Fm-3m`.
        multiplicities: Atoms per conventional cell.
        free: Free coordinates, 0 to 3; a position without any can be filled only once.
        generators: Letter permutations that generate the lattice-independent relabellings.
    """

    symbol: str
    multiplicities: tuple[int, ...]
    free: tuple[int, ...]
    generators: tuple[str, ...]

    @property
    def letters(self) -> str:
        """The letters that the group has, e.g. `abcdefghi`."""
        return LETTERS[: len(self.multiplicities)]

    @property
    def lattice_points(self) -> int:
        """Primitive cells per conventional cell: 1, 2, 3 or 4."""
        return LATTICE_POINTS[self.symbol[0]]

    @property
    def words(self) -> tuple[str, ...]:
        """Multiplicity + letter of each position, e.g. `("4a", "4b", "8c")`."""
        return _words(self.multiplicities)


@cache
def _words(multiplicities: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(f"{n}{letter}" for n, letter in zip(multiplicities, LETTERS, strict=False))


@cache
def _tables() -> dict[int, WyckoffTable]:
    text = (files(__package__) / "wyckoff_relabelings.json").read_text(encoding="utf-8")
    return {
        int(number): WyckoffTable(
            row["symbol"], tuple(row["multiplicities"]), tuple(row["free"]), tuple(row["generators"])
        )
        for number, row in json.loads(text).items()
    }


def wyckoff_table(space_group: int) -> WyckoffTable:
    """Return the Wyckoff positions of a space group.

    Args:
        space_group: Number in the International Tables, 1 to 230.

    Raises:
        CloudError: The number is not in 1..230.
    """
    try:
        return _tables()[space_group]
    except KeyError:
        raise CloudError(f"There is no space group {space_group!r}: the number must be in 1..230.") from None


def generated_group(generators: Iterable[str], n_letters: int) -> set[str]:
    """Return every letter permutation that products of `generators` reach, the identity included.

    Args:
        generators: Permutations; the n-th character is the new name of the n-th letter.
        n_letters: How many letters the space group has.
    """
    letters = LETTERS[:n_letters]
    tables = [str.maketrans(letters, generator) for generator in generators]
    reached = {letters}
    waiting = [letters]
    while waiting:
        permutation = waiting.pop()
        for table in tables:
            product = permutation.translate(table)
            if product not in reached:
                reached.add(product)
                waiting.append(product)
    return reached


@lru_cache(maxsize=1024)
def relabelings(space_group: int, extra: tuple[str, ...] = ()) -> tuple[tuple[int, ...], ...]:
    """Return the relabellings of a space group as positions in `LETTERS`, identity first.

    Args:
        space_group: Number in the International Tables, 1 to 230.
        extra: Further permutations, from `lattice_relabelings`.
    """
    table = wyckoff_table(space_group)
    group = generated_group((*table.generators, *extra), len(table.letters))
    return tuple(tuple(map(LETTERS.index, permutation)) for permutation in sorted(group))


# Positions that a change of basis permutes, with half-integer coordinates in units of 1/2 (ITA Vol. A, unique
# axis b, cell choice 1). Lines along b stand for themselves with y = 0. Every other letter of the group stays.
_HALF_POINTS: dict[int, tuple[tuple[str, str], ...]] = {
    2: (("abcdefgh", "000 001 010 100 110 101 011 111"),),
    3: (("abcd", "000 001 100 101"),),
    10: (("abcdefgh", "000 010 001 100 110 011 101 111"), ("ijkl", "000 100 001 101")),
    11: (("abcd", "000 100 001 101"),),
    12: (("abcd", "000 010 001 011"),),
    14: (("abcd", "000 100 001 101"),),
}


def lattice_relabelings(space_group: int, lattice: NDArray[np.float64], tolerance: float) -> tuple[str, ...]:
    """Return the relabellings that a lattice of accidentally higher symmetry adds to those of the table.

    The table of a triclinic or monoclinic group holds what a shift of the origin does and takes the reduced
    cell for granted. Where two reduced cells are equally good (an ordered alloy on a cubic lattice, say), the
    choice between them is arbitrary and permutes letters too: space groups 2, 3, 10, 11, 12 and 14.

    Args:
        space_group: Number in the International Tables.
        lattice: Vectors of the standard cell as rows, shape (3, 3), Å.
        tolerance: Å; vectors whose lengths differ by less count as equally long.

    Returns:
        Sorted letter permutations without the identity; nothing for every other group and almost every lattice.
    """
    families = _HALF_POINTS.get(space_group)
    if families is None:
        return ()
    letters = wyckoff_table(space_group).letters
    relabelled = set()
    for basis in _equivalent_bases(lattice, tolerance, planar=space_group != 2):
        # C centring (a + b)/2 needs a' without c, modulo 2; the glide by c/2 needs c' without a
        if (space_group == 12 and basis[0, 2] % 2) or (space_group == 14 and basis[2, 0] % 2):
            continue
        to_new = np.rint(np.linalg.inv(basis)).astype(int)
        renamed = {}
        for names, text in families:
            points = [tuple(map(int, point)) for point in text.split()]
            name_of = dict(zip(points, names, strict=True))
            for point, name in zip(points, names, strict=True):
                image = np.array(point) @ to_new % 2
                if space_group == 12 and image[0]:
                    image = (image + np.array([1, 1, 0])) % 2
                renamed[name] = name_of[tuple(image.tolist())]
        relabelled.add("".join(renamed.get(letter, letter) for letter in letters))
    return tuple(sorted(relabelled - {letters}))


def _equivalent_bases(lattice: NDArray[np.float64], tolerance: float, planar: bool) -> list[NDArray[np.int64]]:
    """Return the changes of basis (new vectors as rows) that keep the metric; `planar` ones keep b."""
    metric = lattice @ lattice.T
    lengths = np.sqrt(np.diag(metric))
    vectors = _PLANAR_VECTORS if planar else _SPATIAL_VECTORS
    norms = np.sqrt(np.einsum("ni,ij,nj->n", vectors, metric, vectors))
    axes = (0, 2) if planar else (0, 1, 2)
    choices = [vectors[np.abs(norms - lengths[axis]) < tolerance] for axis in axes]
    if all(len(choice) == 2 for choice in choices):  # only the vector itself and its opposite
        return []
    slack = tolerance * (lengths[:, None] + lengths[None, :])
    bases = []
    for rows in itertools.product(*choices):
        basis = np.eye(3, dtype=np.int64)
        basis[list(axes)] = rows
        if abs(round(float(np.linalg.det(basis)))) == 1 and (np.abs(basis @ metric @ basis.T - metric) < slack).all():
            bases.append(basis)
    return bases


_PLANAR_VECTORS = np.array([(i, 0, k) for i, k in itertools.product(range(-2, 3), repeat=2) if i or k])
_SPATIAL_VECTORS = np.array([v for v in itertools.product((-1, 0, 1), repeat=3) if any(v)])
