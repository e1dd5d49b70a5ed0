"""Typed errors: each message names the input, the reason and what to do instead.

All derive from `CloudError` and from `ValueError`, so that `except ValueError` keeps working.
This file is flat on purpose: it travels with the models as Hub remote code.
"""

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
    "OverlappingAtomsError",
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


class CloudError(ValueError):
    """Base of every error that this package raises on purpose."""


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


class ScopeError(CloudError):
    """A SCOPE string that cannot be used."""


class GrammarError(ScopeError):
    """A string without a known grammar, or of another grammar than the model was trained on."""


class UnknownWordError(ScopeError):
    """A word outside the closed vocabulary."""


class ScopeTooLongError(ScopeError):
    """A string with more tokens than the model has positions."""


class CheckpointError(CloudError):
    """A checkpoint that is missing, of another model type, or without the requested head."""


class TableError(CloudError):
    """A table that cannot be read, or lacks a column, or holds a column that is not numeric."""


class CorpusError(CloudError):
    """A corpus that cannot be built, fetched, read or published."""


class StudyError(CloudError):
    """A study whose data, folds or folder of results cannot be used."""
