"""The one split: no crystal on two sides, whatever the rows and tables, and names that find the same crystal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from cloud_hf import ScopeEncoder
from cloud_hf.data.assignment import (
    SIDES,
    assign,
    composition_name,
    database_entry,
    folds_by_crystal,
    group_rows,
    protostructure,
)
from cloud_hf.errors import CloudError, ScopeError
from cloud_hf.scope import parse
from example_files import EACH_EXAMPLE

# rows of synthetic tables: one or two names each, some with a database entry
NAMES = st.lists(st.sampled_from([f"name {index:02}" for index in range(30)]), min_size=1, max_size=2)
ROW = st.tuples(NAMES, st.one_of(st.none(), st.sampled_from([f"mp-{index}" for index in range(8)])))
ROWS = st.lists(ROW, max_size=40)
SEEDS = st.integers(0, 99)

Row = tuple[list[str], str | None]


def split(rows: list[Row], seed: int = 0) -> list[tuple[str, int, str]]:
    groups = group_rows([names for names, _ in rows], [entry for _, entry in rows])
    return list(zip(groups, *assign(groups, 5, 0.3, seed), strict=True))


@settings(max_examples=80)
@given(rows=ROWS, seed=SEEDS)
def test_no_name_and_no_entry_on_two_sides(rows: list[Row], seed: int) -> None:
    found = split(rows, seed)
    sides: dict[str, set[tuple[str, int, str]]] = {}
    for (names, entry), side in zip(rows, found, strict=True):
        for name in [*names, *([entry] if entry else [])]:
            sides.setdefault(name, set()).add(side)
        assert side[1] in range(5)
        assert side[2] in SIDES
    assert all(len(side) == 1 for side in sides.values())


@settings(max_examples=80)
@given(rows=ROWS, chance=st.randoms(use_true_random=False), seed=SEEDS)
def test_the_order_of_rows_and_of_tables_does_not_matter(rows: list[Row], chance, seed: int) -> None:
    order = list(range(len(rows)))
    chance.shuffle(order)
    shuffled = split([(rows[row][0][::-1], rows[row][1]) for row in order], seed)
    assert {row: shuffled[place] for place, row in enumerate(order)} == dict(enumerate(split(rows, seed)))


@settings(max_examples=80)
@given(rows=ROWS, more=ROWS, seed=SEEDS)
def test_another_table_moves_a_row_only_by_joining_its_group(rows: list[Row], more: list[Row], seed: int) -> None:
    before, after = split(rows, seed), split(rows + more, seed)[: len(rows)]
    for one, other in zip(before, after, strict=True):
        if one != other:  # then its group holds a smaller name now, which came from another group
            assert other[0] < one[0]


@settings(max_examples=40)
@given(rows=ROWS, seed=SEEDS)
def test_a_table_of_known_names_moves_nothing(rows: list[Row], seed: int) -> None:
    copies = [([name], None) for names, _ in rows for name in names]
    assert split(rows + copies, seed)[: len(rows)] == split(rows, seed)


def test_names_join_through_other_rows() -> None:
    groups = group_rows([["b"], ["c"], ["c", "b"], ["a"], ["d"], ["e"]], [None, None, None, "mp-1", "mp-1", None])
    assert groups == ["b", "b", "b", "a", "a", "e"]


@settings(max_examples=100)
@given(rows=st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from([None, "1", "2", "3", "4"])), max_size=20))
def test_groups_are_the_connected_rows(rows: list[tuple[str, str | None]]) -> None:
    groups = group_rows([[string] for string, _ in rows], [identifier for _, identifier in rows])
    reached = [{row} for row in range(len(rows))]
    for _ in rows:
        for one in range(len(rows)):
            for two in range(len(rows)):
                same_id = rows[one][1] is not None and rows[one][1] == rows[two][1]
                if rows[one][0] == rows[two][0] or same_id:
                    reached[one] |= reached[two]
    for one in range(len(rows)):
        assert reached[one] == {two for two in range(len(rows)) if groups[two] == groups[one]}
        assert groups[one] == min(rows[two][0] for two in reached[one])


def test_a_row_without_a_name_has_no_side_and_its_entry_joins_nothing() -> None:
    groups = group_rows([["b"], [], ["a"]], ["mp-1", "mp-1", None])
    assert groups == ["b", None, "a"]
    folds, parts = assign(groups)
    assert folds[1] is None
    assert parts[1] is None


def test_no_rows() -> None:
    assert assign(group_rows([])) == ([], [])


def test_shares_are_those_asked_for() -> None:
    names = [f"group {index}" for index in range(4000)]
    folds, parts = assign(names, 5, 0.1)
    counts = np.bincount(np.array(folds, dtype=int), minlength=5)
    assert (np.abs(counts - 800) < 100).all()  # 4 standard deviations
    assert abs(parts.count("validation") - 400) < 80
    held_out = np.array(parts) == "validation"
    inside = np.bincount(np.array(folds, dtype=int)[held_out], minlength=5) / held_out.sum()
    assert inside == pytest.approx(np.full(5, 0.2), abs=0.08)  # folds and parts know nothing of each other
    assert assign(names, 5, 0.0)[1].count("validation") == 0


def test_the_assignment_is_frozen() -> None:
    """Splits that were published must come out the same on every machine and in every later version."""
    assert assign(["1 0 0 | 2i | Cu 1.0", "a", "b", "c", "d"]) == (
        [3, 1, 1, 3, 0],
        ["train", "train", "train", "train", "validation"],
    )
    assert assign(["a", "b", "c", "d"], seed=1) != assign(["a", "b", "c", "d"], seed=0)


@pytest.mark.parametrize("arguments", [{"folds": 1}, {"validation": 1.0}, {"validation": -0.1}])
def test_numbers_that_cannot_work_are_refused(arguments: dict) -> None:
    with pytest.raises(CloudError, match=next(iter(arguments))):
        assign(["a"], **arguments)


class TestNames:
    """What a SCOPE string of any grammar is reduced to."""

    @pytest.mark.parametrize("path", EACH_EXAMPLE)
    def test_every_grammar_and_order_leads_to_the_same_name(self, path: Path) -> None:
        made = {
            composition_name(ScopeEncoder(grammar, canonical=canonical).encode(path))
            for grammar, canonical in [("sites", True), ("composition", True), ("composition", False), ("full", False)]
        }
        assert len(made) == 1
        name = made.pop()
        assert composition_name(name) == name
        assert parse(name).grammar == "composition"

    def test_the_order_of_words_and_the_choice_of_letters_do_not_matter(self) -> None:
        rock_salt = "1 6 a O D D a D O D b O O O c O O O d O O O e O O O 0 | "
        written = ["4a 4b | Na 0.5 Cl 0.5", "4b 4a | Cl 0.5 Na 0.5"]
        assert len({composition_name(rock_salt + text) for text in written}) == 1
        triclinic = {composition_name(f"1 0 0 | Cu {rest}") for rest in ("1a O 1b", "1h O 1c", "1d O 1e")}
        assert len(triclinic) == 1

    def test_both_hands_of_a_crystal_share_a_name(self) -> None:
        quartz = Structure.from_spacegroup(
            "P3_221", Lattice.hexagonal(4.913, 5.405), ["Si", "O"], [[0.4697, 0, 2 / 3], [0.4135, 0.2669, 0.7858]]
        )
        mirrored = Structure(quartz.lattice, quartz.species, -quartz.frac_coords)
        strings = [ScopeEncoder().encode(crystal) for crystal in (quartz, mirrored)]
        assert strings[0] != strings[1]
        assert composition_name(strings[0]) == composition_name(strings[1])
        assert protostructure(strings[0]) == protostructure(strings[1])

    def test_other_elements_or_positions_give_another_name(self) -> None:
        group = "1 6 a O D D a D O D b O O O c O O O d O O O e O O O 0 | "
        assert composition_name(group + "Na 4a Cl 4b") != composition_name(group + "Na 4a Br 4b")
        assert composition_name(group + "Na 4a Cl 4b") != composition_name(group + "Cl 4a Na 8c")

    def test_protostructures_forget_the_elements_but_not_who_shares_a_position(self) -> None:
        group = "0 7 a O D D a D O D b O D D c D D O d O O O e F B F h B B B 1 Z Z Z | "
        spinel, other = protostructure(group + "Mg 8a Al 16d O 32e"), protostructure(group + "Zn 8b Ga 16c S 32e")
        assert spinel == other
        assert spinel is not None
        assert spinel.startswith("227: ")
        assert protostructure(group + "O 8a O 16d O 32e") != spinel
        assert protostructure(group + "8a 16d 32e | Mg 0.14 Al 0.29 O 0.57") is None

    def test_a_string_that_no_crystal_has_is_refused(self) -> None:
        with pytest.raises(ScopeError):
            composition_name("1 0 0 | 9z | Cu 1.0")

    def test_folds_by_crystal_are_those_of_their_names(self, scopes: list[str]) -> None:
        expected = assign([composition_name(scope) for scope in scopes], 5, 0.0, 3)[0]
        assert folds_by_crystal(scopes, 5, 3).tolist() == expected

    @pytest.mark.parametrize(
        ("identifier", "entry"),
        [("mp-149", "mp-149"), ("mp_mp-149", "mp-149"), ("JVASP-1", "JVASP-1"), ("alexandria_agm001", "agm001"),
         ("oqmd_oqmd-7", "oqmd-7"), ("train-1", None), ("wbm-sample-0", None), (7, None), (None, None)],
    )  # fmt: skip
    def test_entries_of_public_databases(self, identifier: object, entry: str | None) -> None:
        assert database_entry(identifier) == entry


def test_the_paper_s_strings_lead_to_the_names_of_their_structures(shared: Path) -> None:
    """All but the crystals on which two versions of the symmetry search disagree."""
    table = pd.read_parquet(shared / "data" / "published_parity.parquet")
    table = table[table["source"] == "materials_project"].iloc[::7]
    encoder = ScopeEncoder()
    differ = 0
    for row in table.to_dict("records"):
        structure = Structure(row["lattice"].reshape(3, 3), row["numbers"], row["frac_coords"].reshape(-1, 3))
        differ += composition_name(encoder.encode(structure)) != composition_name(row["scope"])
        assert composition_name(row["scope"]) == composition_name(row["scope_full"])
    assert differ == 0
