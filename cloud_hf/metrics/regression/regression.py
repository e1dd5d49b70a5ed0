"""MAE, RMSE, R2, median absolute error and MAE:MAD, an `evaluate` module."""

from typing import Any

import datasets
import evaluate

from cloud_hf.metrics import regression_metrics

_DESCRIPTION = "Errors of predicted properties: MAE, MAE:MAD, RMSE, R2 and median absolute error."
_INPUTS = """
Args:
    predictions: Finite numbers, shape (n,).
    references: Labels in the same unit, finite, shape (n,).

Returns:
    `mae`, `rmse`, `median_absolute_error` and `mad` in the unit of the labels, `mae_mad`, `r2` and `n`; a ratio whose
    denominator is zero is None.
"""
_CITATION = ""


class Regression(evaluate.Metric):
    """Every regression metric of CLOUD in one pass."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("float64")}
            ),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float | None]:
        return regression_metrics(references, predictions)
