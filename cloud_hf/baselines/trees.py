"""The tree baseline: histogram gradient boosting and extra trees on `tree_features`, averaged.

One recipe for every property, so that a number of a model can stand beside a number of trees on the same rows. The
trees learn the label itself, its logarithm, or, for heat capacities, the logarithm of the Debye temperature, from which
the Debye function gives the heat capacity back.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cloud_hf.baselines.features import tree_features
from cloud_hf.debye import effective_debye_temperature, heat_capacity
from cloud_hf.errors import CloudError

__all__ = ["TARGET_KINDS", "TREE_MODELS", "TreeBaseline", "tree_predictions"]

TARGET_KINDS = ("value", "log", "heat_capacity")
"""What the trees learn: the label, ln(label), or ln(Debye temperature) of a heat capacity."""

TREE_MODELS = ("boosting", "extra_trees", "average")
"""Histogram gradient boosting, extra trees, and their mean, taken of what the trees learn (of logarithms, say)."""


class TreeBaseline:
    """Trees for one property.

    Args:
        target_kind: `value`, `log` (positive labels) or `heat_capacity` (J/(mol K) of `n_atoms` atoms).
        temperature: Of heat capacities, K.
        seed: Of the random choices; the same seed gives the same trees.
        n_jobs: Processes for the extra trees; the result does not depend on it.

    Raises:
        CloudError: scikit-learn is not installed, or an argument cannot work.
    """

    def __init__(
        self, target_kind: str = "value", temperature: float = 300.0, seed: int = 0, n_jobs: int | None = 1
    ) -> None:
        if target_kind not in TARGET_KINDS:
            raise CloudError(f"target_kind must be one of {', '.join(TARGET_KINDS)}, not {target_kind!r}.")
        if not 0 < temperature < np.inf:
            raise CloudError(f"temperature must be a positive number of kelvin, not {temperature}.")
        self.target_kind = target_kind
        self.temperature = temperature
        self.models = _regressors(seed, n_jobs)

    def fit(self, features: NDArray[np.float32], labels: ArrayLike, n_atoms: ArrayLike | None = None) -> "TreeBaseline":
        """Learn from rows of `tree_features`.

        Args:
            features: Shape (n, n_features).
            labels: Shape (n,), finite; positive for `log` and `heat_capacity`. A heat capacity above
                `cloud_hf.debye.LARGEST_SHARE` of the Dulong-Petit limit 3NR counts as this share.
            n_atoms: Atoms of the cell or formula that a heat capacity is meant for, shape (n,); None: per atom.

        Raises:
            CloudError: No rows, labels that the target cannot have, or lengths that differ.
        """
        values = np.asarray(labels, dtype=float)
        if len(values) == 0 or values.shape != (len(features),):
            raise CloudError(f"{len(features)} rows of features need as many labels, 1 or more, not {values.shape}.")
        bad = np.flatnonzero(~np.isfinite(values) | (values <= 0 if self.target_kind != "value" else False))
        if len(bad):
            need = "finite" if self.target_kind == "value" else "positive and finite"
            raise CloudError(f"labels must be {need}; that of training row {bad[0]} is {values[bad[0]]}.")
        target = self._to_target(values, self._atoms(n_atoms, len(values)))
        for model in self.models.values():
            model.fit(features, target)
        return self

    def predict(
        self, features: NDArray[np.float32], n_atoms: ArrayLike | None = None
    ) -> dict[str, NDArray[np.float64]]:
        """Predict rows of `tree_features`.

        Args:
            features: Shape (n, n_features).
            n_atoms: As in `fit`.

        Returns:
            Predictions in the label's unit, shape (n,), for each of `TREE_MODELS`.
        """
        atoms = self._atoms(n_atoms, len(features))
        if not len(features):
            return {name: np.zeros(0) for name in TREE_MODELS}
        targets = {name: np.asarray(model.predict(features)) for name, model in self.models.items()}
        targets["average"] = np.mean(list(targets.values()), axis=0)
        return {name: self._from_target(target, atoms) for name, target in targets.items()}

    def _atoms(self, n_atoms: ArrayLike | None, length: int) -> NDArray[np.float64]:
        atoms = np.ones(length) if n_atoms is None else np.asarray(n_atoms, dtype=float)
        if atoms.shape != (length,) or not (np.isfinite(atoms) & (atoms >= 1)).all():
            raise CloudError(f"n_atoms must be {length} numbers of atoms, 1 or more.")
        return atoms

    def _to_target(self, values: NDArray[np.float64], atoms: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.target_kind == "value":
            return values
        if self.target_kind == "log":
            return np.log(values)
        return np.log(effective_debye_temperature(values, self.temperature, atoms, clip=True))

    def _from_target(self, target: NDArray[np.float64], atoms: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.target_kind == "value":
            return target
        if self.target_kind == "log":
            return np.exp(target)
        values: NDArray[np.float64] = heat_capacity(np.exp(target), self.temperature, atoms).numpy()
        return values


def _regressors(seed: int, n_jobs: int | None) -> dict[str, Any]:
    try:
        from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor
    except ImportError as error:
        raise CloudError(
            "The tree baseline needs scikit-learn, which is not installed: pip install 'cloud-hf[baselines]'."
        ) from error
    boosting = HistGradientBoostingRegressor(
        loss="absolute_error", max_iter=600, learning_rate=0.06, max_leaf_nodes=48, random_state=seed
    )
    extra_trees = ExtraTreesRegressor(400, max_features=0.4, random_state=seed, n_jobs=n_jobs)
    return {"boosting": boosting, "extra_trees": extra_trees}


def tree_predictions(
    scopes: Sequence[str],
    labels: NDArray[np.float64],
    train_rows: NDArray[np.int64],
    test_rows: NDArray[np.int64],
    target_kind: str = "value",
    n_atoms: NDArray[np.float64] | None = None,
    temperature: float = 300.0,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Train the tree baseline on some rows of a table and predict others.

    Args:
        scopes: SCOPE string of each row, of any grammar.
        labels: Label of each row, shape (len(scopes),); those of test rows are not looked at.
        train_rows: Row numbers to learn from.
        test_rows: Row numbers to predict.
        target_kind: `value`, `log` (positive labels) or `heat_capacity`.
        n_atoms: Atoms per cell, shape (len(scopes),), of heat capacities in J/(mol cell K); None: per mole of atoms.
        temperature: Of heat capacities, K.
        seed: Of the random choices.

    Returns:
        Predictions for `test_rows` in the label's unit, shape (len(test_rows),): the average of both kinds of trees.

    Raises:
        CloudError: scikit-learn is not installed, or labels, rows or atoms that cannot work.
        ScopeError: A string that no crystal has.
    """
    baseline = TreeBaseline(target_kind, temperature, seed)
    features, _ = tree_features(scopes)
    values, train, test = np.asarray(labels, dtype=float), np.asarray(train_rows, int), np.asarray(test_rows, int)
    atoms = None if n_atoms is None else np.asarray(n_atoms, dtype=float)
    for name, array in (("labels", values), ("n_atoms", atoms)):
        if array is not None and array.shape != (len(scopes),):
            raise CloudError(f"{name} must have one value for each of the {len(scopes)} strings, not {array.shape}.")
    for name, rows in (("train_rows", train), ("test_rows", test)):
        if rows.ndim != 1 or (len(rows) and not 0 <= rows.min() <= rows.max() < len(scopes)):
            raise CloudError(f"{name} must be row numbers from 0 to {len(scopes) - 1}.")
    baseline.fit(features[train], values[train], None if atoms is None else atoms[train])
    return baseline.predict(features[test], None if atoms is None else atoms[test])["average"]
