"""Errors of a study: every number with its count, its unit and its rows, and paired differences."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cloud_hf.metrics import regression_metrics
from cloud_hf.metrics.statistics import mean_interval

__all__ = ["compared", "paired", "signed", "verdict"]


def compared(
    labels: ArrayLike, predictions: Mapping[str, ArrayLike], unit: str, rows: str, reference: str = "trees"
) -> dict[str, Any]:
    """Score several arms on the same rows.

    Args:
        labels: Finite numbers, shape (n,).
        predictions: Predictions of each arm (`model`, `trees`, `mean`, ...), shape (n,).
        unit: Unit of all of them.
        rows: What they were computed on, in words.
        reference: Arm that the others are compared with; their `difference` is that of the mean absolute errors, with
            its 95 % interval.

    Returns:
        `n`, `unit`, `rows`, and `arms`: name to `regression_metrics`, and `difference` where there is a reference.
    """
    truth = np.asarray(labels, dtype=float)
    predicted = {name: np.asarray(values, dtype=float) for name, values in predictions.items()}
    arms: dict[str, Any] = {}
    for name, values in predicted.items():
        arms[name] = dict(regression_metrics(truth, values))
        if reference in predicted and name != reference and len(truth):
            arms[name]["difference"] = paired(np.abs(values - truth), np.abs(predicted[reference] - truth))
    return {"n": len(truth), "unit": unit, "rows": rows, "reference": reference, "arms": arms}


def paired(errors: ArrayLike, others: ArrayLike, resamples: int = 10_000, seed: int = 0) -> dict[str, float]:
    """Compare two models by their absolute errors on the same rows.

    Args:
        errors: Absolute errors of the first, shape (n,).
        others: Absolute errors of the second on the same rows, shape (n,).
        resamples: Samples that the bootstrap draws.
        seed: Seed of the bootstrap.

    Returns:
        `difference` of the mean absolute errors (negative: the first is better) with `low` and `high`, the 95 %
        interval of the bootstrap over rows, in the unit of the errors; and `relative`, `difference` over the second's.
    """
    first, second = np.asarray(errors, dtype=float), np.asarray(others, dtype=float)
    gap: NDArray[np.float64] = first - second
    low, high = mean_interval(gap, resamples=resamples, seed=seed)
    result = {"difference": float(gap.mean()), "low": low, "high": high}
    return result | ({"relative": float(gap.mean() / second.mean())} if second.mean() > 0 else {})


def signed(gap: Mapping[str, float], digits: int = 3) -> str:
    """Write a paired difference as `-0.12 (-0.2 to -0.05)`."""
    difference, low, high = (f"{gap[key]:+.{digits}g}" for key in ("difference", "low", "high"))
    return f"{difference} ({low} to {high})"


def verdict(gap: Mapping[str, float]) -> str:
    """Say what the interval of a difference of errors shows: `lower`, `higher`, or `no clear difference`."""
    if gap["high"] < 0:
        return "lower"
    return "higher" if gap["low"] > 0 else "no clear difference"
