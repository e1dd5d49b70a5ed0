"""Score a checkpoint on a labelled table: every row is scored, unlabelled or failed, and counted."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from cloud_hf.data.inputs import table_items
from cloud_hf.data.tables import numeric_column, read_table
from cloud_hf.debye import GAS_CONSTANT
from cloud_hf.errors import TableError
from cloud_hf.modeling_cloud import CloudForDebye
from cloud_hf.pipeline_cloud import CrystalPropertyPipeline
from cloud_hf.prediction import Prediction, predict_items
from cloud_hf.training.metrics import regression_metrics

__all__ = ["Evaluation", "evaluate_table"]


@dataclass(frozen=True)
class Evaluation:
    """Errors of a head on a table.

    Attributes:
        metrics: Flat: `mae`, `rmse`, `median_absolute_error` and `mad` in `unit`, `mae_mad`, `r2`, `n`, `n_failed`,
            `n_unlabelled`, `unit`, `head`, and `temperature` (K) for heat capacities.
        failures: Source and reason of each failed row.
        warnings: What looks wrong with the labels.
    """

    metrics: dict[str, Any]
    failures: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def evaluate_table(
    predictor: CrystalPropertyPipeline,
    data: str,
    label: str,
    head: str,
    n_atoms: str | None = None,
    temperature: float = 300.0,
    batch_size: int = 256,
) -> Evaluation:
    """Predict the rows of a table and compare with a label column.

    Args:
        predictor: From `load_predictor`.
        data: `.csv`, `.jsonl` or `.parquet`; structure columns win over a `scope` column.
        label: Column of labels in the head's unit; an empty cell is an unlabelled row.
        head: Name of the quantity.
        n_atoms: Column of atoms per cell; with it a heat-capacity label is per mole of cells, without it per mole
            of atoms.
        temperature: K, for heat capacities.
        batch_size: Strings per forward pass.

    Raises:
        TableError: A column is missing or not numeric.
    """
    table = read_table(data)
    labels = numeric_column(table, label, data).to_numpy()
    debye = isinstance(predictor.model, CloudForDebye) and head in predictor.model.config.debye_targets
    atoms = _atoms(table, n_atoms, data, debye)
    rows = np.flatnonzero(~np.isnan(labels))
    predictions = predict_items(predictor, list(table_items(table.iloc[rows], data)), temperature, batch_size)
    scored, failures = [], []
    values = np.full(len(rows), np.nan)
    for index, (row, prediction) in enumerate(zip(rows, predictions, strict=True)):
        reason = prediction.item.error
        if reason is None and not atoms[row] >= 1:
            source = prediction.item.source
            reason = f"{source}: column {n_atoms!r} must hold at least 1 atom per cell, not {atoms[row]}"
        if reason is not None:
            failures.append((prediction.item.source, reason))
            continue
        values[index] = _value(prediction, f"{head}_per_atom" if debye else head) * atoms[row]
        scored.append(index)
    metrics = regression_metrics(labels[rows][scored], values[scored])
    unit = _unit(predictor, head, debye, per_cell=n_atoms is not None)
    metrics |= {"n_failed": len(failures), "n_unlabelled": len(labels) - len(rows)}  # type: ignore[dict-item]
    extra = {"temperature": temperature} if debye else {}
    warnings = []
    if (
        head == "heat_capacity"
        and debye
        and len(rows)
        and np.median(labels[rows] / np.maximum(atoms[rows], 1)) > 3 * GAS_CONSTANT
    ):
        warnings.append(
            f"most labels in {label!r} exceed the Dulong-Petit limit of {3 * GAS_CONSTANT:.2f} J/(mol atom K); if they "
            "are per cell, name the column of atoms per cell with --n-atoms."
        )
    return Evaluation({**metrics, "unit": unit, "head": head, **extra}, failures, warnings)


def _atoms(table: pd.DataFrame, n_atoms: str | None, data: str, debye: bool) -> np.ndarray:
    if n_atoms is None:
        return np.ones(len(table))
    if not debye:
        raise TableError(f"--n-atoms {n_atoms!r} only applies to the extensive quantities of a Debye model.")
    return numeric_column(table, n_atoms, data).to_numpy()


def _value(prediction: Prediction, name: str) -> float:
    return float(next(quantity["value"] for quantity in prediction.quantities if quantity["name"] == name))


def _unit(predictor: CrystalPropertyPipeline, head: str, debye: bool, per_cell: bool) -> str:
    if debye:
        of = "cell" if per_cell else "atom"
        return f"J/(mol {of} K)" if head == "heat_capacity" else f"J/(mol {of})"
    config = predictor.model.config
    return str(config.target_units[config.target_names.index(head)])
