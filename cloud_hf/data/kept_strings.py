"""Strings of crystals, encoded once: later calls for the same crystals and encoder read what the first one kept."""

import hashlib
import math
import os
from collections.abc import Iterable, Sequence, Sized
from itertools import compress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from cloud_hf.data.inputs import Item, encode_items, table_items
from cloud_hf.data.tables import read_table, write_table
from cloud_hf.errors import EncodingTimeoutError, TableError
from cloud_hf.scope import TIMEOUT, ScopeEncoder

__all__ = ["KEPT_COLUMNS", "ONE_WORKER", "Workers", "encode_once", "encode_table"]

KEPT_COLUMNS = {
    "source": "object",
    "scope": "object",
    "formula": "object",
    "space_group": "Int64",
    "n_atoms": "float64",
    "reason": "object",
    "time_limit": "float64",
}
"""Columns of kept strings and their dtypes: `source` of the item; `n_atoms` per primitive cell; `reason`, None where
there is a string; `time_limit`, s, that a crystal without a string has exceeded, if that is the reason."""


class Workers(NamedTuple):
    """What encodes crystals.

    Attributes:
        processes: Worker processes.
        timeout: Longest time for one crystal, s; None sets no limit.
    """

    processes: int = 1
    timeout: float | None = TIMEOUT


ONE_WORKER = Workers()


def encode_table(
    table: pd.DataFrame,
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None,
    workers: Workers = ONE_WORKER,
    encoder: ScopeEncoder | None = None,
    rows: NDArray[np.int64] | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Encode the crystals of a table, or read what an earlier call kept; a changed table is encoded anew.

    Args:
        table: What `read_table` gave for the path.
        path: The table's file.
        folder: As for `encode_once`.
        workers: As for `encode_once`.
        encoder: As for `encode_once`.
        rows: Only these rows of the table, from 0.
        progress: As for `encode_once`.

    Returns:
        `KEPT_COLUMNS`, one row per row of the table that was asked for.

    Raises:
        TableError: The table has no crystals, or the folder cannot be written to.
    """
    with Path(path).open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    if rows is not None:
        table, content = table.iloc[rows], f"{content} {rows.tolist()}"
    items = list(table_items(table, path))
    strings = encode_once(items, folder, Path(path).stem, content, workers, encoder, progress=progress)
    sources = pd.Series([item.source for item in items], strings.index, dtype="object")
    return strings.assign(source=sources)  # the path may have been another one


def encode_once(
    items: Iterable[Item],
    folder: str | os.PathLike[str] | None,
    name: str,
    content: str,
    workers: Workers = ONE_WORKER,
    encoder: ScopeEncoder | None = None,
    total: int | None = None,
    labels: Sequence[float] | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Encode items, or read what an earlier call kept of the same ones.

    What was kept is used if content and encoder are the same, and if it can be read and has the right columns and
    number of rows. Crystals that exceeded a shorter time limit are encoded again.

    Args:
        items: Of `table_items`, or `Item(source=..., crystal=structure)` for anything that `ScopeEncoder` takes; one
            row each. May be a generator, which is read as the work proceeds. If one in a list is in a file of its own,
            which may change while the table does not, nothing is kept.
        folder: Holds one Parquet file per name, content and encoder; None keeps nothing.
        name: What the kept file and the progress bar are called.
        content: What decides the items, such as the digest of a file and the columns that are read; hashed here.
        workers: Processes that encode crystals.
        encoder: What encodes; None: that of the grammar `sites`.
        total: Number of items where they are a generator.
        labels: Numbers to keep in a column `label`, one an item; may grow while the items are read.
        progress: Whether to show a bar; None: on a terminal.

    Returns:
        `KEPT_COLUMNS`, and `label` if there are any; one row an item, in order.

    Raises:
        TableError: The folder cannot be written to.
    """
    encoder = ScopeEncoder() if encoder is None else encoder
    total = len(items) if isinstance(items, Sized) else total
    columns = KEPT_COLUMNS if labels is None else {**KEPT_COLUMNS, "label": "float64"}
    digest = hashlib.sha256(f"{encoder!r}\n{encoder.settings}\n{content}".encode()).hexdigest()
    in_files = isinstance(items, Sequence) and any(item.file for item in items)
    file = None if folder is None or in_files else Path(folder, f"{name}-{digest[:16]}.parquet")
    kept = None if file is None else _kept(file, columns, total)
    if kept is not None:
        again = kept["time_limit"] < (math.inf if workers.timeout is None else workers.timeout)
        if not again.any():
            return kept
        items, total = compress(items, again), int(again.sum())
    encoded = encode_items(items, encoder, *workers)
    hidden = None if progress is None else not progress
    shown = tqdm(encoded, f"encoding {name}", total, unit="crystal", disable=hidden)
    strings = pd.DataFrame([_row(item, workers.timeout) for item in shown], columns=[*KEPT_COLUMNS])
    strings = _typed(strings, KEPT_COLUMNS)
    if kept is not None:
        strings = pd.concat([kept.loc[~again, [*KEPT_COLUMNS]], strings.set_index(kept.index[again])]).sort_index()
    if labels is not None:
        strings["label"] = labels
    if file is not None:
        write_table(strings, file)
    return strings


def _row(item: Item, timeout: float | None) -> tuple[object, ...]:
    if item.error is None:
        return item.source, item.scope, item.formula, item.space_group, item.n_atoms, None, None
    exceeded = timeout if isinstance(item.error, EncodingTimeoutError) else None
    return item.source, None, None, None, None, item.error.explanation, exceeded


def _kept(file: Path, columns: dict[str, str], total: int | None) -> pd.DataFrame | None:
    try:
        table = read_table(file)
    except TableError:  # there is none, or it is damaged
        return None
    try:
        kept = _typed(table, columns)
    except (KeyError, TypeError, ValueError):  # it has other columns, or something else in them
        return None
    return kept if total in (None, len(kept)) else None


def _typed(table: pd.DataFrame, columns: dict[str, str]) -> pd.DataFrame:
    table = table[[*columns]].astype(columns)
    texts = table.select_dtypes("object")
    return table.assign(**{str(name): text.where(text.notna(), None) for name, text in texts.items()})
