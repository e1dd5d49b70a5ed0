"""What the published generator words generate."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import spglib
from pymatgen.symmetry.groups import SYMM_DATA

from cloud_hf.scope.generators import PUBLISHED_GENERATORS, generator_words, space_group_of


def affine(rotation: np.ndarray, letters: list[str]) -> np.ndarray:
    """4x4 matrix of a rotation and of three letters for translations."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = [float(Fraction(str(SYMM_DATA["translations"][letter]))) for letter in letters]
    return matrix


def generated_group(words: list[str]) -> int:
    """Number of the space group that words generate, by multiplying them out and asking spglib."""
    number, rest = int(words[1]), words[2:]
    found = [affine(-np.eye(3), ["O"] * 3)] if words[0] == "1" else []
    for index in range(number):
        letter, *shift = rest[4 * index : 4 * index + 4]
        found.append(affine(np.array(SYMM_DATA["generator_matrices"][letter]), shift))
    if rest[4 * number] == "1":
        origin = affine(np.eye(3), rest[4 * number + 1 :])
        found = [origin @ one @ np.linalg.inv(origin) for one in found]

    def key(matrix: np.ndarray) -> tuple[int, ...]:
        numbers = matrix.copy()
        numbers[:3, 3] = np.round(numbers[:3, 3] * 24) % 24
        return tuple(np.round(numbers).astype(int).ravel())

    group = {key(np.eye(4)): np.eye(4)}
    new = list(group.values())
    while new:
        products = {key(one @ other): one @ other for one in new for other in found}
        new = [value for name, value in products.items() if name not in group]
        group |= {key(value): value for value in new}
        assert len(group) <= 192
    rotations = np.array([one[:3, :3] for one in group.values()]).round().astype(int)
    return int(spglib.get_spacegroup_type_from_symmetry(rotations, [one[:3, 3] % 1 for one in group.values()]).number)


@pytest.mark.parametrize(("number", "generates"), [(39, 21), (131, 130), (222, 222), (1, 1), (62, 62), (194, 194)])
def test_words_generate_what_the_page_says(number: int, generates: int) -> None:
    words = list(generator_words(number))
    assert generated_group(words) == generates
    assert space_group_of(" ".join(words) + " | Cu 1a") == number
    if number in PUBLISHED_GENERATORS:
        rows = SYMM_DATA["space_group_encoding"].values()
        (theirs, *_) = [str(row["enc"]) for row in rows if int(row["int_number"]) == number]
        assert theirs != PUBLISHED_GENERATORS[number]
        assert generated_group(list(theirs)) == number
        assert space_group_of(" ".join(theirs)) is None
