"""What the input words say about elements and sites, as features. Flat: ships as Hub remote code.

Everything is read off the ids that the model is given. A masked word therefore has no features, and nothing about it
can be inferred from them: a masked Wyckoff word neither gives features to its element nor counts in the sum of atoms.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import initialization as init

from .chemistry_tables import (
    ELEMENT_DESCRIPTORS,
    ELEMENT_IDS,
    FRACTION_IDS,
    SEPARATOR_ID,
    START_ID,
    WYCKOFF_IDS,
)

__all__ = ["ChemistryEmbedding", "OrbitReader", "Orbits"]

N_FREQUENCIES = 8
"""Share of the atoms s as sin and cos of pi/2 2^k s, k = 0 ... 7: the shortest period, 1/32, tells 1 atom of 200."""


class Orbits(NamedTuple):
    """What each token says about the crystal's sites; all of shape (batch, length).

    Attributes:
        element: Atomic number Z of a token that is an element, else 0.
        share: Share of the crystal's atoms that the token's orbit, site or element has, 0 to 1; 0 where not known.
        known: Whether there is a share: for elements and Wyckoff words whose amount is not masked.
    """

    element: Tensor
    share: Tensor
    known: Tensor

    def weights(self) -> Tensor:
        """Shares scaled to the sum 1 in each row, shape (batch, length); all 0 in a row without any."""
        return self.share / self.share.sum(1, keepdim=True).clamp(min=torch.finfo(self.share.dtype).tiny)


class OrbitReader(nn.Module):
    """Look up elements, multiplicities and fractions of SCOPE words.

    Generators share ids with elements (`C`, `O`, `P`, ...), so that only what follows a `|` is looked up. [CLS] begins
    another string: packed strings are read apart. Its tables are buffers that no checkpoint holds.
    """

    element_of: Tensor
    multiplicity_of: Tensor
    percent_of: Tensor

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.grammar = config.grammar
        for name, table in _tables(config.vocab_size).items():
            self.register_buffer(name, table, persistent=False)

    def initialise(self) -> None:
        """Fill the tables; transformers builds modules without data and then asks for this."""
        for name, table in _tables(len(self.element_of)).items():
            init.copy_(getattr(self, name), table)

    def resize(self, vocab_size: int) -> None:
        """Follow a vocabulary that has grown; the new words are neither elements, sites nor amounts."""
        for name, table in _tables(vocab_size).items():
            setattr(self, name, table.to(getattr(self, name).device))

    def forward(self, input_ids: Tensor) -> Orbits:
        """Read token ids of shape (batch, length)."""
        strings = (input_ids == START_ID).long().cumsum(1)  # number of the string that each token belongs to
        inside = _since_start((input_ids == SEPARATOR_ID).long(), strings) > 0
        element = self.element_of[input_ids] * inside
        wyckoff = self.multiplicity_of[input_ids] * inside
        is_element, is_wyckoff = element > 0, wyckoff > 0
        if self.grammar == "sites":  # element and Wyckoff word of a pair stand for the same atoms
            amount = torch.where(is_element, _next(wyckoff), wyckoff)
            share = amount / _total(wyckoff, strings).clamp(min=1)
            known = amount > 0
        elif self.grammar == "composition":
            percent = _next(self.percent_of[input_ids] + 1) - 1  # -1: the next word is no fraction
            share = torch.where(is_element, percent / 100, wyckoff / _total(wyckoff, strings).clamp(min=1))
            known = is_wyckoff | (is_element & (percent >= 0))
        else:  # full: one word is one atom
            elements, sites = (_total(of_kind.long(), strings).clamp(min=1) for of_kind in (is_element, is_wyckoff))
            share = 1 / torch.where(is_element, elements, sites)
            known = is_element | is_wyckoff
        return Orbits(element, torch.where(known, share, 0.0), known)


class ChemistryEmbedding(nn.Module):
    """Vectors that are added to word embeddings: of element descriptors, of an orbit's share of the atoms, or both."""

    descriptors: Tensor

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.element: nn.Sequential | None = None
        self.multiplicity: nn.Linear | None = None
        if config.element_descriptors:
            self.register_buffer("descriptors", torch.tensor(ELEMENT_DESCRIPTORS), persistent=False)
            width, hidden = len(ELEMENT_DESCRIPTORS[0]), config.hidden_size
            self.element = nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        if config.site_multiplicity:
            self.multiplicity = nn.Linear(2 * N_FREQUENCIES, config.hidden_size)

    def initialise(self) -> None:
        """Fill the table; transformers builds modules without data and then asks for this."""
        if self.element is not None:
            init.copy_(self.descriptors, torch.tensor(ELEMENT_DESCRIPTORS))

    def forward(self, orbits: Orbits, dtype: torch.dtype = torch.float32) -> Tensor | float:
        """Return vectors of shape (batch, length, hidden_size); exactly 0 for tokens that say nothing.

        Args:
            orbits: What the tokens say.
            dtype: Of the word embeddings, in which the layers compute; quantised layers have no dtype of their own.
        """
        total: Tensor | float = 0.0
        if self.element is not None:
            rows = self.element(self.descriptors)  # 118 elements are fewer than the tokens of a batch
            is_element = (orbits.element > 0)[..., None]
            total = total + rows[(orbits.element - 1).clamp(min=0)] * is_element
        if self.multiplicity is not None:
            total = total + self.multiplicity(_fourier(orbits.share).to(dtype)) * orbits.known[..., None]
        return total


def _tables(vocab_size: int) -> dict[str, Tensor]:
    """Atomic number, multiplicity and percents by id, integers so that no cast to half precision rounds them."""
    element, multiplicity = torch.zeros(vocab_size, dtype=torch.long), torch.zeros(vocab_size, dtype=torch.long)
    percent = torch.full((vocab_size,), -1, dtype=torch.long)
    element[list(ELEMENT_IDS)] = torch.arange(1, len(ELEMENT_IDS) + 1)
    percent[list(FRACTION_IDS)] = torch.arange(len(FRACTION_IDS))
    for size, ids in WYCKOFF_IDS.items():
        multiplicity[list(ids)] = size
    return {"element_of": element, "multiplicity_of": multiplicity, "percent_of": percent}


def _fourier(share: Tensor) -> Tensor:
    frequencies = math.pi / 2 * 2.0 ** torch.arange(N_FREQUENCIES, device=share.device)
    angles = share.float()[..., None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def _next(values: Tensor) -> Tensor:
    """The value at the next position, 0 at the last one."""
    return nn.functional.pad(values[:, 1:], (0, 1))


def _totals(counts: Tensor, strings: Tensor) -> Tensor:
    """Sums of integer counts by the number of their string, shape (batch, length + 1)."""
    return counts.new_zeros(counts.shape[0], counts.shape[1] + 1).scatter_add(1, strings, counts)


def _since_start(counts: Tensor, strings: Tensor) -> Tensor:
    """Cumulated counts along each row, from 0 again in every string."""
    totals = _totals(counts, strings)
    before = totals.cumsum(1) - totals
    return counts.cumsum(1) - before.gather(1, strings)


def _total(counts: Tensor, strings: Tensor) -> Tensor:
    """The sum of counts over the string that each position belongs to."""
    return _totals(counts, strings).gather(1, strings)
