"""UnconvBench as its files hold it: the benchmark's own JSON with its folds, or the paper's folders of CSV tables.

- `ub_unconvbench_<task>.json` (or `.json.gz`) and `metadata_validation.json`, as the benchmark's package reads them,
  from https://figshare.com/articles/dataset/UnconvBench/26657428. Ids are `unconvbench_<task>-0001` and so on.
- `<task>/<fold>/train_and_val.csv` and `test.csv`, as the paper's code reads them: the string or structure in the first
  column, the target in the second.

Rows, label columns and their sources are those of the benchmark's package (howardwang1997/unconvbench); it gives no
units, so those of the databases stand here. No checksums are published.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cloud_hf.data.inputs import Item
from cloud_hf.data.kept_strings import ONE_WORKER, Workers, encode_once
from cloud_hf.errors import StudyError
from cloud_hf.studies.common.benchmark_files import (
    SplitJson,
    encode_split_json,
    read_fold_file,
    read_labelled_table,
)
from cloud_hf.studies.common.crystals import crystals_from_strings
from cloud_hf.studies.common.folder import sha256_of
from cloud_hf.studies.common.folds import Fold, FoldedTask, choose_folds, rows_of_ids

__all__ = ["FOLD_FILE", "UNCONVBENCH_TASKS", "UnconvTask", "find_folders", "load_folder"]

FOLD_FILE = "metadata_validation.json"
PREFIX = "unconvbench_"
TABLES = ("train_and_val.csv", "test.csv")
SOURCE = "https://figshare.com/articles/dataset/UnconvBench/26657428"


@dataclass(frozen=True)
class UnconvTask:
    """A task of the benchmark.

    Attributes:
        name: Without the prefix `unconvbench_`.
        target: Label column in the benchmark's file.
        quantity: What it is, with the database that it comes from.
        unit: Unit that the database gives.
        rows: Rows of the data set; 0: not known.
        transform: What a head learns. `per_atom`: the label is of a whole primitive cell, and grows with it.
    """

    name: str
    target: str
    quantity: str
    unit: str
    rows: int
    transform: str = "standardise"


_TASKS = (
    UnconvTask("exfoliation", "exfoliation_energy_per_atom", "exfoliation energy (2DMatPedia)", "eV/atom", 4527),
    UnconvTask("2d_e_tot", "etot", "total energy (C2DB)", "eV/cell", 3520, "per_atom"),
    UnconvTask("2d_gap", "gap", "band gap (C2DB)", "eV", 3520),
    UnconvTask("qmof", "energy_total", "total energy (QMOF)", "eV/cell", 5106, "per_atom"),
    UnconvTask("co2_adsp", "max_co2_adsp", "largest CO2 uptake (hMOF)", "mol/kg", 13765),
    UnconvTask("supercon", "Tc", "critical temperature (JARVIS)", "K", 1058),
    UnconvTask("defected", "ef", "vacancy formation energy (JARVIS)", "eV", 530),
)

UNCONVBENCH_TASKS = {task.name: task for task in _TASKS}
"""The tasks with 2-D crystals, metal-organic frameworks, superconductors and defects."""


def find_folders(data: Sequence[str], tasks: Sequence[str]) -> dict[str, Path]:
    """Find each task's JSON file or folder of folds.

    Args:
        data: Folders that hold either, folders of a task, or JSON files.
        tasks: Names, with or without `unconvbench_`; none: all that are there.

    Returns:
        Name of the task to its JSON file or folder.

    Raises:
        StudyError: A task is not there; the message says what is looked for.
    """
    paths: dict[str, Path] = {}
    for entry in map(Path, data):
        if not entry.exists():
            raise StudyError("there is no such file or folder.", source=str(entry))
        inside = sorted(entry.iterdir()) if entry.is_dir() else [entry]
        candidates = [entry] if any(_fold_number(path) is not None for path in inside) else inside
        for path in candidates:
            json_file = re.fullmatch(rf"ub_(?:{PREFIX})?(\w+)\.json(?:\.gz)?", path.name)
            if json_file:
                paths.setdefault(json_file[1], path)
            elif path.is_dir() and any(_fold_number(fold) is not None for fold in path.iterdir()):
                paths.setdefault(path.resolve().name.removeprefix(PREFIX), path)
    names = [task.removeprefix(PREFIX) for task in tasks]
    missing = [name for name in names if name not in paths]
    if missing or not paths:
        wanted = ", ".join(
            f"{name} ({UNCONVBENCH_TASKS[name].rows:,} rows)" if name in UNCONVBENCH_TASKS else name
            for name in missing or UNCONVBENCH_TASKS
        )
        there = f" (there are {', '.join(paths)})" if paths else ""
        raise StudyError(
            f"no data of {wanted}{there}; give folders TASK/FOLD with {' and '.join(TABLES)}, or "
            f"ub_{PREFIX}TASK.json and {FOLD_FILE} from {SOURCE} (no checksums are published).",
            source=", ".join(data),
        )
    return {name: paths[name] for name in names or paths}


def _fold_number(path: Path) -> int | None:
    number = re.fullmatch(r"(?:fold_?)?(\d{1,3})", path.name)
    return int(number[1]) if number and path.is_dir() else None


def load_folder(
    name: str, path: Path, cache: Path, folds: Sequence[int] = (), workers: Workers = ONE_WORKER,
    target: str | None = None, structure: str | None = None,
) -> FoldedTask:  # fmt: skip
    """Read a task's rows and folds, and encode its crystals.

    Args:
        name: Without `unconvbench_`; may be none of the benchmark's.
        path: What `find_folders` returned.
        cache: Folder that keeps the strings for the next time.
        folds: Those to return; none: all.
        workers: Processes that encode crystals.
        target: Column of the target, if it cannot be told.
        structure: Column of the crystals, if it cannot be told.

    Raises:
        StudyError: Data or folds cannot be used.
        TableError: A table cannot be used.
    """
    task = UNCONVBENCH_TASKS.get(name) or UnconvTask(name, target or "", target or name, "unit of the table", 0)
    if path.is_dir():
        return _from_tables(task, path, cache, folds, workers, target, structure)
    return _from_json(task, path, cache, folds, workers, target)


def _from_json(
    task: UnconvTask, path: Path, cache: Path, folds: Sequence[int], workers: Workers, target: str | None
) -> FoldedTask:
    fold_file = path.with_name(FOLD_FILE)
    if not fold_file.is_file():
        raise StudyError(
            f"{FOLD_FILE}, which holds the official folds, is not beside it; get it from {SOURCE}.", source=str(path)
        )
    splits = read_fold_file(fold_file)
    key = f"{PREFIX}{task.name}"
    if key not in splits:
        raise StudyError(f"has no folds of {key}; it has {', '.join(splits)}.", source=str(fold_file))

    def identify(data: SplitJson) -> list[str]:
        width = len(str(len(data)))
        return [f"{key}-{row + 1:0{width}d}" for row in range(len(data))]

    sha256 = sha256_of(path)
    strings, ids, labels = encode_split_json(path, sha256, target, identify, cache, workers, task.name)
    crystals = crystals_from_strings(strings, ids, {task.name: labels}, path)
    facts = {"file": path.name, "sha256": sha256, "fold_file_sha256": sha256_of(fold_file), "rows": len(ids)}
    return FoldedTask(
        task.name, task.quantity, task.unit, task.transform, crystals, ids, labels,
        rows_of_ids(splits[key], ids, str(fold_file), folds), "test rows of the official folds", facts,
    )  # fmt: skip


def _from_tables(
    task: UnconvTask, path: Path, cache: Path, chosen: Sequence[int], workers: Workers, target: str | None,
    structure: str | None,
) -> FoldedTask:  # fmt: skip
    folders = {number: fold for fold in sorted(path.iterdir()) if (number := _fold_number(fold)) is not None}
    nothing = np.zeros(0, dtype=np.int64)
    wanted = choose_folds([Fold(number, nothing, nothing) for number in sorted(folders)], chosen, str(path))
    items: list[Item] = []
    ids: list[str] = []
    labels: list[NDArray[np.float64]] = []
    folds: list[Fold] = []
    facts: dict[str, Any] = {"file": f"{path.resolve().name}/*/{{{','.join(TABLES)}}}", "sha256": {}}
    for fold in wanted:
        parts = []
        for table in TABLES:
            file = folders[fold.number] / table
            table_items, names, values = read_labelled_table(file, target, structure, [task.target])
            parts.append(np.arange(len(items), len(items) + len(table_items)))
            items += table_items
            ids += [
                f"{fold.number}/{identifier}" if identifier.startswith(f"{table}:") else identifier
                for identifier in names
            ]
            labels.append(values)
            facts["sha256"][f"{fold.number}/{table}"] = sha256_of(file)
        train, test = (set(ids[rows[0] : rows[-1] + 1]) for rows in parts)
        if train & test:
            raise StudyError(
                f"the tables overlap: {len(train & test)} ids stand in both, the first {min(train & test)!r}.",
                source=str(folders[fold.number]),
            )
        folds.append(Fold(fold.number, *parts))
    facts |= {"rows": len(folds[0].train) + len(folds[0].test), "rows_read": len(ids)}
    every = np.concatenate(labels)
    strings = _encoded(task.name, items, cache, workers)
    crystals = crystals_from_strings(strings, ids, {task.name: every}, path)
    loaded = FoldedTask(
        task.name, task.quantity, task.unit, task.transform, crystals, ids, every, folds,
        f"test rows of the tables of `{path.resolve().name}`", facts,
    )  # fmt: skip
    _refuse_copies(loaded, path)
    return loaded


def _encoded(name: str, items: Sequence[Item], cache: Path, workers: Workers) -> pd.DataFrame:
    """What `encode_once` returns; a crystal stands in the tables of every fold, and is encoded once."""
    first: dict[Any, int] = {}
    for row, item in enumerate(items):
        first.setdefault(item.key, row)
    strings = encode_once([items[row] for row in first.values()], cache, name, repr(list(first)), workers)
    place = {key: number for number, key in enumerate(first)}
    return strings.iloc[[place[item.key] for item in items]].reset_index(drop=True)


def _refuse_copies(task: FoldedTask, path: Path) -> None:
    """Refuse a test table that the training table holds in full: one was copied over the other."""
    pairs: dict[int, tuple[str, float]] = {
        int(row): (scope, float(task.labels[row]))
        for row, scope in zip(task.crystals.position, task.crystals.scopes, strict=True)
    }
    for fold in task.folds:
        seen = {pairs[row] for row in fold.train.tolist() if row in pairs}
        tests = [pairs[row] for row in fold.test.tolist() if row in pairs]
        if tests and all(pair in seen for pair in tests):
            raise StudyError(
                f"the tables of fold {fold.number} overlap: {TABLES[0]} holds every row of {TABLES[1]}, string "
                "and target.",
                source=str(path),
            )
