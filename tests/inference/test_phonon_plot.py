"""`cloud-hf predict` with a model of every head: thermal quantities, and a picture of Cv(T) and the DOS."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from matplotlib.axes import Axes

from cloud_hf import CloudForCrystalProperties, ScopeTokenizer
from cloud_hf.cli.main import main
from cloud_hf.data.inputs import Item
from cloud_hf.errors import CloudError
from cloud_hf.inference.phonon_plot import plot_phonon_dos
from cloud_hf.inference.plotting import LABELLED_CURVES
from cloud_hf.inference.prediction import Prediction, load_predictors, predict_encoded
from cloud_hf.models.conformal import STRING_FEATURES, Calibration, Difficulty, TargetCalibration
from cloud_hf.models.phonon_dos import phonon_dos


@pytest.fixture(scope="module")
def folder(make_config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("every") / "model"
    torch.manual_seed(0)
    config = make_config(
        grammar="sites", canonical=True, element_descriptors=True, site_multiplicity=True, pooling="cls_multiplicity",
        target_names=["band_gap"], target_units=["eV"], initializer_range=0.2,
    )  # fmt: skip
    CloudForCrystalProperties(config).save_pretrained(path)
    ScopeTokenizer().save_pretrained(path)
    return path


def test_predict_gives_thermal_quantities_and_draws_them(
    folder: Path, examples: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, picture = tmp_path / "rows.csv", tmp_path / "cv.png"
    crystals = [str(path) for path in examples[:3]]
    argv = ["predict", *crystals, "--model", str(folder), "--temperature", "500", "--likelihood", "none"]
    assert main([*argv, "-o", str(rows), "--plot", str(picture)]) == 0
    said = capsys.readouterr().out
    assert "At 500 K." in said
    assert f"Cv(T) and the phonon density of states -> {picture}" in said
    assert picture.read_bytes().startswith(b"\x89PNG")
    table = pd.read_csv(rows)
    assert (table["temperature (K)"] == 500).all()
    free, energy = (table[f"{name}_per_atom (J/(mol atom))"] for name in ("thermal_helmholtz_energy", "thermal_energy"))
    entropy = table["entropy_per_atom (J/(mol atom K))"]
    pd.testing.assert_series_equal(free, energy - 500 * entropy, rtol=1e-6, check_names=False)
    assert (table["zero_point_energy_per_atom (J/(mol atom))"] > 0).all()


def test_every_prediction_has_its_own_density_of_states(folder: Path) -> None:
    predictor = load_predictors(str(folder), likelihood=None)
    items = [Item(source=f"row {n}", scope=f"1 0 0 | {element} 2i") for n, element in enumerate(("Cu", "Si", "Pb"))]
    for one in predict_encoded(predictor, items):
        found = {quantity["name"]: quantity["value"] for quantity in one.quantities}
        assert one.phonon_dos is not None
        assert one.phonon_dos.heat_capacity(300.0).item() == pytest.approx(found["heat_capacity_per_atom"])


def test_one_head_leaves_the_thermal_quantities_out(folder: Path) -> None:
    gap, heat = (load_predictors(str(folder), head, likelihood=None) for head in ("band_gap", "heat_capacity"))
    assert list(gap.units) == ["band_gap"]
    assert not gap.has_temperature
    assert not gap.has_phonon_dos
    assert "band_gap" not in heat.units
    assert heat.units["entropy_per_cell"] == "J/(mol primitive cell K)"
    assert heat.has_phonon_dos


def made(count: int) -> list[Prediction]:
    return [
        Prediction(
            Item(source=f"crystal {n}", scope="1 0 0 | Cu 2i"),
            phonon_dos=phonon_dos([1.0] * (10 + n) + [0.0] * (75 - n), [80.0] * 3, 4),
        )
        for n in range(count)
    ]


@pytest.mark.parametrize("count", [1, LABELLED_CURVES, LABELLED_CURVES + 1])
def test_curves_are_those_of_the_predictions(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, steps = [], []
    plot, stairs = Axes.plot, Axes.stairs
    monkeypatch.setattr(Axes, "plot", lambda self, *a, **k: drawn.append(a[1]) or plot(self, *a, **k))
    monkeypatch.setattr(Axes, "stairs", lambda self, *a, **k: steps.append(a[0]) or stairs(self, *a, **k))
    predictions = made(count)
    plot_phonon_dos(predictions, str(tmp_path / "p.png"))
    assert len(drawn) == len(steps) == count
    assert drawn[0][-1].item() == pytest.approx(predictions[0].phonon_dos.heat_capacity(1000.0).item())
    assert sum(steps[0]) * 10 == pytest.approx(3)  # modes an atom


def test_nothing_to_draw_is_said(tmp_path: Path) -> None:
    with pytest.raises(CloudError, match="nothing to plot"):
        plot_phonon_dos([Prediction(Item(source="a", error="bad"))], str(tmp_path / "p.png"))


@pytest.mark.parametrize("kelvin", [0.0, 77.0, 300.0, 1500.0])
def test_the_band_is_that_of_all_frequencies_times_one_factor(folder: Path, kelvin: float) -> None:
    width = 0.25
    same = Difficulty([0.0] * len(STRING_FEATURES), [1.0] * len(STRING_FEATURES), [], 1.0, [0.0] * 124, 0, 0, 0, 0)
    target = TargetCalibration("J/(mol atom K)", "debye", {"0.9": width}, same, 10, 10)
    predictor = load_predictors(str(folder), likelihood=None)
    predictor.pipelines[0].calibration = Calibration({"heat_capacity": target})
    assert predictor.interval_names == set(predictor.units) - {"band_gap"}
    item = Item(source="salt", scope="1 0 0 | Na 2i Cl 2i")
    (one,) = predict_encoded(predictor, [item], kelvin)
    dos = one.phonon_dos
    assert dos is not None
    for quantity in one.quantities:
        if quantity["name"] == "band_gap":
            assert "low" not in quantity
            continue
        assert quantity["low"] <= quantity["value"] <= quantity["high"]
    by_name = {quantity["name"]: quantity for quantity in one.quantities}
    softer, stiffer = (
        dos._replace(edges=dos.edges * factor, acoustic_cutoff=dos.acoustic_cutoff * factor)
        for factor in (math.exp(-width), math.exp(width))
    )
    for end, other in (("high", softer), ("low", stiffer)):
        assert by_name["heat_capacity_per_atom"][end] == pytest.approx(other.heat_capacity(kelvin).item(), abs=1e-9)
        assert by_name["entropy_per_cell"][end] == pytest.approx(4 * other.entropy(kelvin).item(), abs=1e-9)
        thermal = other.internal_energy(kelvin) - other.zero_point_energy()
        assert by_name["thermal_energy_per_atom"][end] == pytest.approx(thermal.item(), abs=1e-6)
    free = [(other.helmholtz_energy(kelvin) - other.zero_point_energy()).item() for other in (softer, stiffer)]
    band = by_name["thermal_helmholtz_energy_per_atom"]
    assert [band["low"], band["high"]] == pytest.approx(free, abs=1e-6)
    assert by_name["zero_point_energy_per_atom"]["high"] == pytest.approx(stiffer.zero_point_energy().item())
