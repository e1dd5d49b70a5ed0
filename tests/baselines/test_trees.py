"""The tree baseline: units, determinism, bad input, and the error on real heat capacities."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Element

from cloud_hf.baselines import (
    TARGET_KINDS,
    TREE_MODELS,
    TreeBaseline,
    chosen_trees,
    tree_features,
    tree_predictions,
)
from cloud_hf.baselines.trees import clearly_best
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
    baseline = TreeBaseline(target_kind, model="average", keep=TREE_MODELS)
    found = baseline.fit(features, labels, atoms).predict_each(features, atoms)
    assert found.keys() == TREE_MODELS.keys()
    assert np.array_equal(baseline.predict(features, atoms), found["average"])
    assert found["extra_trees"] == pytest.approx(labels, rel=1e-6)
    assert np.abs(found["average"] - labels).mean() < 0.6 * np.abs(labels - labels.mean()).mean()


def test_the_average_is_taken_of_what_the_trees_learn(features: np.ndarray, few_trees: None) -> None:
    trees = TreeBaseline("log", model="average", keep=["boosting"]).fit(features[::2], RISING[::2])
    found = trees.predict_each(features[1::2])
    assert found["average"] == pytest.approx(np.sqrt(found["boosting"] * found["extra_trees"]))


def test_the_seed_and_the_number_of_processes(few_trees: None) -> None:
    rows = (SCOPES, RISING, ROWS[::2], ROWS[1::2])
    one, same, other = (tree_predictions(*rows, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    features, _ = tree_features(SCOPES)
    two = TreeBaseline(n_jobs=2).fit(features[::2], RISING[::2]).predict(features[1::2])
    assert two == pytest.approx(one)


def test_labels_of_test_rows_are_not_looked_at(few_trees: None) -> None:
    hidden = np.where(ROWS % 2, np.nan, RISING)
    seen = tree_predictions(SCOPES, RISING, ROWS[::2], ROWS[1::2])
    assert np.array_equal(tree_predictions(SCOPES, hidden, ROWS[::2], ROWS[1::2]), seen)
    assert tree_predictions(SCOPES, hidden, ROWS[::2], ROWS[:0]).shape == (0,)


def test_heat_capacities_scale_with_the_atoms_and_stay_below_dulong_petit(features: np.ndarray) -> None:
    limit = 3 * GAS_CONSTANT
    labels = np.linspace(0.5, 1.02, len(SCOPES)) * limit  # some above what the Debye model allows
    baseline = TreeBaseline("heat_capacity", light=True).fit(features, labels)
    small, large = (baseline.predict(features, np.full(len(SCOPES), n)) for n in (1, 7))
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


class TestChoice:
    """300 oxides of 5 kinds; what the label follows decides which trees are fitted."""

    METALS = tuple(Element.from_Z(z).symbol for z in range(3, 90) if z not in (8, 10, 18, 36, 54, 86))
    OXIDES = tuple(f"1 0 0 | {metal} {word} O 2i" for metal in METALS for word in ("1a", "1b", "1c", "2i"))

    @pytest.fixture(scope="class")
    def oxides(self) -> np.ndarray:
        return tree_features(self.OXIDES)[0]

    @pytest.fixture(scope="class")
    def atomic_numbers(self) -> np.ndarray:
        return np.array([Element(scope.split()[4]).Z for scope in self.OXIDES], dtype=float)

    def test_labels_that_are_mostly_zero(self, oxides: np.ndarray, atomic_numbers: np.ndarray) -> None:
        """Gaps of metals: a third of the crystals has a gap, and the absolute loss is content with the median, 0."""
        labels = np.where(atomic_numbers % 3 == 0, 0.5 + atomic_numbers / 30, 0.0) * (atomic_numbers < 80)
        labels += np.random.default_rng(0).normal(0, 0.01, len(labels)) * (labels > 0)
        assert np.median(labels) == 0
        test = np.arange(len(labels)) % 4 == 3  # the same metals are known from other positions
        trees = TreeBaseline(keep=TREE_MODELS, light=True).fit(oxides[~test], labels[~test])
        errors = {name: np.abs(each - labels[test]).mean() for name, each in trees.predict_each(oxides[test]).items()}
        assert errors["boosting"] > 3 * errors["extra_trees"]
        assert errors["average"] > 2 * errors["extra_trees"], "the fixed mean was a strawman"
        assert errors[trees.choice.model] < 1.1 * min(errors.values())
        assert trees.choice.model not in ("boosting", "average")
        assert trees.choice.errors["boosting"] > 2 * trees.choice.errors[trees.choice.model]
        assert trees.choice.rows == (~test).sum()

    def test_no_absolute_loss_near_the_share_of_equal_labels_where_it_collapses(
        self, oxides: np.ndarray, atomic_numbers: np.ndarray
    ) -> None:
        chance = np.random.default_rng(1)
        labels = atomic_numbers / 10 + np.where(chance.random(len(atomic_numbers)) < 0.1, 200.0, 0.0)
        labels[atomic_numbers < np.quantile(atomic_numbers, 0.45)] = 0.0
        choice = TreeBaseline(light=True).choose(oxides, labels)
        assert choice.errors["boosting"] < choice.errors["squared_boosting"], "here it has not collapsed"
        assert "boosting" not in TREE_MODELS[choice.model]

    def test_labels_that_boosting_finds(self, oxides: np.ndarray, atomic_numbers: np.ndarray) -> None:
        """A line with outliers: extra trees repeat an outlier, the absolute loss does not."""
        chance = np.random.default_rng(1)
        labels = atomic_numbers / 10 + np.where(chance.random(len(atomic_numbers)) < 0.1, 200.0, 0.0)
        test = np.arange(len(labels)) % 4 == 3
        trees = TreeBaseline(light=True).fit(oxides[~test], labels[~test])
        assert trees.choice.model == "boosting"

    def test_columns_that_no_leaf_can_split_change_nothing(
        self, oxides: np.ndarray, atomic_numbers: np.ndarray
    ) -> None:
        from sklearn.ensemble import HistGradientBoostingRegressor

        labels = np.sin(atomic_numbers)
        trees = TreeBaseline(model="squared_boosting", light=True).fit(oxides, labels)
        plain = HistGradientBoostingRegressor(
            max_iter=200, learning_rate=0.1, max_leaf_nodes=48, max_bins=63, early_stopping=False
        )
        np.testing.assert_allclose(trees.predict(oxides), plain.fit(oxides, labels).predict(oxides), atol=1e-9)

    def test_the_inner_validation_keeps_crystals_whole(self, features: np.ndarray) -> None:
        """Labels that only the crystal decides: were twins on both sides, extra trees would know them by heart."""
        noise = np.random.default_rng(2).normal(size=len(features))
        twins, labels = np.repeat(features, 2, axis=0), np.repeat(noise, 2)
        choice = TreeBaseline(light=True).fit(twins, labels).choice
        assert choice.errors["extra_trees"] > 0.5 * np.abs(noise - noise.mean()).mean()
        named = TreeBaseline(light=True).fit(twins, labels, groups=[str(row // 2) for row in range(len(twins))]).choice
        assert named.errors["extra_trees"] > 0.5 * np.abs(noise - noise.mean()).mean()

    def test_few_crystals_choose_nothing(self, few_trees: None) -> None:
        found, choice = chosen_trees(SCOPES, RISING, ROWS[:9], ROWS[9:])
        assert len(found) == len(ROWS) - 9
        assert (choice.model, choice.errors, choice.rows) == ("average", {}, 0)

    def test_the_first_stays_unless_another_is_clearly_better(self) -> None:
        chance = np.random.default_rng(3)
        errors = chance.gamma(1, 1, 200)
        assert clearly_best({"first": errors, "other": errors - 0.02 * chance.normal(0.0, 1.0, 200) ** 3}) == "first"
        assert clearly_best({"first": errors, "other": errors - 0.2 * chance.random(200)}) == "other"
        assert clearly_best({"first": errors, "same": errors}) == "first"

    def test_what_cannot_be_asked(self, features: np.ndarray) -> None:
        with pytest.raises(CloudError, match="model must be one of"):
            TreeBaseline(model="forest")
        with pytest.raises(CloudError, match="not fitted"):
            TreeBaseline().predict(features)
        with pytest.raises(CloudError, match="names of groups"):
            TreeBaseline().fit(features, RISING, groups=["a"])


@pytest.mark.slow
def test_a_fold_of_heat_capacities_against_the_mean_predictor(shared: Path) -> None:
    table = pd.read_parquet(shared / "data" / "heat_capacity_train.parquet")
    labels, atoms = table["heat_capacity"].to_numpy(), table["n_atoms"].to_numpy(dtype=float)
    test = np.arange(0, len(table), 5)
    train = np.setdiff1d(np.arange(len(table)), test)[::3]  # a third, to be quick
    found = tree_predictions(table["scope"].tolist(), labels, train, test, "heat_capacity", atoms)
    error = np.abs(found - labels[test]).mean()
    assert error < np.abs(labels[train].mean() - labels[test]).mean() / 5
