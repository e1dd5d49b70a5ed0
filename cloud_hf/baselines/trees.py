"""The tree baseline: gradient boosting and extra trees on `tree_features`, the loss and the mean chosen by the labels.

One recipe for every property, so that a number of a model can stand beside a number of trees on the same rows. The
trees learn the label itself, its logarithm, or, for heat capacities, the logarithm of the Debye temperature, from which
the Debye function gives the heat capacity back.

No single loss serves all labels: boosting with an absolute loss collapses to the median where more than half of the
labels are equal (the zero gaps of metals), and with a squared loss it follows outliers. So boosting with either loss,
extra trees and their means are compared by an inner validation within the training rows, and what is clearly best is
fitted to all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cloud_hf.baselines.features import tree_features
from cloud_hf.data.assignment import composition_name
from cloud_hf.data.splits import folds_by_string
from cloud_hf.errors import CloudError
from cloud_hf.models.debye import effective_debye_temperature, heat_capacity

__all__ = [
    "TARGET_KINDS", "TREE_MODELS", "TreeBaseline", "TreeChoice", "chosen_trees", "clearly_best", "from_learned",
    "inner_rounds", "to_learned", "tree_predictions",
]  # fmt: skip

TARGET_KINDS = ("value", "log", "heat_capacity")
"""What the trees learn: the label, ln(label), or ln(Debye temperature) of a heat capacity."""

TREE_MODELS: dict[str, tuple[str, ...]] = {
    "average": ("boosting", "extra_trees"),
    "squared_average": ("squared_boosting", "extra_trees"),
    "extra_trees": ("extra_trees",),
    "boosting": ("boosting",),
    "squared_boosting": ("squared_boosting",),
}
"""Members of each model: histogram gradient boosting with absolute or squared loss, extra trees, and means of both
kinds, taken of what the trees learn (of logarithms, say). The first is taken unless another is better by a standard
error."""

INNER_FOLDS = 3
"""Folds of the crystals of the training rows that the choice is made with."""

INNER_ROWS = 3000
"""With more training rows than this the choice is made on one fold, with at most this many rows on either side."""

FEWEST_CRYSTALS = 15
"""Below this many crystals nothing is chosen."""

MOST_ALIKE = 0.4
"""With a larger share of equal labels no absolute loss is chosen: near one half it hangs on a few rows whether boosting
collapses, so that it may with all rows where it did not with those of the inner validation."""

ROUNDS, EXTRA_TREES = (600, 200), (400, 60)
"""Rounds of boosting and number of extra trees, of the baseline and of its light form."""

LEAF_ROWS = 20
"""Fewest rows in a leaf of a boosted tree."""


@dataclass(frozen=True)
class TreeChoice:
    """Which trees were fitted, and why.

    Attributes:
        model: One of `TREE_MODELS`.
        errors: Mean absolute error of each of them in the inner validation, in the label's unit; empty where the model
            was given or the crystals were too few to choose by.
        rows: Rows that these errors are of.
    """

    model: str
    errors: dict[str, float] = field(default_factory=dict)
    rows: int = 0


class TreeBaseline:
    """Trees for one property.

    Args:
        target_kind: `value`, `log` (positive labels) or `heat_capacity` (J/(mol K) of `n_atoms` atoms).
        temperature: Of heat capacities, K.
        seed: Of the random choices; the same seed gives the same trees.
        n_jobs: Processes for the extra trees; the result does not depend on it.
        model: One of `TREE_MODELS`; None: chosen in `fit` by an inner validation.
        keep: Further ones of `TREE_MODELS` to be fitted, for `predict_each`.
        light: Fewer and coarser trees, as the inner validation has them: about a sixth of the time, a few percent more
            error.

    Raises:
        CloudError: scikit-learn is not installed, or an argument cannot work.
    """

    def __init__(
        self,
        target_kind: str = "value",
        temperature: float = 300.0,
        seed: int = 0,
        n_jobs: int | None = 1,
        model: str | None = None,
        keep: Sequence[str] = (),
        light: bool = False,
    ) -> None:
        if target_kind not in TARGET_KINDS:
            raise CloudError(f"target_kind must be one of {', '.join(TARGET_KINDS)}, not {target_kind!r}.")
        if not 0 < temperature < np.inf:
            raise CloudError(f"temperature must be a positive number of kelvin, not {temperature}.")
        for name in (*keep, *([model] if model else [])):
            if name not in TREE_MODELS:
                raise CloudError(f"model must be one of {', '.join(TREE_MODELS)}, not {name!r}.")
        self.target_kind = target_kind
        self.temperature = temperature
        self.seed = seed
        self.n_jobs = n_jobs
        self.model = model
        self.keep = tuple(keep)
        self.light = light
        self._choice: TreeChoice | None = None
        self.members: dict[str, _Member] = {}
        _member("extra_trees", seed, n_jobs, light)  # whether scikit-learn is there

    def fit(
        self,
        features: NDArray[np.float32],
        labels: ArrayLike,
        n_atoms: ArrayLike | None = None,
        groups: Sequence[str] | None = None,
    ) -> "TreeBaseline":
        """Learn from rows of `tree_features`.

        Args:
            features: Shape (n, n_features).
            labels: Shape (n,), finite; positive for `log` and `heat_capacity`. A heat capacity above
                `cloud_hf.debye.LARGEST_SHARE` of the Dulong-Petit limit 3NR counts as this share.
            n_atoms: Atoms of the cell or formula that a heat capacity is meant for, shape (n,); None: per atom.
            groups: Name of each row's crystal, n in number: the inner validation keeps rows of one crystal on one side.
                None: rows with the same features are of one crystal.

        Raises:
            CloudError: No rows, labels that the target cannot have, or lengths that differ.
        """
        values, atoms, names = self._checked(features, labels, n_atoms, groups)
        choice = TreeChoice(self.model) if self.model else self._compare(features, values, atoms, names)
        wanted = {member for name in (choice.model, *self.keep) for member in TREE_MODELS[name]}
        self.members = self._fitted(wanted, features, self._to_target(values, atoms), self.light)
        self._choice = choice
        return self

    def choose(
        self,
        features: NDArray[np.float32],
        labels: ArrayLike,
        n_atoms: ArrayLike | None = None,
        groups: Sequence[str] | None = None,
    ) -> TreeChoice:
        """Return what `fit` would choose, without fitting it; arguments and errors as there."""
        return self._compare(features, *self._checked(features, labels, n_atoms, groups))

    @property
    def choice(self) -> TreeChoice:
        """Which trees `fit` fitted.

        Raises:
            CloudError: Nothing was fitted.
        """
        if self._choice is None:
            raise CloudError("the trees were not fitted; call fit first.")
        return self._choice

    def predict(self, features: NDArray[np.float32], n_atoms: ArrayLike | None = None) -> NDArray[np.float64]:
        """Predict rows of `tree_features` with the chosen trees.

        Args:
            features: Shape (n, n_features).
            n_atoms: As in `fit`.

        Returns:
            Predictions in the label's unit, shape (n,).

        Raises:
            CloudError: Nothing was fitted.
        """
        return self.predict_each(features, n_atoms)[self.choice.model]

    def predict_each(
        self, features: NDArray[np.float32], n_atoms: ArrayLike | None = None
    ) -> dict[str, NDArray[np.float64]]:
        """Predict rows with each of `TREE_MODELS` whose members are fitted; shapes as in `predict`."""
        atoms = self._atoms(n_atoms, len(features))
        targets = {name: member.predict(features) for name, member in self.members.items()}
        return {
            name: self._from_target(np.mean([targets[member] for member in members], axis=0), atoms)
            for name, members in TREE_MODELS.items()
            if targets.keys() >= set(members)
        }

    def _checked(
        self,
        features: NDArray[np.float32],
        labels: ArrayLike,
        n_atoms: ArrayLike | None,
        groups: Sequence[str] | None,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
        """Labels, atoms and names of crystals of rows that can be learned from."""
        values = np.asarray(labels, dtype=float)
        if len(values) == 0 or values.shape != (len(features),):
            raise CloudError(f"{len(features)} rows of features need as many labels, 1 or more, not {values.shape}.")
        bad = np.flatnonzero(~np.isfinite(values) | (values <= 0 if self.target_kind != "value" else False))
        if len(bad):
            need = "finite" if self.target_kind == "value" else "positive and finite"
            raise CloudError(f"labels must be {need}, not {values[bad[0]]}.", row=int(bad[0]))
        names = [row.tobytes().hex() for row in np.asarray(features)] if groups is None else list(groups)
        if len(names) != len(values):
            raise CloudError(f"{len(values)} rows need as many names of groups, not {len(names)}.")
        atoms = self._atoms(n_atoms, len(values))
        return values, atoms, names

    def _compare(
        self, features: NDArray[np.float32], values: NDArray[np.float64], atoms: NDArray[np.float64], names: list[str]
    ) -> TreeChoice:
        """Compare all models on crystals of the training rows that the compared trees have not seen."""
        rounds = inner_rounds(names, self.seed)
        if not rounds:
            return TreeChoice(next(iter(TREE_MODELS)))
        target = self._to_target(values, atoms)
        errors: dict[str, list[NDArray[np.float64]]] = {name: [] for name in TREE_MODELS}
        for seen, scored in rounds:
            trial = TreeBaseline(self.target_kind, self.temperature, self.seed, self.n_jobs)
            every = {member for members in TREE_MODELS.values() for member in members}
            trial.members = self._fitted(every, features[seen], target[seen], light=True)
            for name, predicted in trial.predict_each(features[scored], atoms[scored]).items():
                errors[name].append(np.abs(predicted - values[scored]))
        each = {name: np.concatenate(rounds) for name, rounds in errors.items()}
        means = {name: float(error.mean()) for name, error in each.items()}
        if np.unique(target, return_counts=True)[1].max() > MOST_ALIKE * len(target):
            each = {name: error for name, error in each.items() if "boosting" not in TREE_MODELS[name]}
        model = clearly_best(each)
        return TreeChoice(model, means, len(each[model]))

    def _fitted(
        self, wanted: set[str], features: NDArray[np.float32], target: NDArray[np.float64], light: bool
    ) -> dict[str, "_Member"]:
        members = {name: _member(name, self.seed, self.n_jobs, light) for name in sorted(wanted)}
        return {name: member.fit(features, target) for name, member in members.items()}

    def _atoms(self, n_atoms: ArrayLike | None, length: int) -> NDArray[np.float64]:
        atoms = np.ones(length) if n_atoms is None else np.asarray(n_atoms, dtype=float)
        if atoms.shape != (length,) or not (np.isfinite(atoms) & (atoms >= 1)).all():
            raise CloudError(f"n_atoms must be {length} numbers of atoms, 1 or more.")
        return atoms

    def _to_target(self, values: NDArray[np.float64], atoms: NDArray[np.float64]) -> NDArray[np.float64]:
        return to_learned(values, self.target_kind, self.temperature, atoms)

    def _from_target(self, target: NDArray[np.float64], atoms: NDArray[np.float64]) -> NDArray[np.float64]:
        return from_learned(target, self.target_kind, self.temperature, atoms)


def to_learned(
    labels: NDArray[np.float64], target_kind: str, temperature: float, n_atoms: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return what a baseline learns of labels, one of `TARGET_KINDS`; `from_learned` gives the labels back.

    Args:
        labels: Shape (n,), positive unless the kind is `value`.
        target_kind: One of `TARGET_KINDS`.
        temperature: Of heat capacities, K.
        n_atoms: Atoms that heat capacities are of, shape (n,).
    """
    if target_kind == "value":
        return labels
    if target_kind == "log":
        return np.log(labels)
    return np.log(effective_debye_temperature(labels, temperature, n_atoms, clip=True))


def from_learned(
    learned: NDArray[np.float64], target_kind: str, temperature: float, n_atoms: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the labels that `to_learned` turns into `learned`; arguments as there."""
    if target_kind == "value":
        return learned
    if target_kind == "log":
        return np.exp(learned)
    values: NDArray[np.float64] = heat_capacity(np.exp(learned), temperature, n_atoms).numpy()
    return values


class _Member:
    """One kind of trees, on the columns that it can split.

    A feature that differs from its most common value in fewer rows than a leaf must have splits nothing; leaving it out
    (many elements and space groups are rare) changes no boosted tree and halves its time.
    """

    def __init__(self, regressor: Any, fewest: int) -> None:
        self.regressor = regressor
        self.fewest = fewest
        self.columns: NDArray[np.int64] = np.zeros(0, dtype=np.int64)

    def fit(self, features: NDArray[np.float32], target: NDArray[np.float64]) -> "_Member":
        usable = (features != np.median(features, axis=0)).sum(axis=0) >= self.fewest
        usable[0] |= not usable.any()  # scikit-learn wants a column
        self.columns = np.flatnonzero(usable)
        self.regressor.fit(features[:, self.columns], target)
        return self

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        if not len(features):
            return np.zeros(0)
        return np.asarray(self.regressor.predict(features[:, self.columns]), dtype=float)


def _member(name: str, seed: int, n_jobs: int | None, light: bool) -> _Member:
    try:
        from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor
    except ImportError as error:
        raise CloudError(
            "The tree baseline needs scikit-learn, which is not installed: pip install 'cloud-hf[baselines]'."
        ) from error
    if name == "extra_trees":
        trees = ExtraTreesRegressor(EXTRA_TREES[light], max_features=0.4, random_state=seed, n_jobs=n_jobs)
        return _Member(trees, fewest=0)
    size: dict[str, Any] = {"learning_rate": 0.06}
    if light:
        size = {"learning_rate": 0.1, "max_bins": 63, "early_stopping": False}
    boosting = HistGradientBoostingRegressor(
        loss="squared_error" if name.startswith("squared") else "absolute_error",
        max_iter=ROUNDS[light],
        max_leaf_nodes=48,
        min_samples_leaf=LEAF_ROWS,
        random_state=seed,
        **size,
    )
    return _Member(boosting, fewest=LEAF_ROWS)


def inner_rounds(names: Sequence[str], seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Divide training rows for an inner validation, crystals as wholes.

    Args:
        names: Name of each row's crystal.
        seed: Of the division.

    Returns:
        Rows to learn from and rows to score, of each round; nothing where the crystals are too few to choose by.
    """
    if len(set(names)) < FEWEST_CRYSTALS:
        return []
    fold = folds_by_string(names, INNER_FOLDS, seed)
    chance = np.random.default_rng(seed)
    sides = [
        (np.flatnonzero(fold != held), np.flatnonzero(fold == held))
        for held in range(INNER_FOLDS if len(names) <= INNER_ROWS else 1)
    ]
    return [(_some(seen, chance), _some(scored, chance)) for seen, scored in sides]


def clearly_best(errors: dict[str, NDArray[np.float64]]) -> str:
    """Return the model with the lowest error, or the first one unless the lowest is below it by a standard error.

    With few rows the lowest of several errors is often lowest by chance, and a mean of different kinds is safer.

    Args:
        errors: Absolute errors of each model, of the same rows, shape (n,).
    """
    first = next(iter(errors))
    best = min(errors, key=lambda name: float(errors[name].mean()))
    gain = errors[first] - errors[best]
    return best if gain.mean() > gain.std() / np.sqrt(len(gain)) else first


def _some(rows: NDArray[np.int64], chance: np.random.Generator) -> NDArray[np.int64]:
    return rows if len(rows) <= INNER_ROWS else np.sort(chance.choice(rows, INNER_ROWS, replace=False))


def chosen_trees(
    scopes: Sequence[str],
    labels: NDArray[np.float64],
    train_rows: NDArray[np.int64],
    test_rows: NDArray[np.int64],
    target_kind: str = "value",
    n_atoms: NDArray[np.float64] | None = None,
    temperature: float = 300.0,
    seed: int = 0,
) -> tuple[NDArray[np.float64], TreeChoice]:
    """Train the tree baseline on some rows of a table, predict others, and say which trees were chosen.

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
        Predictions for `test_rows` in the label's unit, shape (len(test_rows),), and which trees the inner validation
        by crystal within the training rows chose.

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
    names = [composition_name(scopes[row]) for row in train]
    baseline.fit(features[train], values[train], None if atoms is None else atoms[train], names)
    return baseline.predict(features[test], None if atoms is None else atoms[test]), baseline.choice


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
    """Return the predictions of `chosen_trees`, with the same arguments and errors."""
    return chosen_trees(scopes, labels, train_rows, test_rows, target_kind, n_atoms, temperature, seed)[0]
