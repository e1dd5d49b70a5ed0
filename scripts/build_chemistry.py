"""Write `cloud_hf/models/chemistry_tables.py`: what the words of the SCOPE vocabulary say about elements and sites.

    python scripts/build_chemistry.py

Element data are pymatgen's. A flat module of numbers, because it ships as Hub remote code, which can bring no data
files and has no pymatgen.
"""

import math
import re
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Element

ROOT = Path(__file__).resolve().parents[1]
N_ELEMENTS = 118

DESCRIPTORS = (
    "Pauling electronegativity",
    "row",
    "group",
    "Mendeleev number",
    "atomic radius, Å",
    "average ionic radius, Å",
    "molar volume, cm3/mol",
    "melting point, K",
    "first ionisation energy, eV",
    "lowest common oxidation state",
    "highest common oxidation state",
    "valence block (s 0, p 1, d 2, f 3)",
)

HEAD = '''"""What the words of the SCOPE vocabulary say about elements and sites. Flat: ships as Hub remote code.

Written by `scripts/build_chemistry.py` from the vocabulary and pymatgen's element data; do not edit.
"""

__all__ = [
    "DESCRIPTOR_NAMES", "ELEMENT_DESCRIPTORS", "ELEMENT_IDS", "FRACTION_IDS", "SEPARATOR_ID", "START_ID", "VOCAB_SIZE",
    "WYCKOFF_IDS",
]  # fmt: skip

'''


def descriptors(element: Element) -> list[float]:
    """The properties of one element in the order of `DESCRIPTORS`; NaN where pymatgen has none."""
    common = element.common_oxidation_states
    values = [
        element.X,
        element.row,
        element.group,
        element.mendeleev_no,
        element.atomic_radius,
        float(element.average_ionic_radius) or None,  # pymatgen gives 0 where it knows no ion
        element.molar_volume,
        element.melting_point,
        element.ionization_energy,
        min(common, default=None),
        max(common, default=None),
        "spdf".index(element.block),
    ]
    return [math.nan if value is None else float(value) for value in values]


def standardised() -> tuple[NDArray[np.float64], dict[str, list[str]]]:
    """Descriptors of shape (118, 12), mean 0 and variance 1 over the elements that have one; and who has none."""
    elements = [Element.from_Z(z) for z in range(1, N_ELEMENTS + 1)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns of each value that it lacks
        raw = np.array([descriptors(element) for element in elements])
    missing = {
        name: [element.symbol for element, value in zip(elements, raw[:, column], strict=True) if math.isnan(value)]
        for column, name in enumerate(DESCRIPTORS)
    }
    scaled = (raw - np.nanmean(raw, axis=0)) / np.nanstd(raw, axis=0)
    return np.nan_to_num(scaled, nan=0.0), missing


def wrapped(numbers: list[int], indent: str = "    ") -> str:
    """Numbers in lines that fit, each with its comma."""
    lines, line = [], indent
    for number in numbers:
        word = f"{number}, "
        if len(line) + len(word) > 118:
            lines.append(line.rstrip())
            line = indent
        line += word
    return "\n".join([*lines, line.rstrip()])


def module() -> str:
    """The text of the module."""
    words = (ROOT / "cloud_hf" / "models" / "vocab.txt").read_text(encoding="utf-8").split()
    ids = {word: index for index, word in enumerate(words)}
    symbols = [Element.from_Z(z).symbol for z in range(1, N_ELEMENTS + 1)]
    wyckoff: dict[int, list[int]] = {}
    for word, index in ids.items():
        if re.fullmatch(r"[0-9]+[A-Za-z]", word):
            wyckoff.setdefault(int(word[:-1]), []).append(index)
    table, missing = standardised()
    absent = "\n".join(f"    {name}: {' '.join(who)}" for name, who in missing.items() if who)
    rows = "\n".join(
        f"    ({', '.join(f'{value:.4f}'.replace('-0.0000', '0.0000') for value in row)}),  # {symbol}"
        for symbol, row in zip(symbols, table, strict=True)
    )
    orbits = "\n".join(
        f"    {size}: (\n{wrapped(letters, ' ' * 8)}\n    )," for size, letters in sorted(wyckoff.items())
    )
    names = "\n".join(f'    "{name}",' for name in DESCRIPTORS)
    return f'''{HEAD}VOCAB_SIZE = {len(words)}

START_ID = {ids["[CLS]"]}
"""Id of [CLS], with which a string begins."""

SEPARATOR_ID = {ids["|"]}
"""Id of `|`, which ends a part of a string."""

ELEMENT_IDS: tuple[int, ...] = (
{wrapped([ids[symbol] for symbol in symbols])}
)  # fmt: skip
"""Ids of the elements H (Z = 1) to Og (118). Some are generator characters as well: the part of the string decides."""

FRACTION_IDS: tuple[int, ...] = (
{wrapped([ids[str(round(hundredth / 100, 2))] for hundredth in range(101)])}
)  # fmt: skip
"""Ids of the fractions 0.0, 0.01, ... 1.0."""

WYCKOFF_IDS: dict[int, tuple[int, ...]] = {{
{orbits}
}}  # fmt: skip
"""Ids of the Wyckoff words by their multiplicity in the conventional cell."""

DESCRIPTOR_NAMES: tuple[str, ...] = (
{names}
)

ELEMENT_DESCRIPTORS: tuple[tuple[float, ...], ...] = (
{rows}
)  # fmt: skip
"""Descriptors of the elements in the order of `ELEMENT_IDS` and `DESCRIPTOR_NAMES`, each standardised over the elements
that have a value. The mean, 0, stands where there is none:

{absent}
"""
'''


def main() -> None:
    """Write the module."""
    path = ROOT / "cloud_hf" / "chemistry_tables.py"
    path.write_text(module(), encoding="utf-8")
    print(f"{len(DESCRIPTORS)} descriptors of {N_ELEMENTS} elements -> {path}")


if __name__ == "__main__":
    main()
