"""The trees' predictions for every row that a bundled head is scored on, from the rows that it was trained on.

`python scripts/bundle_trees.py --rows runs/bundle` reads the tables that `scripts/bundle_rows.py` wrote and writes
`trees/NAME.parquet` for each target: scope, id, label, fold or part, prediction. A target whose file exists is skipped.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from cloud_hf.baselines import tree_predictions

LOG = frozenset({"bulk_modulus", "shear_modulus", "refractive_index"})
TARGETS = (
    "heat_capacity",
    "refractive_index",
    "bulk_modulus",
    "shear_modulus",
    "band_gap",
    "formation_energy_per_atom",
    "megnet2018_gap_pbe",
    "megnet2018_e_form",
)


def _by_folds(table: pd.DataFrame, target: str) -> pd.DataFrame:
    found = np.full(len(table), np.nan)
    for fold in tqdm(sorted(table.fold.unique()), desc=target):
        train, test = (np.flatnonzero(mask) for mask in (table.fold != fold, table.fold == fold))
        kind = "heat_capacity" if target == "heat_capacity" else "log"
        atoms = table.n_atoms.to_numpy() if target == "heat_capacity" else None
        found[test] = tree_predictions(table.scope.tolist(), table[target].to_numpy(), train, test, kind, atoms)
    kept = ["id", "scope", "fold", *(["n_atoms"] if "n_atoms" in table else [])]
    return table[kept].assign(label=table[target], prediction=found)


def _by_part(table: pd.DataFrame, target: str, wbm: pd.DataFrame) -> pd.DataFrame:
    """Predict the validation part, and WBM where it has the quantity."""
    table = table[table[target].notna()]
    if target in wbm:
        table = pd.concat([table, wbm[wbm[target].notna()].assign(part="outside")])
    table = table.reset_index(drop=True)
    train, test = (np.flatnonzero(mask) for mask in (table.part == "train", table.part != "train"))
    kind = "log" if target in LOG else "value"
    found = tree_predictions(table.scope.tolist(), table[target].to_numpy(), train, test, kind)
    return table.loc[test, ["id", "table", "scope"]].assign(label=table[target].to_numpy()[test], prediction=found)


def main() -> None:
    """Write a file a target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, default=Path("runs/bundle"), help="folder that bundle_rows.py wrote")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=TARGETS)
    own = parser.parse_args()
    (own.rows / "trees").mkdir(exist_ok=True)
    for target in own.targets:
        path = own.rows / "trees" / f"{target}.parquet"
        if path.exists():
            continue
        if target in ("heat_capacity", "refractive_index"):
            found = _by_folds(pd.read_parquet(own.rows / f"{target}.parquet"), target)
        else:
            wbm = pd.read_parquet(own.rows / "wbm.parquet")
            found = _by_part(pd.read_parquet(own.rows / "multitask.parquet"), target, wbm)
        found.to_parquet(path.with_suffix(".part"), index=False)
        path.with_suffix(".part").rename(path)
        error = (found.prediction - found.label).abs()
        print(f"{target}: MAE {error.mean():.4f}, median {error.median():.4f}, N {len(found)}")


if __name__ == "__main__":
    main()
