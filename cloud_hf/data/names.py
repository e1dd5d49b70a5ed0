"""Every name by which a table knows its crystals: what splitting and the leakage report compare."""

import os
import re
from typing import Any

import pandas as pd

from cloud_hf.data.assignment import composition_name, database_entry, protostructure
from cloud_hf.data.kept_strings import Workers, encode_table
from cloud_hf.data.tables import SCOPE_COLUMN, STRUCTURE_COLUMNS, has_structures, is_missing, read_table
from cloud_hf.errors import CloudError, TableError, about
from cloud_hf.scope import TIMEOUT, ScopeEncoder, parse

__all__ = ["NAME_COLUMNS", "name_rows", "scope_columns"]

NAME_COLUMNS = ("row", "id", "scope", "sites", "names", "entry", "composition", "protostructure", "error")
"""Columns that `name_rows` gives."""

_SCOPE_NAME = re.compile(r"(^|_)scope(_|$)")


def scope_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns that hold SCOPE strings, by their names: `scope` first, then `cloud_scope`, `scope_full`."""
    columns = [str(name) for name in table.columns if _SCOPE_NAME.search(str(name))]
    return sorted(columns, key=lambda name: (name != SCOPE_COLUMN, name))


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
            f"needs a column {SCOPE_COLUMN!r} or the columns {', '.join(STRUCTURE_COLUMNS)}.", source=str(path)
        )
    given = [[None if is_missing(text) else str(text) for text in table[column]] for column in columns]
    errors: list[str | None] = [None] * len(table)
    if has_structures(table):
        strings = encode_table(table, path, cache, Workers(processes, timeout), encoder, progress=progress)
        given.insert(0, strings["scope"].tolist())
        errors = [
            reason and f"{source}: {reason}"
            for source, reason in zip(strings["source"], strings["reason"], strict=True)
        ]
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
