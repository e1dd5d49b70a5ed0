"""Errors of predictions, in the unit of the label."""

from typing import Any

import numpy as np

from cloud_hf.checkpoints.records import METRICS_FILE
from cloud_hf.data.token_classes import TOKEN_CLASSES, TokenClasses
from cloud_hf.metrics import regression_metrics

__all__ = ["METRICS_FILE", "mlm_metrics", "regression_metrics"]


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
                counts = _masked_words(best[chosen], nats[chosen], labels[chosen])
                metrics |= {f"{metric}_{name}": value for metric, value in counts.items()}
    return metrics


def _masked_words(best: Any, nats: Any, labels: Any) -> dict[str, float]:
    return {
        "perplexity": float(np.exp(nats.mean(dtype=np.float64))),
        "masked_accuracy": float((best == labels).mean()),
        "masked_words": int(labels.size),
    }
