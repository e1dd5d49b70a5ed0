"""What a user names on the command line, one `Item` per crystal: nothing is dropped, errors become items too."""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set, ValuesView
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pymatgen.core import SiteCollection

from cloud_hf.crystals.opening import Limits, open_raw
from cloud_hf.crystals.readers import kind_of_text, read_cell
from cloud_hf.crystals.rows import STRUCTURE_COLUMNS, is_missing, raw_row, structure_keys
from cloud_hf.crystals.sources import Raw, raw_crystals
from cloud_hf.data.tables import SCOPE_COLUMN, has_structures, read_chunks
from cloud_hf.errors import CloudError, GrammarError, SeveralCrystalsError, TableError, about, unforeseen
from cloud_hf.parallel.batch import encode_pairs
from cloud_hf.parallel.worker import Several, name_of
from cloud_hf.scope import TIMEOUT, ScopeEncoder
from cloud_hf.scope.grammar import parse
from cloud_hf.scope.pairing import sites_scope

if TYPE_CHECKING:  # tables, which crystals of files do not need
    import pandas as pd

__all__ = [
    "ITEM_COLUMNS", "Item", "collect_items", "encode_item", "encode_items", "item_row", "iterate_items", "table_items",
]  # fmt: skip

ITEM_COLUMNS = {
    "source": "object",
    "formula": "object",
    "space_group": "Int64",
    "space_group_symbol": "object",
    "scope": "object",
    "n_atoms": "float64",
}
"""Fields of an `Item` that are written to columns of the same name, with their dtypes."""


@dataclass(frozen=True, slots=True)
class Item:
    """One crystal on its way from input to row.

    Attributes:
        source: File, `file#block`, `file:row`, the row's `id`, or the string itself.
        crystal: `Raw` crystal or structure that is still to be encoded; then None, or the `Cell` that was read.
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
    error: CloudError | None = None
    is_encoded: bool = False
    note: str = ""

    @property
    def message(self) -> str | None:
        """The error as a text that names the source; None without one."""
        return None if self.error is None else str(self.error)

    @property
    def file(self) -> Path | None:
        """The file that a cell of a table names, which may change while the table does not; None: no file."""
        raw = self.crystal
        if not isinstance(raw, Raw) or raw.kind != "value":
            return None
        content, _, folder = raw.value
        if folder is None or not isinstance(content, str) or "\n" in content:
            return None
        path = os.path.join(folder, content.strip())  # noqa: PTH118  (pathlib refuses names that are too long)
        return Path(path) if os.path.isfile(path) else None  # noqa: PTH113

    @property
    def key(self) -> str:
        """The same for rows of tables that hold the same crystal, whatever they and their tables are called."""
        raw = self.crystal
        if not isinstance(raw, Raw):
            return self.scope or self.source
        file = self.file
        if file is not None:
            return str(file.resolve())
        content = raw.value[0] if raw.kind == "value" else raw.value
        if isinstance(content, Mapping):
            content = {name: value for name, value in content.items() if name != "id"}
        return json.dumps(content, sort_keys=True, default=lambda value: getattr(value, "tolist", lambda: str(value))())

    def failed(self, error: CloudError) -> "Item":
        """Return the item with an error, which from then on names it."""
        return replace(self, crystal=None, error=about(error, self.source))


def item_row(item: Item) -> dict[str, Any]:
    """Return the columns of an item, without its error."""
    return {column: getattr(item, column) for column in ITEM_COLUMNS}


def collect_items(inputs: Sequence[Any], n_atoms: str | None = None) -> list[Item]:
    """Return what `iterate_items` yields, all of it in memory."""
    return list(iterate_items(inputs, n_atoms))


def iterate_items(inputs: Any, n_atoms: str | None = None, structure: str | None = None) -> Iterator[Item]:
    """Expand files, folders, globs, archives, tables, SCOPE strings and objects into items, in the order given.

    Tables are read piece by piece and folders one at a time, so memory does not grow with their size. No crystal is
    parsed here: `encode_items` does that, and replaces the item of a file by one for each crystal in it.

    Args:
        inputs: One or several (a list, an iterator, a column of a table, an array, ...) of: what `raw_crystals` takes
            (a path), a SCOPE string, the text of a CIF or POSCAR file, a table in memory (`DataFrame`), or an object
            that `read_cell` takes (pymatgen `Structure`, ASE `Atoms`, ...).
        n_atoms: A number, or the column of tables that holds the atoms per primitive cell of bare strings.
        structure: The column of tables that holds the crystals, as `column` of `table_items`.

    Yields:
        At least one item an input; one that cannot be used gives an item with the error.
    """
    for place, given in enumerate(inputs if _are_several(inputs) else [inputs]):
        if not isinstance(given, str | os.PathLike):
            yield from _object(given, f"input {place}", n_atoms, structure)
            continue
        text = os.fspath(given).rstrip("\r\n")  # as lines of a list of files end
        if _is_content(text):
            yield _content(text, f"input {place} (text)")
            continue
        if "|" in text and not _is_file(Path(text)):
            yield from _guarded(text, _string(text, n_atoms))
            continue
        for raw in raw_crystals(text):
            if raw.kind == "table":
                yield from _guarded(raw.source, _table(raw.value, n_atoms, structure))
            else:
                yield Item(raw.source, crystal=raw)


def _are_several(inputs: Any) -> bool:
    """Whether inputs are several, and not one crystal, table, path or string."""
    if isinstance(inputs, tuple):
        return not _is_arrays(inputs)
    if isinstance(inputs, str | bytes | SiteCollection):
        return False
    if isinstance(inputs, Iterator | Sequence | Set | ValuesView):
        return True
    return getattr(inputs, "ndim", None) == 1  # an array, a pandas series or index


def _is_arrays(given: tuple[Any, ...]) -> bool:
    """Whether a tuple is one crystal: lattice, numbers, frac_coords."""
    first = given[0] if len(given) == 3 else None
    try:
        return isinstance(first, list | tuple | np.ndarray) and np.shape(first) == (3, 3)
    except ValueError:  # a list of lists of several lengths
        return False


def _is_content(text: str) -> bool:
    """Whether a text is what a file holds, not the name of one; a SCOPE string may be broken into lines."""
    if text.lstrip().startswith("{"):
        return True
    return "\n" in text and not ("|" in text and kind_of_text(text) == "poscar")


def _content(text: str, source: str) -> Item:
    """The crystals of a text that a file would hold."""
    if text.lstrip().startswith("{"):
        return Item(source, crystal=Raw(source, "value", (text, "text", None)))
    return Item(source, crystal=Raw(source, "file", (f".{kind_of_text(text)}", text.encode(errors="replace"))))


def _guarded(source: str, items: Iterator[Item]) -> Iterator[Item]:
    """An error among the items is the last of them."""
    try:
        yield from items
    except CloudError as error:
        yield Item(source).failed(error)


def _object(given: Any, source: str, n_atoms: str | None, structure: str | None) -> Iterator[Item]:
    import pandas as pd

    if isinstance(given, pd.DataFrame):
        yield from _guarded(source, table_items(given, source, n_atoms, structure))
    else:
        yield Item(f"{source} ({name_of(given)})", crystal=given)


def _string(text: str, n_atoms: str | None) -> Iterator[Item]:
    yield Item(text, scope=text, n_atoms=_number(n_atoms))


def _table(path: str, n_atoms: str | None, structure: str | None) -> Iterator[Item]:
    for table in read_chunks(path):
        if table.empty:
            raise TableError("the table has no rows.", source=path)
        yield from table_items(table, path, n_atoms, structure)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a string can be too long for a file name
        return False


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
        reason = f"`n_atoms` {text!r}: a bare string has no columns; give a number of atoms."
        raise TableError(reason, flag="n_atoms") from None
    if not 1 <= atoms < math.inf:
        raise TableError(f"`n_atoms` {text!r}: there is at least 1 atom in a primitive cell.", flag="n_atoms")
    return atoms


def table_items(
    table: "pd.DataFrame", path: str | os.PathLike[str], n_atoms: str | None = None, column: str | None = None
) -> Iterator[Item]:
    """Yield one item per row of a table, named by its `id`, else `path:row`.

    Args:
        table: Crystals in the columns of `STRUCTURE_KEYS`, or strings in a column `scope`. The arrays of
            `STRUCTURE_COLUMNS` win over strings, strings over the other ways.
        path: The table's file.
        n_atoms: As for `iterate_items`.
        column: The one column that holds the crystals: paths, absolute or relative to the table's folder, texts of CIF
            or POSCAR files, pymatgen, JARVIS or OPTIMADE dicts (JSON text or a nested column), or SCOPE strings.

    Raises:
        TableError: The table has no such columns, or `n_atoms` names a column that is missing.
    """
    if column is not None and column not in table.columns:
        raise TableError(f"there is no column {column!r}; it has {_listed(table)}.", source=str(path))
    keys: tuple[str, ...] | None = STRUCTURE_COLUMNS if has_structures(table) else None
    if column is not None:
        keys = (column,)
    if keys is None and SCOPE_COLUMN not in table.columns:
        keys = structure_keys([str(name) for name in table.columns])
        if keys is None:
            raise TableError(
                f"needs a column {SCOPE_COLUMN!r}, structure, cif, atoms or optimade, or the columns "
                f"{', '.join(STRUCTURE_COLUMNS)}; it has {_listed(table)}. Call a column of paths, texts of files or "
                "dicts structure.",
                source=str(path),
            )
    folder = Path(path).parent
    atoms = _atoms(table, path, n_atoms)
    wanted = dict.fromkeys(("id", "species", *(keys or (SCOPE_COLUMN,))))
    names = [name for name in wanted if name in table.columns]
    rows: list[dict[Any, Any]] = table[names].to_dict("records")
    for position, (index, row) in enumerate(zip(table.index, rows, strict=True)):
        source = str(row["id"]) if "id" in row and not is_missing(row["id"]) else f"{path}:{index}"
        item = Item(source)
        try:
            if column is not None and not _is_scope(row[column]):
                yield replace(item, crystal=Raw(source, "value", (row[column], column, folder)))
            elif column is None and keys is not None:
                yield replace(item, crystal=raw_row(row, source, folder))
            elif is_missing(text := row[column or SCOPE_COLUMN]):
                raise TableError(f"the column {SCOPE_COLUMN!r} is empty.")
            else:
                yield replace(item, scope=str(text), n_atoms=_cell_number(atoms[position], n_atoms))
        except CloudError as error:
            yield item.failed(error)


def _is_scope(cell: Any) -> bool:
    return isinstance(cell, str) and "|" in cell and "\n" not in cell and not cell.lstrip().startswith("{")


def _listed(table: "pd.DataFrame") -> str:
    return ", ".join(map(str, table.columns))


def _atoms(table: "pd.DataFrame", path: str | os.PathLike[str], n_atoms: str | None) -> list[Any]:
    """What the rows say of their number of atoms."""
    if n_atoms is None:
        return [None] * len(table)
    if n_atoms in table.columns:
        values: list[Any] = table[n_atoms].tolist()
        return values
    if _is_number(n_atoms):
        return [_number(n_atoms)] * len(table)
    raise TableError(f"there is no column {n_atoms!r}; it has {_listed(table)}.", source=str(path))


def _cell_number(value: Any, column: str | None) -> float | None:
    """Read the number of atoms in a cell of a table."""
    if is_missing(value):
        return None
    try:
        atoms = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        atoms = math.nan
    if not math.isfinite(atoms):
        raise TableError(f"column {column!r} must hold finite numbers, not {value!r}.")
    return atoms


def encode_items(
    items: Iterable[Item],
    encoder: ScopeEncoder,
    processes: int = 1,
    timeout: float | None = TIMEOUT,
    keep_cells: bool = False,
) -> Iterator[Item]:
    """Fill in strings or errors as `encode_item` does, in worker processes, in order.

    Args:
        items: May be a generator, which is read as the work proceeds.
        encoder: The encoder; a copy of it works in each process.
        processes: Worker processes. Crystals are read in one even for 1, unless there is no limit; strings that come
            before the first crystal need none.
        timeout: Longest time for reading and encoding one crystal, s. `None` sets no limit.
        keep_cells: Leave the `Cell` that was read in each row as its `crystal`.

    Yields:
        One row an item, and one a crystal where an item is a file that holds several. Items of a table stay one row.

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
    for item, row in encode_pairs(_ItemEncoder(encoder, keep_cells), items, processes, timeout):
        if isinstance(row, CloudError):  # its worker died or was stopped
            row.source = item.source
            row = item.failed(row)
        yield row


class _ItemEncoder:
    """Gives `encode_pairs` items in place of crystals."""

    def __init__(self, encoder: ScopeEncoder, keep_cells: bool) -> None:
        self.encoder, self.keep_cells = encoder, keep_cells

    def describe(self, item: Item) -> Item | Several:
        return _encoded(item, self.encoder, self.keep_cells)


def encode_item(item: Item, encoder: ScopeEncoder) -> Item:
    """Fill in the SCOPE string of an item, or its error; never raises. A file of several crystals is an error."""
    row = _encoded(item, encoder)
    if isinstance(row, Several):
        return item.failed(SeveralCrystalsError("holds several crystals; encode_items gives each a row."))
    return row


def _encoded(item: Item, encoder: ScopeEncoder, keep_cell: bool = False) -> Item | Several:
    if item.error is not None:
        return item
    try:
        if item.scope is not None:
            return _read_string(item, encoder)
        crystal = item.crystal
        if isinstance(crystal, Raw):
            crystal = open_raw(crystal, Limits(encoder.max_atoms, not encoder.canonical, encoder.trust_sites))
            if isinstance(crystal, list):
                return Several([replace(item, source=raw.source, crystal=raw) for raw in crystal])
        elif keep_cell:
            crystal = read_cell(crystal, encoder.max_atoms, not encoder.canonical, encoder.trust_sites)
        encoded = encoder.describe(crystal)
    except CloudError as error:
        return replace(item, error=error) if item.source == item.scope else item.failed(error)  # it quotes the string
    except Exception as error:  # a row must survive whatever a parser or the symmetry search raises
        return item.failed(unforeseen(error))
    return replace(
        item,
        crystal=crystal if keep_cell else None,
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
    elif encoder.canonical:
        scope = scope.canonical()
    return replace(
        item,
        scope=str(scope),
        formula=scope.formula,
        space_group=scope.space_group,
        space_group_symbol=scope.space_group_symbol,
        n_atoms=n_atoms,
    )
