"""Results in MatBench's own format, `results.json.gz`, for a submission to its leaderboard.

The form is that of `MatbenchBenchmark.to_file` of matbench 0.6: what its `from_file` demands, with the hash over
everything else, and for each fold predictions by id, parameters and the four scores of a regression.
"""

import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cloud_hf.errors import StudyError
from cloud_hf.files import new_file
from cloud_hf.studies.common.folds import FoldedTask

__all__ = ["SUBMISSION_FILE", "benchmark_hash", "fold_scores", "submission", "write_submission"]

SUBMISSION_FILE = "submission/results.json.gz"
BENCHMARK = "matbench_v0.1"
MATBENCH_VERSION = "0.6"
NEAR_ZERO = 1e-5
"""Labels below this are left out of the mean absolute percentage error, as in the benchmark."""


def submission(
    done: Sequence[tuple[FoldedTask, Sequence[Mapping[str, Any]]]], metadata: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the benchmark's record of these tasks.

    Args:
        done: Tasks with the cells of all five official folds.
        metadata: About the model, with names as keys.
    """
    tasks: dict[str, Any] = {}
    for task, cells in done:
        folds = {}
        for fold, cell in zip(task.folds, cells, strict=True):
            ids = [task.ids[row] for row in fold.test]
            predictions = [float(value) for value in cell["predictions"]["model"]]
            folds[f"fold_{fold.number}"] = {
                "data": dict(zip(ids, predictions, strict=True)),
                "parameters": {key: cell[key] for key in ("transform", "test_without_string", "n_validation")},
                "scores": fold_scores(cell["labels"], predictions),
            }
        tasks[f"matbench_{task.name}"] = {
            "@module": "matbench.task",
            "@class": "MatbenchTask",
            "benchmark_name": BENCHMARK,
            "dataset_name": f"matbench_{task.name}",
            "results": folds,
        }
    record: dict[str, Any] = {
        "@module": "matbench.bench",
        "@class": "MatbenchBenchmark",
        "version": MATBENCH_VERSION,
        "tasks": tasks,
        "user_metadata": dict(metadata),
        "benchmark_name": BENCHMARK,
        "datestamp": datetime.now(UTC).strftime("%Y.%m.%d %H:%M.%S"),
    }
    return record | {"hash": benchmark_hash(record)}


def benchmark_hash(record: Mapping[str, Any]) -> str:
    """SHA-256 of a record without its hash, as the benchmark checks it: JSON with the keys in order."""
    rest = {key: value for key, value in record.items() if key != "hash"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def fold_scores(labels: ArrayLike, predictions: ArrayLike) -> dict[str, float]:
    """The benchmark's scores of a regression: `mae`, `rmse`, `mape` (of labels away from zero) and `max_error`."""
    y, p = np.asarray(labels, dtype=float), np.asarray(predictions, dtype=float)
    error = np.abs(p - y)
    away = np.abs(y) > NEAR_ZERO
    return {
        "mae": float(error.mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "mape": float((error[away] / np.abs(y[away])).mean()) if away.any() else 0.0,
        "max_error": float(error.max()),
    }


def write_submission(record: Mapping[str, Any], path: Path) -> None:
    """Write a record as `.json.gz`.

    Raises:
        TableError: The folder cannot be written to.
    """
    with new_file(path, error=StudyError) as aside, gzip.open(aside, "wt", encoding="utf-8") as file:
        json.dump(record, file)
