"""Features of SCOPE strings: what they say, whatever the grammar and the order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Composition, Element

from cloud_hf.baselines.features import ELEMENT_PROPERTIES, element_properties, tree_features
from cloud_hf.errors import CloudError, ScopeError

SPINEL = "0 7 a O D D a D O D b O D D c D D O d O O O e F B F h B B B 1 Z Z Z | Mg 8a Al 16d O 32e"
ROCK_SALT = "1 6 a O D D a D O D b O O O c O O O d O O O e O O O 0 | Mg 4a O 4b"
TRICLINIC = "1 0 0 | Cu 2i Cu 2i O 1a"


def column(scopes: list[str], wyckoff: str = "auto") -> Callable[[str], list[float]]:
    features, names = tree_features(scopes, wyckoff)
    return lambda name: features[:, names.index(name)].tolist()


@pytest.mark.parametrize("wyckoff", ["letters", "words"])
def test_every_column_has_its_own_name(wyckoff: str) -> None:
    features, names = tree_features([SPINEL, ROCK_SALT, TRICLINIC], wyckoff)
    assert features.shape == (3, len(names))
    assert len(set(names)) == len(names)
    assert np.isfinite(features).all()


def test_sites_say_fractions_orbits_and_atoms() -> None:
    of = column([SPINEL, TRICLINIC])
    assert of("fraction_O") == pytest.approx([4 / 7, 1 / 5])
    assert of("fraction_Cu") == pytest.approx([0, 4 / 5])
    assert of("orbits_i") == [0, 2]
    assert of("n_orbits") == [3, 3]
    assert of("n_atoms_conventional") == [56, 5]
    assert of("space_group_number") == [227, 2]
    assert of("space_group_227") == [1, 0]
    assert of("n_elements") == [3, 2]
    assert of("max_fraction") == pytest.approx([4 / 7, 4 / 5])


def test_statistics_are_weighted_by_fractions() -> None:
    of = column([SPINEL])
    composition = Composition("MgAl2O4")
    masses = {element: float(element.atomic_mass) for element in composition}
    mean = sum(composition.get_atomic_fraction(element) * mass for element, mass in masses.items())
    square = sum(composition.get_atomic_fraction(element) * (mass - mean) ** 2 for element, mass in masses.items())
    assert of("mean_atomic_mass") == pytest.approx([mean])
    assert of("std_atomic_mass") == pytest.approx([square**0.5])
    assert of("min_atomic_mass") == pytest.approx([min(masses.values())])
    assert of("max_X") == pytest.approx([Element("O").X])


def test_a_pure_element_has_no_spread() -> None:
    features, names = tree_features(["0 7 a O D D a D O D b O D D c D D O d O O O e F B F h B B B 1 Z Z Z | C 8a"])
    of = dict(zip(names, features[0].tolist(), strict=True))
    for name in ELEMENT_PROPERTIES:
        assert of[f"std_{name}"] == pytest.approx(0, abs=1e-4)
        assert of[f"min_{name}"] == of[f"max_{name}"] == pytest.approx(of[f"mean_{name}"])


def test_the_paper_s_grammar_gives_words() -> None:
    of = column(["1 0 0 | 2i 1a | Cu 0.8 O 0.2", "1 0 0 | 2i | Cu 1.0"])
    assert of("word_2i") == [1, 1]
    assert of("word_1a") == [1, 0]
    assert of("fraction_Cu") == pytest.approx([0.8, 1.0])


def test_full_counts_orbits_as_sites_do() -> None:
    full = "1 6 a O D D a D O D b O O O c O O O d O O O e O O O 0 | 4a 4b | Mg O"
    one, other = tree_features([ROCK_SALT])[0], tree_features([full])[0]
    assert np.array_equal(one, other)


def test_a_species_that_is_no_element_is_a_fraction_only() -> None:
    of = column(["1 0 0 | 2i 1a | X 0.5 O 0.5"])
    assert of("fraction_X") == [0.5]
    assert of("mean_Z") == [8]
    assert of("n_elements") == [1]


@settings(max_examples=20)
@given(order=st.permutations([SPINEL, ROCK_SALT, TRICLINIC, "1 0 0 | 2i | Cu 1.0"]))
def test_a_row_does_not_depend_on_the_others(order: list[str]) -> None:
    together, names = tree_features(order, "words")
    for row, scope in zip(together, order, strict=True):
        alone, same_names = tree_features([scope], "words")
        assert same_names == names
        np.testing.assert_allclose(alone[0], row, rtol=1e-6)


def test_no_strings_give_no_rows() -> None:
    features, names = tree_features([])
    assert features.shape == (0, len(names))


def test_missing_properties_are_zero_and_nothing_else_is() -> None:
    table = element_properties()
    missing = {name: int((table[:, column] == 0).sum()) for column, name in enumerate(ELEMENT_PROPERTIES)}
    expected = {"atomic_radius": 30, "average_ionic_radius": 26, "X": 18, "melting_point": 15, "mendeleev_no": 15}
    assert {name: count for name, count in missing.items() if count} == expected
    with pytest.raises(ValueError, match="read-only"):
        table[0, 0] = 1.0


def test_a_bad_string_is_named_with_its_row() -> None:
    with pytest.raises(ScopeError, match=r"row 1: .*'9z'") as caught:
        tree_features([ROCK_SALT, "1 0 0 | Cu 9z"])
    assert caught.value.row == 1


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(CloudError, match="letters"):
        tree_features([ROCK_SALT], "sites")
