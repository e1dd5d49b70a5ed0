"""Columns of the tables of a corpus, and Parquet files that are whole or not there."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from cloud_hf.errors import CorpusError
from cloud_hf.files import new_file, write_json

__all__ = [
    "CORPUS_FILE",
    "DOUBLED",
    "DUPLICATES",
    "ENCODED",
    "HASH_BYTES",
    "ORIGIN_COLUMNS",
    "QUARANTINE",
    "ROWS_READ",
    "SHARDS",
    "Folders",
    "RowWriter",
    "duplicate_schema",
    "encoded_schema",
    "open_rows",
    "replacing",
    "save_json",
    "shard_schema",
]

CORPUS_FILE = "corpus.json"
SHARDS, QUARANTINE, DUPLICATES = "shards", "quarantine", "duplicates"
ENCODED, DOUBLED = "encoded", "doubled"

ORIGIN_COLUMNS = ("source", "id", "provider", "license")
HASH_BYTES = 16
"""Of SHA-256: among ten million strings two share them with a chance of 1e-25."""

ROWS_READ = b"rows_read"
"""Metadata of an encoded file: how many crystals its task was given, counted where they are read."""

ROW_GROUP = 4096
"""Rows that are in memory while a file is written."""

AGAIN = "What was written before is whole: make room, then give the same command again."

_ORIGIN = [pa.field(name, pa.string()) for name in ORIGIN_COLUMNS]
_FACTS = [("formula", pa.string()), ("space_group", pa.int64()), ("n_sites", pa.int64()), ("n_atoms", pa.float64())]

QUARANTINE_SCHEMA = pa.schema([*_ORIGIN, ("error", pa.string()), ("reason", pa.string())])
DOUBLED_SCHEMA = pa.schema([("task", pa.int64()), ("position", pa.int64())])


def encoded_schema(grammars: Sequence[str]) -> pa.Schema:
    """Columns of what a task encodes, before duplicates are known."""
    strings = [(grammar, pa.string()) for grammar in grammars]
    return pa.schema([("hash", pa.binary(HASH_BYTES)), *strings, *_FACTS, *_ORIGIN])


def shard_schema(grammars: Sequence[str]) -> pa.Schema:
    """Columns of a shard."""
    strings = [(grammar, pa.string()) for grammar in grammars]
    made_by = [("encoder", pa.string()), ("versions", pa.string())]
    return pa.schema([*strings, ("hash", pa.string()), *_FACTS, *_ORIGIN, *made_by])


def duplicate_schema() -> pa.Schema:
    """Columns of the table of duplicates."""
    return pa.schema([*_ORIGIN, ("hash", pa.string())])


class Folders:
    """Where everything lies in a corpus.

    Args:
        root: The folder of the corpus.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        self.work = self.root / "work"
        self.plan = self.work / "plan"

    def table(self, kind: str, number: int) -> Path:
        """File of one task (or bucket) of one kind of table."""
        folder = self.work if kind in (ENCODED, DOUBLED) else self.root
        return folder / kind / f"{number:05d}.parquet"

    def logs(self, stage: str) -> Path:
        """Folder of a stage's logs and completion markers."""
        return self.work / "logs" / stage


class RowWriter:
    """Takes rows as tuples in the order of a schema; from `open_rows`.

    Attributes:
        n_rows: Rows taken so far.
    """

    def __init__(self, writer: parquet.ParquetWriter, schema: pa.Schema) -> None:
        self.n_rows = 0
        self._writer = writer
        self._schema = schema
        self._rows: list[Sequence[Any]] = []

    def add(self, row: Sequence[Any]) -> None:
        """Take a row."""
        self._rows.append(row)
        self.n_rows += 1
        if len(self._rows) >= ROW_GROUP:
            self.flush()

    def add_table(self, table: pa.Table) -> None:
        """Take many rows at once."""
        self.flush()
        self.n_rows += len(table)
        if len(table):
            self._writer.write_table(table.cast(self._schema))

    def set_metadata(self, values: Mapping[bytes, bytes]) -> None:
        """Store values in the footer."""
        self._writer.add_key_value_metadata(dict(values))

    def flush(self) -> None:
        """Write what was taken."""
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
            self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
            self._rows = []


@contextmanager
def open_rows(path: Path, schema: pa.Schema) -> Iterator[RowWriter]:
    """Open a Parquet file that takes its name at the end of the block, complete and on the disk; see `replacing`."""
    with replacing(path) as aside, parquet.ParquetWriter(aside, schema, compression="zstd") as writer:
        rows = RowWriter(writer, schema)
        yield rows
        rows.flush()


def replacing(path: Path) -> AbstractContextManager[Path]:
    """Return `cloud_hf.files.new_file` of a corpus.

    Raises:
        CorpusError: The disk is full, or the folder cannot be written to.
    """
    return new_file(path, error=CorpusError, remedy=AGAIN)


def save_json(value: Any, path: Path) -> None:
    """Write JSON; see `replacing`."""
    write_json(value, path, error=CorpusError, remedy=AGAIN)
