"""Give a checkpoint its intervals: fit them to out-of-sample predictions, write `calibration.json` beside the weights.

    cloud-hf finetune --folds 5 --refit true ... --output_dir runs/gap
    python scripts/calibrate.py --predictions runs/gap/predictions.csv --checkpoint runs/gap

The predictions must come from models that had not seen their rows: those of folds, or of validation and test rows; rows
of the part `train` only tell which elements the checkpoint knows. `--result` writes how the same recipe does on rows
that it has not seen, for the model and, where the table has their predictions, for trees: coverage of the 90 %
intervals, its binomial standard error, and the mean width. Each crystal is scored by intervals fitted to four fifths of
the others.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tabulate import tabulate
from tqdm import tqdm
from transformers.utils.logging import disable_progress_bar

from cloud_hf.checkpoints.reading import loading, read_config
from cloud_hf.checkpoints.registration import AutoModelForSequenceClassification
from cloud_hf.data.tables import numeric_column, read_table
from cloud_hf.errors import TableError
from cloud_hf.files import write_json
from cloud_hf.inference.calibration import Labelled, cross_coverage, fit_target
from cloud_hf.inference.prediction import heads_of
from cloud_hf.models.conformal import Calibration, TargetCalibration, count_elements, head_fingerprint
from cloud_hf.scope import parse

DTYPES = ("float32", "bfloat16", "float16")


def column(table: pd.DataFrame, name: str, what: str = "") -> str | None:
    """The heading `NAME WHAT (UNIT)` of a table from `cloud-hf finetune`, None if it has none."""
    start = f"{name} {what}".strip() + " ("
    return next((str(found) for found in table if str(found).startswith(start) and str(found).endswith(")")), None)


def atoms_of(table: pd.DataFrame, args: argparse.Namespace) -> NDArray[np.float64]:
    """Atoms of the cell that each label is for."""
    if "n_atoms" in table:
        return numeric_column(table, "n_atoms", args.predictions).to_numpy()
    if args.data:
        return from_data(table, args, args.n_atoms)
    found = [parse(scope).n_atoms_primitive for scope in table["scope"]]
    if None in found:
        raise TableError(
            f"{args.predictions}: the strings do not say how many atoms a cell has; name the labelled table with "
            "--data and its column of atoms with --n-atoms."
        )
    return np.array(found, dtype=float)


def from_data(table: pd.DataFrame, args: argparse.Namespace, name: str) -> NDArray[np.float64]:
    """A column of the labelled table, in the order of the predictions."""
    return numeric_column(read_table(args.data), name, args.data).to_numpy()[table["row"].to_numpy(dtype=int)]


def labelled(table: pd.DataFrame, name: str, what: str, config: Any, args: argparse.Namespace) -> tuple[Labelled, bool]:
    """Rows of a target with label and prediction; whether both are per atom of the cell."""
    heading, predicted = column(table, name), column(table, name, what)
    if heading is None or predicted is None:
        raise TableError(f"{args.predictions}: has no columns '{name} (UNIT)' and '{name} {what} (UNIT)'.")
    table = table[table[heading].notna() & table[predicted].notna()]
    labels, values = table[heading].to_numpy(dtype=float), table[predicted].to_numpy(dtype=float)
    debye = "CloudForDebye" in (config.architectures or [])
    transforms = dict(zip(config.target_names or [], config.target_transforms or [], strict=False))
    per_atom = "per_atom" in transforms.get(name, "") or (debye and "cell" in heading)
    if per_atom:
        atoms = atoms_of(table, args)
        labels, values = labels / atoms, values / atoms
    kelvin = None
    if debye and "temperature" in table:
        kelvin = numeric_column(table, "temperature", args.predictions).to_numpy()
    elif debye:
        kelvin = np.full(len(labels), args.temperature)
    return Labelled(table["scope"].tolist(), values, labels, kelvin), per_atom


def with_trees(table: pd.DataFrame, path: Path, heading: str) -> pd.DataFrame:
    """Add the trees' predictions of the same strings and labels, from a table with scope, label and prediction."""
    trees = read_table(path)
    found = {
        (scope, float(label)): float(value)
        for scope, label, value in zip(trees["scope"], trees["label"], trees["prediction"], strict=True)
    }
    values = [found.get((row[0], float(row[1])), np.nan) for row in zip(table["scope"], table[heading], strict=True)]
    name = heading.replace(" (", " trees (", 1)
    return table.assign(**{name: values})


def scales_of(config: Any, name: str) -> tuple[str, ...]:
    """The scales that the recipe chooses from."""
    if "CloudForDebye" in (config.architectures or []):
        return ("debye",)
    transforms = dict(zip(config.target_names or [], config.target_transforms or [], strict=False))
    return ("linear", "log") if "log" in transforms.get(name, "") else ("linear",)


def seen(table: pd.DataFrame, heading: str, args: argparse.Namespace) -> dict[str, int]:
    """Elements of the rows that the checkpoint learned from: those of `train`, or all where each was in most folds."""
    strings = table["scope"][table[heading].notna() & ((table["part"] == "train") | ("fold" in table))].tolist()
    for extra in args.trained_on or ():
        strings += read_table(extra)["scope"].dropna().astype(str).tolist()
    return dict(count_elements(strings))


def main() -> None:
    """Fit, write, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictions", required=True, help="predictions.csv of `cloud-hf finetune`")
    parser.add_argument("--checkpoint", required=True, help="folder that gets calibration.json")
    parser.add_argument("--targets", nargs="+", help="only these (default: every head that the table has)")
    parser.add_argument("--temperature", type=float, default=300.0, help="of heat capacities, K (default 300)")
    parser.add_argument("--data", help="labelled table that the predictions' column `row` counts the rows of")
    parser.add_argument("--n-atoms", default="n_atoms", help="its column of atoms per cell")
    parser.add_argument("--trained-on", nargs="+", help="further tables with a column `scope` that were trained on")
    parser.add_argument("--trees", type=Path, help="folder with NAME.parquet: scope, label and the trees' prediction")
    parser.add_argument("--result", type=Path, help="JSON file for coverage and width, the trees' beside them")
    args = parser.parse_args()
    disable_progress_bar()
    config = read_config(args.checkpoint)
    table = read_table(args.predictions)
    held_out = table[table["part"] != "train"]
    names = args.targets or [name for name in heads_of(config) if column(table, name)]
    found: dict[str, TargetCalibration] = {}
    results: dict[str, Any] = {}
    for name in tqdm(names, desc="calibrate", unit="target", disable=None):
        heading, scales = column(table, name) or "", scales_of(config, name)
        rows, per_atom = labelled(held_out, name, "predicted", config, args)
        positive = scales if (rows.predictions > 0).all() else ("linear",)
        unit = heading[len(name) + 2 : -1]
        found[name] = fit_target(rows, unit, positive, per_atom, seen(table, heading, args))
        results[name] = {"unit": unit + (" / atom" if per_atom else ""), "model": cross_coverage(rows, unit, positive)}
        if args.trees and (args.trees / f"{name}.parquet").is_file():
            held_out = with_trees(held_out, args.trees / f"{name}.parquet", heading)
        if column(held_out, name, "trees"):
            trees, _ = labelled(held_out, name, "trees", config, args)
            positive = scales if (trees.predictions > 0).all() else ("linear",)
            results[name]["trees"] = cross_coverage(trees, unit, positive)
        results[name]["calibration_rows"] = found[name].n_rows
        results[name]["difficulty_rows"] = found[name].n_difficulty_rows
    with loading(args.checkpoint):
        model = AutoModelForSequenceClassification.from_pretrained(args.checkpoint)
    import torch

    marks = {dtype: head_fingerprint(model, getattr(torch, dtype)) for dtype in DTYPES}
    path = Calibration(found, marks).save(args.checkpoint)
    print(show(results))
    print(f"calibration -> {path}")
    if args.result:
        write_json(results, args.result)


def show(results: dict[str, Any]) -> str:
    """Coverage and width of each target, of the model and the trees."""
    lines = []
    for name, row in results.items():
        for method in (method for method in ("model", "trees") if method in row):
            one = row[method]
            band = f"{one['coverage']:.3f} (0.9 +- {2 * one['standard_error']:.3f})"
            lines.append([name, method, one["n"], band, one["mean_width"], one["median_width"], row["unit"]])
    headers = ["target", "by", "rows", "inside 90 % intervals", "mean width", "median width", "unit"]
    return tabulate(lines, headers=headers, floatfmt=".4g")


if __name__ == "__main__":
    main()
