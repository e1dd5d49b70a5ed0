"""What a token of a SCOPE string is, by the segment it stands in: generator, Wyckoff word, element or fraction."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["TOKEN_CLASSES", "TokenClasses"]

TOKEN_CLASSES = ("generators", "wyckoff", "elements", "fractions")
"""Names of the classes 0 to 3; everything else (special tokens, `|`) is -1."""

SEPARATOR = "|"


class TokenClasses:
    """Tell the class of every token from the ids of whole strings.

    Generator characters and elements share ids (`O`, `C`, `B`, `F`, ...), so the segment decides: what stands before
    the first `|` is a generator; after it a word with a point is a fraction, one that starts with a digit a Wyckoff
    word and one that starts with a letter an element. This holds in the grammars `sites`, `composition` and `full`.

    Args:
        tokenizer: Knows the words and the special tokens.
    """

    def __init__(self, tokenizer: Any) -> None:
        words = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        self.separator = tokenizer.convert_tokens_to_ids(SEPARATOR)
        special = set(tokenizer.all_special_ids)
        self._later = np.array([-1 if index in special else _class_of(word) for index, word in enumerate(words)])
        self._first = np.array([-1 if index in special or word == SEPARATOR else 0 for index, word in enumerate(words)])

    def __call__(self, ids: NDArray[np.integer], starts: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the class of each token.

        Args:
            ids: Ids of one string after another, shape (tokens,); unmasked.
            starts: Where each string starts, shape (strings,), ascending from 0.

        Returns:
            Index in `TOKEN_CLASSES` or -1, shape (tokens,).
        """
        before = np.cumsum(ids == self.separator)
        at_start = before[starts] - (ids[starts] == self.separator)
        segment = before - np.repeat(at_start, np.diff(starts, append=len(ids)))
        classes: NDArray[np.int64] = np.where(segment == 0, self._first[ids], self._later[ids])
        return classes


def _class_of(word: str) -> int:
    if "." in word:
        return TOKEN_CLASSES.index("fractions")
    if word[:1].isdigit():
        return TOKEN_CLASSES.index("wyckoff")
    return TOKEN_CLASSES.index("elements") if word[:1].isalpha() else -1
