"""Typed errors: each message names the input, the reason and what to do instead.

All derive from `CloudError` and from `ValueError`, so that a caller's `except ValueError` keeps working. Those that
models raise live in `cloud_hf.models.errors`, which travels with the models as Hub remote code.
"""

from cloud_hf.models.errors import (
    CheckpointError,
    CloudError,
    GrammarError,
    PhononDOSError,
    ScopeError,
    ScopeTooLongError,
    UnknownWordError,
)

__all__ = [
    "CheckpointError",
    "CloudError",
    "CorpusError",
    "CrystalError",
    "CrystalReadError",
    "CrystalTooLargeError",
    "DegenerateLatticeError",
    "DisorderedStructureError",
    "EmptyCrystalError",
    "EncoderFailureError",
    "EncodingTimeoutError",
    "GrammarError",
    "OutputError",
    "OverlappingAtomsError",
    "PhononDOSError",
    "ScopeError",
    "ScopeTooLongError",
    "StudyError",
    "SymmetryError",
    "TableError",
    "UnknownElementError",
    "UnknownWordError",
    "WorkerDiedError",
    "WorkerStartError",
]


class CrystalError(CloudError):
    """A crystal that cannot be turned into a SCOPE string."""


class CrystalReadError(CrystalError):
    """A file or object that cannot be read as a crystal."""


class EmptyCrystalError(CrystalError):
    """A crystal without atoms."""


class DegenerateLatticeError(CrystalError):
    """A cell without volume, or with lattice vectors or coordinates that are not finite."""


class DisorderedStructureError(CrystalError):
    """Partially occupied sites where the grammar has no way to write them."""


class UnknownElementError(CrystalError):
    """A species that is not one of the 118 chemical elements."""


class OverlappingAtomsError(CrystalError):
    """Two fully occupied sites closer than any chemical bond."""


class CrystalTooLargeError(CrystalError):
    """A cell with more sites than the encoder's limit."""


class SymmetryError(CrystalError):
    """The symmetry search found no space group."""


class EncodingTimeoutError(CrystalError):
    """A crystal whose encoding took longer than the limit; its worker was ended."""


class WorkerDiedError(CrystalError):
    """A crystal whose worker process died while encoding it: a crash, or the system ended it for its memory."""


class EncoderFailureError(CrystalError):
    """A crystal on which a parser or the symmetry search failed in a way that no other error foresees."""


class WorkerStartError(CloudError):
    """Worker processes cannot be started here, so nothing can be encoded in them."""


class TableError(CloudError):
    """A table that cannot be read, or lacks a column, or holds a column that is not numeric."""


class OutputError(CloudError):
    """A file or folder that cannot be written."""


class CorpusError(CloudError):
    """A corpus that cannot be built, fetched, read or published."""


class StudyError(CloudError):
    """A study whose data, folds or folder of results cannot be used."""
