"""Every name by which a table knows its crystals: what splitting and the leakage report compare."""

import hashlib
import math
import os
import re
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from cloud_hf.data.assignment import composition_name, database_entry, protostructure
from cloud_hf.data.inputs import Item, encode_items, table_items
from cloud_hf.data.tables import SCOPE_COLUMN, has_structures, is_missing, read_table, write_table
from cloud_hf.errors import CloudError, EncodingTimeoutError, TableError, about
from cloud_hf.scope import TIMEOUT, ScopeEncoder, parse

__all__ = ["NAME_COLUMNS", "TIME_LIMIT", "encoded_strings", "is_outdated", "limit_of", "name_rows", "scope_columns"]

NAME_COLUMNS = ("row", "id", "scope", "sites", "names", "entry", "composition", "protostructure", "error")
"""Columns that `name_rows` gives."""

TIME_LIMIT = "time_limit"
"""Column of kept strings, s: the limit that a row without a string has exceeded."""

_SCOPE_NAME = re.compile(r"(^|_)scope(_|$)")


def scope_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns that hold SCOPE strings, by their names: `scope` first, then `cloud_scope`, `scope_full`."""
    columns = [str(name) for name in table.columns if _SCOPE_NAME.search(str(name))]
    return sorted(columns, key=lambda name: (name != SCOPE_COLUMN, name))


def encoded_strings(
    path: str | os.PathLike[str],
    encoder: ScopeEncoder,
    cache: str | os.PathLike[str],
    processes: int = 1,
    timeout: float | None = TIMEOUT,
    progress: bool = False,
) -> pd.DataFrame:
    """Encode the structures of a table once and keep the strings.

    Args:
        path: A table with structure columns.
        encoder: Writes the strings.
        cache: Folder for one Parquet file per table; its name holds a hash of the table and of the encoder's settings,
            so that a changed table is encoded anew.
        processes: Worker processes.
        timeout: Longest time for one crystal, s; None sets no limit.
        progress: Whether to show a bar.

    Returns:
        Columns `scope` and `error`, one row per row of the table.

    Raises:
        TableError: The table cannot be read, or the folder cannot be written to.
    """
    path, table = Path(path), read_table(path)
    columns = ["scope", "error"]
    digest = hashlib.sha256(f"{encoder.settings}, max_atoms {encoder.max_atoms}\n".encode() + path.read_bytes())
    cache_file = Path(cache) / f"{path.stem}-{digest.hexdigest()[:16]}.parquet"
    if cache_file.is_file():
        strings = read_table(cache_file)
        if len(strings) == len(table) and not is_outdated(strings, timeout):
            strings = strings[columns].astype(object)
            return strings.where(strings.notna(), None)
    encoded = encode_items(table_items(table, path), encoder, processes, timeout)
    rows = [
        (None if item.error else item.scope, item.message, limit_of(item, timeout))
        for item in tqdm(encoded, total=len(table), desc="encoding", unit="crystal", disable=not progress)
    ]
    strings = pd.DataFrame(rows, columns=[*columns, TIME_LIMIT], dtype=object).astype({TIME_LIMIT: float})
    write_table(strings, cache_file)
    return strings[columns]


def limit_of(item: Item, timeout: float | None) -> float | None:
    """Return the limit that an item has exceeded, s, if that is why it has no string."""
    return timeout if isinstance(item.error, EncodingTimeoutError) else None


def is_outdated(kept: pd.DataFrame, timeout: float | None) -> bool:
    """Whether kept strings lack some that the time would be enough for now.

    Args:
        kept: Strings, with the column `TIME_LIMIT` unless there was none.
        timeout: Limit, s; None for no limit.
    """
    return TIME_LIMIT in kept and bool((kept[TIME_LIMIT] < (math.inf if timeout is None else timeout)).any())


def name_rows(
    path: str | os.PathLike[str],
    encoder: ScopeEncoder,
    cache: str | os.PathLike[str],
    processes: int = 1,
    timeout: float | None = TIMEOUT,
    progress: bool = False,
) -> pd.DataFrame:
    """Name the crystal of every row of a table.

    Args:
        path: A table with structure columns, columns of SCOPE strings, or both. A structure names its crystal first;
            strings beside it, which may come from another symmetry search, are further names of the same crystal.
        encoder: Writes the strings of structures; its grammar must be `sites`.
        cache: Folder for the encoded strings.
        processes: Worker processes for the encoding.
        timeout: Longest time for one crystal, s; None sets no limit.
        progress: Whether to show a bar.

    Returns:
        `NAME_COLUMNS`, one row per row of the table: its number, its `id` (or the number), the SCOPE string that names
        it first, the canonical `sites` string, all composition names, the entry in a public database, the rounded
        composition alone, the protostructure, and why there is no name. What is not known is None.

    Raises:
        CloudError: The encoder writes another grammar.
        TableError: The table cannot be read, or has neither structures nor strings.
    """
    if encoder.grammar != "sites":
        raise CloudError(f"Crystals are named by their 'sites' strings, not {encoder.grammar!r}.")
    table = read_table(path)
    columns = scope_columns(table)
    if not columns and not has_structures(table):
        raise TableError(
            f"needs structure columns or a column {SCOPE_COLUMN!r}; see cloud-hf encode --help.", source=str(path)
        )
    given = [[None if is_missing(text) else str(text) for text in table[column]] for column in columns]
    errors: list[str | None] = [None] * len(table)
    if has_structures(table):
        strings = encoded_strings(path, encoder, cache, processes, timeout, progress)
        given.insert(0, strings["scope"].tolist())
        errors = strings["error"].tolist()
    ids = table["id"].tolist() if "id" in table.columns else [None] * len(table)
    rows = [
        {"row": row, "id": str(row if is_missing(identifier) else identifier)}
        | _names([texts[row] for texts in given], errors[row], f"{path}:{row}")
        | {"entry": database_entry(identifier)}
        for row, identifier in enumerate(ids)
    ]
    return pd.DataFrame(rows, columns=list(NAME_COLUMNS), dtype=object)


def _names(texts: list[str | None], error: str | None, source: str) -> dict[str, Any]:
    """All names that the strings of one row give; an error only if they give none."""
    scopes = []
    for text in filter(None, texts):
        try:
            scopes.append(parse(text))
        except CloudError as reason:
            error = error or str(about(reason, source))
    if not scopes:
        nothing = dict.fromkeys(("scope", "sites", "composition", "protostructure"))
        return nothing | {"names": [], "error": error or f"{source}: the row holds no SCOPE string."}
    first = scopes[0]
    names = list(dict.fromkeys(composition_name(scope) for scope in scopes))
    return {
        "scope": str(first),
        "sites": str(first.canonical()) if first.grammar == "sites" else None,
        "names": names,
        "composition": names[0].split(" | ")[2],
        "protostructure": protostructure(first),
        "error": None,
    }
