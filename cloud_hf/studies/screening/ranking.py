"""Where the known crystals rank among the candidates, beside chance."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom

from cloud_hf.metrics.statistics import auroc, bootstrap_interval

__all__ = ["SHARES", "enrichment", "found_curve", "random_enrichment", "ranked", "stiffest_found", "window_found"]

SHARES = (0.01, 0.05)
"""Of the unknown candidates that are looked at, the best ones first."""

RESAMPLES = 1000

FEWEST = 5
"""Crystals of a set for which a score means anything."""

Numbers = NDArray[np.float64]


def enrichment(known: ArrayLike, unknown: ArrayLike, share: float, axis: int = -1) -> Any:
    """Return how many more known crystals than by chance are found among the best candidates.

    Args:
        known: Predicted energies above the hull of known stable crystals, shape (n,), or more axes.
        unknown: Those of unknown candidates, shape (m,), or more axes.
        share: Of the unknown candidates that are looked at, the lowest first.
        axis: Along which the values lie.

    Returns:
        The share of the known crystals that lie as low, over `share`: 1 by chance, at most 1 / share. Equal energies
        are in random order: of the known crystals at the limit so large a part counts as of the unknown ones there.
    """
    known, unknown = np.asarray(known, dtype=float), np.asarray(unknown, dtype=float)
    limit = np.quantile(unknown, share, axis=axis, keepdims=True, method="inverted_cdf")
    below, at = (unknown < limit).mean(axis=axis), (unknown == limit).mean(axis=axis)
    part = (share - below) / at
    return ((known < limit).mean(axis=axis) + part * (known == limit).mean(axis=axis)) / share


def random_enrichment(n: int, share: float) -> dict[str, float]:
    """Return the 95 % range of the enrichment of a random order.

    Args:
        n: Known crystals.
        share: Of the candidates that are looked at.
    """
    low, high = binom.ppf([0.025, 0.975], n, share) / n / share
    return {"value": 1.0, "low": float(low), "high": float(high)}


def ranked(
    known: Mapping[str, Numbers], unknown: Mapping[str, Numbers], reference: str = "trees", seed: int = 0
) -> dict[str, Any]:
    """Score how well several arms rank known stable crystals before others.

    Args:
        known: For each arm predicted energies above the hull of the known stable crystals, shape (n,).
        unknown: Those of the others, shape (m,).
        reference: Arm that the others are compared with.
        seed: Of the bootstrap.

    Returns:
        `n_known`, `n_other`, and `arms`: for each arm `auroc` (the probability that a known crystal lies lower than
        another) and `enrichment_1`, `enrichment_5`, each with `value`, `low` and `high` (95 %, bootstrap over both
        sets of crystals), and `difference`, of the AUROC to that of the reference. No
        arms if either set has fewer than `FEWEST` crystals.
    """
    sizes = [len(next(iter(part.values()))) for part in (known, unknown)]
    result: dict[str, Any] = {"n_known": sizes[0], "n_other": sizes[1], "arms": {}}
    if min(sizes) < FEWEST:
        return result
    # which crystals are drawn, so that arms are compared on the same draws
    draws = [np.arange(size, dtype=float) for size in sizes]

    def with_interval(statistic: Any) -> dict[str, float]:
        def of_rows(one: Numbers, two: Numbers, axis: int = -1) -> Any:
            return statistic(one.astype(np.int64), two.astype(np.int64))

        low, high = bootstrap_interval(of_rows, draws, resamples=RESAMPLES, seed=seed)
        return {"value": float(of_rows(draws[0], draws[1])), "low": low, "high": high}

    def area(arm: str, one: NDArray[np.int64], two: NDArray[np.int64]) -> Any:
        return auroc(unknown[arm][two], known[arm][one])

    def enriched(arm: str, share: float, one: NDArray[np.int64], two: NDArray[np.int64]) -> Any:
        return enrichment(known[arm][one], unknown[arm][two], share)

    def gap(arm: str, one: NDArray[np.int64], two: NDArray[np.int64]) -> Any:
        return area(arm, one, two) - area(reference, one, two)

    for arm in known:
        entry = {"auroc": with_interval(partial(area, arm))}
        for share in SHARES:
            entry[f"enrichment_{share:.0%}".rstrip("%")] = with_interval(partial(enriched, arm, share))
        if reference in known and arm != reference:
            gained = with_interval(partial(gap, arm))
            entry["difference"] = {"difference": gained["value"], "low": gained["low"], "high": gained["high"]}
        result["arms"][arm] = entry
    return result


def found_curve(known: Numbers, unknown: Numbers, shares: Numbers) -> list[float]:
    """Return the shares of the known crystals that are found when `shares` of the unknown ones have been looked at."""
    limits = np.quantile(unknown, shares)
    return [float((known <= limit).mean()) for limit in limits]


def window_found(labels: Numbers, predicted: Numbers, low: float, high: float) -> dict[str, Any]:
    """Say how well a prediction finds the crystals whose label lies in a window.

    Args:
        labels: Shape (n,).
        predicted: Shape (n,).
        low: Lower end of the window.
        high: Its upper end.

    Returns:
        `n`, `inside` (labels in the window), `predicted` (predictions in it), `both`; `precision` (both / predicted),
        `recall` (both / inside), None where there is none; and `base`, the precision of a random choice.
    """
    truly, said = (labels >= low) & (labels <= high), (predicted >= low) & (predicted <= high)
    both = int((truly & said).sum())
    return {
        "n": len(labels), "inside": int(truly.sum()), "predicted": int(said.sum()), "both": both,
        "precision": both / int(said.sum()) if said.any() else None,
        "recall": both / int(truly.sum()) if truly.any() else None,
        "base": float(truly.mean()) if len(labels) else None,
    }  # fmt: skip


def stiffest_found(labels: Numbers, predicted: Numbers, limit: float, seed: int = 0) -> dict[str, Any]:
    """Say how well a prediction finds the crystals whose label is at least `limit`.

    Returns:
        `n`; `inside`, how many there are; `found`, how many of them are among as many with the highest predictions;
        `precision`, their share of these, and `base`, that of a random choice; `auroc` with its interval, None where
        fewer than two labels are so high, or lower.
    """
    truly = labels >= limit
    inside = int(truly.sum())
    best = np.argsort(-predicted, kind="stable")[:inside]
    hits = int(truly[best].sum())
    area = None
    if min(inside, len(labels) - inside) > 1:
        parts = [predicted[truly], predicted[~truly]]
        low, high = bootstrap_interval(auroc, parts, resamples=RESAMPLES, seed=seed)
        area = {"value": float(auroc(parts[0], parts[1])), "low": low, "high": high}
    return {
        "n": len(labels), "inside": inside, "found": hits, "precision": hits / inside if inside else None,
        "base": inside / len(labels) if len(labels) else None, "auroc": area,
    }  # fmt: skip
