"""What a worker does with one record: read the crystal, search its symmetry once, write a string per grammar."""

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, NamedTuple

from cloud_hf.corpus.records import ID_COLUMNS, LICENSE_COLUMNS, PROVIDER_COLUMNS
from cloud_hf.corpus.schema import HASH_BYTES
from cloud_hf.crystals.opening import Limits, open_line, open_raw
from cloud_hf.crystals.readers import check_cell
from cloud_hf.crystals.rows import is_missing
from cloud_hf.crystals.sources import Raw
from cloud_hf.errors import CloudError, DisorderedStructureError, about, unforeseen
from cloud_hf.parallel.worker import Several
from cloud_hf.scope import Cell, ScopeEncoder

__all__ = ["EncodedRow", "RecordEncoder", "canonical_hash", "failed_row", "package_versions"]

_MAX_TEXT = 200


class EncodedRow(NamedTuple):
    """What is known of a crystal.

    Attributes:
        digest: Of the canonical string.
        strings: One per grammar, None where the grammar cannot write the crystal.
        formula: Reduced formula.
        space_group: Number in the International Tables.
        n_sites: Sites of the cell that was given.
        n_atoms: Atoms per primitive cell.
        id: The row's own identifier.
        provider: Who published it, as the row says.
        license: As the row says.
        error: Why there are no strings.
    """

    digest: bytes
    strings: tuple[str | None, ...]
    formula: str | None
    space_group: int | None
    n_sites: int | None
    n_atoms: float | None
    id: str | None
    provider: str | None
    license: str | None
    error: CloudError | None = None


def canonical_hash(scope: str) -> bytes:
    """Return the first 16 bytes of the SHA-256 of a string."""
    return hashlib.sha256(scope.encode()).digest()[:HASH_BYTES]


def package_versions() -> str:
    """Return what the rows depend on besides the encoder's settings, in one line."""
    return ", ".join(f"{name} {version(name)}" for name in ("cloud-hf", "gemmi", "numpy", "pymatgen"))


class RecordEncoder:
    """Gives `encode_batch` records in place of crystals.

    Args:
        encoder: Its settings hold for every grammar.
        grammars: Columns to write.
    """

    def __init__(self, encoder: ScopeEncoder, grammars: tuple[str, ...]) -> None:
        self.encoder = encoder
        self.grammars = grammars
        limits = encoder.symprec, encoder.angle_tolerance, encoder.symmetry, encoder.max_atoms
        self.encoders = {name: ScopeEncoder(name, True, *limits) for name in ("sites", "composition")}

    def describe(self, raw: Raw) -> EncodedRow | Several:
        """Return the row of a crystal, with an error in place of strings where there are none."""
        row: Mapping[str, Any] = {}
        try:
            if raw.kind == "json":
                raw = open_line(raw)
            if raw.kind == "row":
                row = raw.value[0]
            opened = open_raw(raw, Limits(self.encoder.max_atoms, trust_sites=self.encoder.trust_sites))
            if isinstance(opened, list):
                return Several(opened)
            return EncodedRow(*(*self.encode(check_cell(opened, self.encoder.max_atoms)), *_said(row, raw)))
        except CloudError as error:
            reason = error
        except Exception as error:  # third-party parsers raise almost anything
            reason = unforeseen(error)
        return failed_row(raw, reason, row)

    def encode(self, cell: Cell) -> tuple[Any, ...]:
        """Return the fields of `EncodedRow` that the crystal decides.

        Raises:
            CloudError: The crystal cannot be encoded.
        """
        is_ordered = cell.is_ordered
        canonical = "sites" if is_ordered else "composition"
        if not is_ordered and "composition" not in self.grammars:
            raise DisorderedStructureError(
                "only the grammar 'composition' can write partially occupied sites; add it to `grammars`.",
                flag="grammars",
            )
        known, strings = self.encoders[canonical].describe_cell(cell, self.grammars)
        return canonical_hash(known.scope), strings, known.formula, known.space_group, len(cell), known.n_atoms


def failed_row(raw: Raw, error: CloudError, row: Mapping[str, Any] | None = None) -> EncodedRow:
    """Return the row of a crystal without strings; its error names the source as the corpus does."""
    return EncodedRow(b"", (), None, None, None, None, *_said(row or {}, raw), about(error, raw.source))


def _said(row: Mapping[str, Any], raw: Raw) -> tuple[str | None, str | None, str | None]:
    """Id, provider and licence, as far as a row or the name of its file says them."""
    return _text(row, ID_COLUMNS) or raw.id, _text(row, PROVIDER_COLUMNS), _text(row, LICENSE_COLUMNS)


def _text(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    value = next((row[name] for name in names if name in row and not is_missing(row[name])), None)
    return None if value is None else " ".join(str(value).split())[:_MAX_TEXT]
