"""Space-group generators, the first segment of a SCOPE string.

The encoding is the one of De Graef and McHenry, "Structure of Materials" (appendix on space groups),
as pymatgen ships it. One character is one word: the inversion flag, the number of generators, for each
generator a rotation letter and three translation letters, and the origin flag with, if it is 1, the shift.
"""

from functools import cache

from pymatgen.symmetry.groups import SYMM_DATA

from cloud_hf.errors import CloudError

__all__ = ["PUBLISHED_GENERATORS", "generator_words", "space_group_of"]

PUBLISHED_GENERATORS: dict[int, str] = {
    39: "03aODDbOOOcODO0",
    131: "13bDDOgDOOcODD0",
    222: "14bDDOcDODdOOOeOOD1YYY",
}
"""The three space groups for which the paper's table differs from pymatgen's (older values).

Taken as generators, the words of 39 generate group 21 (C222) and those of 131 generate group 130 (P4/ncc); those of 222
generate 222. Here they are labels: a string has the words of its group's number, they are different for all 230 groups,
and symmetry operations never come from them but from the tables of spglib and pymatgen.

They are kept in every grammar. The published weights and the bundled ones have learned 39, 131 and 222 by these words;
pymatgen's would be words of the vocabulary too, so that nothing could refuse them, in an order that no model has seen.
"""


@cache
def _encodings() -> dict[int, str]:
    encodings = {int(row["int_number"]): str(row["enc"]) for row in SYMM_DATA["space_group_encoding"].values()}
    return encodings | PUBLISHED_GENERATORS


@cache
def generator_words(space_group: int) -> tuple[str, ...]:
    """Return the words of the generator segment of a space group.

    Args:
        space_group: Number in the International Tables, 1 to 230.

    Returns:
        The words, e.g. `("1", "0", "0")` for space group 2; different for each of the 230 groups.

    Raises:
        CloudError: The number is not in 1..230.
    """
    try:
        return tuple(_encodings()[space_group])
    except KeyError:
        raise CloudError(f"There is no space group {space_group!r}: the number must be in 1..230.") from None


@cache
def _numbers() -> dict[tuple[str, ...], int]:
    return {generator_words(number): number for number in range(1, 231)}


def space_group_of(scope: str) -> int | None:
    """Return the space-group number that the first segment of a SCOPE string stands for, or None if none does."""
    return _numbers().get(tuple(scope.split("|")[0].split()))
