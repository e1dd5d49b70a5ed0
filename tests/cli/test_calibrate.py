"""`cloud-hf calibrate` and `cloud-hf likelihood` on tiny models: what they write is what the package then uses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import pipeline

from cloud_hf import CloudForCrystalProperties, ScopeTokenizer
from cloud_hf.cli.main import main
from cloud_hf.data.inputs import Item
from cloud_hf.errors import TableError
from cloud_hf.inference.curves import heat_capacity_curve
from cloud_hf.inference.likelihood import LikelihoodSettings, StringLikelihood, distinct_strings
from cloud_hf.inference.prediction import load_predictors, predict_items
from cloud_hf.models.conformal import CALIBRATION_FILE, Calibration, width_at
from cloud_hf.models.debye import heat_capacity

SALT = "1 6 a O D D a D O D b O O O c O O O d O O O e O O O 0 | Na 4a Cl 4b"


def run(*argv: object) -> None:
    assert main([str(word) for word in argv]) == 0


def predictions(path: Path, name: str, unit: str, labels: np.ndarray, predicted: np.ndarray, trees: bool) -> Path:
    n = len(labels)
    strings = [f"1 0 0 | {('Na', 'Mg', 'K')[row % 3]} 1a O 2i" + " O 2i" * (row % 50) for row in range(n)]
    frame = {
        "row": range(n), "scope": strings, "part": ["train" if row % 4 == 0 else "validation" for row in range(n)],
        f"{name} ({unit})": labels, f"{name} predicted ({unit})": predicted,
    }  # fmt: skip
    if trees:
        frame[f"{name} trees ({unit})"] = predicted - (labels - predicted)  # twice the error
    pd.DataFrame(frame).to_csv(path, index=False)
    return path


def test_a_regression_head(several_heads: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(several_heads / "crystal_properties", tmp_path / "head")
    (folder / CALIBRATION_FILE).unlink()
    chance = np.random.default_rng(0)
    values = chance.uniform(0.5, 4.0, 800)
    labels = values + 0.3 * chance.standard_normal(800)
    table = predictions(tmp_path / "p.csv", "band_gap", "eV", labels, values, trees=True)
    run("calibrate", "--predictions", table, "--checkpoint", folder, "--json", tmp_path / "r.json")
    found = json.loads((tmp_path / "r.json").read_text())["band_gap"]
    assert found["model"]["n"] == found["trees"]["n"] == 600, "rows that were trained on are not scored"
    assert found["model"]["coverage"] == pytest.approx(0.9, abs=0.05)
    assert found["trees"]["mean_width"] == pytest.approx(2 * found["model"]["mean_width"], rel=0.2)
    target = Calibration.load(folder / CALIBRATION_FILE).targets["band_gap"]
    assert set(target.elements) == {"Na", "Mg", "K", "O"}
    (gap,) = (one for one in pipeline("crystal-property", model=str(folder))(SALT) if one["name"] == "band_gap")
    assert gap["high"] - gap["low"] == pytest.approx(1.0, abs=0.3)
    assert gap["unknown_elements"] == ["Cl"]


@pytest.mark.parametrize(("n", "ratio"), [(200, 0.5), (99, None)])
def test_weights_that_learned_further(several_heads: Path, tmp_path: Path, n: int, ratio: float | None, capsys) -> None:
    folder = shutil.copytree(several_heads / "crystal_properties", tmp_path / "head")
    chance = np.random.default_rng(0)
    values = chance.uniform(1.0, 4.0, 800)
    labels = values + 0.2 * chance.standard_normal(800)
    path = predictions(tmp_path / "p.csv", "band_gap", "eV", labels, values, trees=False)
    table = pd.read_csv(path)
    argv = ["calibrate", "--predictions", path, "--checkpoint", folder, "--json", tmp_path / "r.json"]
    run(*argv)
    (before,) = Calibration.load(folder / CALIBRATION_FILE).targets.values()
    unseen = table.index[table.part != "train"][:n]
    table["band_gap refitted (eV)"] = pd.Series((values + labels) / 2).where(table.index.isin(unseen))
    table.to_csv(path, index=False)
    capsys.readouterr()
    run(*argv)
    (after,) = Calibration.load(folder / CALIBRATION_FILE).targets.values()
    found = json.loads((tmp_path / "r.json").read_text())["band_gap"]
    assert ("refitted" in capsys.readouterr().out) == (ratio is not None)
    assert (found.get("refitted") or {}).get("error_ratio") == (ratio and pytest.approx(ratio, rel=0.01))
    for level, quantile in before.quantiles.items():
        assert after.quantiles[level] == pytest.approx(quantile * (ratio or 1), rel=0.01)


def test_heat_capacities_per_cell(several_heads: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(several_heads / "heat_capacity", tmp_path / "head")
    chance = np.random.default_rng(0)
    theta = chance.uniform(200, 800, 400)
    atoms = np.array([3 + 2 * (row % 50) for row in range(400)])  # those of the strings
    predicted, labels = (
        heat_capacity(one, 300.0).numpy() * atoms for one in (theta, theta * np.exp(0.1 * chance.standard_normal(400)))
    )
    table = predictions(tmp_path / "p.csv", "heat_capacity", "J/(mol cell K)", labels, predicted, trees=False)
    run("calibrate", "--predictions", table, "--checkpoint", folder)
    found = {one["name"]: one for one in pipeline("crystal-property", model=str(folder))(SALT)}["debye_temperature"]
    assert np.log(found["high"] / found["value"]) == pytest.approx(0.1645, abs=0.05)


def test_every_quantity_of_a_spectrum_has_a_width_of_its_own(make_config, tmp_path: Path) -> None:
    folder, chance, n = tmp_path / "model", np.random.default_rng(0), 600
    torch.manual_seed(0)
    config = make_config(
        grammar="sites", canonical=True, element_descriptors=True, target_names=["band_gap"], target_units=["eV"],
        initializer_range=0.2,
    )  # fmt: skip
    CloudForCrystalProperties(config).save_pretrained(folder)
    ScopeTokenizer().save_pretrained(folder)
    theta = chance.uniform(200, 800, n)
    truth = theta * np.exp(0.05 * chance.standard_normal(n))
    scopes = [f"1 0 0 | {('Na', 'Mg', 'K')[row % 3]} 1a O 2i" + " O 2i" * (row % 50) for row in range(n)]
    cv = {"": heat_capacity(truth, 300.0), " predicted": heat_capacity(theta, 300.0)}
    table = pd.DataFrame({"scope": scopes, "part": "test"})
    table = table.assign(**{f"heat_capacity{what} (J/(mol atom K))": one.numpy() for what, one in cv.items()})
    spreads = {"heat_capacity_50K": 0.1, "heat_capacity_300K": 0.05, "entropy_300K": 0.15, "zero_point_energy": 0.025}
    for name, spread in spreads.items():
        table[f"{name} frequency factor (1)"] = np.exp(spread * chance.standard_normal(n))
    table["thermal_energy_300K frequency factor (1)"] = np.nan
    table.to_csv(tmp_path / "p.csv", index=False)
    argv = ("calibrate", "--predictions", tmp_path / "p.csv", "--checkpoint", folder, "--json", tmp_path / "r.json")
    run(*argv)
    widths = Calibration.load(folder / CALIBRATION_FILE).targets["heat_capacity"].quantity_widths
    for quantity, kelvin, width in (
        ("heat_capacity", "50", 2), ("heat_capacity", "300", 1), ("entropy", "300", 3), ("zero_point_energy", "0", 0.5),
    ):  # fmt: skip
        assert widths[quantity][kelvin] == pytest.approx(width, rel=0.25)
    assert "thermal_energy" not in widths
    found = json.loads((tmp_path / "r.json").read_text())["heat_capacity"]["quantities"]["entropy"]["300"]
    assert found["coverage"] == pytest.approx(0.9, abs=0.04)
    assert found["unscaled_coverage"] == pytest.approx(0.42, abs=0.08)

    predictor = load_predictors(str(folder), likelihood=None)
    bands = set()
    for kelvin in (50.0, 100.0, 300.0, 1000.0):
        (prediction,) = predict_items(predictor, [Item("a", scope=SALT)], temperature=kelvin)
        named = {quantity["name"]: quantity for quantity in prediction.quantities}
        theta_band, dos = named["debye_temperature_of_heat_capacity"], prediction.phonon_dos
        band = theta_band["high"] / theta_band["value"]
        bands.add(round(band, 9))
        for name, of_spectrum in (("heat_capacity", dos.heat_capacity), ("entropy", dos.entropy)):
            power = float(width_at(widths[name], kelvin))
            ends = of_spectrum(kelvin * band ** torch.tensor([-power, power], dtype=torch.float64))
            found = named[f"{name}_per_atom"]
            assert [found["low"], found["high"]] == pytest.approx(ends.tolist(), rel=1e-6)
            if name == "heat_capacity":
                curve = heat_capacity_curve(prediction, torch.tensor([kelvin], dtype=torch.float64))
                assert [float(curve.stiffest), float(curve.softest)] == pytest.approx(ends.tolist(), rel=1e-6)
        for name, width in (
            ("debye_temperature_of_low_temperatures", widths["heat_capacity"]["50"]),
            ("zero_point_energy_per_atom", widths["zero_point_energy"]["0"]),
        ):
            found = named[name]
            assert found["high"] / found["value"] == pytest.approx(band**width)
    assert len(bands) == 1, "a Debye temperature is of no temperature"


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("entropy_300K", 0.0, "holds factors that are not positive"),
        ("entropy_300K", "soft", "entropy_300K"),
        ("entropy", 1.0, "of no known quantity; there are heat_capacity_300K, entropy_300K"),
        ("zero_point_energy_300K", 1.0, "of no known quantity"),
        ("volume_3.0.0K", 1.0, "of no known quantity"),
    ],
)
def test_factors_that_are_none_are_refused(tmp_path: Path, make_config, capsys, column, value, reason: str) -> None:
    config = make_config(grammar="sites", target_names=["gap"], target_units=["eV"])
    CloudForCrystalProperties(config).save_pretrained(tmp_path / "model")
    table = pd.DataFrame({"scope": ["1 0 0 | Na 1a"] * 100, "part": "test", f"{column} frequency factor (1)": value})
    cv = {f"heat_capacity{what} (J/(mol atom K))": np.linspace(1, 20, 100) for what in ("", " predicted")}
    table.assign(**cv).to_csv(tmp_path / "p.csv", index=False)
    argv = ["calibrate", "--predictions", str(tmp_path / "p.csv"), "--checkpoint", str(tmp_path / "model")]
    assert main(argv) == 2
    assert reason in capsys.readouterr().err


def test_a_table_without_the_predictions(several_heads: Path, tmp_path: Path, capsys) -> None:
    folder = shutil.copytree(several_heads / "heat_capacity", tmp_path / "head")
    table = predictions(tmp_path / "p.csv", "other", "eV", np.ones(8), np.ones(8), trees=False)
    for more in (["--targets", "heat_capacity"], []):
        assert main(["calibrate", "--predictions", str(table), "--checkpoint", str(folder), *more]) == 2
        assert "heat_capacity" in capsys.readouterr().err


def test_the_threshold_of_unusual_strings(several_heads: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(several_heads / "likelihood", tmp_path / "mlm")
    (folder / "likelihood.json").unlink()
    scorer = StringLikelihood.load(str(folder))
    strings = [
        f"1 0 0 | {a} 1a {b} {n}i" for a in ("Na", "Mg", "Fe", "Ca") for b in ("O", "S", "Cl") for n in (2, 4, 8)
    ]
    order = [strings[row] for row in np.argsort(scorer(strings))]
    pd.DataFrame({"scope": order[12:] + order[:3], "part": ["validation"] * 24 + ["train"] * 3}).to_parquet(
        tmp_path / "in.parquet"
    )
    pd.DataFrame({"scope": order[:12]}).to_csv(tmp_path / "out.csv")
    argv = ["--model", folder, "--inside", f"{tmp_path / 'in.parquet'}:validation", "--outside", tmp_path / "out.csv"]
    run("likelihood", *argv, "--save", "--json", tmp_path / "r.json")
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["auroc"] == 1.0, "the likelier half is inside"
    assert found["auroc_95"] == [1.0, 1.0]
    assert (found["inside"]["strings"], found["outside"]["strings"]) == (24, 12)
    assert found["flagged_outside"] == 1.0
    settings = LikelihoodSettings.load(folder / "likelihood.json")
    assert settings.threshold == found["threshold"]
    assert settings.n_rows == 24


def test_atoms_come_from_the_labelled_table_where_strings_do_not_tell(
    several_heads: Path, tmp_path: Path, capsys
) -> None:
    folder = shutil.copytree(several_heads / "heat_capacity", tmp_path / "head")
    theta = np.random.default_rng(0).uniform(200, 800, 200)
    frame = pd.DataFrame({"row": np.arange(200)[::-1], "scope": "1 0 0 | 2i | Na 0.5 Cl 0.5", "part": "test"})
    atoms = 2 + frame["row"] % 3
    values = heat_capacity(theta, 300.0).numpy() * atoms
    unit = "J/(mol cell K)"
    frame.assign(**{f"heat_capacity ({unit})": values, f"heat_capacity predicted ({unit})": values * 0.99}).to_csv(
        tmp_path / "p.csv", index=False
    )
    pd.DataFrame({"atoms": 2 + np.arange(200) % 3}).to_csv(tmp_path / "labels.csv", index=False)
    argv = ["calibrate", "--predictions", str(tmp_path / "p.csv"), "--checkpoint", str(folder)]
    assert main(argv) == 2
    assert "as --data." in capsys.readouterr().err
    run(*argv, "--data", tmp_path / "labels.csv", "--n-atoms", "atoms")
    assert "0.9" in capsys.readouterr().out


def test_strings_of_a_part(several_heads: Path, tmp_path: Path) -> None:
    path = tmp_path / "a:b.csv"
    pd.DataFrame({"scope": ["x", "x", "y", None, "z"], "part": ["t", "t", "t", "t", "v"]}).to_csv(path, index=False)
    shutil.copy(path, tmp_path / "c.csv")
    assert sorted(distinct_strings(str(path))) == ["x", "y", "z"]
    assert sorted(distinct_strings(f"{tmp_path / 'c.csv'}:t")) == ["x", "y"]
    assert len(distinct_strings(str(path), 2)) == 2
    with pytest.raises(TableError, match="no strings of the part 'w'"):
        distinct_strings(f"{tmp_path / 'c.csv'}:w")
