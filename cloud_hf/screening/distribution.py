"""From calibrated intervals to probabilities: how likely a quantity is to lie within limits.

The ends of the intervals of all levels (50 to 99 %) are quantiles of what the true value may be, half of the rest on
either side; between them the distribution is linear, beyond the outermost its tail falls off with the square of the
distance, as conformal intervals say nothing there. A quantity without intervals counts as exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Distribution"]

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Distribution:
    """What the values of a quantity may be, for n crystals.

    Attributes:
        values: Predictions, shape (n,).
        knots: Quantiles in rising order, shape (n, m); m may be 0.
        levels: Probability of a value below each knot, shape (m,).
        bounded: No value lies below zero; knots at zero are such that were cut off there.
    """

    values: Numbers
    knots: Numbers
    levels: Numbers
    bounded: bool = False

    @classmethod
    def of_intervals(
        cls, values: Numbers, intervals: Sequence[tuple[float, Numbers, Numbers]], bounded: bool = False
    ) -> "Distribution":
        """Make distributions of intervals.

        Args:
            values: Predictions, shape (n,).
            intervals: Level, lower and upper ends, each of shape (n,), of each interval; endless ones are left out.
            bounded: No value lies below zero.
        """
        finite = [
            interval for interval in intervals if np.isfinite(interval[1]).all() and np.isfinite(interval[2]).all()
        ]
        ordered = sorted(finite, key=lambda interval: -interval[0])
        lows, highs = [interval[1] for interval in ordered], [interval[2] for interval in reversed(ordered)]
        if not ordered:
            return cls(values, np.zeros((len(values), 0)), np.zeros(0), bounded)
        knots = np.maximum.accumulate(np.stack([*lows, values, *highs], axis=1), axis=1)
        tails = [(1 - interval[0]) / 2 for interval in ordered]
        return cls(values, knots, np.array([*tails, 0.5, *(1 - tail for tail in reversed(tails))]), bounded)

    def shifted(self, amount: Numbers) -> "Distribution":
        """Return the distributions of the values plus something known, shape (n,)."""
        return Distribution(self.values + amount, self.knots + amount[:, None], self.levels)

    def within(self, low: float, high: float) -> Numbers:
        """Return the probability of low <= value <= high, shape (n,)."""
        return np.clip(self._below(high, True) - self._below(low, False), 0.0, 1.0)

    def ends(self, level: float) -> tuple[Numbers, Numbers]:
        """Return the ends of the interval of a level that the distributions were made of, NaN where there is none."""
        tail = (1 - level) / 2
        places_of_ends = [np.flatnonzero(np.isclose(self.levels, share)) for share in (tail, 1 - tail)]
        nothing = np.full(len(self.values), np.nan)
        low, high = (self.knots[:, place[0]] if len(place) else nothing for place in places_of_ends)
        return low, high

    def _below(self, limit: float, included: bool) -> Numbers:
        """Probability of a value below a limit; `included`: or at it."""
        if np.isinf(limit):
            return np.full(len(self.values), float(limit > 0))
        if self.bounded and (limit < 0 or (limit == 0 and not included)):
            return np.zeros(len(self.values))
        if not len(self.levels):
            return (self.values <= limit if included else self.values < limit).astype(float)
        knots, levels = self.knots, self.levels
        places = (knots <= limit if included else knots < limit).sum(axis=1)
        rows = np.arange(len(knots))
        before, after = np.clip(places - 1, 0, None), np.clip(places, None, len(levels) - 1)
        left, right = knots[rows, before], knots[rows, after]
        width = np.where(right > left, right - left, 1.0)
        share = np.clip((limit - left) / width, 0.0, 1.0)
        probability = levels[before] + share * (levels[after] - levels[before])
        for outside, end, rest in ((places == 0, 0, levels[0]), (places == len(levels), -1, 1 - levels[-1])):
            half = np.abs(knots[:, end] - self.values)
            distance = np.maximum(np.abs(limit - self.values), np.maximum(half, np.finfo(float).tiny))
            tail = rest * (half / distance) ** 2
            if self.bounded and end == 0:
                tail = np.where(knots[:, 0] > 0, tail, 0.0)
            probability = np.where(outside, tail if end == 0 else 1 - tail, probability)
        return np.asarray(probability)
