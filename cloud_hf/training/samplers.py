"""Batches of strings of similar length, in an order that a resumed run finds again."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler

__all__ = ["LengthBucketSampler"]

BATCHES_PER_BUCKET = 50
"""Strings are sorted by length within random groups of this many batches: little padding, still a random order."""


class LengthBucketSampler(Sampler[int]):
    """Sample every row once an epoch so that neighbours have similar lengths.

    The order depends on lengths, batch size, seed and epoch only, not on a running random state.

    Args:
        lengths: Tokens per row.
        batch_size: Rows per optimizer step of all processes.
        seed: Seed of the order.
        multiple_of: Complete the epoch to a multiple of this many rows with filler rows, whose index is the number of
            rows: what one forward pass of all processes takes, so that no row is seen twice.
    """

    def __init__(self, lengths: Sequence[int] | Any, batch_size: int, seed: int = 0, multiple_of: int = 1) -> None:
        self.lengths = torch.as_tensor(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.fillers = -len(self.lengths) % multiple_of
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch (the training loop calls this)."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths) + self.fillers

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator)
        batches: list[torch.Tensor] = []
        for group in order.split(BATCHES_PER_BUCKET * self.batch_size):
            batches += group[self.lengths[group].argsort(stable=True)].split(self.batch_size)
        last = (
            batches.pop() if batches and len(batches[-1]) < self.batch_size else None
        )  # the incomplete batch stays last
        for index in torch.randperm(len(batches), generator=generator).tolist():
            yield from batches[index].tolist()
        if last is not None:
            yield from last.tolist()
        yield from [len(self.lengths)] * self.fillers
