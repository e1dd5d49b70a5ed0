"""Score the heads beside the trees on the same rows: `python scripts/bundle_results.py` writes docs/results/heads.json.

Heads with folds are scored on each fold by the model that did not see it, the others on the validation part of the
split of all tables. Differences are paired, row by row; their interval is the bootstrap's over crystals, which are the
groups of the split.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from benchmarking import versions
from numpy.typing import NDArray

from cloud_hf.training.metrics import regression_metrics

ROOT = Path(__file__).resolve().parents[1]
UNITS = {
    "heat_capacity": "J/(mol cell K)",
    "refractive_index": "1",
    "formation_energy_per_atom": "eV/atom",
    "band_gap": "eV",
    "bulk_modulus": "GPa",
    "shear_modulus": "GPa",
    "megnet2018_e_form": "eV/atom",
    "megnet2018_gap_pbe": "eV",
}
FOLDED = ("heat_capacity", "refractive_index")
RESAMPLES = 2000

Numbers = NDArray[np.float64]


def paired(model: Numbers, trees: Numbers, groups: list[str], seed: int = 0) -> dict[str, float]:
    """Difference of the mean absolute errors in percent of the trees', with a 95 % bootstrap interval over crystals.

    Args:
        model: Absolute errors, shape (n,).
        trees: Absolute errors on the same rows.
        groups: Crystal of each row.
        seed: Of the resampling.
    """
    sums = pd.DataFrame({"group": groups, "model": model, "trees": trees}).groupby("group")[["model", "trees"]].sum()
    chance, values = np.random.default_rng(seed), sums.to_numpy()
    drawn = [values[chance.integers(0, len(values), len(values))].sum(axis=0) for _ in range(RESAMPLES)]
    ratios = np.array([100 * (one / other - 1) for one, other in drawn])
    low, high = np.quantile(ratios, (0.025, 0.975))
    return {"percent": 100 * (model.sum() / trees.sum() - 1), "low": float(low), "high": float(high)}


def scored(frame: pd.DataFrame, unit: str) -> dict[str, Any]:
    """Errors of model and trees on some rows.

    Args:
        frame: Columns `label`, `model`, `trees`, `group`.
        unit: Of all three numbers.
    """
    label = frame.label.to_numpy()
    errors = {name: np.abs(frame[name].to_numpy() - label) for name in ("model", "trees")}
    found: dict[str, Any] = {"n": len(frame), "crystals": frame.group.nunique(), "unit": unit}
    for name in errors:
        found[name] = regression_metrics(label, frame[name].to_numpy())
    return found | {"difference": paired(errors["model"], errors["trees"], frame.group.tolist())}


def out_of_fold(rows: Path, run: Path, target: str) -> pd.DataFrame:
    """Labels and out-of-fold predictions of model and trees, a row per crystal."""
    table = pd.read_parquet(rows / f"{target}.parquet").reset_index(drop=True)
    found = pd.read_csv(run / "predictions.csv")
    unit = UNITS[target]
    found = found[found.part == "test"].set_index("row").sort_index()
    trees = pd.read_parquet(rows / "trees" / f"{target}.parquet")
    if len(found) != len(table) or trees.scope.tolist() != table.scope.tolist():
        raise SystemExit(f"{run}: the predictions do not cover the table {target}.")
    return table[["id", "scope", "group", "fold"]].assign(
        label=table[target], model=found[f"{target} predicted ({unit})"], trees=trees.prediction
    )


def held_out(rows: Path, run: Path, target: str) -> pd.DataFrame:
    """Labels and predictions of the validation part, a row per labelled crystal of each table."""
    table = pd.read_parquet(rows / "multitask.parquet")
    found = pd.read_csv(run / "predictions.csv").set_index("row").sort_index()
    column = f"{target} predicted ({UNITS[target]})"
    table = table.assign(model=found[column].reindex(range(len(table))))
    table = table[(table.part == "validation") & table[target].notna()]
    trees = pd.read_parquet(rows / "trees" / f"{target}.parquet")
    trees = trees[trees.table != "wbm"]
    if trees.scope.tolist() != table.scope.tolist() or not np.allclose(trees.label, table[target]):
        raise SystemExit(f"{target}: model and trees were scored on other rows.")
    return table[["id", "table", "scope", "group", "model"]].assign(
        label=table[target], trees=trees.prediction.to_numpy()
    )


def main() -> None:
    """Write the result file, and a table of rows a head for the intervals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, default=Path("runs/bundle"), help="folder of the other steps")
    own = parser.parse_args()
    (own.rows / "scored").mkdir(exist_ok=True)
    heads: dict[str, Any] = {}
    for target, unit in UNITS.items():
        run = own.rows / (f"{target}_run" if target in FOLDED else "multitask")
        if not (run / "predictions.csv").is_file() or not (own.rows / "trees" / f"{target}.parquet").is_file():
            print(f"{target}: not there yet")
            continue
        frame = (out_of_fold if target in FOLDED else held_out)(own.rows, run, target)
        frame.to_parquet(own.rows / "scored" / f"{target}.parquet", index=False)
        heads[target] = scored(frame, unit)
        if "table" in frame and frame.table.nunique() > 1:
            heads[target]["tables"] = {name: scored(part, unit) for name, part in frame.groupby("table")}
        row, gap = heads[target], heads[target]["difference"]
        print(
            f"{target}: N {row['n']}, MAE {row['model']['mae']:.4g}, trees {row['trees']['mae']:.4g} {unit}, "
            f"{gap['percent']:+.1f} % ({gap['low']:+.1f} to {gap['high']:+.1f})"
        )
    path = ROOT / "docs" / "results" / "heads.json"
    path.write_text(
        json.dumps(
            {"versions": versions(["cloud-hf", "torch", "transformers", "scikit-learn"]), "heads": heads}, indent=1
        )
        + "\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
