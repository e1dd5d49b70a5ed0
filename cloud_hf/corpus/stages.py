"""The stages of a build as datatrove steps: encode, find duplicates, write shards, report."""

import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute
import pyarrow.parquet as parquet
from datatrove.pipeline.base import PipelineStep
from numpy.typing import NDArray

from cloud_hf.corpus.encoding import EncodedRow, RecordEncoder, failed_row
from cloud_hf.corpus.plan import load_plan, load_task
from cloud_hf.corpus.records import read_task
from cloud_hf.corpus.report import write_report
from cloud_hf.corpus.schema import (
    DOUBLED,
    DOUBLED_SCHEMA,
    DUPLICATES,
    ENCODED,
    ORIGIN_COLUMNS,
    QUARANTINE,
    QUARANTINE_SCHEMA,
    ROWS_READ,
    SHARDS,
    Folders,
    duplicate_schema,
    encoded_schema,
    open_rows,
    shard_schema,
)
from cloud_hf.crystals.sources import Raw
from cloud_hf.errors import CloudError, WorkerDiedError
from cloud_hf.parallel.batch import TIMEOUT, encode_pairs
from cloud_hf.parallel.pool import Pool
from cloud_hf.parallel.worker import start_method

__all__ = ["DuplicateStep", "EncodeStep", "ReportStep", "ShardStep", "remove_leftovers"]

READ_ROWS = 8192
"""Rows of an encoded file that are in memory at a time."""


class CorpusStep(PipelineStep):
    """A stage of a build as datatrove runs it.

    Args:
        root: Folder of the corpus.
    """

    type = "corpus"

    def __init__(self, root: str) -> None:
        super().__init__()
        self.root = root


class EncodeStep(CorpusStep):
    """Encode the crystals of task `rank`: a file of strings and a file of what failed.

    Args:
        root: Folder of the corpus.
        processes: Worker processes.
        timeout: Longest time for one crystal, s; None for no limit.
    """

    name = "encode"

    def __init__(self, root: str, processes: int = 1, timeout: float | None = TIMEOUT) -> None:
        super().__init__(root)
        self.processes, self.timeout = processes, timeout
        self.progress: Callable[[int], Any] | None = None
        self._pool: Pool | None = None

    @contextmanager
    def workers(self) -> Iterator[None]:
        """Keep the worker processes from task to task inside the block: what they have learned takes a second each."""
        if self.processes > 1 or self.timeout is not None:
            _preload()
            self._pool = Pool(self._encoder(), self.processes, self.timeout)
        try:
            yield
        finally:
            pool, self._pool = self._pool, None
            if pool is not None:
                pool.close()

    def _encoder(self) -> RecordEncoder:
        settings = load_plan(Folders(self.root)).settings
        return RecordEncoder(settings.encoder(), settings.grammars)

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Work on one task; datatrove calls this."""
        if self._pool is None and (self.processes > 1 or self.timeout is not None):
            with self.workers():
                self._encode(rank)
        else:
            self._encode(rank)

    def _encode(self, rank: int) -> None:
        folders = Folders(self.root)
        plan, task = load_plan(folders), load_task(folders, rank)
        if self._pool is not None:
            encoder: Any = self._pool.encoder
            outcomes: Iterator[Any] = self._pool.pairs(read_task(task))
        else:
            encoder = self._encoder()
            outcomes = encode_pairs(encoder, read_task(task), 1, None)
        number = 0
        with (
            closing(outcomes),  # type: ignore[type-var]
            open_rows(folders.table(ENCODED, rank), encoded_schema(plan.settings.grammars)) as encoded,
            open_rows(folders.table(QUARANTINE, rank), QUARANTINE_SCHEMA) as quarantine,
        ):
            for raw, row in self._rows(outcomes, encoder):
                number += 1
                origin = raw.source, row.id, row.provider or task["provider"], row.license or plan.settings.license
                if row.error is None:
                    facts = row.formula, row.space_group, row.n_sites, row.n_atoms
                    encoded.add((row.digest, *row.strings, *facts, *origin))
                else:
                    quarantine.add((*origin, type(row.error).__name__, str(row.error)))
                if self.progress is not None:
                    self.progress(1)
            encoded.set_metadata({ROWS_READ: str(number).encode()})

    def _rows(self, outcomes: Iterator[Any], encoder: Any) -> Iterator[tuple[Raw, EncodedRow]]:
        """Rows; one whose worker died is tried once more by itself, as the system may be to blame."""
        for raw, outcome in outcomes:
            again = isinstance(outcome, WorkerDiedError)
            limit = self.timeout or 3600.0
            for inner, row in encode_pairs(encoder, [raw], 1, limit) if again else [(raw, outcome)]:
                if isinstance(row, CloudError):  # the pool's own: its worker died or was stopped
                    row.source = inner.source
                    yield inner, failed_row(inner, row)
                else:
                    yield inner, row


def _preload() -> None:
    """Where workers are not forked from this process, let the server that forks them import what they need once."""
    if start_method().get_start_method() == "forkserver":
        multiprocessing.set_forkserver_preload(["cloud_hf.parallel.worker", "cloud_hf.corpus.encoding"])
        forkserver.ensure_running()


class DuplicateStep(CorpusStep):
    """Find the rows of bucket `rank` whose hash an earlier row has, in the order of the tasks.

    Args:
        root: Folder of the corpus.
    """

    name = "find duplicates"

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Work on one bucket; datatrove calls this."""
        folders = Folders(self.root)
        plan = load_plan(folders)
        parts: list[NDArray[np.uint64]] = []
        for task in range(plan.tasks):
            digests = _digests(folders.table(ENCODED, task))
            places = np.flatnonzero(digests[:, 0] % np.uint64(plan.buckets) == rank).astype(np.uint64)
            number = np.full(len(places), task, np.uint64)
            parts.append(np.column_stack([digests[places], number, places]))
        rows = np.concatenate(parts)
        rows = rows[np.lexsort(rows.T[::-1])]
        again = np.flatnonzero((rows[1:, :2] == rows[:-1, :2]).all(axis=1)) + 1
        doubled = rows[again][:, 2:].astype(np.int64)
        doubled = doubled[np.lexsort(doubled.T[::-1])]
        with open_rows(folders.table(DOUBLED, rank), DOUBLED_SCHEMA) as file:
            file.add_table(pa.table([doubled[:, 0], doubled[:, 1]], schema=DOUBLED_SCHEMA))


def _digests(path: Path) -> NDArray[np.uint64]:
    """Hashes of an encoded file as two numbers each, shape (rows, 2)."""
    column = parquet.read_table(path, columns=["hash"])["hash"].combine_chunks()
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    halves = [
        np.frombuffer(chunk.buffers()[1], ">u8", 2 * len(chunk), 16 * chunk.offset).reshape(-1, 2)
        for chunk in chunks
        if len(chunk)
    ]
    return np.concatenate(halves or [np.empty((0, 2), ">u8")]).astype(np.uint64)


class ShardStep(CorpusStep):
    """Write the shard of task `rank`, and the table of its duplicates.

    Args:
        root: Folder of the corpus.
    """

    name = "write shards"

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Work on one task; datatrove calls this."""
        folders = Folders(self.root)
        plan = load_plan(folders)
        doubled = [
            parquet.read_table(folders.table(DOUBLED, bucket), columns=["position"], filters=[("task", "=", rank)])
            for bucket in range(plan.buckets)
        ]
        positions = pa.concat_tables(doubled)["position"].to_numpy()
        schema = shard_schema(plan.settings.grammars)
        with (
            parquet.ParquetFile(folders.table(ENCODED, rank)) as encoded,
            open_rows(folders.table(SHARDS, rank), schema) as shard,
            open_rows(folders.table(DUPLICATES, rank), duplicate_schema()) as duplicates,
        ):
            is_doubled = np.zeros(encoded.metadata.num_rows, dtype=bool)
            is_doubled[positions] = True
            start = 0
            for batch in encoded.iter_batches(READ_ROWS):
                chosen = is_doubled[start : start + len(batch)]
                start += len(batch)
                table = pa.Table.from_batches([batch])
                names = pa.array([digest.hex() for digest in table["hash"].to_pylist()], pa.string())
                table = table.set_column(0, "hash", names)
                duplicates.add_table(table.filter(pa.array(chosen)).select([*ORIGIN_COLUMNS, "hash"]))
                first_rows = table.filter(compute.invert(pa.array(chosen)))
                for name, text in (("encoder", plan.encoder), ("versions", plan.versions)):
                    first_rows = first_rows.append_column(name, pa.array([text] * len(first_rows), pa.string()))
                shard.add_table(first_rows.select(schema.names))


class ReportStep(CorpusStep):
    """Count everything anew, write `corpus.json`, and remove what was only needed on the way.

    Args:
        root: Folder of the corpus.
    """

    name = "report"

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Work on the whole corpus; datatrove calls this."""
        folders = Folders(self.root)
        write_report(folders, load_plan(folders))
        remove_leftovers(folders)


def remove_leftovers(folders: Folders) -> None:
    """Remove the encoded files of a corpus that is complete."""
    for kind in (ENCODED, DOUBLED):
        shutil.rmtree(folders.work / kind, ignore_errors=True)
