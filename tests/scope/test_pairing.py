"""From the paper's strings to `sites` strings: who sits where."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_hf.data.assignment import composition_name
from cloud_hf.data.inputs import Item, encode_item
from cloud_hf.errors import ScopeError
from cloud_hf.scope import ScopeEncoder, parse, sites_scope
from cloud_hf.scope._relabelings import wyckoff_table
from cloud_hf.scope.generators import generator_words
from example_files import EACH_EXAMPLE

ROCK_SALT = " ".join(generator_words(225))


@pytest.mark.parametrize("path", EACH_EXAMPLE)
@pytest.mark.parametrize("grammar", ["composition", "full", "sites"])
@pytest.mark.parametrize("canonical", [True, False])
def test_every_grammar_of_the_examples_leads_to_the_same_string(path: Path, grammar: str, canonical: bool) -> None:
    if grammar == "sites" and not canonical:
        pytest.skip("a sites string is always canonical")
    if grammar == "composition" and path.stem == "CaSiO3_wollastonite":
        pytest.skip("nothing in the string tells that the cell holds six formula units, not two")
    if grammar == "composition" and path.stem in ("BaTiO3", "LiFePO4_triphylite"):
        pytest.skip("the string leaves open which elements share a position, and the most plausible filling is another")
    text = ScopeEncoder(grammar, canonical=canonical).encode(path)
    assert str(sites_scope(text)) == ScopeEncoder().encode(path)


@settings(max_examples=200)
@given(st.data())
def test_the_assignment_has_the_composition_it_came_from(data: st.DataObject) -> None:
    number = data.draw(st.integers(1, 230))
    table = wyckoff_table(number)
    usable = [word for word, size in zip(table.words, table.multiplicities, strict=True) if size <= 48]
    words = data.draw(st.lists(st.sampled_from(usable), min_size=1, max_size=4, unique=True))
    elements = data.draw(st.lists(st.sampled_from(["Na", "Cl", "O", "Ti"]), min_size=len(words), max_size=len(words)))
    pairs = sorted(zip(elements, words, strict=True))
    sites = f"{' '.join(generator_words(number))} | " + " ".join(f"{element} {word}" for element, word in pairs)
    composition = composition_name(sites)
    assert composition_name(sites_scope(composition)) == composition


def test_positions_without_free_coordinates_are_filled_once() -> None:
    text = "0 4 b O O O g D D O c D D O h D D O 1 Y B O | 2c 2a | Na 0.33 Zn 0.33 As 0.33"
    assert sites_scope(text).orbits == (("Na", "2c"), ("Zn", "2a"), ("As", "2c"))


@pytest.mark.parametrize(
    "text",
    ["1 2 a E C C n O O O 0 | 3a | X 1.0", f"{ROCK_SALT} | 4a | Na 0.5 Cl 0.5"],
    ids=["unknown element", "one fixed position for two elements"],
)
def test_what_has_no_whole_atoms_is_refused(text: str) -> None:
    try:
        parse(text)
    except ScopeError:
        pytest.fail("the string itself must be readable")
    with pytest.raises(ScopeError, match=r"does not follow|element"):
        sites_scope(text)


def test_a_row_of_the_papers_grammar_becomes_a_sites_row() -> None:
    item = encode_item(Item("row 0", scope="0 2 a D D O j O O D 0 | 4a | Li 0.25 As 0.25 S 0.5"), ScopeEncoder())
    assert item.error is None
    assert item.scope == "0 2 a D D O j O O D 0 | Li 4a As 4a S 4a S 4a"
    assert (item.n_atoms, item.formula) == (8.0, "LiAsS2")


def test_most_of_the_papers_strings_give_the_crystals_own(shared: Path) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(shared / "data" / "heat_capacity_structures_train.parquet").slice(0, 300).to_pylist()
    encoder = ScopeEncoder()
    own = [encoder.encode({name: row[name] for name in ("lattice", "numbers", "frac_coords")}) for row in table]
    same = [
        str(sites_scope(row["cloud_scope"])) == scope
        for row, scope in zip(table, own, strict=True)
        if parse(row["cloud_scope"]).space_group == parse(scope).space_group
    ]
    assert len(same) > 280
    assert sum(same) / len(same) > 0.92


@pytest.mark.parametrize("every", [10, pytest.param(1, marks=pytest.mark.slow)])
def test_all_dielectric_strings_can_be_read(shared: Path, every: int) -> None:
    import pyarrow.parquet as pq

    for text in pq.read_table(shared / "data" / "dielectric_fold0_train.parquet")["scope"].to_pylist()[::every]:
        assert composition_name(sites_scope(text)).split("|")[0] == composition_name(text).split("|")[0]
