"""The study `debye`: what the Debye model adds to a head that learns heat capacities at one temperature."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tqdm import tqdm

from cloud_hf.data.tables import write_table
from cloud_hf.errors import StudyError
from cloud_hf.metrics import thermodynamic_consistency
from cloud_hf.models.heads_cloud import thermal_properties
from cloud_hf.studies.common.arguments import TrainingStudyArguments
from cloud_hf.studies.common.crystals import Crystals
from cloud_hf.studies.common.fitting import Fit, StudyTarget, fit_and_predict, training_settings, trees
from cloud_hf.studies.common.folder import StudyFolder, digest_of
from cloud_hf.studies.common.heat_capacities import HEAD_TARGETS, UNIT
from cloud_hf.studies.common.report import finish
from cloud_hf.studies.debye.figures import (
    NAMES,
    THETAS,
    crystals_figure,
    errors_figure,
    measured_figure,
    temperatures_figure,
)
from cloud_hf.studies.debye.given import given_predictions
from cloud_hf.studies.debye.rows import DebyeRows, read_debye_rows, table_of
from cloud_hf.studies.debye.scores import Predictions, collect, debye_results, predictions_table
from cloud_hf.training.arguments import in_range

__all__ = ["REPORT_VALUES", "Arguments", "consistency", "model_thetas", "run"]

REPORT_VALUES = {"NAMES": NAMES, "THETAS": THETAS}

GRID = np.linspace(0.0, 4.0, 241)
"""Temperatures of the consistency check in units of the Debye temperature: steps of theta/60."""

Numbers = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass
class Arguments(TrainingStudyArguments):
    """The Debye head against direct heads on heat capacities at 300 K, and what it says of other quantities.

    All heads and trees learn Cv at 300 K from the same rows and are scored on the same held-out folds: Cv at 300 K,
    and, never trained on, Cv at other temperatures and U(T) - U(0) against phonon densities of states and measured
    compounds; and the thermodynamic consistency of the fine-tuned model. --data names one table (.parquet, .jsonl or
    .csv) or its folder, with structures or SCOPE strings, Cv in J/(mol of primitive cells K), and phonon densities of
    states. The paper's labels are in its released code (github.com/ChangwenXu98/CLOUD, example_data/
    cloud_cv_train_and_val.csv, MIT); structures and densities of states are those of Petretto et al., Sci. Data 5,
    180065 (2018), doi 10.1038/sdata.2018.65 (CC BY 4.0), joined by the `mp-` numbers. No checksum of such a joined
    table is published: results.json holds the size and checksum of the one that was read.
    """

    label: str = field(
        default="cloud_cv_J_molcell_K", metadata={"help": "Column of Cv at 300 K in J/(mol of primitive cells K)."}
    )
    wavenumber: str = field(default="phfreq", metadata={"help": "Column of lists of wavenumbers, 1/cm."})
    density: str = field(default="phdos", metadata={"help": "Column of phonon densities of states, in any unit."})
    phonons: bool = field(default=True, metadata={"help": "Compare with phonon densities of states."})
    n_atoms: str | None = field(
        default=None, metadata={"help": "Column of atoms per primitive cell; not given: as the strings say."}
    )
    match_below: float = field(
        default=0.5,
        metadata={
            "help": "Trust a density of states whose Cv at 300 K is closer to the label than this, J/(mol atom K)."
        },
    )
    temperatures: list[float] = field(
        default_factory=lambda: [100.0, 300.0, 500.0, 1000.0],
        metadata={"help": "Temperatures to compare with densities of states at, K."},
    )
    predictions: str | None = field(
        default=None,
        metadata={"help": "predictions.csv of `cloud-hf finetune` with folds and trees for --data: score these instead "
                  "of training heads."},
    )  # fmt: skip
    checkpoints: list[str] = field(
        default_factory=list,
        metadata={"help": "With --predictions: models whose mean predicts measured crystals that are not in --data."},
    )
    folds: int = field(default=5, metadata={"help": "Folds of the crystals."})
    only_folds: list[int] | None = field(
        default=None, metadata={"help": "Numbers of the folds to run, from 0; not given: all."}
    )

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        super().__post_init__()
        in_range("folds", self.folds, 2, 1000)
        in_range("match_below", self.match_below, 1e-6, 25)
        for temperature in self.temperatures:
            in_range("temperatures", temperature, 1, 1e4)
        self.temperatures = sorted(set(self.temperatures))
        self.only_folds = sorted(set(range(self.folds) if self.only_folds is None else self.only_folds))
        for fold in self.only_folds:
            in_range("only_folds", fold, 0, self.folds - 1)
        if not self.only_folds or not self.temperatures:
            raise StudyError("--only-folds and --temperatures need at least one number each.")
        if self.checkpoints and self.predictions is None:
            raise StudyError("--checkpoints predict measured crystals beside given --predictions; name these too.")
        table_of(self.data)


def run(arguments: Arguments) -> Path:
    """Run the study and return the path of its report.

    Raises:
        CloudError: Data or folder that cannot be used; the message says why.
    """
    path = table_of(arguments.data)
    chosen = arguments.only_folds or []
    columns = (arguments.wavenumber, arguments.density) if arguments.phonons else None
    given = arguments.predictions
    settings = (
        training_settings(arguments) if given is None else {"predictions": f"{Path(given).name} {digest_of(given)}"}
    )
    settings |= {
        "data": f"{path.name} {digest_of(path)}", "label": arguments.label, "folds": arguments.folds,
        "n_atoms": arguments.n_atoms,
    }  # fmt: skip
    folder = StudyFolder(arguments.out, "debye", settings)
    rows = read_debye_rows(
        path, arguments.label, columns, arguments.folds, arguments.seed, folder.path / "cells" / "strings",
        arguments.workers, arguments.n_atoms,
    )  # fmt: skip
    folds = arguments.folds
    if given is None:
        predictions = _trained(arguments, folder, rows, chosen)
    else:
        rows, predictions = given_predictions(given, arguments.checkpoints, rows)
        chosen = sorted(set(rows.fold[predictions.rows].tolist()))
        folds = len(chosen)
    results = {
        "table": {"file": path.name, "bytes": path.stat().st_size, "sha256_begins_with": digest_of(path)},
        **debye_results(rows, predictions, arguments.temperatures, arguments.match_below, chosen, folds),
    }
    write_table(predictions_table(rows, predictions), folder.path / "predictions.csv")
    return finish(folder, results, _figures(rows, predictions, results))


def _trained(arguments: Arguments, folder: StudyFolder, rows: DebyeRows, chosen: list[int]) -> Predictions:
    """Train what is missing and put the folds together."""
    empty = [fold for fold in chosen if not (rows.fold == fold).any()]
    if empty:
        raise StudyError(f"no crystal falls into fold {empty[0]}; lower --folds.", source=arguments.data[0])
    arms = [*HEAD_TARGETS, *(["trees"] if arguments.baselines else [])]
    cells: dict[str, list[dict[str, Any]]] = {arm: [] for arm in arms}
    for fold, arm in tqdm([(f, arm) for f in chosen for arm in arms], desc="heads", unit="training", disable=None):

        def compute(fold: int = fold, arm: str = arm) -> dict[str, Any]:
            return _trees_cell(arguments, rows, fold) if arm == "trees" else _head_cell(arguments, rows, fold, arm)

        cells[arm].append(folder.cell(f"fold_{fold}/{arm}", compute))
    return collect(rows, cells)


def _figures(rows: DebyeRows, predictions: Predictions, results: Mapping[str, Any]) -> dict[str, Figure]:
    figures = {"errors.png": errors_figure(results["heads_at_300_K"])}
    elsewhere = results["other_temperatures"]
    if elsewhere:
        figures["temperatures.png"] = temperatures_figure(elsewhere)
        figures["crystals.png"] = crystals_figure(rows, predictions, elsewhere)
    compounds = [compound for compound in results["compounds"] if compound["models"]]
    if compounds:
        arms = [arm for arm in THETAS if arm in compounds[0] and arm != "inversion"]  # which lies on that of the head
        figures["measured.png"] = measured_figure(compounds, arms)
    return figures


def _head_cell(arguments: Arguments, rows: DebyeRows, fold: int, head: str) -> dict[str, Any]:
    """Predictions of a head for the rows of a fold, and of measured crystals that it was not trained on."""
    train, test, known = rows.split(fold)
    target = StudyTarget(arguments.label, UNIT, **HEAD_TARGETS[head])
    fit = fit_and_predict(arguments, target, rows.crystals, train, {"test": test, "known": known})
    atoms = rows.crystals.n_atoms
    cell: dict[str, Any] = {
        "rows": test.tolist(), "prediction": fit.predictions["test"].tolist(), "known": known.tolist(),
        "known_per_atom": (fit.predictions["known"] / atoms[known]).tolist(), "train_rows": len(train),
    }  # fmt: skip
    if head == "debye":
        thetas = model_thetas(fit, rows.crystals.take(np.concatenate([test, known])))
        cell |= {"theta": thetas[: len(test)].tolist(), "known_theta": thetas[len(test) :].tolist()}
        cell["consistency"] = consistency(fit, thetas[: len(test)], atoms[test])
    return cell


def _trees_cell(arguments: Arguments, rows: DebyeRows, fold: int) -> dict[str, Any]:
    train, test, known = rows.split(fold)
    target = StudyTarget(arguments.label, UNIT, **HEAD_TARGETS["debye"])
    predicted = trees(target, rows.crystals, train, np.concatenate([test, known]), arguments.seed)
    per_atom = predicted[len(test) :] / rows.crystals.n_atoms[known]
    return {"rows": test.tolist(), "prediction": predicted[: len(test)].tolist(), "known": known.tolist(),
            "known_per_atom": per_atom.tolist(), "train_rows": len(train)}  # fmt: skip


def model_thetas(fit: Fit, crystals: Crystals, batch: int = 64) -> Numbers:
    """Return the Debye temperatures in K that a fine-tuned Debye model gives crystals, shape (n,), in float32."""
    order = np.argsort([len(scope.split()) for scope in crystals.scopes], kind="stable")
    thetas = np.empty(len(crystals))
    device = next(fit.model.parameters()).device
    for begin in range(0, len(order), batch):
        part = order[begin : begin + batch]
        inputs = fit.tokenizer([crystals.scopes[row] for row in part], padding=True, return_tensors="pt")
        with torch.inference_mode():
            output = fit.model(input_ids=inputs["input_ids"].to(device),
                               attention_mask=inputs["attention_mask"].to(device))  # fmt: skip
        thetas[part] = output.logits[:, 0].double().cpu().numpy()
    return thetas


def consistency(fit: Fit, thetas: Numbers, n_atoms: Numbers) -> dict[str, list[float]]:
    """Check the thermal properties that the model computes, in its own precision, at the temperatures of `GRID`.

    Args:
        fit: A fine-tuned Debye model.
        thetas: Its Debye temperatures, K, shape (n,).
        n_atoms: Atoms per cell, shape (n,).

    Returns:
        What `thermodynamic_consistency` gives for each crystal, lists of length n.
    """
    dtype = next(fit.model.parameters()).dtype
    result: dict[str, list[float]] = {}
    for theta, atoms in zip(thetas, n_atoms, strict=True):
        kelvin = torch.as_tensor(GRID * theta, dtype=dtype)
        same = torch.ones_like(kelvin)
        thermal = thermal_properties(float(theta) * same, kelvin, float(atoms) * same)
        cv, u, s, f = (curve.double().numpy() for curve in thermal)
        checked = thermodynamic_consistency(kelvin.double().numpy(), cv, u, s, f, float(atoms))
        for name, value in checked.items():
            result.setdefault(name, []).append(value)
    return result
