"""The tree baseline: units, determinism, bad input, and the error on real heat capacities."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cloud_hf.baselines import TARGET_KINDS, TREE_MODELS, TreeBaseline, tree_features, tree_predictions
from cloud_hf.errors import CloudError
from cloud_hf.models.debye import GAS_CONSTANT, heat_capacity

ELEMENTS = ("Li", "Na", "K", "Rb", "Cs", "Mg", "Ca", "Sr", "Ba", "Al", "Ga", "In", "Cu", "Ag", "Au")
SCOPES = [f"1 0 0 | {element} 2i O {word}" for element in ELEMENTS for word in ("1a", "1b", "2i")]
ROWS = np.arange(len(SCOPES))
RISING = np.linspace(1.0, 3.0, len(SCOPES))


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    return tree_features(SCOPES)[0]


@pytest.mark.parametrize("target_kind", TARGET_KINDS)
def test_training_rows_are_recovered_in_the_label_s_unit(target_kind: str, features: np.ndarray) -> None:
    labels = RISING if target_kind != "heat_capacity" else heat_capacity(300 * RISING, 300.0, 4).numpy()
    atoms = np.full(len(SCOPES), 4.0)
    found = TreeBaseline(target_kind).fit(features, labels, atoms).predict(features, atoms)
    assert tuple(found) == TREE_MODELS
    assert found["extra_trees"] == pytest.approx(labels, rel=1e-6)
    assert np.abs(found["average"] - labels).mean() < 0.6 * np.abs(labels - labels.mean()).mean()


def test_the_average_is_taken_of_what_the_trees_learn(features: np.ndarray) -> None:
    found = TreeBaseline("log").fit(features[::2], RISING[::2]).predict(features[1::2])
    assert found["average"] == pytest.approx(np.sqrt(found["boosting"] * found["extra_trees"]))


def test_the_seed_and_the_number_of_processes() -> None:
    rows = (SCOPES, RISING, ROWS[::2], ROWS[1::2])
    one, same, other = (tree_predictions(*rows, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    features, _ = tree_features(SCOPES)
    two = TreeBaseline(n_jobs=2).fit(features[::2], RISING[::2]).predict(features[1::2])["average"]
    assert two == pytest.approx(one)


def test_labels_of_test_rows_are_not_looked_at() -> None:
    hidden = np.where(ROWS % 2, np.nan, RISING)
    seen = tree_predictions(SCOPES, RISING, ROWS[::2], ROWS[1::2])
    assert np.array_equal(tree_predictions(SCOPES, hidden, ROWS[::2], ROWS[1::2]), seen)
    assert tree_predictions(SCOPES, hidden, ROWS[::2], ROWS[:0]).shape == (0,)


def test_heat_capacities_scale_with_the_atoms_and_stay_below_dulong_petit(features: np.ndarray) -> None:
    limit = 3 * GAS_CONSTANT
    labels = np.linspace(0.5, 1.02, len(SCOPES)) * limit  # some above what the Debye model allows
    baseline = TreeBaseline("heat_capacity").fit(features, labels)
    small, large = (baseline.predict(features, np.full(len(SCOPES), n))["average"] for n in (1, 7))
    assert large == pytest.approx(7 * small)
    assert (small < limit).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target_kind": "exp"}, "target_kind"),
        ({"target_kind": "heat_capacity", "temperature": 0.0}, "temperature"),
        ({"target_kind": "log", "labels": -RISING}, "positive"),
        ({"labels": np.full(len(SCOPES), np.nan)}, "finite"),
        ({"labels": RISING[:3]}, "labels"),
        ({"train_rows": ROWS[:0]}, "1 or more"),
        ({"train_rows": ROWS + 1}, "train_rows"),
        ({"test_rows": np.array([-1])}, "test_rows"),
        ({"n_atoms": RISING[:3]}, "n_atoms"),
        ({"n_atoms": 0 * RISING, "target_kind": "heat_capacity"}, "n_atoms"),
    ],
)
def test_what_cannot_work_is_refused(arguments: dict, message: str) -> None:
    good = {"scopes": SCOPES, "labels": RISING, "train_rows": ROWS, "test_rows": ROWS}
    with pytest.raises(CloudError, match=message):
        tree_predictions(**(good | arguments))


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(CloudError, match=r"pip install 'cloud-hf\[baselines\]'"):
        tree_predictions(SCOPES, RISING, ROWS, ROWS)


@pytest.mark.slow
def test_a_fold_of_heat_capacities_against_the_mean_predictor(shared: Path) -> None:
    table = pd.read_parquet(shared / "data" / "heat_capacity_train.parquet")
    labels, atoms = table["heat_capacity"].to_numpy(), table["n_atoms"].to_numpy(dtype=float)
    test = np.arange(0, len(table), 5)
    train = np.setdiff1d(np.arange(len(table)), test)[::3]  # a third, to be quick
    found = tree_predictions(table["scope"].tolist(), labels, train, test, "heat_capacity", atoms)
    error = np.abs(found - labels[test]).mean()
    assert error < np.abs(labels[train].mean() - labels[test]).mean() / 5
