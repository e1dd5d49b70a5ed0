"""Masking of SCOPE strings for MLM pre-training."""

import zlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

__all__ = ["MaskingCollator"]


@dataclass
class MaskingCollator:
    """Pad a batch and mask words at random, as BERT does (80 % [MASK], 10 % another word, 10 % kept).

    The mask of a string depends on its ids, the seed and the epoch only, not on the batch or on a running random
    state, so a resumed run masks as the uninterrupted one does.

    Args:
        tokenizer: Pads, and knows the special tokens.
        mlm_probability: Share of words to predict (the paper's 0.15); at least one a string.
        seed: Seed of the masks.
        epoch: Set by the training loop at the start of each epoch.
    """

    tokenizer: PreTrainedTokenizerBase
    mlm_probability: float = 0.15
    seed: int = 0
    epoch: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.mlm_probability < 1:
            raise ValueError(f"mlm_probability must be between 0 and 1, not {self.mlm_probability}.")

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Return `input_ids`, `attention_mask` and `labels`, each of shape (batch, length)."""
        ids = [example["input_ids"] for example in examples]
        batch = self.tokenizer.pad({"input_ids": ids}, return_tensors="pt")
        labels = torch.full_like(batch["input_ids"], -100)
        for row, words in enumerate(ids):
            inputs, targets = self._mask(words)
            batch["input_ids"][row, : len(words)] = inputs
            labels[row, : len(words)] = targets
        return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "labels": labels}

    def _mask(self, words: list[int]) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(zlib.crc32(repr((words, self.seed, self.epoch)).encode()))
        inputs = torch.tensor(words)
        maskable = inputs > max(self.tokenizer.all_special_ids)
        chance, kind = torch.rand(2, len(words), generator=generator)
        chance[~maskable] = 2.0
        chosen = chance < self.mlm_probability
        chosen[chance.argmin()] |= bool(maskable.any())
        labels = torch.where(chosen, inputs, -100)
        other = torch.randint(
            max(self.tokenizer.all_special_ids) + 1, len(self.tokenizer), inputs.shape, generator=generator
        )
        inputs = torch.where(chosen & (kind < 0.8), self.tokenizer.mask_token_id, inputs)
        inputs = torch.where(chosen & (kind >= 0.9), other, inputs)
        return inputs, labels
