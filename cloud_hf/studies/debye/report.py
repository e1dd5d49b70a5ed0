"""The report of the study `debye` and its pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cloud_hf.studies.common.folder import StudyFolder
from cloud_hf.studies.common.published import CLOUD_DEBYE
from cloud_hf.studies.common.report import Report
from cloud_hf.studies.common.scoring import signed
from cloud_hf.studies.debye.figures import (
    NAMES,
    THETAS,
    crystals_figure,
    errors_figure,
    measured_figure,
    temperatures_figure,
)
from cloud_hf.studies.debye.rows import DebyeRows
from cloud_hf.studies.debye.scores import Predictions

__all__ = ["verdict", "write_debye_report"]


def write_debye_report(
    folder: StudyFolder, rows: DebyeRows, predictions: Predictions, results: Mapping[str, Any]
) -> Path:
    """Write report.md and the pictures, and return the path of the report.

    Args:
        folder: Of the study.
        rows: All rows.
        predictions: From `collect`.
        results: What results.json holds below `results`.
    """
    settings = folder.settings
    report = Report(
        "The Debye head against direct heads",
        "All heads start from the same encoder and learn heat capacities at 300 K from the same rows. A direct head "
        "predicts Cv of the primitive cell, or Cv per atom and times the number of atoms: that is extensivity. The "
        "Debye head predicts the logarithm of a Debye temperature, from which the Debye model gives Cv per atom: that "
        "is physics on top. What the head learned at one temperature then says Cv at every other, energies, entropies "
        "and free energies.",
    )
    report.text(_summary(results))
    report.heading("Rows and training")
    report.text(_data(settings, results))
    _at_300(report, folder.path, results)
    if results["other_temperatures"]:
        _other_temperatures(report, folder.path, rows, predictions, results["other_temperatures"])
    _consistency(report, results)
    _measured(report, folder.path, results)
    report.heading("What this does not show")
    report.text(
        "One seed a head and one recipe for all heads: the intervals are over crystals, not over trainings or "
        "recipes. The published ratios are of other test rows (the paper's own), and the published model was "
        "pre-trained on 6.3 million strings. One Debye temperature is a model of acoustic modes: how much of an error "
        "is that of the form itself, the lines of the label's own theta say. Measured values are heat capacities of "
        "real crystals, with anharmonicity and electrons; a harmonic model can be right and still differ from them."
    )
    return folder.write_report(str(report))


def verdict(gap: Mapping[str, float]) -> str:
    """Say what an interval of a difference of errors shows: `lower`, `higher`, or `no clear difference`."""
    if gap["high"] < 0:
        return "lower"
    return "higher" if gap["low"] > 0 else "no clear difference"


def _summary(results: Mapping[str, Any]) -> str:
    """The findings, one line each, in the words of their intervals."""
    heads = results["heads_at_300_K"]
    ratios = "; ".join(
        f"{NAMES[arm].partition(' (')[0]} {one['mae_mad']:.3g}" for arm, one in heads["arms"].items() if one["mae_mad"]
    )
    published = "; ".join(f"{name} {ratio:g}" for name, ratio in CLOUD_DEBYE.items())
    lines = [f"MAE:MAD of Cv at 300 K on {heads['n']:,} held-out rows: {ratios}. Published, other rows: {published}."]
    for text, gap in results["pairs"].items():
        lines.append(f"{text[:1].upper()}{text[1:]}: {_change(gap)}.")
    for kelvin, scores in results["other_temperatures"].get("internal_energy", {}).items():
        if kelvin == "300":
            arms = scores["arms"]
            lines.append(
                f"U(300 K) - U(0), never trained on: MAE {arms['debye']['mae']:.3g} {scores['unit']} "
                f"(MAE:MAD {arms['debye']['mae_mad']:.3g}) over {scores['n']:,} rows; the label's own Debye "
                f"temperature gives {arms['label']['mae']:.3g}. Beside the direct head inverted afterwards: "
                f"{_change(scores['debye_to_inversion'])}."
            )
    found = results["consistency"]
    largest = max(found[name]["largest"] for name in ("heat_capacity_error", "entropy_error", "helmholtz_energy_error"))
    lines.append(
        f"Thermodynamic identities hold for all {found['n']:,} crystals to {largest:.1g} of the largest value, "
        f"{found['crystals_out_of_bounds']} leave the bounds."
    )
    return "\n".join(f"- {line}" for line in lines)


def _change(gap: Mapping[str, Any]) -> str:
    size = f" by {abs(gap['relative']):.0%}" if "relative" in gap and verdict(gap) != "no clear difference" else ""
    return f"the error is {verdict(gap)}{size}" if size else f"{verdict(gap)} of the error"


def _data(settings: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    rows, table = results["rows"], results["table"]
    text = (
        f"Table `{table['file']}` ({table['bytes']:,} bytes, sha256 begins with `{table['sha256_begins_with']}`): "
        f"{rows['in_table']:,} rows, {rows['labelled']:,} with label and string, {rows['crystals']:,} different "
        f"crystals. Folds {', '.join(map(str, rows['folds']))} of {rows['of_folds']} by crystal: "
        f"{rows['test_rows']:,} rows are held out and predicted by models that learned from "
        f"{' or '.join(f'{n:,}' for n in sorted(set(rows['train_rows'])))} others; {rows['test_crystals_in_training']} "
        f"held-out rows have their crystal among the training rows. Encoder `{settings['model']}` "
        f"({settings['parameters']}), {_length(settings)}, the last step's weights, no selection."
    )
    if rows["unlabelled"] or rows["failures"]:
        listed = "; ".join(f"row {one['row']}: {one['reason']}" for one in rows["failures"][:5])
        text += f" Rows without a label: {rows['unlabelled']}; without a usable string: {len(rows['failures'])}"
        text += f" ({listed}{'; ...' if len(rows['failures']) > 5 else ''})." if listed else "."
    return text


def _length(settings: Mapping[str, Any]) -> str:
    steps = settings["max_steps"]
    return f"{steps:,} steps" if steps > 0 else f"{settings['num_train_epochs']:g} epochs"


def _at_300(report: Report, folder: Path, results: Mapping[str, Any]) -> None:
    heads = results["heads_at_300_K"]
    report.heading("Cv at 300 K")
    lines: list[list[Any]] = []
    for arm, found in heads["arms"].items():
        gap = found.get("difference")
        lines.append(
            [NAMES[arm], found["n"], found["mae"], found["median_absolute_error"], found["rmse"], found["mae_mad"],
             signed(gap) if gap else None, results["not_between_0_and_3NR"].get(arm)]
        )  # fmt: skip
    lines += [[f"{name} (published)", None, None, None, None, ratio, None, None] for name, ratio in CLOUD_DEBYE.items()]
    unit = heads["unit"]
    headers = ["by", "N", f"MAE, {unit}", "median error", "RMSE", "MAE:MAD", "MAE - trees' (95 %)", "not in 0 to 3NR"]
    report.table(headers, lines)
    report.text(
        f"{heads['n']:,} rows: {heads['rows']}. MAD is the error of the mean of these rows, "
        f"{heads['arms']['debye']['mad']:.4g} {unit}. The last column counts predictions that no harmonic crystal has. "
        "Differences with 95 % bootstrap intervals over the rows, paired."
    )
    report.table(
        ["what", f"difference of the MAE, {unit} (95 %)", "relative", "the error is"],
        [[text, signed(gap), f"{gap['relative']:+.0%}", verdict(gap)] for text, gap in results["pairs"].items()],
    )
    report.picture(errors_figure(heads), folder, "errors.png", "MAE:MAD of Cv at 300 K, beside published results")


def _other_temperatures(
    report: Report, folder: Path, rows: DebyeRows, predictions: Predictions, found: Mapping[str, Any]
) -> None:
    report.heading("Other temperatures and energies, never trained on")
    report.text(
        f"Against the harmonic integrals over phonon densities of states, per atom, on {found['n']:,} of the held-out "
        f"rows; {found['left_out']} more have none whose Cv at 300 K is near enough to the label. A direct head says "
        "nothing about other temperatures. 'Inverted afterwards' lends it the physics: the Debye temperature at which "
        "the Debye model gives its Cv at 300 K; what the Debye head has beyond that is physics during training. 'The "
        "label's own theta' is the error of the form: no prediction of one Debye temperature can be expected below it. "
        "Cv at 300 K, which is what was learned, stands among them for comparison."
    )
    for quantity, name in (("heat_capacity", "Cv"), ("internal_energy", "U(T) - U(0)")):
        lines = []
        for kelvin, scores in found[quantity].items():
            arms = scores["arms"]
            for arm, errors in arms.items():
                gap = errors.get("difference")
                lines.append(
                    [name, kelvin, THETAS[arm], errors["n"], errors["mae"], errors["median_absolute_error"],
                     errors["mae_mad"], signed(gap, 2) if gap else None, scores["unit"]]
                )  # fmt: skip
        report.table(
            ["quantity", "T, K", "theta by", "N", "MAE", "median error", "MAE:MAD", "MAE - trees' (95 %)", "unit"],
            lines, 3,
        )  # fmt: skip
    lines = [
        [name, kelvin, signed(scores["debye_to_inversion"], 2), scores["unit"], verdict(scores["debye_to_inversion"])]
        for quantity, name in (("heat_capacity", "Cv"), ("internal_energy", "U(T) - U(0)"))
        for kelvin, scores in found[quantity].items()
    ]
    report.text("The Debye head minus the direct head inverted afterwards, on the same rows:")
    report.table(["quantity", "T, K", "difference of the MAE (95 %)", "unit", "the error is"], lines)
    report.picture(temperatures_figure(found), folder, "temperatures.png", "Errors at other temperatures")
    report.picture(
        crystals_figure(rows, predictions, found), folder, "crystals.png",
        "Held-out crystals at four quantiles of the Debye head's error over these temperatures",
    )  # fmt: skip


def _consistency(report: Report, results: Mapping[str, Any]) -> None:
    found = results["consistency"]
    report.heading("Thermodynamic consistency")
    report.text(
        f"Cv, U, S and F that the fine-tuned model computes, in its own precision (float32), for each of the "
        f"{found['n']:,} held-out crystals at 241 temperatures from 0 to 4 theta. Derivatives are those of a cubic "
        "spline, whose own error at these steps is 4e-4; the largest deviation over the temperatures, relative to the "
        "largest value of the curve."
    )
    names = {
        "heat_capacity_error": "dU/dT = Cv", "entropy_error": "dF/dT = -S", "helmholtz_energy_error": "F = U - TS",
    }  # fmt: skip
    lines = [[text, found["n"], f"{found[key]['median']:.1e}", f"{found[key]['largest']:.1e}"]
             for key, text in names.items()]  # fmt: skip
    report.table(["identity", "N", "median over crystals", "largest"], lines)
    clipped = {NAMES[arm]: count for arm, count in results["not_between_0_and_3NR"].items() if "direct" in NAMES[arm]}
    report.text(
        f"{found['crystals_out_of_bounds']} of {found['n']:,} crystals leave the bounds anywhere (0 <= Cv <= 3NR, S >= "
        "0; Cv, U and S never fall with T). Direct heads have one number a crystal and no curve that could be "
        "consistent; at 300 K, of the same crystals, outside 0 to 3NR: "
        + "; ".join(f"{count} ({name})" for name, count in clipped.items())
        + "."
    )


def _measured(report: Report, folder: Path, results: Mapping[str, Any]) -> None:
    report.heading("Measured crystals")
    arms = [arm for arm in THETAS if arm in results["elements"][0]]
    compounds = results["compounds"]
    headers = ["compound", "theta from", "N"]
    for arm in arms:
        headers += [f"theta, K: {THETAS[arm]}", "MAE of Cv(T)"]
    lines = [
        [one["name"], one["from"], len(one["measured"]),
         *(value for arm in arms for value in (one[arm], one.get(f"{arm}_mae")))]
        for one in compounds
    ]  # fmt: skip
    report.text(
        "Predicted by the models that had not learned from the crystal (by space group, occupied positions and rounded "
        "composition), without looking at the measured values. Experimental Cv of compounds, J/(mol formula unit K), "
        "over N temperatures each:"
    )
    report.table(headers, lines, 3)
    shown = [one for one in compounds if any(one[arm] is not None for arm in arms)]
    if shown:
        drawn = [arm for arm in arms if arm != "inversion"]  # it lies on the curve of the Debye head
        report.picture(measured_figure(shown, drawn), folder, "measured.png", "Measured heat capacities of compounds")
    headers = ["element", "theta from", "handbook theta, K", *(f"theta, K: {THETAS[arm]}" for arm in arms),
               "Cv of the handbook's", *(f"Cv: {THETAS[arm]}" for arm in arms)]  # fmt: skip
    lines = [
        [one["name"], one["from"], one["handbook"], *(one[arm] for arm in arms), one["handbook_heat_capacity"],
         *(one.get(f"{arm}_heat_capacity") for arm in arms)]
        for one in results["elements"]
    ]  # fmt: skip
    report.text(
        "Elements, of which the table has few. Debye temperatures depend on their definition, so that Cv at 300 K is "
        "what to compare, J/(mol atom K):"
    )
    report.table(headers, lines, 4)
    gaps = []
    for arm in arms:
        errors = [
            abs(one[f"{arm}_heat_capacity"] - one["handbook_heat_capacity"])
            for one in results["elements"]
            if one.get(f"{arm}_heat_capacity") is not None
        ]
        gaps.append(f"{THETAS[arm]} {np.mean(errors):.2f} (N = {len(errors)})" if errors else "")
    report.text(f"Mean absolute difference to the handbook's Cv, J/(mol atom K): {'; '.join(filter(None, gaps))}.")
