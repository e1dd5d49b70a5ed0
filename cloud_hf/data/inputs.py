"""What a user names on the command line, one `Item` per crystal: nothing is dropped, errors become items too."""

import glob
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from cloud_hf.data.tables import (
    SCOPE_COLUMN,
    STRUCTURE_COLUMNS,
    TABLE_SUFFIXES,
    has_structures,
    is_missing,
    numeric_column,
    read_table,
    structure_from_row,
)
from cloud_hf.errors import CloudError, GrammarError, TableError
from cloud_hf.scope import ScopeEncoder
from cloud_hf.scope.grammar import parse
from cloud_hf.scope.readers import CRYSTAL_PATTERNS

__all__ = ["Item", "collect_items", "encode_item", "named", "table_items"]


@dataclass(frozen=True, slots=True)
class Item:
    """One crystal on its way from input to row.

    Attributes:
        source: File, `file:row`, the row's `id`, or the string itself.
        crystal: Path or structure that is still to be encoded.
        scope: SCOPE string, given or encoded.
        formula: Reduced formula.
        space_group: Number in the International Tables.
        space_group_symbol: Short Hermann-Mauguin symbol.
        n_atoms: Atoms per primitive cell.
        error: Why there is no string.
    """

    source: str
    crystal: Any = None
    scope: str | None = None
    formula: str | None = None
    space_group: int | None = None
    space_group_symbol: str | None = None
    n_atoms: float | None = None
    error: str | None = None


def collect_items(inputs: Sequence[str], n_atoms: str | None = None) -> list[Item]:
    """Expand files, folders, globs, tables and SCOPE strings into items, in the order given.

    Args:
        inputs: What the user named. Folders are searched recursively for CIF and POSCAR files.
        n_atoms: A number, or the column of tables that holds the atoms per primitive cell of bare strings.

    Returns:
        One item per crystal; an input that yields none gives one item with the error.
    """
    return [item for text in inputs for item in _items(text, n_atoms)]


def _items(text: str, n_atoms: str | None) -> list[Item]:
    try:
        return list(_expand(text, n_atoms))
    except CloudError as error:
        return [Item(source=text, error=str(error))]
    except OSError as error:  # a name that is too long, a folder that may not be read
        return [Item(source=text, error=f"{text}: {error.strerror or error}.")]


def _expand(text: str, n_atoms: str | None) -> Iterator[Item]:
    if not text.strip():
        raise TableError("an input is empty; give a file, a folder, a table or a SCOPE string.")
    path = Path(text)
    if "|" in text and not _is_file(path):
        yield Item(source=text, scope=text, n_atoms=_number(n_atoms))
    elif path.is_dir():
        yield from _folder(path)
    elif glob.has_magic(text) and not path.exists():
        matches = sorted(glob.glob(text, recursive=True))  # noqa: PTH207  (the pattern may be absolute)
        if not matches:
            raise TableError(f"{text}: no file matches.")
        for match in matches:
            yield from _items(match, n_atoms)
    elif path.suffix.lower() in TABLE_SUFFIXES:
        table = read_table(path)
        if table.empty:
            raise TableError(f"{text}: the table has no rows.")
        yield from table_items(table, path, n_atoms)
    else:
        yield Item(source=text, crystal=path)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a string can be too long for a file name
        return False


def _folder(path: Path) -> Iterator[Item]:
    """Every crystal file below a folder, and every subfolder that cannot be read."""
    closed: list[OSError] = []
    found = [Path(folder, name) for folder, _, names in os.walk(path, onerror=closed.append) for name in names]
    files = sorted(file for file in found if _is_crystal_file(file))
    if not files and not closed:
        raise TableError(f"{path}: the folder holds no crystal files ({', '.join(CRYSTAL_PATTERNS)}).")
    yield from (Item(source=str(file), crystal=file) for file in files)
    for error in closed:
        yield Item(source=str(error.filename), error=f"{error.filename}: {error.strerror}.")


def _is_crystal_file(path: Path) -> bool:
    return any(Path(path.name.lower()).match(pattern.lower()) for pattern in CRYSTAL_PATTERNS)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        atoms = float(text)
    except ValueError:
        raise TableError(f"--n-atoms {text!r}: a bare string has no columns; give a number of atoms.") from None
    if not 1 <= atoms < math.inf:
        raise TableError(f"--n-atoms {text!r}: there is at least 1 atom in a primitive cell.")
    return atoms


def table_items(table: pd.DataFrame, path: str | os.PathLike[str], n_atoms: str | None = None) -> Iterator[Item]:
    """Yield one item per row of a table; structure columns win over a `scope` column.

    Raises:
        TableError: The table has neither, or `n_atoms` names a column that is missing or not numeric.
    """
    structures = has_structures(table)
    if not structures and SCOPE_COLUMN not in table.columns:
        raise TableError(
            f"{path}: needs a column {SCOPE_COLUMN!r} or the columns {', '.join(STRUCTURE_COLUMNS)}; "
            f"it has {', '.join(map(str, table.columns))}."
        )
    atoms: list[float | None] = [None] * len(table)
    if n_atoms is not None:
        if n_atoms not in table.columns and _is_number(n_atoms):
            atoms = [_number(n_atoms)] * len(table)
        else:
            atoms = [None if is_missing(value) else value for value in numeric_column(table, n_atoms, path)]
    for position, (index, row) in enumerate(zip(table.index, table.to_dict("records"), strict=True)):
        source = str(row["id"]) if "id" in row and not is_missing(row["id"]) else f"{path}:{index}"
        if structures:
            try:
                yield Item(source=source, crystal=structure_from_row(row, source))
            except CloudError as error:
                yield Item(source=source, error=str(error))
        elif is_missing(row[SCOPE_COLUMN]):
            yield Item(source=source, error=f"{source}: the column {SCOPE_COLUMN!r} is empty.")
        else:
            yield Item(source=source, scope=str(row[SCOPE_COLUMN]), n_atoms=atoms[position])


def encode_item(item: Item, encoder: ScopeEncoder) -> Item:
    """Fill in the SCOPE string of an item, or its error; never raises."""
    if item.error is not None:
        return item
    if item.scope is not None:
        return _read_string(item, encoder)
    try:
        encoded = encoder.describe(item.crystal)
    except CloudError as error:
        return replace(item, crystal=None, error=named(item, error))
    except Exception as error:  # a row must survive whatever a parser or the symmetry search raises
        return replace(item, crystal=None, error=f"{item.source}: unexpected {type(error).__name__}: {error}")
    return replace(
        item,
        crystal=None,
        scope=encoded.scope,
        formula=encoded.formula,
        space_group=encoded.space_group,
        space_group_symbol=encoded.space_group_symbol,
        n_atoms=encoded.n_atoms,
    )


def _read_string(item: Item, encoder: ScopeEncoder) -> Item:
    """Check a given string, canonicalise it as far as its grammar allows, and read off what it says."""
    try:
        scope = parse(item.scope or "")
        if scope.grammar != encoder.grammar:
            raise GrammarError(
                f"{item.scope!r} is written in the grammar {scope.grammar!r}, not in {encoder.grammar!r}; "
                "encode the crystal itself."
            )
        scope = scope.canonical() if encoder.canonical else scope
    except CloudError as error:
        return replace(item, error=named(item, error))
    return replace(
        item,
        scope=str(scope),
        formula=scope.formula,
        space_group=scope.space_group,
        space_group_symbol=scope.space_group_symbol,
        n_atoms=item.n_atoms if scope.n_atoms_primitive is None else float(scope.n_atoms_primitive),
    )


def named(item: Item, error: Exception) -> str:
    """Return the message of an error, which names the item that it is about."""
    message = str(error)
    return message if item.source in message else f"{item.source}: {message}"
