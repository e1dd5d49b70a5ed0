"""Benchmarks with folds that others have chosen: what folds must not be, every fold as one cell, errors over folds."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from cloud_hf.data.splits import split_by_string
from cloud_hf.data.tables import write_table
from cloud_hf.errors import StudyError
from cloud_hf.studies.common.arguments import TrainingStudyArguments
from cloud_hf.studies.common.crystals import Crystals
from cloud_hf.studies.common.fitting import StudyTarget, fit_and_predict, trees
from cloud_hf.studies.common.folder import FAILURES_FILE, StudyFolder
from cloud_hf.studies.common.scoring import compared
from cloud_hf.training.arguments import in_range

__all__ = [
    "TRANSFORMS", "Fold", "FoldArguments", "FoldedTask", "check_folds", "choose_folds", "fold_settings",
    "joined_folds", "kfold_rows", "rows_of_ids", "run_folds",
]  # fmt: skip

TRANSFORMS = ("auto", "standardise", "log", "per_atom")

FOLDERS = r"(?<![\w.])(?:/[^\s/:]+)+/"
"""Folders before the name of a file, which say more about a machine than about a row."""

LISTED = 5
"""Failures that a report shows; `FAILURES_FILE` beside it holds all."""

Indices = NDArray[np.int64]
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Fold:
    """Rows of a data set, from 0, as its benchmark deals them out.

    Attributes:
        number: Number of the fold, from 0.
        train: Rows for training and validation.
        test: Rows to predict.
    """

    number: int
    train: Indices
    test: Indices


@dataclass(frozen=True)
class FoldedTask:
    """A data set of n rows with its folds.

    Attributes:
        name: Short name, as `dielectric`.
        quantity: What the labels are, in words.
        unit: Unit of the labels.
        transform: What a head learns: `standardise`, `log` or `per_atom`.
        crystals: Rows with a usable string; `position` holds their rows in the data set.
        ids: Ids of all n rows.
        labels: Labels of all rows, shape (n,).
        folds: Those to run.
        rows: What the test rows are, in words, without the numbers of the folds.
        facts: What results should say about the data: file, hash, number of rows.
    """

    name: str
    quantity: str
    unit: str
    transform: str
    crystals: Crystals
    ids: list[str]
    labels: Numbers
    folds: list[Fold]
    rows: str
    facts: dict[str, Any]

    def __post_init__(self) -> None:
        """Refuse missing labels: a benchmark has none."""
        missing = np.flatnonzero(~np.isfinite(self.labels))
        if len(missing):
            raise StudyError(
                f"{len(missing)} of {len(self.labels)} rows have no target, the first "
                f"{self.ids[missing[0]]!r}; a benchmark's table has one in every row.",
                source=self.name,
            )


def kfold_rows(n: int, folds: int, seed: int) -> list[Indices]:
    """Return the test rows of each fold of scikit-learn's `KFold(folds, shuffle=True, random_state=seed)`."""
    order = np.arange(n)
    np.random.RandomState(seed).shuffle(order)
    return [np.sort(part) for part in np.array_split(order, folds)]


def rows_of_ids(
    splits: Mapping[str, Mapping[str, Sequence[str]]], ids: Sequence[str], path: str, chosen: Sequence[int] = ()
) -> list[Fold]:
    """Turn the ids of a fold file into rows of a data set.

    Args:
        splits: `fold_0`, ... to `train` and `test` to ids.
        ids: Ids of the data set's rows, n.
        path: Path of the fold file, for messages.
        chosen: Numbers of the folds to return; none: all.

    Raises:
        StudyError: An id that the data set lacks, folds that overlap or do not cover it, or no such fold.
    """
    row_of = {name: row for row, name in enumerate(ids)}
    if len(row_of) != len(ids):
        twice = next(name for row, name in enumerate(ids) if row_of[name] != row)
        raise StudyError(f"the id {twice!r} stands in the data set more than once.", source=path)
    folds = []
    for name, parts in splits.items():
        numbered = re.fullmatch(r"fold_(\d+)", name)
        if not numbered:
            raise StudyError(f"names {name!r} among the folds, which are called 'fold_0' and so on.", source=path)
        for part in ("train", "test"):
            unknown = [identifier for identifier in parts[part] if identifier not in row_of]
            if unknown:
                raise StudyError(
                    f"{len(unknown)} of {len(parts[part])} ids of {name}, {part}, are not in the data set, the "
                    f"first {unknown[0]!r} (its first row is {ids[0]!r}); it is the fold file of other data.",
                    source=path,
                )
        train, test = (np.array([row_of[entry] for entry in parts[part]], dtype=np.int64) for part in ("train", "test"))
        folds.append(Fold(int(numbered[1]), train, test))
    folds.sort(key=lambda fold: fold.number)
    check_folds(folds, len(ids), path)
    return choose_folds(folds, chosen, path)


def choose_folds(folds: Sequence[Fold], chosen: Sequence[int], path: str) -> list[Fold]:
    """Return the folds with these numbers, or all of them.

    Raises:
        StudyError: There is no such fold.
    """
    missing = sorted(set(chosen) - {fold.number for fold in folds})
    if missing:
        raise StudyError(
            f"there is no fold {missing[0]}; there are {', '.join(str(f.number) for f in folds)}.", source=path
        )
    return [fold for fold in folds if not chosen or fold.number in chosen]


def check_folds(folds: Sequence[Fold], n: int, path: str) -> None:
    """Refuse folds that a benchmark cannot have.

    Args:
        folds: All folds of a data set of n rows.
        n: Rows.
        path: Path of the fold file, for messages.

    Raises:
        StudyError: A fold with an empty part, a row twice, rows on both sides; test rows of two folds, or of none.
    """
    tested = np.zeros(n, dtype=np.int64)
    for fold in folds:
        name = f"fold {fold.number}"
        for part, rows in (("training", fold.train), ("test", fold.test)):
            if not len(rows):
                raise StudyError(f"{name} has no {part} rows.", source=path)
            if len(np.unique(rows)) != len(rows):
                raise StudyError(f"{name} names a {part} row more than once.", source=path)
        both = np.intersect1d(fold.train, fold.test)
        if len(both):
            raise StudyError(
                f"the folds overlap: {len(both)} rows of {name} are for training and for testing, the first is "
                f"row {both[0]}.",
                source=path,
            )
        if len(fold.train) + len(fold.test) != n:
            left = n - len(fold.train) - len(fold.test)
            raise StudyError(f"{name} leaves out {left} of the data set's {n} rows; it is of other data.", source=path)
        tested[fold.test] += 1
    if (tested != 1).any():
        row = int(np.flatnonzero(tested != 1)[0])
        raise StudyError(
            f"the test rows of the folds overlap or leave rows out: row {row} is tested {tested[row]} times.",
            source=path,
        )


@dataclass
class FoldArguments(TrainingStudyArguments):
    """Which tasks and folds, and what chooses the weights."""

    tasks: list[str] = field(default_factory=list, metadata={"help": "Only these tasks; none: all that are there."})
    folds: list[int] = field(default_factory=list, metadata={"help": "Only these folds, from 0; none: all."})
    transform: str = field(
        default="auto",
        metadata={
            "help": "What heads and trees learn: 'auto', what suits the task, or for every task 'standardise', 'log' "
            "or 'per_atom' (labels of whole cells).",
            "choices": list(TRANSFORMS),
        },
    )
    early_stopping: int | None = field(
        default=None,
        metadata={
            "help": "Evaluations, one an epoch, without a smaller error on rows held back from the training rows after "
            "which to stop; the best epoch's weights predict. None: the last step's weights, and no row is held back."
        },
    )
    validation_fraction: float = field(
        default=0.1, metadata={"help": "Share of a fold's training strings to hold back for --early-stopping."}
    )

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        super().__post_init__()
        if self.early_stopping is not None:
            in_range("early_stopping", self.early_stopping, 1, 1e6)
        in_range("validation_fraction", self.validation_fraction, 0.01, 0.5)
        for fold in self.folds:
            in_range("folds", fold, 0, 1000)
        if self.transform not in TRANSFORMS:
            raise StudyError(f"--transform must be one of {', '.join(TRANSFORMS)}, not {self.transform!r}.")


def fold_settings(arguments: FoldArguments) -> dict[str, Any]:
    """What decides the result of a fold beside its rows and `training_settings`, for `StudyFolder`."""
    return {
        "transform": arguments.transform,
        "early_stopping": arguments.early_stopping,
        "validation_fraction": arguments.validation_fraction if arguments.early_stopping else None,
    }


def run_folds(
    arguments: FoldArguments, folder: StudyFolder, tasks: Sequence[FoldedTask]
) -> tuple[list[tuple[FoldedTask, list[dict[str, Any]]]], dict[str, Any]]:
    """Train and predict every fold that is not done yet, and write `failures.csv` if a row has no usable string.

    Returns:
        Each task with its cells: `labels` and `predictions` of the test rows and what is known about them. And what
        results say of all tasks: `tasks`, name to errors; `without_string`, name to rows; and the first `failures`.

    Raises:
        StudyError: The folder holds this fold of other rows.
    """
    done = []
    with tqdm(total=sum(len(task.folds) for task in tasks), desc="folds", unit="fold", disable=None) as bar:
        for task in tasks:
            cells = []
            for fold in task.folds:
                bar.set_postfix_str(f"{task.name}, fold {fold.number}")
                digest = _digest(task, fold)
                compute = partial(_cell, arguments, task, fold, digest)
                cell = folder.cell(f"{task.name}/fold_{fold.number}", compute)
                if cell.get("digest") != digest:
                    raise StudyError(
                        f"holds fold {fold.number} of {task.name} of other rows, strings or labels; "
                        "give another --out.",
                        source=str(folder.path),
                    )
                cells.append(cell)
                bar.update()
            done.append((task, cells))
    failures = _failures(tasks)
    if len(failures):
        write_table(failures, folder.path / FAILURES_FILE)
    return done, {
        "tasks": {task.name: _scores(task, cells) for task, cells in done},
        "without_string": failures["task"].value_counts().to_dict(),
        "failures": failures.head(LISTED).to_dict("records"),
    }


def joined_folds(cells: Sequence[Mapping[str, Any]]) -> tuple[Numbers, dict[str, Numbers]]:
    """Return the labels of the test rows of all folds, and the predictions of each arm, shape (n,)."""
    labels = np.concatenate([cell["labels"] for cell in cells])
    return labels, {arm: np.concatenate([c["predictions"][arm] for c in cells]) for arm in cells[0]["predictions"]}


def _digest(task: FoldedTask, fold: Fold) -> str:
    """Hash of all that a fold is trained on and scored by."""
    scopes = dict(zip(task.crystals.position.tolist(), task.crystals.scopes, strict=True))
    digest = hashlib.sha256()
    for rows in (fold.train, fold.test):
        digest.update("\n".join(scopes.get(row, "") for row in rows.tolist()).encode())
        digest.update(task.labels[rows].tobytes())
    return digest.hexdigest()[:12]


def _cell(arguments: FoldArguments, task: FoldedTask, fold: Fold, digest: str) -> dict[str, Any]:
    crystals = task.crystals
    where = np.full(len(task.labels), -1, dtype=np.int64)
    where[crystals.position] = np.arange(len(crystals))
    train, test = where[fold.train], where[fold.test]
    train, known = train[train >= 0], test >= 0
    labels = task.labels[fold.train]
    transform = task.transform if arguments.transform == "auto" else arguments.transform
    if transform == "log" and labels.min() <= 0:
        if arguments.transform == "log":
            raise StudyError(
                f"{int((labels <= 0).sum())} training labels of fold {fold.number} are not positive, so "
                "there is no logarithm to learn; leave --transform log out.",
                source=task.name,
            )
        transform = "standardise"
    target = StudyTarget(task.name, task.unit, transform, per_cell=transform == "per_atom")
    fitted, validation = train, None
    if arguments.early_stopping:
        strings = [crystals.scopes[row] for row in train]
        remaining, held_back = split_by_string(strings, arguments.validation_fraction, arguments.seed)
        fitted, validation = train[remaining], train[held_back]
        if not len(validation):
            raise StudyError(
                f"too few training strings to hold back {arguments.validation_fraction:.0%} of them; "
                "raise --validation-fraction, or leave --early-stopping out.",
                source=task.name,
            )
    fit = fit_and_predict(
        arguments, target, crystals, fitted, {"test": test[known]}, validation=validation,
        early_stopping=arguments.early_stopping,
    )  # fmt: skip
    fallback = float(np.median(labels))
    arms = {"model": _filled(fit.predictions["test"], known, fallback)}
    if arguments.baselines:
        arms["trees"] = _filled(trees(target, crystals, train, test[known], arguments.seed), known, fallback)
    arms["mean"] = np.full(len(test), labels.mean())
    seen = {crystals.scopes[row] for row in train}
    return {
        "digest": digest,
        "fold": fold.number,
        "n_train": len(fold.train),
        "n_validation": 0 if validation is None else len(validation),
        "n_test": len(fold.test),
        "train_without_string": int(len(fold.train) - len(train)),
        "test_without_string": int((~known).sum()),
        "test_strings_in_training": sum(crystals.scopes[row] in seen for row in test[known]),
        "fallback": fallback,
        "transform": transform,
        "selection": fit.selection,
        "labels": task.labels[fold.test].tolist(),
        "predictions": {name: values.tolist() for name, values in arms.items()},
    }


def _filled(predictions: Numbers, known: NDArray[np.bool_], fallback: float) -> Numbers:
    """Predictions of all test rows: the median of the training labels where there is no string."""
    filled = np.full(len(known), fallback)
    filled[known] = predictions
    return filled


def _scores(task: FoldedTask, cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Errors of a task.

    Returns:
        `folds`: of each fold the cell without its rows, and `mae` of each arm; `over_folds`: of each arm `mean` and
        `std` of the folds' MAE, as the boards give them, and `mae_mad`, that mean over the MAD of all rows predicted;
        `pooled`: `compared` of the rows of all folds together, with paired differences.
    """
    labels, predictions = joined_folds(cells)
    numbers = ", ".join(str(cell["fold"]) for cell in cells)
    folds = []
    for cell in cells:
        mae = {
            arm: float(np.abs(np.subtract(values, cell["labels"])).mean())
            for arm, values in cell["predictions"].items()
        }
        folds.append({key: cell[key] for key in cell if key not in ("labels", "predictions")} | {"mae": mae})
    pooled = compared(
        labels, predictions, task.unit, f"{task.rows}, {'fold' if len(cells) == 1 else 'folds'} {numbers}",
        "trees" if "trees" in predictions else "mean",
    )  # fmt: skip
    mad = pooled["arms"]["mean"]["mad"]
    over = {}
    for arm in predictions:
        values = [fold["mae"][arm] for fold in folds]
        mean = float(np.mean(values))
        over[arm] = {"mean": mean, "std": float(np.std(values)), "mae_mad": mean / mad if mad else None}
    return {"unit": task.unit, "data": task.facts, "folds": folds, "over_folds": over, "pooled": pooled}


def _failures(tasks: Sequence[FoldedTask]) -> pd.DataFrame:
    """The rows without a usable string, columns `task`, `row`, `id` and `reason`."""
    parts = [
        task.crystals.failures.rename(columns={"source": "id"}).assign(task=task.name)[["task", "row", "id", "reason"]]
        for task in tasks
    ]
    whole = pd.concat(parts, ignore_index=True)
    return whole.assign(reason=whole["reason"].str.replace(FOLDERS, "", regex=True))
