"""Tasks whose training and test rows others have chosen, and what such folds must not be."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_hf.errors import StudyError
from cloud_hf.studies.common.crystals import Crystals

__all__ = ["Fold", "FoldedTask", "check_folds", "choose_folds", "kfold_rows", "rows_of_ids"]

Indices = NDArray[np.int64]
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Fold:
    """Rows of a data set, from 0, as its benchmark deals them out.

    Attributes:
        number: Of the fold, from 0.
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
        unit: Of the labels.
        transform: What a head learns: `standardise`, `log` or `per_atom`.
        crystals: Rows with a usable string; `position` holds their rows in the data set.
        ids: Of every row, n.
        labels: Of every row, shape (n,).
        folds: Those to run.
        rows: What the test rows are, in words, without the numbers of the folds.
        facts: What results should say about the data: file, hash, number of rows.
        remarks: What a reader must know, one sentence each.
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
    remarks: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Refuse missing labels: a benchmark has none."""
        missing = np.flatnonzero(~np.isfinite(self.labels))
        if len(missing):
            raise StudyError(
                f"{self.name}: {len(missing)} of {len(self.labels)} rows have no target, the first "
                f"{self.ids[missing[0]]!r}; a benchmark's table has one in every row."
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
        ids: Of the data set's rows, n.
        path: Of the fold file, for messages.
        chosen: Numbers of the folds to return; none: all.

    Raises:
        StudyError: An id that the data set lacks, folds that overlap or do not cover it, or no such fold.
    """
    row_of = {name: row for row, name in enumerate(ids)}
    if len(row_of) != len(ids):
        twice = next(name for row, name in enumerate(ids) if row_of[name] != row)
        raise StudyError(f"{path}: the id {twice!r} stands in the data set more than once.")
    folds = []
    for name, parts in splits.items():
        found = re.fullmatch(r"fold_(\d+)", name)
        if not found:
            raise StudyError(f"{path}: names {name!r} among the folds, which are called 'fold_0' and so on.")
        for part in ("train", "test"):
            unknown = [identifier for identifier in parts[part] if identifier not in row_of]
            if unknown:
                raise StudyError(
                    f"{path}: {len(unknown)} of {len(parts[part])} ids of {name}, {part}, are not in the data set, the "
                    f"first {unknown[0]!r} (its first row is {ids[0]!r}); it is the fold file of other data."
                )
        train, test = (np.array([row_of[one] for one in parts[part]], dtype=np.int64) for part in ("train", "test"))
        folds.append(Fold(int(found[1]), train, test))
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
        raise StudyError(f"{path}: there is no fold {missing[0]}; there are {', '.join(str(f.number) for f in folds)}.")
    return [fold for fold in folds if not chosen or fold.number in chosen]


def check_folds(folds: Sequence[Fold], n: int, path: str) -> None:
    """Refuse folds that a benchmark cannot have.

    Args:
        folds: All folds of a data set of n rows.
        n: Rows.
        path: Of the fold file, for messages.

    Raises:
        StudyError: A fold with an empty part, a row twice, rows on both sides; test rows of two folds, or of none.
    """
    tested = np.zeros(n, dtype=np.int64)
    for fold in folds:
        name = f"fold {fold.number}"
        for part, rows in (("training", fold.train), ("test", fold.test)):
            if not len(rows):
                raise StudyError(f"{path}: {name} has no {part} rows.")
            if len(np.unique(rows)) != len(rows):
                raise StudyError(f"{path}: {name} names a {part} row more than once.")
        both = np.intersect1d(fold.train, fold.test)
        if len(both):
            raise StudyError(
                f"{path}: the folds overlap: {len(both)} rows of {name} are for training and for testing, the first is "
                f"row {both[0]}."
            )
        if len(fold.train) + len(fold.test) != n:
            left = n - len(fold.train) - len(fold.test)
            raise StudyError(f"{path}: {name} leaves out {left} of the data set's {n} rows; it is of other data.")
        tested[fold.test] += 1
    if (tested != 1).any():
        row = int(np.flatnonzero(tested != 1)[0])
        raise StudyError(
            f"{path}: the test rows of the folds overlap or leave rows out: row {row} is tested {tested[row]} times."
        )
