"""From calibrated intervals to probabilities: how likely a predicted quantity is to lie within limits.

The ends of the intervals of all levels (50 to 99 %) are quantiles of what the true value may be, half of the rest on
either side; between them the distribution is linear, beyond the outermost its tail falls off with the square of the
distance, as conformal intervals say nothing there. A quantity without intervals counts as exact.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cloud_hf.inference.prediction import Predictors
from cloud_hf.models.conformal import DEFAULT_LEVEL, LEVELS

__all__ = ["Distribution", "predict_distributions"]

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

    def ends(self, level: float = DEFAULT_LEVEL) -> tuple[Numbers, Numbers]:
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


@torch.inference_mode()
def predict_distributions(
    predictors: Predictors, features: list[dict[str, torch.Tensor]], names: Collection[str], temperature: float
) -> dict[str, Distribution]:
    """Predict quantities of a batch as distributions.

    Args:
        predictors: The models.
        features: What `predictors.collate` made of the batch.
        names: Quantities that need every level. Of the others there are those that the models give as they are, with
            the default level alone.
        temperature: K, for thermal properties.
    """
    distributions: dict[str, Distribution] = {}
    outputs = predictors.forward(features, temperature)
    for (pipeline, shown), tensors in zip(predictors.parts, outputs, strict=True):
        scalars = list(pipeline.settings.target_names)
        direct = [name for name in shown if name in scalars and not _has_debye_band(pipeline, name)]
        for name in direct:
            levels = LEVELS if name in names else (DEFAULT_LEVEL,)
            distributions[name] = _of_scalar(pipeline, tensors, name, levels)
        rest = [name for name in shown if name in names and name not in scalars]
        rest += [name for name in shown if name in scalars and name not in direct]
        if rest:
            distributions |= _by_quantities(pipeline, tensors, rest)
    return distributions


def _has_debye_band(pipeline: Any, name: str) -> bool:
    """Whether the interval of a scalar follows from a band of Debye temperatures."""
    targets = {} if pipeline.calibration is None else pipeline.calibration.targets
    return pipeline.gives_interval(name) and name not in targets


def _of_scalar(pipeline: Any, tensors: dict[str, torch.Tensor], name: str, levels: Sequence[float]) -> Distribution:
    """Distributions of a target that the model learned itself."""
    scalars = list(pipeline.settings.target_names)
    value: Numbers = tensors["logits"].double().reshape(-1, len(scalars)).cpu().numpy()[:, scalars.index(name)]
    target = pipeline.calibration.targets.get(name) if pipeline.calibration is not None else None
    if target is None:
        return Distribution.of_intervals(value, [])
    atoms = tensors["n_atoms"].double().cpu().numpy() if target.per_atom else 1.0
    bounded = target.nonnegative or target.scale != "linear"
    # as `predict` has it: what comes out below zero, such as the gap of a metal, is zero
    floor = 0.0 if bounded else -np.inf
    strings = tensors["string_features"].double().cpu().numpy()
    intervals: list[tuple[float, Numbers, Numbers]] = []
    for level in levels:
        low, high = target.interval(strings, value / atoms, level)
        intervals.append((level, np.maximum(low * atoms, floor), np.maximum(high * atoms, floor)))
    return Distribution.of_intervals(np.maximum(value, floor), intervals, bounded)


def _by_quantities(pipeline: Any, tensors: dict[str, torch.Tensor], names: Sequence[str]) -> dict[str, Distribution]:
    """Distributions of quantities that only the pipeline knows how to compute, one level after the other."""
    values: dict[str, Numbers] = {}
    intervals: dict[str, list[tuple[float, Numbers, Numbers]]] = {name: [] for name in names}
    for level in LEVELS:
        rows = [{quantity["name"]: quantity for quantity in row} for row in pipeline.quantities(tensors, level)]
        for name in names:
            values[name] = np.array([row[name]["value"] for row in rows])
            if all("low" in row[name] for row in rows):
                low, high = (np.array([row[name][end] for row in rows]) for end in ("low", "high"))
                intervals[name].append((level, low, high))
        if not any(intervals.values()):
            break
    return {name: Distribution.of_intervals(values[name], intervals[name]) for name in names}
