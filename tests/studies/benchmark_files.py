"""Benchmark files exactly as MatBench and UnconvBench ship them, made of the tests' crystals."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
from pymatgen.core import Lattice, Structure

from cloud_hf.studies.common.folds import kfold_rows


def structure(row: pd.Series) -> Structure:
    """The pymatgen structure of one of the tests' crystals."""
    lattice = Lattice([row["lattice"][start : start + 3] for start in (0, 3, 6)])
    coordinates = [row["frac_coords"][start : start + 3] for start in range(0, len(row["frac_coords"]), 3)]
    return Structure(lattice, row["numbers"], coordinates)


def split_oriented(table: pd.DataFrame, column: str, label: str = "energy") -> dict[str, Any]:
    """What matminer's `store_dataframe_as_json` writes: index, columns, data."""
    data = [[structure(row).as_dict(), float(row[label])] for _, row in table.iterrows()]
    return {"index": list(range(len(table))), "columns": ["structure", column], "data": data}


def fold_ids(name: str, ids: list[str], seed: int) -> dict[str, Any]:
    """A fold file with one task."""
    folds = {}
    for number, test in enumerate(kfold_rows(len(ids), 5, seed)):
        tested = set(test.tolist())
        train = [one for row, one in enumerate(ids) if row not in tested]
        folds[f"fold_{number}"] = {"train": train, "test": [ids[row] for row in test]}
    return {"splits": {name: folds}, "metadata": {"n_splits": 5, "random_state": seed, "shuffle": True}}


def write_matbench(folder: Path, table: pd.DataFrame, task: str = "perovskites", column: str = "e_form") -> Path:
    """Write `matbench_<task>.json.gz` and the fold file, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    width = len(str(len(table)))
    ids = [f"mb-{task.replace('_', '-')}-{row + 1:0{width}d}" for row in range(len(table))]
    with gzip.open(folder / f"matbench_{task}.json.gz", "wt") as file:
        json.dump(split_oriented(table, column), file)
    found = fold_ids(f"matbench_{task}", ids, 18012019)
    (folder / "matbench_v0.1_validation.json").write_text(json.dumps(found))
    return folder
