"""Errors of predictions, in the unit of the label."""

from typing import Any

import numpy as np

from cloud_hf.metrics import regression_metrics

__all__ = ["METRICS_FILE", "mlm_metrics", "regression_metrics"]

METRICS_FILE = "metrics.json"
"""Errors on the training and validation rows, beside the weights of a fine-tuned checkpoint."""


def mlm_metrics(prediction: Any) -> dict[str, float]:
    """Perplexity and accuracy over the masked words, each word counted once.

    Args:
        prediction: `EvalPrediction` whose predictions are (best ids, nats), each of shape (rows, length), and whose
            label ids have the same shape with -100 where nothing is asked.
    """
    best, nats = prediction.predictions
    labels = prediction.label_ids
    asked = labels != -100
    return {
        "perplexity": float(np.exp(nats[asked].mean())),
        "masked_accuracy": float((best[asked] == labels[asked]).mean()),
        "masked_words": int(asked.sum()),
    }
