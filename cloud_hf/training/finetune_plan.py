"""Which rows of a table train, choose the weights, and are scored, in each of a fine-tuning's runs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers.utils import logging

from cloud_hf.data.splits import PARTS, folds_by_string, split_by_string
from cloud_hf.errors import TableError
from cloud_hf.training.finetune_arguments import FinetuneArguments
from cloud_hf.training.finetune_rows import Rows

__all__ = ["Division", "divide"]

logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class Division:
    """One way to divide the rows.

    Attributes:
        fold: Number of the fold that is scored; None without folds.
        parts: Row numbers of `train`, `validation` (never trained on; early stopping looks at them) and `test` (not
            looked at before the end); parts without rows are left out.
    """

    fold: int | None
    parts: dict[str, NDArray[np.int64]]


def divide(arguments: FinetuneArguments, rows: Rows, seed: int) -> list[Division]:
    """Divide the rows as `--split`, `--folds` or `--validation-fraction` say.

    Raises:
        TableError: Nothing is left to train on or to stop by, one id in two parts, fewer strings than folds.
    """
    if rows.split is not None and rows.split.dtype.kind == "U":
        parts = {part: np.flatnonzero(rows.split == part) for part in PARTS}
        divisions = [Division(None, _with_validation(arguments, rows, parts, seed))]
        _refuse_shared_ids(arguments, rows)
    elif rows.split is not None or arguments.folds is not None:
        _refuse_shared_ids(arguments, rows)
        folds: Any = rows.split if arguments.folds is None else folds_by_string(rows.group, arguments.folds, seed)
        divisions = []
        for fold in np.unique(folds):
            parts = {"train": np.flatnonzero(folds != fold), "test": np.flatnonzero(folds == fold)}
            divisions.append(Division(int(fold), _with_validation(arguments, rows, parts, seed)))
    else:
        train, validation = split_by_string(rows.group, arguments.validation_fraction, seed)
        if not len(validation):
            logger.warning(
                f"{arguments.data}: no row is kept back for validation ({len(set(rows.group))} distinct strings, "
                f"--validation-fraction {arguments.validation_fraction:g}), so nothing tells how well new crystals are "
                "predicted; --folds scores every row of a small table."
            )
        divisions = [Division(None, {"train": train, "validation": validation})]
    for division in divisions:
        if not len(division.parts["train"]):
            raise TableError("no row is left to train on; lower --validation-fraction.", source=arguments.data)
        if arguments.early_stopping and not len(division.parts.get("validation", ())):
            raise TableError(
                "--early-stopping needs validation rows, and none are left; raise --validation-fraction.",
                source=arguments.data,
            )
    _warn_of_shared_strings(arguments, rows, divisions[0])
    return [
        Division(division.fold, {part: numbers for part, numbers in division.parts.items() if len(numbers)})
        for division in divisions
    ]


def _with_validation(
    arguments: FinetuneArguments, rows: Rows, parts: dict[str, NDArray[np.int64]], seed: int
) -> dict[str, NDArray[np.int64]]:
    """Take validation rows from the training rows where early stopping needs some and the split has none."""
    if not arguments.early_stopping or len(parts.get("validation", ())):
        return parts
    train = parts["train"]
    kept, taken = split_by_string([rows.group[row] for row in train], arguments.validation_fraction, seed)
    return {"train": train[kept], "validation": train[taken], "test": parts["test"]}


def _refuse_shared_ids(arguments: FinetuneArguments, rows: Rows) -> None:
    if rows.split is None:
        return
    seen: dict[str, str] = {}
    for identifier, part in zip(rows.identifier, map(str, rows.split), strict=True):
        if identifier is not None and seen.setdefault(identifier, part) != part:
            raise TableError(
                f"id {identifier!r} stands in {seen[identifier]!r} and in {part!r} of column "
                f"{arguments.split!r}; a crystal must not be on two sides of a split.",
                source=arguments.data,
            )


def _warn_of_shared_strings(arguments: FinetuneArguments, rows: Rows, division: Division) -> None:
    """A split of the user's own may put one string on both sides; it is kept, but said."""
    strings = {part: {rows.scope[row] for row in numbers} for part, numbers in division.parts.items()}
    for part, others in strings.items():
        shared = len(others & strings["train"])
        if part != "train" and shared:
            logger.warning(
                f"{arguments.data}: {shared} of the {len(others)} distinct strings of the {part} rows are training "
                "strings too: their figure is too good."
            )
