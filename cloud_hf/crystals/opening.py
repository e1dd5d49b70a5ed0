"""A raw crystal to a `Cell`, or to the raw crystals that it holds: all parsing, for the worker to do.

A file, a member of an archive and a text in a table that say the same are read by the same lines here, so they give
the same crystal or the same error.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import NamedTuple

from cloud_hf.crystals.archives import unpacked
from cloud_hf.crystals.cell import Cell
from cloud_hf.crystals.cif import has_rows
from cloud_hf.crystals.cif_items import block_name, split_blocks, unused_name
from cloud_hf.crystals.files import check_content, packing_of, read_content
from cloud_hf.crystals.frames import frames_of, holds_frames, read_frame
from cloud_hf.crystals.objects import cell_from_object, is_crystal_object
from cloud_hf.crystals.readers import MAX_ATOMS, _cell_of, _text, check_cell, kind_of_text
from cloud_hf.crystals.rows import cell_from_row, is_missing, raw_row, without_gaps
from cloud_hf.crystals.sources import Raw
from cloud_hf.errors import CloudError, CrystalReadError, SeveralCrystalsError, about

__all__ = ["Limits", "open_all", "open_line", "open_raw", "read_cells", "read_texts"]

_CIF = (".cif", ".mcif")
_SHOWN_NAMES = 4


class Limits(NamedTuple):
    """How crystals are read.

    Attributes:
        max_atoms: Largest number of sites in a cell.
        exact_order: Sites of a CIF in pymatgen's order, as for `read_cell`.
        trust_sites: Take the sites as they are, as for `read_cell`.
    """

    max_atoms: int = MAX_ATOMS
    exact_order: bool = False
    trust_sites: bool = False


Opened = Cell | list[Raw]


def open_raw(raw: Raw, limits: Limits) -> Opened:
    """Read a crystal.

    Args:
        raw: Anything but a table.
        limits: How to read.

    Returns:
        The cell, not yet judged by `check_cell`; or what a file of several crystals holds, a raw crystal each, named
        `file#block` or `file#3`, the last of which may stand for the rest of the file.

    Raises:
        CrystalError: There is no crystal, or a row of a table holds more than one.
    """
    try:
        return _OPENERS[raw.kind](raw, limits)
    except CloudError as error:
        about(error, raw.source)
        raise


def open_all(raw: Raw, limits: Limits) -> Iterator[tuple[Raw, Cell | CloudError]]:
    """Read the crystals of a file one by one, here and without a limit of time.

    Args:
        raw: Anything but a table.
        limits: How to read.

    Yields:
        At least once, what holds a crystal, and its cell, not yet judged by `check_cell`, or what is wrong with it.
    """
    waiting = [raw]
    while waiting:
        inner = waiting.pop()
        try:
            opened = open_raw(inner, limits)
        except CloudError as error:
            yield inner, error
        else:
            if isinstance(opened, Cell):
                yield inner, opened
            else:
                waiting += reversed(opened)


def read_cells(
    path: str | PathLike[str], max_atoms: int = MAX_ATOMS, exact_order: bool = False, trust_sites: bool = False
) -> list[tuple[str, Cell | CloudError]]:
    """Read every crystal of a file: every data block of a CIF that holds atoms, every structure of a trajectory.

    Args:
        path: Path of a file that `read_cell` reads.
        max_atoms: Largest number of sites in each cell.
        exact_order: As for `read_cell`.
        trust_sites: As for `read_cell`.

    Returns:
        Name and cell of each crystal, or what is wrong with it, never an empty list. The name is the path where the
        file holds one crystal, else `path#block` or `path#number`.
    """
    path = fspath(path)
    return _all_cells(Raw(path, "path", path), Limits(max_atoms, exact_order, trust_sites))


def read_texts(
    text: str | bytes,
    name: str = "text",
    max_atoms: int = MAX_ATOMS,
    exact_order: bool = False,
    trust_sites: bool = False,
    kind: str | None = None,
) -> list[tuple[str, Cell | CloudError]]:
    """Read every crystal of the text of a CIF or POSCAR file, with the result of `read_cells` for a file that holds it.

    Args:
        text: As for `read_text`.
        name: What error messages call it.
        max_atoms: As for `read_cell`.
        exact_order: As for `read_cell`.
        trust_sites: As for `read_cell`.
        kind: As for `read_text`.
    """
    data = text.encode("utf-8", errors="replace") if isinstance(text, str) else text
    raw = Raw(name, "file", (f".{kind or kind_of_text(data)}", data))
    return _all_cells(raw, Limits(max_atoms, exact_order, trust_sites))


def _all_cells(raw: Raw, limits: Limits) -> list[tuple[str, Cell | CloudError]]:
    cells: list[tuple[str, Cell | CloudError]] = []
    for inner, cell in open_all(raw, limits):
        try:
            cells.append((inner.source, check_cell(cell, limits.max_atoms) if isinstance(cell, Cell) else cell))
        except CloudError as error:
            cells.append((inner.source, about(error, inner.source)))
    return cells


def open_line(raw: Raw) -> Raw:
    """Return the row that a line of JSON holds.

    Raises:
        CrystalReadError: It holds none.
    """
    line, folder = raw.value
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CrystalReadError(f"the line is cut, or not JSON ({error}).", source=raw.source) from error
    if not isinstance(row, dict):
        raise CrystalReadError(f"the line holds a {type(row).__name__}, not an object.", source=raw.source)
    return raw._replace(kind="row", value=(row, folder))


# ------------------------------------------------------------------------------------------------ files


def _path(raw: Raw, limits: Limits) -> Opened:
    try:
        return _read(raw, str(raw.value), limits)
    except CloudError as error:
        error.source = raw.source  # and not the place on this disk
        raise


def _read(raw: Raw, path: str, limits: Limits) -> Opened:
    try:
        if holds_frames(path):
            return frames_of(raw._replace(value=path), limits.max_atoms)
        data, _, name = read_content(path)
        return _content(raw, name, data, path, limits)
    except CloudError as error:
        about(error, path)
        raise


def _file(raw: Raw, limits: Limits) -> Opened:
    name, data = unpacked(*raw.value)
    check_content(data, raw.source)
    return _content(raw, packing_of(name)[0], data, raw.source, limits)


def _content(raw: Raw, name: str, data: bytes, path: str, limits: Limits) -> Opened:
    """What a file holds, by its name in lower case."""
    if name.endswith(_CIF) and _may_hold_blocks(data):
        blocks = split_blocks(_text(data), path)
        blocks = [block for block in blocks if has_rows(block)] if len(blocks) > 1 else blocks
        if len(blocks) > 1:
            return _named_blocks(raw.source, blocks)
    try:
        return _cell_of(data, path, name, *limits)
    except SeveralCrystalsError:
        return frames_of(raw._replace(value=path), limits.max_atoms)


def _may_hold_blocks(data: bytes) -> bool:
    """Whether a CIF may hold several blocks; a quick look, so that most files are split once, by their reader."""
    return data[:2] in (b"\xff\xfe", b"\xfe\xff") or data.lower().count(b"data_") > 1


def _named_blocks(source: str, blocks: list[str]) -> list[Raw]:
    names: dict[str, str] = {}
    for block in blocks:
        names[unused_name(f"{source}#{block_name(block)}", names)] = block
    return [Raw(name, "block", block, block_name(block) or None) for name, block in names.items()]


def _block(raw: Raw, limits: Limits) -> Cell:
    return _cell_of(raw.value.encode(), raw.source, ".cif", *limits)


# ------------------------------------------------------------------------------------------------ tables and objects


def _value(raw: Raw, limits: Limits) -> Cell:
    """A cell of a table: a path, the text of a file, a dict or its JSON; in memory any object that is a crystal."""
    value, column, folder = raw.value
    value = fspath(value) if isinstance(value, PathLike) else value
    if is_missing(value) or (isinstance(value, str) and not value.strip()):
        raise CrystalReadError(f"the column {column!r} is empty.")
    if isinstance(value, Mapping) or is_crystal_object(value):
        return _object(raw._replace(value=value), limits)
    if not isinstance(value, str):
        raise CrystalReadError(f"the column {column!r} holds {value!r:.80}, not a path, CIF text or JSON.")
    text = value.strip()
    if text.startswith("{"):
        try:
            return _object(raw._replace(value=json.loads(text)), limits)
        except RecursionError as error:
            raise CrystalReadError(f"the column {column!r} holds JSON that is nested too deeply.") from error
        except json.JSONDecodeError as error:
            raise CrystalReadError(f"the column {column!r} holds damaged JSON ({error}).") from error
    if len(text.splitlines()) > 1:
        data = value.encode(errors="replace")
        check_content(data, raw.source)
        return _only(_content(raw, f".{kind_of_text(text)}", data, raw.source, limits))
    if folder is None:
        raise CrystalReadError(f"the column {column!r} holds {text!r:.80}, not CIF or POSCAR text or JSON.")
    return _only(_read(raw, str(Path(folder, text)), limits))


def _only(opened: Opened) -> Cell:
    """A row of a table is one crystal, so that no label can belong to another."""
    if isinstance(opened, Cell):
        return opened
    names = ", ".join(raw.source.rpartition("#")[2] for raw in opened[:_SHOWN_NAMES])
    more = ", ..." if len(opened) > _SHOWN_NAMES else ""
    raise SeveralCrystalsError(
        f"holds several crystals ({names}{more}), where a row has room for one; give each a row."
    )


def _row(raw: Raw, limits: Limits) -> Opened:
    row, folder = raw.value
    return open_raw(raw_row(row, raw.source, folder, raw.id), limits)


def _arrays(raw: Raw, limits: Limits) -> Cell:
    return cell_from_row(raw.value, raw.source)


def _object(raw: Raw, limits: Limits) -> Cell:
    value = raw.value
    value = without_gaps(value) if isinstance(value, Mapping) else value
    return cell_from_object(value, limits.max_atoms, limits.trust_sites)


def _error(raw: Raw, limits: Limits) -> Cell:
    raise raw.value


_OPENERS: dict[str, Callable[[Raw, Limits], Opened]] = {
    "path": _path,
    "file": _file,
    "block": _block,
    "frames": lambda raw, limits: frames_of(raw, limits.max_atoms),
    "frame": lambda raw, limits: read_frame(raw, limits.max_atoms),
    "value": _value,
    "row": _row,
    "json": lambda raw, limits: open_raw(open_line(raw), limits),
    "arrays": _arrays,
    "object": _object,
    "error": _error,
}
