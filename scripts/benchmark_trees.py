"""Score the tree baseline on every labelled table, beside the reference values of the same recipe.

    cloud-hf split ../shared/data/*.parquet --output runs/split
    python scripts/benchmark_trees.py --split runs/split

Three evaluations. `kfold`: the five folds KFold(5, shuffle=True, random_state=0) of the rows in the order of the table,
on which the reference values were found too. `folds`: the five folds of `cloud-hf split`, which the models use. `part`:
trained on its `train` rows, scored on its `validation` rows; the rows behind those reference values are not public, so
the ratio compares different rows. A task that is in the result file already is not run again.
"""

import argparse
import json
import os
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import KFold
from tabulate import tabulate
from tqdm import tqdm

from cloud_hf.baselines import TreeBaseline, tree_features
from cloud_hf.data.splits import split_by_string
from cloud_hf.files import write_json
from cloud_hf.scope import parse

TREE_MODELS = ("boosting", "extra_trees", "average")
"""The models that there are reference errors of."""

ROOT = Path(__file__).resolve().parents[1]
TOLERANCE = 0.03
"""How far above the reference value the error of the same rows may be."""

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Task:
    """One table and label: how it is evaluated, and the reference errors of boosting, extra trees and average."""

    table: str
    label: str
    unit: str
    evaluation: str
    kind: str = "value"
    reference: tuple[float | None, ...] = (None, None, None)
    only: tuple[str, str] | None = None  # score only rows with this value in this column

    @property
    def name(self) -> str:
        """Key in the result file."""
        return f"{self.table}.{self.label}.{self.evaluation}"


CV = ("heat_capacity_structures_train", "cloud_cv_J_molcell_K", "J/(mol cell K)")
INDEX = ("dielectric_fold0_train", "refractive_index", "1")
TASKS = (
    Task(*CV, "kfold", "heat_capacity", (3.270, 3.082, 3.030)),
    Task(*CV, "folds", "heat_capacity"),
    Task("heat_capacity_train", "heat_capacity", "J/(mol cell K)", "bundled", "heat_capacity"),
    Task(*INDEX, "kfold", "log", (0.351, 0.363, 0.3455)),
    Task(*INDEX, "folds", "log"),
    Task("aflow_agl", "debye_temperature", "K", "part", "log", (32.1, 34.5, 32.2)),
    Task("aflow_agl", "bulk_modulus", "GPa", "part", "value", (10.11, 10.34, 9.73)),
    Task("nomad2018", "formation_energy_ev_natom", "eV/cation", "part", "value", (0.0449, 0.0476, 0.0451)),
    Task("nomad2018", "bandgap_energy_ev", "eV", "part", "value", (0.210, 0.229, 0.215)),
    Task(
        "materials_project",
        "formation_energy_per_atom",
        "eV/atom",
        "part",
        "value",
        (0.0759, 0.0735, 0.0695),
        only=("source", "mp20"),
    ),
    Task("wbm", "formation_energy_per_atom", "eV/atom", "part", "value", (0.1201, 0.1287, 0.1194)),
    Task("materials_project", "megnet2018_e_form", "eV/atom", "part", "value", (0.0911, 0.0851, 0.0830)),
    Task("materials_project", "megnet2018_gap_pbe", "eV", "part", "value", (0.396, 0.331, 0.352)),
)
"""Reference errors: measured once with the recipe of `cloud_hf.baselines` by other code; mean absolute errors."""


def read_task(task: Task, data: Path, split: Path) -> pd.DataFrame:
    """Return the labelled rows of a table in their order: `scope`, `label`, `n_atoms`, `fold`, `part`, `scored`."""
    table = pd.read_parquet(data / f"{task.table}.parquet")
    assigned = pd.read_parquet(split / f"{task.table}.split.parquet")
    rows = assigned[["scope", "fold", "part"]].assign(label=table[task.label].astype(float), scored=True)
    if task.only is not None:
        rows["scored"] = table[task.only[0]] == task.only[1]
    if "n_atoms" in table:
        rows["n_atoms"] = table["n_atoms"].astype(float)
    rows = rows[rows["label"].notna() & rows["scope"].notna()].reset_index(drop=True)
    if task.kind == "heat_capacity" and "n_atoms" not in rows:
        rows["n_atoms"] = [float(parse(scope).n_atoms_primitive or 0) for scope in rows["scope"]]
    return rows


def sides(task: Task, rows: pd.DataFrame) -> list[tuple[Rows, Rows]]:
    """Training and test rows of each round."""
    scored = rows["scored"].to_numpy(dtype=bool)
    if task.evaluation == "kfold":
        rounds = KFold(5, shuffle=True, random_state=0).split(rows)
    elif task.evaluation == "bundled":  # a fifth of the strings at random, the rows of the first bundled checkpoint
        rounds = iter([split_by_string(rows["scope"].tolist(), 0.2, seed=0)])
    elif task.evaluation == "folds":
        fold = rows["fold"].to_numpy(dtype=int)
        rounds = ((np.flatnonzero(fold != held), np.flatnonzero(fold == held)) for held in range(fold.max() + 1))
    else:
        held_out = (rows["part"] == "validation").to_numpy(dtype=bool)
        rounds = iter([(np.flatnonzero(~held_out), np.flatnonzero(held_out))])
    return [(train, test[scored[test]]) for train, test in rounds]


def run_task(task: Task, rows: pd.DataFrame, n_jobs: int) -> dict[str, Any]:
    """Train and score; errors in the label's unit, all held-out rows of all rounds together."""
    features, names = tree_features(rows["scope"].tolist())
    labels = rows["label"].to_numpy()
    atoms = rows["n_atoms"].to_numpy() if "n_atoms" in rows else None
    rounds = sides(task, rows)
    errors: dict[str, list[NDArray[np.float64]]] = {name: [] for name in TREE_MODELS}
    spread, chosen, kinds = [], [], []
    for train, test in tqdm(rounds, desc=task.name, unit="round", disable=None):
        baseline = TreeBaseline(task.kind, n_jobs=n_jobs, keep=TREE_MODELS)
        baseline.fit(features[train], labels[train], None if atoms is None else atoms[train])
        each = baseline.predict_each(features[test], None if atoms is None else atoms[test])
        for name in TREE_MODELS:
            errors[name].append(np.abs(each[name] - labels[test]))
        chosen.append(np.abs(each[baseline.choice.model] - labels[test]))
        kinds.append(baseline.choice.model)
        spread.append(labels[test])
    held_out = np.concatenate(spread)
    mad = float(np.abs(held_out - held_out.mean()).mean())
    result: dict[str, Any] = {
        "unit": task.unit,
        "target": task.kind,
        "evaluation": task.evaluation,
        "grammar": parse(rows["scope"][0]).grammar,
        "n_features": len(names),
        "train_rows": round(float(np.mean([len(train) for train, _ in rounds]))),
        "test_rows": len(held_out),
        "mad": mad,
        "same_rows_as_reference": task.evaluation == "kfold",
    }
    result["chosen"] = {"models": sorted(set(kinds)), "mae": float(np.concatenate(chosen).mean())}
    for name, reference in zip(TREE_MODELS, task.reference, strict=True):
        error = np.concatenate(errors[name])
        result[name] = {
            "mae": float(error.mean()),
            "median_absolute_error": float(np.median(error)),
            "mae_mad": float(error.mean() / mad),
            "reference_mae": reference,
            "ratio": None if reference is None else float(error.mean() / reference),
        }
    return result


def show(results: dict[str, Any]) -> str:
    """All results as a table."""
    rows = [
        [
            name,
            row["unit"],
            row["train_rows"],
            row["test_rows"],
            *(row[model]["mae"] for model in TREE_MODELS),
            row["average"]["median_absolute_error"],
            row["average"]["mae_mad"],
            row["average"]["reference_mae"],
            row["average"]["ratio"],
            "yes" if row["same_rows_as_reference"] else "no",
        ]
        for name, row in results.items()
    ]
    headers = ["task", "unit", "train", "test", *TREE_MODELS, "median", "MAE:MAD", "reference", "ratio", "same rows"]
    return tabulate(rows, headers=headers, tablefmt="github", floatfmt=".4g")


def read_results(path: Path) -> dict[str, Any]:
    """What the result file holds by now, by name of the task."""
    return json.loads(path.read_text(encoding="utf-8"))["tasks"] if path.is_file() else {}


def main() -> None:
    """Run what is not in the result file yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("CLOUD_SHARED", ROOT.parent / "shared"))
    parser.add_argument("--data", type=Path, default=shared / "data", help="folder of the tables")
    parser.add_argument("--split", type=Path, required=True, help="what `cloud-hf split` wrote for these tables")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "trees.json")
    parser.add_argument("--only", nargs="+", choices=[task.name for task in TASKS], help="run these tasks, anew")
    parser.add_argument("--n-jobs", type=int, default=1, help="processes for the extra trees")
    args = parser.parse_args()
    for task in TASKS:
        if (task.name not in args.only) if args.only else (task.name in read_results(args.out)):
            continue
        begin = time.perf_counter()
        result = run_task(task, read_task(task, args.data, args.split), args.n_jobs)
        print(f"{task.name}: {time.perf_counter() - begin:.0f} s", flush=True)
        results = read_results(args.out) | {task.name: result}  # read again: another run may have added to it
        ordered = {known.name: results[known.name] for known in TASKS if known.name in results}
        document = {"scikit_learn": version("scikit-learn"), "tasks": ordered}
        write_json(document, args.out)
    results = read_results(args.out)
    print(show(results))
    far = [
        name
        for name, row in results.items()
        if row["same_rows_as_reference"] and row["average"]["ratio"] > 1 + TOLERANCE
    ]
    if far:
        raise SystemExit(f"more than {TOLERANCE:.0%} above the reference: {', '.join(far)}")


if __name__ == "__main__":
    main()
