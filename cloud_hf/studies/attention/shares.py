"""How much attention goes from where to where, by class of word."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from cloud_hf.data.token_classes import SEPARATOR, TOKEN_CLASSES, TokenClasses

__all__ = ["CLASSES", "CONTENT", "SYMMETRY", "Shares", "WordClasses", "attention_shares", "batches_by_length"]

CLASSES = (*TOKEN_CLASSES, "separator", "[CLS]", "[SEP]")
"""Classes of words, those of `TOKEN_CLASSES` first; `separator` is the word between the segments."""

CONTENT = tuple(range(len(TOKEN_CLASSES)))
"""Classes that say something about the crystal."""

SYMMETRY = (TOKEN_CLASSES.index("generators"), TOKEN_CLASSES.index("wyckoff"))
"""Classes that write the symmetry."""

Numbers = NDArray[np.float64]


class WordClasses:
    """Tell the class of every token of padded batches.

    Args:
        tokenizer: Knows the words and the special tokens.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._inside = TokenClasses(tokenizer)
        self._ends = {
            tokenizer.convert_tokens_to_ids(SEPARATOR): CLASSES.index("separator"),
            tokenizer.cls_token_id: CLASSES.index("[CLS]"),
            tokenizer.sep_token_id: CLASSES.index("[SEP]"),
        }

    def __call__(self, input_ids: Tensor) -> Tensor:
        """Return the index in `CLASSES` of each token, -1 for padding, shape (batch, length)."""
        ids = input_ids.numpy()
        classes = self._inside(ids.ravel(), np.arange(len(ids)) * ids.shape[1]).reshape(ids.shape)
        for word, index in self._ends.items():
            classes = np.where(ids == word, index, classes)
        return torch.from_numpy(classes)

    def one_hot(self, input_ids: Tensor) -> Tensor:
        """Return 1 where a token is of a class, shape (batch, length, classes)."""
        return (self(input_ids)[..., None] == torch.arange(len(CLASSES))).float()


@dataclass(frozen=True)
class Shares:
    """Attention of n strings in L layers of H heads, by the C classes of `CLASSES`; every sum over classes is 1.

    Attributes:
        from_cls: Share of the attention of [CLS] that each class receives, shape (n, L, H, C).
        between: Share of the attention of the words of the class before last that the last class receives: mean over
            the words of the class in a string, then over the strings that have any, shape (L, H, C, C); NaN for
            classes without words.
        expected: Share of the words of each class, what uniform attention would give, shape (n, C).
    """

    from_cls: Numbers
    between: Numbers
    expected: Numbers


@torch.no_grad()
def attention_shares(encoder: Any, tokenizer: Any, scopes: Sequence[str], batch_size: int = 32) -> Shares:
    """Run an encoder over strings and add up its attention.

    Args:
        encoder: A `CloudModel` in evaluation mode, loaded with `attn_implementation="eager"`.
        tokenizer: Its tokenizer.
        scopes: SCOPE strings of its grammar, at least one.
        batch_size: Strings at a time.
    """
    classes = WordClasses(tokenizer)
    layers, heads, kinds = encoder.config.num_hidden_layers, encoder.config.num_attention_heads, len(CLASSES)
    from_cls = np.zeros((len(scopes), layers, heads, kinds))
    between, present = np.zeros((layers, heads, kinds, kinds)), np.zeros(kinds)
    expected = np.zeros((len(scopes), kinds))
    for rows, batch in batches_by_length(tokenizer, scopes, batch_size, "attention"):
        of_class = classes.one_hot(batch["input_ids"])
        attention = torch.stack(encoder(**batch, output_attentions=True).attentions, dim=1)
        received = torch.einsum("blhqk,bkc->blhqc", attention, of_class)
        from_cls[rows] = received[:, :, :, 0].numpy()
        counts = of_class.sum(1)
        expected[rows] = (counts / counts.sum(1, keepdim=True)).numpy()
        mean = torch.einsum("bqs,blhqc->blhsc", of_class / counts.clamp(min=1)[:, None], received)
        between += mean.sum(0).numpy()
        present += (counts > 0).sum(0).numpy()
    with np.errstate(invalid="ignore"):
        return Shares(from_cls, between / np.where(present > 0, present, np.nan)[:, None], expected)


def batches_by_length(
    tokenizer: Any, scopes: Sequence[str], batch_size: int, name: str
) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """Yield the rows and the padded batch of strings of similar length, with a progress bar of that name."""
    order = sorted(range(len(scopes)), key=lambda row: len(scopes[row].split()))
    with tqdm(total=len(scopes), desc=name, unit="string", disable=None) as bar:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            yield rows, dict(tokenizer([scopes[row] for row in rows], padding=True, return_tensors="pt"))
            bar.update(len(rows))
