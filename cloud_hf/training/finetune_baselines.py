"""The tree baseline and the models of few labels on the rows of a fine-tuning run."""

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.utils import logging

from cloud_hf.errors import CloudError
from cloud_hf.training.finetune_arguments import PER_ATOM, FinetuneArguments
from cloud_hf.training.finetune_rows import Rows, Target

__all__ = ["few_label_baseline", "fit_linear_head", "tree_baseline"]

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
            kind, atoms, extra = _kind(arguments, column, rows)
            predicted, choice = chosen_trees(rows.scope, labels / atoms, labelled, test, kind, **extra)
            predictions[:, column] = predicted * atoms[test]
            chosen[targets[column].name] = asdict(choice)
    except CloudError as error:
        logger.warning(f"No tree baseline: {error}")
        return {}, {}
    ends = np.cumsum([len(parts[part]) for part in scored])[:-1]
    return dict(zip(scored, np.split(predictions, ends), strict=True)), chosen


def fit_linear_head(arguments: FinetuneArguments, model: Any, vectors: NDArray[np.float64], train: Rows) -> list[float]:
    """Set the head of a model, a single linear layer, to ridge regressions on the vectors of its encoder.

    Args:
        arguments: What the targets are.
        model: From `build_model`, with the scales of the training rows in its config; changed in place.
        vectors: From `frozen_vectors`, of the training rows.
        train: The rows.

    Returns:
        Ridge penalty of each target.

    Raises:
        CloudError: scikit-learn is not installed, or a target has one label only.
    """
    from cloud_hf.baselines.trees import to_learned
    from cloud_hf.training.few_labels import fit_linear

    config, layer = model.config, model.classifier.layers[-1]
    penalties = []
    for column in range(train.labels.shape[1]):
        kind, atoms, extra = _kind(arguments, column, train)
        labels = train.labels[:, column] / atoms
        there = ~np.isnan(labels)
        of_cell = extra.get("n_atoms", np.ones(len(labels)))[there]
        fit = fit_linear(vectors[there], to_learned(labels[there], kind, extra.get("temperature", 300.0), of_cell))
        mean = config.theta_shift if arguments.debye else config.target_mean[column]
        scale = config.theta_scale if arguments.debye else config.target_scale[column]
        with torch.no_grad():
            layer.weight[column] = torch.as_tensor(fit.weight / scale)
            layer.bias[column] = (fit.bias - mean) / scale
        penalties.append(fit.penalty)
    return penalties


def few_label_baseline(
    arguments: FinetuneArguments,
    rows: Rows,
    targets: list[Target],
    parts: dict[str, NDArray[np.int64]],
    vectors: NDArray[np.float64],
    trees: dict[str, Any],
    seed: int,
) -> tuple[dict[str, NDArray[np.float64]], dict[str, Any]]:
    """Predict the rows that were not trained on with the best of the models of few labels.

    Args:
        arguments: What the targets are.
        rows: All rows.
        targets: Names and units.
        parts: Row numbers of the parts.
        vectors: From `frozen_vectors`, of all rows.
        trees: What `tree_baseline` chose.
        seed: Of all random choices.

    Returns:
        Predictions as `tree_baseline` gives them, and of each target what `FewLabelChoice` holds.
    """
    from cloud_hf.training.few_labels import few_label_predictions

    scored = [part for part in parts if part != "train"]
    if not scored:
        return {}, {}
    test = np.concatenate([parts[part] for part in scored])
    predictions = np.full((len(test), len(targets)), np.nan)
    chosen: dict[str, Any] = {}
    for column, target in enumerate(targets):
        labels = rows.labels[:, column]
        labelled = parts["train"][~np.isnan(labels[parts["train"]])]
        kind, atoms, extra = _kind(arguments, column, rows)
        tree_model = trees[target.name]["model"] if target.name in trees else None
        predicted, choice = few_label_predictions(
            vectors, rows.scope, labels / atoms, labelled, test, kind, seed=seed, tree_model=tree_model, **extra
        )
        predictions[:, column] = predicted * atoms[test]
        chosen[target.name] = asdict(choice)
    ends = np.cumsum([len(parts[part]) for part in scored])[:-1]
    return dict(zip(scored, np.split(predictions, ends), strict=True)), chosen


def _kind(arguments: FinetuneArguments, column: int, rows: Rows) -> tuple[str, NDArray[np.float64], dict[str, Any]]:
    """What is learned of a target, as `chosen_trees` wants it, and by what the labels are divided before."""
    single_atom = np.ones(len(rows))
    if arguments.debye:
        kelvin = np.unique(rows.temperature)
        if arguments.debye[column] == "heat_capacity" and len(kelvin) == 1:
            return "heat_capacity", single_atom, {"n_atoms": rows.n_atoms, "temperature": float(kelvin[0])}
        if len(kelvin) > 1:
            raise CloudError("the trees know no temperature, and the labels have several.")
        return "value", rows.n_atoms, {}
    transform = arguments.transforms[column]
    return "log" if transform.startswith("log") else "value", rows.n_atoms if transform in PER_ATOM else single_atom, {}
