"""Metrics against their definitions and against numbers worked out by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_hf.training.metrics import mlm_metrics, regression_metrics

PAIRS = st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=2, max_size=30)

WHOLE_PAIRS = st.lists(st.tuples(st.integers(-99, 99), st.integers(-99, 99)), min_size=2, max_size=30)


def test_by_hand() -> None:
    # errors 1, 0, 2, 1; mean label 4, deviations 3, 1, 1, 3; squares 20
    found = regression_metrics([1.0, 3.0, 5.0, 7.0], [2.0, 3.0, 3.0, 8.0])
    assert found == {
        "mae": 1.0, "mae_mad": 0.5, "rmse": pytest.approx(math.sqrt(1.5)), "r2": pytest.approx(1 - 6 / 20),
        "median_absolute_error": 1.0, "mad": 2.0, "n": 4,
    }  # fmt: skip


@settings(max_examples=80)
@given(PAIRS)
def test_against_numpy(pairs: list[tuple[float, float]]) -> None:
    y, p = np.array(pairs).T
    found = regression_metrics(y, p)
    np.testing.assert_allclose(found["mae"], np.mean(np.abs(y - p)), rtol=1e-12)
    np.testing.assert_allclose(found["rmse"], np.linalg.norm(y - p) / np.sqrt(len(y)), rtol=1e-12, atol=1e-100)
    np.testing.assert_allclose(found["median_absolute_error"], np.quantile(np.abs(y - p), 0.5), rtol=1e-12, atol=1e-12)
    assert found["median_absolute_error"] <= 2 * found["mae"] + 1e-12
    assert found["mae"] <= found["rmse"] * (1 + 1e-12) + 1e-100  # squares of smaller errors underflow
    assert found["n"] == len(y)


@settings(max_examples=80)
@given(PAIRS, st.floats(0.01, 100), st.floats(-100, 100))
def test_a_change_of_unit_scales_errors_and_keeps_ratios(pairs, scale: float, shift: float) -> None:
    y, p = np.array(pairs).T
    before, after = regression_metrics(y, p), regression_metrics(scale * y + shift, scale * p + shift)
    for name in ("mae", "rmse", "median_absolute_error", "mad"):
        np.testing.assert_allclose(after[name], scale * before[name], rtol=1e-6, atol=1e-9)
    if before["mad"] > 1e-3:
        np.testing.assert_allclose(after["mae_mad"], before["mae_mad"], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(after["r2"], before["r2"], rtol=1e-5, atol=1e-6)


@settings(max_examples=40)
@given(WHOLE_PAIRS, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(pairs, chance) -> None:
    shuffled = list(pairs)
    chance.shuffle(shuffled)
    before, after = (regression_metrics(*np.array(rows).T) for rows in (pairs, shuffled))
    for name, value in before.items():
        assert after[name] is None if value is None else after[name] == pytest.approx(value, rel=1e-9, abs=1e-9)


def test_the_mean_predictor_scores_one() -> None:
    y = np.random.default_rng(0).normal(50, 10, 101)
    found = regression_metrics(y, np.full_like(y, y.mean()))
    assert found["mae_mad"] == pytest.approx(1.0)
    assert found["r2"] == pytest.approx(0.0, abs=1e-12)
    assert found["mae"] == pytest.approx(found["mad"])


def test_a_perfect_prediction() -> None:
    found = regression_metrics([1.0, 2.0, 4.0], [1.0, 2.0, 4.0])
    assert (found["mae"], found["mae_mad"], found["rmse"], found["r2"]) == (0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("labels", [[3.0, 3.0, 3.0], [3.0]])
def test_constant_labels_have_no_ratio(labels: list[float]) -> None:
    found = regression_metrics(labels, [4.0] * len(labels))
    assert (found["mae"], found["rmse"], found["mad"]) == (1.0, 1.0, 0.0)
    assert found["mae_mad"] is None
    assert found["r2"] is None


def test_no_rows() -> None:
    found = regression_metrics([], [])
    assert found.pop("n") == 0
    assert set(found.values()) == {None}
    assert {"mae", "mae_mad", "rmse", "r2", "median_absolute_error"} <= set(found)


@pytest.mark.parametrize(("labels", "predictions"), [([1.0, 2.0], [1.0]), ([[1.0], [2.0]], [[1.0], [2.0]])])
def test_vectors_of_another_shape_are_refused(labels: list, predictions: list) -> None:
    with pytest.raises(ValueError, match="same length"):
        regression_metrics(labels, predictions)


def test_masked_words_are_counted_once() -> None:
    labels = np.array([[-100, 7, -100], [8, 9, -100]])
    best = np.array([[1, 7, 1], [8, 1, 1]])
    nats = np.array([[50.0, 1.0, 50.0], [2.0, 3.0, 50.0]])
    found = mlm_metrics(SimpleNamespace(predictions=(best, nats), label_ids=labels))
    assert found["masked_words"] == 3
    assert found["masked_accuracy"] == pytest.approx(2 / 3)
    assert found["perplexity"] == pytest.approx(math.exp(2.0))
