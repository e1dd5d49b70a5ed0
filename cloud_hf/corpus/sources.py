"""What is to be read: inputs to a list of tasks that depends on the inputs alone."""

import gzip
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import astuple
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pyarrow.parquet as parquet

from cloud_hf.corpus.schema import CORPUS_FILE
from cloud_hf.crystals.archives import JSON_LINES, is_archive, is_crystal, is_plain_tar, members
from cloud_hf.crystals.frames import holds_frames
from cloud_hf.crystals.sources import walk
from cloud_hf.errors import CloudError, CorpusError, CrystalReadError, CrystalTooLargeError, one_line

__all__ = ["MAX_LINE_BYTES", "Task", "json_lines", "open_lines", "plan_tasks"]

Task = dict[str, Any]
"""What one task reads, as JSON: `kind`, `path`, `source` (its name in the corpus), `provider`, `rows` (as far as known)
and what `cloud_hf.corpus.records` needs to find them."""

MAX_LINE_BYTES = 50_000_000
"""A line of JSON that describes a cell with 1000 sites has 0.2 MB."""

IN_ONE_STREAM = 10
"""A compressed stream is read from its beginning by each task, so its tasks are larger by this factor."""

_DATASET_FILES = ("dataset_info.json", "dataset_dict.json")
HUB = "hf://"


def plan_tasks(inputs: Iterable[str], rows: int) -> Iterator[Task]:
    """Yield the tasks of the inputs in their order; folders are searched in alphabetical order.

    Args:
        inputs: Folders, archives, tables and data sets, as `cloud-hf corpus build` takes them.
        rows: Crystals per task, as far as that is known beforehand.

    Raises:
        CorpusError: An input that is not there, or of no known form.
    """
    for text in inputs:
        name = Path(text.removeprefix(HUB)).name.partition(".")[0].partition(":")[0] or "input"
        for task in _tasks(text, rows):
            yield {"provider": name, **task}


def _tasks(text: str, rows: int) -> Iterator[Task]:
    path = Path(text)
    if text.startswith(HUB):
        yield from _hub_dataset(text, rows)
    elif path.is_dir():
        if _is_corpus(path):
            raise CorpusError(
                "is a corpus, which holds strings; name the structures that it was built from.", source=text
            )
        if any((path / name).is_file() for name in _DATASET_FILES):
            yield from _saved_dataset(path, text, rows)
        else:
            yield from _folder(path, text, rows)
    elif not path.is_file():
        raise CorpusError(
            f"there is no such file or folder; a data set on the Hub is named {HUB}OWNER/NAME.", source=text
        )
    elif is_crystal(path.name) or holds_frames(path.name):
        yield {"kind": "files", "path": str(path.absolute()), "source": text, "files": [""], "rows": 1}
    elif not _is_input(path):
        raise CorpusError(
            f"not an input of a corpus; those are folders, tar and zip archives of CIFs, CIF, POSCAR and XYZ files, "
            f".parquet and .jsonl tables of structures, and data sets (a folder of save_to_disk, or {HUB}OWNER/NAME).",
            source=text,
        )
    else:
        yield from _file(path, text, rows)


def _is_corpus(path: Path) -> bool:
    return (path / CORPUS_FILE).is_file() or (path / "work" / "plan" / "plan.json").is_file()


def _is_input(path: Path) -> bool:
    name = path.name.lower()
    return is_archive(path) or name.endswith((".parquet", *JSON_LINES)) or is_crystal(path.name)


def _folder(path: Path, source: str, rows: int) -> Iterator[Task]:
    """First the crystal files below a folder, `rows` of them a task, then its archives and tables."""
    empty = True
    names = _names(path)
    common = {"kind": "files", "path": str(path.absolute()), "source": source}
    crystals = (name for name in names if is_crystal(name))
    while files := list(islice(crystals, rows)):
        empty = False
        yield {**common, "files": files, "rows": len(files)}
    for name in _names(path):
        if not is_crystal(name):
            empty = False
            yield from _file(path / name, f"{source.rstrip('/')}/{name}", rows)
    if empty:
        raise CorpusError("the folder holds no crystal files, archives or tables of structures.", source=source)


def _names(root: Path) -> Iterator[str]:
    """Paths of inputs below a folder, relative to it; corpora are passed over, as they hold no structures."""
    for entry in walk(root, lambda folder: not _is_corpus(Path(folder))):
        if isinstance(entry, CloudError):
            raise CorpusError(entry.reason, source=entry.source)
        path = Path(entry.path)
        if entry.is_file() and not entry.name.startswith(".") and _is_input(path):
            yield path.relative_to(root).as_posix()


def _file(path: Path, source: str, rows: int) -> Iterator[Task]:
    common = {"path": str(path.absolute()), "source": source}
    name = path.name.lower()
    try:
        if is_archive(path):
            tasks = _archive(path, rows)
        elif name.endswith(".parquet"):
            tasks = _ranges("parquet", parquet.read_metadata(path).num_rows, rows)
        else:
            tasks = _line_ranges(path, rows)
        for task in tasks:
            yield {**common, **task}
    except Exception as error:  # pyarrow and gzip raise almost anything on damaged files
        yield {**common, "kind": "broken", "reason": f"the file cannot be read ({one_line(error)})", "rows": 1}


def _archive(path: Path, rows: int) -> Iterator[Task]:
    if is_plain_tar(path):
        listed = members(path)
        while piece := list(islice(listed, rows)):
            entries = [astuple(member) for member in piece]
            yield {"kind": "tar", "members": entries, "rows": len(piece)}
        return
    number = sum(1 for _ in members(path))
    per_task = rows if path.name.lower().endswith(".zip") else IN_ONE_STREAM * rows
    yield from _ranges("members", number, per_task)


def _ranges(kind: str, number: int, rows: int) -> Iterator[Task]:
    for start in range(0, number, rows):
        stop = min(start + rows, number)
        yield {"kind": kind, "start": start, "stop": stop, "rows": stop - start}


def open_lines(path: Path) -> IO[bytes]:
    """Open a file of JSON Lines, compressed or not."""
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")  # type: ignore[return-value]


def json_lines(file: IO[bytes]) -> Iterator[tuple[int, bytes | CloudError]]:
    """Yield where each line that is not blank begins, and the line, or what is wrong with it.

    A line of more than `MAX_LINE_BYTES` is passed over in pieces; where a compressed file breaks off, the last line
    says so.
    """
    position = 0
    try:
        while line := file.readline(MAX_LINE_BYTES):
            start, length = position, len(line)
            whole: bytes | CloudError = line
            while len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
                whole = CrystalTooLargeError(f"the line has more than {MAX_LINE_BYTES / 1e6:.0f} MB.")
                line = file.readline(MAX_LINE_BYTES)
                length += len(line)
            position += length
            if isinstance(whole, CloudError) or whole.strip():
                yield start, whole
    except (OSError, EOFError, zlib.error) as error:
        yield position, CrystalReadError(f"the file cannot be read from here on ({error}).")


def _line_ranges(path: Path, rows: int) -> Iterator[Task]:
    total, starts = 0, []
    with open_lines(path) as file:
        for total, (start, _) in enumerate(json_lines(file), 1):
            if (total - 1) % rows == 0:
                starts.append(start)
    if path.name.lower().endswith(".gz"):
        yield from _ranges("lines", total, IN_ONE_STREAM * rows)
    else:
        for task, start in zip(_ranges("lines", total, rows), starts, strict=True):
            yield {**task, "offset": start}


def _saved_dataset(path: Path, source: str, rows: int) -> Iterator[Task]:
    from datasets import Dataset, load_from_disk

    common = {"kind": "dataset", "path": str(path.absolute())}
    try:
        loaded: Any = load_from_disk(str(path))
    except Exception as error:  # datasets raises almost anything on damaged folders
        raise CorpusError(f"not a readable data set ({one_line(error)}).", source=source) from error
    splits = {"": loaded} if isinstance(loaded, Dataset) else dict(loaded)
    for split, dataset in splits.items():
        name = f"{source}/{split}" if split else source
        for task in _ranges("dataset", len(dataset), rows):
            yield {**task, **common, "split": split, "source": name}


def _hub_dataset(text: str, rows: int) -> Iterator[Task]:
    from datasets import load_dataset

    place, _, split = text.removeprefix(HUB).partition(":")
    name, config = "/".join(place.split("/")[:2]), "/".join(place.split("/")[2:])
    try:
        dataset: Any = load_dataset(name, config or None, split=split or "train")
    except Exception as error:  # the Hub client raises almost anything
        raise CorpusError(f"the data set cannot be loaded ({one_line(error)}).", source=text) from error
    common = {"path": name, "config": config, "split": split or "train", "source": text}
    for task in _ranges("hub", len(dataset), rows):
        yield {**common, **task}
