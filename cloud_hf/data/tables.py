"""Tables of SCOPE strings or structures: CSV, JSON Lines and Parquet in and out."""

import glob
import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from cloud_hf.crystals.rows import STRUCTURE_COLUMNS, is_missing, structure_keys
from cloud_hf.crystals.sources import TABLE_SUFFIXES, is_table, table_suffix
from cloud_hf.errors import TableError, one_line
from cloud_hf.files import new_file

if TYPE_CHECKING:  # and inside functions: the import takes half a second, which crystals of files need not pay
    import pandas as pd

__all__ = [
    "CHUNK_ROWS",
    "ENCODER_COLUMN",
    "SCOPE_COLUMN",
    "STRUCTURE_COLUMNS",
    "TABLE_SUFFIXES",
    "check_output",
    "has_structures",
    "is_missing",
    "json_line",
    "numeric_column",
    "read_chunks",
    "read_table",
    "recorded_settings",
    "structure_keys",
    "write_table",
]

SCOPE_COLUMN = "scope"
ENCODER_COLUMN = "encoder"
"""What made the strings of a table, as `ScopeEncoder.settings` writes it; a note in brackets may follow."""

CHUNK_ROWS = 16_384
"""Rows that are in memory at a time where a table is read or written piece by piece."""

# 'Na' and 'nan' are text in a crystal table; only an empty cell is a missing value
_CSV: dict[str, Any] = {"keep_default_na": False, "na_values": [""], "dtype": {"id": str}, "index_col": False}
# JSON has types of its own; pandas then converts no dates either
_JSONL: dict[str, Any] = {"dtype": False, "precise_float": True}


def read_table(path: str | os.PathLike[str]) -> "pd.DataFrame":
    """Read a table by its extension.

    Args:
        path: A `.csv`, `.jsonl` or `.parquet` file.

    Raises:
        TableError: The file is missing, empty, damaged, or of another format.
    """
    import pandas as pd

    path = _existing(path)
    try:
        if table_suffix(path.name) == ".parquet":
            return _with_id(pd.read_parquet(path))
        if table_suffix(path.name) == ".jsonl":
            return _ids_as_text(pd.read_json(path, lines=True, **_JSONL))
        with _whole_rows():
            return cast("pd.DataFrame", pd.read_csv(path, **_CSV))
    except Exception as error:  # the readers of three formats raise almost anything on damaged files
        raise _damaged(path, error) from error


def read_chunks(path: str | os.PathLike[str], rows: int = CHUNK_ROWS) -> "Iterator[pd.DataFrame]":
    """Read a table piece by piece, in the memory of one piece.

    Args:
        path: A `.csv`, `.jsonl` or `.parquet` file.
        rows: Most rows of a piece; a piece of Parquet does not reach beyond its row group.

    Yields:
        The rows in their order, numbered from 0 through the whole table; a table without rows gives one empty piece.

    Raises:
        TableError: As for `read_table`; where the damage comes later, after the pieces before it.
    """
    import pandas as pd

    path = _existing(path)
    start = 0
    try:
        for chunk in _chunks(path, rows):
            chunk.index = pd.RangeIndex(start, start + len(chunk))
            start += len(chunk)
            yield chunk
    except Exception as error:
        raise _damaged(path, error, start) from error


def _chunks(path: Path, rows: int) -> "Iterator[pd.DataFrame]":
    import pandas as pd
    import pyarrow.parquet as parquet

    if table_suffix(path.name) == ".parquet":
        with parquet.ParquetFile(path) as file:
            if not file.metadata.num_rows:
                yield file.schema_arrow.empty_table().to_pandas()
            for batch in file.iter_batches(batch_size=rows):
                yield _with_id(batch.to_pandas())
    elif table_suffix(path.name) == ".jsonl":
        empty = True
        with pd.read_json(path, lines=True, chunksize=rows, **_JSONL) as reader:
            for chunk in reader:
                empty = False
                yield _ids_as_text(chunk)
        if empty:
            yield pd.DataFrame()
    else:
        with pd.read_csv(path, chunksize=rows, **_CSV) as reader:
            while True:
                with _whole_rows():
                    chunk = next(reader, None)
                if chunk is None:
                    return
                yield chunk


@contextmanager
def _whole_rows() -> Iterator[None]:
    """Refuse a CSV file with more fields in a row than the header names, from which pandas drops the last ones.

    A comma in a text without quotes shifts what is behind it, so that a label would be another number. pandas itself
    refuses this in later rows, and passes over empty fields at the ends of all rows.
    """
    import pandas as pd

    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            yield
        except pd.errors.ParserWarning as error:
            raise ValueError(
                "rows have more fields than the header has names; put a text that holds a comma in quotes"
            ) from error


def _with_id(table: "pd.DataFrame") -> "pd.DataFrame":
    """An index named `id`, as pandas keeps one in a Parquet file, is the column of that name."""
    return table.reset_index("id") if "id" in table.index.names and "id" not in table.columns else table


def _existing(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if not is_table(path.name):
        raise TableError(
            f"a table is one of {', '.join(TABLE_SUFFIXES)}, not {path.suffix or 'no extension'!r}.", source=str(path)
        )
    if not path.is_file():
        raise TableError("there is no such file.", source=str(path))
    return path


def _damaged(path: Path, error: Exception, row: int = 0) -> TableError:
    where = f"from row {row} on it cannot" if row else "cannot"
    return TableError(
        f"{where} be read as a {table_suffix(path.name)[1:]} table ({one_line(error)}).", source=str(path)
    )


def write_table(table: "pd.DataFrame", path: str | os.PathLike[str]) -> None:
    """Write a table by the extension of `path`; see `cloud_hf.files.new_file`.

    Raises:
        TableError: The extension is not one of `TABLE_SUFFIXES`, or the folder cannot be written to.
    """
    path = Path(path)
    check_output(path, TABLE_SUFFIXES)
    suffix = path.suffix.lower()
    with new_file(path, error=TableError) as aside:
        if suffix == ".parquet":
            table.to_parquet(aside, index=False)
        elif suffix == ".jsonl":
            aside.write_text("".join(map(json_line, table.to_dict("records"))), encoding="utf-8")
        else:
            table.to_csv(aside, index=False)


def json_line(record: Mapping[Any, Any]) -> str:
    """Return one row of JSON Lines with every digit (pandas' own writer rounds), null for a missing value."""
    values = {str(name): value.tolist() if hasattr(value, "tolist") else value for name, value in record.items()}
    values = {name: None if is_missing(value) else value for name, value in values.items()}
    return json.dumps(values, ensure_ascii=False) + "\n"


def check_output(
    path: str | os.PathLike[str], suffixes: Sequence[str] = (), inputs: Iterable[str | os.PathLike[str]] = ()
) -> None:
    """Find out before the work, not after it, that its result cannot be written, or would replace what is read.

    Args:
        path: The file to be.
        suffixes: Extensions that it may have; none: any.
        inputs: What the work reads: files and globs; other texts, such as SCOPE strings, are no files.

    Raises:
        TableError: Another extension, a folder in the file's place, a place that cannot be written to, or an input.
    """
    path = Path(path)
    if suffixes and path.suffix.lower() not in suffixes:
        raise TableError(f"the output's extension must be one of {', '.join(suffixes)}.", source=str(path))
    if os.path.isdir(path):  # noqa: PTH112  (False, not an error, where a folder may not be read)
        raise TableError("is a folder; give the name of a file.", source=str(path))
    try:
        folder = next((parent for parent in path.absolute().parents if parent.exists()), Path("/"))
        writable = folder.is_dir() and os.access(folder, os.W_OK)
    except OSError as error:
        raise TableError(f"cannot be written ({error.strerror}).", source=str(path)) from error
    if not writable:
        raise TableError(f"{folder} is not a folder that can be written to.", source=str(path))
    if path.is_file() and any(_is_same_file(path, text) for text in inputs):
        raise TableError("is also an input; choose another name for the output.", source=str(path))


def _is_same_file(path: Path, given: str | os.PathLike[str]) -> bool:
    """Whether a file is the one that an input names, or one of those that it names as a glob."""
    text = os.fspath(given)
    try:
        names = glob.glob(text, recursive=True) if glob.has_magic(text) else ()  # noqa: PTH207  (it may be absolute)
        return any(os.path.exists(name) and path.samefile(name) for name in (text, *names))  # noqa: PTH110
    except (OSError, ValueError):  # a text that is no name of a file
        return False


def recorded_settings(table: "pd.DataFrame") -> set[str]:
    """Return the encoder settings that are recorded with the strings of a table."""
    if ENCODER_COLUMN not in table.columns:
        return set()
    return {str(text).partition(" (")[0] for text in table[ENCODER_COLUMN].dropna().unique()}


def has_structures(table: "pd.DataFrame") -> bool:
    """Whether a table has all of `STRUCTURE_COLUMNS`."""
    return all(column in table.columns for column in STRUCTURE_COLUMNS)


def _ids_as_text(table: "pd.DataFrame") -> "pd.DataFrame":
    """Give the column `id` of a JSON table as text, as in tables of other formats; an empty one stays empty."""
    import pandas as pd

    if "id" in table.columns and not pd.api.types.is_string_dtype(table["id"]):
        table["id"] = table["id"].map(str, na_action="ignore")
    return table


def numeric_column(table: "pd.DataFrame", column: str, path: str | os.PathLike[str]) -> "pd.Series":
    """Return a column as float64, NaN where it is empty.

    Raises:
        TableError: The column is missing, not numeric, or holds an infinity; the message names the first bad row.
    """
    import pandas as pd

    if column not in table.columns:
        raise TableError(
            f"there is no column {column!r}; it has {', '.join(map(str, table.columns))}.", source=str(path)
        )
    values = pd.to_numeric(table[column], errors="coerce").astype("float64")
    if table[column].dtype == bool:
        raise TableError(f"column {column!r} holds true and false, not numbers.", source=str(path))
    bad = (values.isna() & table[column].notna()) | np.isinf(values)
    if bad.any():
        row = int(np.flatnonzero(bad.to_numpy())[0])
        raise TableError(
            f"column {column!r} must hold finite numbers, not '{table[column].iloc[row]}' "
            f"({int(bad.sum())} such rows). Leave the cell empty where there is no number.",
            source=str(path),
            row=row,
        )
    return values
