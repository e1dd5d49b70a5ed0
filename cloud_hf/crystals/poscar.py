"""POSCAR text to a `Cell`, as VASP reads it; a file that does not name its elements is refused.

Title, scale (one factor, three, or a negative volume), three lattice vectors, element names, their numbers of atoms,
the optional line `Selective dynamics`, `Direct` or `Cartesian`, one line per atom. What follows (velocities, a charge
density) is left alone.
"""

import re
from math import isfinite

import numpy as np

from cloud_hf.crystals.cell import Cell
from cloud_hf.crystals.objects import element_symbol, refuse_size
from cloud_hf.errors import CrystalReadError, DegenerateLatticeError, UnknownElementError

__all__ = ["cell_from_poscar"]

_LONGEST_COUNT = 12


def cell_from_poscar(text: str, name: str, max_atoms: int) -> Cell:
    """Read a POSCAR or CONTCAR.

    Args:
        text: The file, lines ended by a newline character.
        name: What error messages call it.
        max_atoms: Largest number of sites in the cell.

    Raises:
        CrystalError: Not a POSCAR, elements that are not named, numbers that do not belong together, too many atoms.
    """
    lines = [line.split("!")[0].split("#")[0].split() for line in text.split("\n")]
    if len(lines) < 8:
        raise CrystalReadError("not a readable POSCAR (it has fewer than eight lines).", source=name)
    scale, matrix = _floats(lines[1], name, 2), np.array([_floats(lines[i], name, i + 1, 3) for i in (2, 3, 4)])
    lattice = _scaled(matrix, scale, name)
    names, counts, at = _species(lines, name)
    n_atoms = sum(counts)
    refuse_size(n_atoms, name, max_atoms)
    if lines[at] and lines[at][0][0] in "sS":
        at += 1
    mode = lines[at][0][0] if at < len(lines) and lines[at] else "D"
    rows = lines[at + 1 : at + 1 + n_atoms]
    if len(rows) < n_atoms or not all(len(row) >= 3 for row in rows):
        n_given = next((i for i, row in enumerate(rows) if len(row) < 3), len(rows))
        raise CrystalReadError(f"{n_atoms} atoms are announced, and {n_given} have coordinates.", source=name)
    coords = np.array([_floats(row[:3], name, at + 2 + i, 3) for i, row in enumerate(rows)])
    after = lines[at + 1 + n_atoms] if len(lines) > at + 1 + n_atoms else []
    if len(after) >= 3 and _all_floats(after[:3]):
        raise CrystalReadError(f"more atoms have coordinates than the {n_atoms} that are announced.", source=name)
    within_an_angstrom = False
    if mode in "cCkK":
        factors = scale if len(scale) == 3 else [_factor(matrix, scale[0])] * 3
        positions = coords * factors
        try:
            coords = positions @ np.linalg.inv(lattice)
        except np.linalg.LinAlgError as error:
            raise DegenerateLatticeError("the lattice vectors span no volume.", source=name) from error
        within_an_angstrom = bool(((positions >= 0) & (positions <= 1)).all())
    behind = _symbols_behind(rows)
    if not names:
        if behind is None:
            raise CrystalReadError(
                "the elements are not named (the format before VASP 5); write their symbols above the numbers of "
                "atoms.",
                source=name,
            )
        elements = behind
    else:
        elements = [element for element, count in zip(names, counts, strict=True) for _ in range(count)]
        if behind is not None and behind != elements:
            raise CrystalReadError(
                "the elements behind the coordinates are others than those above the numbers of atoms.", source=name
            )
    if within_an_angstrom and (n_atoms > 2 or (n_atoms == 2 and "H" not in elements)):  # in H2 it is a distance
        raise CrystalReadError(
            f"the coordinates are called Cartesian, and all {n_atoms} atoms would lie within 1 Å; they look like "
            "fractional ones, which are called Direct.",
            source=name,
        )
    single = {element: ((element, 1.0),) for element in elements}
    return Cell(lattice, coords, tuple([single[element] for element in elements]), name)


def _factor(matrix: np.ndarray, scale: float) -> float:
    """A negative scale is the volume of the cell in Å³."""
    if scale > 0:
        return scale
    volume = abs(float(np.linalg.det(matrix)))
    return float((-scale / volume) ** (1 / 3)) if volume > 0 else 0.0


def _scaled(matrix: np.ndarray, scale: list[float], name: str) -> np.ndarray:
    if len(scale) == 3 and min(scale) > 0:  # of x, y and z
        return matrix * scale
    if len(scale) != 1 or scale[0] == 0:
        raise CrystalReadError("the scale in the second line must be one number, or three positive ones.", source=name)
    return matrix * _factor(matrix, scale[0])


def _all_floats(words: list[str]) -> bool:
    return bool(words) and all(_float(word) is not None for word in words)


def _float(word: str) -> float | None:
    try:
        value = float(re.sub("[dD]", "e", word))  # Fortran writes 1.0D0
    except ValueError:
        return None
    return value if isfinite(value) and "_" not in word else None


def _floats(words: list[str], name: str, line: int, n: int | None = None) -> list[float]:
    values: list[float] = []
    for word in words if n is None else words[:n]:
        value = _float(word)
        if value is None:
            if n is None and values:
                break  # words behind the scale
            raise CrystalReadError(f"not a readable POSCAR ({word[:40]!r} in line {line} is no number).", source=name)
        values.append(value)
    if not values or (n is not None and len(values) < n):
        raise CrystalReadError(f"not a readable POSCAR (line {line} has fewer than {n or 1} numbers).", source=name)
    return values


def _species(lines: list[list[str]], name: str) -> tuple[list[str], list[int], int]:
    """Return element names (none in the old format), numbers of atoms, and the number of the line after them."""
    words = lines[5]
    if words and words[0].isdecimal():
        return [], _counts(words, name), 6
    symbols = [re.split(r"[_/.]", word)[0] for word in words]  # VASP adds the kind of potential: Na_pv, O/3f1a
    counts = _counts(lines[6], name)
    if len(symbols) != len(counts):
        raise CrystalReadError(
            f"{len(symbols)} elements ({' '.join(words)[:60]}) stand above {len(counts)} numbers of atoms "
            f"({' '.join(lines[6])[:60]}).",
            source=name,
        )
    names = []
    for symbol, word in zip(symbols, words, strict=True):
        element = element_symbol(symbol)
        if element is None:
            raise UnknownElementError(f"{word!r} is not a chemical element.", source=name)
        names.append(element)
    return names, counts, 7


def _counts(words: list[str], name: str) -> list[int]:
    counts: list[int] = []
    for word in words:
        if not (word.isascii() and word.isdecimal() and len(word) < _LONGEST_COUNT):
            if counts and not word[0].isdigit() and word[0] not in "+-.":
                break
            raise CrystalReadError(f"not a readable POSCAR ({word[:40]!r} is no number of atoms).", source=name)
        counts.append(int(word))
    if not counts:
        raise CrystalReadError("not a readable POSCAR (there are no numbers of atoms).", source=name)
    return counts


def _symbols_behind(rows: list[list[str]]) -> list[str] | None:
    """The elements behind the coordinates, where every atom has one."""
    flags = 6 if all(len(row) > 5 and {row[3][0], row[4][0], row[5][0]} <= set("TFtf.") for row in rows) else 3
    elements = [element_symbol(row[flags]) if len(row) > flags else None for row in rows]
    if not elements or any(element is None for element in elements):
        return None
    return [element for element in elements if element is not None]
