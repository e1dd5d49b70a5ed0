"""The trees' predictions for every row that a bundled head is scored on, from the rows that it was trained on.

`python scripts/bundle_trees.py --rows runs/bundle` reads the tables that `scripts/bundle_rows.py` wrote and writes
`trees/NAME.parquet` for each target: scope, id, label, fold or table, `prediction`, and in `trees` which kind of trees
an inner validation within the training rows chose. A target whose file exists is skipped.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from cloud_hf.baselines import chosen_trees
from cloud_hf.data.tables import write_table

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


def _predicted(table: pd.DataFrame, target: str, train: pd.Series, test: pd.Series) -> pd.DataFrame:
    """Predictions for the test rows, and the chosen trees."""
    kind = "heat_capacity" if target == "heat_capacity" else "log" if target in LOG else "value"
    atoms = table.n_atoms.to_numpy() if kind == "heat_capacity" else None
    rows = np.flatnonzero(train), np.flatnonzero(test)
    found, choice = chosen_trees(table.scope.tolist(), table[target].to_numpy(), *rows, kind, atoms)
    return pd.DataFrame({"prediction": found, "trees": choice.model}, index=table.index[test])


def _by_folds(table: pd.DataFrame, target: str) -> pd.DataFrame:
    folds = tqdm(sorted(table.fold.unique()), desc=target)
    found = pd.concat([_predicted(table, target, table.fold != fold, table.fold == fold) for fold in folds])
    kept = ["id", "scope", "fold", *(["n_atoms"] if "n_atoms" in table else [])]
    return table[kept].assign(label=table[target]).join(found)


def _by_part(table: pd.DataFrame, target: str, wbm: pd.DataFrame) -> pd.DataFrame:
    """Predict the validation part, and WBM where it has the quantity."""
    table = table[table[target].notna()]
    if target in wbm:
        table = pd.concat([table, wbm[wbm[target].notna()].assign(part="outside")])
    table = table.reset_index(drop=True)
    train = table.part == "train"
    found = _predicted(table, target, train, ~train)
    return table.loc[~train, ["id", "table", "scope", "part"]].assign(label=table.loc[~train, target]).join(found)


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
        write_table(found, path)
        kinds = ", ".join(found.trees.unique())
        print(f"{target}: {kinds}, MAE {(found.prediction - found.label).abs().mean():.4f}, N {len(found)}", flush=True)


if __name__ == "__main__":
    main()
