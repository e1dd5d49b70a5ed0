"""The symmetry back-ends: the same answer where the crystal is clear, the same errors, and nothing imported early."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymatgen.core import Structure

from cloud_hf import ScopeEncoder
from cloud_hf.crystals.cell import Cell
from cloud_hf.errors import CloudError, DisorderedStructureError, SymmetryError
from cloud_hf.scope import backends
from cloud_hf.scope.backends import BACKENDS, check_backend, search_symmetry
from cloud_hf.scope.canonical import find_orbits
from example_files import EACH_EXAMPLE, EXAMPLES

SHARED = Path(os.environ.get("CLOUD_SHARED", "../shared")) / "data"
N_SAMPLE = 100


def available(backend: str) -> str:
    if backend == "moyopy":
        pytest.importorskip("moyopy")
    return backend


@pytest.fixture(params=list(BACKENDS))
def backend(request: pytest.FixtureRequest) -> str:
    return available(request.param)


def as_cell(structure: Structure, name: str = "crystal") -> Cell:
    contents = tuple(((site.specie.symbol, 1.0),) for site in structure)
    return Cell(structure.lattice.matrix, structure.frac_coords, contents, name)


@pytest.mark.parametrize("path", EACH_EXAMPLE)
def test_both_agree_on_the_examples_given_in_any_form(path: Path, backend: str) -> None:
    structure = Structure.from_file(path)
    expected = find_orbits(structure)
    arrays = (structure.lattice.matrix, structure.atomic_numbers, structure.frac_coords)
    for crystal in (structure, as_cell(structure), arrays):
        assert find_orbits(crystal, backend=backend) == expected


def test_both_agree_on_almost_all_of_a_sample() -> None:
    available("moyopy")
    if not (SHARED / "materials_project.parquet").is_file():
        pytest.skip(f"{SHARED} is not there; set CLOUD_SHARED to the shared folder")
    import pandas as pd

    columns = ["lattice", "numbers", "frac_coords"]
    rows = pd.read_parquet(SHARED / "materials_project.parquet", columns=columns).sample(N_SAMPLE, random_state=0)
    equal = 0
    for row in rows.itertuples():
        cell = (np.reshape(row.lattice, (3, 3)), row.numbers, np.reshape(row.frac_coords, (-1, 3)))
        equal += find_orbits(cell, backend="moyopy") == find_orbits(cell, backend="spglib")
    assert equal >= 0.95 * N_SAMPLE


@pytest.mark.parametrize("path", EXAMPLES[:4], ids=lambda path: path.stem)
def test_every_site_has_a_letter_and_an_orbit_of_its_own_kind(path: Path, backend: str) -> None:
    structure = Structure.from_file(path)
    types = np.array(structure.atomic_numbers, dtype=np.intc)
    found = search_symmetry(structure.lattice.matrix, structure.frac_coords, types, backend=backend)
    assert len(found.letters) == len(found.orbits) == len(structure)
    assert len(set(zip(found.orbits, found.letters, types, strict=True))) == len(set(found.orbits))
    conventional = abs(np.linalg.det(found.std_lattice)) / structure.volume * len(structure)
    assert conventional == pytest.approx(found.n_standard_sites, rel=1e-3)


@pytest.mark.parametrize(
    ("lattice", "coords"),
    [
        (4 * np.eye(3), [[0, 0, 0], [0, 0, 0.001]]),
        (4 * np.eye(3), [[0, 0, 0], [0, 0, 0]]),
        (4 * np.eye(3), [[0, 0, 0], [0, 0, np.nan]]),
        (np.zeros((3, 3)), [[0, 0, 0], [0.5, 0.5, 0.5]]),
        (4 * np.eye(3), np.zeros((0, 3))),
    ],
    ids=["near", "same", "nan", "no volume", "no sites"],
)
def test_what_has_no_symmetry_is_refused_by_name(lattice: np.ndarray, coords: list[list[float]], backend: str) -> None:
    types = np.full(len(coords), 11, dtype=np.intc)
    with pytest.raises(SymmetryError, match=f"my crystal: {backend} finds"):
        search_symmetry(lattice, np.array(coords, dtype=float), types, name="my crystal", backend=backend)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [(type("PanicException", (BaseException,), {}), SymmetryError), (KeyboardInterrupt, KeyboardInterrupt)],
    ids=["panic", "interrupt"],
)
def test_only_a_panic_in_rust_becomes_a_typed_error(
    monkeypatch: pytest.MonkeyPatch, raised: type[BaseException], expected: type[BaseException]
) -> None:
    def fail(*_: object) -> None:
        raise raised("unwrap on None")

    for name in BACKENDS:
        monkeypatch.setitem(BACKENDS, name, fail)
    with pytest.raises(expected):
        search_symmetry(4 * np.eye(3), np.zeros((1, 3)), np.ones(1, dtype=np.intc))


MONOCLINIC = (np.array([[3.1, 0, 0], [0, 4.2, 0], [1.1, 0, 5.3]]), np.zeros((1, 3)), np.ones(1, dtype=np.intc))


@pytest.mark.parametrize(("failing", "said"), [("angle", "without an angle tolerance"), ("spglib", "by moyopy")])
def test_a_search_that_fails_is_repeated_another_way(monkeypatch: pytest.MonkeyPatch, failing: str, said: str) -> None:
    if failing == "spglib":
        available("moyopy")
    usual = search_symmetry(*MONOCLINIC)
    search = BACKENDS["spglib"]

    def fail(*arguments: Any) -> Any:
        if failing == "spglib" or arguments[-1] > 0:
            raise ValueError("too many lattice symmetries")
        return search(*arguments)

    monkeypatch.setitem(BACKENDS, "spglib", fail)
    found = search_symmetry(*MONOCLINIC)
    assert (found.space_group, usual.note) == (usual.space_group, "")
    assert said in found.note
    assert said in ScopeEncoder().describe((MONOCLINIC[0], ["Na"], MONOCLINIC[1])).note


def test_orbits_that_contradict_the_cell_are_searched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    search = BACKENDS["spglib"]

    def contradict(*arguments: Any) -> Any:
        found = search(*arguments)
        return replace(found, n_standard_sites=7) if arguments[-1] > 0 else found

    monkeypatch.setitem(BACKENDS, "spglib", contradict)
    found = ScopeEncoder().describe((MONOCLINIC[0], ["Na"], MONOCLINIC[1]))
    assert "without an angle tolerance" in found.note


def test_close_atoms_are_blamed_only_where_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise ValueError("no reason given")

    for name in BACKENDS:
        monkeypatch.setitem(BACKENDS, name, fail)
    with pytest.raises(SymmetryError) as caught:
        search_symmetry(*MONOCLINIC)
    assert "apart" not in str(caught.value)
    assert "coincide" not in str(caught.value)
    close = np.array([[0, 0, 0], [0, 0, 0.002]])
    with pytest.raises(SymmetryError, match=r"sites 0 and 1 are 0\.01\d* Å apart"):
        search_symmetry(MONOCLINIC[0], close, np.ones(2, dtype=np.intc))
    with pytest.raises(SymmetryError) as caught:  # and a cell of 3000 Å does not fill the memory
        search_symmetry(np.eye(3) * 3000, np.array([[0, 0, 0], [0.1, 0.2, 0.3]]), np.ones(2, dtype=np.intc))
    assert "apart" not in str(caught.value)


@pytest.mark.slow
def test_the_crystal_of_spglib_567_is_encoded() -> None:
    """Its lattice is cubic within 5 degrees, but not within 0.01 Å; spglib looks for ten seconds, and finds nothing."""
    lattice = np.array([[3.48543625, 0, 2.01231756], [1.16181208, 3.28610081, 2.01231756], [0, 0, 4.1246]])
    found = ScopeEncoder().describe((lattice, ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]))
    assert found.space_group == 12
    assert "without an angle tolerance" in found.note


def test_flat_cells_do_not_hang_moyopy() -> None:
    """mp-573608: with an angle tolerance of 5 degrees, moyopy 0.21 takes all memory on angles of 8 degrees."""
    available("moyopy")
    rhombohedral = np.array([[4.3356, 0, 29.232], [2.156, 3.7615, 29.232], [0, 0, 29.5517]])
    heights = np.arange(12) / 12
    coords = np.outer(heights, np.ones(3)) / 3
    types = np.array([48, 53] * 6, dtype=np.intc)
    assert search_symmetry(rhombohedral, coords, types, backend="moyopy").space_group > 0


def test_an_unknown_back_end_is_refused_with_the_known_ones() -> None:
    with pytest.raises(CloudError, match="'phonopy' is not a symmetry back-end; there are 'spglib', 'moyopy'"):
        check_backend("phonopy")
    with pytest.raises(CloudError, match="there are 'spglib', 'moyopy'"):
        find_orbits((4 * np.eye(3), [11], [[0.0, 0, 0]]), backend="")


def test_a_missing_moyopy_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "moyopy", None)
    backends._moyopy.cache_clear()
    try:
        with pytest.raises(CloudError, match=r"pip install cloud-hf\[moyopy\]"):
            find_orbits((4 * np.eye(3), [11], [[0.0, 0, 0]]), backend="moyopy")
    finally:
        backends._moyopy.cache_clear()


def test_a_cell_brings_its_name_into_the_errors() -> None:
    mixed = Cell(4 * np.eye(3), np.zeros((1, 3)), ((("Na", 0.5), ("K", 0.5)),), "mixed.cif")
    with pytest.raises(DisorderedStructureError, match=r"^mixed\.cif"):
        find_orbits(mixed)
    double = Cell(4 * np.eye(3), np.zeros((2, 3)), ((("Na", 1.0),),) * 2, "double.cif")
    with pytest.raises(SymmetryError, match=r"^double\.cif"):
        find_orbits(double)
    with pytest.raises(SymmetryError, match=r"^another name"):
        find_orbits(double, name="another name")
