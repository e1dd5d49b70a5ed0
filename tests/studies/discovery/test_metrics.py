"""The benchmark's metrics, against answers worked out by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from cloud_hf.studies.discovery.metrics import (
    cumulative_curves,
    hull_distances,
    offset_removed,
    stability_metrics,
    stability_of_subsets,
)

NAN = float("nan")

# 4 of 10 stable (0 is stable); 5 called stable, 3 of them rightly; one has no prediction, so it is called unstable
TRUE = [-0.10, -0.05, 0.00, -0.02, 0.01, 0.10, 0.20, 0.30, 0.05, 0.15]
PREDICTED = [-0.20, 0.05, 0.00, -0.01, -0.03, 0.12, -0.10, 0.30, NAN, 0.05]


class TestKnownAnswer:
    def test_classification(self) -> None:
        found = stability_metrics(TRUE, PREDICTED)
        assert [found[name] for name in ("TP", "FN", "FP", "TN")] == [3, 1, 2, 4]
        assert (found["n"], found["missing"], found["prevalence"]) == (10, 1, 0.4)
        expected = {
            "Precision": 3 / 5, "Recall": 3 / 4, "Accuracy": 7 / 10, "F1": 2 * 0.6 * 0.75 / 1.35, "DAF": 0.6 / 0.4,
            "TPR": 3 / 4, "FNR": 1 / 4, "FPR": 2 / 6, "TNR": 4 / 6,
        }  # fmt: skip
        assert {name: found[name] for name in expected} == pytest.approx(expected)

    def test_errors_are_over_rows_with_a_prediction(self) -> None:
        found = stability_metrics(TRUE, PREDICTED)
        gaps = np.array([0.1, 0.1, 0, 0.01, 0.04, 0.02, 0.3, 0, 0.1])
        assert found["MAE"] == pytest.approx(gaps.mean())
        assert found["RMSE"] == pytest.approx(np.sqrt((gaps**2).mean()))
        given = np.delete(np.array(TRUE), 8)
        assert found["R2"] == pytest.approx(1 - (gaps**2).sum() / ((given - given.mean()) ** 2).sum())

    def test_area_under_the_curve(self) -> None:
        # 4 stable x 5 unstable pairs in which the stable one must be predicted lower. Stable -0.20: below all five;
        # 0.05: below 0.12 and 0.30, ties with 0.05; 0.00 and -0.01: above -0.03 and -0.10
        assert stability_metrics(TRUE, PREDICTED)["ROC-AUC"] == pytest.approx((5 + 2.5 + 3 + 3) / 20)

    def test_against_scikit_learn(self) -> None:
        metrics = pytest.importorskip("sklearn.metrics")
        chance = np.random.default_rng(0)
        true = chance.normal(0.02, 0.2, 500).round(2)
        predicted = (true + chance.normal(0, 0.1, 500)).round(2)
        found = stability_metrics(true, predicted)
        stable, called = true <= 0, predicted <= 0
        assert found["F1"] == pytest.approx(metrics.f1_score(stable, called))
        assert found["ROC-AUC"] == pytest.approx(metrics.roc_auc_score(stable, -predicted))
        assert found["R2"] == pytest.approx(metrics.r2_score(true, predicted))

    def test_subsets(self) -> None:
        unique = [True, True, True, False, True, True, True, False, True, False]
        found = stability_of_subsets(TRUE, PREDICTED, unique, most_stable=3)
        assert [found[name]["n"] for name in found] == [10, 7, 3]
        one = found["unique prototypes"]
        assert [one[name] for name in ("TP", "FN", "FP", "TN", "missing")] == [2, 1, 2, 2, 1]
        assert one["DAF"] == pytest.approx((2 / 4) / (3 / 7))
        # -0.20, -0.10 and -0.03 are lowest: one of three is stable, and the prevalence is that of the unique ones
        best = found["most stable"]
        assert [best[name] for name in ("TP", "FN", "FP", "TN", "missing")] == [1, 0, 2, 0, 0]
        assert best["DAF"] == pytest.approx((1 / 3) / (3 / 7))

    def test_the_hull_does_not_move(self) -> None:
        assert hull_distances([0.1, 0.0], [-1.0, -2.0], [-1.3, NAN]).tolist() == pytest.approx([-0.2, NAN], nan_ok=True)

    def test_cumulative_curves(self) -> None:
        precision, recall = cumulative_curves([-0.1, 0.2, -0.3, 0.4], [0.0, -0.5, 0.3, NAN])
        assert precision.tolist() == pytest.approx([0, 1 / 2, 2 / 3, 2 / 4])
        assert recall.tolist() == pytest.approx([0, 0.5, 1, 1])


class TestEnds:
    def test_nothing_is_stable(self) -> None:
        found = stability_metrics([0.1, 0.2], [-0.1, 0.2])
        assert (found["F1"], found["DAF"], found["Recall"], found["ROC-AUC"]) == (None, None, None, None)
        assert (found["Precision"], found["FPR"]) == (0, 0.5)

    def test_nothing_is_predicted(self) -> None:
        found = stability_metrics([0.1, -0.2], [NAN, NAN])
        assert (found["TN"], found["FN"], found["missing"], found["MAE"], found["Precision"]) == (1, 1, 2, None, None)

    def test_nothing_at_all(self) -> None:
        assert stability_of_subsets([], [], [])["full"]["n"] == 0

    def test_true_distances_must_be_known(self) -> None:
        with pytest.raises(ValueError, match="finite"):
            stability_metrics([NAN], [0.0])


class TestOffset:
    def test_a_constant_goes_away(self) -> None:
        labels = np.random.default_rng(0).normal(size=40)
        scopes = [f"string {row % 30}" for row in range(40)]
        found, offsets = offset_removed(labels, {"model": labels - 0.3}, scopes)
        assert found["model"] == pytest.approx(labels)
        assert offsets["model"] == pytest.approx([-0.3, -0.3])

    def test_a_label_has_no_part_in_its_own_correction(self) -> None:
        chance = np.random.default_rng(1)
        labels, values = chance.normal(size=40), chance.normal(size=40)
        scopes = [f"string {row}" for row in range(40)]
        before, _ = offset_removed(labels, {"model": values}, scopes)
        labels[5] += 7
        after, _ = offset_removed(labels, {"model": values}, scopes)
        assert after["model"][5] == before["model"][5]
        assert (after["model"] != before["model"]).sum() == 20  # all of the other half

    def test_one_row(self) -> None:
        found, _ = offset_removed([1.0], {"model": [2.0]}, ["only"])
        assert found["model"].tolist() == [2.0]
