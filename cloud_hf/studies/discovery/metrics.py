"""Metrics of MatBench Discovery: which crystals are stable, judged by predicted distances to a known convex hull.

Source: Riebesell et al., "A framework to evaluate machine learning crystal stability predictions", Nat. Mach. Intell. 7
(2025), and the benchmark's own evaluation, whose conventions these are: a crystal on or below the hull (distance <= 0)
is stable; a crystal without a prediction counts as predicted unstable.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cloud_hf.data.splits import split_by_string
from cloud_hf.errors import CloudError
from cloud_hf.metrics import regression_metrics
from cloud_hf.metrics.statistics import auroc

__all__ = [
    "MOST_STABLE", "STABILITY_THRESHOLD", "cumulative_curves", "hull_distances", "offset_removed", "stability_metrics",
    "stability_of_subsets",
]  # fmt: skip

STABILITY_THRESHOLD = 0.0
"""eV/atom above the hull, up to which a crystal is stable."""

MOST_STABLE = 10_000
"""Size of the subset of the crystals with the smallest predicted distances to the hull."""

Numbers = NDArray[np.float64]


def hull_distances(true_distances: ArrayLike, true_energies: ArrayLike, predicted_energies: ArrayLike) -> Numbers:
    """Return predicted distances to a hull that the prediction does not move.

    Args:
        true_distances: Energies above the hull, eV/atom, shape (n,).
        true_energies: Formation energies that belong to them, eV/atom, shape (n,).
        predicted_energies: Predicted formation energies, eV/atom, NaN where there is none, shape (n,).

    Returns:
        true distance + (predicted - true formation energy), eV/atom, shape (n,).
    """
    errors = np.asarray(predicted_energies, float) - np.asarray(true_energies, float)
    distances: NDArray[np.float64] = np.asarray(true_distances, float) + errors
    return distances


def stability_metrics(
    true: ArrayLike, predicted: ArrayLike, prevalence: float | None = None, threshold: float = STABILITY_THRESHOLD
) -> dict[str, Any]:
    """Compare predicted with true distances to the hull.

    Args:
        true: Energies above the hull, eV/atom, shape (n,).
        predicted: The same, predicted; NaN, a missing prediction, counts as unstable and enters no error.
        prevalence: Share of stable crystals by which the precision is divided for the discovery acceleration factor;
            None: that of these rows.
        threshold: Largest distance of a stable crystal, eV/atom.

    Returns:
        `n`, `missing`, `prevalence`; `F1`, `DAF`, `Precision`, `Recall`, `Accuracy`, `TPR`, `FPR`, `TNR`, `FNR`; counts
        `TP`, `FP`, `TN`, `FN`; `MAE`, `RMSE` (eV/atom) and `R2` over predicted rows; `ROC-AUC` of -predicted distance
        over predicted rows. What would divide by zero is None.
    """
    y, p = np.asarray(true, dtype=float), np.asarray(predicted, dtype=float)
    if y.shape != p.shape or y.ndim != 1 or not np.isfinite(y).all():
        raise CloudError(f"true {y.shape} and predicted {p.shape} must be vectors of one length, the true ones finite.")
    stable, called = y <= threshold, p <= threshold  # NaN is not <= anything
    tp, fp = int((stable & called).sum()), int((~stable & called).sum())
    fn, tn = int((stable & ~called).sum()), int((~stable & ~called).sum())
    precision, recall = _ratio(tp, tp + fp), _ratio(tp, tp + fn)
    stable_share = _ratio(tp + fn, len(y))
    f1 = None if not precision or not recall else 2 * precision * recall / (precision + recall)
    given = ~np.isnan(p)
    errors = regression_metrics(y[given], p[given])
    both = bool((given & stable).any() and (given & ~stable).any())
    return {
        "n": len(y), "missing": int((~given).sum()), "prevalence": stable_share, "F1": f1,
        "DAF": None if precision is None else _ratio(precision, stable_share if prevalence is None else prevalence),
        "Precision": precision, "Recall": recall, "Accuracy": _ratio(tp + tn, len(y)),
        "TPR": recall, "FPR": _ratio(fp, fp + tn), "TNR": _ratio(tn, fp + tn), "FNR": _ratio(fn, tp + fn),
        "TP": tp, "FP": fp, "TN": tn, "FN": fn,
        "MAE": errors["mae"], "RMSE": errors["rmse"], "R2": errors["r2"],
        "ROC-AUC": None if not both else float(auroc(-p[given & stable], -p[given & ~stable])),
    }  # fmt: skip


def stability_of_subsets(
    true: ArrayLike, predicted: ArrayLike, unique: ArrayLike, most_stable: int = MOST_STABLE
) -> dict[str, dict[str, Any]]:
    """Return `stability_metrics` of the benchmark's three subsets.

    Args:
        true: Energies above the hull, eV/atom, shape (n,).
        predicted: The same, predicted; NaN without a prediction.
        unique: Whether a crystal is the only one of its prototype, neither in the training set nor again in this one,
            shape (n,).
        most_stable: Size of the third subset.

    Returns:
        `full`; `unique prototypes`; `most stable`, those of the unique prototypes with the smallest predicted
        distances. As in the benchmark, the acceleration of the last two is over the prevalence of the second.
    """
    y, p, is_unique = np.asarray(true, dtype=float), np.asarray(predicted, dtype=float), np.asarray(unique, dtype=bool)
    rows = np.flatnonzero(is_unique)
    predicted_rows = rows[~np.isnan(p[rows])]
    best = predicted_rows[np.argsort(p[predicted_rows], kind="stable")[:most_stable]]
    prevalence = float((y[rows] <= STABILITY_THRESHOLD).mean()) if len(rows) else None
    return {
        "full": stability_metrics(y, p),
        "unique prototypes": stability_metrics(y[rows], p[rows], prevalence),
        "most stable": stability_metrics(y[best], p[best], prevalence),
    }


def cumulative_curves(true: ArrayLike, predicted: ArrayLike) -> tuple[Numbers, Numbers]:
    """Precision and recall after following the first 1, 2, ... n predictions, the most stable first.

    Args:
        true: Energies above the hull, eV/atom, shape (n,).
        predicted: The same, predicted; NaN comes last.

    Returns:
        Both of shape (n,).
    """
    stable = np.asarray(true, dtype=float) <= STABILITY_THRESHOLD
    true_positives = np.cumsum(stable[np.argsort(np.asarray(predicted, dtype=float), kind="stable")])
    return true_positives / np.arange(1, len(true_positives) + 1), true_positives / max(int(stable.sum()), 1)


def offset_removed(
    labels: ArrayLike, predictions: Mapping[str, ArrayLike], scopes: Sequence[str], seed: int = 0
) -> tuple[dict[str, Numbers], dict[str, list[float]]]:
    """Remove a constant offset between predictions and labels.

    Energies of different settings differ by an offset that no model of one of them can know. It is estimated on the
    other half of the rows, so that no row's label corrects its own prediction.

    Args:
        labels: Finite, shape (n,).
        predictions: Predictions of each arm, shape (n,).
        scopes: Their strings; rows with the same string are in the same half.
        seed: Seed of the halves.

    Returns:
        Corrected predictions of each arm, shape (n,), and what was subtracted in either half.
    """
    truth = np.asarray(labels, dtype=float)
    halves = split_by_string(scopes, 0.5, seed)
    corrected: dict[str, Numbers] = {}
    offsets: dict[str, list[float]] = {}
    for name, values in predictions.items():
        shifted = np.array(values, dtype=float)
        gap = shifted - truth
        offsets[name] = [float(gap[other].mean()) if len(other) else 0.0 for other in reversed(halves)]
        for half, offset in zip(halves, offsets[name], strict=True):
            shifted[half] -= offset
        corrected[name] = shifted
    return corrected, offsets


def _ratio(part: float, whole: float | None) -> float | None:
    return part / whole if whole else None
