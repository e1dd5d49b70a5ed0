"""Tokenised strings as flat arrays: rows for training without a Python object per token."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from torch.utils.data import Dataset as TorchDataset

from cloud_hf.errors import ScopeTooLongError

__all__ = ["TokenRows", "pack"]


class TokenRows(TorchDataset[dict[str, Any]]):
    """Rows of one or several tokenised strings, read from the Arrow buffers of a `datasets.Dataset`.

    A row is a dictionary of `input_ids`, shape (tokens,), and, for packed rows, `lengths`, the tokens of each of
    its strings. Index `len(self)` is the filler row [CLS] [SEP], in which nothing is asked: it completes the last
    step of an epoch that several processes share.

    Args:
        dataset: Has a column `input_ids`.
        filler: Ids of the filler row.
        packs: Strings of each row, as indices; None: one string a row.
    """

    def __init__(
        self, dataset: Dataset, filler: Sequence[int] = (), packs: Sequence[NDArray[np.int64]] | None = None
    ) -> None:
        column = dataset.with_format("arrow")[:]["input_ids"].combine_chunks()
        chunks = column.chunks if hasattr(column, "chunks") else [column]
        self.ids: NDArray[np.integer] = np.concatenate(
            [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in chunks] or [np.empty(0, np.int64)]
        ).astype(np.int32)
        self.string_lengths: NDArray[np.int64] = np.concatenate(
            [np.diff(chunk.offsets.to_numpy()).astype(np.int64) for chunk in chunks] or [np.empty(0, np.int64)]
        )
        self.offsets = np.concatenate([[0], np.cumsum(self.string_lengths)])
        self.filler = np.asarray(filler, dtype=np.int32)
        self.packs = packs

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, shape (rows,)."""
        if self.packs is None:
            return self.string_lengths
        return np.array([self.string_lengths[strings].sum() for strings in self.packs])

    def __len__(self) -> int:
        return len(self.string_lengths) if self.packs is None else len(self.packs)

    def __getitem__(self, row: int) -> dict[str, Any]:
        if row == len(self):
            return {"input_ids": self.filler}
        if not 0 <= row < len(self):
            raise IndexError(f"There is no row {row} among {len(self)}.")
        if self.packs is None:
            return {"input_ids": self.ids[self.offsets[row] : self.offsets[row + 1]]}
        strings = self.packs[row]
        parts = [self.ids[self.offsets[string] : self.offsets[string + 1]] for string in strings]
        return {"input_ids": np.concatenate(parts), "lengths": self.string_lengths[strings]}


def pack(lengths: NDArray[np.integer], width: int, seed: int = 0) -> list[NDArray[np.int64]]:
    """Put strings together in rows of at most `width` tokens: longest first, each where the least room is left.

    The result depends on its arguments only. Strings of the same length are taken in a random order, so that those that
    stood together in the data do not stay together.

    Args:
        lengths: Tokens of each string, shape (strings,).
        width: Tokens that a row has room for.
        seed: Of that random order.

    Returns:
        Indices of the strings of each row.

    Raises:
        ScopeTooLongError: A string has more tokens than a row.
    """
    if len(lengths) and lengths.max() > width:
        raise ScopeTooLongError(
            f"A string of {lengths.max()} tokens does not fit in a packed row of {width}; raise --packing-length."
        )
    shuffled = np.random.default_rng(seed).permutation(len(lengths))
    order = shuffled[np.argsort(-lengths[shuffled], kind="stable")]
    rows: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(width + 1)]  # rows by the room that they have left
    for string, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        room = next((left for left in range(length, width + 1) if with_room[left]), None)
        if room is None:
            rows.append([])
            room, row = width, len(rows) - 1
        else:
            row = with_room[room].pop()
        rows[row].append(string)
        with_room[room - length].append(row)
    return [np.array(row, dtype=np.int64) for row in rows]
