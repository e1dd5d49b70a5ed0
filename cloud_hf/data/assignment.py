"""One split for every table: folds and validation rows by crystal, never by row or by table.

Rows are grouped by what names their crystal. The first name is `composition_name`, a function of a SCOPE string of any
grammar, so that a crystal known only by the paper's string stands with its structure; since it follows from the
canonical `sites` string, rows with the same `sites` string always share it. A row can have more names: a second string,
an entry number of a public database. Rows that share any name, directly or through others, are one group.

A group's fold and part are hashes of the seed and of the smallest composition name in the group. So they depend neither
on the order of rows and tables nor on which other tables there are; adding a table can move an earlier row only if it
joins its group to another one.
"""

import hashlib
import re
from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from cloud_hf.errors import CloudError
from cloud_hf.scope import Scope, parse
from cloud_hf.scope._relabelings import lattice_relabelings, relabelings, wyckoff_table
from cloud_hf.scope.canonical import ELEMENT_RANK

__all__ = [
    "SIDES",
    "assign",
    "composition_name",
    "database_entry",
    "folds_by_crystal",
    "group_rows",
    "protostructure",
]

SIDES = ("train", "validation")

_ENANTIOMORPHS = {
    78: 76,
    95: 91,
    96: 92,
    145: 144,
    153: 151,
    154: 152,
    170: 169,
    172: 171,
    179: 178,
    181: 180,
    213: 212,
}
"""The second group of each of the 11 enantiomorphic pairs; both list the same Wyckoff words in the same order."""

_RANK = {"X": -1} | ELEMENT_RANK

_ENTRY = re.compile(r"(?:^|_)((?:mp|mvc|oqmd)-\d+|JVASP-\d+|agm\d+)$")
"""Materials Project, OQMD, JARVIS and Alexandria, also behind the prefix of a collection (`mp_mp-149`)."""


def composition_name(scope: str | Scope) -> str:
    """Return the name that every SCOPE string of a crystal leads to, whatever its grammar and order.

    It is a `composition` string: space group, occupied Wyckoff positions, rounded fractions. The positions stand in
    alphabetical order, in the smallest letters that the space group's normaliser and a choice of equally reduced cells
    can give; the second of two enantiomorphic space groups is written as the first, as no scalar property tells them
    apart. Different crystals can share it (who sits where and how often is not written).

    Args:
        scope: A SCOPE string of any grammar, or what `parse` made of it.

    Raises:
        ScopeError: A string that no crystal has.
    """
    scope = parse(scope) if isinstance(scope, str) else scope
    number = _ENANTIOMORPHS.get(scope.space_group, scope.space_group)
    words = wyckoff_table(number).words
    letters = _smallest(number, (tuple(sorted({words.index(word) for word in scope.wyckoff})),))[0]
    # numpy rounds 0.125 to 0.12, as the strings do
    fractions = {element: float(np.round(fraction, 2)) for element, fraction in scope.fractions.items()}
    elements = tuple(sorted(fractions, key=_RANK.__getitem__))
    rounded = tuple(fractions[element] for element in elements)
    return str(Scope("composition", number, tuple(words[letter] for letter in letters), elements, rounded))


def protostructure(scope: str | Scope) -> str | None:
    """Return the prototype of a crystal: its space group and occupied positions, elements made anonymous.

    The label is that of the canonical `sites` string up to the names of the elements, e.g. `225: 4a | 4b` for rock
    salt, positions of one element between bars. It is no structure type: free coordinates are not in it.

    Args:
        scope: A SCOPE string, or what `parse` made of it.

    Returns:
        The label; None where the string does not fix the orbits (`composition`).

    Raises:
        ScopeError: A string that no crystal has.
    """
    scope = parse(scope) if isinstance(scope, str) else scope
    if scope.orbits is None:
        return None
    number = _ENANTIOMORPHS.get(scope.space_group, scope.space_group)
    words = wyckoff_table(number).words
    letters: dict[str, list[int]] = {}
    for element, word in scope.orbits:
        letters.setdefault(element, []).append(words.index(word))
    best = _smallest(number, tuple(sorted(tuple(sorted(row)) for row in letters.values())))
    return f"{number}: " + " | ".join(" ".join(words[letter] for letter in row) for row in best)


@lru_cache(maxsize=1 << 16)
def _smallest(space_group: int, rows: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    """The smallest sorted form of sets of letters over all relabellings."""
    moved = (tuple(sorted(tuple(sorted(new[i] for i in row)) for row in rows)) for new in _relabelings(space_group))
    return min(moved)


@cache
def _relabelings(space_group: int) -> tuple[tuple[int, ...], ...]:
    """All relabellings of a space group, those between equally reduced cells of any lattice included."""
    return relabelings(space_group, lattice_relabelings(space_group, np.eye(3), np.inf))


def database_entry(identifier: object) -> str | None:
    """Return the entry of a public database that an `id` names, e.g. `mp-149` for `mp_mp-149`, or None."""
    match = _ENTRY.search(str(identifier))
    return match.group(1) if match else None


def group_rows(names: Sequence[Sequence[str]], entries: Sequence[str | None] | None = None) -> list[str | None]:
    """Put rows that share a name, directly or through other rows, into one group.

    Args:
        names: Composition names of each row; a row without any gets no group.
        entries: Database entry of each row, if any: another name, which cannot stand alone.

    Returns:
        The smallest composition name in the group of each row.
    """
    tagged = [
        [("name", name) for name in row] + ([("entry", entry)] if row and entry else [])
        for row, entry in zip(names, entries or [None] * len(names), strict=True)
    ]
    rows = [row for row, names_of_row in enumerate(tagged) for _ in names_of_row]
    numbers: dict[tuple[str, str], int] = {}
    columns = [numbers.setdefault(name, len(numbers)) for names_of_row in tagged for name in names_of_row]
    size = len(names) + len(numbers)
    links = coo_matrix((np.ones(len(rows)), (rows, [len(names) + column for column in columns])), shape=(size, size))
    component = connected_components(links, directed=False)[1]
    smallest: dict[int, str] = {}
    for (kind, name), number in numbers.items():
        group = int(component[len(names) + number])
        if kind == "name":
            smallest[group] = min(name, smallest.get(group, name))
    return [smallest.get(int(component[row])) for row in range(len(names))]


def assign(
    groups: Sequence[str | None], folds: int = 5, validation: float = 0.1, seed: int = 0
) -> tuple[list[int | None], list[str | None]]:
    """Give every group a fold and a part, each by a hash of its name.

    Fold and part do not depend on each other: cross-validation uses the first, one training run the second. Shares are
    those of groups, and hold on average: the fold of 1,000 groups deviates by about 13 from 200.

    Args:
        groups: Name of each row's group, from `group_rows`; None for a row without one.
        folds: Number of folds, 2 or more.
        validation: Expected share of groups for validation, 0 <= validation < 1.
        seed: Another seed gives another assignment.

    Returns:
        Fold 0 to folds - 1 and part (`train` or `validation`) of each row, None for a row without a group.

    Raises:
        CloudError: Numbers that cannot work.
    """
    if folds < 2:
        raise CloudError(f"folds must be 2 or more, not {folds}.")
    if not 0 <= validation < 1:
        raise CloudError(f"The validation share must be in [0, 1), not {validation}.")
    fold = {name: int(_uniform(name, "fold", seed) * folds) for name in set(groups) if name is not None}
    part = {name: SIDES[_uniform(name, "part", seed) < validation] for name in fold}
    return [fold.get(name) if name else None for name in groups], [part.get(name) if name else None for name in groups]


def _uniform(name: str, purpose: str, seed: int) -> float:
    """A number in [0, 1) that only the arguments determine, on every machine."""
    digest = hashlib.sha256(f"{seed}\n{purpose}\n{name}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def folds_by_crystal(scopes: Sequence[str], folds: int = 5, seed: int = 0) -> NDArray[np.int64]:
    """Return the fold of each SCOPE string, as `cloud-hf split` assigns it to a crystal that has no other name.

    Args:
        scopes: SCOPE strings of any grammar.
        folds: Number of folds.
        seed: Seed of the assignment.

    Raises:
        ScopeError: A string that no crystal has.
    """
    names = [composition_name(scope) for scope in scopes]
    return np.array(assign(names, folds, 0.0, seed)[0], dtype=np.int64)
