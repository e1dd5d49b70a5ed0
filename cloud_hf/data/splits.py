"""Splits by string: rows with the same SCOPE string never stand on both sides."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_hf.errors import CloudError, TableError

__all__ = ["PARTS", "PART_NAMES", "folds_by_string", "read_split_column", "split_by_string"]

PARTS = ("train", "validation", "test")
PART_NAMES = {
    "train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation",
    "dev": "validation", "test": "test",
}  # fmt: skip
"""The usual names of a part in split columns, in lower case."""


def split_by_string(strings: Sequence[str], fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Keep a share of the distinct strings back.

    Args:
        strings: One SCOPE string per row.
        fraction: Share of distinct strings for validation, 0 <= fraction < 1.
        seed: Seed of the choice; the same strings in any row order give the same split.

    Returns:
        Row numbers for training and for validation, ascending.
    """
    if not 0 <= fraction < 1:
        raise CloudError(f"The validation fraction must be in [0, 1), not {fraction}.")
    distinct = sorted(set(strings))
    order = np.random.default_rng(seed).permutation(len(distinct))
    kept_back = {distinct[index] for index in order[: round(fraction * len(distinct))]}
    is_validation = np.array([string in kept_back for string in strings], dtype=bool)
    return np.flatnonzero(~is_validation), np.flatnonzero(is_validation)


def folds_by_string(strings: Sequence[str], folds: int, seed: int) -> NDArray[np.int64]:
    """Deal the distinct strings out into folds of equal size.

    Args:
        strings: One SCOPE string per row.
        folds: Number of folds, 2 or more.
        seed: Seed of the choice; the same strings in any row order give the same folds.

    Returns:
        Number of the fold of each row, 0 to folds - 1, shape (n,).

    Raises:
        TableError: There are fewer distinct strings than folds.
    """
    distinct = sorted(set(strings))
    if not 2 <= folds <= len(distinct):
        raise TableError(
            f"{folds} folds cannot be made of {len(distinct)} distinct strings; give from 2 to one for each."
        )
    order = np.random.default_rng(seed).permutation(len(distinct))
    fold_of = {distinct[index]: position % folds for position, index in enumerate(order)}
    return np.array([fold_of[string] for string in strings], dtype=np.int64)


def read_split_column(
    values: Sequence[Any], column: str, path: str, rows: NDArray[np.int64] | None = None
) -> NDArray[np.str_] | NDArray[np.int64]:
    """Read the values of a split column.

    Args:
        values: Names of parts, as in `PART_NAMES`, or fold numbers.
        column: Name of the column, for the message.
        path: Name of the table, for the message.
        rows: Rows of the table that the values are of, for the message; None: 0, 1, ...

    Returns:
        Names from `PARTS`, or whole numbers of at least two folds, shape (n,).

    Raises:
        TableError: Another value, only one fold, or names among which no row is for training.
    """
    words = [str(value).strip().lower() for value in values]
    parts = [PART_NAMES.get(word) for word in words]
    numbers = [int(float(word)) if re.fullmatch(r"\d{1,9}(\.0)?", word) else None for word in words]
    if None not in numbers and not any(parts):
        folds = np.array(numbers, dtype=np.int64)
        if len(np.unique(folds)) < 2:
            raise TableError(
                f"column {column!r} holds one fold number only; there must be 2 or more.", source=str(path)
            )
        return folds
    for position, (part, number) in enumerate(zip(parts, numbers, strict=True)):
        if part is None and (number is None or any(parts)):
            raise TableError(
                f"column {column!r} must say train, validation or test in every labelled row, or give fold "
                f"numbers, not {values[position]!r}.",
                source=str(path),
                row=position if rows is None else int(rows[position]),
            )
    if "train" not in parts:
        raise TableError(
            f"column {column!r} leaves no row to train on; it holds {', '.join(set(words))}.", source=str(path)
        )
    return np.array(parts)
