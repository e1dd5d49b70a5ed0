"""The string of a crystal is that of every file in which gemmi, pymatgen, ASE or a dialect writes it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cloud_hf import ScopeEncoder, errors
from cloud_hf.crystals.readers import read_text
from crystals import dialects, random_crystals

SITES, COMPOSITION = ScopeEncoder(), ScopeEncoder(grammar="composition")
NAMES = sorted(random_crystals.WRITERS)


@pytest.mark.parametrize("n", [20, pytest.param(60, marks=pytest.mark.slow)])
@pytest.mark.parametrize("is_ordered", [True, False], ids=["ordered", "disordered"])
def test_a_written_crystal_has_the_string_of_the_crystal(tmp_path: Path, is_ordered: bool, n: int) -> None:
    encoder = SITES if is_ordered else COMPOSITION

    @settings(max_examples=n, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(seed=st.integers(0, 2**32), name=st.sampled_from(NAMES))
    def check(seed: int, name: str) -> None:
        assume(is_ordered or not name.startswith("ordered"))
        structure = random_crystals.random_structure(random.Random(seed), is_ordered)
        assume(structure is not None)
        path = random_crystals.written(name, structure, tmp_path)
        assert encoder.encode(path) == encoder.encode(structure)

    check()


@pytest.mark.parametrize("name", [name for name in NAMES if "poscar" in name or "cif" in name])
def test_each_writer_is_tried(tmp_path: Path, name: str) -> None:
    chance = random.Random(name)
    for _ in range(4):
        structure = None
        while structure is None:
            structure = random_crystals.random_structure(chance)
        path = random_crystals.written(name, structure, tmp_path)
        assert SITES.encode(path) == SITES.encode(structure)


def test_another_symbol_in_the_same_file_is_noticed() -> None:
    barite = next(crystal for crystal in dialects.crystals() if crystal.name.startswith("BaSO4"))
    symbol = "_symmetry_space_group_name_H-M 'P m n 21'\n"
    with pytest.raises(errors.CrystalReadError, match="contradict one another"):
        read_text(dialects.operations_old_tag(barite) + symbol)
    counted = dialects.operations_old_tag(barite) + symbol + dialects.formula_lines(barite)
    assert SITES.encode(read_text(counted)) == SITES.encode(dialects.expanded(barite)), "the formula settles it"
