"""The element of an atom row: read where the name can mean one only, else refused with the reason."""

from __future__ import annotations

import pytest

from cloud_hf.crystals.cif_species import row_element

TYPES = {
    "Na": "Na", "Na1+": "Na", "Fe+3": "Fe", "O2-": "O", "Fe3": "Fe", "FE": "Fe", "na": "Na", "D": "H", "D+": "H",
    "2H": "H", "57Fe": "Fe", "Cval": "C", "Cl0+": "Cl", "Cu1.5+": "Cu", "Og": "Og", "Hw": "H",
}  # fmt: skip
NO_TYPES = (
    "OH", "OH1-", "NH3", "NH4", "H2O", "CO3", "HO", "Wat", "Vac", "Va", "Du", "X", "M", "T", "REE", "0.66Zn", "99H",
    "Fe0.5Ni0.5", "Fe,Ni", "C-H", "nan", "1", "Zz",
)  # fmt: skip
LABELS = {
    "Na1": "Na", "Na": "Na", "Na+": "Na", "Fe3+": "Fe", "CL1": "Cl", "MG2": "Mg", "O(1)": "O", "O1'": "O",
    "Si(1)a": "Si", "SiT1": "Si", "Oa1": "O", "Obm": "O", "Oco": "O",
    "HW1": "H", "HN2": "H", "W1": "W", "Co2": "Co", "C12A": "C",
}  # fmt: skip
NO_LABELS = (
    "T1", "T1o", "M1", "A", "X1", "Q3", "Wat", "Vac1", "Du1", "D1", "H2O", "O-H", "Na/K", "(Na,K)1", "Fe0.5Ni0.5", "2H",
    "CA1", "HO1", "CO1", "TM1", "RE1", "Tet", "Cation", "Metal1", "?",
)  # fmt: skip


@pytest.mark.parametrize("word", TYPES)
def test_type_symbols(word: str) -> None:
    assert row_element(word, "Zz9").element == TYPES[word]


@pytest.mark.parametrize("word", NO_TYPES)
def test_type_symbols_that_name_no_element(word: str) -> None:
    read = row_element(word, "Na1")
    assert not read.element
    assert word in read.reason


@pytest.mark.parametrize("label", LABELS)
def test_labels(label: str) -> None:
    assert row_element("", label) == (LABELS[label], "", False)
    assert row_element("?", label).element == LABELS[label]


@pytest.mark.parametrize("label", NO_LABELS)
def test_labels_that_name_no_element(label: str) -> None:
    assert not row_element(".", label).element


@pytest.mark.parametrize(
    ("label", "formula", "element"),
    [
        ("HO1", "MgOH", "H"), ("HO1", ("Ho", "O"), "Ho"), ("CA1", ("Ca", "O"), "Ca"), ("CA1", "CHNO", "C"),
        ("Co1", "COH", "C"), ("CO1", ("Co", "O"), "Co"), ("NA2", ("Na", "Cl"), "Na"), ("D1", "HO", "H"),
    ],
)  # fmt: skip
def test_the_formula_decides_between_two_readings(label: str, formula: tuple[str, ...], element: str) -> None:
    assert row_element("", label, frozenset(formula)).element == element


@pytest.mark.parametrize("label", ["Ow1", "OW", "O2W", "OH1", "Oh", "NH3", "CH2"])
def test_names_of_groups_ask_for_their_hydrogen(label: str) -> None:
    read = row_element("", label, frozenset("NOCH"))
    assert (read.element, read.has_hydrogen) == (label[0], True)
