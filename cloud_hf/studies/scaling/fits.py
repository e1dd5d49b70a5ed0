"""What the cells of the scaling study say together: one law, power laws of slices, the frontier of compute."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_hf.studies.scaling.power_laws import (
    MIN_LEVELS,
    LossLaw,
    PowerLaw,
    bootstrap,
    fit_loss_law,
    fit_power_law,
    frontier,
    interval,
)

__all__ = ["Fits", "fit_cells"]

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Fits:
    """Fits to the cells.

    Attributes:
        law: Of all cells; None where the grid has fewer than three model or corpus sizes.
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
            "by_corpus": {str(name): asdict(found) for name, found in self.by_corpus.items()},
            "by_model": {name: asdict(found) for name, found in self.by_model.items()},
            "frontier": self.frontier,
            "by_compute": asdict(self.by_compute) if self.by_compute else None,
            "prediction_of_the_largest": self.prediction,
        }


def fit_cells(cells: Sequence[dict[str, Any]], resamples: int, seed: int) -> Fits:
    """Fit everything that the grid is large enough for.

    Args:
        cells: From `train_cell`.
        resamples: Fits of the bootstrap.
        seed: Of the bootstrap.
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
