"""Fit intervals to out-of-sample predictions, and measure how often and how tightly they hold the truth."""

import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_hf.errors import CloudError
from cloud_hf.models.conformal import (
    DEFAULT_LEVEL,
    ELEMENTS,
    LEVELS,
    SCALES,
    Difficulty,
    TargetCalibration,
    string_features,
)
from cloud_hf.models.debye import effective_debye_temperature, heat_capacity

__all__ = [
    "LabelledPredictions", "coverage", "cross_coverage", "fit_target", "halves", "quantity_width", "refit_coverage",
    "refit_target",
]  # fmt: skip

DIFFICULTY_SHARE = 1 / 3
"""Share of the rows that the difficulty is fitted to; the others give the quantiles."""

MOST_DIFFICULTY_ROWS = 5000

FEWEST_ROWS = 60
"""With fewer rows all crystals count as equally hard, and all rows give quantiles."""

PENALTIES = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
EXPONENTS = (0.0, 0.35, 0.7, 1.0)
KNOTS = (0.1, 0.3, 0.5, 0.7, 0.9)
FOLDS = 5
MOST = 20.0


@dataclass(frozen=True)
class LabelledPredictions:
    """Predictions of crystals that the model has not seen, and the truth.

    Attributes:
        scopes: SCOPE strings, n of them.
        predictions: Shape (n,); for heat capacities per mole of atoms.
        labels: In the same unit, shape (n,).
        temperature: K, shape (n,), for heat capacities; None otherwise.
    """

    scopes: Sequence[str]
    predictions: NDArray[np.float64]
    labels: NDArray[np.float64]
    temperature: NDArray[np.float64] | None = None

    def take(self, rows: NDArray[np.int64]) -> "LabelledPredictions":
        """Return some of the rows, in the order given."""
        kelvin = None if self.temperature is None else self.temperature[rows]
        return LabelledPredictions(
            [self.scopes[row] for row in rows], self.predictions[rows], self.labels[rows], kelvin
        )

    def __len__(self) -> int:
        return len(self.scopes)


def halves(scopes: Sequence[str], share: float, seed: int = 0) -> NDArray[np.bool_]:
    """Choose about a share of the rows by a hash of their strings, so that equal strings go together; shape (n,)."""
    hashes = [hashlib.sha256(f"{seed} {scope}".encode()).digest()[:8] for scope in scopes]
    return np.array([int.from_bytes(number, "big") < share * 2**64 for number in hashes], dtype=bool)


def fit_target(
    rows: LabelledPredictions,
    unit: str,
    scales: Sequence[str] = ("linear",),
    per_atom: bool = False,
    elements: Mapping[str, int] | None = None,
    seed: int = 0,
) -> TargetCalibration:
    """Fit the intervals of one target.

    A third of the rows gives the difficulty model, whose penalty, exponent and scale are those with the best interval
    score at 90 % (width, and what missed labels lie outside) in a cross-validation within that third. The other rows
    give the quantiles: the k-th smallest of their n scores with k = ceil((n + 1) level), which holds a new row with at
    least the probability `level`.

    Args:
        rows: Predictions that were made without knowledge of the labels; at least one.
        unit: Of the target.
        scales: Scales to choose from; `("debye",)` for heat capacities.
        per_atom: Whether the rows hold the values of whole cells divided by the number of atoms.
        elements: Training rows that hold each element, to be recorded.
        seed: Of the split into both parts.

    Raises:
        CloudError: There are no rows, a number that is not finite, or a scale that the predictions do not allow.
    """
    _check(rows, scales)
    values, errors, features = _prepared(rows)
    chosen = halves(rows.scopes, min(DIFFICULTY_SHARE, MOST_DIFFICULTY_ROWS / len(rows)), seed)
    if len(rows) < FEWEST_ROWS:
        chosen[:] = False
    scale, difficulty = _best(
        features[chosen],
        values[chosen],
        {key: errors[key][chosen] for key in scales},
        None if rows.temperature is None else rows.temperature[chosen],
    )
    rest = ~chosen
    predictions = values[rest] if scale == "linear" else np.log(values[rest])
    scores = errors[scale][rest] / difficulty(features[rest], predictions)
    quantiles: dict[str, float | None] = {}
    for level in LEVELS:
        value = _quantile(scores, level)
        quantiles[f"{level:g}"] = value if math.isfinite(value) else None
    nonnegative = scale == "linear" and bool((rows.labels >= 0).all())
    return TargetCalibration(
        unit,
        scale,
        quantiles,
        difficulty,
        int(rest.sum()),
        int(chosen.sum()),
        nonnegative,
        per_atom,
        dict(elements or {}),
    )


def refit_target(
    target: TargetCalibration, before: LabelledPredictions, after: LabelledPredictions
) -> tuple[TargetCalibration, float]:
    """Fit the intervals of weights that learned further than those which made the rows of a calibration.

    Weights that were fitted on more rows, or for longer, have smaller errors than the runs of folds that a calibration
    comes from, and its intervals would hold more than they promise. All quantiles are scaled by one number: the mean of
    |error| / difficulty of the further weights over that of the former, on rows that neither has seen.

    Args:
        target: From `fit_target`, on predictions like `before`.
        before: Predictions of rows that neither has seen, by runs like those of the calibration.
        after: Predictions of the same rows by the weights that learned further.

    Returns:
        The intervals, and the number.

    Raises:
        CloudError: There are no rows, numbers that are not finite, or errors of one side that are all zero.
    """
    earlier, later = (_scores(target, rows) for rows in (before, after))
    finite = np.isfinite(earlier) & np.isfinite(later)
    if not finite.any() or not earlier[finite].any() or not later[finite].any():
        raise CloudError("errors before and after learning further must be finite and not all zero.")
    ratio = float(later[finite].mean() / earlier[finite].mean())
    quantiles = {level: None if value is None else value * ratio for level, value in target.quantiles.items()}
    return replace(target, quantiles=quantiles), ratio


def refit_coverage(
    target: TargetCalibration, before: LabelledPredictions, after: LabelledPredictions, level: float = DEFAULT_LEVEL
) -> dict[str, Any]:
    """Measure the intervals of `refit_target`: each half of the rows gets those whose number is from the other half.

    Returns:
        As `coverage`, of all rows together, and `unscaled_coverage`, that of `target` as it is.
    """
    low, high = np.empty(len(after)), np.empty(len(after))
    first = halves(after.scopes, 0.5)
    for held in (np.flatnonzero(first), np.flatnonzero(~first)):
        others = np.setdiff1d(np.arange(len(after)), held)
        intervals, _ = refit_target(target, before.take(others), after.take(others))
        low[held], high[held] = _ends(intervals, after.take(held), level)
    unscaled = coverage(target, after, level)["coverage"]
    return {**_summary(low, high, after.labels, level), "unscaled_coverage": unscaled}


def quantity_width(
    target: TargetCalibration, rows: LabelledPredictions, factors: NDArray[np.float64]
) -> tuple[float, dict[str, Any]]:
    """Measure what half widths of heat capacities must be multiplied by, so that they hold another quantity.

    Args:
        target: From `fit_target`, of heat capacities.
        rows: Predictions at the temperature of the calibration; their labels are not asked.
        factors: By what all frequencies of each row must be multiplied to give the known value of the quantity.

    Returns:
        The conformal quantile, at the level 0.9, of |ln factor| over half widths; and `n`, `coverage`, in which each
        half of the crystals has the quantile of the other half, and `unscaled_coverage`, with half widths as they are.

    Raises:
        CloudError: There are no rows, or predictions that are not finite.
    """
    _check(rows, (target.scale,))
    theta, _, features = _prepared(rows)
    scores = np.abs(np.log(factors)) / target.half_width(features, theta)
    first = halves(rows.scopes, 0.5)
    inside = [
        scores[one] <= _quantile(scores[other], DEFAULT_LEVEL) for one, other in ((first, ~first), (~first, first))
    ]
    shares = {"coverage": np.concatenate(inside), "unscaled_coverage": scores <= 1}
    return _quantile(scores, DEFAULT_LEVEL), {"n": len(rows)} | {
        name: float(one.mean()) for name, one in shares.items()
    }


def _quantile(scores: NDArray[np.float64], level: float) -> float:
    """The smallest score that holds a new row with at least the probability `level`; infinite of too few rows."""
    rank = math.ceil((len(scores) + 1) * level - 1e-9)
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else math.inf


def _scores(target: TargetCalibration, rows: LabelledPredictions) -> NDArray[np.float64]:
    """|error| / difficulty of each row, up to a factor."""
    _check(rows, (target.scale,))
    values, errors, features = _prepared(rows)
    scores: NDArray[np.float64] = errors[target.scale] / target.half_width(features, values, LEVELS[0])
    return scores


def _check(rows: LabelledPredictions, scales: Sequence[str]) -> None:
    if not len(rows):
        raise CloudError("There are no labelled rows to calibrate with.")
    for name, array in (("predictions", rows.predictions), ("labels", rows.labels)):
        if array.shape != (len(rows),) or not np.isfinite(array).all():
            raise CloudError(f"{name} must be {len(rows)} finite numbers; leave rows without a label out.")
    if not scales or set(scales) - set(SCALES):
        raise CloudError(f"scales must be some of {', '.join(SCALES)}, not {', '.join(scales) or 'none'}.")
    if set(scales) - {"linear"} and (rows.predictions <= 0).any():
        raise CloudError("The scales log and debye are for positive predictions; use linear.")
    if ("debye" in scales) != (rows.temperature is not None):
        raise CloudError("Heat capacities need the scale debye and temperatures, other targets neither.")


def _prepared(
    rows: LabelledPredictions,
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]], NDArray[np.float64]]:
    """Predictions as the calibration takes them, sizes of the errors on each scale, and string features."""
    features = string_features(rows.scopes)
    if rows.temperature is not None:
        values = effective_debye_temperature(rows.predictions, rows.temperature, clip=True)
        truth = effective_debye_temperature(rows.labels, rows.temperature)
        errors = np.abs(np.log(values) - np.log(truth))
        return values, {"debye": np.where(np.isnan(errors), np.inf, errors)}, features
    errors = {"linear": np.abs(rows.predictions - rows.labels)}
    if (rows.predictions > 0).all():
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = np.abs(np.log(rows.predictions) - np.log(rows.labels))
        errors["log"] = np.where(np.isfinite(ratios) & (rows.labels > 0), ratios, np.inf)
    return rows.predictions, errors, features


def _best(
    features: NDArray[np.float64],
    values: NDArray[np.float64],
    errors: dict[str, NDArray[np.float64]],
    kelvin: NDArray[np.float64] | None,
) -> tuple[str, Difficulty]:
    """Choose scale, penalty and exponent by the interval score in a cross-validation."""
    choices: list[tuple[float, int, str, Difficulty]] = []
    for scale, error in errors.items():
        given = values if scale == "linear" else np.log(values)
        for penalty, exponent in itertools.product(PENALTIES, EXPONENTS):
            if (exponent == 0 and penalty != PENALTIES[-1]) or (len(values) < FEWEST_ROWS // 3 and exponent):
                continue
            out_of_fold = np.ones(len(values))
            for fold in range(FOLDS) if exponent else ():
                held = np.arange(len(values)) % FOLDS == fold
                fitted = _fit_difficulty(features[~held], given[~held], error[~held], penalty, exponent)
                out_of_fold[held] = fitted(features[held], given[held])
            score = _interval_score(scale, values, kelvin, error, out_of_fold)
            fitted = _fit_difficulty(features, given, error, penalty, exponent)
            choices.append((score, len(choices), scale, fitted))
    _, _, scale, difficulty = min(choices, key=lambda choice: choice[:2])
    return scale, difficulty


def _interval_score(
    scale: str,
    values: NDArray[np.float64],
    kelvin: NDArray[np.float64] | None,
    error: NDArray[np.float64],
    difficulty: NDArray[np.float64],
) -> float:
    """Mean interval score (Gneiting and Raftery 2007) of intervals that hold 90 % of these very rows.

    It adds to the width what a missed label lies outside, 2 / 0.1 times: width alone would favour intervals that are
    too narrow for difficult crystals and too wide for easy ones. Errors count as equally often of either sign.
    """
    if not len(values):
        return 0.0
    quantile = np.quantile(error / difficulty, DEFAULT_LEVEL, method="higher")
    if not np.isfinite(quantile):
        return math.inf
    width, needed = (_widths(scale, values, kelvin, half) for half in (quantile * difficulty, error))
    return float(np.mean(width + np.maximum(needed - width, 0.0) / (1 - DEFAULT_LEVEL)))


def _widths(
    scale: str, values: NDArray[np.float64], kelvin: NDArray[np.float64] | None, half: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Widths in the unit of the labels of intervals with half the width `half` on the scale of the errors."""
    if scale == "linear":
        return 2 * half
    half = np.minimum(half, MOST)
    if kelvin is None:
        return np.asarray(2 * values * np.sinh(half))
    soft, stiff = (heat_capacity(values * np.exp(sign * half), kelvin).numpy() for sign in (-1, 1))
    return np.asarray(soft - stiff)


def _fit_difficulty(
    features: NDArray[np.float64],
    predictions: NDArray[np.float64],
    errors: NDArray[np.float64],
    penalty: float,
    exponent: float,
) -> Difficulty:
    """Ridge regression of ln |error|; rows with an infinite error count as the largest finite one."""
    n_fractions = len(ELEMENTS)
    centre, scale = np.zeros(features.shape[1]), np.full(features.shape[1], 0.3)
    empty = Difficulty(centre.tolist(), scale.tolist(), [], 1.0, [0.0] * (len(centre) + 1), 0.0, 0.0, 0.0, 0.0)
    finite = errors[np.isfinite(errors)]
    if exponent == 0 or len(finite) < FOLDS:
        return empty
    others = features[:, n_fractions:]
    centre[n_fractions:], scale[n_fractions:] = others.mean(axis=0), np.maximum(others.std(axis=0), 1e-6)
    size = np.log(np.minimum(errors, finite.max()) + 0.1 * np.median(finite) + 1e-300)
    knots = np.unique(np.quantile(predictions, KNOTS))
    spread = float(max(predictions.std(), 1e-9))
    model = Difficulty(centre.tolist(), scale.tolist(), knots.tolist(), spread, [], 0.0, -np.inf, np.inf, exponent)
    design = model.design(features, predictions)
    middle, mean = design.mean(axis=0), float(size.mean())
    centred = design - middle
    gram = centred.T @ centred + penalty * np.eye(centred.shape[1])
    coefficients = np.linalg.solve(gram, centred.T @ (size - mean))
    fitted = centred @ coefficients
    lowest, highest = np.quantile(fitted, (0.01, 0.99))
    intercept = -float(middle @ coefficients)
    return Difficulty(
        centre.tolist(), scale.tolist(), knots.tolist(), spread, coefficients.tolist(), intercept, float(lowest),
        float(highest), exponent,
    )  # fmt: skip


def _ends(
    calibration: TargetCalibration, rows: LabelledPredictions, level: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ends of the intervals in the unit of the labels."""
    values, _, features = _prepared(rows)
    low, high = calibration.interval(features, values, level)
    if rows.temperature is None:
        return low, high
    # a stiffer crystal has the smaller heat capacity
    return tuple(heat_capacity(theta, rows.temperature).numpy() for theta in (high, low))  # type: ignore[return-value]


def coverage(calibration: TargetCalibration, rows: LabelledPredictions, level: float = DEFAULT_LEVEL) -> dict[str, Any]:
    """Measure intervals on rows that the calibration has not seen.

    Returns:
        `level`, `n`, `coverage` (share of the labels inside), `standard_error` (binomial, of a true coverage `level`),
        `within_two_standard_errors`, and `mean_width`, `median_width` in the unit of the labels.
    """
    low, high = _ends(calibration, rows, level)
    return _summary(low, high, rows.labels, level)


def _summary(
    low: NDArray[np.float64], high: NDArray[np.float64], labels: NDArray[np.float64], level: float
) -> dict[str, Any]:
    inside = (labels >= low) & (labels <= high)
    error = math.sqrt(level * (1 - level) / max(len(labels), 1))
    share = float(inside.mean())
    return {
        "level": level,
        "n": len(labels),
        "coverage": share,
        "standard_error": error,
        "within_two_standard_errors": bool(abs(share - level) <= 2 * error),
        "mean_width": float(np.mean(high - low)),
        "median_width": float(np.median(high - low)),
    }


def cross_coverage(
    rows: LabelledPredictions,
    unit: str,
    scales: Sequence[str] = ("linear",),
    folds: int = 5,
    level: float = DEFAULT_LEVEL,
) -> dict[str, Any]:
    """Measure the recipe on every row: each fold gets the intervals of a calibration on the other folds.

    Returns:
        As `coverage`, of all rows together.
    """
    hashes = [int.from_bytes(hashlib.sha256(f"fold {scope}".encode()).digest()[:8], "big") for scope in rows.scopes]
    fold = np.array([number % folds for number in hashes])
    low, high = np.full(len(rows), -np.inf), np.full(len(rows), np.inf)
    for number in range(folds):
        held = np.flatnonzero(fold == number)
        if len(held) and len(held) < len(rows):
            calibration = fit_target(rows.take(np.flatnonzero(fold != number)), unit, scales)
            low[held], high[held] = _ends(calibration, rows.take(held), level)
    return _summary(low, high, rows.labels, level)
