"""MatBench v0.1 as its files hold it: data sets with structures, and the official folds; or tables in their place.

The folds are scikit-learn's `KFold(5, shuffle=True, random_state=18012019)` of the rows in the file's order, by which
the fold file is checked: that of matbench_dielectric gives the ids of the benchmark's published submissions.

Facts about the tasks are those of the benchmark's repository and of matminer's registry of data sets, which the
benchmark loads from: rows, target, MAD and unit (`matbench_v0.1_dataset_metadata.json`), and address and SHA-256
(`dataset_metadata.json`). Neither gives sizes in bytes, nor a checksum of the fold file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cloud_hf.data.kept_strings import ONE_WORKER, Workers, encode_once
from cloud_hf.data.splits import folds_by_string
from cloud_hf.data.tables import TABLE_SUFFIXES
from cloud_hf.errors import StudyError
from cloud_hf.studies.common.benchmark_files import (
    SplitJson,
    encode_split_json,
    read_fold_file,
    read_labelled_table,
)
from cloud_hf.studies.common.crystals import crystals_from_strings
from cloud_hf.studies.common.folder import sha256_of
from cloud_hf.studies.common.folds import Fold, FoldedTask, choose_folds, kfold_rows, rows_of_ids
from cloud_hf.studies.common.published import MATBENCH_UNITS

__all__ = ["FOLD_FILE", "FOLD_SEED", "MATBENCH_TASKS", "MatbenchTask", "Source", "find_sources", "load_task"]

FOLD_FILE = "matbench_v0.1_validation.json"
FOLD_SEED = 18012019
REPOSITORY = "https://github.com/materialsproject/matbench"
ADDRESS = "https://ml.materialsproject.org/projects/{}"
"""Of a file of the benchmark, by its name."""


@dataclass(frozen=True)
class MatbenchTask:
    """A task of the benchmark.

    Attributes:
        name: Without the prefix `matbench_`.
        target: Column of the target.
        quantity: What it is, in words.
        rows: Rows of the data set.
        mad: Mean absolute deviation of the target, in its unit.
        sha256: SHA-256 of `matbench_<name>.json.gz`.
        transform: What a head learns. The logarithm of what is positive and spans orders of magnitude by its nature, a
            refractive index (of 1 at least) and a frequency; no test row has been looked at for it.
    """

    name: str
    target: str
    quantity: str
    rows: int
    mad: float
    sha256: str
    transform: str = "standardise"

    @property
    def unit(self) -> str:
        """Of the target."""
        return MATBENCH_UNITS[f"matbench_{self.name}"]


_TASKS = (
    MatbenchTask("jdft2d", "exfoliation_en", "exfoliation energy", 636, 67.20200406491116,
                 "26057dc4524e193e32abffb296ce819b58b6e11d1278cae329a2f97817a4eddf"),
    MatbenchTask("phonons", "last phdos peak", "frequency of the last phonon DOS peak", 1265, 323.78696979348734,
                 "4db551f21ec5f577e6202725f10e34dfc509aa7df3a6bdaac497da7f6dbbb9b3", "log"),
    MatbenchTask("dielectric", "n", "refractive index", 4764, 0.808534704217072,
                 "83befa09bc2ec2f4b6143afc413157827a90e5e2e42c1eb507ccfa01bf26a1d6", "log"),
    MatbenchTask("log_gvrh", "log10(G_VRH)", "log10 of the shear modulus", 10987, 0.29313828328604646,
                 "098af941f4c663270f1fe21abf20ffad6fb85ecbfcba5786ceac03983ac29da7"),
    MatbenchTask("log_kvrh", "log10(K_VRH)", "log10 of the bulk modulus", 10987, 0.2896736342937069,
                 "44b113ddb7e23aa18731a62c74afa7e5aa654199e0db5f951c8248a00955c9cd"),
    MatbenchTask("perovskites", "e_form", "formation energy", 18928, 0.5659924184827462,
                 "4641e2417f8ec8b50096d2230864468dfa08278dc9d257c327f65d0305278483"),
    MatbenchTask("mp_gap", "gap pbe", "PBE band gap", 106113, 1.3271449960162496,
                 "58b65746bd88329986ed66031a2ac1369c7c522f7bc9f9081528e07097c2c057"),
    MatbenchTask("mp_e_form", "e_form", "formation energy", 132752, 1.0059220443295362,
                 "dedcb1d4ba2e3e50dbdd45ba5bc647a00e9c2bcf8f8bf556dc8e92caa39eb21f"),
)  # fmt: skip

MATBENCH_TASKS = {task.name: task for task in _TASKS}
"""The eight structure tasks, without the prefix `matbench_`."""


@dataclass(frozen=True)
class Source:
    """Where a task's rows come from.

    Attributes:
        path: `matbench_<task>.json.gz`, or a table.
        folds: The fold file, if there is one.
    """

    path: Path
    folds: Path | None

    @property
    def is_table(self) -> bool:
        """Whether rows come from a table instead of the benchmark's file."""
        return self.path.suffix.lower() in TABLE_SUFFIXES


def find_sources(data: Sequence[str], tasks: Sequence[str]) -> dict[str, Source]:
    """Find each task's data set, or a table in its place, and the fold file.

    Args:
        data: Folders and files.
        tasks: Names, with or without `matbench_`; none: all that are there.

    Raises:
        StudyError: Something is missing; the message says where to get it.
    """
    names = [task.removeprefix("matbench_") for task in tasks]
    for name in names:
        if name not in MATBENCH_TASKS:
            raise StudyError(f"There is no structure task {name!r} in MatBench; there are {', '.join(MATBENCH_TASKS)}.")
    files: list[Path] = []
    for entry in map(Path, data):
        if not entry.exists():
            raise StudyError("there is no such file or folder.", source=str(entry))
        files += sorted(entry.iterdir()) if entry.is_dir() else [entry]
    folds = next((file for file in files if file.name in (FOLD_FILE, f"{FOLD_FILE}.gz")), None)
    paths = {name: path for name in MATBENCH_TASKS if (path := _data_set(files, name, data)) is not None}
    if len(names) == 1 and names[0] not in paths and len(data) == 1 and Path(data[0]).is_file():
        paths[names[0]] = Path(data[0])  # a table of any name
    missing = [name for name in names if name not in paths]
    if missing or not paths:
        wanted = "\n".join(f"  {_where(name)}" for name in missing or MATBENCH_TASKS)
        raise StudyError(f"no data set of these tasks; download into one folder:\n{wanted}", source=", ".join(data))
    chosen = {name: Source(paths[name], folds) for name in names or paths}
    if folds is None and not all(source.is_table for source in chosen.values()):
        raise StudyError(
            f"{FOLD_FILE} is not there, which holds the official folds; copy it from the folder "
            f"matbench of {REPOSITORY} (no checksum of it is published).",
            source=", ".join(data),
        )
    return chosen


def _data_set(files: Sequence[Path], name: str, data: Sequence[str]) -> Path | None:
    for suffix in (".json.gz", ".json"):
        official = [file for file in files if file.name == f"matbench_{name}{suffix}"]
        if official:
            return official[0]
    tables = [file for file in files if file.suffix.lower() in TABLE_SUFFIXES and name in file.stem]
    if len(tables) > 1:
        raise StudyError(
            f"{' and '.join(file.name for file in tables)} could each be {name}; name one with --data.",
            source=", ".join(data),
        )
    return tables[0] if tables else None


def _where(name: str) -> str:
    task = MATBENCH_TASKS[name]
    file = f"matbench_{name}.json.gz"
    return f"{ADDRESS.format(file)} ({task.rows:,} rows, SHA-256 {task.sha256})"


def load_task(
    name: str, source: Source, cache: Path, folds: Sequence[int] = (), inner_folds: int = 5, seed: int = 0,
    workers: Workers = ONE_WORKER, target: str | None = None, structure: str | None = None,
) -> FoldedTask:  # fmt: skip
    """Read a task's rows and folds, and encode its crystals.

    Args:
        name: Without `matbench_`.
        source: What `find_sources` returned.
        cache: Folder that keeps the strings for the next time.
        folds: Those to return; none: all.
        inner_folds: Folds that a table without official test rows is dealt out into.
        seed: Seed of those folds.
        workers: Processes that encode crystals.
        target: Column of the target in a table, if it has another name.
        structure: Column of the crystals in a table, if it has another name.

    Raises:
        StudyError: Data or folds cannot be used.
        TableError: A table cannot be used.
    """
    task = MATBENCH_TASKS[name]
    sha256 = sha256_of(source.path)
    facts: dict[str, Any] = {"file": source.path.name, "sha256": sha256}
    if source.is_table:
        items, ids, labels = read_labelled_table(source.path, target, structure, [task.target, name])
        strings = encode_once(items, cache, name, f"{sha256} {structure}", workers)
    else:
        strings, ids, labels = _read_data_set(name, source.path, sha256, cache, workers)
        facts["sha256_published"] = task.sha256
    facts["rows"] = len(ids)
    crystals = crystals_from_strings(strings, ids, {name: labels}, source.path)
    if source.folds is None:
        groups = list(ids)
        for position, scope in zip(crystals.position, crystals.scopes, strict=True):
            groups[position] = scope
        dealt = folds_by_string(groups, inner_folds, seed)
        every = [Fold(k, np.flatnonzero(dealt != k), np.flatnonzero(dealt == k)) for k in range(inner_folds)]
        chosen = choose_folds(every, folds, str(source.path))
        rows = f"held-out rows of `{source.path.name}` ({inner_folds} inner folds, not the official ones)"
    else:
        chosen, is_rule = _official(name, source, ids, folds)
        rows = "test rows of the official folds"
        facts |= {"fold_file": source.folds.name, "fold_file_sha256": sha256_of(source.folds), "folds_by_rule": is_rule}
    return FoldedTask(name, task.quantity, task.unit, task.transform, crystals, ids, labels, chosen, rows, facts)


def _official(name: str, source: Source, ids: list[str], folds: Sequence[int]) -> tuple[list[Fold], bool]:
    """The folds to run, and whether all of them are those of the benchmark's rule."""
    path = str(source.folds)
    splits = read_fold_file(path)
    if f"matbench_{name}" not in splits:
        raise StudyError(f"has no folds of matbench_{name}; it has {', '.join(splits)}.", source=path)
    if source.is_table and not any(identifier.startswith("mb-") for identifier in ids):
        raise StudyError(
            f"has no column 'id' with the ids of {path} (mb-{name.replace('_', '-')}-...); add them, or "
            "leave the fold file out for folds of the table's own rows.",
            source=str(source.path),
        )
    every = rows_of_ids(splits[f"matbench_{name}"], ids, path)
    rule = kfold_rows(len(ids), 5, FOLD_SEED)
    is_rule = len(every) == 5 and all(np.array_equal(np.sort(f.test), rule[f.number]) for f in every)
    return choose_folds(every, folds, path), is_rule


def _read_data_set(
    name: str, path: Path, sha256: str, cache: Path, workers: Workers
) -> tuple[pd.DataFrame, list[str], NDArray[np.float64]]:
    """What `encode_once` returns, the benchmark's ids (`mb-dielectric-0001`), and the labels."""
    prefix = f"mb-{name.replace('_', '-')}"

    def identify(data: SplitJson) -> list[str]:
        width = len(str(len(data)))
        return [
            name_or_number if isinstance(name_or_number, str) else f"{prefix}-{name_or_number + 1:0{width}d}"
            for name_or_number in data.index
        ]

    return encode_split_json(path, sha256, MATBENCH_TASKS[name].target, identify, cache, workers, name)
