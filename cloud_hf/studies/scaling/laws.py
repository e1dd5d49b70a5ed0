"""Power laws of a loss: what parameters, data and compute are worth, with intervals.

The law of two variables is that of Hoffmann et al. (2022, "Training compute-optimal large language models", eq. 2),
L(N, D) = E + A / N^a + B / D^b, fitted as there: least squares of ln L with Huber's loss from many starts.
"""

from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares
from scipy.stats import linregress, t

from cloud_hf.errors import StudyError

__all__ = [
    "EXPONENT_RANGE", "Fits", "LossLaw", "PowerLaw", "bootstrap", "fit_cells", "fit_loss_law", "fit_power_law",
    "frontier", "interval",
]  # fmt: skip

EXPONENT_RANGE = (0.01, 3.0)
"""Exponents are looked for here; one at an end of it is not determined by the losses."""

HUBER_DELTA = 1e-3
"""Of residuals of ln L (Hoffmann et al. 2022, section 3.3)."""

MIN_LEVELS = 3
"""Different values of N and of D below which five numbers cannot be told apart."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class LossLaw:
    """L(N, D) = E + A / N^a + B / D^b.

    Attributes:
        floor: E, the loss that neither parameters nor data take away, in the unit of the loss.
        parameter_factor: A.
        parameter_exponent: a.
        data_factor: B.
        data_exponent: b.
    """

    floor: float
    parameter_factor: float
    parameter_exponent: float
    data_factor: float
    data_exponent: float

    def __call__(self, parameters: ArrayLike, data: ArrayLike) -> Numbers:
        """Return the loss of models by their numbers of parameters and of tokens that they were trained on."""
        of_size = self.parameter_factor * np.asarray(parameters, dtype=float) ** -self.parameter_exponent
        return np.asarray(
            self.floor + of_size + self.data_factor * np.asarray(data, dtype=float) ** -self.data_exponent
        )

    @property
    def allocation(self) -> tuple[float, float]:
        """Exponents p and q of the sizes that are best for a budget C = 6 N D: N ~ C^p, D ~ C^q, p + q = 1."""
        total = self.parameter_exponent + self.data_exponent
        return self.data_exponent / total, self.parameter_exponent / total

    def best(self, compute: ArrayLike) -> Numbers:
        """Return the lowest loss for C = 6 N D operations (Hoffmann et al. 2022, eq. 4)."""
        a, b = self.parameter_exponent, self.data_exponent
        ratio = (a * self.parameter_factor / (b * self.data_factor)) ** (1 / (a + b))
        product = np.asarray(compute, dtype=float) / 6
        of_size, of_data = self.allocation
        return self(ratio * product**of_size, product**of_data / ratio)


@dataclass(frozen=True)
class PowerLaw:
    """Y = factor * x^-exponent, a straight line in logarithms.

    Attributes:
        factor: Y at x = 1.
        exponent: Positive where y falls.
        low: Lower end of the 95 % interval of the exponent, None with fewer than three points.
        high: Its upper end.
        n: Points.
    """

    factor: float
    exponent: float
    low: float | None
    high: float | None
    n: int

    def __call__(self, x: ArrayLike) -> Numbers:
        """Return y."""
        return np.asarray(self.factor * np.asarray(x, dtype=float) ** -self.exponent)


def fit_power_law(x: ArrayLike, y: ArrayLike) -> PowerLaw:
    """Fit a straight line to ln y over ln x by ordinary least squares; the interval is Student's.

    Args:
        x: Positive, at least two different, shape (n,).
        y: Positive, shape (n,).
    """
    line = linregress(np.log(np.asarray(x, dtype=float)), np.log(np.asarray(y, dtype=float)))
    n = np.size(x)
    low = high = None
    if n > 2:
        half = float(t.ppf(0.975, n - 2) * line.stderr)
        low, high = float(-line.slope - half), float(-line.slope + half)
    return PowerLaw(float(np.exp(line.intercept)), float(-line.slope), low, high, n)


def fit_loss_law(parameters: ArrayLike, data: ArrayLike, loss: ArrayLike, start: LossLaw | None = None) -> LossLaw:
    """Fit E, A, a, B and b.

    Args:
        parameters: N of each training, shape (n,).
        data: D of each training, shape (n,).
        loss: Its loss, positive, shape (n,).
        start: Begin here and nowhere else, which is faster; None: from 27 starts, of which the best is kept.

    Raises:
        StudyError: Fewer than three different N or D.
    """
    size, amount, known = (np.asarray(values, dtype=float) for values in (parameters, data, loss))
    if min(len(np.unique(size)), len(np.unique(amount))) < MIN_LEVELS:
        raise StudyError(f"A law of parameters and data needs at least {MIN_LEVELS} different sizes of each.")
    # factors at the middle of the grid: nearly independent of the exponents
    middle = np.exp(np.log(size).mean()), np.exp(np.log(amount).mean())
    of_size, of_data, target = np.log(size / middle[0]), np.log(amount / middle[1]), np.log(known)

    def residuals(values: Numbers) -> Numbers:
        floor, size_term, size_exponent, data_term, data_exponent = values
        terms = np.exp(size_term - size_exponent * of_size) + np.exp(data_term - data_exponent * of_data)
        return np.asarray(np.log(floor + terms) - target)

    spread = float(known.max() - known.min()) or 0.01 * float(known.min())
    starts = [
        (share * known.min(), np.log(spread / 2), of_parameters, np.log(spread / 2), of_tokens)
        for share in (0.3, 0.7, 0.95) for of_parameters in (0.15, 0.5, 1.0) for of_tokens in (0.15, 0.5, 1.0)
    ]  # fmt: skip
    if start is not None:
        factors = (
            np.log(start.parameter_factor) - start.parameter_exponent * np.log(middle[0]),
            np.log(start.data_factor) - start.data_exponent * np.log(middle[1]),
        )
        starts = [(start.floor, factors[0], start.parameter_exponent, factors[1], start.data_exponent)]
    lowest = np.array([0.0, -20.0, EXPONENT_RANGE[0], -20.0, EXPONENT_RANGE[0]])
    highest = np.array([known.min(), 5.0, EXPONENT_RANGE[1], 5.0, EXPONENT_RANGE[1]])
    fits = [
        least_squares(
            residuals, np.clip(values, lowest + 1e-6, highest - 1e-6), bounds=(lowest, highest), loss="huber",
            f_scale=HUBER_DELTA, x_scale=np.array([spread, 1.0, 0.3, 1.0, 0.3]), max_nfev=300,
        )
        for values in starts
    ]  # fmt: skip
    floor, size_term, size_exponent, data_term, data_exponent = min(fits, key=lambda fit: fit.cost).x.tolist()
    return LossLaw(
        floor, float(np.exp(size_term + size_exponent * np.log(middle[0]))), size_exponent,
        float(np.exp(data_term + data_exponent * np.log(middle[1]))), data_exponent,
    )  # fmt: skip


def bootstrap(
    parameters: ArrayLike, data: ArrayLike, loss: ArrayLike, fitted: LossLaw, resamples: int = 400, seed: int = 0
) -> list[LossLaw]:
    """Fit the law to trainings drawn with replacement; draws with fewer than three different N or D are drawn again.

    Args:
        parameters: N of each training, shape (n,).
        data: D of each training, shape (n,).
        loss: Its loss, shape (n,).
        fitted: The law of all of them, where every fit begins.
        resamples: Fits.
        seed: Seed of the draws.
    """
    columns = np.stack([np.asarray(values, dtype=float) for values in (parameters, data, loss)])
    chance = np.random.default_rng(seed)
    laws: list[LossLaw] = []
    while len(laws) < resamples:
        drawn = columns[:, chance.integers(0, columns.shape[1], columns.shape[1])]
        if min(len(np.unique(drawn[0])), len(np.unique(drawn[1]))) >= MIN_LEVELS:
            laws.append(fit_loss_law(drawn[0], drawn[1], drawn[2], start=fitted))
    return laws


def interval(fitted: LossLaw, laws: Sequence[LossLaw]) -> dict[str, dict[str, Any]]:
    """Return each number of the law, and of its best allocation of compute, with its 95 % interval.

    Returns:
        `floor`, `parameter_exponent`, `data_exponent`, `best_parameters` and `best_data` (the exponents of
        `LossLaw.allocation`): `value`, `low`, `high`, and `informative`: whether the interval neither spans more than a
        factor of two nor reaches an end of what was looked for.
    """
    every = np.array([(*astuple(law), *law.allocation) for law in laws])
    values = (*astuple(fitted), *fitted.allocation)
    intervals: dict[str, dict[str, Any]] = {}
    for name, column in {"floor": 0, "parameter_exponent": 2, "data_exponent": 4, "best_parameters": 5,
                         "best_data": 6}.items():  # fmt: skip
        low, high = (float(end) for end in np.quantile(every[:, column], (0.025, 0.975)))
        inside = column not in (2, 4) or (low > 1.01 * EXPONENT_RANGE[0] and high < 0.99 * EXPONENT_RANGE[1])
        intervals[name] = {"value": values[column], "low": low, "high": high,
                       "informative": bool(inside and low > 0 and high <= 2 * low)}  # fmt: skip
    return intervals


def frontier(compute: ArrayLike, loss: ArrayLike) -> list[int]:
    """Return the trainings of which no cheaper or equally dear one has a lower loss, by rising compute.

    Args:
        compute: Operations of each training, shape (n,).
        loss: Its loss, shape (n,).
    """
    cost, reached = np.asarray(compute, dtype=float), np.asarray(loss, dtype=float)
    best: list[int] = []
    for index in np.lexsort((reached, cost)).tolist():
        if not best or reached[index] < reached[best[-1]]:
            best.append(index)
    return best


@dataclass(frozen=True)
class Fits:
    """Fits to the cells.

    Attributes:
        law: Law of all cells; None where the grid has fewer than three model or corpus sizes.
        laws: The bootstrap's, empty without a law.
        by_corpus: Loss against parameters for each corpus (strings), where there are two model sizes or more.
        by_model: Loss against tokens seen for each model, where there are two corpora or more.
        frontier: Cells that no cheaper one beats, by rising compute.
        by_compute: Loss of these against compute.
        prediction: The law of the cells without the largest model and the largest corpus, against what these gave;
            None where too little is left.
    """

    law: LossLaw | None
    laws: list[LossLaw]
    by_corpus: dict[int, PowerLaw]
    by_model: dict[str, PowerLaw]
    frontier: list[int]
    by_compute: PowerLaw | None
    prediction: dict[str, float] | None

    def as_json(self) -> dict[str, Any]:
        """Return what `results.json` holds."""
        return {
            "law": asdict(self.law) if self.law else None,
            "intervals": interval(self.law, self.laws) if self.law else None,
            "resamples": len(self.laws),
            "by_corpus": {str(name): asdict(law) for name, law in self.by_corpus.items()},
            "by_model": {name: asdict(law) for name, law in self.by_model.items()},
            "frontier": self.frontier,
            "by_compute": asdict(self.by_compute) if self.by_compute else None,
            "prediction_of_the_largest": self.prediction,
        }


def fit_cells(cells: Sequence[dict[str, Any]], resamples: int, seed: int) -> Fits:
    """Fit everything that the grid is large enough for.

    Args:
        cells: What `train_cell` returned.
        resamples: Fits of the bootstrap.
        seed: Seed of the bootstrap.
    """
    names = np.array([f"{cell['width']}x{cell['layers']}" for cell in cells])
    strings = np.array([cell["strings"] for cell in cells])
    size, data, flops, loss = (
        np.array([cell[key] for cell in cells], dtype=float)
        for key in ("parameters", "tokens_seen", "flops", "loss")
    )  # fmt: skip
    law, laws = None, []
    if _fits(size, data):
        law = fit_loss_law(size, data, loss)
        laws = bootstrap(size, data, loss, law, resamples, seed)
    best = frontier(flops, loss)
    return Fits(
        law, laws,
        {n: fit_power_law(size[strings == n], loss[strings == n]) for n in sorted(set(strings.tolist()))
         if len(set(size[strings == n])) > 1},
        {name: fit_power_law(data[names == name], loss[names == name]) for name in dict.fromkeys(names.tolist())
         if len(set(data[names == name])) > 1},
        best, fit_power_law(flops[best], loss[best]) if len(best) > 1 else None, _prediction(size, data, loss),
    )  # fmt: skip


def _fits(size: Numbers, data: Numbers) -> bool:
    return min(len(np.unique(size)), len(np.unique(data))) >= MIN_LEVELS


def _prediction(size: Numbers, data: Numbers, loss: Numbers) -> dict[str, float] | None:
    largest = (size == size.max()) | (data == data.max())
    if not _fits(size[~largest], data[~largest]):
        return None
    law = fit_loss_law(size[~largest], data[~largest], loss[~largest])
    gap = law(size[largest], data[largest]) / loss[largest] - 1
    corner = (size == size.max()) & (data == data.max())
    return {
        "fitted_cells": int((~largest).sum()), "predicted_cells": int(largest.sum()),
        "mean_relative_error": float(np.abs(gap).mean()), "mean_relative_bias": float(gap.mean()),
        "largest_predicted": float(law(size[corner], data[corner]).mean()),
        "largest_measured": float(loss[corner].mean()),
    }  # fmt: skip
