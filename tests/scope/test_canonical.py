"""One crystal, one list of orbits: properties of the canonical form, on the examples and on a sample of the data."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import spglib
from pymatgen.core import Lattice, Structure

from cloud_hf.errors import DisorderedStructureError, ScopeError, SymmetryError, UnknownElementError
from cloud_hf.scope._relabelings import LETTERS, generated_group, lattice_relabelings, relabelings, wyckoff_table
from cloud_hf.scope.canonical import ELEMENT_ORDER, ELEMENT_RANK, canonical_orbits, find_orbits
from example_files import EACH_EXAMPLE

pytestmark = [
    pytest.mark.filterwarnings("ignore:Site labels are not unique"),
    pytest.mark.filterwarnings("ignore:Issues encountered while parsing CIF"),
    pytest.mark.filterwarnings("ignore:gcd is deprecated:FutureWarning"),
]

SHARED = Path(os.environ.get("CLOUD_SHARED", "../shared")) / "data"
N_SAMPLE = 60


@cache
def example(path: Path) -> Structure:
    return Structure.from_file(path)


@cache
def sample() -> list[tuple[str, Structure]]:
    table = SHARED / "jarvis.parquet"
    if not table.is_file():
        pytest.skip(f"{table} is not there; set CLOUD_SHARED to the shared folder")
    import pandas as pd

    rows = pd.read_parquet(table, columns=["id", "nsites", "lattice", "numbers", "frac_coords"])
    rows = rows[rows.nsites <= 24].sample(N_SAMPLE, random_state=0)
    return [
        (row.id, Structure(np.reshape(row.lattice, (3, 3)), row.numbers, np.reshape(row.frac_coords, (-1, 3))))
        for row in rows.itertuples()
    ]


def standard_cell(structure: Structure, primitive: bool, idealize: bool = True) -> Structure:
    cell = (structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers)
    lattice, coords, numbers = spglib.standardize_cell(
        cell, to_primitive=primitive, no_idealize=not idealize, symprec=0.01, angle_tolerance=5
    )
    return Structure(lattice, numbers, coords)


def rebased(structure: Structure, basis: np.ndarray) -> Structure:
    coords = structure.frac_coords @ np.linalg.inv(basis)
    return Structure(basis @ structure.lattice.matrix, structure.species, coords % 1)


def shuffled(structure: Structure, rng: np.random.Generator) -> Structure:
    return Structure.from_sites([structure[i] for i in rng.permutation(len(structure))])


def redescriptions(structure: Structure, seed: int = 0) -> dict[str, Structure]:
    """The same crystal in other words."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    rotation *= np.sign(np.linalg.det(rotation))
    shear = np.array([[1, 1, 0], [0, 1, 0], [-1, 0, 1]])
    moved = Structure(structure.lattice, structure.species, structure.frac_coords + rng.random(3))
    turned = Structure(Lattice(structure.lattice.matrix @ rotation.T), structure.species, structure.frac_coords)
    return {
        "atom order": shuffled(structure, rng),
        "origin": moved,
        "rotation": turned,
        "unimodular cell": rebased(structure, shear),
        "left-handed cell": rebased(structure, np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]])),
        "supercell 2x1x1": structure * (2, 1, 1),
        "supercell 2x2x2": structure * (2, 2, 2),
        "primitive standard cell": standard_cell(structure, primitive=True),
        "conventional standard cell": standard_cell(structure, primitive=False),
        "Niggli cell": structure.get_reduced_structure("niggli"),
        "CIF round trip": Structure.from_str(structure.to(fmt="cif"), fmt="cif"),
        "all at once": shuffled(rebased(moved, shear) * (1, 2, 1), rng),
    }


@pytest.mark.parametrize("space_group", range(1, 231))
def test_relabelings_are_a_group_that_keeps_the_positions(space_group: int) -> None:
    table = wyckoff_table(space_group)
    permutations = relabelings(space_group)
    identity = tuple(range(len(table.letters)))
    assert permutations[0] == identity
    members = set(permutations)
    for first in permutations:
        assert sorted(first) == list(identity)
        assert all(table.multiplicities[new] == table.multiplicities[old] for old, new in enumerate(first))
        assert all(table.free[new] == table.free[old] for old, new in enumerate(first))
        assert {tuple(first[letter] for letter in second) for second in permutations} == members


@pytest.mark.slow
def test_tables_equal_those_of_pymatgen() -> None:
    from pymatgen.analysis import prototypes

    for space_group in range(1, 231):
        table = wyckoff_table(space_group)
        multiplicities = prototypes.WYCKOFF_MULTIPLICITY_DICT[str(space_group)]
        assert dict(zip(table.letters, table.multiplicities, strict=True)) == multiplicities
        free = prototypes.WYCKOFF_POSITION_PARAM_DICT[str(space_group)]
        assert dict(zip(table.letters, table.free, strict=True)) == free
        maps = prototypes.WYCKOFF_POSITION_RELAB_DICT[str(space_group)]
        theirs = {table.letters.translate(translation) for translation in maps}
        assert generated_group(table.generators, len(table.letters)) == theirs


def test_element_order_holds_every_element_once() -> None:
    assert len(ELEMENT_ORDER) == len(ELEMENT_RANK) == 118


@pytest.mark.parametrize("space_group", [1, 2, 12, 47, 62, 141, 166, 194, 216, 225, 227])
def test_canonical_form_is_idempotent_and_blind_to_relabelling(space_group: int) -> None:
    rng = np.random.default_rng(space_group)
    words = wyckoff_table(space_group).words
    for _ in range(20):
        orbits = [(element, str(rng.choice(words))) for element in ("Ba", "Ba", "Ti", "Ti", "O")]
        canonical = canonical_orbits(space_group, orbits)
        assert canonical_orbits(space_group, canonical) == canonical
        for permutation in relabelings(space_group):
            renamed = [(element, words[permutation[words.index(word)]]) for element, word in orbits]
            assert canonical_orbits(space_group, renamed[::-1]) == canonical
        assert sorted(element for element, _ in canonical) == sorted(element for element, _ in orbits)


@pytest.mark.parametrize("path", EACH_EXAMPLE)
def test_every_description_of_an_example_gives_the_same_orbits(path: Path) -> None:
    expected = find_orbits(example(path))
    for kind, other in redescriptions(example(path)).items():
        assert find_orbits(other) == expected, kind


@pytest.mark.parametrize("path", EACH_EXAMPLE)
def test_composition_and_atom_counts_follow_from_the_orbits(path: Path) -> None:
    structure = example(path)
    found = find_orbits(structure)
    assert found.n_primitive == len(standard_cell(structure, primitive=True))
    assert found.n_conventional == len(standard_cell(structure, primitive=False))
    reduced, _ = structure.composition.get_reduced_composition_and_factor()
    assert found.reduced_composition == {element.symbol: amount for element, amount in reduced.items()}


@pytest.mark.parametrize("n", [N_SAMPLE // 4, pytest.param(N_SAMPLE, marks=pytest.mark.slow)])
@pytest.mark.parametrize("backend", ["spglib", "moyopy"])
def test_idealised_sample_is_invariant(backend: str, n: int) -> None:
    pytest.importorskip(backend)
    for name, structure in sample()[:n]:
        ideal = standard_cell(structure, primitive=True)
        expected = find_orbits(ideal, backend=backend)
        for kind, other in redescriptions(ideal, seed=1).items():
            assert find_orbits(other, backend=backend) == expected, f"{name}: {kind}"


@pytest.mark.slow
def test_sample_has_as_many_classes_as_pymatgen_has_labels() -> None:
    from pymatgen.analysis.prototypes import get_protostructure_label_from_spglib

    pairs = set()
    for _, structure in sample():
        ideal = standard_cell(structure, primitive=True)
        label = get_protostructure_label_from_spglib(ideal, init_symprec=0.01, raise_errors=True)
        found = find_orbits(ideal)
        pairs.add((label, (found.space_group, found.orbits)))
    assert len({label for label, _ in pairs}) == len({orbits for _, orbits in pairs}) == len(pairs)


def cubic(space_group: str, sites: dict[tuple[float, float, float], str]) -> Structure:
    return Structure.from_spacegroup(space_group, Lattice.cubic(5.6), list(sites.values()), list(sites))


ORIGIN, CENTRE, QUARTER = (0.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
THREE_QUARTERS = (0.75, 0.75, 0.75)
SPINEL_8A, SPINEL_16D, SPINEL_32E = ORIGIN, (0.625, 0.625, 0.625), (0.137, 0.137, 0.137)  # origin choice 1


def test_pairs_of_one_composition_stay_apart() -> None:
    """ABO3 and BAO3; normal spinel and its two cations exchanged; half-Heuslers; three AX structures."""
    families = [
        [cubic("Pm-3m", {ORIGIN: a, CENTRE: b, (0.5, 0.5, 0.0): "O"}) for a, b in (("Ba", "Ti"), ("Ti", "Ba"))],
        [cubic("F-43m", {ORIGIN: a, QUARTER: b, CENTRE: c}) for a, b, c in HALF_HEUSLERS],
        [
            cubic("Pm-3m", {ORIGIN: "Na", CENTRE: "Cl"}),
            cubic("Fm-3m", {ORIGIN: "Na", CENTRE: "Cl"}),
            cubic("F-43m", {ORIGIN: "Na", QUARTER: "Cl"}),
        ],
        [spinel(inverse=False), spinel(inverse=True)],
    ]
    for family in families:
        found = {(result.space_group, result.orbits) for result in map(find_orbits, family)}
        assert len(found) == len(family)
        assert len({frozenset(find_orbits(member).reduced_composition.items()) for member in family}) == 1


HALF_HEUSLERS = (("Ni", "Ti", "Sn"), ("Ti", "Ni", "Sn"), ("Ti", "Sn", "Ni"))


def test_half_heusler_assignments_are_three_not_six() -> None:
    """The middle element of the three decides; the two others are exchanged by an inversion of the description."""
    mirrored = [tuple(reversed(row)) for row in HALF_HEUSLERS]
    for row, mirror in zip(HALF_HEUSLERS, mirrored, strict=True):
        first, second = (cubic("F-43m", dict(zip((ORIGIN, QUARTER, CENTRE), r, strict=True))) for r in (row, mirror))
        assert find_orbits(first) == find_orbits(second)


def spinel(inverse: bool) -> Structure:
    """MgAl2O4; the inverse one with the octahedral half-and-half order that keeps the primitive cell of 16d."""
    normal = Structure.from_spacegroup(
        "Fd-3m", Lattice.cubic(8.08), ["Mg", "Al", "O"], [SPINEL_8A, SPINEL_16D, SPINEL_32E]
    ).get_primitive_structure()
    if inverse:
        magnesium = [i for i, site in enumerate(normal) if site.specie.symbol == "Mg"]
        aluminium = [i for i, site in enumerate(normal) if site.specie.symbol == "Al"]
        for i in magnesium:
            normal[i] = "Al"
        for i in aluminium[:2]:
            normal[i] = "Mg"
    return normal


@pytest.mark.parametrize("seed", range(12))
def test_reduced_cells_that_tie_do_not_matter(seed: int) -> None:
    """Ordered alloys on a simple cubic lattice: the lattice has more symmetry than the crystal."""
    rng = np.random.default_rng(seed)
    crystal = Structure(Lattice.cubic(4), ["Na"], [ORIGIN]) * (2, 2, 2)
    for i in range(len(crystal)):
        crystal[i] = str(rng.choice(["Na", "Cl", "Zn", "O"]))
    expected = find_orbits(crystal)
    for matrix in (
        [[0, 1, 0], [0, 0, 1], [1, 0, 0]],
        [[1, 1, 0], [0, 1, 0], [0, 0, 1]],
        [[1, 0, 0], [0, 1, 1], [-1, 0, 1]],
    ):
        assert find_orbits(shuffled(rebased(crystal, np.array(matrix)), rng)) == expected


@pytest.mark.parametrize(("space_group", "size"), [(2, 1344), (3, 24), (10, 48), (11, 24), (12, 8), (14, 8)])
def test_tied_lattices_reach_no_further_than_the_affine_normaliser(space_group: int, size: int) -> None:
    """Sizes of the letter permutations under the full affine normaliser (AGL(3,2) for space group 2)."""
    lattices = [
        4 * np.eye(3),
        np.array([[0, 2, 2], [2, 0, 2], [2, 2, 0.0]]),
        np.array([[4, 0, 0], [0, 5, 0], [-2, 0, 7.0]]),
    ]
    lattices += [np.array([[4, 0, 0], [0, 5, 0], [-2, 0, 12**0.5]]), np.array([[7, 0, 0], [0, 5, 0], [-3.5, 0, 3.0]])]
    extra = {permutation for lattice in lattices for permutation in lattice_relabelings(space_group, lattice, 0.01)}
    group = relabelings(space_group, tuple(sorted(extra)))
    assert len(group) <= size
    assert size % len(group) == 0
    assert lattice_relabelings(space_group, np.diag([4.0, 5.1, 6.3]), 0.01) == ()


def test_wrong_input_is_refused_by_name() -> None:
    with pytest.raises(ScopeError, match="no Wyckoff position '3a'"):
        canonical_orbits(225, [("Na", "3a")])
    with pytest.raises(UnknownElementError, match="Xx"):
        canonical_orbits(225, [("Xx", "4a")])
    with pytest.raises(ValueError, match=r"1\.\.230"):
        canonical_orbits(231, [])
    with pytest.raises(DisorderedStructureError):
        find_orbits(Structure(Lattice.cubic(4), [{"Na": 0.5, "K": 0.5}], [ORIGIN]))
    with pytest.raises(SymmetryError):
        find_orbits((4 * np.eye(3), [11, 11], [ORIGIN, (0.0, 0.0, 0.001)]))
    assert LETTERS[:3] == "abc"
