"""What a SCOPE string says, as a row of numbers: composition statistics, space group, Wyckoff positions."""

import warnings
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Element

from cloud_hf.errors import CloudError
from cloud_hf.scope._relabelings import LETTERS, wyckoff_table
from cloud_hf.scope.grammar import Scope, parse

__all__ = ["ELEMENT_PROPERTIES", "WYCKOFF_FEATURES", "element_properties", "tree_features"]

ELEMENT_PROPERTIES = {
    "Z": "1",
    "atomic_mass": "u",
    "X": "Pauling scale",
    "row": "1",
    "group": "1",
    "atomic_radius": "Å",
    "mendeleev_no": "1",
    "average_ionic_radius": "Å",
    "melting_point": "K",
}
"""Attributes of pymatgen's `Element` and their units."""

WYCKOFF_FEATURES = ("auto", "letters", "words")

_SYMBOLS = ("X", *(Element.from_Z(z).symbol for z in range(1, 119)))
_COLUMN = {symbol: z for z, symbol in enumerate(_SYMBOLS)}
_STATISTICS = ("mean", "std", "min", "max")


@cache
def element_properties() -> NDArray[np.float64]:
    """Return the elemental properties of `ELEMENT_PROPERTIES`, shape (118, 9), by atomic number.

    pymatgen has no value for some elements, mostly the transactinides and noble gases: 30 atomic radii, 26 ionic radii,
    18 electronegativities, 15 melting points and Mendeleev numbers. A zero stands there, which no other element has,
    so that trees can tell these elements apart and no statistic of a compound is undefined.
    """
    table = np.full((118, len(ELEMENT_PROPERTIES)), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns of every missing value
        for z in range(1, 119):
            for column, name in enumerate(ELEMENT_PROPERTIES):
                value = getattr(Element.from_Z(z), name)
                table[z - 1, column] = np.nan if value is None else float(value)
    np.nan_to_num(table, copy=False, nan=0.0)
    table.flags.writeable = False  # it is cached
    return table


@cache
def _wyckoff_words() -> dict[str, int]:
    """Every word that some space group has, in a fixed order, so that columns do not depend on the data."""
    words = {word for number in range(1, 231) for word in wyckoff_table(number).words}
    ordered = sorted(words, key=lambda word: (LETTERS.index(word[-1]), int(word[:-1])))
    return {word: column for column, word in enumerate(ordered)}


def tree_features(scopes: Sequence[str], wyckoff: str = "auto") -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Describe crystals by what their SCOPE strings say, of any grammar.

    Columns: atomic fractions (118 elements and `X`), fraction-weighted mean, standard deviation, minimum and maximum
    of nine elemental properties, number of elements, sum of squared fractions, largest fraction, space group one-hot
    (the generators name it), and the Wyckoff positions in one of two forms:

    - `letters`: orbits by Wyckoff letter (27), space-group number, number of orbits, atoms per conventional cell;
    - `words`: how often each Wyckoff word (`4a`, `8c`, ...) is listed, over all words that any space group has.

    The grammar `composition` lists a position once, however often it is filled; `full` counts orbits of the primitive
    cell where the text fixes them and of the given cell where it does not.

    Args:
        scopes: SCOPE strings.
        wyckoff: `letters`, `words`, or `auto`: `words` if any string is a `composition`, otherwise `letters`.

    Returns:
        Features of shape (len(scopes), n_features), and the name of each column.

    Raises:
        CloudError: An unknown form of `wyckoff`.
        ScopeError: A string that no crystal has; the message gives the row.
    """
    if wyckoff not in WYCKOFF_FEATURES:
        raise CloudError(f"wyckoff must be one of {', '.join(WYCKOFF_FEATURES)}, not {wyckoff!r}.")
    crystals = [_parsed(text, row) for row, text in enumerate(scopes)]
    if wyckoff == "auto":
        wyckoff = "words" if any(crystal.grammar == "composition" for crystal in crystals) else "letters"
    fractions = np.zeros((len(crystals), len(_SYMBOLS)))
    groups = np.zeros((len(crystals), 230), dtype=np.float32)
    for row, crystal in enumerate(crystals):
        groups[row, crystal.space_group - 1] = 1
        for element, fraction in crystal.fractions.items():
            fractions[row, _COLUMN[element]] = fraction
    statistics, names = _composition_statistics(fractions)
    positions, position_names = _words(crystals) if wyckoff == "words" else _letters(crystals)
    group_names = [f"space_group_{number}" for number in range(1, 231)]
    columns = [f"fraction_{symbol}" for symbol in _SYMBOLS] + names + group_names + position_names
    features = np.hstack([fractions.astype(np.float32), statistics.astype(np.float32), groups, positions])
    return features, tuple(columns)


def _parsed(text: str, row: int) -> Scope:
    try:
        return parse(text)
    except CloudError as error:
        error.row = row
        raise


def _composition_statistics(fractions: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[str]]:
    """Statistics of the elements present; rounded fractions are scaled to sum to 1."""
    elements = fractions[:, 1:]
    known = elements.sum(axis=1, keepdims=True)
    weights = np.divide(elements, known, out=np.zeros_like(elements), where=known > 0)
    table = element_properties()
    mean = weights @ table
    # about the mean of the whole table: the difference of two squares would lose digits
    centre = table.mean(axis=0)
    std = np.sqrt(np.maximum(weights @ (table - centre) ** 2 - (mean - centre) ** 2, 0))
    present = elements > 0
    least, most = np.zeros_like(mean), np.zeros_like(mean)
    for column, values in enumerate(table.T):
        least[:, column] = np.where(present, values, np.inf).min(axis=1)
        most[:, column] = np.where(present, values, -np.inf).max(axis=1)
    shape = np.column_stack([present.sum(axis=1), (weights**2).sum(axis=1), weights.max(axis=1)])
    names = [f"{statistic}_{name}" for statistic in _STATISTICS for name in ELEMENT_PROPERTIES]
    return np.hstack([mean, std, least, most, shape]), [*names, "n_elements", "sum_squared_fractions", "max_fraction"]


def _listed(crystal: Scope) -> tuple[str, ...]:
    """Wyckoff words, one per orbit where the string fixes the orbits."""
    orbits = crystal.orbits
    if orbits is not None:
        return tuple(word for _, word in orbits)
    return tuple(dict.fromkeys(crystal.wyckoff))


def _letters(crystals: Sequence[Scope]) -> tuple[NDArray[np.float32], list[str]]:
    counts = np.zeros((len(crystals), len(LETTERS) + 3), dtype=np.float32)
    for row, crystal in enumerate(crystals):
        words = _listed(crystal)
        for word in words:
            counts[row, LETTERS.index(word[-1])] += 1
        counts[row, len(LETTERS) :] = crystal.space_group, len(words), sum(int(word[:-1]) for word in words)
    names = [f"orbits_{letter}" for letter in LETTERS]
    return counts, [*names, "space_group_number", "n_orbits", "n_atoms_conventional"]


def _words(crystals: Sequence[Scope]) -> tuple[NDArray[np.float32], list[str]]:
    columns = _wyckoff_words()
    counts = np.zeros((len(crystals), len(columns)), dtype=np.float32)
    for row, crystal in enumerate(crystals):
        for word in _listed(crystal):
            counts[row, columns[word]] += 1
    return counts, [f"word_{word}" for word in columns]
