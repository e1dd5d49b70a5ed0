"""The errors of what travels with the models as Hub remote code; `cloud_hf.errors` has these and all others.

Each message names the input, the reason and what to do instead. All derive from `CloudError` and from `ValueError`, so
that a caller's `except ValueError` keeps working.
"""

import re
from collections.abc import Callable, Sequence
from contextvars import ContextVar

__all__ = [
    "CheckpointError",
    "CloudError",
    "DebyeInputError",
    "GrammarError",
    "PhononDOSError",
    "ScopeError",
    "ScopeTooLongError",
    "UnknownWordError",
    "argument_spelling",
    "missing_weights",
    "spelled",
]

argument_spelling: ContextVar[Callable[[str], str | None]] = ContextVar("argument_spelling", default=lambda name: None)
"""From an argument's name in Python to how messages spell it, None as Python does; the command line sets its flags."""


class CloudError(ValueError):
    """Base of every error that this package raises on purpose; it carries data, and `str` makes the message.

    Args:
        reason: What is wrong and what to do, a sentence; it names the argument `flag`, if any, in backticks.
        source: The input that it is about, as messages name it: a path, an id, a formula.
        row: Row of a table, counted from 0, where `source` has rows.
        flag: The argument that gives a way out, as Python spells it, e.g. `trust_sites`.
    """

    def __init__(
        self, reason: str = "", *, source: str | None = None, row: int | None = None, flag: str | None = None
    ) -> None:
        super().__init__(reason)
        self.reason, self.source, self.row, self.flag = reason, source, row, flag

    @property
    def explanation(self) -> str:
        """The reason, with the argument that it names spelled as Python or the command line spells it."""
        return spelled(self.reason, self.flag)

    def __str__(self) -> str:
        where = [self.source] if self.source else []
        where += [f"row {self.row}"] if self.row is not None else []
        return f"{', '.join(where)}: {self.explanation}" if where else self.explanation


def spelled(text: str, flag: str | None) -> str:
    """Return a text in which an argument is spelled as `argument_spelling` says.

    Args:
        text: It names the argument in backticks, alone or with `=True`.
        flag: The argument's name in Python; None: the text names none.
    """
    spelling = None if flag is None else argument_spelling.get()(flag)
    return text if spelling is None else re.sub(rf"`{flag}(=True)?`", spelling, text)


class DebyeInputError(CloudError):
    """An argument for which the Debye model has no value; the message names it, its index and the remedy."""


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


class PhononDOSError(CloudError):
    """A phonon density of states that is none: negative, not finite, or without any mode to normalise."""


def missing_weights(path: str, names: Sequence[str], kind: str = "weights", remedy: str = "") -> CheckpointError:
    """The error of a checkpoint without all weights, with which transformers would go on.

    Args:
        path: The checkpoint.
        names: What is missing or of another shape.
        kind: What they are called.
        remedy: What became of it or what to do, a sentence.
    """
    reason = f"{len(names)} {kind} are missing or of another shape, e.g. {names[0]}; they would be random."
    return CheckpointError(f"{reason} {remedy or 'Give a complete checkpoint.'}", source=path)
