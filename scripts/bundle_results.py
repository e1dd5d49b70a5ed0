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

from cloud_hf.debye import effective_debye_temperature, heat_capacity
from cloud_hf.metrics.statistics import ratio_interval
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
RUNS = {"heat_capacity": ("heat_capacity_run", "heat_capacity_mlm_run"), "refractive_index": ("refractive_index_run",)}
"""Runs with folds whose models are averaged; the other heads are those of `multitask`."""
RESAMPLES = 2000
LABEL = "cloud_cv_J_molcell_K"
"""Column of heat capacities in the table that `cloud-hf study debye` reads."""

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
    ends = ratio_interval(sums["model"], sums["trees"], resamples=RESAMPLES, seed=seed)
    low, high = (100 * (end - 1) for end in ends)
    return {"percent": 100 * (model.sum() / trees.sum() - 1), "low": low, "high": high}


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


def mean_prediction(predictions: list[Numbers], target: str, n_atoms: Numbers | None) -> Numbers:
    """What the joined model predicts: the exponential of the mean ln(Debye temperature) or ln(label)."""
    if len(predictions) == 1 or n_atoms is None:
        means: Numbers = np.exp(np.mean([np.log(values) for values in predictions], axis=0))
        return means
    thetas = [effective_debye_temperature(values, 300.0, n_atoms, clip=True) for values in predictions]
    return heat_capacity(np.exp(np.mean(np.log(thetas), axis=0)), 300.0, n_atoms).numpy()


def out_of_fold(rows: Path, target: str) -> pd.DataFrame:
    """Labels and out-of-fold predictions of model, its members and the trees, a row per crystal.

    `scored/TARGET.csv` gets the same in the form that `cloud-hf finetune` writes, for `cloud-hf calibrate`.
    """
    table = pd.read_parquet(rows / f"{target}.parquet").reset_index(drop=True)
    unit, members = UNITS[target], {}
    for run in RUNS[target]:
        found = pd.read_csv(rows / run / "predictions.csv")
        found = found[found.part == "test"].set_index("row").sort_index()
        if found.scope.tolist() != table.scope.tolist():
            raise SystemExit(f"{run}: the predictions do not cover the table {target}.")
        members[run] = found[f"{target} predicted ({unit})"].to_numpy()
    trees = pd.read_parquet(rows / "trees" / f"{target}.parquet")
    if trees.scope.tolist() != table.scope.tolist():
        raise SystemExit(f"{target}: the trees were scored on other rows.")
    n_atoms = table.n_atoms.to_numpy(dtype=float) if "n_atoms" in table else None
    model = mean_prediction(list(members.values()), target, n_atoms)
    frame = table[["id", "scope", "group", "fold"]].assign(
        label=table[target], model=model, trees=trees.prediction, **members
    )
    columns = {"label": f"{target} ({unit})", "model": f"{target} predicted ({unit})"}
    kept = table[["n_atoms"]] if "n_atoms" in table else table[[]]
    kept = frame[["scope", "fold", *columns]].rename(columns=columns).join(kept).assign(part="test")
    kept.rename_axis("row").to_csv(rows / "scored" / f"{target}.csv")
    if target == "heat_capacity":  # what `cloud-hf study debye --predictions` reads
        names = {"label": LABEL, "model": f"{LABEL} predicted", "trees": f"{LABEL} trees"}
        moved = frame[["fold", *names]].rename(columns={key: f"{name} ({unit})" for key, name in names.items()})
        moved.assign(part="test").rename_axis("row").to_csv(rows / "scored" / "transfer.csv")
    return frame


def held_out(rows: Path, target: str) -> pd.DataFrame:
    """Labels and predictions of the validation part, a row per labelled crystal of each table."""
    table = pd.read_parquet(rows / "multitask.parquet")
    found = pd.read_csv(rows / "multitask" / "predictions.csv").set_index("row").sort_index()
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


def elsewhere(rows: Path, target: str) -> dict[str, Any]:
    """Errors on WBM, whose calculations differ in their settings: as they are, and without the mean difference."""
    unit = UNITS[target]
    table, found = pd.read_parquet(rows / "wbm.parquet"), pd.read_parquet(rows / "wbm_predictions.parquet")
    table = table.assign(model=found[f"{target} ({unit})"])
    table = table[table[target].notna()].rename(columns={target: "label"}).reset_index(drop=True)
    trees = pd.read_parquet(rows / "trees" / f"{target}.parquet")
    trees = trees[trees.table == "wbm"].reset_index(drop=True)
    if trees.scope.tolist() != table.scope.tolist():
        raise SystemExit(f"{target}: model and trees were scored on other rows of WBM.")
    table["trees"] = trees.prediction
    known = table[table.model.notna()]
    offsets = {name: float((known[name] - known.label).mean()) for name in ("model", "trees")}
    shifted = known.assign(**{name: known[name] - offset for name, offset in offsets.items()})
    unread = len(table) - len(known)
    return {"raw": scored(known, unit), "offset": offsets, "corrected": scored(shifted, unit), "not read": unread}


def main() -> None:
    """Write the result file, and a table of rows a head for the intervals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, default=Path("runs/bundle"), help="folder of the other steps")
    own = parser.parse_args()
    (own.rows / "scored").mkdir(exist_ok=True)
    heads: dict[str, Any] = {}
    for target, unit in UNITS.items():
        runs = RUNS.get(target, ("multitask",))
        if not all((own.rows / run / "predictions.csv").is_file() for run in runs):
            print(f"{target}: not there yet")
            continue
        frame = (out_of_fold if target in RUNS else held_out)(own.rows, target)
        frame.to_parquet(own.rows / "scored" / f"{target}.parquet", index=False)
        heads[target] = scored(frame, unit)
        if len(runs) > 1:
            errors = {run: (frame[run] - frame.label).abs().mean() for run in runs}
            heads[target]["members"] = {run: float(error) for run, error in errors.items()}
        if "table" in frame and frame.table.nunique() > 1:
            heads[target]["tables"] = {name: scored(part, unit) for name, part in frame.groupby("table")}
        row, gap = heads[target], heads[target]["difference"]
        print(
            f"{target}: N {row['n']}, MAE {row['model']['mae']:.4g}, trees {row['trees']['mae']:.4g} {unit}, "
            f"{gap['percent']:+.1f} % ({gap['low']:+.1f} to {gap['high']:+.1f})"
        )
    found = {"versions": versions(["cloud-hf", "torch", "transformers", "scikit-learn"]), "heads": heads}
    if (own.rows / "wbm_predictions.parquet").is_file():
        found["wbm"] = {name: elsewhere(own.rows, name) for name in ("formation_energy_per_atom", "band_gap")}
        for name, row in found["wbm"].items():
            raw, shifted = row["raw"], row["corrected"]
            print(
                f"WBM {name}: N {raw['n']}, MAE {raw['model']['mae']:.4g} (trees {raw['trees']['mae']:.4g}), without "
                f"the offset {shifted['model']['mae']:.4g} ({shifted['trees']['mae']:.4g})"
            )
    (ROOT / "docs" / "results" / "heads.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
