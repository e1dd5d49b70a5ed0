"""The same crystal from every kind of object; what is no crystal ends in a typed error."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pymatgen.core import DummySpecies, Lattice, Species, Structure

from cloud_hf import ScopeEncoder, errors
from cloud_hf.crystals.cell import Cell
from cloud_hf.crystals.objects import cell_from_object
from cloud_hf.crystals.readers import check_cell, crystal_name, read_cell, read_crystal
from cloud_hf.crystals.rows import cell_from_row
from example_files import EACH_EXAMPLE

LATTICE = [[4.0, 0.1, 0.0], [0.0, 5.0, 0.2], [0.3, 0.0, 6.0]]
COORDS = [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.25, 0.5, 0.75]]
SYMBOLS = ["Na", "Cl", "O"]
NUMBERS = [11, 17, 8]
CARTESIAN = (np.array(COORDS) @ np.array(LATTICE)).tolist()
CELL = Cell(np.array(LATTICE), np.array(COORDS), tuple(((symbol, 1.0),) for symbol in SYMBOLS))


def optimade(**changes: Any) -> dict[str, Any]:
    """An OPTIMADE structure resource."""
    species = [{"name": name, "chemical_symbols": [name], "concentration": [1.0]} for name in SYMBOLS]
    attributes: dict[str, Any] = {
        "lattice_vectors": LATTICE, "cartesian_site_positions": CARTESIAN, "species": species,
        "species_at_sites": SYMBOLS, "dimension_types": [1, 1, 1], "nsites": 3,
    }  # fmt: skip
    return {"id": "mpf_1", "type": "structures", "attributes": attributes | changes}


def as_objects(value: Any) -> Any:
    """Dicts as attributes, as pydantic models give them."""
    if isinstance(value, dict):
        return SimpleNamespace(**{key: as_objects(item) for key, item in value.items()})
    return (
        [as_objects(item) for item in value]
        if isinstance(value, list) and value and isinstance(value[0], dict)
        else value
    )


JARVIS = {"lattice_mat": LATTICE, "coords": COORDS, "elements": SYMBOLS, "cartesian": False, "props": ["", "", ""]}
STRUCTURE = Structure(LATTICE, SYMBOLS, COORDS)
OBJECTS: dict[str, Any] = {
    "cell": CELL,
    "lists in a cell": Cell(LATTICE, COORDS, CELL.contents),  # type: ignore[arg-type]
    "structure": STRUCTURE,
    "ions": Structure(LATTICE, [Species("Na", 1), Species("Cl", -1), Species("O", -2)], COORDS),
    "structure dict": STRUCTURE.as_dict(),
    "numbers": (LATTICE, NUMBERS, COORDS),
    "symbols": (np.array(LATTICE), np.array(SYMBOLS), np.array(COORDS)),
    "ion symbols": (LATTICE, ["Na+", "Cl1-", "O2-"], COORDS),
    "row": {"lattice": np.ravel(LATTICE), "numbers": np.array(NUMBERS), "frac_coords": np.ravel(COORDS)},
    "optimade": optimade(),
    "optimade attributes": optimade()["attributes"],
    "optimade response": {"data": optimade(), "meta": {}},
    "optimade objects": as_objects(optimade()),
    "jarvis": JARVIS,
    "jarvis cartesian": JARVIS | {"coords": CARTESIAN, "cartesian": True},
    "jarvis entry": {"jid": "JVASP-1", "atoms": JARVIS},
}


def assert_equal(one: Cell, other: Cell) -> None:
    np.testing.assert_allclose(one.lattice, other.lattice, atol=1e-12)
    np.testing.assert_allclose(one.frac_coords, other.frac_coords, atol=1e-12)
    assert one.contents == other.contents


@pytest.mark.parametrize("kind", OBJECTS)
def test_every_object_gives_the_same_cell(kind: str) -> None:
    cell = read_cell(OBJECTS[kind])
    assert_equal(cell, CELL)
    assert isinstance(cell.lattice, np.ndarray)
    assert read_crystal(OBJECTS[kind]) == STRUCTURE
    assert crystal_name(OBJECTS[kind]) == cell.name


@pytest.mark.parametrize("kind", [kind for kind in OBJECTS if kind not in ("cell", "structure")])
@pytest.mark.parametrize("limit", [2, 3])
def test_the_size_limit_holds_for_every_object(kind: str, limit: int) -> None:
    if limit == 3:
        assert len(read_cell(OBJECTS[kind], max_atoms=limit)) == 3
    else:
        with pytest.raises(errors.CrystalTooLargeError, match="2"):
            read_cell(OBJECTS[kind], max_atoms=limit)


@pytest.mark.parametrize("path", EACH_EXAMPLE)
def test_a_structure_survives_the_way_through_a_cell(path: Path) -> None:
    """The released encoder depends on the order of sites and elements, so a cell must keep it."""
    structure = Structure.from_file(path)
    cell = read_cell(path, exact_order=True)
    assert_equal(cell, read_cell(structure))
    encode = ScopeEncoder(grammar="full", canonical=False).encode
    assert encode(read_crystal(cell)) == encode(structure)


@pytest.fixture
def atoms() -> Any:
    """The crystal as ASE atoms."""
    ase = pytest.importorskip("ase", reason="ASE is an optional extra")
    return ase.Atoms(SYMBOLS, scaled_positions=COORDS, cell=LATTICE, pbc=True)


def test_ase_atoms_and_subclasses(atoms: Any) -> None:
    from pymatgen.io.ase import AseAtomsAdaptor, MSONAtoms

    assert_equal(read_cell(atoms), CELL)
    msonable = AseAtomsAdaptor.get_atoms(STRUCTURE)
    assert isinstance(msonable, MSONAtoms)
    assert_equal(read_cell(msonable), CELL)
    assert "NaO" in crystal_name(atoms) or "ClNaO" in crystal_name(atoms)


def test_files_that_only_ase_reads(atoms: Any, tmp_path: Path) -> None:
    atoms.write(tmp_path / "salt.xyz", format="extxyz")
    np.testing.assert_allclose(read_cell(tmp_path / "salt.xyz").frac_coords, COORDS, atol=1e-6)
    STRUCTURE.to(filename=str(tmp_path / "salt.json"))
    assert_equal(read_cell(tmp_path / "salt.json"), CELL)


def test_ase_molecules_and_dummies_are_refused(atoms: Any) -> None:
    import ase

    with pytest.raises(errors.DegenerateLatticeError):
        read_cell(ase.Atoms("OH2", positions=[[0, 0, 0], [0, 0, 1], [0, 1, 0]]))
    with pytest.raises(errors.UnknownElementError, match="X"):
        read_cell(ase.Atoms("X", positions=[[0, 0, 0]], cell=[3, 3, 3], pbc=True))
    with pytest.raises(errors.EmptyCrystalError):
        read_cell(ase.Atoms(cell=[3, 3, 3], pbc=True))


def test_ase_occupancies(atoms: Any) -> None:
    atoms.info["occupancy"] = {"0": {"Na": 0.5, "K": 0.25}, "1": {"Cl": 1.0}, "2": {"O": 1.0}}
    atoms.set_array("spacegroup_kinds", np.array([0, 1, 2]))
    assert read_cell(atoms).contents[0] == (("Na", 0.5), ("K", 0.25))


def test_without_ase_the_install_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ase.io", None)
    (tmp_path / "salt.xyz").write_text("no crystal\n", encoding="utf-8")
    with pytest.raises(errors.CrystalReadError, match=r"cloud-hf\[ase\]"):
        read_cell(tmp_path / "salt.xyz")


def test_optimade_mixtures_and_vacancies() -> None:
    species = [
        {"name": "A", "chemical_symbols": ["Fe", "Ni", "vacancy"], "concentration": [0.5, 0.25, 0.25]},
        {"name": "void", "chemical_symbols": ["vacancy"], "concentration": [1.0]},
        {"name": "D", "chemical_symbols": ["D", "H"], "concentration": [0.5, 0.5]},
    ]
    resource = optimade(species=species, species_at_sites=["A", "void", "D"])
    for crystal in (resource, as_objects(resource)):
        cell = read_cell(crystal)
        assert cell.contents == ((("Fe", 0.5), ("Ni", 0.25)), (("H", 1.0),))
        np.testing.assert_allclose(cell.frac_coords, [COORDS[0], COORDS[2]], atol=1e-12)
        assert cell.name == "mpf_1"


SQUARE = np.eye(3) * 4.0
BAD: dict[str, tuple[Any, type[errors.CrystalError]]] = {
    "optimade X": (
        optimade(species=[{"name": name, "chemical_symbols": ["X"], "concentration": [1]} for name in SYMBOLS]),
        errors.UnknownElementError,
    ),
    "optimade slab": (optimade(lattice_vectors=[LATTICE[0], LATTICE[1], [None] * 3]), errors.DegenerateLatticeError),
    "optimade without positions": (optimade(cartesian_site_positions=None), errors.CrystalReadError),
    "optimade, sites missing": (optimade(cartesian_site_positions=CARTESIAN[:2]), errors.CrystalReadError),
    "jarvis without elements": ({"lattice_mat": LATTICE, "coords": COORDS}, errors.CrystalReadError),
    "atomic number 0": ((LATTICE, [0, 1, 2], COORDS), errors.UnknownElementError),
    "atomic number 119": ((LATTICE, [119, 1, 2], COORDS), errors.UnknownElementError),
    "half an atomic number": ((LATTICE, [1.5, 1, 2], COORDS), errors.UnknownElementError),
    "NaN for a number": ((LATTICE, [math.nan, 1, 2], COORDS), errors.CrystalReadError),
    "no symbol": ((LATTICE, ["Na", "", "O"], COORDS), errors.UnknownElementError),
    "no such symbol": ((LATTICE, ["Na", "Zz", "O"], COORDS), errors.UnknownElementError),
    "too few coordinates": ((LATTICE, NUMBERS, COORDS[:2]), errors.CrystalReadError),
    "a flat list of words": (("a", "b", "c"), errors.UnknownElementError),
    "two parts": ((LATTICE, NUMBERS), errors.CrystalReadError),
    "lattice of two vectors": ((LATTICE[:2], NUMBERS, COORDS), errors.CrystalReadError),
    "no sites": ((LATTICE, [], []), errors.EmptyCrystalError),
    "flat": (([[1, 0, 0], [2, 0, 0], [0, 0, 1]], NUMBERS, COORDS), errors.DegenerateLatticeError),
    "infinite": ((LATTICE, NUMBERS, [*COORDS[:2], [0, 0, math.inf]]), errors.DegenerateLatticeError),
    "negative share": (Cell(SQUARE, np.zeros((1, 3)), ((("Fe", 1.2), ("Ni", -0.2)),)), errors.CrystalReadError),
    "more than full": (Cell(SQUARE, np.zeros((1, 3)), ((("Fe", 0.7), ("Ni", 0.7)),)), errors.CrystalReadError),
    "dummy": (Structure(SQUARE, [DummySpecies("Q")], [[0, 0, 0]]), errors.UnknownElementError),
    "empty dict": ({}, errors.CrystalReadError),
    "structure dict without sites": ({"lattice": {"matrix": LATTICE}, "sites": []}, errors.EmptyCrystalError),
    "structure dict, odd sites": ({"lattice": {"matrix": LATTICE}, "sites": [3]}, errors.CrystalReadError),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_crystal_has_its_own_error(case: str) -> None:
    thing, error = BAD[case]
    with pytest.raises(error):
        read_cell(thing)


# ------------------------------------------------------------------------------------------------ overlaps


@pytest.mark.parametrize("n_sites", [2, 12, 59, 61, 150])
def test_overlaps_are_those_of_a_search_over_all_images(n_sites: int) -> None:
    """Against pymatgen's neighbour list, in skewed cells of random shape."""
    rng = np.random.default_rng(n_sites)
    for _ in range(8):
        size = 1.5 * n_sites ** (1 / 3)
        lattice = Lattice(size * (np.eye(3) * 1.5 + rng.uniform(-0.6, 0.6, (3, 3))))
        structure = Structure(lattice, ["C"] * n_sites, rng.uniform(-1, 2, (n_sites, 3)))
        overlaps = len(structure.get_neighbor_list(0.5, exclude_self=True)[0]) > 0
        cell = Cell(lattice.matrix, structure.frac_coords, ((("C", 1.0),),) * n_sites)
        if overlaps:
            with pytest.raises(errors.OverlappingAtomsError, match="Å apart"):
                check_cell(cell)
        else:
            assert check_cell(cell) is cell


def test_an_atom_may_overlap_with_its_own_image() -> None:
    with pytest.raises(errors.OverlappingAtomsError, match=r"0\.200"):
        read_cell((np.diag([0.2, 9.0, 9.0]), ["Na"], [[0, 0, 0]]))
    with pytest.raises(errors.OverlappingAtomsError):
        read_cell((np.diag([0.9, 9.0, 9.0]), ["Na", "Na"], [[0, 0, 0], [0.5, 0, 0]]))
    assert len(read_cell((np.diag([0.6, 9.0, 9.0]), ["Na"], [[0, 0, 0]]))) == 1


def test_split_positions_may_overlap() -> None:
    contents = ((("O", 0.5),), (("O", 0.5),))
    assert len(check_cell(Cell(SQUARE, np.array([[0, 0, 0.02], [0, 0, -0.02]]), contents))) == 2


@pytest.mark.parametrize(
    ("thing", "said"),
    [
        ({"data": [optimade()]}, "one by one"),
        ({"lattice": LATTICE, "species": SYMBOLS}, "not a dict with the keys 'lattice', 'species'"),
        ({}, "not an empty dict"),
        ([LATTICE, NUMBERS, COORDS], "not list"),
    ],
)
def test_what_is_taken_for_no_crystal_is_described(thing: Any, said: str) -> None:
    with pytest.raises(errors.CrystalReadError, match=said):
        read_cell(thing)


# ------------------------------------------------------------------------------------------------ meaning


def test_the_elements_of_the_atoms_win_over_a_stale_table(atoms: Any) -> None:
    atoms.info["occupancy"] = {"0": {"Na": 1.0}, "1": {"Cl": 1.0}, "2": {"O": 0.5}}
    atoms.set_array("spacegroup_kinds", np.array([0, 1, 2]))
    atoms.symbols[0] = "K"
    assert read_cell(atoms).contents == ((("K", 1.0),), (("Cl", 1.0),), (("O", 0.5),))


@pytest.mark.parametrize("periodic", [[True, True, False], [False, False, True], False])
def test_what_is_open_in_a_direction_is_refused_with_the_way_out(atoms: Any, periodic: Any) -> None:
    atoms.pbc = periodic
    with pytest.raises(errors.CrystalReadError, match=r"set atoms\.pbc = True"):
        read_cell(atoms)
    if isinstance(periodic, list):
        slab = Structure(Lattice(LATTICE, pbc=tuple(periodic)), SYMBOLS, COORDS)
        for crystal in (slab, slab.as_dict(), optimade(dimension_types=[int(flag) for flag in periodic])):
            with pytest.raises(errors.CrystalReadError, match=rf"periodic in {sum(periodic)} of 3 directions"):
                read_cell(crystal)


CONTRADICTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "formula": ({"chemical_formula_reduced": "Cl2NaO"}, "the sites hold Na1 Cl1 O1, the formula says Cl2 Na1 O1"),
    "hydrogen": ({"chemical_formula_reduced": "ClH2NaO"}, "no site holds H"),
    "nelements": ({"nelements": 4}, "nelements is 4"),
    "elements": ({"elements": ["Cl", "Na"]}, "elements says Cl, Na"),
    "nsites": ({"nsites": 4}, "nsites is 4"),
    "implicit atoms": ({"structure_features": ["implicit_atoms"]}, "implicit_atoms"),
    "attached": (
        {"species": [{"name": "O", "chemical_symbols": ["O"], "attached": ["H"], "nattached": [2]}]},
        "2 H without positions are attached to O",
    ),
}  # fmt: skip


@pytest.mark.parametrize("as_objects_too", [False, True])
@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_optimade_structures_that_contradict_themselves(case: str, as_objects_too: bool) -> None:
    changes, reason = CONTRADICTIONS[case]
    crystal = as_objects(optimade(**changes)) if as_objects_too else optimade(**changes)
    with pytest.raises(errors.CrystalReadError, match=reason) as caught:
        read_cell(crystal)
    assert caught.value.flag == "trust_sites"
    with pytest.warns(UserWarning, match="taken as they are"):
        cell = read_cell(crystal, trust_sites=True)
    assert cell.contents == CELL.contents
    assert cell.note


def test_optimade_structures_that_agree() -> None:
    agreeing = {
        "chemical_formula_reduced": "ClNaO",
        "nelements": 3,
        "elements": ["Cl", "Na", "O"],
        "structure_features": [],
    }
    assert_equal(read_cell(optimade(**agreeing)), CELL)
    assert read_cell(optimade(**agreeing)).note == ""


def test_optimade_mixtures_need_their_concentrations() -> None:
    mixture = {"name": "A", "chemical_symbols": ["Fe", "Ni"]}
    with pytest.raises(errors.CrystalReadError, match="without a concentration"):
        read_cell(optimade(species=[mixture], species_at_sites=["A"] * 3))
    single = read_cell(optimade(species=[{"name": "A", "chemical_symbols": ["Fe"]}], species_at_sites=["A"] * 3))
    assert single.amounts() == {"Fe": 3.0}


def test_optimade_assemblies_are_occupancies() -> None:
    assembly = {"sites_in_groups": [[0], [1]], "group_probabilities": [0.25, 0.75]}
    assert read_cell(optimade(assemblies=[assembly])).amounts() == {"Na": 0.25, "Cl": 0.75, "O": 1.0}
    with pytest.raises(errors.CrystalReadError, match="the site 7 of 3"):
        read_cell(optimade(assemblies=[assembly | {"sites_in_groups": [[0], [7]]}]))


@pytest.mark.parametrize("total", [1.0001, 1.01])
def test_occupancies_up_to_a_hundredth_above_one_are_one(total: float) -> None:
    mixed = Cell(SQUARE, np.zeros((1, 3)), ((("Fe", total / 4), ("Ni", 3 * total / 4)),))
    assert dict(check_cell(mixed).contents[0]) == pytest.approx({"Fe": 0.25, "Ni": 0.75})
    single = check_cell(Cell(SQUARE, np.zeros((1, 3)), ((("Fe", total),),)))
    assert single.is_ordered


@pytest.mark.parametrize("n_sites", [1, 2, 4])
def test_coordinates_are_never_put_together_wrongly(n_sites: int) -> None:
    numbers = [*range(11, 11 + n_sites)]
    rows = np.random.default_rng(n_sites).random((n_sites, 3))
    arrays = {"lattice": LATTICE, "numbers": numbers}
    for coords in (rows, rows.tolist(), rows.ravel()):
        assert (cell_from_object((LATTICE, numbers, coords), 10).frac_coords == rows).all()
        assert (cell_from_row(arrays | {"frac_coords": coords}, "t").frac_coords == rows).all()
        assert (cell_from_object(arrays | {"frac_coords": coords}, 10).frac_coords == rows).all()
    for read in (
        lambda: cell_from_object((LATTICE, numbers, rows.T), 10),
        lambda: cell_from_object(arrays | {"frac_coords": rows.T}, 10),
        lambda: cell_from_row(arrays | {"frac_coords": rows.T}, "t"),
    ):
        with pytest.raises(errors.CrystalReadError, match=rf"shape \(3, {n_sites}\), not \(sites, 3\)"):
            read()
