"""The short way for cubic crystals says what the full search says, or nothing."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.groups import SpaceGroup

from cloud_hf.scope import backends, cubic
from cloud_hf.scope.canonical import ELEMENT_RANK, find_kind_orbits
from cloud_hf.scope.cubic import find_cubic
from cloud_hf.scope.search_result import SymmetryResult

ROCK_SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.6), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
PAIRS = (
    ([0, 0, 0], [0.25, 0.25, 0.25]),
    ([0.5, 0, 0], [0.125, 0.125, 0.125]),
    ([0, 0, 0], [0.21, 0.21, 0.21]),
    ([0, 0, 0], [0.13, 0.21, 0.37]),
)


def searched(structure: Structure) -> SymmetryResult | None:
    types = np.array(structure.atomic_numbers, dtype=np.intc)
    return find_cubic(structure.lattice.matrix, structure.frac_coords, types, 0.01, 5.0)


# groups of many operations take longest: their like are among the others
LARGE = (209, 216, 219, 226, 227)
GROUPS = [pytest.param(n, marks=pytest.mark.slow) if n in LARGE else n for n in range(195, 231)]


@pytest.mark.parametrize("space_group", GROUPS)
def test_cubic_crystals_are_told_as_by_the_search(space_group: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two occupied positions; the crystal may have more symmetry than the group that made it."""
    rng = np.random.default_rng(space_group)
    monkeypatch.setattr(cubic, "_letters", {})
    short = 0
    group = SpaceGroup.from_int_number(space_group)  # once: it takes longer to make than all that follows
    for points in PAIRS:
        iron, oxygen = (group.get_orbit(point) for point in points)
        elements = ["Fe"] * len(iron) + ["O"] * len(oxygen)
        crystal = Structure(Lattice.cubic(9), elements, [*iron, *oxygen]).get_primitive_structure()
        if len(crystal) > 40:
            continue
        order = rng.permutation(len(crystal))
        kinds = [ELEMENT_RANK[crystal[i].specie.symbol] for i in order]
        coords = crystal.frac_coords[order] + rng.random(3)
        short += searched(crystal) is not None
        found = find_kind_orbits(crystal.lattice.matrix, kinds, coords)
        with monkeypatch.context() as patch:
            patch.setattr(backends, "find_cubic", lambda *_: None)
            assert found == find_kind_orbits(crystal.lattice.matrix, kinds, coords)
    assert short >= 1


def test_conventional_left_handed_and_primitive_cells() -> None:
    primitive = ROCK_SALT.get_primitive_structure()
    exchanged = Structure(ROCK_SALT.lattice.matrix[[1, 0, 2]], ROCK_SALT.species, ROCK_SALT.frac_coords[:, [1, 0, 2]])
    for crystal in (ROCK_SALT, exchanged, primitive):
        found = searched(crystal)
        assert found is not None
        assert (found.space_group, found.space_group_symbol, found.n_standard_sites) == (225, "Fm-3m", 8)
        assert len(set(found.orbits)) == 2
        assert sorted(set(found.letters)) == ["a", "b"]


def test_doubt_is_left_to_the_search() -> None:
    strained = Structure(np.diag([5.6, 5.6, 5.605]), ROCK_SALT.species, ROCK_SALT.frac_coords)
    stretched = Structure(np.diag([5.6, 5.6, 5.9]), ROCK_SALT.species, ROCK_SALT.frac_coords)
    moved, tilted = ROCK_SALT.copy(), ROCK_SALT.copy()
    moved.translate_sites([0], [0.005 / 5.6, 0, 0])  # half the tolerance
    tilted.translate_sites([0], [0.3 / 5.6, 0, 0])  # no longer cubic
    split = ROCK_SALT.copy()
    split.append("K", [0.01, 0, 0])
    for crystal in (strained, stretched, moved, tilted, split, ROCK_SALT * (1, 1, 2), ROCK_SALT * (2, 2, 2)):
        assert searched(crystal) is None
    types = np.array(ROCK_SALT.atomic_numbers, dtype=np.intc)
    for lattice, coords in (
        (np.full((3, 3), np.nan), ROCK_SALT.frac_coords),
        (np.zeros((3, 3)), ROCK_SALT.frac_coords),
        (ROCK_SALT.lattice.matrix, np.full((8, 3), np.nan)),
    ):
        assert find_cubic(lattice, coords, types, 0.01, 5.0) is None
    assert find_cubic(ROCK_SALT.lattice.matrix, ROCK_SALT.frac_coords, types, 1.0, 5.0) is None


def test_the_choice_of_origin_stays_spglibs_where_it_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("not asked for")

    monkeypatch.setattr(backends, "find_cubic", refuse)
    types = np.array(ROCK_SALT.atomic_numbers, dtype=np.intc)
    assert backends.search_symmetry(ROCK_SALT.lattice.matrix, ROCK_SALT.frac_coords, types).space_group == 225
