"""Tables with one column of crystals: paths of files, CIF or POSCAR text, or pymatgen dicts as JSON."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cloud_hf.crystals.cif import cell_from_cif
from cloud_hf.crystals.readers import MAX_ATOMS
from cloud_hf.data.inputs import Item
from cloud_hf.data.tables import is_missing
from cloud_hf.errors import CloudError, CrystalReadError, TableError

__all__ = ["structure_items"]


def structure_items(
    table: pd.DataFrame, column: str, path: str | os.PathLike[str], exact_order: bool = False
) -> Iterator[Item]:
    """Yield one item per row of a table whose crystals stand in one column.

    Args:
        table: The table.
        column: Column with the path of a crystal file, absolute or relative to the table's folder, the text of a
            CIF or POSCAR file, or a pymatgen dict (JSON text or a nested column).
        path: The table's file.
        exact_order: Sites of CIF text in pymatgen's order, which `ScopeEncoder(canonical=False)` depends on.

    Raises:
        TableError: There is no such column. A crystal that cannot be read gives an item with the error.
    """
    if column not in table.columns:
        raise TableError(f"{path}: there is no column {column!r}; it has {', '.join(map(str, table.columns))}.")
    ids = table["id"].tolist() if "id" in table.columns else [None] * len(table)
    for index, identifier, value in zip(table.index, ids, table[column].tolist(), strict=True):
        source = f"{path}:{index}" if is_missing(identifier) else str(identifier)
        try:
            yield Item(source=source, crystal=_crystal(value, source, column, Path(path).parent, exact_order))
        except CloudError as error:
            message = str(error)
            yield Item(source=source, error=message if source in message else f"{source}: {message}")


def _crystal(value: Any, source: str, column: str, folder: Path, exact_order: bool) -> Any:
    """What the encoder takes for a cell of the column."""
    if is_missing(value) or (isinstance(value, str) and not value.strip()):
        raise CrystalReadError(f"{source}: the column {column!r} is empty.")
    if isinstance(value, Mapping):
        return _without_gaps(value)
    if not isinstance(value, str):
        raise CrystalReadError(f"{source}: the column {column!r} holds {value!r}, not a path, CIF text or JSON.")
    text = value.strip()
    if text.startswith("{"):
        try:
            return json.loads(text)
        except ValueError as error:
            raise CrystalReadError(f"{source}: the column {column!r} holds damaged JSON ({error}).") from error
    if "_cell_length_a" in text:
        lines = value.replace("\r\n", "\n").replace("\r", "\n")
        return cell_from_cif(lines, source, MAX_ATOMS, exact_order)
    if "\n" in text:
        from pymatgen.io.vasp import Poscar  # takes most of a second

        try:
            return Poscar.from_str(text).structure
        except Exception as error:  # pymatgen's parser raises almost anything on malformed text
            reason = " ".join(str(error).split())[:200]
            raise CrystalReadError(f"{source}: {column!r} holds text that is no CIF or POSCAR ({reason}).") from error
    return folder / text


def _without_gaps(value: Any) -> Any:
    """A nested Parquet column gives every row the keys of all rows, None where a row lacks one, and arrays."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, Mapping):
        return {key: _without_gaps(entry) for key, entry in value.items() if entry is not None}
    return [_without_gaps(entry) for entry in value] if isinstance(value, list) else value
