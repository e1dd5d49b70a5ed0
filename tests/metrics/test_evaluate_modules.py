"""The `evaluate` modules: loaded by path, offline, and equal to the functions they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import evaluate
import numpy as np
import pytest
import torch

from cloud_hf.metrics import METRICS, metric_path, regression_metrics, thermodynamic_consistency
from cloud_hf.models import debye
from cloud_hf.training import metrics as training_metrics

QUANTITIES = ("heat_capacity", "internal_energy", "entropy", "helmholtz_energy")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow files of `evaluate` go to a folder of the test."""
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path / "metrics")


def curves(theta: float, n_atoms: int = 2, step: float = 5.0) -> dict[str, np.ndarray]:
    """A Debye solid from 0 to 1000 K."""
    t = torch.arange(0, 1000 + step, step, dtype=torch.float64)
    return {"temperature": t.numpy()} | {name: getattr(debye, name)(theta, t, n_atoms).numpy() for name in QUANTITIES}


class TestModules:
    @pytest.fixture(scope="class")
    def numbers(self) -> dict[str, np.ndarray]:
        chance = np.random.default_rng(0)
        labels = chance.normal(50, 10, 101)
        return {"references": labels, "predictions": labels + chance.normal(0, 3, 101)}

    def test_regression(self, numbers: dict[str, np.ndarray]) -> None:
        found = evaluate.load(metric_path("regression")).compute(**numbers)
        assert found == regression_metrics(numbers["references"], numbers["predictions"])
        assert {"mae", "rmse", "r2", "median_absolute_error", "mae_mad"} <= set(found)

    def test_mae_mad_in_batches(self, numbers: dict[str, np.ndarray]) -> None:
        metric = evaluate.load(metric_path("mae_mad"))
        for start in range(0, 101, 20):
            metric.add_batch(**{name: values[start : start + 20] for name, values in numbers.items()})
        labels, predictions = numbers["references"], numbers["predictions"]
        expected = np.abs(labels - predictions).mean() / np.abs(labels - labels.mean()).mean()
        assert metric.compute() == {"mae_mad": pytest.approx(expected, rel=1e-12)}

    def test_thermodynamic_consistency_is_that_of_the_worst_crystal(self) -> None:
        crystals = [curves(theta) for theta in (200.0, 600.0)]
        crystals[1]["entropy"] = crystals[1]["entropy"] * 1.1
        columns = {name: [crystal[name] for crystal in crystals] for name in crystals[0]}
        found = evaluate.load(metric_path("thermodynamic_consistency")).compute(**columns, n_atoms=[2, 2])
        alone = [thermodynamic_consistency(**crystal, n_atoms=2) for crystal in crystals]
        assert found["n"] == 2
        for name in ("heat_capacity_error", "entropy_error", "helmholtz_energy_error"):
            assert found[name] == max(row[name] for row in alone)
        assert found["entropy_error"] == pytest.approx(0.1 / 1.1, rel=0.01)
        assert found["helmholtz_energy_error"] > 0.01

    def test_combined(self, numbers: dict[str, np.ndarray]) -> None:
        found = evaluate.combine([metric_path("regression")]).compute(**numbers)
        assert found["mae_mad"] == regression_metrics(numbers["references"], numbers["predictions"])["mae_mad"]

    @pytest.mark.slow
    def test_they_load_in_a_fresh_process_offline(self, run_python: Any) -> None:
        script = (
            "import json, sys, evaluate\nprint(json.dumps([evaluate.load(p).inputs_description for p in sys.argv[1:]]))"
        )
        found = run_python(script, *map(metric_path, METRICS))
        assert len(found) == len(METRICS)
        assert all("Returns" in text for text in found)

    def test_an_unknown_name(self) -> None:
        with pytest.raises(ValueError, match=r"'accuracy'.*mae_mad, regression, thermodynamic_consistency"):
            metric_path("accuracy")

    def test_training_uses_the_same_function(self) -> None:
        assert training_metrics.regression_metrics is regression_metrics


@pytest.mark.parametrize(("labels", "predictions"), [([1.0, np.nan], [1.0, 2.0]), ([1.0, 2.0], [1.0, np.inf])])
def test_values_that_are_not_finite_are_refused(labels: list[float], predictions: list[float]) -> None:
    with pytest.raises(ValueError, match=r"row 1: .*finite"):
        regression_metrics(labels, predictions)


class TestThermodynamicConsistency:
    @pytest.mark.parametrize("theta", [120.0, 400.0, 900.0, 2200.0])
    @pytest.mark.parametrize("n_atoms", [1, 40])
    def test_a_debye_solid_is_consistent(self, theta: float, n_atoms: int) -> None:
        found = thermodynamic_consistency(**curves(theta, n_atoms, step=theta / 120), n_atoms=n_atoms)
        assert found["heat_capacity_error"] < 1e-4
        assert found["entropy_error"] < 1e-4
        assert found["helmholtz_energy_error"] < 1e-12
        assert found["bounds_violations"] == 0

    def test_the_spline_s_error_falls_with_the_cube_of_the_step(self) -> None:
        coarse, fine = (thermodynamic_consistency(**curves(300.0, step=step)) for step in (5.0, 2.5))
        assert fine["heat_capacity_error"] < coarse["heat_capacity_error"] / 6

    @pytest.mark.parametrize(("name", "error"), [
        ("heat_capacity", "heat_capacity_error"), ("entropy", "entropy_error"),
        ("internal_energy", "helmholtz_energy_error"), ("helmholtz_energy", "helmholtz_energy_error"),
    ])  # fmt: skip
    def test_a_scaled_curve_is_noticed(self, name: str, error: str) -> None:
        values = curves(400.0)
        before = thermodynamic_consistency(**values)
        values[name] = 1.05 * values[name]
        assert thermodynamic_consistency(**values)[error] > max(0.01, 10 * before[error])

    def test_units_do_not_matter_but_the_number_of_atoms_does(self) -> None:
        cell = curves(400.0, n_atoms=10)
        assert thermodynamic_consistency(**cell, n_atoms=10)["bounds_violations"] == 0
        per_atom = thermodynamic_consistency(**cell, n_atoms=1)["bounds_violations"]
        assert per_atom == int((cell["heat_capacity"] > 3 * 8.314462618).sum()) > 100

    @pytest.mark.parametrize("name", ["heat_capacity", "entropy"])
    def test_a_negative_and_a_falling_value_are_counted(self, name: str) -> None:
        values = curves(400.0)
        values[name][50] = -1.0
        assert thermodynamic_consistency(**values)["bounds_violations"] == 1
        values[name][120] = values[name][118]
        assert thermodynamic_consistency(**values)["bounds_violations"] == 2

    @pytest.mark.parametrize(("name", "change", "words"), [
        ("temperature", lambda t: t[::-1], "increase"), ("temperature", lambda t: t - 1, "at least 0"),
        ("entropy", lambda s: s[:-1], "one length"), ("entropy", lambda s: s * np.nan, "finite"),
    ])  # fmt: skip
    def test_what_is_no_curve_is_refused(self, name: str, change: Any, words: str) -> None:
        values = curves(400.0)
        values[name] = change(values[name])
        with pytest.raises(ValueError, match=words):
            thermodynamic_consistency(**values)
