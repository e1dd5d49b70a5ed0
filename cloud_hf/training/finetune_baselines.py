"""The tree baseline on the rows of a fine-tuning run."""

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers.utils import logging

from cloud_hf.errors import CloudError
from cloud_hf.training.finetune_arguments import PER_ATOM, FinetuneArguments
from cloud_hf.training.finetune_rows import Rows, Target

__all__ = ["tree_baseline"]

logger = logging.get_logger(__name__)


def tree_baseline(
    arguments: FinetuneArguments, rows: Rows, targets: list[Target], parts: dict[str, NDArray[np.int64]]
) -> tuple[dict[str, NDArray[np.float64]], dict[str, Any]]:
    """Predict the rows that were not trained on with trees on composition and symmetry.

    Args:
        arguments: What the targets are.
        rows: All rows.
        targets: Names and units.
        parts: Row numbers of the parts; the trees learn from `train`.

    Returns:
        Predictions in the targets' units for `validation` and `test`, as far as there are such rows, each of shape
        (n, n_targets); and which trees were chosen for each target, as in `TreeChoice`. Nothing, with a warning, where
        the baseline cannot be had.
    """
    scored = [part for part in parts if part != "train"]
    if not scored:
        return {}, {}
    test = np.concatenate([parts[part] for part in scored])
    chosen: dict[str, Any] = {}
    predictions = np.full((len(test), len(targets)), np.nan)
    try:
        from cloud_hf.baselines import chosen_trees

        for column in range(len(targets)):
            labels = rows.labels[:, column]
            labelled = parts["train"][~np.isnan(labels[parts["train"]])]
            kind, extra = _kind(arguments, column, rows)
            per_cell = kind != "heat_capacity" and extra.pop("per_atom")
            atoms = rows.n_atoms if per_cell else np.ones(len(labels))
            predicted, choice = chosen_trees(rows.scope, labels / atoms, labelled, test, kind, **extra)
            predictions[:, column] = predicted * atoms[test]
            chosen[targets[column].name] = asdict(choice)
    except CloudError as error:
        logger.warning(f"No tree baseline: {error}")
        return {}, {}
    ends = np.cumsum([len(parts[part]) for part in scored])[:-1]
    return dict(zip(scored, np.split(predictions, ends), strict=True)), chosen


def _kind(arguments: FinetuneArguments, column: int, rows: Rows) -> tuple[str, dict[str, Any]]:
    """What the trees learn of a target, as `chosen_trees` wants it."""
    if arguments.debye:
        kelvin = np.unique(rows.temperature)
        if arguments.debye[column] == "heat_capacity" and len(kelvin) == 1:
            return "heat_capacity", {"n_atoms": rows.n_atoms, "temperature": float(kelvin[0])}
        if len(kelvin) > 1:
            raise CloudError("the trees know no temperature, and the labels have several.")
        return "value", {"per_atom": True}
    transform = arguments.transforms[column]
    return "log" if transform.startswith("log") else "value", {"per_atom": transform in PER_ATOM}
