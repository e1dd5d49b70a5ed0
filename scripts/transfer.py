r"""What a Debye temperature learned at 300 K is worth elsewhere: other temperatures, energies, measured crystals.

    python scripts/heat_capacity_study.py --split runs/split --output runs/heat_capacity.parquet    # rows and folds
    cloud-hf finetune --model runs/mlm --data runs/heat_capacity.parquet --split fold --debye heat_capacity \
        --target "cloud_cv_J_molcell_K:J/(mol cell K)" --n_atoms n_atoms --output_dir runs/folds    # a model per fold
    python scripts/transfer.py runs/folds

Nothing is trained on other temperatures. Every crystal of the table has one Debye temperature, that of the model (or
models of several seeds) that has not seen it: the one at which the Debye model gives its predicted Cv at 300 K, which
for a head with one Debye branch is what the head put out. The trees' is read off their predictions for the same folds
in the same way. `label` is the Debye temperature of the label itself: its errors are those of the Debye form, which no
prediction of one Debye temperature can be expected to fall below.

1. Cv per atom at 100, 300, 500 and 1000 K against that of the phonon density of states.
2. U(T) - U(0) against the integral over the phonon density of states: a quantity never trained on.
3. Cv(T) of measured compounds, and Cv(300 K) of elements against that of their handbook Debye temperature. Crystals
   that are not in the table are predicted by the mean of the fold models (or of `--checkpoint`), and by trees that have
   learned all rows.

1 and 2 are on rows whose density of states agrees with the label (`cloud_match_dcv_per_atom` below 0.5 J/(mol atom K)).
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from heat_capacity_study import (
    LABEL,
    ROOT,
    TABLE,
    UNIT,
    HeatCapacities,
    Numbers,
    paired,
    provenance,
    quiet,
    read_heat_capacities,
)
from tabulate import tabulate
from transfer_plot import plot_curves

from cloud_hf.baselines import TreeBaseline, tree_features
from cloud_hf.data.inputs import Item
from cloud_hf.files import write_text
from cloud_hf.inference.prediction import load_predictor, predict_items
from cloud_hf.models.debye import heat_capacity
from cloud_hf.studies.debye.known import COMPOUNDS, ELEMENTS, Known, beside_handbook, beside_measured
from cloud_hf.studies.debye.phonons import phonon_energy
from cloud_hf.studies.debye.temperatures import thermal_energy, theta_of

TEMPERATURES = (100, 300, 500, 1000)
MATCH = 0.5
"""Largest difference between label and density of states at 300 K, J/(mol atom K)."""
PREDICTED = ("model", "trees")
ARMS = (*PREDICTED, "label")
THETA = "debye_temperature (K)"


def read_thetas(run: Path, data: HeatCapacities) -> pd.DataFrame:
    """Read out-of-fold predictions.

    Args:
        run: Folder that `cloud-hf finetune` wrote, with folds, or its `predictions.csv`.
        data: The table that was predicted.

    Returns:
        Columns `row`, `id`, `fold`, `label`, `prediction`, `tree_prediction` (J/(mol cell K)), and the Debye
        temperatures `model`, `trees` and `label_theta` (K).
    """
    path = run if run.is_file() else run / "predictions.csv"
    frame = pd.read_csv(path)
    column = f"{LABEL} predicted ({UNIT})"
    missing = [name for name in ("row", "fold", "part", column) if name not in frame.columns]
    trees = f"{LABEL} trees ({UNIT})"
    if missing or trees not in frame.columns:
        raise SystemExit(
            f"{path}: there is no column {(missing or [trees])[0]!r}. Needed are the predictions of `cloud-hf "
            f"finetune` with folds (--folds or --split) and --baselines true, of the target '{LABEL}:{UNIT}'."
        )
    _refuse_second_branch(path)
    frame = frame[frame["part"] == "test"].sort_values("row")
    rows = frame["row"].to_numpy(dtype=int)
    if frame["row"].duplicated().any() or rows.max() >= len(data.label):
        raise SystemExit(f"{path}: the rows are not those of {TABLE}, each once.")
    difference = np.abs(frame[f"{LABEL} ({UNIT})"].to_numpy() - data.label[rows])
    if difference.max() > 1e-6:
        raise SystemExit(f"{path}: the labels are not those of {TABLE}; predict the rows of that table in its order.")
    atoms = data.n_atoms[rows]
    found = pd.DataFrame({
        "row": rows, "id": data.table["id"].to_numpy()[rows], "fold": frame["fold"].to_numpy(),
        "label": data.label[rows], "prediction": frame[column].to_numpy(), "tree_prediction": frame[trees].to_numpy(),
    })  # fmt: skip
    predicted = theta_of(found["prediction"].to_numpy() / atoms)
    found["model"] = frame[THETA].to_numpy() if THETA in frame.columns else predicted
    found["trees"] = theta_of(found["tree_prediction"].to_numpy() / atoms)
    found["label_theta"] = theta_of(found["label"].to_numpy() / atoms)
    return found


def _refuse_second_branch(path: Path) -> None:
    """One Debye temperature does not describe a head with two branches."""
    beside = path.parent / "run.json"
    settings = json.loads(beside.read_text(encoding="utf-8"))["settings"] if beside.is_file() else {}
    if settings.get("second_branch", "none") != "none" or (settings and settings.get("debye") is None):
        raise SystemExit(f"{path}: transfer needs a Debye head with one branch (--debye heat_capacity).")


def transferred(thetas: pd.DataFrame, data: HeatCapacities) -> dict[str, Any]:
    """Errors of Cv per atom and of U(T) - U(0) at each temperature, on the rows with a density of states to trust."""
    table = data.table.iloc[thetas["row"].to_numpy()].reset_index(drop=True)
    chosen = (table["cloud_match_dcv_per_atom"] < MATCH).to_numpy()
    table, thetas = table[chosen].reset_index(drop=True), thetas[chosen].reset_index(drop=True)
    columns = {"model": "model", "trees": "trees", "label": "label_theta"}
    result: dict[str, Any] = {"n": len(table), "heat_capacity": {}, "internal_energy": {}}
    for kelvin in TEMPERATURES:
        cv = table[f"cv_{kelvin}K_per_atom"].to_numpy()
        found = {arm: heat_capacity(thetas[name].to_numpy(), float(kelvin)).numpy() for arm, name in columns.items()}
        result["heat_capacity"][str(kelvin)] = _scored(cv, found, "J/(mol atom K)")
        energy = np.array([phonon_energy(x, y, kelvin) for x, y in zip(table["phfreq"], table["phdos"], strict=True)])
        found = {arm: thermal_energy(thetas[name].to_numpy(), kelvin) for arm, name in columns.items()}
        result["internal_energy"][str(kelvin)] = _scored(energy, found, "J/(mol atom)")
    return result


def _scored(truth: Numbers, found: dict[str, Numbers], unit: str) -> dict[str, Any]:
    mad = float(np.abs(truth - truth.mean()).mean())
    errors = {arm: np.abs(values - truth) for arm, values in found.items()}
    scored: dict[str, Any] = {"unit": unit, "mad": mad, "mean": float(truth.mean())}
    for arm, error in errors.items():
        scored[arm] = {
            "mae": float(error.mean()), "median_absolute_error": float(np.median(error)),
            "mae_mad": float(error.mean() / mad), "mean_error": float((found[arm] - truth).mean()),
        }  # fmt: skip
    scored["model_to_trees"] = paired(errors["model"], errors["trees"])
    return scored


def known_thetas(
    crystals: Sequence[Known], checkpoints: Sequence[Path], thetas: pd.DataFrame, data: HeatCapacities
) -> list[dict[str, Any]]:
    """Debye temperatures in K of crystals by model and trees; those of the table are held out, the others new."""
    place = {scope: row for row, scope in enumerate(data.strings["sites"])}
    held = {row: number for number, row in enumerate(thetas["row"].tolist())}
    strings = [crystal.scope for crystal in crystals]
    models = np.array([_thetas_of_model(folder, strings) for folder in checkpoints])
    baseline = TreeBaseline("heat_capacity")
    baseline.fit(tree_features(data.strings["sites"])[0], data.label, data.n_atoms)
    trees = theta_of(baseline.predict(tree_features(strings)[0])["average"])
    entries = []
    for number, (crystal, scope) in enumerate(zip(crystals, strings, strict=True)):
        entry: dict[str, Any] = {"name": crystal.name, "scope": scope}
        if place.get(scope) in held:
            row = thetas.iloc[held[place[scope]]]
            entry |= {"from": f"held-out row {row['id']}", "model": float(row["model"]), "trees": float(row["trees"])}
        elif scope in place:
            entry |= {"from": "in the table, not predicted", "model": None, "trees": None}
        elif len(models):
            entry |= {"from": f"mean of {len(models)} models", "model": float(models[:, number].mean())}
            entry |= {"model_std": float(models[:, number].std(ddof=1)) if len(models) > 1 else None}
            entry |= {"trees": float(trees[number])}
        else:
            entry |= {"from": "no model", "model": None, "trees": float(trees[number])}
        entries.append(entry)
    return entries


def _thetas_of_model(folder: Path, strings: Sequence[str]) -> list[float]:
    items = [Item(source=scope, scope=scope) for scope in strings]
    found = []
    for prediction in predict_items(load_predictor(str(folder)), items):
        if prediction.item.error is not None:
            raise SystemExit(f"{folder}: {prediction.item.error}")
        values = {quantity["name"]: quantity["value"] for quantity in prediction.quantities}
        found.append(float(values["debye_temperature"]))
    return found


def show(result: dict[str, Any]) -> str:
    """All figures as tables."""
    texts = []
    for quantity, name in (("heat_capacity", "Cv"), ("internal_energy", "U(T) - U(0)")):
        rows = []
        for kelvin, scored in result["rows"][quantity].items():
            gap = scored["model_to_trees"]
            listed = f"{gap['difference']:+.3g} [{gap['low']:+.3g}, {gap['high']:+.3g}]"
            rows.append([kelvin, *(f"{scored[arm]['mae']:.3g}" for arm in ARMS), f"{scored['mad']:.3g}", listed])
        headers = ["T, K", "MAE of the model", "of trees", "of the label's theta", "of the mean", "model - trees"]
        unit = scored["unit"]
        texts.append(f"{name}, {unit}, {result['rows']['n']} rows\n")
        texts.append(tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True) + "\n")
    rows = [
        [entry["name"], entry["from"], entry["model"], entry.get("model_mae"), entry["trees"], entry.get("trees_mae")]
        for entry in result["compounds"]
    ]
    headers = ["compound", "theta from", "theta, K", "MAE of Cv(T), J/(mol K)", "trees' theta, K", "trees' MAE"]
    texts.append(tabulate(rows, headers=headers, tablefmt="github", floatfmt=".3g") + "\n")
    rows = [
        [entry["name"], entry["from"], entry["model"], entry["trees"], entry["handbook"],
         entry.get("model_heat_capacity"), entry.get("trees_heat_capacity"), entry["handbook_heat_capacity"]]
        for entry in result["elements"]
    ]  # fmt: skip
    headers = ["element", "theta from", "theta, K", "trees'", "handbook", "Cv(300 K)", "trees'", "handbook"]
    texts.append(tabulate(rows, headers=headers, tablefmt="github", floatfmt=".4g"))
    return "\n".join(texts)


def fold_models(run: Path) -> list[Path]:
    """Folders of the models of all folds and seeds."""
    folder = run.parent if run.is_file() else run
    return sorted(path.parent for path in folder.glob("fold_*/**/model.safetensors") if "checkpoint" not in str(path))


def main(arguments: Sequence[str] | None = None) -> None:
    """Score, write the result file and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("CLOUD_SHARED", ROOT.parent / "shared"))
    parser.add_argument("run", type=Path, help="what `cloud-hf finetune` with folds wrote, or its predictions.csv")
    parser.add_argument("--checkpoint", type=Path, nargs="+", help="models for crystals that are not in the table")
    parser.add_argument("--data", type=Path, default=shared / "data", help="folder of the tables")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "transfer", help="where the strings are kept")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "transfer.json")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "transfer.png")
    args = parser.parse_args(arguments)
    quiet()
    data = read_heat_capacities(args.data, None, args.work)
    thetas = read_thetas(args.run, data)
    checkpoints = args.checkpoint or fold_models(args.run)
    entries = known_thetas([*COMPOUNDS, *ELEMENTS], checkpoints, thetas, data)
    result: dict[str, Any] = {
        "table": TABLE, "predictions": len(thetas), "models": len(checkpoints), "match_below": MATCH, **provenance(),
        "rows": transferred(thetas, data),
        "compounds": [beside_measured(*pair, PREDICTED) for pair in zip(COMPOUNDS, entries, strict=False)],
        "elements": [
            beside_handbook(*pair, PREDICTED) for pair in zip(ELEMENTS, entries[len(COMPOUNDS) :], strict=True)
        ],
    }  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", args.out)
    plot_curves(result["compounds"], thetas, data, MATCH, args.picture)
    print(show(result))


if __name__ == "__main__":
    main()
