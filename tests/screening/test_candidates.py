"""Prototypes, elements and rules of chemistry to a stream of candidates."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Element

from cloud_hf.errors import CloudError, DisorderedStructureError, EncodingTimeoutError
from cloud_hf.scope import ScopeEncoder, parse
from cloud_hf.screening.candidates import Counts, Product
from cloud_hf.screening.chemistry import Rules
from cloud_hf.screening.elements import GROUPS, group_elements, parse_elements, parse_slots
from cloud_hf.screening.prototypes import bundled_prototypes, read_prototypes, slot_maps

FREE = Rules(neutral=False, ordered=False)


@pytest.mark.parametrize("name", bundled_prototypes())
def test_the_structure_of_a_prototype_has_its_string(name: str) -> None:
    prototype = bundled_prototypes()[name]
    encoded = ScopeEncoder().describe(prototype.structure)
    assert encoded.scope == prototype.scope
    assert encoded.formula == prototype.formula
    assert encoded.n_atoms == prototype.n_atoms
    assert prototype.compound(prototype.elements) == prototype.formula


@pytest.mark.parametrize("group", GROUPS)
def test_groups_hold_distinct_elements(group: str) -> None:
    found = group_elements(group)
    assert found
    assert len({*found}) == len(found)
    assert all(Element.is_valid_symbol(symbol) for symbol in found)


def test_elements_by_symbol_group_and_minus() -> None:
    assert parse_elements("O,halogens,-I") == ("O", "F", "Cl", "Br")
    assert {*group_elements("all")} - {*parse_elements("-halogens")} == {"F", "Cl", "Br", "I"}
    assert parse_slots(["A=Li, Na", "X=O"]) == {"A": ("Li", "Na"), "X": ("O",)}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("A=Li,transition-metal", "did you mean transition-metals"),
        ("A=", "no element"),
        ("Li,Na", "which slot"),
        ("=O", "which slot"),
    ],
)
def test_elements_that_cannot_be_read(text: str, reason: str) -> None:
    with pytest.raises(CloudError, match=reason):
        parse_slots([text])


def test_a_slot_is_given_once() -> None:
    with pytest.raises(CloudError, match="given twice"):
        parse_slots(["A=Li", "A=Na"])


@pytest.mark.parametrize(
    ("elements", "counts", "allowed"),
    [
        (["Na", "Cl"], [1, 1], True),
        (["Na", "Cl"], [1, 2], False),
        (["Cl", "Na"], [1, 1], True),
        (["Sr", "Ti", "O"], [1, 1, 3], True),
        (["Sr", "Na", "O"], [1, 1, 3], False),
        (["Ga", "As"], [1, 1], True),
        (["Ti", "Ni", "Sn"], [1, 1, 1], True),
    ],
)
def test_charges(elements: list[str], counts: list[int], allowed: bool) -> None:
    assert Rules().allow(elements, counts) is allowed
    assert FREE.allow(elements, counts)


def test_alloys_need_leave() -> None:
    assert not Rules(alloys=False).allow(["Ni", "Al"], [1, 1])


def test_a_cation_more_electronegative_than_the_anion_is_refused() -> None:
    # Au3+ with Te2- adds up, but gold is more electronegative than tellurium
    assert Rules(ordered=False).allow(["Au", "Te"], [2, 3])
    assert not Rules().allow(["Au", "Te"], [2, 3])


@given(st.sampled_from(["rock-salt", "fluorite", "half-heusler", "chalcopyrite", "perovskite"]), st.data())
def test_each_crystal_once_and_none_lost(name: str, data: st.DataObject) -> None:
    prototypes = [bundled_prototypes()[name], bundled_prototypes()["antifluorite"]]
    symbols = st.lists(st.sampled_from(["Li", "Mg", "Al", "Ti", "O", "S", "F"]), min_size=1, max_size=4, unique=True)
    slots = {slot: data.draw(symbols) for slot in prototypes[0].slots}
    product = Product.of(prototypes, slots, FREE)
    counts = Counts()
    found = [one.scope for one in product.candidates(counts=counts)]
    everything = {
        prototype.string(elements)
        for prototype, pool in zip(prototypes, product.pools, strict=True)
        for elements in itertools.product(*pool)
        if len({*elements}) == len(elements)
    }
    assert len(found) == len({*found})
    assert {*found} == everything
    assert counts.products == len(product) == counts.repeated + counts.duplicates + counts.forbidden + len(found)


@given(st.lists(st.integers(0, 400), min_size=0, max_size=4))
def test_pieces_of_the_stream_are_the_stream(cuts: list[int]) -> None:
    prototypes = read_prototypes(["rock-salt", "perovskite"])
    product = Product.of(prototypes, {"A": ["Na", "Ca", "La"], "B": ["Ti", "Al", "Nb", "Mg"], "X": ["O", "F", "S"]})
    borders = [0, *sorted(cut % len(product) for cut in cuts), len(product)]
    pieces = [one for start, stop in itertools.pairwise(borders) for one in product.candidates(start, stop)]
    assert pieces == list(product.candidates())


def test_exchanged_slots_give_the_same_crystals() -> None:
    found = bundled_prototypes()
    for one, other in itertools.product(found.values(), repeat=2):
        for order in slot_maps(one, other):
            elements = ["Li", "Mg", "Al", "O"][: len(one)]
            moved = [""] * len(one)
            for slot, element in zip(order, elements, strict=True):
                moved[slot] = element
            assert one.string(elements) == other.string(moved)


def test_prototypes_from_files_strings_and_names(examples: list) -> None:
    crystal = str(examples[0])
    (from_file,) = read_prototypes([crystal])
    (from_string,) = read_prototypes([ScopeEncoder().encode(crystal)])
    assert from_file.orbits == from_string.orbits
    assert from_file.structure is not None
    assert from_string.structure is None
    assert from_file.slots[-1] == "X"


def test_prototypes_that_differ_in_elements_are_one() -> None:
    perovskite = bundled_prototypes()["perovskite"]
    strings = [perovskite.string(elements) for elements in (("Sr", "Ti", "O"), ("K", "Nb", "F"))]
    assert len(read_prototypes(strings)) == 1


def test_an_element_names_its_slot() -> None:
    product = Product.of(read_prototypes(["perovskite"]), {"Ti": ["Zr"], "A": ["Ca"], "O": ["O"]})
    (one,) = product.candidates()
    assert parse(one.scope).formula == "CaZrO3"


def test_what_cannot_be_a_prototype(tmp_path) -> None:
    with pytest.raises(CloudError, match="neither a file nor one of the prototypes"):
        read_prototypes(["rocksalt-typo"])
    mixed = tmp_path / "mixed.cif"
    mixed.write_text(
        "data_mixed\n_cell_length_a 4\n_cell_length_b 4\n_cell_length_c 4\n_cell_angle_alpha 90\n"
        "_cell_angle_beta 90\n_cell_angle_gamma 90\n_symmetry_space_group_name_H-M 'P 1'\nloop_\n"
        "_symmetry_equiv_pos_as_xyz\n'x,y,z'\nloop_\n_atom_site_label\n_atom_site_type_symbol\n_atom_site_fract_x\n"
        "_atom_site_fract_y\n_atom_site_fract_z\n_atom_site_occupancy\nA Cu 0 0 0 0.5\nB Au 0 0 0 0.5\n"
    )
    with pytest.raises(DisorderedStructureError, match="order the crystal"):
        read_prototypes([str(mixed)])


def test_a_file_that_hangs_is_no_prototype(hanging_table: Path) -> None:
    with pytest.raises(EncodingTimeoutError, match=r"^bad: "):
        read_prototypes([str(hanging_table)], timeout=600.0)


def test_every_crystal_of_a_file_is_a_prototype(examples: list[Path], tmp_path: Path) -> None:
    names = ("Cu", "NaCl", "MgO")
    both = tmp_path / "both.cif"
    both.write_text("\n".join(path.read_text() for path in examples if path.stem in names))
    apart = read_prototypes([path for path in examples if path.stem in names])
    found = read_prototypes([both])
    assert len(found) > 1
    assert [one.orbits for one in found] == [one.orbits for one in apart]
    assert all(one.structure is not None for one in found)


def test_limits_are_said_before_the_work() -> None:
    prototypes = read_prototypes(["perovskite"])
    with pytest.raises(CloudError, match="more than the limit of 1,000") as caught:
        Product.of(prototypes, {"X": ["O"]}, limit=1000)
    assert "5,776" in str(caught.value)
    with pytest.raises(CloudError, match="no prototype has a slot 'Q'"):
        Product.of(prototypes, {"Q": ["O"]})
