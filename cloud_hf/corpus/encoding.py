"""What a worker does with one record: read the crystal, search its symmetry once, write a string per grammar."""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, NamedTuple

from cloud_hf.corpus.records import ID_COLUMNS, LICENSE_COLUMNS, PROVIDER_COLUMNS, STRUCTURE_KEYS, Payload
from cloud_hf.corpus.schema import HASH_BYTES
from cloud_hf.crystals.cif import cell_from_cif
from cloud_hf.crystals.files import check_content
from cloud_hf.crystals.readers import _cell_of, check_cell
from cloud_hf.data.structure_column import _without_gaps
from cloud_hf.data.tables import cell_from_row, is_missing
from cloud_hf.errors import CloudError, CrystalReadError, DisorderedStructureError, EncoderFailureError
from cloud_hf.scope import Cell, ScopeEncoder, read_cell

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
        self.encoders = {name: ScopeEncoder(name, True, *limits) for name in ("sites", "composition", "full")}

    def describe(self, payload: Payload) -> EncodedRow:
        """Return the row of a record, with an error in place of strings where there are none."""
        row: Mapping[str, Any] = {}
        try:
            if payload.kind == "error":
                raise payload.value
            if payload.kind in ("row", "json"):
                row = _row(payload)
            return EncodedRow(*(*self.encode(payload, row), *_said(row)))
        except CloudError as error:
            reason = error
        except Exception as error:  # third-party parsers raise almost anything
            text = " ".join(str(error).split())[:300]
            reason = EncoderFailureError(f"{payload.source}: unexpected {type(error).__name__}: {text}")
        return failed_row(payload, reason, row)

    def encode(self, payload: Payload, row: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the fields of `EncodedRow` that the crystal decides.

        Raises:
            CloudError: The crystal cannot be read or encoded.
        """
        cell = check_cell(_cell(payload, row, self.encoder.max_atoms), self.encoder.max_atoms)
        is_ordered = cell.is_ordered
        canonical = "sites" if is_ordered else "composition"
        if not is_ordered and "composition" not in self.grammars:
            raise DisorderedStructureError(
                f"{payload.source}: only the grammar 'composition' can write partially occupied sites; add it to "
                "--grammars."
            )
        encoder = self.encoders[canonical]
        found = encoder._search(cell)
        known = encoder._described(cell, found)
        amounts = cell.amounts()
        strings = tuple(
            known.scope
            if name == canonical
            else self.encoders[name]._scope(cell, found, amounts)
            if is_ordered
            else None
            for name in self.grammars
        )
        return canonical_hash(known.scope), strings, known.formula, known.space_group, len(cell), known.n_atoms


def failed_row(payload: Payload, error: CloudError, row: Mapping[str, Any] | None = None) -> EncodedRow:
    """Return the row of a crystal without strings; its error names the source as the corpus does."""
    message = str(error)
    if payload.kind == "path":
        message = message.replace(payload.value, payload.source)
    if payload.source not in message:
        message = f"{payload.source}: {message}"
    return EncodedRow(b"", (), None, None, None, None, *_said(row or {}), type(error)(message))


def _said(row: Mapping[str, Any]) -> tuple[str | None, str | None, str | None]:
    """Id, provider and licence, as far as a row says them."""
    return _text(row, ID_COLUMNS), _text(row, PROVIDER_COLUMNS), _text(row, LICENSE_COLUMNS)


def _row(payload: Payload) -> Mapping[str, Any]:
    if payload.kind == "row":
        row: Mapping[str, Any] = payload.value
        return row
    try:
        value = json.loads(payload.value)
    except (ValueError, RecursionError) as error:
        raise CrystalReadError(f"{payload.source}: the line is cut, or not JSON ({error}).") from error
    if not isinstance(value, dict):
        raise CrystalReadError(f"{payload.source}: the line holds a {type(value).__name__}, not an object.")
    return value


def _text(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    value = next((row[name] for name in names if name in row and not is_missing(row[name])), None)
    return None if value is None else " ".join(str(value).split())[:_MAX_TEXT]


def _cell(payload: Payload, row: Mapping[str, Any], max_atoms: int) -> Cell:
    source, value = payload.source, payload.value
    if payload.kind == "path":
        return read_cell(value, max_atoms)
    if payload.kind in ("cif", "poscar"):
        check_content(value, source)
        return _cell_of(value, source, f".{payload.kind}", max_atoms, exact_order=False)
    return _cell_of_row(row, source, max_atoms)


def _cell_of_row(row: Mapping[str, Any], source: str, max_atoms: int) -> Cell:
    keys = next((keys for keys in STRUCTURE_KEYS if all(name in row for name in keys)), None)
    if keys == STRUCTURE_KEYS[0]:
        return cell_from_row(row, source)
    if keys is None:  # a pymatgen, JARVIS or OPTIMADE dict by itself
        return read_cell(dict(row), max_atoms)
    if len(keys) > 1:
        return read_cell(_without_gaps(row), max_atoms)
    value = row[keys[0]]
    if is_missing(value):
        raise CrystalReadError(f"{source}: the column {keys[0]!r} is empty.")
    if isinstance(value, str):
        return _cell_of_text(value, source, max_atoms)
    return read_cell(_without_gaps(value), max_atoms)


def _cell_of_text(text: str, source: str, max_atoms: int) -> Cell:
    if text.lstrip().startswith("{"):
        try:
            return read_cell(json.loads(text), max_atoms)
        except RecursionError as error:
            raise CrystalReadError(f"{source}: the JSON is nested too deeply.") from error
        except json.JSONDecodeError as error:
            raise CrystalReadError(f"{source}: holds damaged JSON ({error}).") from error
    if "_cell_length_a" in text:
        return cell_from_cif(text.replace("\r\n", "\n").replace("\r", "\n"), source, max_atoms)
    return _cell_of(text.encode(), source, ".poscar", max_atoms, exact_order=False)
