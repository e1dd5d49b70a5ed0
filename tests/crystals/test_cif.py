"""CIFs in order give what pymatgen's parser gives; what it guesses is refused; damage ends in a typed error."""

from __future__ import annotations

import random
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Element, Lattice, Structure
from pymatgen.io.cif import CifParser, CifWriter

from cloud_hf import errors
from cloud_hf.crystals.cell import Cell
from cloud_hf.crystals.cif import cell_from_cif
from cloud_hf.crystals.objects import cell_from_structure
from cloud_hf.crystals.opening import read_texts
from cloud_hf.crystals.readers import read_cell
from example_files import EACH_EXAMPLE, EXAMPLES

HEAD = """data_cell
_cell_length_a 4.0(1)
_cell_length_b 5
_cell_length_c 6.5
_cell_angle_alpha 90
_cell_angle_beta 95.5(2)
_cell_angle_gamma 90
"""
P1 = "_symmetry_space_group_name_H-M 'P 1'\n"
OPERATIONS = "loop_\n_symmetry_equiv_pos_as_xyz\n'x, y, z'\n'-x, -y, -z'\n"
COLUMNS = "loop_\n_atom_site_label\n_atom_site_type_symbol\n" + "".join(f"_atom_site_fract_{x}\n" for x in "xyz")
SALT = "Na1 Na 0 0 0\nCl1 Cl 0.5 0.5 0.5\n"


def assert_same(one: Cell, other: Cell) -> None:
    """Same lattice, and the same sites in some order, up to whole lattice vectors."""
    np.testing.assert_allclose(one.lattice, other.lattice, rtol=0, atol=1e-6)
    assert len(one) == len(other)
    left = list(range(len(other)))
    for coords, content in zip(one.frac_coords, one.contents, strict=True):
        steps = other.frac_coords[left] - coords
        distances = np.linalg.norm((steps - np.rint(steps)) @ one.lattice, axis=1)
        nearest = int(np.argmin(distances))
        assert distances[nearest] < 1e-3
        assert dict(other.contents[left.pop(nearest)]) == pytest.approx(dict(content))


def by_parser(text: str) -> Cell:
    """What pymatgen's parser says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cell_from_structure(CifParser.from_str(text).parse_structures(primitive=False)[0], 10_000, "cif")


def written(structure: Structure) -> list[str]:
    """A structure as CIF, in P1 and symmetrised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [str(CifWriter(structure)), str(CifWriter(structure, symprec=0.01))]


# ------------------------------------------------------------------------------------------------ agreement


@pytest.mark.parametrize("path", EACH_EXAMPLE)
def test_examples_read_as_pymatgen_reads_them(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert_same(cell_from_cif(text, "cif", 1000), by_parser(text))
    for again in written(Structure.from_file(path)):
        assert_same(cell_from_cif(again, "cif", 1000), by_parser(again))


@pytest.mark.parametrize("group", [1, 2, 14, 39, 62, 88, 121, 146, 148, 164, 176, 186, 194, 205, 216, 225, 227, 230])
def test_random_crystals_read_as_pymatgen_reads_them(group: int) -> None:
    """General and special positions in every crystal system, disorder included."""
    rng = np.random.default_rng(group)
    angles = (90, 90, 120) if 143 <= group <= 194 else (90, 90, 90) if group > 15 else (90, 101, 90)
    a, b, c = (9.0, 9.0, 9.0) if group >= 195 else (9.0, 9.0, 11.0) if group >= 75 else (9.0, 10.0, 11.0)
    lattice = Lattice.from_parameters(a, b, c, *angles)
    kinds = ["Fe", {"Na": 0.5, "K": 0.25}]
    general = [0.31, 0.31, 0.31] if group >= 195 else rng.uniform(0.2, 0.3, 3).tolist()
    structure = Structure.from_spacegroup(group, lattice, kinds, [[0, 0, 0], general])
    for text in written(structure):
        assert_same(cell_from_cif(text, "cif", 1000), by_parser(text))


@pytest.mark.parametrize("n", [3, pytest.param(12, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["materials_project", "wbm", "jarvis", "lemat", "nomad2018"])
def test_database_crystals_read_as_pymatgen_reads_them(shared: Path, name: str, n: int) -> None:
    import pandas as pd

    table = pd.read_parquet(shared / "data" / f"{name}.parquet", columns=["lattice", "numbers", "frac_coords"])
    for row in table[table.numbers.map(len) <= 40].sample(n, random_state=7).itertuples():
        structure = Structure(np.reshape(row.lattice, (3, 3)), row.numbers, np.reshape(row.frac_coords, (-1, 3)))
        for text in written(structure):
            assert_same(cell_from_cif(text, "cif", 1000), by_parser(text))


UNUSUAL = {
    "no symmetry": HEAD + P1 + COLUMNS + SALT,
    "a symbol": HEAD.replace("95.5(2)", "90") + "_symmetry_space_group_name_H-M 'P m m m'\n" + COLUMNS + SALT,
    "a number": HEAD.replace("95.5(2)", "90") + "_space_group_IT_number 16\n" + COLUMNS + SALT,
    "labels only": HEAD + OPERATIONS + COLUMNS.replace("_atom_site_type_symbol\n", "") + "Na1 0 0 0\nCl2 .5 .5 .5\n",
    "ions": HEAD + OPERATIONS + COLUMNS + "Na1 Na1+ 0 0 0\nO1 O2- 0.5 0.5 0.5\n",
    "thirds": HEAD + OPERATIONS + COLUMNS + "Na1 Na 0.3333 0.6667 0.25\nCl1 Cl 0.33334 -0.6666 0.5(1)\n",
    "uncertainties": HEAD + OPERATIONS + COLUMNS + "Na1 Na 0.1234(5) 0.2(1) 0.3(12)\n",
    "shared site": HEAD + OPERATIONS + COLUMNS + "_atom_site_occupancy\nFe Fe 0 0 0 0.5\nNi Ni 0 0 0 0.25\n",
    "shared by symmetry": HEAD + OPERATIONS + COLUMNS + "_atom_site_occupancy\nA Fe .1 .2 .3 .5\nB Ni -.1 -.2 -.3 .5\n",
    "nearly one site": HEAD + OPERATIONS + COLUMNS + "_atom_site_occupancy\nA Fe 0 0 0 .5\nB Ni 0 0 0.00009 .5\n",
    "nearly special": HEAD + OPERATIONS + COLUMNS + "Na1 Na 0.00005 0 0\nCl1 Cl 0.5 0.5 0.50003\n",
    "comments": HEAD + OPERATIONS + COLUMNS + "Na1 Na 0 0 0 # sodium\nCl1 Cl 0.5 0.5 0.5\n#END\n",
    "hash in quotes": HEAD + "_publ_title 'salt # 1'\n" + OPERATIONS + COLUMNS + SALT,
    "text field": HEAD + "_publ_text\n;\nloop_ of text\n;\n" + OPERATIONS + COLUMNS + SALT,
    "umlaut": HEAD + "_publ_title 'Übergang'\n" + OPERATIONS + COLUMNS + SALT,
    "integer translations": HEAD + OPERATIONS.replace("-z", "-z+1") + COLUMNS + SALT,
    "one operation": HEAD + "_symmetry_equiv_pos_as_xyz 'x,y,z'\n" + COLUMNS + SALT,
}


@pytest.mark.parametrize("case", UNUSUAL)
def test_unusual_files_read_as_pymatgen_reads_them(case: str) -> None:
    assert_same(cell_from_cif(UNUSUAL[case], "cif", 1000), by_parser(UNUSUAL[case]))


SAYS_NO_CRYSTAL = {
    "no symmetry": (HEAD + COLUMNS + SALT, "states no space group"),
    "an unknown symbol": (HEAD + "_symmetry_space_group_name_H-M 'Q 7'\n" + COLUMNS + SALT, "'Q 7'"),
    "broken operations": (HEAD + OPERATIONS.replace("-x", "-?") + COLUMNS + SALT, "-\\?, -y, -z"),
    "water without hydrogen": (HEAD + OPERATIONS + COLUMNS + "Ow1 Ow 0 0 0\nNa1 Na 0.5 0.5 0.5\n", "Ow1"),
    "implicit position": (HEAD + OPERATIONS + COLUMNS + "Na1 Na . . .\nCl1 Cl 0.5 0.5 0.5\n", "of Na1"),
    "no group": (HEAD + OPERATIONS + "'x+1/2,y,z+1/3'\n" + COLUMNS + SALT, "no group"),
}
"""Files that pymatgen's parser reads, by a default that the file does not state."""


@pytest.mark.parametrize("case", SAYS_NO_CRYSTAL)
def test_nothing_is_guessed(case: str) -> None:
    text, reason = SAYS_NO_CRYSTAL[case]
    with pytest.raises(errors.CrystalReadError, match=rf"^my\.cif: .*{reason}"):
        cell_from_cif(text, "my.cif", 1000)


def test_an_unknown_occupancy_is_one() -> None:
    rows = "_atom_site_occupancy\nNa1 Na 0 0 0 ?\nCl1 Cl 0.5 0.5 0.5 .\n"
    assert cell_from_cif(HEAD + OPERATIONS + COLUMNS + rows, "cif", 9).amounts() == {"Na": 1.0, "Cl": 1.0}


def test_oxygen_and_hydrogen_on_one_site_stay_two_elements() -> None:
    rows = "_atom_site_occupancy\nO O 0 0 0 0.5\nH H 0 0 0 0.25\n"
    assert cell_from_cif(HEAD + OPERATIONS + COLUMNS + rows, "cif", 9).amounts() == {"O": 0.5, "H": 0.25}


@pytest.mark.parametrize("exact_order", [False, True])
def test_exact_order_is_pymatgens_order(exact_order: bool) -> None:
    text = HEAD + OPERATIONS + COLUMNS + "O1 O 0.1 0.2 0.3\nNa1 Na 0.5 0.5 0.5\n"
    elements = [content[0][0] for content in cell_from_cif(text, "cif", 9, exact_order).contents]
    assert elements == (["Na", "O", "O"] if exact_order else ["O", "O", "Na"])


@pytest.mark.parametrize("exact_order", [False, True])
def test_deuterium_is_hydrogen(exact_order: bool) -> None:
    rows = "_atom_site_occupancy\nLi1 Li 0 0 0 1\nD1 D 0.5 0.5 0.5 0.75\nH1 H 0.5 0.5 0.5 0.25\nT1 T 0.2 0.2 0.2 1\n"
    cell = cell_from_cif(HEAD + P1 + COLUMNS + rows, "cif", 9, exact_order)
    assert sorted(content[0][0] for content in cell.contents) == ["H", "H", "Li"]
    assert cell.is_ordered


# ------------------------------------------------------------------------------------------------ blocks and bytes


def test_the_first_block_with_atoms_counts() -> None:
    front = "data_global\n_publ_section_title 'salts'\n"
    hollow = HEAD + P1 + COLUMNS
    copper = HEAD.replace("data_cell", "data_other") + P1 + COLUMNS + "Cu1 Cu 0 0 0\n"
    for text in (front + hollow + copper, hollow + front + copper + HEAD + P1 + COLUMNS + SALT, copper + front):
        assert cell_from_cif(text, "cif", 9).amounts() == {"Cu": 1.0}


@pytest.mark.parametrize("exact_order", [False, True])
def test_a_later_block_does_not_stand_in_for_a_broken_one(exact_order: bool) -> None:
    broken = HEAD.replace("_cell_length_a 4.0(1)", "_cell_length_a ?") + P1 + COLUMNS + SALT
    with pytest.raises(errors.CrystalReadError, match=r"my\.cif"):
        cell_from_cif(broken + HEAD + P1 + COLUMNS + SALT, "my.cif", 9, exact_order)


@pytest.mark.parametrize("exact_order", [False, True])
def test_every_block_with_atoms_is_read(exact_order: bool) -> None:
    def block(name: str, body: str) -> str:
        return HEAD.replace("cell", name, 1) + P1 + COLUMNS + body

    broken = block("broken", SALT).replace("_cell_length_a 4.0(1)", "_cell_length_a ?")
    powder = "data_powder\n_publ_section_title 'no atoms'\n"
    hollow = block("hollow", "")
    text = powder + block("salt", SALT) + hollow + broken + block("salt", "Cu1 Cu 0 0 0\n") + powder
    found = dict(read_texts(text, "my.cif", 9, exact_order))
    assert list(found) == ["my.cif#salt", "my.cif#broken", "my.cif#salt-2"]
    salt, error, copper = found.values()
    assert isinstance(salt, Cell)
    assert isinstance(copper, Cell)
    assert (salt.name, salt.amounts()) == ("my.cif#salt", {"Na": 1.0, "Cl": 1.0})
    assert (copper.name, copper.amounts()) == ("my.cif#salt-2", {"Cu": 1.0})
    assert_same(salt, cell_from_cif(text, "my.cif", 9, exact_order))
    assert isinstance(error, errors.CrystalReadError)
    assert "my.cif#broken" in str(error)


def test_a_file_with_one_block_of_atoms_keeps_its_name() -> None:
    [(name, cell)] = read_texts("data_global\n_publ_section_title 'salts'\n" + HEAD + P1 + COLUMNS + SALT, "my.cif", 9)
    assert name == "my.cif"
    assert isinstance(cell, Cell)
    for text, kind in ((HEAD + P1 + COLUMNS, errors.EmptyCrystalError), ("no data", errors.CrystalReadError)):
        [(name, error)] = read_texts(text, "my.cif", 9, kind="cif")
        assert isinstance(error, kind)
        assert str(error).startswith("my.cif: ")


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data.replace(b"\n", b"\r"),
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.replace(b"data_cell\n", b"data_cell\n_publ_author 'M\xfcller \xc5'\n"),
        lambda data: b"# a comment with \xff\n" + data,
        lambda data: data.replace(b"data_cell", b"DATA_cell"),
        lambda data: b"\n\n  " + data.rstrip(b"\n"),
        lambda data: data.replace(b" ", b" " * 2000),
        lambda data: data.replace(b"\n", b"\n" * 500 + b" " * 500).rstrip(),
    ],
    ids=["CRLF", "CR", "BOM", "latin-1", "comment", "upper case", "blank lines", "rows of blanks", "rows of lines"],
)
def test_line_ends_and_encodings_change_nothing(tmp_path: Path, change: object) -> None:
    data = (HEAD + OPERATIONS + COLUMNS + SALT).encode()
    path = tmp_path / "salt.cif"
    path.write_bytes(change(data))  # type: ignore[operator]
    for exact_order in (False, True):
        assert_same(read_cell(path, exact_order=exact_order), cell_from_cif(data.decode(), "cif", 9))


BAD = {
    "occupancy above one": (COLUMNS + "_atom_site_occupancy\nNa1 Na 0 0 0 1.5\n", errors.CrystalReadError),
    "an empty site": (
        COLUMNS + "_atom_site_occupancy\nNa1 Na 0 0 0 0\nCl1 Cl 0.5 0.5 0.5 1\n", errors.CrystalReadError,
    ),
    "occupancies above one": (
        COLUMNS + "_atom_site_occupancy\nNa1 Na 0 0 0 1\nK1 K 0 0 0 1\n", errors.CrystalReadError,
    ),
    "no coordinates": (COLUMNS + "Na1 Na ? ? ?\n", errors.CrystalReadError),
    "dummy element": (COLUMNS + "X1 X 0 0 0\n", errors.UnknownElementError),
    "rows cut off": (COLUMNS + "Na1 Na 0 0 0\nCl1 Cl 0.5\n", errors.CrystalReadError),
    "without names": (
        COLUMNS.replace("_atom_site_label\n_atom_site_type_symbol\n", "") + "0 0 0\n", errors.CrystalReadError,
    ),
    "no rows": (COLUMNS, errors.EmptyCrystalError),
    "no atoms": ("", errors.EmptyCrystalError),
}  # fmt: skip


@pytest.mark.parametrize("exact_order", [False, True])
@pytest.mark.parametrize("case", BAD)
def test_bad_files_have_their_own_error(tmp_path: Path, case: str, exact_order: bool) -> None:
    tail, error = BAD[case]
    path = tmp_path / "bad.cif"
    path.write_text(HEAD + P1 + tail, encoding="utf-8")
    with pytest.raises(error) as caught:
        read_cell(path, exact_order=exact_order)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("exact_order", [False, True])
@pytest.mark.parametrize("value", ["0", "-3", "0.0"])
def test_a_cell_without_length_is_named(value: str, exact_order: bool) -> None:
    text = HEAD.replace("_cell_length_b 5", f"_cell_length_b {value}") + P1 + COLUMNS + SALT
    with pytest.raises(errors.DegenerateLatticeError, match="_cell_length_b"):
        cell_from_cif(text, "cif", 9, exact_order)


@pytest.mark.parametrize("exact_order", [False, True])
def test_symmetry_that_makes_too_many_sites_is_refused_at_once(exact_order: bool) -> None:
    rng = np.random.default_rng(3)
    rows = "".join(f"C{i} C {x:.4f} {y:.4f} {z:.4f}\n" for i, (x, y, z) in enumerate(rng.random((900, 3))))
    many = "".join(f"'x+{i}/97,y+{j}/89,z'\n" for i in range(97) for j in range(89))
    for text in (
        HEAD.replace("95.5(2)", "90") + "_space_group_IT_number 47\n" + COLUMNS + rows,
        HEAD + "loop_\n_symmetry_equiv_pos_as_xyz\n" + many + COLUMNS + rows,
    ):
        with pytest.raises(errors.CrystalTooLargeError, match="1000"):
            cell_from_cif(text, "cif", 1000, exact_order)


# ------------------------------------------------------------------------------------------------ fuzz


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Bytes changed, lost, doubled or moved, in one to six places."""
    text = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        i, j = sorted((rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)))
        j = min(j, i + 60)
        kind = rng.randrange(7)
        if kind == 0 and i < len(text):
            text[i] = rng.randrange(256)
        elif kind == 1:
            text[i:i] = rng.choice(
                [b"1", b"-", b".", b"e9", b"nan", b"'", b"\n;\n", b"loop_\n", b"?", b"\x00", b"#", b"data_"]
            )
        elif kind == 2:
            del text[i:j]
        elif kind == 3:
            text[i:i] = text[i:j]
        elif kind == 4:
            lines = text.split(b"\n")
            k = rng.randrange(len(lines))
            lines.insert(rng.randrange(len(lines)), lines.pop(k))
            text = bytearray(b"\n".join(lines))
        elif kind == 5 and i < len(text):
            text[i] ^= 0x20
        else:
            digits = [k for k in range(len(text)) if text[k : k + 1].isdigit()]
            if digits:
                text[rng.choice(digits)] = rng.choice(b"0123456789.-/")
        text = text or bytearray(b" ")
    return bytes(text)


def test_damaged_files_end_in_a_cell_or_a_typed_error(tmp_path: Path) -> None:
    rng = random.Random(20250)
    seeds = [path.read_bytes() for path in EXAMPLES] + [text.encode() for text in UNUSUAL.values()]
    path = tmp_path / "damaged.cif"
    outcomes: Counter[str] = Counter()
    for _ in range(400):
        path.write_bytes(mutated(rng.choice(seeds), rng))
        try:
            cell = read_cell(path)
        except errors.CloudError as error:
            outcomes["refused" if str(path) in str(error) else "nameless"] += 1
            continue
        outcomes["read"] += 1
        assert all(Element.is_valid_symbol(element) for content in cell.contents for element, _ in content)
    assert min(outcomes.values()) > 50, outcomes
    assert "nameless" not in outcomes


# ------------------------------------------------------------------------------------------------ cross-checks


SALT_CELL = "data_salt\n" + "".join(f"_cell_length_{x} 5.64\n" for x in "abc") + "".join(
    f"_cell_angle_{x} 90\n" for x in ("alpha", "beta", "gamma")
)  # fmt: skip
HALITE = "_symmetry_space_group_name_H-M 'F m -3 m'\n"
HYDROXYL = "_atom_site_attached_hydrogens\nNa1 Na 0 0 0 .\nO1 O 0.5 0.5 0.5 1\n"
DISTRUSTED = {
    "another formula": (HALITE + "_chemical_formula_sum 'Na Cl2'\n" + COLUMNS + SALT, "the formula says Na1 Cl2"),
    "other formula units": (
        HALITE + "_chemical_formula_sum 'Na Cl'\n_cell_formula_units_Z 2\n" + COLUMNS + SALT, "2 times in the cell",
    ),
    "hydrogen without a site": (HALITE + "_chemical_formula_sum 'Cl H Na'\n" + COLUMNS + SALT, "no site holds H"),
    "attached hydrogen": (HALITE + COLUMNS + HYDROXYL, "1 hydrogen atoms are attached to O1"),
    "no symmetry": (COLUMNS + SALT, "states no space group"),
}  # fmt: skip


@pytest.mark.parametrize("exact_order", [False, True])
@pytest.mark.parametrize("case", DISTRUSTED)
def test_what_the_file_says_against_its_sites_can_be_overruled(case: str, exact_order: bool) -> None:
    text, reason = DISTRUSTED[case]
    with pytest.raises(errors.CrystalReadError, match=rf"^my\.cif: .*{reason}.*`trust_sites=True`") as caught:
        cell_from_cif(SALT_CELL + text, "my.cif", 99, exact_order)
    assert caught.value.flag == "trust_sites"
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        cell = cell_from_cif(SALT_CELL + text, "my.cif", 99, exact_order, trust_sites=True)
    assert len(cell) == (2 if case == "no symmetry" else 8)
    assert cell.note
    assert any(cell.note in str(warning.message) for warning in given)


@pytest.mark.parametrize(
    "formula",
    ["'Na Cl'", "'Cl1 Na1'", "NaCl", "'Na4 Cl4'", "'Na0.999 Cl1'", "'Cl- Na+'", "?", "'(Na Cl)'", "'Na Cl 2+'"],
)
def test_formulas_that_do_not_speak_against_the_sites(formula: str) -> None:
    text = f"{SALT_CELL}{HALITE}_chemical_formula_sum {formula}\n{COLUMNS}{SALT}"
    cell = cell_from_cif(text, "my.cif", 99)
    assert (cell.amounts(), cell.note) == ({"Na": 4.0, "Cl": 4.0}, "")


@pytest.mark.parametrize(("element", "is_read"), [("Na", True), ("Cs", True), ("H", True), ("Ag", False)])
def test_peroxides_are_counted_by_their_own_formula_unit(element: str, is_read: bool) -> None:
    """pymatgen writes two units of Na2O2, where it would write four of any other compound of that many atoms."""
    coords: list[list[float]] = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    coords += [[x + 0.5, y, z] for x, y, z in coords]
    written = str(CifWriter(Structure(Lattice.cubic(5), [element] * 4 + ["O"] * 4, coords)))
    units = "_cell_formula_units_Z   "
    assert f"{units}{2 if is_read else 4}\n" in written
    text = written.replace(f"{units}4", f"{units}2")
    if is_read:
        assert cell_from_cif(text, "my.cif", 99).amounts() == {element: 4.0, "O": 4.0}
    else:
        with pytest.raises(errors.CrystalReadError, match="2 times in the cell"):
            cell_from_cif(text, "my.cif", 99)


def test_disorder_explains_a_difference() -> None:
    rows = "_atom_site_occupancy\nNa1 Na 0 0 0 0.93\nCl1 Cl 0.5 0.5 0.5 1\n"
    for formula, is_read in (("Cl Na0.95", True), ("Cl Na0.7", False), ("Cl Na K0.001", True), ("Cl Na K0.1", False)):
        text = f"{SALT_CELL}{HALITE}_chemical_formula_sum '{formula}'\n{COLUMNS}{rows}"
        if is_read and "Na0.95" in formula:
            assert len(cell_from_cif(text, "cif", 99)) == 8
        elif not is_read:
            with pytest.raises(errors.CrystalReadError, match="the formula says"):
                cell_from_cif(text, "cif", 99)


def test_alternatives_of_a_disordered_place_need_occupancies() -> None:
    head = SALT_CELL + P1 + COLUMNS + "_atom_site_disorder_group\n"
    with pytest.raises(errors.CrystalReadError, match="disorder groups 1, 2 are alternatives"):
        cell_from_cif(head + "Na1 Na 0 0 0 .\nClA Cl .5 .5 .45 1\nClB Cl .5 .5 .55 2\n", "cif", 9)
    rows = "_atom_site_occupancy\nNa1 Na 0 0 0 . 1\nClA Cl .5 .5 .45 1 .5\nClB Cl .5 .5 .55 2 .5\n"
    assert cell_from_cif(head + rows, "cif", 9).amounts() == {"Na": 1.0, "Cl": 1.0}


def test_atoms_rounded_off_a_special_position_are_not_doubled() -> None:
    """Three digits put oxygen 0.01 Å off the threefold axis: its images are one atom, not three."""
    operations = ["x,y,z", "-y,x-y,z", "-x+y,-x,z", "-x,-y,-z", "y,-x+y,-z", "x-y,x,-z"]
    centrings = [(0, 0, 0), (2 / 3, 1 / 3, 1 / 3), (1 / 3, 2 / 3, 2 / 3)]
    rows = "".join(
        "'" + ",".join(f"{part}+{t:.4f}" for part, t in zip(text.split(","), shift, strict=True)) + "'\n"
        for shift in centrings for text in operations
    )  # fmt: skip
    head = "data_x\n_cell_length_a 13.4\n_cell_length_b 13.4\n_cell_length_c 5.1\n_cell_angle_alpha 90\n"
    head += f"_cell_angle_beta 90\n_cell_angle_gamma 120\nloop_\n_symmetry_equiv_pos_as_xyz\n{rows}"
    for occupancy in ("1", ".5"):
        atoms = f"_atom_site_occupancy\nSi1 Si .199 .252 .0 1\nO1 O .167 .333 .333 {occupancy}\n"
        cell = cell_from_cif(head + COLUMNS + atoms, "cif", 99)
        assert cell.amounts() == pytest.approx({"Si": 18.0, "O": 9.0 * float(occupancy)})
