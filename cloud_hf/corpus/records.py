"""The raw crystals of one task: what is wrong with an input is one of them too."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from cloud_hf.corpus.sources import Task, json_lines, open_lines
from cloud_hf.crystals.archives import Member, read_at, read_members
from cloud_hf.crystals.rows import STRUCTURE_KEYS, structure_keys
from cloud_hf.crystals.sources import Raw, entry_name, raw_member, refused
from cloud_hf.errors import CrystalReadError, one_line

__all__ = ["ID_COLUMNS", "LICENSE_COLUMNS", "PROVIDER_COLUMNS", "read_task"]

ID_COLUMNS = ("id", "immutable_id", "material_id", "jid")
LICENSE_COLUMNS = ("license", "licence")
PROVIDER_COLUMNS = ("provider",)
"""Columns of tables that are read beside the structure, the first of each that is there."""

BATCH = 512
"""Rows that are taken from a table at a time."""


def read_task(task: Task) -> Iterator[Raw]:
    """Yield the crystals of a task in their order, always the same."""
    reader = {
        "files": _files,
        "tar": _plain_tar,
        "members": _archive,
        "lines": _lines,
        "parquet": _parquet,
        "dataset": _dataset,
        "hub": _dataset,
        "broken": _broken,
    }[task["kind"]]
    try:
        yield from reader(task)
    except Exception as error:  # one input must not end a run of many
        yield _error(task["source"], f"reading stopped with {type(error).__name__} ({one_line(error)})")


def _error(source: str, reason: str) -> Raw:
    return refused(source, CrystalReadError(f"{reason}."))


def _broken(task: Task) -> Iterator[Raw]:
    yield _error(task["source"], task["reason"])


def _files(task: Task) -> Iterator[Raw]:
    for name in task["files"]:
        path = Path(task["path"], name) if name else Path(task["path"])
        source = f"{task['source'].rstrip('/')}/{name}" if name else task["source"]
        yield Raw(source, "path", str(path), entry_name(path.name))


def _plain_tar(task: Task) -> Iterator[Raw]:
    for member, data in read_at(Path(task["path"]), [Member(*entry) for entry in task["members"]]):
        yield raw_member(task["source"], member, data)


def _archive(task: Task) -> Iterator[Raw]:
    for member, data in read_members(Path(task["path"]), task["start"], task["stop"]):
        yield raw_member(task["source"], member, data)


def _lines(task: Task) -> Iterator[Raw]:
    offset, start, stop, folder = task.get("offset"), task["start"], task["stop"], Path(task["path"]).parent
    try:
        with open_lines(Path(task["path"])) as file:
            file.seek(offset or 0)
            for number, (_, line) in enumerate(json_lines(file), 0 if offset is None else start):
                if number >= stop:
                    return
                if number >= start:
                    source = f"{task['source']}:{number}"
                    yield Raw(source, "json", (line, folder)) if isinstance(line, bytes) else refused(source, line)
    except OSError as error:
        yield _error(task["source"], f"the file cannot be read ({error.strerror or error})")


def _parquet(task: Task) -> Iterator[Raw]:
    """Rows of a range; where the file breaks off, each row that is missing says so."""
    row, stop, folder = task["start"], task["stop"], Path(task["path"]).parent
    try:
        with parquet.ParquetFile(task["path"], memory_map=True) as file:
            columns = _wanted(file.schema_arrow.names)
            for batch in _batches(file, row, stop, columns):
                for value in _rows(batch):
                    yield Raw(f"{task['source']}:{row}", "row", (value, folder))
                    row += 1
    except Exception as error:  # pyarrow raises almost anything on damaged files
        for missing in range(row, stop):
            yield _error(f"{task['source']}:{missing}", f"the table cannot be read here ({one_line(error)})")


def _batches(file: parquet.ParquetFile, start: int, stop: int, columns: list[str]) -> Iterator[pa.RecordBatch]:
    first = 0
    for group in range(file.num_row_groups):
        length = file.metadata.row_group(group).num_rows
        if first < stop and first + length > start:
            position = first
            for batch in file.iter_batches(BATCH, row_groups=[group], columns=columns):
                low, high = max(start - position, 0), min(stop - position, len(batch))
                if low < high:
                    yield batch.slice(low, high - low)
                position += len(batch)
                if position >= stop:
                    break
        first += length


def _wanted(names: list[str]) -> list[str]:
    keys = structure_keys(names)
    if keys is None:
        ways = "; ".join(", ".join(keys) for keys in STRUCTURE_KEYS)
        raise CrystalReadError(f"no columns of structures ({ways}), only {', '.join(names[:20])}")
    others = (*ID_COLUMNS, *LICENSE_COLUMNS, *PROVIDER_COLUMNS, "species")
    return [name for name in names if name in keys or name in others]


def _rows(batch: pa.RecordBatch) -> Iterator[Mapping[str, Any]]:
    """Rows as mappings."""
    names, columns = batch.schema.names, [_values(column) for column in batch.columns]
    for row in zip(*columns, strict=True):
        yield dict(zip(names, row, strict=True))


def _values(column: pa.Array) -> list[Any]:
    """The values of a column; lists of numbers, of which most rows of a corpus consist, without pyarrow's detour."""
    kind = column.type
    if (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and column.null_count == 0:
        numbers = column.flatten()
        if (pa.types.is_floating(numbers.type) or pa.types.is_integer(numbers.type)) and numbers.null_count == 0:
            flat = numbers.to_numpy(zero_copy_only=False).tolist()
            offsets = column.offsets.to_numpy()
            return [flat[start:stop] for start, stop in pairwise((offsets - offsets[0]).tolist())]
    values: list[Any] = column.to_pylist()
    return values


def _dataset(task: Task) -> Iterator[Raw]:
    from datasets import load_dataset, load_from_disk

    row, stop = task["start"], task["stop"]
    try:
        if task["kind"] == "hub":
            loaded: Any = load_dataset(task["path"], task["config"] or None, split=task["split"])
        else:
            loaded = load_from_disk(task["path"])
            loaded = loaded[task["split"]] if task["split"] else loaded
        columns = _wanted(loaded.column_names)
        dataset = loaded.select_columns(columns).with_format("arrow")
        for first in range(row, stop, BATCH):
            for batch in dataset[first : min(first + BATCH, stop)].to_batches():
                for value in _rows(batch):
                    yield Raw(f"{task['source']}:{row}", "row", (value, None))
                    row += 1
    except Exception as error:  # damaged Arrow files, a data set that has vanished
        for missing in range(row, stop):
            yield _error(f"{task['source']}:{missing}", f"the data set cannot be read here ({one_line(error)})")
