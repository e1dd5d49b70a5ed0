"""Statistics of results: bootstrap intervals and the area under the ROC curve, both scipy's."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import bootstrap, mannwhitneyu

__all__ = ["auroc", "bootstrap_interval", "mean_interval", "ratio_interval"]

RESAMPLES = 10_000

MOST_NUMBERS = 2_000_000
"""Numbers that are drawn at a time."""

Numbers = NDArray[np.float64]


def bootstrap_interval(
    statistic: Callable[..., Any],
    samples: Sequence[ArrayLike],
    *,
    paired: bool = False,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the ends of a percentile bootstrap interval.

    Args:
        statistic: Gives a number for samples along `axis`, as `numpy.mean` does.
        samples: One or more, each of shape (n,).
        paired: The samples belong together row by row and are drawn together; otherwise each is drawn by itself.
        resamples: How often to draw.
        level: Of the interval.
        seed: The same seed gives the same interval.

    Returns:
        The lower and the upper end. A sample of one row tells nothing of its spread: then both are the statistic.
    """
    data = [np.asarray(sample, dtype=float) for sample in samples]
    longest = max(map(len, data))
    if longest == 1:
        value = float(statistic(*data, axis=-1))
        return value, value
    interval = bootstrap(
        data, statistic, n_resamples=resamples, batch=max(1, MOST_NUMBERS // longest), vectorized=True, paired=paired,
        axis=-1, confidence_level=level, method="percentile", rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return float(interval.low), float(interval.high)


def mean_interval(values: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of the mean over rows, shape (n,)."""
    return bootstrap_interval(np.mean, [values], resamples=resamples, seed=seed)


def ratio_interval(
    above: ArrayLike, below: ArrayLike, *, paired: bool = True, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % interval of mean(above) / mean(below), shapes (n,) and (m,); paired rows have both, so n = m."""
    return bootstrap_interval(_ratio, [above, below], paired=paired, resamples=resamples, seed=seed)


def _ratio(above: Numbers, below: Numbers, axis: int = -1) -> Any:
    return np.mean(above, axis=axis) / np.mean(below, axis=axis)


def auroc(higher: ArrayLike, lower: ArrayLike, axis: int = -1) -> Any:
    """Return the area under the ROC curve: the probability that of two values that from `higher` is the larger one.

    Ties count half. It is the statistic of Mann and Whitney over the number of pairs.

    Args:
        higher: Shape (n,), or more axes.
        lower: Shape (m,), or more axes.
        axis: Along which the values lie.

    Returns:
        From 0 to 1, a number for each of the other axes.
    """
    one, two = np.asarray(higher, dtype=float), np.asarray(lower, dtype=float)
    pairs = one.shape[axis] * two.shape[axis]
    return mannwhitneyu(one, two, method="asymptotic", axis=axis).statistic / pairs
