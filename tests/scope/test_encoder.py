"""The SCOPE encoder: parity with the paper's strings, independence of the description, tables, bad input."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Species, Structure
from pymatgen.io.vasp import Poscar
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from cloud_hf import ScopeEncoder, errors, grammar_of
from cloud_hf.crystals.readers import read_cell
from cloud_hf.errors import CloudError
from cloud_hf.scope.encoder import EncoderSettings
from cloud_hf.scope.generators import generator_words, space_group_of
from cloud_hf.scope.grammar import GRAMMARS
from example_files import EACH_EXAMPLE, EXAMPLES

WORD = re.compile(r"(\d+)([A-Za-z])")

#: Atoms per primitive cell, counted by hand: formula units per primitive cell times atoms per formula unit.
ATOMS_PER_PRIMITIVE_CELL = {
    "Cu": 1, "W": 1, "C_diamond": 2, "Si": 2, "NaCl": 2, "MgO": 2, "SrTiO3": 5, "Mg": 2, "GaN_wurtzite": 4,
    "Al2O3_corundum": 10, "CaCO3_calcite": 10, "SiO2_quartz": 9, "TiO2_rutile": 6, "CaTiO3_perovskite": 20,
    "CaSO4_anhydrite": 12, "ZrO2_baddeleyite": 12, "CaSiO3_wollastonite": 30, "Al": 1, "Fe": 1, "Au": 1, "Ge": 2,
    "GaAs": 2, "CsCl": 2, "ZnS_sphalerite": 2, "LiF": 2, "CaF2_fluorite": 3, "PbTe": 2, "MgAl2O4_spinel": 14,
    "BaTiO3": 5, "LiFePO4_triphylite": 28,
}  # fmt: skip


@pytest.fixture(scope="module")
def encoder() -> ScopeEncoder:
    """The paper's grammar and order."""
    return ScopeEncoder("composition", canonical=False)


@pytest.fixture(params=EACH_EXAMPLE)
def example(request: pytest.FixtureRequest) -> Path:
    """Each of the example crystals."""
    return request.param


@cache
def read(path: Path) -> Structure:
    return Structure.from_file(path)


@pytest.fixture
def structure(example: Path) -> Structure:
    """The example as an object."""
    return read(example).copy()


# ------------------------------------------------------------------------------------------------ published strings


@pytest.fixture(scope="module")
def parity(shared: Path) -> list[tuple[Structure, str, str]]:
    """Structures with the strings that the paper's released encoder gives for them."""
    import pandas as pd

    table = pd.read_parquet(shared / "data" / "published_parity.parquet")
    return [
        (
            Structure(np.reshape(row.lattice, (3, 3)), row.numbers, np.reshape(row.frac_coords, (-1, 3))),
            row.scope,
            row.scope_full,
        )
        for row in table.itertuples()
    ]


@pytest.mark.parametrize("every", [10, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("grammar", ["composition", "full"])
def test_every_published_string_is_reproduced(
    parity: list[tuple[Structure, str, str]], grammar: str, every: int
) -> None:
    encode = ScopeEncoder(grammar=grammar, canonical=False).encode
    assert len(parity) == 2050
    different = [
        (ours, published)
        for structure, composition, full in parity[::every]
        if (ours := encode(structure)) != (published := composition if grammar == "composition" else full)
    ]
    assert different == []


# ------------------------------------------------------------------------------------------------ generators


@pytest.mark.parametrize(
    ("group", "words"),
    [
        (39, "0 3 a O D D b O O O c O D O 0"),
        (131, "1 3 b D D O g D O O c O D D 0"),
        (222, "1 4 b D D O c D O D d O O O e O O D 1 Y Y Y"),
    ],
)
def test_the_three_older_generator_strings_are_kept(group: int, words: str) -> None:
    assert " ".join(generator_words(group)) == words


def test_generators_are_the_published_ones(shared: Path) -> None:
    import json

    published = json.loads((shared / "published" / "generator.json").read_text(encoding="utf-8"))
    flat = {int(group): "".join(text).replace(" ", "") for group, text in published.items() if int(group)}
    assert {group: "".join(generator_words(group)) for group in range(1, 231)} == flat


def test_each_space_group_has_a_string_of_its_own() -> None:
    assert len({generator_words(group) for group in range(1, 231)}) == 230


def test_generators_lead_back_to_the_space_group() -> None:
    for group in range(1, 231):
        words = " ".join(generator_words(group))
        assert space_group_of(f"{words} | 1a | Cu 1.0") == group
        assert space_group_of(words) == group


@pytest.mark.parametrize("scope", ["", "|", "9 9 9 | 1a | Cu 1.0", "1a | 1 0 0", "100 | 2i | Cu 1.0"])
def test_other_words_are_no_space_group(scope: str) -> None:
    assert space_group_of(scope) is None


@pytest.mark.parametrize("number", [0, 231, -1])
def test_a_number_out_of_range_is_no_space_group(number: int) -> None:
    with pytest.raises(ValueError, match=str(number)):
        generator_words(number)


# ------------------------------------------------------------------------------------------------ the example crystals


def test_the_examples_are_there() -> None:
    assert {path.stem for path in EXAMPLES} == set(ATOMS_PER_PRIMITIVE_CELL)


def test_a_path_is_worth_its_structure(encoder: ScopeEncoder, example: Path, tmp_path: Path) -> None:
    structure = Structure.from_file(example)
    from_object = encoder.describe(structure)
    assert encoder.describe(example) == encoder.describe(str(example)) == from_object
    poscar = tmp_path / "POSCAR"
    Poscar(structure).write_file(poscar, significant_figures=12)
    assert encoder.describe(poscar) == from_object


def test_the_description_agrees_with_its_string(encoder: ScopeEncoder, example: Path, structure: Structure) -> None:
    crystal = encoder.describe(example)
    assert encoder.encode(example) == crystal.scope
    assert space_group_of(crystal.scope) == crystal.space_group
    symmetry = SpacegroupAnalyzer(structure)
    assert crystal.space_group == symmetry.get_space_group_number()
    assert crystal.space_group_symbol == symmetry.get_space_group_symbol()
    assert crystal.formula == structure.reduced_formula
    assert grammar_of(crystal.scope) == "composition"
    words = crystal.scope.split(" | ")[2].split()
    fractions = dict(zip(words[::2], map(float, words[1::2]), strict=True))
    expected = {symbol: n / structure.composition.num_atoms for symbol, n in structure.composition.as_dict().items()}
    assert fractions == pytest.approx(expected, abs=0.005 + 1e-9)


def test_atoms_are_counted_per_primitive_cell(encoder: ScopeEncoder, example: Path, structure: Structure) -> None:
    """In the conventional, the primitive and repeated cells alike."""
    cells = [structure, structure.get_primitive_structure(), structure * (2, 1, 1), structure * (2, 2, 2)]
    cells += [structure.get_primitive_structure() * (1, 3, 1)]
    expected = ATOMS_PER_PRIMITIVE_CELL[example.stem]
    assert [encoder.describe(cell).n_atoms for cell in cells] == [expected] * len(cells)


def test_multiplicities_are_those_of_the_tables(
    encoder: ScopeEncoder, structure: Structure, wyckoff_multiplicities: dict[str, Any]
) -> None:
    """Multiplicities are computed from the cell, so any cell must give those of the conventional one."""
    for cell in (structure, structure.get_primitive_structure(), structure * (2, 1, 1), structure * (2, 2, 2)):
        crystal = encoder.describe(cell)
        tabulated = wyckoff_multiplicities[str(crystal.space_group)]
        for word in crystal.scope.split(" | ")[1].split():
            multiplicity, letter = WORD.fullmatch(word).groups()  # type: ignore[union-attr]
            assert int(multiplicity) == int(tabulated[letter]), (crystal, word)


def test_a_supercell_keeps_group_formula_and_composition(encoder: ScopeEncoder, structure: Structure) -> None:
    one, eight = encoder.describe(structure), encoder.describe(structure * (2, 2, 2))
    assert (one.space_group, one.formula) == (eight.space_group, eight.formula)
    assert one.scope.split(" | ")[::2] == eight.scope.split(" | ")[::2]


def test_turning_the_crystal_changes_nothing(encoder: ScopeEncoder, structure: Structure) -> None:
    """A rotation of all lattice vectors, and atoms moved by whole lattice vectors."""
    rotation, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    rotation *= np.sign(np.linalg.det(rotation))
    turned = Structure(structure.lattice.matrix @ rotation.T, structure.species, structure.frac_coords)
    moved = Structure(
        structure.lattice, structure.species,
        structure.frac_coords + np.random.default_rng(6).integers(-3, 4, size=(len(structure), 3)),
    )  # fmt: skip
    assert encoder.describe(turned) == encoder.describe(structure)
    assert encoder.describe(moved) == encoder.describe(structure)


def test_oxidation_states_change_nothing(encoder: ScopeEncoder, structure: Structure) -> None:
    decorated = structure.copy()
    decorated.add_oxidation_state_by_guess()
    assert all(isinstance(site.specie, Species) for site in decorated), "without decoration this shows nothing"
    for grammar in ("composition", "full"):
        encode = ScopeEncoder(grammar=grammar, canonical=False).encode
        assert encode(decorated) == encode(structure)


def test_full_lists_one_word_and_one_element_per_site(structure: Structure) -> None:
    scope = ScopeEncoder(grammar="full", canonical=False).encode(structure)
    generators, wyckoff, elements = (segment.split() for segment in scope.split(" | "))
    assert grammar_of(scope) == "full"
    assert elements == [site.specie.symbol for site in structure]
    assert len(wyckoff) == len(structure)
    short = ScopeEncoder("composition", canonical=False).encode(structure).split(" | ")
    assert generators == short[0].split()
    assert list(dict.fromkeys(wyckoff)) == short[1].split()


def test_full_counts_each_orbit_in_the_conventional_cell(structure: Structure) -> None:
    """In a conventional cell a position of multiplicity m fills m sites, once or several times."""
    wyckoff = ScopeEncoder(grammar="full", canonical=False).encode(structure).split(" | ")[1].split()
    assert all(wyckoff.count(word) % int(WORD.fullmatch(word)[1]) == 0 for word in set(wyckoff))  # type: ignore[index]


# ------------------------------------------------------------------------------------------------ unusual crystals

CUBE = Lattice.cubic(4.0)
CORNER_AND_CENTRE = [[0, 0, 0], [0.5, 0.5, 0.5]]


@pytest.mark.parametrize("grammar", ["composition", "full"])
@pytest.mark.parametrize("isotope", ["D", "T", Species("D", -1), Species("H", -1)], ids=str)
def test_isotopes_of_hydrogen_read_as_hydrogen(isotope: Any, grammar: str) -> None:
    encode = ScopeEncoder(grammar=grammar, canonical=False).encode
    light, heavy = (Structure(CUBE, ["Li", kind], CORNER_AND_CENTRE) for kind in ("H", isotope))
    assert encode(heavy) == encode(light)
    assert " H" in encode(heavy)


def test_hydrogen_shared_with_deuterium_is_one_element(encoder: ScopeEncoder) -> None:
    mixed = Structure(CUBE, ["Li", {"H": 0.5, "D": 0.5}], CORNER_AND_CENTRE)
    assert encoder.encode(mixed) == encoder.encode(Structure(CUBE, ["Li", "H"], CORNER_AND_CENTRE))


def test_partial_occupancies_are_written_as_composition(encoder: ScopeEncoder) -> None:
    brass = encoder.describe(Structure(CUBE, [{"Cu": 0.75, "Zn": 0.25}], [[0, 0, 0]]))
    assert brass.scope == "1 4 b O O O c O O O d O O O e O O O 0 | 1a | Cu 0.75 Zn 0.25"
    assert brass.n_atoms == 1.0
    vacant = encoder.describe(Structure(CUBE, ["Ti", {"O": 0.5}], CORNER_AND_CENTRE))
    assert vacant.scope.endswith("| 1a 1b | Ti 0.67 O 0.33")
    assert vacant.n_atoms == 1.5


def test_occupancies_distinguish_sites(encoder: ScopeEncoder) -> None:
    """Sites with the same elements in other amounts are not equivalent."""
    ordered = Structure(CUBE, [{"Cu": 0.5, "Zn": 0.5}] * 2, CORNER_AND_CENTRE)
    unequal = Structure(CUBE, [{"Cu": 0.4, "Zn": 0.6}, {"Cu": 0.6, "Zn": 0.4}], CORNER_AND_CENTRE)
    assert (encoder.describe(ordered).space_group, encoder.describe(unequal).space_group) == (229, 221)


def test_one_search_gives_the_strings_of_every_grammar() -> None:
    ordered = read_cell(EXAMPLES[0])
    disordered = read_cell(Structure(CUBE, ["Ti", {"O": 0.5}], CORNER_AND_CENTRE))
    described, strings = ScopeEncoder().describe_cell(ordered, GRAMMARS)
    assert list(strings) == [ScopeEncoder(grammar).encode(ordered) for grammar in GRAMMARS]
    assert described == ScopeEncoder().describe(ordered)
    _, strings = ScopeEncoder("composition").describe_cell(disordered, GRAMMARS)
    assert dict(zip(GRAMMARS, strings, strict=True)) == {
        "sites": None, "composition": ScopeEncoder("composition").encode(disordered), "full": None
    }  # fmt: skip


def test_full_refuses_partial_occupancies_and_names_the_file(tmp_path: Path) -> None:
    brass = Structure(CUBE, [{"Cu": 0.5, "Zn": 0.5}], [[0, 0, 0]])
    full = ScopeEncoder(grammar="full", canonical=False)
    with pytest.raises(errors.DisorderedStructureError, match=r"Cu0\.5"):
        full.encode(brass)
    path = tmp_path / "brass.cif"
    brass.to(filename=str(path))
    with pytest.raises(errors.DisorderedStructureError) as caught:
        full.encode(path)
    assert str(path) in str(caught.value)
    assert ScopeEncoder("composition", canonical=False).encode(path).startswith("1 4 b O O O")


def test_no_symmetry_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    """A tolerance of the size of the bond merges the atoms, which spglib refuses."""
    path = tmp_path / "pair.vasp"
    Poscar(Structure(CUBE, ["Na", "Na"], [[0, 0, 0], [0, 0, 0.2]])).write_file(path)
    with pytest.raises(errors.SymmetryError, match="lower `symprec`") as caught:
        ScopeEncoder("composition", False, symprec=1.0).encode(path)
    assert str(path) in str(caught.value)
    assert caught.value.flag == "symprec"


def test_the_size_limit_is_the_encoders(encoder: ScopeEncoder) -> None:
    big = Structure(Lattice.cubic(2.5), ["Cu"], [[0, 0, 0]]) * (20, 25, 10)
    with pytest.raises(errors.CrystalTooLargeError, match="5000"):
        encoder.encode(big)
    small = Structure(Lattice.cubic(2.5), ["Cu"], [[0, 0, 0]]) * (3, 1, 1)
    assert ScopeEncoder("composition", False, max_atoms=3).describe(small).n_atoms == 1
    with pytest.raises(errors.CrystalTooLargeError):
        ScopeEncoder("composition", False, max_atoms=2).encode(small)


def test_the_tolerance_is_used(encoder: ScopeEncoder) -> None:
    bent = Structure(Lattice.from_parameters(4.0, 4.0, 4.005, 90, 90, 90), ["Po"], [[0, 0, 0]])
    assert ScopeEncoder("composition", False, symprec=0.001).describe(bent).space_group == 123
    assert ScopeEncoder("composition", False, symprec=0.1).describe(bent).space_group == 221


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"grammar": "sonnet"}, "sonnet"),
        ({"grammar": None}, "grammar"),
        ({"symprec": 0.0}, "symprec"),
        ({"symprec": -0.01}, "symprec"),
        ({"symprec": float("nan")}, "symprec"),
        ({"angle_tolerance": 0.0}, "angle_tolerance"),
        ({"max_atoms": 0}, "max_atoms"),
    ],
    ids=str,
)
def test_arguments_that_cannot_work_are_refused(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        ScopeEncoder(**arguments)


def test_repr_tells_the_settings() -> None:
    encoder = ScopeEncoder(grammar="full", canonical=False, symprec=0.02, angle_tolerance=3.0, max_atoms=7)
    again = eval(repr(encoder))
    assert vars(again) == vars(encoder)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_batch_is_the_same_one_by_one_with_errors_as_rows(processes: int) -> None:
    encoder = ScopeEncoder()
    rows = list(encoder.encode_batch(iter([EXAMPLES[0], "absent.cif", EXAMPLES[1]]), processes))
    assert [rows[0], rows[2]] == [encoder.describe(path) for path in EXAMPLES[:2]]
    assert isinstance(rows[1], errors.CrystalReadError)
    assert list(encoder.encode_batch(EXAMPLES, timeout=None)) == [encoder.describe(path) for path in EXAMPLES]


def test_a_batch_refuses_no_processes_at_once() -> None:
    with pytest.raises(errors.CloudError, match="processes"):
        ScopeEncoder().encode_batch([], processes=0)


@given(
    st.sampled_from(("sites", "composition", "full")), st.booleans(), st.sampled_from(("spglib", "moyopy")),
    st.floats(1e-8, 10), st.floats(1e-3, 100),
)  # fmt: skip
def test_settings_are_read_back(grammar: str, canonical: bool, symmetry: str, symprec: float, angle: float) -> None:
    written = EncoderSettings(grammar, canonical, symmetry, "2.7.0rc1", symprec, angle)
    for line in (str(written), f"{written} (all but 3 rows)"):
        found = EncoderSettings.read(line)
        assert found[:4] == written[:4]
        assert str(found) == str(written)


@pytest.mark.parametrize(
    "line", ["", "sites", "sites, canonical, spglib, symprec 1, angle_tolerance 5", "x, y, z, u, v"]
)
def test_what_is_no_line_of_settings(line: str) -> None:
    with pytest.raises(CloudError, match="is not a line of encoder settings"):
        ScopeEncoder.from_settings(line)
