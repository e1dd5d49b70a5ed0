"""Bad crystals end in a typed error that names the input; good ones read the same from file and object."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import DummySpecies, Element, Lattice, Species, Structure
from pymatgen.io.vasp import Poscar

from cloud_hf import errors
from cloud_hf.crystals.cell import Cell
from cloud_hf.crystals.opening import read_cells
from cloud_hf.crystals.readers import read_cell
from cloud_hf.scope import ScopeEncoder, read_crystal

CUBE = Lattice.cubic(4.0)
CELL_OF_CIF = """data_cell
_cell_length_a 4
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
"""


def copper(*supercell: int) -> Structure:
    """One atom per primitive cell, repeated."""
    structure = Structure(Lattice.cubic(2.5), ["Cu"], [[0, 0, 0]])
    structure.make_supercell(supercell)
    return structure


BAD_FILES = {
    "not a CIF": ("prose.cif", "Dear reader, there is no crystal here.\n"),
    "empty": ("empty.cif", ""),
    "blank": ("blank.cif", " \n\n"),
    "not a POSCAR": ("POSCAR", "Dear reader\n"),
    "binary": ("noise.cif", "\x00\x01\x02 data_"),
    "cut off": ("cut.cif", CELL_OF_CIF + "loop_\n_atom_site_label\n_atom_site_fract_x\nNa1"),
    "unknown kind": ("notes.txt", "1 2 3"),
}

BAD_STRUCTURES = {
    "overlapping atoms": (
        Structure(CUBE, ["Na", "Cl"], [[0, 0, 0], [0, 0, 0.01]]), errors.OverlappingAtomsError, "Na1 Cl1",
    ),
    "the same atom twice": (
        Structure(CUBE, ["Na", "Na"], [[0.5, 0, 0], [0.5, 0, 0]]), errors.OverlappingAtomsError, "Na2",
    ),
    "overlap across the cell's border": (
        Structure(CUBE, ["Na", "Cl"], [[0, 0, 0.002], [0, 0, 0.998]]), errors.OverlappingAtomsError, "Na1 Cl1",
    ),
    "zero volume": (
        Structure(Lattice([[1, 0, 0], [2, 0, 0], [0, 0, 1]]), ["Na"], [[0, 0, 0]]),
        errors.DegenerateLatticeError, "Na1",
    ),
    "no lattice": (
        Structure(Lattice(np.zeros((3, 3))), ["Na"], [[0, 0, 0]]), errors.DegenerateLatticeError, "Na1",
    ),
    "lattice of NaN": (
        Structure(Lattice(np.full((3, 3), math.nan)), ["Na"], [[0, 0, 0]]), errors.DegenerateLatticeError, "Na1",
    ),
    "coordinate NaN": (Structure(CUBE, ["Na"], [[math.nan, 0, 0]]), errors.DegenerateLatticeError, "Na1"),
    "coordinate infinite": (Structure(CUBE, ["Na"], [[0, math.inf, 0]]), errors.DegenerateLatticeError, "Na1"),
    "dummy element": (Structure(CUBE, [DummySpecies("X")], [[0, 0, 0]]), errors.UnknownElementError, "X"),
    "no atoms": (Structure(CUBE, [], []), errors.EmptyCrystalError, "structure"),
    "5,000 atoms": (copper(20, 25, 10), errors.CrystalTooLargeError, "5000"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_that_is_no_crystal_is_named(tmp_path: Path, case: str) -> None:
    name, text = BAD_FILES[case]
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(errors.CrystalError) as caught:
        read_crystal(path)
    assert str(path) in str(caught.value)


def test_prose_is_not_called_a_crystal_without_atoms(tmp_path: Path) -> None:
    path = tmp_path / "prose.cif"
    path.write_text("Dear reader, there is no crystal here.\n", encoding="utf-8")
    with pytest.raises(errors.CrystalReadError):
        read_crystal(path)


@pytest.mark.parametrize(
    "tail",
    ["", "loop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"],
    ids=["no loop", "empty loop"],
)
def test_a_cif_without_atoms_says_so(tmp_path: Path, tail: str) -> None:
    path = tmp_path / "hollow.cif"
    path.write_text(CELL_OF_CIF + tail, encoding="utf-8")
    with pytest.raises(errors.EmptyCrystalError, match="atoms") as caught:
        read_crystal(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["absent.cif", "POSCAR"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(errors.CrystalReadError, match="no such file") as caught:
        read_crystal(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("case", BAD_STRUCTURES)
def test_an_impossible_structure_has_its_own_error(case: str) -> None:
    structure, error, named = BAD_STRUCTURES[case]
    with pytest.raises(error) as caught:
        read_crystal(structure)
    assert named in str(caught.value)


def test_an_impossible_structure_in_a_file_is_called_by_the_file(tmp_path: Path) -> None:
    path = tmp_path / "twice.vasp"
    Poscar(BAD_STRUCTURES["overlapping atoms"][0]).write_file(path)
    with pytest.raises(errors.OverlappingAtomsError) as caught:
        read_crystal(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("thing", [3, None, b"crystal.cif", 1.5, ["a.cif"], {"scope": "x"}], ids=repr)
def test_another_type_is_named(thing: object) -> None:
    with pytest.raises(errors.CrystalReadError, match=type(thing).__name__):
        read_crystal(thing)  # type: ignore[arg-type]


def test_every_crystal_error_is_a_value_error() -> None:
    classes = [kind for name in errors.__all__ if isinstance(kind := getattr(errors, name), type)]
    assert all(issubclass(error, errors.CloudError) and issubclass(error, ValueError) for error in classes)


@pytest.mark.parametrize("limit", [1, 7, 8])
def test_the_size_limit_is_the_largest_size_that_passes(limit: int) -> None:
    structure = copper(2, 2, 2)
    if limit < len(structure):
        with pytest.raises(errors.CrystalTooLargeError, match=str(limit)):
            read_crystal(structure, max_atoms=limit)
    else:
        assert len(read_crystal(structure, max_atoms=limit)) == len(structure)


def test_close_atoms_of_a_split_position_pass() -> None:
    split = Structure(CUBE, [{"O": 0.5}, {"O": 0.5}, "Na"], [[0, 0, 0.02], [0, 0, -0.02], [0.5, 0.5, 0.5]])
    assert len(read_crystal(split)) == 3


def test_atoms_at_a_molecular_distance_pass() -> None:
    assert len(read_crystal(Structure(CUBE, ["H", "H"], [[0, 0, 0], [0, 0, 0.74 / 4]]))) == 2


@pytest.mark.parametrize("charged", [False, True])
@pytest.mark.parametrize("isotope", ["H", "D", "T"])
def test_ions_and_isotopes_become_elements(isotope: str, charged: bool) -> None:
    anion = Species(isotope, -1) if charged else Element(isotope)
    given = Structure(CUBE, [Species("Li", 1), anion], [[0, 0, 0], [0.5, 0.5, 0.5]])
    read = read_crystal(given)
    assert [site.specie for site in read] == [Element("Li"), Element("H")]
    np.testing.assert_array_equal(read.frac_coords, given.frac_coords)
    assert given[1].specie == anion, "the crystal that was given must stay as it is"


def test_reading_leaves_elements_alone() -> None:
    given = Structure(CUBE, ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert read_crystal(given) == given


@pytest.mark.parametrize(
    "name", ["salt.vasp", "salt.poscar", "POSCAR", "POSCAR_salt", "CONTCAR", "salt.cif", "SALT.CIF"]
)
def test_the_kind_of_file_follows_from_its_name(tmp_path: Path, name: str) -> None:
    structure = Structure.from_spacegroup(225, Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    kind = "cif" if name.lower().endswith("cif") else "poscar"
    (tmp_path / name).write_text(structure.to(fmt=kind), encoding="utf-8")
    read = read_crystal(tmp_path / name)
    assert read.composition == structure.composition
    assert ScopeEncoder().encode(tmp_path / name) == ScopeEncoder().encode(structure)
    assert ScopeEncoder().encode(str(tmp_path / name)) == ScopeEncoder().encode(structure)


@pytest.mark.parametrize("name", ["poscar_salt.json", "POSCAR_salt.json", "salt.POSCAR.cif"])
def test_a_suffix_that_says_what_a_file_is_wins_over_its_first_letters(tmp_path: Path, name: str) -> None:
    structure = Structure.from_spacegroup(225, Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    (tmp_path / name).write_text(structure.to(fmt=name.rpartition(".")[2]), encoding="utf-8")
    assert read_cell(tmp_path / name).amounts() == {"Na": 4.0, "Cl": 4.0}


def test_a_file_of_several_blocks_gives_a_row_for_each(tmp_path: Path) -> None:
    columns = "loop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
    blocks = {
        "one": "Na1 0 0 0\n",
        "crowded": "Na1 0 0 0\nCl1 0 0 0.01\n",
        "large": "C1 0 0 0\n" * 3,
        "two": "Cu1 0 0 0\n",
    }
    text = "".join(CELL_OF_CIF.replace("cell", name, 1) + columns + rows for name, rows in blocks.items())
    path = tmp_path / "several.cif.gz"
    path.write_bytes(gzip.compress(text.replace("\n", "\r\n").encode()))
    found = read_cells(path, max_atoms=2)
    assert [name for name, _ in found] == [f"{path}#{name}" for name in blocks]
    one, crowded, large, two = (cell for _, cell in found)
    assert isinstance(one, Cell)
    assert isinstance(two, Cell)
    assert isinstance(crowded, errors.OverlappingAtomsError)
    assert isinstance(large, errors.CrystalError)
    assert f"{path}#crowded" in str(crowded)
    assert (one.amounts(), two.amounts()) == ({"Na": 1.0}, {"Cu": 1.0})
    encoder = ScopeEncoder()
    assert encoder.encode(one) == encoder.encode(path)


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_one_row(tmp_path: Path, case: str) -> None:
    name, text = BAD_FILES[case]
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    [(row, error)] = read_cells(path)
    assert row == str(path)
    assert isinstance(error, errors.CrystalError)
    assert str(path) in str(error)


def test_a_file_with_one_crystal_is_one_row(tmp_path: Path) -> None:
    structure = copper(1, 1, 1)
    for name in ("POSCAR", "copper.cif", "copper.json"):
        path = tmp_path / name
        structure.to(str(path), fmt=path.suffix.removeprefix(".") or "poscar")
        [(row, cell)] = read_cells(path)
        assert row == str(path)
        assert isinstance(cell, Cell)
        assert cell.contents == read_cell(path).contents
    [(row, error)] = read_cells(tmp_path / "missing.cif")
    assert row == str(tmp_path / "missing.cif")
    assert isinstance(error, errors.CrystalReadError)


def test_a_string_given_as_a_crystal_is_sent_to_its_reader() -> None:
    with pytest.raises(errors.CrystalReadError, match=r"A SCOPE string is read by cloud_hf\.scope\.parse"):
        ScopeEncoder().encode("0 0 0 | Na 1a")


@pytest.mark.parametrize("name", ["NaCl", "LiFePO4", "Ca(OH)2", "mp-149", "JVASP-1002"])
def test_a_formula_or_an_id_is_no_crystal(name: str) -> None:
    with pytest.raises(errors.CrystalReadError, match="alone leaves the structure open: give a crystal's file"):
        read_cell(name)


@pytest.mark.parametrize("name", ["NaCl.cif", "POSCAR", "CONTCAR", "cells/Si", "absent"])
def test_a_missing_file_is_called_nothing_else(name: str) -> None:
    with pytest.raises(errors.CrystalReadError, match=r"there is no such file\.$"):
        read_cell(name)
