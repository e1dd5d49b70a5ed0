"""The tables that name elements, Wyckoff words and fractions by id agree with the vocabulary and with pymatgen."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from pymatgen.core import Element

from cloud_hf import CloudConfig, ScopeTokenizer
from cloud_hf.models.chemistry_tables import (
    DESCRIPTOR_NAMES,
    ELEMENT_DESCRIPTORS,
    ELEMENT_IDS,
    FRACTION_IDS,
    SEPARATOR_ID,
    START_ID,
    VOCAB_SIZE,
    WYCKOFF_IDS,
)


def test_the_vocabulary_is_the_tokenizer_s(tokenizer: ScopeTokenizer) -> None:
    assert len(tokenizer) == VOCAB_SIZE == CloudConfig().vocab_size
    assert tokenizer.convert_ids_to_tokens([START_ID, SEPARATOR_ID]) == ["[CLS]", "|"]


def test_every_element_has_its_id(tokenizer: ScopeTokenizer) -> None:
    assert tokenizer.convert_ids_to_tokens(list(ELEMENT_IDS)) == [Element.from_Z(z).symbol for z in range(1, 119)]


def test_every_fraction_has_its_id(tokenizer: ScopeTokenizer) -> None:
    fractions = [float(word) for word in tokenizer.convert_ids_to_tokens(list(FRACTION_IDS))]
    assert fractions == [percent / 100 for percent in range(101)]


def test_every_wyckoff_word_of_the_230_groups_has_its_multiplicity(
    tokenizer: ScopeTokenizer, wyckoff_multiplicities: dict[str, dict[str, int]]
) -> None:
    known = {f"{size}{letter}" for group in wyckoff_multiplicities.values() for letter, size in group.items()}
    listed = {word: size for size, ids in WYCKOFF_IDS.items() for word in tokenizer.convert_ids_to_tokens(list(ids))}
    assert known <= listed.keys()
    assert all(int(word[:-1]) == size for word, size in listed.items())


def test_no_id_means_two_things_in_one_place() -> None:
    wyckoff = [index for ids in WYCKOFF_IDS.values() for index in ids]
    every = [*ELEMENT_IDS, *FRACTION_IDS, *wyckoff, SEPARATOR_ID, START_ID]
    assert len(set(every)) == len(every)


@pytest.mark.parametrize("column", range(len(DESCRIPTOR_NAMES)), ids=DESCRIPTOR_NAMES)
def test_descriptors_are_standardised_over_the_elements_that_have_one(column: int) -> None:
    values = np.array([row[column] for row in ELEMENT_DESCRIPTORS])
    there = values[values != 0]
    assert np.isfinite(values).all()
    assert abs(there.mean()) < 1e-3
    assert there.std() == pytest.approx(1, abs=1e-2)  # a value at the mean is left out with the missing ones


@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        ("Pauling electronegativity", "X"), ("row", "row"), ("group", "group"), ("melting point, K", "melting_point"),
        ("molar volume, cm3/mol", "molar_volume"), ("first ionisation energy, eV", "ionization_energy"),
        ("Mendeleev number", "mendeleev_no"),
    ],
)  # fmt: skip
def test_a_descriptor_is_linear_in_pymatgen_s_value(name: str, attribute: str) -> None:
    column = DESCRIPTOR_NAMES.index(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns of each value that it lacks
        raw = [getattr(Element.from_Z(z), attribute) for z in range(1, 87)]
    pairs = [
        (float(value), ELEMENT_DESCRIPTORS[z][column])
        for z, value in enumerate(raw)
        if value is not None and not math.isnan(value)
    ]
    assert len(pairs) > 80
    assert np.corrcoef(np.array(pairs).T)[0, 1] > 0.9999


def test_a_missing_value_is_the_mean() -> None:
    column = DESCRIPTOR_NAMES.index("Pauling electronegativity")
    assert [ELEMENT_DESCRIPTORS[Element(symbol).Z - 1][column] for symbol in ("He", "Ne", "Ar")] == [0, 0, 0]
