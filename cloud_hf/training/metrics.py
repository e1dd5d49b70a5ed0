"""Errors of predictions, in the unit of the label."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cloud_hf.data.token_classes import TOKEN_CLASSES, TokenClasses

__all__ = ["METRICS_FILE", "mlm_metrics", "regression_metrics"]

METRICS_FILE = "metrics.json"
"""Errors on the training and validation rows, beside the weights of a fine-tuned checkpoint."""


def regression_metrics(labels: ArrayLike, predictions: ArrayLike) -> dict[str, float | None]:
    """Compare predictions with labels.

    Args:
        labels: Finite numbers, shape (n,).
        predictions: Finite numbers, shape (n,).

    Returns:
        `mae`, `rmse` and `median_absolute_error` in the unit of the labels; `mae_mad` = MAE / MAD, where MAD = mean
        |y - mean(y)| over the same rows is the error of the mean predictor; `r2`; `mad`; `n`. A ratio whose
        denominator is zero, and everything for n = 0, is None.
    """
    y: NDArray[np.float64] = np.asarray(labels, dtype=np.float64)
    p: NDArray[np.float64] = np.asarray(predictions, dtype=np.float64)
    if y.shape != p.shape or y.ndim != 1:
        raise ValueError(f"labels {y.shape} and predictions {p.shape} must be vectors of the same length.")
    if len(y) == 0:
        return dict.fromkeys(("mae", "mae_mad", "rmse", "r2", "median_absolute_error", "mad")) | {"n": 0}
    error = np.abs(p - y)
    mad = float(np.abs(y - y.mean()).mean())
    variance = float(((y - y.mean()) ** 2).sum())
    return {
        "mae": float(error.mean()),
        "mae_mad": float(error.mean()) / mad if mad > 0 else None,
        "rmse": float(np.sqrt((error**2).mean())),
        "r2": 1.0 - float((error**2).sum()) / variance if variance > 0 else None,
        "median_absolute_error": float(np.median(error)),
        "mad": mad,
        "n": len(y),
    }


def mlm_metrics(prediction: Any, classes: TokenClasses | None = None) -> dict[str, float]:
    """Perplexity and accuracy over the masked words, each word counted once.

    Args:
        prediction: `EvalPrediction` whose predictions are (best ids, nats), each of shape (rows, length), and whose
            label ids have the same shape with -100 where nothing is asked. With `classes` it also has the inputs.
        classes: Also count each class of `TOKEN_CLASSES` by itself, under names such as `perplexity_wyckoff`; a
            class of which nothing was asked has no entry.
    """
    best, nats = prediction.predictions
    labels = prediction.label_ids
    asked = labels != -100
    metrics = _masked_words(best[asked], nats[asked], labels[asked])
    if classes is not None:
        ids = np.where(asked, labels, prediction.inputs)
        of_token = classes(np.maximum(ids, 0).ravel(), np.arange(len(ids)) * ids.shape[1]).reshape(ids.shape)
        for index, name in enumerate(TOKEN_CLASSES):
            chosen = asked & (of_token == index)
            if chosen.any():
                found = _masked_words(best[chosen], nats[chosen], labels[chosen])
                metrics |= {f"{metric}_{name}": value for metric, value in found.items()}
    return metrics


def _masked_words(best: Any, nats: Any, labels: Any) -> dict[str, float]:
    return {
        "perplexity": float(np.exp(nats.mean(dtype=np.float64))),
        "masked_accuracy": float((best == labels).mean()),
        "masked_words": int(labels.size),
    }
