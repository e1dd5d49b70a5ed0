"""Models of few labels on a frozen encoder: a linear head, a Gaussian process, trees, and means of them.

An encoder that is trained on a hundred labels has nothing to gain from them but noise; its vectors, as they are, have.
The linear head is a ridge regression on them and is saved as the head of an ordinary checkpoint. The Gaussian process
reads the vectors together with statistics of the composition; it and the trees have no place in a checkpoint, so only
their predictions are kept.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cloud_hf.baselines import TreeBaseline, tree_features
from cloud_hf.baselines.trees import clearly_best, from_learned, inner_rounds, to_learned
from cloud_hf.data.assignment import composition_name
from cloud_hf.errors import CloudError
from cloud_hf.models.encoder_cloud import first_positions
from cloud_hf.models.heads_cloud import LN_TARGET_MAX, LN_THETA_RANGE

__all__ = [
    "FEW_LABEL_MODELS", "FewLabelChoice", "LinearFit", "few_label_predictions", "fit_linear", "frozen_vectors",
]  # fmt: skip

FEW_LABEL_MODELS: dict[str, tuple[str, ...]] = {
    "gaussian_process_and_trees": ("gaussian_process", "trees"),
    "linear_head_and_trees": ("linear_head", "trees"),
    "trees": ("trees",),
    "gaussian_process": ("gaussian_process",),
    "linear_head": ("linear_head",),
}
"""Members of each model; the prediction is their mean. The first is taken unless another is better by a standard
error in the inner validation."""

PENALTIES = np.logspace(-1, 5, 25)
"""Ridge penalties that the leave-one-out error chooses from, for standardised vectors."""

MOST_ROWS = 2000
"""Rows that a Gaussian process learns from at most, drawn at random: its time grows with their third power."""

Numbers = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class FewLabelChoice:
    """Which model predicts, and why.

    Attributes:
        model: One of `FEW_LABEL_MODELS`.
        errors: Mean absolute error of each in the inner validation, in the label's unit; empty where the crystals are
            too few to choose by.
        rows: Rows that these errors are of.
        trees: One of `cloud_hf.baselines.TREE_MODELS`: the trees that were compared.
    """

    model: str
    errors: dict[str, float] = field(default_factory=dict)
    rows: int = 0
    trees: str = "average"


@dataclass(frozen=True)
class LinearFit:
    """A ridge regression: `vectors @ weight + bias`.

    Attributes:
        weight: Shape (width,).
        bias: A number.
        penalty: What the leave-one-out error chose.
    """

    weight: Numbers
    bias: float
    penalty: float

    def predict(self, vectors: Numbers) -> Numbers:
        """Predict rows of vectors, shape (n, width)."""
        return vectors @ self.weight + self.bias


@torch.inference_mode()
def frozen_vectors(model: Any, tokenizer: Any, input_ids: Sequence[Sequence[int]], batch_size: int = 64) -> Numbers:
    """Return what the head of a model reads of each string.

    Args:
        model: A property or Debye model; its dropout is switched off.
        tokenizer: Its tokenizer.
        input_ids: Token ids of n strings.
        batch_size: Strings per forward pass.

    Returns:
        Shape (n, width), in order.
    """
    model.eval()
    order = np.argsort([-len(ids) for ids in input_ids], kind="stable")
    vectors: list[Any] = [None] * len(input_ids)
    for begin in range(0, len(order), batch_size):
        rows = order[begin : begin + batch_size]
        batch = tokenizer.pad({"input_ids": [list(input_ids[row]) for row in rows]}, return_tensors="pt")
        ids, mask = batch["input_ids"].to(model.device), batch["attention_mask"].to(model.device)
        states = model.bert(ids, mask, return_dict=True).last_hidden_state
        pooled = model.classifier.pooled(states, model.bert.pooling_weights(ids), first_positions(mask))
        for row, vector in zip(rows, pooled.double().cpu().numpy(), strict=True):
            vectors[row] = vector
    return np.array(vectors, dtype=float)


def fit_linear(vectors: Numbers, learned: Numbers) -> LinearFit:
    """Fit a ridge regression whose penalty the leave-one-out error chooses.

    Args:
        vectors: Shape (n, width), n of 2 or more.
        learned: Shape (n,).

    Raises:
        CloudError: scikit-learn is not installed, or there is one row only.
    """
    try:
        from sklearn.linear_model import RidgeCV
    except ImportError as error:
        raise CloudError(
            "models on frozen vectors need scikit-learn, which is not installed: pip install 'cloud-hf[baselines]'."
        ) from error
    if len(vectors) < 2:
        raise CloudError(f"a linear head needs 2 labels or more, not {len(vectors)}.")
    mean, scale = vectors.mean(axis=0), vectors.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    ridge = RidgeCV(PENALTIES).fit((vectors - mean) / scale, learned)
    weight = np.asarray(ridge.coef_, dtype=float) / scale
    return LinearFit(weight, float(ridge.intercept_ - mean @ weight), float(ridge.alpha_))


def few_label_predictions(
    vectors: Numbers,
    scopes: Sequence[str],
    labels: Numbers,
    train_rows: Indices,
    test_rows: Indices,
    target_kind: str = "value",
    n_atoms: Numbers | None = None,
    temperature: float = 300.0,
    seed: int = 0,
    tree_model: str | None = None,
) -> tuple[Numbers, FewLabelChoice]:
    """Choose a model of few labels by an inner validation within the training rows, and predict others with it.

    Args:
        vectors: From `frozen_vectors`, shape (n, width).
        scopes: SCOPE string of each row.
        labels: Label of each row, shape (n,); those of test rows are not looked at.
        train_rows: Row numbers to learn from.
        test_rows: Row numbers to predict.
        target_kind: What is learned, as for `cloud_hf.baselines.chosen_trees`.
        n_atoms: Atoms per cell, shape (n,), of heat capacities in J/(mol cell K); None: per mole of atoms.
        temperature: Of heat capacities, K.
        seed: Of all random choices.
        tree_model: Trees to compare with; None: chosen like those of the tree baseline.

    Returns:
        Predictions for `test_rows` in the label's unit, shape (len(test_rows),), and the choice.

    Raises:
        CloudError: scikit-learn is not installed, or labels that the target cannot have.
    """
    atoms = np.ones(len(scopes)) if n_atoms is None else np.asarray(n_atoms, dtype=float)
    table = _Table(np.asarray(vectors, dtype=float), *tree_features(scopes), labels, atoms, target_kind, temperature)
    names = [composition_name(scopes[row]) for row in train_rows]
    if tree_model is None:
        trees = TreeBaseline(target_kind, temperature, seed)
        tree_model = trees.choose(table.features[train_rows], labels[train_rows], atoms[train_rows], names).model
    errors: dict[str, list[Numbers]] = {name: [] for name in FEW_LABEL_MODELS}
    for seen, scored in inner_rounds(names, seed):
        rows = train_rows[scored]
        for name, predicted in table.predict(
            FEW_LABEL_MODELS, train_rows[seen], rows, tree_model, seed, light=True
        ).items():
            errors[name].append(np.abs(predicted - labels[rows]))
    choice = FewLabelChoice(next(iter(FEW_LABEL_MODELS)), trees=tree_model)
    if errors["trees"]:
        each = {name: np.concatenate(rounds) for name, rounds in errors.items()}
        means = {name: float(error.mean()) for name, error in each.items()}
        choice = FewLabelChoice(clearly_best(each), means, len(each["trees"]), tree_model)
    return table.predict([choice.model], train_rows, test_rows, tree_model, seed, light=False)[choice.model], choice


@dataclass(frozen=True)
class _Table:
    """All rows as the members see them."""

    vectors: Numbers
    features: NDArray[np.float32]
    feature_names: tuple[str, ...]
    labels: Numbers
    atoms: Numbers
    kind: str
    kelvin: float

    def predict(
        self, models: Sequence[str] | dict[str, Any], seen: Indices, asked: Indices, trees: str, seed: int, light: bool
    ) -> dict[str, Numbers]:
        """Predictions of models that learned from the rows `seen`, for the rows `asked`, in the label's unit."""
        wanted = {member for name in models for member in FEW_LABEL_MODELS[name]}
        predictions = {}
        learned = to_learned(self.labels[seen], self.kind, self.kelvin, self.atoms[seen])
        if "trees" in wanted:
            baseline = TreeBaseline(self.kind, self.kelvin, seed, model=trees, light=light)
            baseline.fit(self.features[seen], self.labels[seen], self.atoms[seen])
            predictions["trees"] = baseline.predict(self.features[asked], self.atoms[asked])
        if "linear_head" in wanted:
            predictions["linear_head"] = self._labels(
                fit_linear(self.vectors[seen], learned).predict(self.vectors[asked]), asked
            )
        if "gaussian_process" in wanted:
            predictions["gaussian_process"] = self._labels(self._process(seen, asked, learned, seed), asked)
        return {name: np.mean([predictions[member] for member in FEW_LABEL_MODELS[name]], axis=0) for name in models}

    def _labels(self, learned: Numbers, rows: Indices) -> Numbers:
        """Labels of what was learned, within the bounds of the heads."""
        if self.kind != "value":
            learned = np.clip(learned, *((-LN_TARGET_MAX, LN_TARGET_MAX) if self.kind == "log" else LN_THETA_RANGE))
        return from_learned(learned, self.kind, self.kelvin, self.atoms[rows])

    def _process(self, seen: Indices, asked: Indices, learned: Numbers, seed: int) -> Numbers:
        """A Gaussian process with one length over the vectors and the statistics of the composition."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

        if len(seen) > MOST_ROWS:
            sample = np.sort(np.random.default_rng(seed).choice(len(seen), MOST_ROWS, replace=False))
            seen, learned = seen[sample], learned[sample]
        statistics = [place for place, name in enumerate(self.feature_names) if name.split("_")[0] in STATISTICS]
        columns = [_standardised(one, seen) for one in (self.vectors, self.features[:, statistics].astype(float))]
        inputs = np.hstack(columns)
        kernel = ConstantKernel(1.0) * RBF(1.0) + WhiteKernel(0.1)
        process = GaussianProcessRegressor(kernel, normalize_y=True, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # at a bound of the kernel; its error is measured
            process.fit(inputs[seen], learned)
        return np.asarray(process.predict(inputs[asked]), dtype=float)


STATISTICS = ("mean", "std", "min", "max")
"""First words of the columns of `tree_features` with statistics of elemental properties."""


def _standardised(table: Numbers, seen: Indices) -> Numbers:
    """Columns with mean 0 and deviation 1 in the rows `seen`, divided by the root of their number."""
    mean, scale = table[seen].mean(axis=0), table[seen].std(axis=0)
    scaled: Numbers = (table - mean) / np.where(scale > 0, scale, 1.0) / np.sqrt(table.shape[1])
    return scaled
