"""Equivalent labellings of Wyckoff positions: the same crystal in other words."""

from __future__ import annotations

import pytest

from cloud_hf.scope import parse
from cloud_hf.studies.ablation.labellings import equivalent_strings, random_description

SCOPES = (
    "1 6 a O D D a D O D b O O O c O O O d O O O e O O O 0 | Li 8c O 4a",
    "1 2 b D O D c O D O 0 | Ca 4c Ti 4a O 4c O 8d",
    "1 4 a D D D b O O O g O O O c O O O 0 | K 4d K 4e Ga 4e Ga 8i",
)


@pytest.mark.parametrize("scope", SCOPES)
def test_all_of_them_are_the_same_crystal(scope: str) -> None:
    found = equivalent_strings(scope)
    assert found[0] == scope
    assert len(set(found)) == len(found) > 1
    described = [random_description(scope, seed) for seed in range(20)]
    assert len(set(described)) > 1
    assert {str(parse(text).canonical()) for text in (*found, *described)} == {scope}


def test_there_are_at_most_so_many() -> None:
    scope = SCOPES[1]
    found = equivalent_strings(scope, most=2)
    assert len(found) == 2
    assert found == equivalent_strings(scope, most=2)
