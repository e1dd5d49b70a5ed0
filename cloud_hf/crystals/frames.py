"""Files of many structures: (ext)XYZ, ASE's trajectories and databases, read piece by piece, a crystal each."""

import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from cloud_hf.crystals.cell import Cell
from cloud_hf.crystals.files import packing_of
from cloud_hf.crystals.objects import cell_from_object
from cloud_hf.crystals.sources import Raw
from cloud_hf.errors import CloudError, CrystalReadError, CrystalTooLargeError, one_line

__all__ = ["PIECE", "frames_of", "holds_frames", "read_frame"]

PIECE = 200
"""Structures that are read at a time."""

_XYZ = (".xyz", ".extxyz")
_ASE = (".traj", ".db")
_LONGEST_LINE = 100_000
"""Bytes of a line of an XYZ file."""


def holds_frames(path: str) -> bool:
    """Whether a file is of a kind that holds many structures, by its name."""
    name = packing_of(path)[0]
    return name.endswith((*_XYZ, *_ASE)) or name.startswith("xdatcar")


def frames_of(raw: Raw, max_atoms: int) -> Cell | list[Raw]:
    """Read the next structures of a file.

    Args:
        raw: `value` is the path, or where to go on: the path, the number of the next structure, its place.
        max_atoms: Largest number of sites in a cell.

    Returns:
        The cell of a file with one structure; else each structure, named `file#number` from 0, and at the end, if there
        are more, a raw crystal that stands for them.

    Raises:
        CrystalReadError: The file cannot be read, or holds nothing.
    """
    source, path, number, place = raw.value if isinstance(raw.value, tuple) else (raw.source, str(raw.value), 0, 0)
    read = _xyz if packing_of(path)[0].endswith(_XYZ) else _by_ase
    try:
        frames, rest = read(path, place, max_atoms)
    except (OSError, EOFError) as error:
        raise CrystalReadError(f"cannot be read ({getattr(error, 'strerror', None) or error}).") from error
    if not (frames or number):
        raise CrystalReadError("the file holds no structures.")
    if number == 0 and len(frames) == 1 and rest is None:
        return read_frame(Raw(raw.source, *frames[0]), max_atoms)
    raws = [Raw(f"{source}#{number + i}", *frame) for i, frame in enumerate(frames)]
    if rest is not None:
        number += len(frames)
        raws.append(Raw(f"{source}#{number}", "frames", (source, path, number, rest)))
    return raws


Frames = tuple[list[tuple[str, Any]], int | None]
"""Kind and value of each, and where the next one begins, None at the end."""


def read_frame(raw: Raw, max_atoms: int) -> Cell:
    """Read one structure that `frames_of` found.

    Raises:
        CrystalError: It is no crystal.
    """
    if raw.kind == "error":
        raise raw.value
    if raw.kind == "object":
        return cell_from_object(raw.value, max_atoms)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            atoms = _ase_read()(io.StringIO(raw.value.decode("utf-8", errors="replace")), format="extxyz")
    except CloudError:
        raise
    except Exception as error:  # ASE raises almost anything on malformed text
        raise CrystalReadError(f"not a readable XYZ structure ({one_line(error)}).") from error
    return cell_from_object(atoms, max_atoms)


def _xyz(path: str, place: int, max_atoms: int) -> Frames:
    """Cut the text into its structures: a line with the number of atoms, a line of comment, a line each."""
    frames: list[tuple[str, Any]] = []
    with packing_of(path)[1](path, "rb") as file:
        file.seek(place)
        while len(frames) < PIECE:
            line = next(_filled(file), b"")
            if not line:
                return frames, None
            if not line.strip().isdigit() or len(line) > 12:
                words = line.strip().decode("utf-8", errors="replace")
                reason = f"from here on not an XYZ file: {words!r:.60} is no number of atoms."
                return [*frames, ("error", CrystalReadError(reason))], None
            n_sites = int(line)
            if n_sites > max_atoms:
                for _ in range(n_sites + 1):
                    if not file.readline(_LONGEST_LINE):
                        break
                reason = f"announces {n_sites} atoms, more than the limit of {max_atoms}; raise `max_atoms`."
                frames.append(("error", CrystalTooLargeError(reason, flag="max_atoms")))
            else:
                frames.append(("frame", b"".join([line, *(file.readline(_LONGEST_LINE) for _ in range(n_sites + 1))])))
        rest = file.tell()
        return frames, rest if next(_filled(file), None) else None


def _filled(file: IO[bytes]) -> Iterator[bytes]:
    """Lines that are not blank."""
    while line := file.readline(_LONGEST_LINE):
        if line.strip():
            yield line


def _by_ase(path: str, place: int, max_atoms: int) -> Frames:
    if not Path(path).is_file():
        raise CrystalReadError("there is no such file.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            images = _ase_read()(path, index=slice(place, place + PIECE + 1))
        except CloudError:
            raise
        except Exception as error:  # ASE raises almost anything on damaged files
            raise CrystalReadError(f"not readable by ASE ({one_line(error)}).") from error
    frames: list[tuple[str, Any]] = []
    for atoms in images[:PIECE]:
        try:
            frames.append(("object", cell_from_object(atoms, max_atoms)))
        except CloudError as error:
            frames.append(("error", error))
    return frames, place + PIECE if len(images) > PIECE else None


def _ase_read() -> Any:
    try:
        from ase.io import read
    except ImportError as error:
        raise CrystalReadError(
            "files of many structures are read with ASE, which is not installed: pip install 'cloud-hf[ase]'."
        ) from error
    return read
