"""Every word of a SCOPE string is explained, and what is said of generators is true."""

from __future__ import annotations

import numpy as np
import pytest
import spglib

from cloud_hf.errors import ScopeError
from cloud_hf.scope import explain, parse
from cloud_hf.scope._relabelings import wyckoff_table
from cloud_hf.scope.explanation import _operation
from cloud_hf.scope.generators import PUBLISHED_GENERATORS, generator_words

STRINGS = [
    "1 0 0 | Cu 2i",
    "0 7 a O D D a D O D b O D D c D D O d O O O e F B F h B B B 1 Z Z Z | C 8a",
    "1 4 b O O O c O O O d O O O e O O O 0 | 1a 1b 3c | Sr 0.2 Ti 0.2 O 0.6",
    "1 6 a O D D a D O D b O O O c O O O d O O O e O O O 0 | 4a 4b | Na Cl",
]


@pytest.mark.parametrize("scope", STRINGS)
def test_every_word_has_a_meaning_in_its_place(scope: str) -> None:
    phrases = explain(scope)
    words = [word for phrase in phrases for word in phrase.words]
    assert [word.text for word in words] == scope.split()
    assert all(word.meaning for word in words)
    assert all(phrase.meaning[0].isupper() or phrase.meaning[0].isdigit() for phrase in phrases)
    assert explain(parse(scope)) == phrases


@pytest.mark.parametrize("space_group", range(1, 231))
def test_every_space_group(space_group: int) -> None:
    table = wyckoff_table(space_group)
    scope = " ".join([*generator_words(space_group), "|", "Cu", table.words[-1]])
    phrases = explain(scope)
    assert [word.text for phrase in phrases for word in phrase.words] == scope.split()
    assert f"{table.symbol} (No. {space_group})" in phrases[-3].meaning
    assert ("label" in " ".join(phrase.meaning for phrase in phrases)) == (space_group in PUBLISHED_GENERATORS)


def test_an_orbit() -> None:
    meaning = explain(STRINGS[1])[-1].meaning
    expected = "Carbon on Wyckoff position 8a of Fd-3m: 8 sites in the conventional cell, 2 in the primitive cell"
    assert meaning == f"{expected}, no free coordinate"


def matrix(triplet: str) -> np.ndarray:
    """Affine matrix, shape (3, 4), of a triplet such as `-y, x-y, z+1/3`."""
    columns = [eval(triplet, {}, dict(zip("xyz", point, strict=True))) for point in [(0, 0, 0), *np.eye(3)]]
    origin = np.array(columns[0], dtype=float)
    return np.column_stack([*(np.array(column) - origin for column in columns[1:]), origin])


@pytest.mark.parametrize("space_group", [number for number in range(1, 231) if number not in PUBLISHED_GENERATORS])
def test_the_operations_that_are_named_generate_the_group(space_group: int) -> None:
    """With the inversion at the origin, closed under products modulo lattice vectors, as spglib tells its number."""
    inversion, number, *rest = generator_words(space_group)
    letters = [rest[4 * place : 4 * place + 4] for place in range(int(number))]
    found = [matrix(_operation(one)[0]) for one in letters]
    if inversion == "1":
        found.append(np.column_stack([-np.eye(3), np.zeros(3)]))

    def key(rotation: np.ndarray, shift: np.ndarray) -> tuple[int, ...]:
        return (*np.rint(rotation).astype(int).ravel(), *(np.rint(shift * 24).astype(int) % 24))

    identity = (np.eye(3), np.zeros(3))
    group = {key(*identity): identity}
    waiting = [identity]
    while waiting:
        rotation, shift = waiting.pop()
        for one in found:
            product = one[:, :3] @ rotation, (one[:, :3] @ shift + one[:, 3]) % 1
            if key(*product) not in group:
                group[key(*product)] = product
                waiting.append(product)
    rotations, shifts = zip(*group.values(), strict=True)
    kind = spglib.get_spacegroup_type_from_symmetry(np.rint(rotations).astype(int), np.array(shifts))
    assert kind is not None
    assert kind.number == space_group


@pytest.mark.parametrize("scope", ["", "copper", "1 0 0 | Cu 9z"])
def test_what_is_no_string(scope: str) -> None:
    with pytest.raises(ScopeError):
        explain(scope)
