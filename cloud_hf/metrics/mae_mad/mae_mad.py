"""MAE over MAD, an `evaluate` module: 1 for the mean predictor, 0 for a perfect one."""

from typing import Any

import datasets
import evaluate

from cloud_hf.metrics import regression_metrics

_DESCRIPTION = (
    "Mean absolute error divided by the mean absolute deviation of the labels from their mean, over the same rows."
)
_INPUTS = """
Args:
    predictions: Finite numbers, shape (n,).
    references: Labels in the same unit, finite, shape (n,).

Returns:
    `mae_mad`; None if all labels are equal or there are none.
"""
_CITATION = ""


class MaeMad(evaluate.Metric):
    """MAE:MAD, which compares errors of properties with different units and spreads."""

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
        return {"mae_mad": regression_metrics(references, predictions)["mae_mad"]}
