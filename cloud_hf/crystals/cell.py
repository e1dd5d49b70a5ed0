"""`Cell`: a crystal as plain arrays, what every reader gives and every encoder takes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Cell", "Content"]

Content = tuple[tuple[str, float], ...]
"""What sits on a site: (element symbol, occupancy) pairs, e.g. `(("Na", 1.0),)` or `(("Fe", 0.5), ("Ni", 0.5))`."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a crystal, sites in the order of the input.

    Attributes:
        lattice: Lattice vectors as rows, shape (3, 3), Å.
        frac_coords: Fractional coordinates, shape (n, 3).
        contents: Neutral elements (no charges, D and T as H) and occupancies of each site, length n.
        name: What error messages call the crystal: its path, its formula, its id.
        note: What was taken on trust when it was read; empty where nothing was.
    """

    lattice: NDArray[np.float64]
    frac_coords: NDArray[np.float64]
    contents: tuple[Content, ...]
    name: str = "crystal"
    note: str = ""

    def __len__(self) -> int:
        return len(self.contents)

    @property
    def is_ordered(self) -> bool:
        """Whether every site holds exactly one element."""
        return all(len(content) == 1 and abs(content[0][1] - 1.0) < 1e-8 for content in set(self.contents))

    def amounts(self) -> dict[str, float]:
        """Return the amount of each element in the cell, elements in order of first appearance."""
        amounts: dict[str, float] = {}
        for content in self.contents:
            for element, occupancy in content:
                amounts[element] = amounts.get(element, 0.0) + occupancy
        return amounts

    def kinds(self) -> list[int]:
        """Return a number for what sits on each site, equal for equal contents, counted by first appearance."""
        numbers: dict[Any, int] = {}
        return [numbers.setdefault(frozenset(content), len(numbers) + 1) for content in self.contents]
