"""Score the joint model beside the trees on the same rows: `python scripts/bundle_results.py --rows runs/bundle`.

Each crystal is predicted by the run `cloud-hf joint --fold K` that kept its fold K back. Writes
`docs/results/heads.json`, `scored/NAME.parquet` for each head, and `predictions.csv` as `cloud-hf calibrate` reads it.
Differences are paired, row by row; their interval is the bootstrap's over crystals, which are the groups of the split.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from benchmarking import versions
from numpy.typing import NDArray

from cloud_hf.data.tables import read_table, write_table
from cloud_hf.files import write_json, write_text
from cloud_hf.metrics import regression_metrics
from cloud_hf.metrics.statistics import bootstrap_interval, ratio_interval
from cloud_hf.training.joint_recipe import JointRecipe, read_joint_recipe

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "scripts" / "recipes" / "joint_table.yaml"
RESAMPLES = 2000
FEWEST = 30
"""Scored rows that a target needs for a figure."""

HEAT_CAPACITIES = (50, 100, 200, 300, 500, 1000)
"""K."""

Numbers = NDArray[np.float64]


def bundle_parser(description: str | None) -> argparse.ArgumentParser:
    """Where the scripts about the bundled heads find what `train_bundled.sh` made before them."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, default=Path("runs/bundle"), help="folder of the other steps")
    parser.add_argument("--data", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--split", type=Path, help="folder that `cloud-hf split` wrote (default: ROWS/split)")
    return parser


def paired(model: Numbers, trees: Numbers, groups: list[str], seed: int = 0) -> dict[str, float]:
    """Difference of the mean absolute errors in percent of the trees', with a 95 % bootstrap interval over crystals.

    Args:
        model: Absolute errors, shape (n,).
        trees: Absolute errors on the same rows.
        groups: Crystal of each row.
        seed: Of the resampling.
    """
    sums = pd.DataFrame({"group": groups, "model": model, "trees": trees}).groupby("group")[["model", "trees"]].sum()
    ends = ratio_interval(sums["model"], sums["trees"], resamples=RESAMPLES, seed=seed)
    low, high = (100 * (end - 1) for end in ends)
    return {"percent": 100 * (model.sum() / trees.sum() - 1), "low": low, "high": high}


def scored(frame: pd.DataFrame, unit: str) -> dict[str, Any]:
    """Errors of the model, and of the trees where there are any, on some rows.

    Args:
        frame: Columns `label`, `model`, `group` and, beside trees, `trees`.
        unit: Of all numbers.
    """
    label, names = frame.label.to_numpy(), [name for name in ("model", "trees") if name in frame]
    figures: dict[str, Any] = {"n": len(frame), "crystals": frame.group.nunique(), "unit": unit}
    for name in names:
        figures[name] = regression_metrics(label, frame[name].to_numpy())
    if "trees" not in names:
        return figures
    model, trees = (np.abs(frame[name].to_numpy() - label) for name in names)
    return figures | {"difference": paired(model, trees, frame.group.tolist())}


def kept_back(runs: Path) -> pd.DataFrame:
    """The joint table with `predicted_NAME`, each row from the run `fold_K` that kept its fold K back.

    Raises:
        SystemExit: A fold has no predictions.
    """
    folds = sorted(runs.glob("fold_*/predictions.parquet"))
    table = pd.concat([read_table(path) for path in folds], ignore_index=True)
    wanted = read_table(runs / "joint.parquet")
    if set(table.scope) != set(wanted.scope) or len(table) != len(wanted):
        raise SystemExit(f"{runs}: the predictions of the folds do not cover the joint table once.")
    return table


def heads(recipe: JointRecipe) -> dict[str, tuple[str, str]]:
    """Name of each head: column of its labels and of the trees, and unit."""
    found = {"heat_capacity": ("heat_capacity_300K", "J/(mol atom K)")}
    for kelvin in HEAT_CAPACITIES:
        if kelvin != 300:
            found[f"heat_capacity_{kelvin}K"] = (f"heat_capacity_{kelvin}K", "J/(mol atom K)")
    return found | {name: (name, target.unit) for name, target in recipe.targets.items()}


def with_trees(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Add the trees' predictions of the same rows; rows of which there are none are an error.

    Raises:
        SystemExit: The trees were scored on other rows.
    """
    if not path.is_file():
        return frame
    trees = read_table(path).set_index("scope")["prediction"]
    values = frame.scope.map(trees)
    if values.isna().any():
        raise SystemExit(f"{path}: {int(values.isna().sum())} scored rows have no prediction of the trees.")
    return frame.assign(trees=values.to_numpy(float))


def dos_figures(table: pd.DataFrame) -> dict[str, Any]:
    """Mean area between predicted and computed cumulative densities of states."""
    areas = table.dos_area.dropna().to_numpy()
    low, high = bootstrap_interval(np.mean, [areas], resamples=RESAMPLES, seed=0)
    return {"n": len(areas), "unit": "1/cm", "mean_area": float(areas.mean()), "mean_area_95": [low, high]}


def paper_rows(table: pd.DataFrame, data: Path, split: Path) -> dict[str, Any]:
    """Cv at 300 K per primitive cell on the rows of the paper's table, imaginary modes and all: its own measure."""
    rows = read_table(split / "heat_capacity_structures_train.split.parquet")
    labels = read_table(data / "heat_capacity_structures_train.parquet")["cloud_cv_J_molcell_K"]
    rows = rows[rows.error.isna() & rows.scope.notna()]
    rows = rows.assign(label=labels.to_numpy()[rows.row.astype(int)])
    by_scope = table.drop_duplicates("scope").set_index("scope")
    rows = rows[rows.scope.isin(by_scope.index)]
    known = by_scope.loc[rows.scope]
    frame = rows[["scope", "group", "label"]].assign(
        model=known["predicted_heat_capacity_300K"].to_numpy() * known.n_atoms.to_numpy(float)
    )
    return scored(frame.dropna().reset_index(drop=True), "J/(mol cell K)")


def refitted(runs: Path) -> pd.DataFrame:
    """Predictions of the runs `refit_K`, by string, for rows of fold K, which their first run kept back."""
    tables = []
    for path in sorted(runs.glob("refit_*/predictions.parquet")):
        table = read_table(path)
        tables.append(table[table.fold == int(path.parent.name.removeprefix("refit_"))])
    return pd.concat(tables).set_index("scope") if tables else pd.DataFrame()


def predictions_csv(table: pd.DataFrame, recipe: JointRecipe, trees: Path, further: pd.DataFrame) -> pd.DataFrame:
    """Labels and predictions of every head in the form of `cloud-hf finetune`.

    Args:
        table: From `kept_back`.
        recipe: Of the joint table.
        trees: Folder with the trees' predictions.
        further: From `refitted`.
    """
    frame = table[["scope", "group", "fold"]].assign(part="test")
    for name, (column, unit) in heads(recipe).items():
        if name not in ("heat_capacity", *recipe.targets):
            continue
        frame[f"{name} ({unit})"] = table[column]
        frame[f"{name} predicted ({unit})"] = table[f"predicted_{column}"]
        if f"predicted_{column}" in further:
            frame[f"{name} refitted ({unit})"] = table.scope.map(further[f"predicted_{column}"])
        if (trees / f"{column}.parquet").is_file():
            known = read_table(trees / f"{column}.parquet").set_index("scope")["prediction"]
            frame[f"{name} trees ({unit})"] = table.scope.map(known)
    start = "frequency_factor_"
    factors = [str(column) for column in table if str(column).startswith(start)]
    return frame.assign(**{f"{column.removeprefix(start)} frequency factor (1)": table[column] for column in factors})


def main() -> None:
    """Write the result file, and a table of rows a head."""
    parser = bundle_parser(__doc__)
    arguments = parser.parse_args()
    recipe = read_joint_recipe(RECIPE)
    table = kept_back(arguments.rows / "joint")
    (arguments.rows / "scored").mkdir(exist_ok=True)
    frame = predictions_csv(table, recipe, arguments.rows / "trees", refitted(arguments.rows / "joint"))
    write_text(frame.rename_axis("row").to_csv(), arguments.rows / "predictions.csv")
    figures: dict[str, Any] = {}
    for name, (column, unit) in heads(recipe).items():
        frame = table[table[column].notna()]
        if len(frame) < FEWEST:
            continue
        frame = frame[["scope", "group", "fold"]].assign(label=frame[column], model=frame[f"predicted_{column}"])
        frame = with_trees(frame.reset_index(drop=True), arguments.rows / "trees" / f"{column}.parquet")
        write_table(frame, arguments.rows / "scored" / f"{name}.parquet")
        row = figures[name] = scored(frame, unit)
        beside = f", trees {row['trees']['mae']:.4g}" if "trees" in row else ""
        print(f"{name}: N {row['n']}, MAE {row['model']['mae']:.4g}{beside} {unit}")
    split = arguments.split or arguments.rows / "split"
    result = {
        "versions": versions(["cloud-hf", "torch", "transformers", "scikit-learn"]),
        "heads": figures,
        "phonon_dos": dos_figures(table),
        "paper_rows": paper_rows(table, arguments.data, split),
    }
    for name in ("phonon_dos", "paper_rows"):
        print(f"{name}: {json.dumps(result[name])[:300]}")
    write_json(result, ROOT / "docs" / "results" / "heads.json", indent=1)


if __name__ == "__main__":
    main()
