"""Typed errors: each message names the input, the reason and what to do instead.

All derive from `CloudError` and from `ValueError`, so that a caller's `except ValueError` keeps working. Those that
models raise live in `cloud_hf.models.errors`, which travels with the models as Hub remote code.
"""

from collections.abc import Mapping
from typing import TypeVar

from cloud_hf.models.errors import (
    CheckpointError,
    CloudError,
    DebyeInputError,
    GrammarError,
    PhononDOSError,
    ScopeError,
    ScopeTooLongError,
    UnknownWordError,
    argument_spelling,
    spelled,
)

__all__ = [
    "CheckpointError",
    "CloudError",
    "CorpusError",
    "CrystalError",
    "CrystalReadError",
    "CrystalTooLargeError",
    "DebyeInputError",
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
    "SeveralCrystalsError",
    "StudyError",
    "SymmetryError",
    "TableError",
    "UnknownElementError",
    "UnknownWordError",
    "WorkerDiedError",
    "WorkerStartError",
    "about",
    "argument_spelling",
    "first_line",
    "one_line",
    "spelled",
    "summary",
    "unforeseen",
]

Error = TypeVar("Error", bound=CloudError)


def about(error: Error, source: str) -> Error:
    """Say of which input an error is, where that is not said yet or is said by another name.

    Args:
        error: Changed and returned.
        source: What rows and messages call the input.
    """
    if error.source not in (None, source):
        error.reason, error.row = str(error), None
    error.source = source
    return error


def one_line(error: BaseException, most: int | None = 200) -> str:
    """Return what an error of another library says, on one line; its class where it says nothing.

    Args:
        error: Its text may have several lines.
        most: Characters that are kept; None: all.
    """
    return " ".join(str(error).split())[:most] or type(error).__name__


def first_line(error: BaseException) -> str:
    """Return the first line of what an error of another library says, for those that say more than users need."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


class CrystalError(CloudError):
    """A crystal that cannot be turned into a SCOPE string."""


class CrystalReadError(CrystalError):
    """A file or object that cannot be read as a crystal."""


class SeveralCrystalsError(CrystalReadError):
    """A file of several crystals where one was asked for."""


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


def unforeseen(error: BaseException, source: str | None = None) -> EncoderFailureError:
    """Return the error of a crystal on which a parser or the symmetry search raised what nobody foresaw."""
    kind, said = type(error).__name__, one_line(error, 300)
    return EncoderFailureError(f"unexpected {kind}" if said == kind else f"unexpected {kind}: {said}", source=source)


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


_WAYS_OUT: dict[type[CloudError], tuple[str, str] | tuple[str, str, str]] = {
    CrystalReadError: ("no crystal that can be read", "mend the file as its message says, or convert it"),
    SeveralCrystalsError: ("several crystals in the place of one", "give each a row or a file of its own"),
    EmptyCrystalError: ("no atoms", "give the file that lists the sites"),
    DegenerateLatticeError: ("no volume, or numbers that are not finite", "check the cell and the coordinates"),
    DisorderedStructureError: ("partially occupied sites", "order the crystal, or use the grammar 'composition'"),
    UnknownElementError: ("what is no chemical element", "replace dummy species, or remove their sites"),
    OverlappingAtomsError: ("atoms on top of one another", "remove the doubled ones, or give them occupancies"),
    CrystalTooLargeError: ("more than the limit", "give the primitive cell, or raise `max_atoms`", "max_atoms"),
    SymmetryError: ("no space group", "check the coordinates, or try another `symprec`", "symprec"),
    EncodingTimeoutError: ("not done within the time limit", "raise `timeout`", "timeout"),
    WorkerDiedError: ("a library crashed, or memory ran out", "try fewer `processes`", "processes"),
    EncoderFailureError: ("a failure that nobody foresaw", "please report it with its input"),
    CrystalError: ("no crystal that can be encoded", "its message says what to do"),
    TableError: ("an input or a row of a table that cannot be used", "its message says what to do"),
    ScopeError: ("a string that no crystal has", "encode the crystal itself"),
    CloudError: ("what cannot be used", "its message says what to do"),
}
"""What each kind of error means in a few words, the way out, and the argument that it names, if any; derived kinds
share those of their parent."""


def summary(counts: Mapping[str, int]) -> list[str]:
    """Return a line for each kind of error: how many, what it means, and the way out; the most frequent first.

    Args:
        counts: Rows by the name of their error's class.
    """
    lines = []
    for name, number in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])):
        kind = globals().get(name, CloudError)
        meaning, way_out, *flag = next(_WAYS_OUT[base] for base in kind.__mro__ if base in _WAYS_OUT)
        lines.append(f"{number} {name}: {meaning}; {spelled(way_out, flag[0] if flag else None)}")
    return lines
