"""Members of tar and zip archives, read where they lie: nothing is unpacked to the disk."""

import io
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import Any

from cloud_hf.crystals.files import COMPRESSED, MAX_FILE_BYTES, packing_of
from cloud_hf.crystals.readers import kind_of_name
from cloud_hf.errors import CloudError, CrystalReadError, CrystalTooLargeError, one_line

__all__ = [
    "ARCHIVE_SUFFIXES",
    "JSON_LINES",
    "Member",
    "is_archive",
    "is_crystal",
    "is_plain_tar",
    "members",
    "read_at",
    "read_members",
    "unpacked",
]

Content = bytes | CloudError
"""The bytes of a member, or why there are none."""


JSON_LINES = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".zip")

_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, LZMAError, OSError, EOFError, ValueError, RuntimeError)
"""What the readers raise on archives that are cut, encrypted or of unknown compression."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an archive that is a crystal, or that should have been one.

    Attributes:
        name: Its path in the archive.
        offset: Where its bytes begin in an uncompressed tar file; -1 elsewhere.
        size: Bytes.
        problem: Why it is not read, a sentence.
        too_large: Whether its size is the problem.
    """

    name: str
    offset: int
    size: int
    problem: str | None = None
    too_large: bool = False

    @property
    def refusal(self) -> Content:
        """The error that `problem` makes; no bytes where there is none."""
        if self.problem is None:
            return b""
        return (CrystalTooLargeError if self.too_large else CrystalReadError)(self.problem)


def is_archive(path: Path) -> bool:
    """Whether a file is an archive, by its name."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def is_crystal(name: str) -> bool:
    """Whether a file is one crystal (or a CIF of several), by its name, compressed or not.

    What macOS lays beside a file of an archive or a foreign disk, `._NAME`, holds its attributes and is no crystal.
    """
    bare = packing_of(name)[0]
    return kind_of_name(bare) is not None and not bare.startswith("._")


def unpacked(name: str, data: bytes) -> tuple[str, bytes]:
    """Return the name of a file without the suffix of its compression, and its bytes.

    Raises:
        CrystalReadError: They cannot be unpacked.
        CrystalTooLargeError: They are more than `MAX_FILE_BYTES`.
    """
    inner = next((name[: -len(suffix)] for suffix in COMPRESSED if name.lower().endswith(suffix)), name)
    if inner == name:
        return name, data
    try:
        with COMPRESSED[name[len(inner) :].lower()](io.BytesIO(data)) as file:
            content: bytes = file.read(MAX_FILE_BYTES + 1)
    except _DAMAGE as error:
        raise _damaged(error) from error
    if len(content) > MAX_FILE_BYTES:
        raise CrystalTooLargeError(_TOO_LARGE)
    return inner, content


_TOO_LARGE = f"the file has more than {MAX_FILE_BYTES / 1e6:.0f} MB; no crystal needs that."


def _damaged(error: Exception) -> CrystalReadError:
    return CrystalReadError(f"cannot be read ({one_line(error)}).")


def is_plain_tar(path: Path) -> bool:
    """Whether a file is a tar archive without compression, whose members can be read at their offsets."""
    try:
        with tarfile.open(path, "r:"):
            return True
    except _DAMAGE:
        return False


def members(path: Path) -> Iterator[Member]:
    """Yield the crystals of an archive in their order, and whatever in it points outside its folder.

    An archive that breaks off ends with a member that says so. Files that are no crystals are passed over.
    """
    for member, _ in _walk(path, read=False):
        yield member


def read_members(path: Path, start: int = 0, stop: int | None = None) -> Iterator[tuple[Member, Content]]:
    """Yield members number `start` to `stop` - 1 of `members` with their bytes, or what is wrong."""
    for number, (member, data) in enumerate(_walk(path, read=True, start=start)):
        if stop is not None and number >= stop:
            return
        if number >= start:
            yield member, data


def read_at(path: Path, wanted: list[Member]) -> Iterator[tuple[Member, Content]]:
    """Yield members of an uncompressed tar file with their bytes, or what is wrong."""
    try:
        with path.open("rb") as file:
            for member in wanted:
                if member.problem is not None:
                    yield member, member.refusal
                    continue
                file.seek(member.offset)
                data = file.read(member.size)
                whole = len(data) == member.size
                yield member, data if whole else CrystalReadError("the archive ends in the middle of it.")
    except OSError as error:
        for member in wanted:
            yield member, CrystalReadError(f"the archive cannot be read ({error.strerror or error}).")


def _walk(path: Path, read: bool, start: int = 0) -> Iterator[tuple[Member, Content]]:
    walk = _walk_zip if path.name.lower().endswith(".zip") else _walk_tar
    last = ""
    try:
        for member, data in walk(path, read, start):
            last = member.name
            yield member, data
    except _DAMAGE as error:
        where = f"after {last}" if last else "from its beginning"
        problem = f"the archive is damaged {where} ({one_line(error)})."
        last_member = Member("", -1, 0, problem)
        yield last_member, last_member.refusal


def _walk_tar(path: Path, read: bool, start: int) -> Iterator[tuple[Member, Content]]:
    number = 0
    with tarfile.open(path, "r:*") as archive:
        while (entry := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # which would hold every member for ever
            if entry.isdir():
                continue
            offset = -1 if entry.issparse() else entry.offset_data
            member = _member(entry.name, offset, entry.size, entry.islnk() or entry.issym(), entry.isreg())
            if member.problem is None and not is_crystal(entry.name):
                continue
            data = member.refusal
            if read and member.problem is None and number >= start:
                content = archive.extractfile(entry)
                data = content.read() if content is not None else CrystalReadError("it cannot be read.")
            number += 1
            yield member, data
        file: Any = archive.fileobj
        file.seek(archive.offset)
        if not file.read(1):  # tarfile takes a cut between two members for the end
            raise tarfile.ReadError("it ends without the mark of its end, so it was cut")


def _walk_zip(path: Path, read: bool, start: int) -> Iterator[tuple[Member, Content]]:
    number = 0
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            mode = entry.external_attr >> 16
            if entry.is_dir():
                continue
            member = _member(entry.filename, -1, entry.file_size, stat.S_ISLNK(mode), True)
            if member.problem is None and not is_crystal(entry.filename):
                continue
            data = member.refusal
            if read and member.problem is None and number >= start:
                data = _content(archive, entry)
            number += 1
            yield member, data


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Content:
    """The bytes of one member; a damaged one does not end the others."""
    buffer = io.BytesIO()
    try:
        with archive.open(member) as file:
            while len(buffer.getbuffer()) <= MAX_FILE_BYTES and (piece := file.read(1 << 20)):
                buffer.write(piece)
    except (*_DAMAGE, NotImplementedError) as error:
        return _damaged(error)
    if len(buffer.getbuffer()) > MAX_FILE_BYTES:  # more than its header admits
        return CrystalTooLargeError(_TOO_LARGE)
    return buffer.getvalue()


def _member(name: str, offset: int, size: int, is_link: bool, is_file: bool) -> Member:
    """A member with the reason not to read it, if there is one."""
    place = PurePosixPath(name.replace("\\", "/"))
    problem = None
    if place.is_absolute() or ".." in place.parts or ":" in place.parts[0] if place.parts else True:
        problem = "its path leads outside the archive's folder."
    elif is_link:
        problem = "it is a link, which is not followed."
    elif not is_file:
        problem = "it is a device, not a file."
    elif size > MAX_FILE_BYTES:
        return Member(name, offset, size, _TOO_LARGE, too_large=True)
    return Member(name, offset, size, problem)
