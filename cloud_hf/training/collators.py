"""Masking of SCOPE strings for MLM pre-training."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from cloud_hf.data.token_classes import TokenClasses
from cloud_hf.errors import CloudError

__all__ = ["MASKINGS", "MaskingCollator"]

MASKINGS = ("token", "segment")

MASKED_CLASSES = 3
"""Generators, Wyckoff words and elements: the classes that `segment` masks as a whole."""


@dataclass
class MaskingCollator:
    """Pad a batch and mask words at random, as BERT does (80 % [MASK], 10 % another word, 10 % kept).

    The mask of a string depends on its ids, the seed and the epoch only, not on the batch, the row it is packed in or a
    running random state, so a resumed run masks as the uninterrupted one does.

    With `masking="segment"`, a share of the strings loses one whole part instead: all its generators (the space
    group), all its Wyckoff words or all its elements, each as likely as the others and all written as [MASK]. The
    model then has to find the part from the rest. The other strings are masked word by word.

    Args:
        tokenizer: Pads, and knows the special tokens.
        mlm_probability: Share of words to predict (the paper's 0.15); at least one a string.
        seed: Seed of the masks.
        epoch: Set by the training loop at the start of each epoch.
        masking: `token` or `segment`.
        segment_probability: Share of the strings that lose a whole part, with `segment`.
        pad_to_multiple_of: Round the width of a batch up to a multiple of this.
    """

    tokenizer: PreTrainedTokenizerBase
    mlm_probability: float = 0.15
    seed: int = 0
    epoch: int = 0
    masking: str = "token"
    segment_probability: float = 0.3
    pad_to_multiple_of: int = 1
    _n_special: int = field(init=False, repr=False, default=0)

    def __post_init__(self) -> None:
        if not 0 < self.mlm_probability < 1:
            raise CloudError(f"mlm_probability must be between 0 and 1, not {self.mlm_probability}.")
        if not 0 <= self.segment_probability <= 1:
            raise CloudError(f"segment_probability must be from 0 to 1, not {self.segment_probability}.")
        if self.masking not in MASKINGS:
            raise CloudError(f"masking must be one of {', '.join(MASKINGS)}, not {self.masking!r}.")
        if self.pad_to_multiple_of < 1:
            raise CloudError(f"pad_to_multiple_of must be at least 1, not {self.pad_to_multiple_of}.")
        self._n_special = max(self.tokenizer.all_special_ids) + 1
        self._n_words = len(self.tokenizer)
        self._classes = TokenClasses(self.tokenizer) if self.masking == "segment" else None

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Pad and mask rows of `input_ids`, which may pack several strings (`lengths` says where they end).

        Returns:
            `input_ids`, `attention_mask` and `labels`, each of shape (batch, length). Packed rows also have
            `position_ids`, which start again at 0 in every string, and `sequence_ids`, the number of the string
            in its row, from 0; -1 where there is padding.
        """
        rows = [np.asarray(example["input_ids"], dtype=np.int64) for example in examples]
        packed = any("lengths" in example for example in examples)
        row_lengths = np.array([len(row) for row in rows])
        lengths = np.concatenate(
            [np.atleast_1d(ex.get("lengths", n)) for ex, n in zip(examples, row_lengths, strict=True)]
        )
        ids = np.concatenate(rows)
        starts = np.cumsum(lengths) - lengths
        positions = np.arange(len(ids)) - np.repeat(starts, lengths)
        inputs, labels = self._mask(ids, starts, positions, lengths)

        width = -(-int(row_lengths.max()) // self.pad_to_multiple_of) * self.pad_to_multiple_of
        filled = np.arange(width) < row_lengths[:, None]
        batch = {
            "input_ids": _spread(inputs, filled, self.tokenizer.pad_token_id),
            "attention_mask": torch.from_numpy(filled.astype(np.int64)),
            "labels": _spread(labels, filled, -100),
        }
        if packed:
            number = np.repeat(np.arange(len(lengths)), lengths)
            first = number[np.cumsum(row_lengths) - row_lengths]  # of each row
            batch["position_ids"] = _spread(positions, filled, 0)
            batch["sequence_ids"] = _spread(number - np.repeat(first, row_lengths), filled, -1)
        return batch

    def _mask(
        self, ids: NDArray[Any], starts: NDArray[Any], positions: NDArray[Any], lengths: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Inputs and labels of strings that stand one after another in `ids`."""
        key = np.add.reduceat(_scramble(ids.astype(np.uint64) << np.uint64(20) | positions.astype(np.uint64)), starts)
        run = _scramble(
            _scramble(np.array([self.seed]).astype(np.uint64) + _STEP) + np.array([self.epoch]).astype(np.uint64)
        )
        key = _scramble(key ^ run)
        per_token = np.repeat(key, lengths) + positions.astype(np.uint64) * _STEP
        maskable = ids >= self._n_special
        chance = np.where(maskable, _uniform(per_token, 1), 2.0)
        lowest = np.repeat(np.minimum.reduceat(chance, starts), lengths)
        chosen = maskable & ((chance < self.mlm_probability) | (chance == lowest))
        kind = _uniform(per_token, 2)
        if self._classes is not None:
            lost = np.where(
                _uniform(key, 3) < self.segment_probability, (_uniform(key, 4) * MASKED_CLASSES).astype(np.int64), -2
            )
            in_lost = self._classes(ids, starts) == np.repeat(lost, lengths)
            whole = np.repeat(np.logical_or.reduceat(in_lost, starts), lengths)
            chosen = np.where(whole, in_lost, chosen)
            kind = np.where(whole, 0.0, kind)
        other = self._n_special + (_uniform(per_token, 5) * (self._n_words - self._n_special)).astype(np.int64)
        inputs = np.where(chosen & (kind < 0.8), self.tokenizer.mask_token_id, ids)
        inputs = np.where(chosen & (kind >= 0.9), other, inputs)
        return inputs, np.where(chosen, ids, -100)


def _spread(values: NDArray[Any], filled: NDArray[np.bool_], padding: int) -> Tensor:
    """Values of one row after another to a padded (batch, length) tensor."""
    padded = np.full(filled.shape, padding, dtype=np.int64)
    padded[filled] = values
    return torch.from_numpy(padded)


_STEP = np.uint64(0x9E3779B97F4A7C15)


def _scramble(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The mixing function of the SplitMix64 generator (Steele, Lea and Flood, OOPSLA 2014), element by element."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _uniform(keys: NDArray[np.uint64], stream: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each key; streams are independent."""
    salt = np.array([stream], dtype=np.uint64) * np.uint64(0xD1342543DE82EF95)
    return (_scramble(keys + salt) >> np.uint64(11)).astype(np.float64) * 2.0**-53
