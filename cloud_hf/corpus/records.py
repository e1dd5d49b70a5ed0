"""The crystals of one task, one record each: what is wrong with an input is a record too."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as parquet

from cloud_hf.corpus.archives import Member, read_at, read_members, unpacked
from cloud_hf.corpus.sources import Task, json_lines, open_lines
from cloud_hf.crystals.cif_items import block_name, split_blocks, unused_name
from cloud_hf.crystals.files import COMPRESSED, MAX_FILE_BYTES
from cloud_hf.data.inputs import _DATA_BLOCK, _has_blocks
from cloud_hf.errors import CloudError, CrystalReadError, CrystalTooLargeError

__all__ = ["ID_COLUMNS", "LICENSE_COLUMNS", "PROVIDER_COLUMNS", "STRUCTURE_KEYS", "Payload", "Record", "read_task"]

ID_COLUMNS = ("id", "immutable_id", "material_id", "jid")
LICENSE_COLUMNS = ("license", "licence")
PROVIDER_COLUMNS = ("provider",)
"""Columns of tables that are read beside the structure, the first of each that is there."""

STRUCTURE_KEYS = (
    ("lattice", "numbers", "frac_coords"),
    ("optimade",),
    ("lattice_vectors", "cartesian_site_positions", "species_at_sites"),
    ("structure",),
    ("cif",),
    ("atoms",),
)
"""How a row of a table may hold its crystal: arrays as in `cloud_hf.data.tables`, an OPTIMADE structure as JSON or in
columns, a pymatgen dict or CIF or POSCAR text, CIF text, a JARVIS dict."""

BATCH = 512
"""Rows that are taken from a table at a time."""

_CIFS = (".cif", ".mcif")
_PACKED_CIFS = tuple(cif + packing for cif in _CIFS for packing in COMPRESSED)


class Payload(NamedTuple):  # travels to a worker in half the time that a data class takes
    """What a worker gets.

    Attributes:
        kind: `path` (of a file), `cif` or `poscar` (the bytes of one), `row` (a mapping), `json` (a line) or `error`.
        source: What error messages call it.
        value: As `kind` says.
    """

    kind: str
    source: str
    value: Any


class Record(NamedTuple):
    """One input crystal.

    Attributes:
        source: Where it comes from.
        id: Its own identifier, if any; a row's is found by the worker.
        provider: Who published it, unless the row itself says so.
        payload: The crystal.
    """

    source: str
    id: str | None
    provider: str
    payload: Payload


def read_task(task: Task) -> Iterator[Record]:
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
        for payload, identifier in reader(task):
            yield Record(payload.source, identifier, task["provider"], payload)
    except Exception as error:  # one input must not end a run of many
        reason = " ".join(str(error).split())[:200]
        payload = _error(task["source"], f"reading stopped with {type(error).__name__} ({reason})")
        yield Record(payload.source, None, task["provider"], payload)


Found = Iterator[tuple[Payload, str | None]]


def _error(source: str, reason: str) -> Payload:
    kind = CrystalTooLargeError if "more than" in reason and "MB" in reason else CrystalReadError
    return Payload("error", source, kind(f"{source}: {reason}."))


def _broken(task: Task) -> Found:
    yield _error(task["source"], task["reason"]), None


def _files(task: Task) -> Found:
    for name in task["files"]:
        path = Path(task["path"], name) if name else Path(task["path"])
        source = f"{task['source'].rstrip('/')}/{name}" if name else task["source"]
        whole = Payload("path", source, str(path)), _stem(path.name)
        try:
            if path.name.lower().endswith(_PACKED_CIFS) and path.stat().st_size <= MAX_FILE_BYTES:
                yield from _file_of(path.name, path.read_bytes(), source)
            elif _has_blocks(path) and path.stat().st_size <= MAX_FILE_BYTES:
                yield from _cif_blocks(path.read_bytes(), source, whole)
            else:
                yield whole
        except OSError:  # the reader says why
            yield whole


def _stem(name: str) -> str | None:
    """A CIF is named after its entry; the names of other files say nothing."""
    return Path(name).stem if name.lower().endswith(_CIFS) else None


def _cif_blocks(data: bytes, source: str, whole: tuple[Payload, str | None]) -> Found:
    """Each block with atoms by itself; the whole file where there is one, or where the reader has to say why not."""
    text = data.decode("utf-8", errors="replace").removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    try:
        blocks = split_blocks(text, source)
    except CloudError:
        blocks = []
    if len(blocks) < 2:
        yield whole
        return
    names: dict[str, None] = {}
    for block in blocks:
        name = unused_name(f"{source}#{block_name(block)}", names)
        names[name] = None
        yield Payload("cif", name, block.encode()), block_name(block) or None


def _plain_tar(task: Task) -> Found:
    wanted = [Member(*entry) for entry in task["members"]]
    return _members(task["source"], read_at(Path(task["path"]), wanted))


def _archive(task: Task) -> Found:
    return _members(task["source"], read_members(Path(task["path"]), task["start"], task["stop"]))


def _members(source: str, found: Iterator[tuple[Member, bytes | str]]) -> Found:
    for member, data in found:
        name = f"{source}#{member.name}" if member.name else source
        if isinstance(data, str):
            yield _error(name, data), None
        else:
            yield from _file_of(member.name, data, name)


def _file_of(name: str, data: bytes, source: str) -> Found:
    """The crystals of one file that is in memory."""
    name, content = unpacked(name, data)
    if isinstance(content, str):
        yield _error(source, content), None
        return
    kind = "cif" if name.lower().endswith(_CIFS) else "poscar"
    whole = Payload(kind, source, content), _stem(name)
    if kind == "cif" and sum(1 for _ in _DATA_BLOCK.finditer(content)) > 1:
        yield from _cif_blocks(content, source, whole)
    else:
        yield whole


def _lines(task: Task) -> Found:
    offset, start, stop = task.get("offset"), task["start"], task["stop"]
    try:
        with open_lines(Path(task["path"])) as file:
            file.seek(offset or 0)
            for number, (_, line) in enumerate(json_lines(file), 0 if offset is None else start):
                if number >= stop:
                    return
                if number >= start:
                    source = f"{task['source']}:{number}"
                    yield (_error(source, line) if isinstance(line, str) else Payload("json", source, line)), None
    except OSError as error:
        yield _error(task["source"], f"the file cannot be read ({error.strerror or error})"), None


def _parquet(task: Task) -> Found:
    """Rows of a range; where the file breaks off, each row that is missing says so."""
    row, stop = task["start"], task["stop"]
    try:
        with parquet.ParquetFile(task["path"], memory_map=True) as file:
            columns = _wanted(file.schema_arrow.names)
            for batch in _batches(file, row, stop, columns):
                for value in _rows(batch):
                    yield Payload("row", f"{task['source']}:{row}", value), None
                    row += 1
    except Exception as error:  # pyarrow raises almost anything on damaged files
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        for missing in range(row, stop):
            yield _error(f"{task['source']}:{missing}", f"the table cannot be read here ({reason})"), None


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
    keys = next((keys for keys in STRUCTURE_KEYS if set(keys) <= set(names)), ())
    if not keys:
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


def _dataset(task: Task) -> Found:
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
                    yield Payload("row", f"{task['source']}:{row}", value), None
                    row += 1
    except Exception as error:  # damaged Arrow files, a data set that has vanished
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        for missing in range(row, stop):
            yield _error(f"{task['source']}:{missing}", f"the data set cannot be read here ({reason})"), None
