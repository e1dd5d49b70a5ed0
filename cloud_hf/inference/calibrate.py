"""Give a checkpoint its intervals, from predictions of rows that its models had not seen.

The table of predictions is the `predictions.csv` of `cloud-hf finetune`: rows of folds, or of validation and test
parts. Rows of the part `train` only tell which elements the checkpoint knows.
"""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from cloud_hf.checkpoints.reading import loading, read_config
from cloud_hf.checkpoints.registration import AutoModelForSequenceClassification
from cloud_hf.data.tables import numeric_column, read_table
from cloud_hf.errors import TableError
from cloud_hf.inference.calibration import (
    LabelledPredictions,
    cross_coverage,
    fit_target,
    quantity_width,
    refit_coverage,
    refit_target,
)
from cloud_hf.inference.prediction import heads_of
from cloud_hf.models.conformal import Calibration, TargetCalibration, count_elements, head_fingerprint
from cloud_hf.models.phonon_dos import THERMAL_UNITS
from cloud_hf.scope import parse

__all__ = ["CalibrationRun", "calibrate_checkpoint"]

DTYPES = ("float32", "bfloat16", "float16")
"""Dtypes in which a head may be loaded and still be known as the one that was calibrated."""

FACTOR = " frequency factor (1)"
"""How a column ends that says by what all frequencies must be multiplied."""

FEWEST = 100
"""With fewer rows, intervals are not scaled to refitted weights or to another temperature."""


@dataclass(frozen=True)
class CalibrationRun:
    """What a calibration is made of.

    Attributes:
        predictions: Table with `scope`, `part`, and for each target `NAME (UNIT)` and `NAME predicted (UNIT)`; with
            `NAME trees (UNIT)` trees are scored beside the model. `NAME refitted (UNIT)` holds, for rows that these had
            not seen either, predictions of weights that learned further, as the checkpoint's did: from 100 rows on
            the intervals are scaled to their errors. `entropy_300K frequency factor (1)` and so on tell by what all
            frequencies of a predicted phonon density of states must be multiplied to give the known value, and so
            how wide the interval of that quantity is.
        checkpoint: Folder that gets `calibration.json`.
        targets: Names of targets; None: every head that the table has.
        temperature: Of heat capacities, K, where the table has no column `temperature`.
        data: Labelled table that the column `row` of the predictions counts the rows of.
        n_atoms: Its column of atoms per cell.
        trained_on: Further tables with a column `scope` that the checkpoint was trained on.
        trees: Folder with `NAME.parquet`: scope, label and the trees' prediction.
    """

    predictions: str
    checkpoint: str
    targets: Sequence[str] | None = None
    temperature: float = 300.0
    data: str | None = None
    n_atoms: str = "n_atoms"
    trained_on: Sequence[str] = ()
    trees: str | os.PathLike[str] | None = None


def calibrate_checkpoint(run: CalibrationRun, progress: bool = False) -> tuple[Path, dict[str, Any]]:
    """Fit the intervals of a checkpoint, write them beside its weights, and measure the recipe.

    Args:
        run: What to fit and to what.
        progress: Show a progress bar.

    Returns:
        The path of `calibration.json`, and for each target `unit`, `calibration_rows`, `difficulty_rows`, and for
        `model` and, where there are any, `trees` what `cross_coverage` gives: each crystal is scored by intervals that
        were fitted to four fifths of the others. With predictions of refitted weights also `refitted`: what
        `refit_coverage` gives, and `error_ratio`, by which the intervals were scaled. Of a phonon density
        of states, `quantities` has what `quantity_width` gives for each quantity and temperature.

    Raises:
        TableError: A table that cannot be read or lacks a column.
        CheckpointError: A checkpoint that cannot be read.
        CloudError: Rows that cannot be calibrated with.
    """
    config = read_config(run.checkpoint)
    table = read_table(run.predictions)
    for column in ("scope", "part"):
        if column not in table:
            raise TableError(
                f"there is no column {column!r}; give what `cloud-hf finetune` wrote.", source=run.predictions
            )
    held_out = table[table["part"] != "train"]
    names = run.targets or [name for name in heads_of(config) if _heading(table, name)]
    if not names:
        heads = ", ".join(heads_of(config)) or "none"
        raise TableError(f"has no predictions of a head of the checkpoint ({heads}).", source=run.predictions)
    calibrations: dict[str, TargetCalibration] = {}
    results: dict[str, Any] = {}
    for name in tqdm(names, desc="calibrate", unit="target", disable=None if progress else True):
        rows, per_atom = _labelled(held_out, name, "predicted", config, run)
        heading = _heading(table, name) or ""
        unit = heading[len(name) + 2 : -1]
        scales = _scales(config, name, rows)
        calibrations[name] = fit_target(rows, unit, scales, per_atom, _elements(table, heading, run.trained_on))
        results[name] = {"unit": unit + (" / atom" if per_atom else ""), "model": cross_coverage(rows, unit, scales)}
        if run.trees is not None and (Path(run.trees) / f"{name}.parquet").is_file():
            held_out = _with_trees(held_out, Path(run.trees) / f"{name}.parquet", heading)
        if _heading(held_out, name, "trees"):
            trees, _ = _labelled(held_out, name, "trees", config, run)
            results[name]["trees"] = cross_coverage(trees, unit, _scales(config, name, trees))
        if _is_spectrum(config) and _is_thermal(config, name):
            results[name]["quantities"] = _quantity_widths(held_out, name, calibrations[name], run)
            widths = {
                quantity: {kelvin: row["width"] for kelvin, row in rows.items()}
                for quantity, rows in results[name]["quantities"].items()
            }
            calibrations[name] = replace(calibrations[name], quantity_widths=widths)
        if pair := _refitted(held_out, name, config, run):
            scaled, ratio = refit_target(calibrations[name], *pair)
            results[name]["refitted"] = {**refit_coverage(calibrations[name], *pair), "error_ratio": ratio}
            calibrations[name] = scaled
        results[name]["calibration_rows"] = calibrations[name].n_rows
        results[name]["difficulty_rows"] = calibrations[name].n_difficulty_rows
    with loading(run.checkpoint):
        model = AutoModelForSequenceClassification.from_pretrained(run.checkpoint)
    marks = {dtype: head_fingerprint(model, getattr(torch, dtype)) for dtype in DTYPES}
    return Calibration(calibrations, marks).save(run.checkpoint), results


def _heading(table: pd.DataFrame, name: str, what: str = "") -> str | None:
    """The heading `NAME WHAT (UNIT)`, None if the table has none."""
    start = f"{name} {what}".strip() + " ("
    return next((str(column) for column in table if str(column).startswith(start) and str(column).endswith(")")), None)


def _labelled(
    table: pd.DataFrame, name: str, what: str, config: Any, run: CalibrationRun
) -> tuple[LabelledPredictions, bool]:
    """Rows of a target with label and prediction; whether both are per atom of the cell."""
    heading, predicted = _heading(table, name), _heading(table, name, what)
    if heading is None or predicted is None:
        raise TableError(f"has no columns '{name} (UNIT)' and '{name} {what} (UNIT)'.", source=run.predictions)
    table = table[table[heading].notna() & table[predicted].notna()]
    labels = numeric_column(table, heading, run.predictions).to_numpy()
    values = numeric_column(table, predicted, run.predictions).to_numpy()
    debye = _is_thermal(config, name)
    per_atom = "per_atom" in _transform(config, name) or (debye and "cell" in heading)
    if per_atom:
        atoms = _atoms(table, run)
        labels, values = labels / atoms, values / atoms
    kelvin = None
    if debye and "temperature" in table:
        kelvin = numeric_column(table, "temperature", run.predictions).to_numpy()
    elif debye:
        kelvin = np.full(len(labels), run.temperature)
    return LabelledPredictions(table["scope"].tolist(), values, labels, kelvin), per_atom


def _refitted(
    table: pd.DataFrame, name: str, config: Any, run: CalibrationRun
) -> tuple[LabelledPredictions, LabelledPredictions] | None:
    """Predictions of the folds' runs and of refitted weights for the same rows; None if there are too few."""
    heading = _heading(table, name, "refitted")
    if heading is None:
        return None
    table = table[table[[heading, _heading(table, name), _heading(table, name, "predicted")]].notna().all(axis=1)]
    if len(table) < FEWEST:
        return None
    before, after = (_labelled(table, name, what, config, run)[0] for what in ("predicted", "refitted"))
    return before, after


def _quantity_widths(
    table: pd.DataFrame, name: str, target: TargetCalibration, run: CalibrationRun
) -> dict[str, dict[str, dict[str, Any]]]:
    """For each quantity with frequency factors and each temperature, K, its `width` and what `quantity_width` tells."""
    predicted = str(_heading(table, name, "predicted"))
    widths: dict[str, dict[str, dict[str, Any]]] = {}
    for column in (str(one) for one in table if str(one).endswith(FACTOR)):
        match = re.fullmatch(r"(\w+?)(?:_(\d+\.?\d*)K)?", column.removesuffix(FACTOR))
        if match is None or match[1] not in THERMAL_UNITS or (match[2] is None) != (match[1] == "zero_point_energy"):
            known = ", ".join(f"{quantity}_300K" for quantity in THERMAL_UNITS if quantity != "zero_point_energy")
            reason = f"{column!r} is of no known quantity; there are {known} at any temperature, and zero_point_energy."
            raise TableError(reason, source=run.predictions)
        rows = table[table[[column, predicted]].notna().all(axis=1)]
        if len(rows) < FEWEST:
            continue
        base, factors = (numeric_column(rows, one, run.predictions).to_numpy() for one in (predicted, column))
        if not (factors > 0).all():
            raise TableError(f"{column!r} holds factors that are not positive.", source=run.predictions)
        here = LabelledPredictions(rows["scope"].tolist(), base, base, np.full(len(rows), run.temperature))
        width, figures = quantity_width(target, here, factors)
        widths.setdefault(match[1], {})[match[2] or "0"] = {"width": width, **figures}
    return widths


def _atoms(table: pd.DataFrame, run: CalibrationRun) -> NDArray[np.float64]:
    """Atoms of the cell that each label is for."""
    if "n_atoms" in table:
        return numeric_column(table, "n_atoms", run.predictions).to_numpy()
    if run.data:
        column = numeric_column(read_table(run.data), run.n_atoms, run.data).to_numpy()
        places = numeric_column(table, "row", run.predictions).to_numpy().astype(int)
        if len(places) and not 0 <= places.min() <= places.max() < len(column):
            reason = f"the column 'row' of {run.predictions} counts rows that are not there; it has {len(column)}."
            raise TableError(reason, source=run.data)
        return np.asarray(column[places])
    atoms = [parse(scope).n_atoms_primitive for scope in table["scope"]]
    if None in atoms:
        raise TableError(
            "the strings do not say how many atoms a cell has; give the labelled table, with a column of them, as "
            "`data`.",
            source=run.predictions,
            flag="data",
        )
    return np.array(atoms, dtype=float)


def _is_spectrum(config: Any) -> bool:
    """Whether the checkpoint predicts phonon densities of states."""
    return "CloudForCrystalProperties" in (config.architectures or [])


def _is_thermal(config: Any, name: str) -> bool:
    """Whether the errors of a head are those of frequencies."""
    return "CloudForDebye" in (config.architectures or []) or (_is_spectrum(config) and name == "heat_capacity")


def _transform(config: Any, name: str) -> str:
    """What the head learns of a target."""
    transforms = dict(zip(config.target_names or [], config.target_transforms or [], strict=False))
    return str(transforms.get(name, ""))


def _scales(config: Any, name: str, rows: LabelledPredictions) -> tuple[str, ...]:
    """The scales that the recipe chooses from."""
    if _is_thermal(config, name):
        return ("debye",)
    return ("linear", "log") if "log" in _transform(config, name) and (rows.predictions > 0).all() else ("linear",)


def _with_trees(table: pd.DataFrame, path: Path, heading: str) -> pd.DataFrame:
    """Add the trees' predictions of the same strings and labels."""
    trees = read_table(path)
    predictions = {
        (scope, float(label)): float(value)
        for scope, label, value in zip(trees["scope"], trees["label"], trees["prediction"], strict=True)
    }
    keys = zip(table["scope"], table[heading].astype(float), strict=True)
    values = [predictions.get(key, np.nan) for key in keys]
    return table.assign(**{heading.replace(" (", " trees (", 1): values})


def _elements(table: pd.DataFrame, heading: str, trained_on: Iterable[str]) -> dict[str, int]:
    """Elements of the rows that the checkpoint learned from: those of `train`, or all where each was in most folds."""
    strings = table["scope"][table[heading].notna() & ((table["part"] == "train") | ("fold" in table))].tolist()
    for extra in trained_on:
        strings += _strings(extra)
    return dict(count_elements(strings))


def _strings(path: str) -> list[str]:
    table = read_table(path)
    if "scope" not in table:
        raise TableError("there is no column 'scope'.", source=path)
    return [str(scope) for scope in table["scope"].dropna()]
