"""What a user names, as a stream of raw crystals: found and read here cheaply, parsed by `opening` in a worker."""

import glob
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cloud_hf.crystals.archives import Content, Member, is_archive, is_crystal, read_members
from cloud_hf.crystals.files import packing_of
from cloud_hf.crystals.readers import CRYSTAL_PATTERNS
from cloud_hf.errors import CloudError, CrystalReadError

__all__ = [
    "TABLE_SUFFIXES", "Raw", "entry_name", "is_table", "raw_crystals", "raw_member", "refused", "table_suffix", "walk",
]  # fmt: skip

TABLE_SUFFIXES = (".csv", ".jsonl", ".parquet")


class Raw(NamedTuple):  # travels to a worker in half the time that a data class takes
    """A crystal not yet parsed, or a file that may hold several.

    Attributes:
        source: What rows and error messages call it: its file, `file#block`, `archive#member`, `table:row`, its id.
        kind: What `value` is. `path`: of a file. `file`: the name and the bytes of one. `value`: a cell of a table, its
            column, and the folder that paths in it are relative to, or None for no paths. `row`: the mapping of a
            table's row and that folder. `json`: a line that holds such a row. `object`: what `cell_from_object` takes.
            `table`: the path of a table, whose rows `cloud_hf.data` and `cloud_hf.corpus` read. `error`: the
            `CloudError` that says why there is no crystal. `opening` makes others for what it finds inside.
        value: As `kind` says.
        id: Its own identifier, if any.
    """

    source: str
    kind: str
    value: Any
    id: str | None = None


def raw_crystals(text: str) -> Iterator[Raw]:
    """Yield what is behind the name of a file, a folder, a glob or an archive, in a fixed order.

    Args:
        text: Folders are searched recursively for CIF and POSCAR files, one folder at a time; links to folders, which
            may lead back, are not followed. Archives are read where they lie.

    Yields:
        At least one raw crystal, table, or error: whatever cannot be read has its place.
    """
    try:
        yield from _named(text)
    except OSError as error:  # a name that is too long, a folder that may not be read
        yield refused(text, CrystalReadError(f"{error.strerror or error}."))
    except CloudError as error:
        yield refused(text, error)


def _named(text: str) -> Iterator[Raw]:
    path = Path(text)
    if not text.strip():
        raise CrystalReadError("an input is empty; give a file, a folder, a table or a SCOPE string.")
    if path.is_dir():
        empty = True
        for raw in _folder(path):
            empty = False
            yield raw
        if empty:
            raise CrystalReadError(f"the folder holds no crystal files ({', '.join(CRYSTAL_PATTERNS)}).")
    elif glob.has_magic(text) and not path.exists():
        matches = sorted(glob.glob(text, recursive=True))  # noqa: PTH207  (the pattern may be absolute)
        if not matches:
            raise CrystalReadError("no file matches.")
        for match in matches:
            yield from raw_crystals(match)
    elif is_table(text):
        yield Raw(text, "table", text)
    elif is_archive(path) and path.is_file():
        yield from _archive(path)
    else:
        yield Raw(text, "path", text)


def is_table(name: str) -> bool:
    """Whether a file is a table, by its name, compressed or not."""
    return table_suffix(name) in TABLE_SUFFIXES


def table_suffix(name: str) -> str:
    """Return what tells the format of a table: its extension in lower case, `.jsonl` also for `.ndjson`."""
    suffix = Path(packing_of(name)[0]).suffix
    return ".jsonl" if suffix == ".ndjson" else suffix


def walk(
    folder: str | os.PathLike[str], enters: Callable[[str], bool] = lambda path: True
) -> "Iterator[os.DirEntry[str] | CrystalReadError]":
    """Yield every file below a folder, in order; links to folders, which may lead back, are not followed.

    Args:
        folder: One folder at a time is in memory.
        enters: Whether to go into a subfolder.

    Yields:
        Files, and why a folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        yield CrystalReadError(f"the folder cannot be read ({error.strerror}).", source=str(Path(folder)))
        return
    for entry in inside:
        if not entry.is_dir():
            yield entry
        elif not entry.is_symlink() and enters(entry.path):
            yield from walk(entry.path, enters)


def _folder(path: Path) -> Iterator[Raw]:
    """Every crystal file below a folder, and every subfolder that cannot be read."""
    for entry in walk(path):
        if isinstance(entry, CloudError):
            yield refused(str(path), entry)
        elif is_crystal(entry.name):
            name = str(Path(entry.path))
            yield Raw(name, "path", name)


def _archive(path: Path) -> Iterator[Raw]:
    empty = True
    for member, data in read_members(path):
        empty = False
        yield raw_member(str(path), member, data)
    if empty:
        raise CrystalReadError(f"the archive holds no crystal files ({', '.join(CRYSTAL_PATTERNS)}).")


def raw_member(archive: str, member: Member, data: Content) -> Raw:
    """Return a member of an archive as `cloud_hf.crystals.archives` reads it: its bytes, or what is wrong with them."""
    source = f"{archive}#{member.name}" if member.name else archive
    if isinstance(data, CloudError):
        return refused(source, data)
    return Raw(source, "file", (member.name, data), entry_name(member.name))


def entry_name(path: str) -> str | None:
    """Return the identifier that a file's name gives: a CIF is named after its entry, other names say nothing."""
    name = packing_of(path)[0]
    return Path(path).name[: name.rindex(".")] if name.endswith((".cif", ".mcif")) else None


def refused(source: str, error: CloudError) -> Raw:
    """Return the raw crystal that is an error."""
    error.source = error.source or source
    return Raw(source, "error", error)
