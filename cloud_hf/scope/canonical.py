"""The canonical form of a crystal's occupied orbits: one list, however the crystal is described.

One symmetry search gives the space group and the Wyckoff letters; the relabelling tables of the space group do
the rest, jointly with the assignment of elements. **The order**: an orbit is the pair (place of its element in
`ELEMENT_ORDER`, place of its letter in `LETTERS`); a list of orbits is sorted by these pairs; of all relabelled
and sorted lists the lexicographically smallest is canonical. Enantiomorphic space groups stay apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from cloud_hf.crystals.cell import Cell
from cloud_hf.errors import DisorderedStructureError, ScopeError, UnknownElementError
from cloud_hf.scope._relabelings import LETTERS, lattice_relabelings, relabelings, wyckoff_table
from cloud_hf.scope.backends import search_symmetry

if TYPE_CHECKING:
    from pymatgen.core import Structure

__all__ = [
    "ELEMENT_ORDER",
    "ELEMENT_RANK",
    "KindOrbits",
    "SymmetryOrbits",
    "canonical_orbits",
    "find_kind_orbits",
    "find_orbits",
]

_BY_ELECTRONEGATIVITY = (
    "Fr Cs K Rb Ba Ra Na Sr Li Ca La Tb Yb Ac Ce Pr Pm Nd Sm Eu Gd Y Dy Ho Er Tm Lu Pu Hf Th Am Cm Bk Cf Es Fm "
    "Md No Lr Mg Zr Sc Np U Ta Pa Ti Mn Be Nb Al Tl V Zn Cr Cd In Ga Fe Co Si Cu Tc Re Ni Ag Sn Hg Po Ge Bi B "
    "Sb Te Mo As P H Ru Pd Os Ir At Rn Rh Pt Pb W Au C Se S Xe I Br Kr N Cl O F He Ne Ar Rf Db Sg Bh Hs Mt Ds "
    "Rg Cn Nh Fl Mc Lv Ts Og"
)
ELEMENT_ORDER = tuple(_BY_ELECTRONEGATIVITY.split())
"""The 118 elements by rising Pauling electronegativity (pymatgen 2026.10), equal ones and those without a value by
atomic number. 98 % of the paper's published strings list their elements in this order. Frozen: strings depend on it."""

ELEMENT_RANK = {element: rank for rank, element in enumerate(ELEMENT_ORDER)}
"""Place of each element in `ELEMENT_ORDER`."""

Orbit = tuple[str, str]
CellArrays = tuple[ArrayLike, ArrayLike, ArrayLike]
"""Lattice vectors as rows (3, 3) in Å, atomic numbers (n,), fractional coordinates (n, 3)."""


@dataclass(frozen=True, slots=True)
class KindOrbits:
    """Canonical orbits of a crystal whose sites are of any kinds, mixtures included.

    Attributes:
        space_group: Number in the International Tables, 1 to 230.
        space_group_symbol: Short Hermann-Mauguin symbol.
        orbits: (kind, Wyckoff word) of every orbit, in canonical order; repeats kept.
        n_primitive: Sites per primitive cell.
        n_conventional: Sites per conventional cell.
        note: How the symmetry was found, where the search that was asked for failed; else empty.
    """

    space_group: int
    space_group_symbol: str
    orbits: tuple[tuple[int, str], ...]
    n_primitive: int
    n_conventional: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class SymmetryOrbits:
    """Canonical orbits of an ordered crystal.

    Attributes:
        space_group: Number in the International Tables, 1 to 230.
        space_group_symbol: Short Hermann-Mauguin symbol, e.g. `Fm-3m`.
        orbits: (element, Wyckoff word) of every orbit, e.g. `(("Na", "4a"), ("Cl", "4b"))`; repeats kept.
        n_primitive: Atoms per primitive cell.
        n_conventional: Atoms per conventional cell.
    """

    space_group: int
    space_group_symbol: str
    orbits: tuple[Orbit, ...]
    n_primitive: int
    n_conventional: int

    @property
    def reduced_composition(self) -> dict[str, int]:
        """Atoms of each element per reduced formula unit, in `ELEMENT_ORDER`."""
        amounts: dict[str, int] = {}
        for element, word in self.orbits:
            amounts[element] = amounts.get(element, 0) + int(word[:-1])
        divisor = gcd(*amounts.values())
        return {element: amount // divisor for element, amount in amounts.items()}


def canonical_orbits(space_group: int, orbits: Sequence[Orbit]) -> tuple[Orbit, ...]:
    """Return the canonical one of all equivalent lists of orbits: letters relabelled, orbits sorted.

    A pure function of the letters. It undoes what the choice of the origin does to them; the choice between
    equally good reduced cells (see `lattice_relabelings`) cannot be seen without the lattice.

    Args:
        space_group: Number in the International Tables, 1 to 230.
        orbits: (element, multiplicity in the conventional cell + Wyckoff letter) per orbit, e.g. `("Na", "4a")`.

    Returns:
        The orbits in canonical letters and order; repeats kept.

    Raises:
        CloudError: There is no such space group.
        UnknownElementError: A symbol that is not an element.
        ScopeError: A Wyckoff word that the space group does not have.
    """
    words = wyckoff_table(space_group).words
    pairs = []
    for element, word in orbits:
        if element not in ELEMENT_RANK:
            raise UnknownElementError(f"{element!r} is not the symbol of a chemical element.")
        if word not in words:
            raise ScopeError(
                f"Space group {space_group} has no Wyckoff position {word!r}; it has {', '.join(reversed(words))}."
            )
        pairs.append((ELEMENT_RANK[element], words.index(word)))
    return tuple((ELEMENT_ORDER[kind], words[letter]) for kind, letter in _smallest(pairs, relabelings(space_group)))


def _smallest(pairs: Sequence[tuple[int, int]], permutations: Sequence[tuple[int, ...]]) -> list[tuple[int, int]]:
    """Return the smallest sorted list of (kind, letter) pairs over all permutations of the letters."""
    # letters that no permutation moves add the same pairs to every candidate, which does not change the comparison
    moved = [pair for pair in pairs if any(permutation[pair[1]] != pair[1] for permutation in permutations)]
    best, chosen = sorted(moved), permutations[0]  # the first one is the identity
    for permutation in permutations[1:] if moved else ():
        candidate = sorted([(kind, permutation[letter]) for kind, letter in moved])
        if candidate < best:
            best, chosen = candidate, permutation
    return sorted([(kind, chosen[letter]) for kind, letter in pairs])


def find_orbits(
    crystal: "Cell | Structure | CellArrays",
    symprec: float = 0.01,
    angle_tolerance: float = 5.0,
    name: str | None = None,
    backend: str = "spglib",
) -> SymmetryOrbits:
    """Search the symmetry of an ordered crystal and return its canonical orbits.

    Args:
        crystal: A `Cell`, a pymatgen `Structure`, or lattice (rows, Å), atomic numbers, fractional coordinates.
        symprec: Distance tolerance in Å.
        angle_tolerance: Angle tolerance in degrees; moyopy goes by distances alone and does not use it.
        name: What an error message calls the crystal; a `Cell` knows its name.
        backend: `"spglib"` or `"moyopy"`, see `cloud_hf.scope.backends`.

    Returns:
        Space group and canonical orbits, the same for every description of the crystal.

    Raises:
        CloudError: The back-end is unknown or not installed.
        DisorderedStructureError: A site is partially occupied or mixed.
        UnknownElementError: A site holds no element.
        SymmetryError: The search finds no space group, or its orbits contradict the space group.
    """
    name = name or getattr(crystal, "name", None) or "structure"
    if isinstance(crystal, tuple):
        lattice, numbers, frac_coords = crystal
        elements = [_SYMBOLS.get(int(number), str(number)) for number in np.asarray(numbers)]
    else:
        if not crystal.is_ordered:
            raise DisorderedStructureError(
                "partially occupied sites have no element to name; use grammar='composition', or order "
                "the crystal first (pymatgen's OrderDisorderedStructureTransformation).",
                source=name,
            )
        frac_coords = crystal.frac_coords
        if isinstance(crystal, Cell):
            lattice = crystal.lattice
            elements = [content[0][0] for content in crystal.contents]
        else:
            lattice = crystal.lattice.matrix
            elements = [getattr(site.specie, "symbol", str(site.specie)) for site in crystal]
    try:
        kinds = [ELEMENT_RANK[element] for element in elements]
    except KeyError as error:
        raise UnknownElementError(f"{error.args[0]} is not a chemical element.", source=name) from None
    symmetry = find_kind_orbits(lattice, kinds, frac_coords, symprec, angle_tolerance, name, backend)
    return SymmetryOrbits(
        space_group=symmetry.space_group,
        space_group_symbol=symmetry.space_group_symbol,
        orbits=tuple((ELEMENT_ORDER[kind], word) for kind, word in symmetry.orbits),
        n_primitive=symmetry.n_primitive,
        n_conventional=symmetry.n_conventional,
    )


def find_kind_orbits(
    lattice: ArrayLike,
    kinds: Sequence[int],
    frac_coords: ArrayLike,
    symprec: float = 0.01,
    angle_tolerance: float = 5.0,
    name: str = "structure",
    backend: str = "spglib",
) -> KindOrbits:
    """Search the symmetry of a crystal whose sites are of numbered kinds; the smaller number comes first.

    Args:
        lattice: Lattice vectors as rows, shape (3, 3), Å.
        kinds: What sits on each site, shape (n,): the same number for the same kind, e.g. of a mixture. The
            numbers fix the canonical order, so they must not depend on the description of the crystal.
        frac_coords: Fractional coordinates, shape (n, 3).
        symprec: Distance tolerance in Å.
        angle_tolerance: Angle tolerance in degrees; moyopy goes by distances alone and does not use it.
        name: What an error message calls the crystal.
        backend: `"spglib"` or `"moyopy"`. Near the tolerance they disagree, so one data set needs one back-end.

    Raises:
        CloudError: The back-end is unknown or not installed.
        SymmetryError: The search finds no space group, or its orbits contradict the space group.
    """
    coords = np.asarray(frac_coords, dtype=float)
    types = np.asarray(kinds, dtype=np.intc)
    coords = coords - np.floor(coords + 1e-6)
    # near the tolerance the answer depends on the order of the sites; rounding keeps noise out of the order
    x, y, z = np.rint(coords * 1e4).T
    order = np.lexsort((z, y, x, types))
    coords, types = coords[order], types[order]
    symmetry = search_symmetry(
        np.asarray(lattice, dtype=float), coords, types + 1, symprec, angle_tolerance, name, backend, any_origin=True
    )
    table = wyckoff_table(symmetry.space_group)
    # the first site of each orbit stands for all of them
    first_site = {orbit: site for site, orbit in reversed(list(enumerate(symmetry.orbits)))}
    letters = symmetry.letters
    pairs = [(int(types[site]), LETTERS.index(letters[site])) for site in first_site.values()]
    n_conventional = symmetry.n_standard_sites
    extra = lattice_relabelings(symmetry.space_group, symmetry.std_lattice, symprec)
    words = table.words
    return KindOrbits(
        space_group=symmetry.space_group,
        space_group_symbol=symmetry.space_group_symbol,
        orbits=tuple(
            (kind, words[letter]) for kind, letter in _smallest(pairs, relabelings(symmetry.space_group, extra))
        ),
        n_primitive=n_conventional // table.lattice_points,
        n_conventional=n_conventional,
        note=symmetry.note,
    )


_BY_NUMBER = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr "
    "Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir "
    "Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl "
    "Mc Lv Ts Og"
)
_SYMBOLS = dict(enumerate(_BY_NUMBER.split(), start=1))
