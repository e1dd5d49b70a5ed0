"""The best K predictions of any number."""

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cloud_hf.inference.prediction import Prediction

__all__ = ["Best"]


class Best:
    """Keeps the best predictions by one quantity; of equal ones those that came first.

    Args:
        k: How many to keep.
        by: Name of the quantity. A prediction without it, because it failed or because the number of atoms is not
            known, is left out.
        lowest: Whether the lowest are the best.
    """

    def __init__(self, k: int, by: str, lowest: bool = False) -> None:
        self.k, self.by, self.lowest = k, by, lowest
        self._heap: list[tuple[float, int, Prediction]] = []
        self._n_added = 0

    def __str__(self) -> str:
        return f"{len(self._heap)} kept, those with the {'lowest' if self.lowest else 'highest'} {self.by}"

    def add(self, prediction: "Prediction") -> None:
        """Keep a prediction if it is among the best so far."""
        value = next(
            (float(quantity["value"]) for quantity in prediction.quantities if quantity["name"] == self.by), None
        )
        if value is None:
            return
        self._n_added += 1
        entry = (-value if self.lowest else value, -self._n_added, prediction)
        if len(self._heap) < self.k:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def predictions(self) -> "list[Prediction]":
        """Return the best, best first."""
        return [prediction for _, _, prediction in sorted(self._heap, key=lambda entry: entry[:2], reverse=True)]
