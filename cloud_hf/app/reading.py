"""Uploaded files to strings and pictures, in processes of their own that may crash or hang without harm."""

import queue
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from cloud_hf.app.scene import Scene, scene_of
from cloud_hf.crystals.archives import unpacked
from cloud_hf.crystals.opening import Limits, open_all
from cloud_hf.crystals.readers import kind_of_text
from cloud_hf.crystals.sources import Raw
from cloud_hf.data.inputs import Item, encode_item
from cloud_hf.errors import CloudError, CrystalReadError, DisorderedStructureError, about
from cloud_hf.parallel.pool import Pool
from cloud_hf.scope import ScopeEncoder

__all__ = ["MAX_BYTES", "FileReader", "ReadCrystal", "Readers", "too_large"]

MAX_BYTES = 2_000_000
"""Largest upload; the CIF of a cell with 1000 sites has 0.1 MB."""

_POSCAR_NAME = re.compile(r"poscar|contcar|\.vasp\b", re.IGNORECASE)

TIMEOUT = 30.0
"""s; longest time for one file."""


@dataclass(frozen=True, slots=True)
class ReadCrystal:
    """A crystal that was read.

    Attributes:
        item: It with its string, formula and space group.
        scene: What is drawn of it; None of a string, which has no coordinates.
    """

    item: Item
    scene: Scene | None = None


class FileReader:
    """Reads the content of one file; a copy of it works in each process.

    Args:
        encoder: Makes the string.
    """

    def __init__(self, encoder: ScopeEncoder) -> None:
        self.encoder = encoder

    def describe(self, raw: Raw) -> ReadCrystal:
        """Read the first crystal of a file.

        Raises:
            CloudError: There is no crystal, or none that can be encoded; it names the file.
        """
        encoder = self.encoder
        limits = Limits(encoder.max_atoms, not encoder.canonical, encoder.trust_sites)
        name, note = raw.source, ""
        _, content = unpacked(*raw.value)
        if b"\0" in content or content.startswith(b"%PDF"):
            raise CrystalReadError("this is no text; drop one CIF or POSCAR, compressed by gzip at most.", source=name)
        kind = kind_of_text(content)
        first, cell = next(open_all(raw._replace(value=(f".{kind}", content)), limits))
        if first.source != name:
            note = "the file holds several crystals; this is the first"
        elif isinstance(cell, CloudError) and kind != "cif" and not _POSCAR_NAME.search(name):
            raise CrystalReadError(
                "this is no CIF, as it has no data block, and no POSCAR either: " + cell.reason, source=name
            ) from cell
        if isinstance(cell, CloudError):
            raise cell
        item = encode_item(Item(name, crystal=cell), encoder)
        if isinstance(item.error, DisorderedStructureError):
            raise DisorderedStructureError(
                "some of its sites are shared by elements or partly empty, and the model reads ordered crystals only; "
                "order it first, for instance with pymatgen's OrderDisorderedStructureTransformation.",
                source=name,
            ) from item.error
        if item.error is not None:
            raise item.error
        item = replace(item, note="; ".join(filter(None, (item.note, note))))
        return ReadCrystal(item, scene_of(cell))


class Readers:
    """Processes that read files, each for one user at a time; the others wait for their turn.

    Args:
        encoder: With the settings that the models were trained with.
        processes: How many.
        timeout: Longest time for one file, s.
    """

    def __init__(self, encoder: ScopeEncoder, processes: int = 2, timeout: float = TIMEOUT) -> None:
        self.encoder = encoder
        self._free: queue.Queue[Pool] = queue.Queue()
        for _ in range(processes):
            self._free.put(Pool(FileReader(encoder), 1, timeout))

    def file(self, name: str, content: bytes) -> ReadCrystal:
        """Read a file.

        Args:
            name: Of the file; it may end with `.gz`, `.bz2` or `.xz`. Its content tells whether it is a CIF or POSCAR.
            content: Its bytes.

        Raises:
            CloudError: It is too large, or no crystal that can be encoded.
        """
        if len(content) > MAX_BYTES:
            raise too_large(name)
        with self._reader() as reader:
            (outcome,) = list(reader.rows([Raw(name, "file", (name, content))]))
        if isinstance(outcome, CloudError):
            raise about(outcome, name)
        read: ReadCrystal = outcome
        return read

    def string(self, scope: str) -> ReadCrystal:
        """Read a SCOPE string, of any grammar, into the canonical form that the models know.

        Raises:
            CloudError: No crystal has this string, or it does not tell who sits where.
        """
        text = " ".join(scope.split())
        if not text:
            raise CrystalReadError("Nothing was given: drop a file, choose an example, or paste a SCOPE string.")
        if len(text) > MAX_BYTES // 100:
            raise CrystalReadError("This text is too long for a SCOPE string; drop a file instead.")
        if "|" not in text:
            raise CrystalReadError(
                f"'{text[:60]}' is no SCOPE string, as it has no '|' between the symmetry and the elements on their "
                "sites, as in '1 0 0 | Cu 1a'. A formula alone does not tell the crystal: drop a CIF or POSCAR."
            )
        item = encode_item(Item(text, scope=text), self.encoder)
        if item.error is not None:
            raise item.error
        return ReadCrystal(replace(item, source=item.formula or "string"))

    def close(self) -> None:
        """End the processes."""
        while not self._free.empty():
            self._free.get_nowait().close()

    @contextmanager
    def _reader(self) -> Iterator[Any]:
        reader = self._free.get()
        try:
            yield reader
        finally:
            self._free.put(reader)


def too_large(name: str) -> CrystalReadError:
    """Return the error of a file of more than `MAX_BYTES`."""
    return CrystalReadError(f"more than {MAX_BYTES / 1e6:g} MB; the page takes smaller files.", source=name)
