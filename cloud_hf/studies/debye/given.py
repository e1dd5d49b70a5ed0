"""Predictions that `cloud-hf finetune` wrote, in place of the study's own trainings."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud_hf.data.tables import read_table
from cloud_hf.errors import StudyError
from cloud_hf.files import read_json
from cloud_hf.studies.common.crystals import Crystals
from cloud_hf.studies.common.fitting import StudyTarget, predict_quantity, trees
from cloud_hf.studies.common.heat_capacities import UNIT
from cloud_hf.studies.debye.rows import KNOWN, DebyeRows
from cloud_hf.studies.debye.scores import Predictions, clipped
from cloud_hf.studies.debye.temperatures import theta_of

__all__ = ["given_predictions"]

THETA = "debye_temperature (K)"

Numbers = NDArray[np.float64]


def given_predictions(path: str, checkpoints: Sequence[str], rows: DebyeRows) -> tuple[DebyeRows, Predictions]:
    """Read out-of-fold predictions of a model and of trees, and predict the measured crystals.

    Args:
        path: `predictions.csv` of `cloud-hf finetune` with folds and trees, of the table of `rows`.
        checkpoints: Models for measured crystals that are not in the table; their mean counts.
        rows: All rows.

    Returns:
        The rows with the folds of the predictions, and the predictions: `debye` and `trees`. A measured crystal that is
        in the table is predicted by the model that had not learned from it, others by the checkpoints, and by trees
        that have learned all rows.

    Raises:
        StudyError: Columns are missing, the predictions are of another table, or of a head with two branches.
        CheckpointError: A checkpoint that cannot be used.
    """
    column, trees_column, label_column = (
        f"{rows.label}{kind} ({UNIT})" for kind in (" predicted", " trees", "")
    )  # fmt: skip
    frame = read_table(path)
    missing = [name for name in ("row", "fold", column, trees_column, label_column) if name not in frame.columns]
    if missing:
        raise StudyError(
            f"there is no column {missing[0]!r}. Needed are the predictions of `cloud-hf finetune` with folds "
            f"and --baselines true, of the target '{rows.label}:{UNIT}'.",
            source=path,
        )
    _refuse_second_branch(Path(path))
    if "part" in frame.columns:
        frame = frame[frame["part"] == "test"]
    frame = frame.sort_values("row", ignore_index=True)
    place_of = {int(row): place for place, row in enumerate(rows.crystals.position[: len(rows)])}
    if frame["row"].duplicated().any() or not {*frame["row"].astype(int)} <= {*place_of}:
        raise StudyError("the rows are not those of the table, each once.", source=path)
    places = np.array([place_of[row] for row in frame["row"].astype(int)], dtype=np.int64)
    if np.abs(frame[label_column].to_numpy() - rows.labels[places]).max() > 1e-6:
        raise StudyError(
            "the labels are not those of the table; predict the rows of that table in its order.", source=path
        )
    fold = np.full(len(rows), -1, dtype=np.int64)
    fold[places] = frame["fold"].to_numpy(dtype=np.int64)
    values = {"debye": frame[column].to_numpy(dtype=float), "trees": frame[trees_column].to_numpy(dtype=float)}
    atoms = rows.n_atoms[places]
    thetas = {arm: theta_of(predicted / atoms) for arm, predicted in values.items()}
    if THETA in frame.columns:
        thetas["debye"] = frame[THETA].to_numpy(dtype=float)
    thetas["label"] = theta_of(rows.labels[places] / atoms)
    known, sources, models = _known(
        rows, checkpoints, dict(zip(places.tolist(), range(len(places)), strict=True)), thetas
    )
    predictions = Predictions(
        rows=places, values=values, thetas=thetas, clipped=clipped(values, atoms), known=known, models=models,
        consistency={}, train_rows=[int((fold != number).sum()) for number in sorted(set(fold[places].tolist()))],
        seconds={}, sources=sources,
    )  # fmt: skip
    return replace(rows, fold=fold), predictions


def _refuse_second_branch(path: Path) -> None:
    """One Debye temperature does not describe a head with two branches."""
    beside = path.parent / "run.json"
    settings = read_json(beside, error=StudyError).get("settings", {}) if beside.is_file() else {}
    if settings.get("second_branch", "none") != "none" or (settings and settings.get("debye") is None):
        raise StudyError(
            "predictions of a Debye head with one branch are needed (--debye heat_capacity).", source=str(path)
        )


def _known(
    rows: DebyeRows, checkpoints: Sequence[str], place_of: dict[int, int], thetas: dict[str, Numbers]
) -> tuple[dict[str, list[float | None]], list[str], list[int]]:
    """Debye temperatures of the measured crystals in K, where they are from, and by how many models."""
    crystals = Crystals.of_scopes([known.name for known in KNOWN], [known.scope for known in KNOWN])
    models = [predict_quantity(path, crystals, "debye_temperature", "K") for path in checkpoints]
    target = StudyTarget(rows.label, UNIT, debye="heat_capacity", per_cell=True)
    every, new = np.arange(len(rows)), np.arange(len(rows), len(rows.crystals))
    by_trees = theta_of(trees(target, rows.crystals, every, new) / crystals.n_atoms)
    row_of = {scope: row for row, scope in enumerate(rows.crystals.scopes[: len(rows)])}
    known: dict[str, list[float | None]] = {"debye": [], "trees": []}
    sources, counts = [], []
    for place, scope in enumerate(crystals.scopes):
        row = row_of.get(scope)
        theta: float | None = None
        tree: float | None = None
        if row is not None and row not in place_of:
            source, count = "in the table, not predicted", 0
        elif row is not None:
            at = place_of[row]
            theta, tree = float(thetas["debye"][at]), float(thetas["trees"][at])
            source, count = f"held-out row {rows.crystals.ids[row]}", 1
        else:
            if models:
                theta = float(np.mean([values[place] for values in models]))
            tree, count = float(by_trees[place]), len(models)
            source = f"mean of {count} models" if count > 1 else "by one model" if count else "no model"
        known["debye"].append(theta)
        known["trees"].append(tree)
        sources.append(source)
        counts.append(count)
    return known, sources, counts
