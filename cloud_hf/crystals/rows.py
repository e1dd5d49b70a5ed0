"""How a row of a table holds its crystal: in which columns, and as what."""

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cloud_hf.crystals.cell import Cell, Content
from cloud_hf.crystals.objects import element_symbol, site_rows
from cloud_hf.crystals.sources import Raw
from cloud_hf.errors import CloudError, CrystalReadError

__all__ = [
    "STRUCTURE_COLUMNS",
    "STRUCTURE_KEYS",
    "cell_from_row",
    "is_missing",
    "raw_row",
    "structure_keys",
    "without_gaps",
]

STRUCTURE_COLUMNS = ("lattice", "numbers", "frac_coords")
"""Lattice vectors as 9 numbers (row-major, Å), atomic numbers, fractional coordinates as 3 numbers a site."""

STRUCTURE_KEYS = (
    STRUCTURE_COLUMNS,
    ("optimade",),
    ("lattice_vectors", "cartesian_site_positions", "species_at_sites"),
    ("structure",),
    ("cif",),
    ("atoms",),
)
"""How a row of a table may hold its crystal: arrays, an OPTIMADE structure as JSON or in columns, a pymatgen dict or
CIF or POSCAR text, CIF text, a JARVIS dict."""

_OBJECT_KEYS = (("attributes",), ("lattice", "sites"), ("lattice_mat", "coords", "elements"))
"""What tells a row that is an OPTIMADE, pymatgen or JARVIS dict by itself."""

_CONTENTS: dict[float, Content] = {number: ((str(element_symbol(number)), 1.0),) for number in range(1, 119)}
"""What sits on a site, by atomic number."""


def structure_keys(names: Collection[str]) -> tuple[str, ...] | None:
    """Return the columns that hold the crystals of a table.

    Args:
        names: All columns.

    Returns:
        Those of `STRUCTURE_KEYS` that are there; all columns where a row is a dict of a crystal by itself; else None.
    """
    for keys in STRUCTURE_KEYS:
        if all(name in names for name in keys):
            return keys
    return tuple(names) if any(set(names).issuperset(keys) for keys in _OBJECT_KEYS) else None


def raw_row(row: Mapping[str, Any], source: str, folder: str | Path | None = None, id: str | None = None) -> Raw:
    """Return the crystal of a row.

    Args:
        row: The values by column; without `STRUCTURE_KEYS` it is a pymatgen, JARVIS or OPTIMADE dict by itself.
        source: What messages call the row.
        folder: What paths are relative to; None: a path is no crystal.
        id: The row's own identifier.
    """
    keys = structure_keys(row)
    if keys == STRUCTURE_COLUMNS:
        return Raw(source, "arrays", row, id)
    if keys in STRUCTURE_KEYS and len(keys) == 1:
        return Raw(source, "value", (row[keys[0]], keys[0], folder), id)
    return Raw(source, "object", row, id)


def cell_from_row(row: Any, name: str) -> Cell:
    """Build the crystal of one row with `STRUCTURE_COLUMNS`.

    Args:
        row: Anything indexable by column name.
        name: What an error message calls the row.

    Raises:
        CrystalReadError: The numbers do not make a crystal.
    """
    try:
        lattice = np.array(_listed(row["lattice"]), dtype=float).reshape(3, 3)
        numbers = np.array(_listed(row["numbers"]), dtype=float)
        coordinates = site_rows(_listed(row["frac_coords"]), name)
    except CloudError:
        raise
    except (ValueError, TypeError, KeyError) as error:
        raise _no_crystal(name, error) from error
    if numbers.shape != coordinates.shape[:1]:
        raise _no_crystal(name, f"{numbers.size} atomic numbers for {len(coordinates)} sites")
    contents = tuple([_CONTENTS.get(number, ()) for number in numbers.tolist()])
    if () in contents:  # of a number that is no element
        raise _no_crystal(name, f"atomic numbers are whole numbers from 1 to 118, not {numbers.tolist()[:8]}")
    return Cell(lattice, coordinates, contents, name)


def _no_crystal(name: str, reason: object) -> CrystalReadError:
    return CrystalReadError(
        f"lattice (9 numbers, Å), numbers and frac_coords (3 a site) do not make a crystal ({reason}).", source=name
    )


def _listed(value: Any) -> Any:
    """A list in a cell of a CSV file is text; one of lists in a Parquet file is an array of arrays."""
    value = json.loads(value) if isinstance(value, str) else value
    return value.tolist() if isinstance(value, np.ndarray) and value.dtype == object else value


def without_gaps(value: Any) -> Any:
    """Return a nested value of a table as it was written.

    A nested Parquet column gives every row the keys of all rows, None where a row lacks one, and arrays for lists.
    """
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, Mapping):
        return {key: without_gaps(entry) for key, entry in value.items() if entry is not None}
    return [without_gaps(entry) for entry in value] if isinstance(value, list) else value


def is_missing(value: Any) -> bool:
    """Whether a cell is empty (None, NA or NaN)."""
    if value is None or isinstance(value, float):
        return value is None or math.isnan(value)
    from pandas import NA  # here, as crystals of files need no tables, whose import takes half a second

    return value is NA
