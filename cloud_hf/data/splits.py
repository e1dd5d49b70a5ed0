"""Splits by string: rows with the same SCOPE string never stand on both sides."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["split_by_string"]


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
        raise ValueError(f"The validation fraction must be in [0, 1), not {fraction}.")
    distinct = sorted(set(strings))
    order = np.random.default_rng(seed).permutation(len(distinct))
    kept_back = {distinct[index] for index in order[: round(fraction * len(distinct))]}
    is_validation = np.array([string in kept_back for string in strings], dtype=bool)
    return np.flatnonzero(~is_validation), np.flatnonzero(is_validation)
