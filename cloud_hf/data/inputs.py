"""What a user names on the command line, one `Item` per crystal: nothing is dropped, errors become items too."""

import glob
import math
import os
import re
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from lzma import LZMAError
from pathlib import Path
from typing import Any

import pandas as pd

from cloud_hf.crystals.files import packing_of
from cloud_hf.crystals.readers import CRYSTAL_PATTERNS, read_cells
from cloud_hf.data.tables import (
    SCOPE_COLUMN,
    STRUCTURE_COLUMNS,
    TABLE_SUFFIXES,
    cell_from_row,
    has_structures,
    is_missing,
    read_chunks,
)
from cloud_hf.errors import CloudError, GrammarError, TableError
from cloud_hf.parallel.batch import encode_batch
from cloud_hf.scope import ScopeEncoder
from cloud_hf.scope.grammar import parse
from cloud_hf.scope.pairing import sites_scope

__all__ = ["Item", "collect_items", "encode_item", "encode_items", "iterate_items", "named", "table_items"]

_DATA_BLOCK = re.compile(rb"^[ \t]*data_", re.IGNORECASE | re.MULTILINE)


MAX_LOOKED_AT = 50_000_000
"""Bytes; the reader refuses larger files."""


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
        is_encoded: Whether the string was made from the crystal, not given.
        note: How the string came about, where the usual way failed; else empty.
    """

    source: str
    crystal: Any = None
    scope: str | None = None
    formula: str | None = None
    space_group: int | None = None
    space_group_symbol: str | None = None
    n_atoms: float | None = None
    error: str | None = None
    is_encoded: bool = False
    note: str = ""


def collect_items(inputs: Sequence[str], n_atoms: str | None = None) -> list[Item]:
    """Return what `iterate_items` yields, all of it in memory."""
    return list(iterate_items(inputs, n_atoms))


def iterate_items(
    inputs: Iterable[str], n_atoms: str | None = None, encoder: ScopeEncoder | None = None
) -> Iterator[Item]:
    """Expand files, folders, globs, tables and SCOPE strings into items, in the order given.

    Tables are read piece by piece and folders one at a time, so memory does not grow with their size.

    Args:
        inputs: What the user named. Folders are searched recursively for CIF and POSCAR files.
        n_atoms: A number, or the column of tables that holds the atoms per primitive cell of bare strings.
        encoder: What will encode the items; a CIF with several crystals is read as it reads files.

    Yields:
        One item per crystal, thus one per data block with atoms of a CIF; an input that yields none gives one item
        with the error.
    """
    for text in inputs:
        yield from _items(text, n_atoms, encoder or ScopeEncoder())


def _items(text: str, n_atoms: str | None, encoder: ScopeEncoder) -> Iterator[Item]:
    try:
        yield from _expand(text, n_atoms, encoder)
    except CloudError as error:
        yield Item(source=text, error=str(error))
    except OSError as error:  # a name that is too long, a folder that may not be read
        yield Item(source=text, error=f"{text}: {error.strerror or error}.")


def _expand(text: str, n_atoms: str | None, encoder: ScopeEncoder) -> Iterator[Item]:
    if not text.strip():
        raise TableError("an input is empty; give a file, a folder, a table or a SCOPE string.")
    path = Path(text)
    if "|" in text and not _is_file(path):
        yield Item(source=text, scope=text, n_atoms=_number(n_atoms))
    elif path.is_dir():
        found = False
        for item in _folder(path, encoder):
            found = True
            yield item
        if not found:
            raise TableError(f"{path}: the folder holds no crystal files ({', '.join(CRYSTAL_PATTERNS)}).")
    elif glob.has_magic(text) and not path.exists():
        matches = sorted(glob.glob(text, recursive=True))  # noqa: PTH207  (the pattern may be absolute)
        if not matches:
            raise TableError(f"{text}: no file matches.")
        for match in matches:
            yield from _items(match, n_atoms, encoder)
    elif path.suffix.lower() in TABLE_SUFFIXES:
        for table in read_chunks(path):
            if table.empty:
                raise TableError(f"{text}: the table has no rows.")
            yield from table_items(table, path, n_atoms)
    else:
        yield from _file(path, text, encoder)


def _file(path: Path, source: str, encoder: ScopeEncoder) -> Iterator[Item]:
    """One item for a file, or one per crystal for a CIF that holds several."""
    if _has_blocks(path):
        crystals = read_cells(path, encoder.max_atoms, exact_order=not encoder.canonical)
        if len(crystals) > 1:
            for name, cell in crystals:
                if isinstance(cell, CloudError):
                    yield Item(source=name, error=str(cell))
                else:
                    yield Item(source=name, crystal=cell)
            return
    yield Item(source=source, crystal=path)


def _has_blocks(path: Path) -> bool:
    """Whether a CIF may hold several crystals; a quick look, so that most files are parsed once, by the encoder."""
    name, opener = packing_of(str(path))
    if not name.endswith((".cif", ".mcif")):
        return False
    try:
        with opener(path, "rb") as file:
            blocks = _DATA_BLOCK.finditer(file.read(MAX_LOOKED_AT))
    except (OSError, EOFError, zlib.error, LZMAError):  # the reader says why
        return False
    return next(blocks, None) is not None and next(blocks, None) is not None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a string can be too long for a file name
        return False


def _folder(path: Path, encoder: ScopeEncoder) -> Iterator[Item]:
    """Every crystal in the files below a folder, in order, and every subfolder that cannot be read."""
    try:
        with os.scandir(path) as entries:
            inside = sorted((entry.name, entry.is_symlink() and entry.is_dir(), entry.is_dir()) for entry in entries)
    except OSError as error:
        yield Item(source=str(path), error=f"{path}: {error.strerror}.")
        return
    for name, is_linked_folder, is_folder in inside:
        if is_linked_folder:  # it may lead back here
            continue
        if is_folder:
            yield from _folder(path / name, encoder)
        elif _is_crystal_file(path / name):
            yield from _file(path / name, str(path / name), encoder)


def _is_crystal_file(path: Path) -> bool:
    return any(Path(packing_of(str(path))[0]).match(pattern.lower()) for pattern in CRYSTAL_PATTERNS)


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
    atoms: list[Any] = [None] * len(table)
    if n_atoms is not None:
        if n_atoms in table.columns:
            atoms = table[n_atoms].tolist()
        elif _is_number(n_atoms):
            atoms = [_number(n_atoms)] * len(table)
        else:
            raise TableError(f"{path}: there is no column {n_atoms!r}; it has {', '.join(map(str, table.columns))}.")
    names = [name for name in ("id", SCOPE_COLUMN, *STRUCTURE_COLUMNS) if name in table.columns]
    for position, (index, row) in enumerate(zip(table.index, table[names].to_dict("records"), strict=True)):
        source = str(row["id"]) if "id" in row and not is_missing(row["id"]) else f"{path}:{index}"
        try:
            if structures:
                yield Item(source=source, crystal=cell_from_row(row, source))
            elif is_missing(row[SCOPE_COLUMN]):
                yield Item(source=source, error=f"{source}: the column {SCOPE_COLUMN!r} is empty.")
            else:
                yield Item(source, scope=str(row[SCOPE_COLUMN]), n_atoms=_cell_number(atoms[position], n_atoms, source))
        except CloudError as error:
            yield Item(source=source, error=str(error))


def _cell_number(value: Any, column: str | None, source: str) -> float | None:
    """Read the number of atoms in a cell of a table."""
    if is_missing(value):
        return None
    try:
        atoms = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        atoms = math.nan
    if not math.isfinite(atoms):
        raise TableError(f"{source}: column {column!r} must hold finite numbers, not {value!r}.")
    return atoms


def encode_items(
    items: Iterable[Item], encoder: ScopeEncoder, processes: int = 1, timeout: float | None = None
) -> Iterator[Item]:
    """Fill in strings or errors as `encode_item` does, in worker processes; one row an item, in order.

    Args:
        items: May be a generator, which is read as the work proceeds.
        encoder: The encoder; a copy of it works in each process.
        processes: Worker processes.
        timeout: Longest time for one crystal, s. `None` sets no limit.

    Raises:
        CloudError: An argument that cannot work.
    """
    items = iter(items)
    if processes == 1:  # strings need no process of their own, which would only cost time
        for item in items:
            if item.crystal is not None:
                items = chain([item], items)
                break
            yield encode_item(item, encoder)
        else:
            return
    waiting: deque[Item] = deque()

    def handed_out(rest: Iterable[Item]) -> Iterator[Item]:
        for item in rest:
            waiting.append(item)
            yield item

    rows: Iterator[Any] = encode_batch(_ItemEncoder(encoder), handed_out(items), processes, timeout)
    for row in rows:
        item = waiting.popleft()
        if isinstance(row, CloudError):  # its worker died or was stopped; such a message names the place alone
            reason = re.sub(r"^input \d+ \(\w+\):? ", "", str(row))
            row = replace(item, crystal=None, error=f"{item.source}: {reason}")
        yield row


class _ItemEncoder:
    """Gives `encode_batch` items in place of crystals."""

    def __init__(self, encoder: ScopeEncoder) -> None:
        self.encoder = encoder

    def describe(self, item: Item) -> Item:
        return encode_item(item, self.encoder)


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
        is_encoded=True,
        note=encoded.note,
    )


def _read_string(item: Item, encoder: ScopeEncoder) -> Item:
    """Check a given string, put it into the encoder's grammar and canonical order, and read off what it says."""
    try:
        scope = parse(item.scope or "")
        n_atoms = item.n_atoms if scope.n_atoms_primitive is None else float(scope.n_atoms_primitive)
        if encoder.grammar == "sites":
            scope = sites_scope(scope)
            n_atoms = scope.n_atoms_primitive if n_atoms is None else n_atoms
        elif scope.grammar != encoder.grammar:
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
        n_atoms=n_atoms,
    )


def named(item: Item, error: Exception) -> str:
    """Return the message of an error, which names the item that it is about."""
    message = str(error)
    return message if item.source in message else f"{item.source}: {message}"
