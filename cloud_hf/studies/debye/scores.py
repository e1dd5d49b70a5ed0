"""Errors of the study `debye`: at 300 K, at other temperatures, of energies, measured crystals and consistency."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cloud_hf.errors import StudyError
from cloud_hf.models.debye import effective_debye_temperature, heat_capacity
from cloud_hf.studies.common.heat_capacities import UNIT
from cloud_hf.studies.common.scoring import compared, paired
from cloud_hf.studies.debye.known import COMPOUNDS, ELEMENTS, Known, beside_handbook, beside_measured
from cloud_hf.studies.debye.phonons import phonon_energy, phonon_heat_capacity
from cloud_hf.studies.debye.rows import KNOWN, DebyeRows
from cloud_hf.studies.debye.temperatures import thermal_energy, theta_of

__all__ = ["PAIRS", "Predictions", "clipped", "collect", "debye_results", "predictions_table"]

Numbers = NDArray[np.float64]
Indices = NDArray[np.int64]

PAIRS = {
    "extensivity: per atom instead of per cell": ("per_atom", "per_cell"),
    "physics in training: the Debye head instead of per atom": ("debye", "per_atom"),
    "both: the Debye head instead of per cell": ("debye", "per_cell"),
}
"""What each comparison of two heads at 300 K tells, and which is compared with which."""

CONSISTENCY = ("heat_capacity_error", "entropy_error", "helmholtz_energy_error")


@dataclass(frozen=True)
class Predictions:
    """Held-out predictions of all arms on the same m rows.

    Attributes:
        rows: Numbers of the rows, shape (m,).
        values: Cv at 300 K of each arm, J/(mol cell K), shape (m,).
        thetas: Debye temperatures in K, shape (m,): `debye` as the model gives them, `inversion` and `trees` from their
            Cv at 300 K, `label` from the label.
        clipped: How many predictions of each arm have no Debye temperature, as they are not between 0 and 3NR.
        known: Debye temperature in K of each arm for each of `KNOWN`, mean over the models that were not trained on
            it; None where there is none.
        models: Number of those models.
        sources: Where the temperatures of `known` are from, in words; None: from `models`.
        consistency: Consistency of every row, from `debye.consistency`, shape (m,); empty where no model was at hand.
        train_rows: Training rows of each fold that was run.
        seconds: Seconds of training of each arm, all folds together.
    """

    rows: Indices
    values: dict[str, Numbers]
    thetas: dict[str, Numbers]
    clipped: dict[str, int]
    known: dict[str, list[float | None]]
    models: list[int]
    consistency: dict[str, Numbers]
    train_rows: list[int]
    seconds: dict[str, float]
    sources: list[str] | None = None


def collect(rows: DebyeRows, cells: Mapping[str, Sequence[Mapping[str, Any]]]) -> Predictions:
    """Put the cells of all folds together.

    Args:
        rows: All rows.
        cells: Cells of each arm, one for each fold; in the same order of folds.

    Raises:
        StudyError: The cells of two arms hold other rows.
    """
    order = [cell["rows"] for cell in cells["debye"]]
    for arm, of_arm in cells.items():
        if [cell["rows"] for cell in of_arm] != order:
            raise StudyError(f"The cells of {arm!r} and 'debye' hold different rows; remove the folder's cells.")
    chosen = np.concatenate(order).astype(np.int64)
    atoms = rows.n_atoms[chosen]
    values = {arm: np.concatenate([cell["prediction"] for cell in of_arm]) for arm, of_arm in cells.items()}
    thetas = {"debye": np.concatenate([cell["theta"] for cell in cells["debye"]])}
    thetas["inversion"] = theta_of(values["per_atom"] / atoms)
    if "trees" in values:
        thetas["trees"] = theta_of(values["trees"] / atoms)
    thetas["label"] = theta_of(rows.labels[chosen] / atoms)
    checked = cells["debye"][0]["consistency"]
    return Predictions(
        rows=chosen,
        values=values,
        thetas=thetas,
        clipped=clipped(values, atoms),
        known=_known_thetas(len(rows), cells),
        models=_models(len(rows), cells["debye"]),
        consistency={name: np.concatenate([cell["consistency"][name] for cell in cells["debye"]]) for name in checked},
        train_rows=[cell["train_rows"] for cell in cells["debye"]],
        seconds={arm: round(sum(cell["seconds"] for cell in of_arm), 1) for arm, of_arm in cells.items()},
    )


def clipped(values: Mapping[str, Numbers], n_atoms: Numbers) -> dict[str, int]:
    """Return how many heat capacities of each arm, J/(mol cell K), have no Debye temperature at N atoms a cell."""
    thetas = {arm: effective_debye_temperature(given, 300.0, n_atoms) for arm, given in values.items()}
    return {arm: int(np.isnan(theta).sum()) for arm, theta in thetas.items()}


def _models(first: int, cells: Sequence[Mapping[str, Any]]) -> list[int]:
    return [sum(first + number in cell["known"] for cell in cells) for number in range(len(KNOWN))]


def _known_thetas(first: int, cells: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[float | None]]:
    """Debye temperature of each known crystal by each arm, mean over the folds whose models have not seen it."""
    thetas_of: dict[str, list[float | None]] = {}
    for name, arm in (("debye", "debye"), ("inversion", "per_atom"), ("trees", "trees")):
        if arm not in cells:
            continue
        gathered: list[list[float]] = [[] for _ in KNOWN]
        for cell in cells[arm]:
            thetas = cell["known_theta"] if name == "debye" else theta_of(cell["known_per_atom"])
            for row, theta in zip(cell["known"], thetas, strict=True):
                gathered[row - first].append(float(theta))
        thetas_of[name] = [float(np.mean(values)) if values else None for values in gathered]
    return thetas_of


def debye_results(
    rows: DebyeRows, predictions: Predictions, temperatures: Sequence[float], match_below: float,
    chosen: Sequence[int], folds: int,
) -> dict[str, Any]:  # fmt: skip
    """Score everything.

    Args:
        rows: All rows.
        predictions: What `collect` returns.
        temperatures: To compare with densities of states at, K.
        match_below: Largest difference between density of states and label at 300 K, J/(mol atom K).
        chosen: Folds that were run.
        folds: Number of all folds.

    Returns:
        What results.json holds: counts, `heads_at_300_K`, `pairs`, `other_temperatures`, `consistency`, `compounds`,
        `elements`.
    """
    listed = ", ".join(map(str, chosen))
    described = "all rows, each held out once"
    if len(chosen) < folds:
        described = f"held-out rows of fold{'s' if len(chosen) > 1 else ''} {listed} of {folds}"
    test = predictions.rows
    labels, atoms = rows.labels[test], rows.n_atoms[test]
    mean = np.empty(len(test))
    for fold in chosen:  # the mean per atom of the rows that the models of this fold learned from
        train, inside = rows.fold != fold, rows.fold[test] == fold
        mean[inside] = (rows.labels[train] / rows.n_atoms[train]).mean() * atoms[inside]
    heads = compared(labels, {**predictions.values, "mean": mean}, UNIT, described)
    errors = {arm: np.abs(values - labels) for arm, values in predictions.values.items()}
    trusted = rows.match[test] < match_below
    arms = [*predictions.known]
    entries = {known.name: _entry(known, place, predictions) for place, known in enumerate(KNOWN)}
    return {
        "rows": {
            "in_table": len(rows) + rows.unlabelled + len(rows.crystals.failures),
            "labelled": len(rows),
            "unlabelled": rows.unlabelled,
            "failures": rows.crystals.failures.to_dict("records"),
            "crystals": len(set(rows.names[: len(rows)])),
            "repeated_strings": len(rows) - len(set(rows.crystals.scopes[: len(rows)])),
            "folds": list(chosen), "of_folds": folds, "train_rows": predictions.train_rows, "test_rows": len(test),
            "test_crystals_in_training": _shared(rows, chosen),
            "densities_of_states": sum(density is not None for density in rows.densities),
        },
        "heads_at_300_K": heads,
        "pairs": {
            text: {"unit": UNIT, "n": len(test), **paired(errors[first], errors[second])}
            for text, (first, second) in PAIRS.items()
            if first in errors and second in errors
        },
        "not_between_0_and_3NR": predictions.clipped,
        "other_temperatures": _elsewhere(rows, predictions, temperatures, trusted, match_below, described),
        "consistency": _consistency(predictions, described),
        "compounds": [beside_measured(known, entries[known.name], arms) for known in COMPOUNDS],
        "elements": [beside_handbook(known, entries[known.name], arms) for known in ELEMENTS],
        "seconds": predictions.seconds,
    }  # fmt: skip


def _shared(rows: DebyeRows, chosen: Sequence[int]) -> int:
    """Test rows whose crystal stands among the training rows too: 0 by the folds, counted all the same."""
    count = 0
    for fold in chosen:
        train, test, _ = rows.split(fold)
        seen = {rows.names[row] for row in train}
        count += sum(rows.names[row] in seen for row in test)
    return count


def _elsewhere(
    rows: DebyeRows, predictions: Predictions, temperatures: Sequence[float], trusted: NDArray[np.bool_],
    match_below: float, described: str,
) -> dict[str, Any]:  # fmt: skip
    """Errors of Cv per atom and of U(T) - U(0) at each temperature, which no arm has learned."""
    if not trusted.any():
        return {}
    chosen = np.flatnonzero(trusted)
    densities = [density for row in predictions.rows[chosen] if (density := rows.densities[row]) is not None]
    thetas = {arm: values[chosen] for arm, values in predictions.thetas.items()}
    described = f"{described}, density of states within {match_below:g} J/(mol atom K) of the label"
    result: dict[str, Any] = {
        "n": len(chosen), "left_out": int((~trusted).sum()), "match_below": match_below,
        "heat_capacity": {}, "internal_energy": {},
    }  # fmt: skip
    for kelvin in temperatures:
        cv = np.array([phonon_heat_capacity(points, heights, kelvin) for points, heights in densities])
        energy = np.array([phonon_energy(points, heights, kelvin) for points, heights in densities])
        of_cv = {arm: heat_capacity(theta, kelvin).numpy() for arm, theta in thetas.items()}
        of_energy = {arm: thermal_energy(theta, kelvin) for arm, theta in thetas.items()}
        for name, truth, values, unit in (
            ("heat_capacity", cv, of_cv, "J/(mol atom K)"), ("internal_energy", energy, of_energy, "J/(mol atom)"),
        ):  # fmt: skip
            scores = compared(truth, values, unit, described)
            scores["mean_of_the_rows"] = float(truth.mean())
            errors = {arm: np.abs(predicted - truth) for arm, predicted in values.items()}
            if "inversion" in errors:
                scores["debye_to_inversion"] = paired(errors["debye"], errors["inversion"])
            result[name][f"{kelvin:g}"] = scores
    return result


def _consistency(predictions: Predictions, described: str) -> dict[str, Any]:
    checked = predictions.consistency
    if not checked:
        return {}
    result: dict[str, Any] = {
        "n": len(predictions.rows),
        "rows": described,
        "grid": "241 temperatures from 0 to 4 theta",
    }
    for name in CONSISTENCY:
        result[name] = {"largest": float(checked[name].max()), "median": float(np.median(checked[name]))}
    result["crystals_out_of_bounds"] = int((checked["bounds_violations"] > 0).sum())
    result["points_out_of_bounds"] = int(checked["bounds_violations"].sum())
    return result


def _entry(known: Known, place: int, predictions: Predictions) -> dict[str, Any]:
    models = predictions.models[place]
    source = f"mean of {models} models" if models > 1 else "by one model" if models else "no model without it"
    if predictions.sources is not None:
        source = predictions.sources[place]
    thetas = {arm: values[place] for arm, values in predictions.known.items()}
    return {"name": known.name, "scope": known.scope, "models": models, "from": source, **thetas}


def predictions_table(rows: DebyeRows, predictions: Predictions) -> pd.DataFrame:
    """Return one row a held-out crystal: its row in the table, string, fold, label and what each arm predicts."""
    test = predictions.rows
    columns: dict[str, Any] = {
        "row": rows.crystals.position[test], "id": [rows.crystals.ids[row] for row in test],
        "scope": [rows.crystals.scopes[row] for row in test], "fold": rows.fold[test],
        f"{rows.label} ({UNIT})": rows.labels[test],
    }  # fmt: skip
    columns |= {f"{arm} ({UNIT})": values for arm, values in predictions.values.items()}
    columns |= {f"theta of {arm} (K)": values for arm, values in predictions.thetas.items()}
    return pd.DataFrame(columns)
