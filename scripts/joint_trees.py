"""Trees beside the joint model: their out-of-fold predictions for every label of the joint table.

`python scripts/joint_trees.py --table runs/joint/joint.parquet --out runs/joint/trees` writes `NAME.parquet` for each
target: scope, fold, label, prediction and `chosen`, the kind of trees that an inner validation chose within the rows of
the other folds, on all of which it is then fitted. Errors are printed and written to `errors.json`. Folds that are done
lie in `folds/` and are not fitted again. `--light` takes about a sixth of the time for a few percent more error.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from cloud_hf.baselines import TreeBaseline, tree_features
from cloud_hf.data.tables import read_table, write_table
from cloud_hf.files import write_json

NOT_TARGETS = ("scope", "group", "fold", "part", "n_atoms", "dos")
LOG = frozenset({"bulk_modulus", "shear_modulus", "refractive_index", "debye_temperature"})
"""Quantities, whatever the table they are from, whose logarithm the trees learn."""
FEWEST = 300
"""Labels below which no trees are fitted unless the target is named."""


def kind_of(target: str) -> tuple[str, float]:
    """What the trees learn of a target, and its temperature in K."""
    if target.startswith("heat_capacity_"):
        return "heat_capacity", float(target.removeprefix("heat_capacity_").removesuffix("K"))
    return "log" if any(name in target for name in LOG) else "value", 300.0


def predict_fold(rows: pd.DataFrame, features: np.ndarray, target: str, fold: int, light: bool) -> pd.DataFrame:
    """Fit trees on the rows of the other folds and predict those of one."""
    kind, kelvin = kind_of(target)
    held = (rows.fold == fold).to_numpy(dtype=bool)
    label = rows[target].to_numpy(dtype=float)
    usable = ~held if kind == "value" else ~held & (label > 0)
    baseline = TreeBaseline(kind, kelvin, light=light)
    baseline.fit(features[usable], label[usable], groups=rows.group[usable].tolist())
    predictions = rows.loc[held, ["scope", "fold"]].assign(
        label=label[held], prediction=baseline.predict(features[held])
    )
    inner = json.dumps(baseline.choice.errors)
    return predictions.assign(chosen=baseline.choice.model, inner_errors=inner)


def errors_of(predictions: pd.DataFrame) -> dict[str, object]:
    """MAE, MAE:MAD and N, and what was chosen."""
    error, label = (predictions.prediction - predictions.label).abs(), predictions.label
    return {
        "n": len(predictions),
        "mae": float(error.mean()),
        "mae_mad": float(error.mean() / (label - label.mean()).abs().mean()),
        "median_absolute_error": float(error.median()),
        "mae_of_folds": [float(error[predictions.fold == fold].mean()) for fold in sorted(predictions.fold.unique())],
        "chosen": predictions.groupby("fold").chosen.first().tolist(),
    }


def main() -> None:
    """Write a file a target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True, help="the joint table")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--targets", nargs="+", help="columns; not given: all with enough labels")
    parser.add_argument("--light", action="store_true", help="fewer and coarser trees")
    arguments = parser.parse_args()
    table = read_table(arguments.table).drop(columns="dos", errors="ignore")
    columns = [name for name in map(str, table) if name not in NOT_TARGETS]
    targets = arguments.targets or [name for name in columns if table[name].notna().sum() >= FEWEST]
    unknown = [name for name in targets if name not in columns]
    if unknown:
        raise SystemExit(f"{arguments.table}: no column {', '.join(unknown)}; it has {', '.join(columns)}.")
    features, _ = tree_features(table.scope.tolist())
    (arguments.out / "folds").mkdir(parents=True, exist_ok=True)
    report = arguments.out / "errors.json"
    for target in tqdm(targets, unit="target", disable=None):
        has = table[target].notna().to_numpy(dtype=bool)
        rows = table[has].reset_index(drop=True)
        pieces = []
        for fold in sorted(rows.fold.unique()):
            path = arguments.out / "folds" / f"{target}.{fold}.parquet"
            if not path.exists():
                write_table(predict_fold(rows, features[has], target, int(fold), arguments.light), path)
            pieces.append(pd.read_parquet(path))
        predictions = pd.concat(pieces, ignore_index=True)
        write_table(predictions, arguments.out / f"{target}.parquet")
        errors = errors_of(predictions)
        known = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
        write_json(known | {target: errors | {"light": arguments.light}}, report, indent=2)
        print(f"{target}: MAE {errors['mae']:.4g}, N {errors['n']}, {errors['chosen']}", flush=True)


if __name__ == "__main__":
    main()
