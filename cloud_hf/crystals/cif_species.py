"""The element of an atom row of a CIF: from its type symbol, else from its label, else a reason why there is none.

Labels are free text by the standard; many databases write site names (`T1`, `M2`, `Wat`, `Vac`) or groups (`OH`,
`NH3`) into them. A name is read where it can mean one element only, by itself or by the formula of the file.
"""

import re
from collections.abc import Collection
from functools import lru_cache
from typing import NamedTuple

from pymatgen.core import Element

__all__ = ["RowElement", "row_element"]

_ELEMENTS = frozenset(Element.from_Z(number).symbol for number in range(1, 119))
_IN_LABELS = frozenset(Element.from_Z(number).symbol for number in range(1, 104))
"""No file labels its sites with a transactinide; `NH3` is no nihonium and `Cn1` no copernicium."""

_ISOTOPES = {"D": "H", "T": "H"}
_CORES = {"Cval": "C", "Sival": "Si", "Siva": "Si", "Dval": "H"}
"""Names of scattering factors in the International Tables."""
_GROUPS = frozenset({"CO", "NO", "HO", "CN", "HS", "HF", "BH", "NH", "OH", "CH", "SH", "PO", "SO", "OF"})
"""Two capitals that may be a group of atoms as well as an element."""
_SITE_NAMES = frozenset(
    {
        *("VAC", "VA", "VOID", "WAT", "HOH", "SOL", "DU", "DUM", "TET", "OCT", "CAT", "ANI", "MET", "MOL", "CEN"),
        *("CNT", "CG", "ANY", "UNK", "LIG", "ALK", "HAL", "REE", "RE", "LN", "TM", "AE", "ME", "AN", "BAL"),
    }
)
"""Names of sites; where two letters are also a symbol (`Re`, `Tm`), only in capitals."""
_SUFFIXED = frozenset({"H", "B", "C", "N", "O", "F", "P", "S"})
"""Elements whose sites are told apart by a small letter (`Oa`, `Obm`, `Hw`)."""

_BY_CAPITALS = frozenset({"Cl", "Fe", "Se", "Be", "Ne"})
"""Elements that capitals mean, although their first letter is an element too."""

_CHARGE = re.compile(r"\d*\.?\d*[+-]+|[+-]+\d+\.?\d*|\(\d*[+-]\d*\)|\d+[a-z']?|")
_MIXTURE = re.compile(r"[/,&|+]\s*\(?[A-Za-z]|\d\.\d|^-[A-Z]")


class RowElement(NamedTuple):
    """What an atom row holds.

    Attributes:
        element: Symbol; empty where nothing is meant for sure.
        reason: Why it is empty.
        has_hydrogen: Whether the name speaks of hydrogen on the same atom (`Ow`, `OH1`), which other rows must hold.
    """

    element: str
    reason: str = ""
    has_hydrogen: bool = False


_PLAIN = {symbol: RowElement(symbol) for symbol in _ELEMENTS - set(_CORES) - set(_ISOTOPES)}
"""Type symbols that mean an element whatever the label and the formula say: nearly all that files have."""


def row_element(type_symbol: str, label: str, formula: frozenset[str] | None = None) -> RowElement:
    """Return the element of an atom row.

    Args:
        type_symbol: `_atom_site_type_symbol`, empty or `?` if there is none.
        label: `_atom_site_label`.
        formula: Elements of the file's sum formula, D as H; `None` if it gives none.
    """
    return _PLAIN.get(type_symbol) or _row_element(type_symbol, label, formula)


@lru_cache(maxsize=8192)
def _row_element(type_symbol: str, label: str, formula: frozenset[str] | None) -> RowElement:
    if type_symbol and type_symbol not in {"?", "."}:
        return _of_type(type_symbol.strip(), label, formula)
    if not label or label in {"?", "."}:
        return RowElement("", "the row has neither a type symbol nor a label")
    return _of_label(label.strip(), formula)


def _unknown(word: str, why: str) -> RowElement:
    return RowElement("", f"{word!r} {why}")


def _of_type(word: str, label: str, formula: Collection[str] | None) -> RowElement:
    match = re.fullmatch(r"(\d*)([A-Za-z]+)(.*)", word)
    if match is None or not _CHARGE.fullmatch(match[3]):
        return _unknown(word, "is not a chemical element")
    mass, letters, _ = match.groups()
    if letters in _CORES:
        return RowElement(_CORES[letters])
    if letters == "T":  # in minerals a tetrahedral site, in tritides tritium
        return RowElement("H") if formula and "H" in formula else _unknown(word, "may be a tetrahedral site or tritium")
    if letters in _ISOTOPES:
        return RowElement(_ISOTOPES[letters])
    if letters in _ELEMENTS:
        number = Element(letters).Z
        if mass and not number <= int(mass) <= 3 * number:
            return _unknown(word, "is not a chemical element")
        return RowElement(letters)
    title = letters.capitalize()
    if mass or len(letters) > 3:
        return _unknown(word, "is not a chemical element")
    if letters.upper() in _SITE_NAMES:
        return _unknown(word, "is the name of a site")
    if letters in _GROUPS:
        if title in _ELEMENTS and formula and title in formula and not set(letters) <= set(formula):
            return RowElement(title)
        return _unknown(word, "may be a group of atoms")
    if title in _IN_LABELS and (letters.isupper() or letters.islower()):
        return RowElement(title)
    if len(letters) == 2 and letters[0] in "HO":  # oxygen of water
        return _of_label(letters, formula)
    return _unknown(word, "is not a chemical element")


def _of_label(label: str, formula: Collection[str] | None) -> RowElement:
    match = re.match(r"[A-Za-z]+", label)
    if match is None:
        return _unknown(label, "does not begin with a chemical element")
    letters, rest = match[0], label[match.end() :]
    if _MIXTURE.search(rest):
        return _unknown(label, "names a mixture or a group of atoms")
    if letters.upper() in _SITE_NAMES and letters not in _IN_LABELS:
        return _unknown(label, "is the name of a site")
    if label.upper() in {"H2O", "H3O"}:
        return _unknown(label, "may be a molecule or a hydrogen atom")
    if len(letters) == 1:
        return _of_letter(label, letters.upper(), formula)
    if letters[1].islower():
        return _of_small(label, letters, formula)
    return _of_capitals(label, letters, formula)


def _of_letter(label: str, letter: str, formula: Collection[str] | None) -> RowElement:
    if letter in _ISOTOPES:
        known = letter == "D" and formula and "H" in formula
        return RowElement("H") if known else _unknown(label, "may be the name of a site")
    if letter not in _ELEMENTS:
        return _unknown(label, "is the name of a site, not a chemical element")
    return RowElement(letter, has_hydrogen=letter == "O" and re.match(r"O\d*[Ww]", label) is not None)


def _of_small(label: str, letters: str, formula: Collection[str] | None) -> RowElement:
    """Labels such as `Na`, `Oa`, `Obm`, `SiT`, `Wat`."""
    first, two = letters[0].upper(), letters[:2].capitalize()
    is_word = len(letters) > 3 and letters[1:].islower()
    if two in _IN_LABELS and not (is_word and not (formula and two in formula)):
        if formula and two not in formula and first in formula and first in _SUFFIXED:
            return RowElement(first)
        return RowElement(two)
    if first in _SUFFIXED and not is_word:
        return RowElement(first, has_hydrogen=first != "H" and letters[1] in "hw")
    return _unknown(label, "is the name of a site, not a chemical element")


def _of_capitals(label: str, letters: str, formula: Collection[str] | None) -> RowElement:
    """Labels such as `CL1`, `CA1`, `OW`, `HO1`, `NH3`."""
    first, two = letters[0].upper(), letters[:2].capitalize()
    is_first, is_two = first in _ELEMENTS, two in _IN_LABELS
    if first == "T" and letters[1] in "ABC" and not (formula and two in formula):
        return _unknown(label, "may be a tetrahedral site")
    if is_two and is_first:
        if formula and (two in formula) != (first in formula):
            is_first, is_two = first in formula, two in formula
        elif formula is None and (two in _BY_CAPITALS or letters[1] not in _ELEMENTS.union("ADEGLMTX")):
            is_first = False
        else:
            return _unknown(label, f"may be {two} or {first}")
    if is_two:
        return RowElement(two)
    if not is_first:
        return _unknown(label, "is the name of a site, not a chemical element")
    if first != "H" and letters[1] in "HW":  # hydroxyl, ammonia, water
        return RowElement(first, has_hydrogen=True)
    if letters[:2] in _GROUPS and first != "H" and formula is None:
        return _unknown(label, "may be a group of atoms")
    return RowElement(first)
