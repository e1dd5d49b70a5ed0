"""Tables written piece by piece: CSV, JSON Lines and Parquet that appear when they are complete."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet

from cloud_hf.data.tables import CHUNK_ROWS, TABLE_SUFFIXES, check_output, json_line
from cloud_hf.errors import TableError
from cloud_hf.files import new_file

__all__ = ["TableWriter", "open_writer"]

_ARROW = {"object": pa.string(), "Int64": pa.int64(), "float64": pa.float64(), "boolean": pa.bool_()}


class TableWriter:
    """Takes rows one by one and writes them in pieces; from `open_writer`.

    Attributes:
        n_rows: Rows taken so far.
    """

    def __init__(self, aside: Path, columns: Mapping[str, str], chunk_rows: int) -> None:
        self.n_rows = 0
        self._columns = dict(columns)
        self._chunk_rows = chunk_rows
        self._rows: list[Mapping[str, Any]] = []
        self._text: TextIO | None = None
        self._parquet: parquet.ParquetWriter | None = None
        self._suffix = aside.suffix.lower()
        if self._suffix == ".parquet":
            fields = [(name, _ARROW[kind]) for name, kind in self._columns.items()]
            self._parquet = parquet.ParquetWriter(aside, pa.schema(fields))
        else:
            self._text = aside.open("w", encoding="utf-8", newline="")
            if self._suffix == ".csv":
                pd.DataFrame(columns=list(self._columns)).to_csv(self._text, index=False)

    def write(self, row: Mapping[str, Any]) -> None:
        """Take a row; a column that it lacks is empty in it."""
        self._rows.append(row)
        self.n_rows += 1
        if len(self._rows) >= self._chunk_rows:
            self._flush()

    def close(self) -> None:
        """Write what is left."""
        self._flush()
        for file in (self._parquet, self._text):
            if file is not None:
                file.close()

    def _flush(self) -> None:
        if not self._rows:
            return
        if self._text is not None and self._suffix == ".jsonl":
            names = list(self._columns)
            self._text.writelines(json_line({name: row.get(name) for name in names}) for row in self._rows)
        else:
            table = pd.DataFrame(self._rows, columns=list(self._columns)).astype(self._columns)
            if self._parquet is not None:
                schema = self._parquet.schema
                self._parquet.write_table(pa.Table.from_pandas(table, schema, preserve_index=False))
            else:
                table.to_csv(self._text, index=False, header=False)
        self._rows = []


@contextmanager
def open_writer(
    path: str | os.PathLike[str], columns: Mapping[str, str], chunk_rows: int = CHUNK_ROWS
) -> Iterator[TableWriter]:
    """Open a table to be written row by row in the memory of `chunk_rows` rows.

    The rows are written aside; at the end of the `with` block the file takes its name. After an error there is no
    new file, and one that was there is as it was.

    Args:
        path: `.csv`, `.jsonl` or `.parquet`.
        columns: Name and dtype (`object` for text, `Int64`, `float64`, `boolean`) of each column.
        chunk_rows: Rows that are written together; the row groups of Parquet.

    Raises:
        TableError: The extension is another one, or the folder cannot be written to.
    """
    path = Path(path)
    check_output(path, TABLE_SUFFIXES)
    with new_file(path, error=TableError) as aside:
        writer = TableWriter(aside, columns, chunk_rows)
        try:
            yield writer
        finally:
            writer.close()
