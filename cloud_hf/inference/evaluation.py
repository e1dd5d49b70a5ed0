"""Score a checkpoint on a labelled table: every row is scored, unlabelled or failed, and counted."""

from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from cloud_hf.data.inputs import Item, encode_items, table_items
from cloud_hf.data.tables import numeric_column, read_table
from cloud_hf.errors import TableError, spelled
from cloud_hf.inference.prediction import Prediction, Predictors, predict_encoded
from cloud_hf.metrics import regression_metrics
from cloud_hf.models.conformal import DEFAULT_LEVEL
from cloud_hf.models.debye import GAS_CONSTANT
from cloud_hf.models.modeling_cloud import CloudForDebye
from cloud_hf.models.modeling_properties import CloudForCrystalProperties
from cloud_hf.models.pipeline_cloud import CrystalPropertyPipeline, Quantity
from cloud_hf.scope import TIMEOUT

__all__ = ["Evaluation", "evaluate_table"]


@dataclass(frozen=True)
class Evaluation:
    """Errors of a head on a table.

    Attributes:
        metrics: Flat: `mae`, `rmse`, `median_absolute_error` and `mad` in `unit`, `mae_mad`, `r2`, `n`, `n_failed`,
            `n_unlabelled`, `unit`, `head`, `temperature` (K) for heat capacities, and, where the checkpoint has a
            calibration, `level`, `coverage` (share of the labels inside their intervals),
            `coverage_standard_error` (binomial, at a true coverage of `level`) and `mean_width` (in `unit`).
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
    processes: int = 1,
    timeout: float | None = TIMEOUT,
    structure: str | None = None,
) -> Evaluation:
    """Predict the rows of a table and compare with a label column.

    Args:
        predictor: From `load_predictor`.
        data: `.csv`, `.jsonl` or `.parquet`; structure columns win over a `scope` column.
        label: Column of labels in the head's unit; an empty cell is an unlabelled row.
        head: Name of the quantity.
        n_atoms: Column of atoms per cell, for extensive quantities: with it the labels of a Debye model are per mole
            of cells, without it per mole of atoms; the labels of a head that learned per atom (`target_transforms`)
            are of cells with that many atoms, without it of the primitive cells that the strings stand for.
        temperature: K, for heat capacities.
        batch_size: Strings per forward pass.
        processes: Worker processes that encode crystals.
        timeout: Longest time for encoding one crystal, s. `None` sets no limit.
        structure: Column of the crystals, as for `cloud_hf.predict`.

    Raises:
        TableError: A column is missing or not numeric.
    """
    table = read_table(data)
    labels = numeric_column(table, label, data).to_numpy()
    debye = _is_thermal(predictor.model, head)
    atoms = _atoms(table, n_atoms, data, debye or _learned_per_atom(predictor, head))
    rows = np.flatnonzero(~np.isnan(labels))
    items = table_items(table.iloc[rows], data, column=structure)
    encoded = encode_items(items, predictor.encoder, processes, timeout)
    if atoms is not None:
        encoded = map(_with_atoms, encoded, atoms[rows], repeat(n_atoms))
    shown = tqdm(encoded, total=len(rows), desc="evaluate", unit="crystal", disable=None)
    name = head if not debye else f"{head}_per_atom" if atoms is None else f"{head}_per_cell"
    scored, failures = [], []
    values, ends = np.full(len(rows), np.nan), np.full((len(rows), 2), np.nan)
    for index, prediction in enumerate(
        predict_encoded(Predictors([predictor], [[head]]), shown, temperature, batch_size)
    ):
        if prediction.item.error is not None:
            failures.append((prediction.item.source, str(prediction.item.error)))
            continue
        quantity = _quantity(prediction, name)
        values[index] = quantity["value"]
        if "low" in quantity:
            ends[index] = quantity["low"], quantity["high"]
        scored.append(index)
    metrics = regression_metrics(labels[rows][scored], values[scored])
    unit = _unit(predictor, head, debye, per_cell=n_atoms is not None)
    metrics |= {"n_failed": len(failures), "n_unlabelled": len(labels) - len(rows)}
    extra = {"temperature": temperature} if debye else {}
    extra |= _coverage(labels[rows][scored], ends[scored])
    warnings = []
    per_atom = labels[rows] if atoms is None else labels[rows] / np.maximum(atoms[rows], 1)
    if head == "heat_capacity" and debye and len(rows) and np.median(per_atom) > 3 * GAS_CONSTANT:
        warnings.append(
            f"most labels in {label!r} exceed the Dulong-Petit limit of {3 * GAS_CONSTANT:.2f} J/(mol atom K); if they "
            + spelled("are per cell, name the column of atoms per cell with `n_atoms`.", "n_atoms")
        )
    return Evaluation({**metrics, "unit": unit, "head": head, **extra}, failures, warnings)


def _is_thermal(model: Any, head: str) -> bool:
    """Whether a head's labels are of a temperature, per atom or per cell."""
    if isinstance(model, CloudForCrystalProperties):
        return head == "heat_capacity"
    return isinstance(model, CloudForDebye) and head in model.config.debye_targets


def _learned_per_atom(predictor: CrystalPropertyPipeline, head: str) -> bool:
    config = predictor.model.config
    transforms = dict(zip(config.target_names, config.target_transforms or [], strict=False))
    return "per_atom" in transforms.get(head, "")


def _atoms(table: pd.DataFrame, n_atoms: str | None, data: str, extensive: bool) -> np.ndarray | None:
    if n_atoms is None:
        return None
    if not extensive:
        raise TableError(
            f"`n_atoms` {n_atoms!r} only applies to extensive quantities: those of a Debye model, and targets with the "
            "transform per_atom or log_per_atom.",
            flag="n_atoms",
        )
    return numeric_column(table, n_atoms, data).to_numpy()


def _with_atoms(item: Item, atoms: float, column: str | None) -> Item:
    """Give the item the number of atoms of the cell that its label is for, which need not be primitive."""
    if item.error is None and not 1 <= atoms < np.inf:
        return item.failed(TableError(f"column {column!r} must hold at least 1 atom per cell, not {atoms}"))
    return replace(item, n_atoms=float(atoms))


def _quantity(prediction: Prediction, name: str) -> Quantity:
    return next(quantity for quantity in prediction.quantities if quantity["name"] == name)


def _coverage(labels: NDArray[np.float64], ends: NDArray[np.float64]) -> dict[str, float]:
    """How often and how tightly the intervals hold the labels; nothing without intervals."""
    if not len(labels) or np.isnan(ends).any():
        return {}
    inside = (labels >= ends[:, 0]) & (labels <= ends[:, 1])
    return {
        "level": DEFAULT_LEVEL,
        "coverage": float(inside.mean()),
        "coverage_standard_error": float(np.sqrt(DEFAULT_LEVEL * (1 - DEFAULT_LEVEL) / len(labels))),
        "mean_width": float((ends[:, 1] - ends[:, 0]).mean()),
    }


def _unit(predictor: CrystalPropertyPipeline, head: str, debye: bool, per_cell: bool) -> str:
    if debye:
        of = "cell" if per_cell else "atom"
        return f"J/(mol {of} K)" if head == "heat_capacity" else f"J/(mol {of})"
    config = predictor.model.config
    return str(config.target_units[config.target_names.index(head)])
