"""The study `debye`: heads at 300 K, other temperatures, consistency, measured crystals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cloud_hf.cli.main import main
from cloud_hf.errors import CloudError, StudyError, TableError
from cloud_hf.files import save_figure
from cloud_hf.models.heads_cloud import ThermalProperties, thermal_properties
from cloud_hf.studies.common.crystals import read_crystals
from cloud_hf.studies.common.fitting import Fit, StudyTarget, fit_and_predict
from cloud_hf.studies.common.scoring import verdict
from cloud_hf.studies.debye import study as debye
from cloud_hf.studies.debye.figures import measured_figure
from cloud_hf.studies.debye.given import given_predictions
from cloud_hf.studies.debye.rows import KNOWN, read_debye_rows, table_of
from cloud_hf.studies.debye.scores import UNIT, collect

LABEL, COLUMNS = "cv", ("phfreq", "phdos")
FLAGS = ["--label", LABEL, "--folds", "2", "--learning-rate", "0.01", "--num-train-epochs", "8"]


@pytest.fixture(scope="session")
def table(crystals: Callable[[int], pd.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of crystals whose phonons are those of a Debye solid; the last has no density of states."""
    frame = crystals(40)
    points = [np.linspace(0, theta / 1.438776877, 801) for theta in frame["theta"]]
    frame["phfreq"], frame["phdos"] = points, [values**2 for values in points]
    frame.at[len(frame) - 1, "phdos"] = np.zeros(801)
    path = tmp_path_factory.mktemp("debye") / "rows.parquet"
    frame.to_parquet(path)
    return path


@pytest.fixture(scope="session")
def fit(table: Path, encoder: Path) -> Fit:
    """A tiny Debye model that has learned a little."""
    arguments = debye.Arguments([str(table)], "x", model=str(encoder), num_train_epochs=1, bf16=False)
    rows = read_crystals(table, [LABEL])
    target = StudyTarget(LABEL, debye.UNIT, debye="heat_capacity", per_cell=True)
    return fit_and_predict(arguments, target, rows, np.arange(20), {})


class TestRun:
    @pytest.mark.train
    def test_from_table_to_report_and_on_again(
        self, table: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("sklearn")
        out = tmp_path / "out"
        words = ["study", "debye", "--data", str(table), "--model", str(encoder), "--out", str(out), *FLAGS]
        assert main([*words, "--only-folds", "1"]) == 0
        found = json.loads((out / "results.json").read_text())["results"]
        rows = found["rows"]
        assert (rows["in_table"], rows["labelled"], rows["folds"], rows["of_folds"]) == (40, 40, [1], 2)
        assert rows["test_crystals_in_training"] == 0
        assert rows["test_rows"] + rows["train_rows"][0] == 40
        arms = found["heads_at_300_K"]["arms"]
        assert set(arms) == {"debye", "per_atom", "per_cell", "trees", "mean"}
        assert arms["trees"]["mae"] < arms["mean"]["mae"]
        elsewhere = found["other_temperatures"]
        assert elsewhere["n"] + elsewhere["left_out"] == rows["test_rows"]
        for kelvin, scores in elsewhere["heat_capacity"].items():
            assert scores["n"] == elsewhere["n"]
            assert scores["arms"]["label"]["mae"] < 1e-3  # a Debye solid: its label says all temperatures
            energy = elsewhere["internal_energy"][kelvin]["arms"]
            assert energy["label"]["mae"] < 1e-3 * float(kelvin)
            assert energy["debye"]["mae"] > energy["label"]["mae"]
        assert found["consistency"]["crystals_out_of_bounds"] == 0
        assert found["consistency"]["heat_capacity_error"]["largest"] < 2e-3
        assert found["consistency"]["helmholtz_energy_error"]["largest"] < 1e-6
        assert all(one["debye"] > 0 and one["models"] == 1 for one in found["compounds"] + found["elements"])
        text = (out / "report.md").read_text()
        for word in ("CLOUD-DEBYE (published)", "0.057", "extensivity", "U(T) - U(0)", "Al2O3"):
            assert word in text
        for name in ("errors", "temperatures", "crystals", "measured"):
            assert f"{name}.png" in text
            assert (out / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert str(tmp_path) not in text + (out / "results.json").read_text()
        assert len(pd.read_csv(out / "predictions.csv")) == rows["test_rows"]

        trained = []
        original = fit_and_predict
        monkeypatch.setattr(debye, "fit_and_predict", lambda *given: trained.append(given) or original(*given))
        assert main([*words, "--only-folds", "1"]) == 0
        assert not trained
        assert json.loads((out / "results.json").read_text())["results"] == found

    @pytest.mark.train
    def test_without_phonons_and_trees(self, table: Path, encoder: Path, tmp_path: Path) -> None:
        frame = pd.read_parquet(table).drop(columns=[*COLUMNS])
        frame.loc[3, LABEL] = np.nan
        frame.to_parquet(tmp_path / "rows.parquet")
        words = ["study", "debye", "--data", str(tmp_path / "rows.parquet"), "--model", str(encoder)]
        words += ["--out", str(tmp_path / "out"), *FLAGS, "--max-steps", "2", "--only-folds", "0"]
        assert main([*words, "--no-phonons", "--no-baselines"]) == 0
        found = json.loads((tmp_path / "out/results.json").read_text())["results"]
        assert found["other_temperatures"] == {}
        assert "trees" not in found["heads_at_300_K"]["arms"]
        assert found["rows"]["unlabelled"] == 1
        assert "Rows without a label: 1;" in (tmp_path / "out/report.md").read_text()


class TestModel:
    def test_thetas_do_not_depend_on_the_batch(self, table: Path, fit: Fit) -> None:
        rows = read_crystals(table)
        one, two = debye.model_thetas(fit, rows), debye.model_thetas(fit, rows, batch=3)
        assert one == pytest.approx(two, rel=1e-5)
        order = np.random.default_rng(0).permutation(len(rows))
        assert debye.model_thetas(fit, rows.take(order)) == pytest.approx(one[order], rel=1e-5)

    def test_a_broken_identity_is_found(self, fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
        thetas, atoms = np.array([100.0, 900.0]), np.array([2.0, 5.0])
        good = debye.consistency(fit, thetas, atoms)
        assert max(good["heat_capacity_error"]) < 1e-3
        assert good["bounds_violations"] == [0, 0]

        def broken(*given: Any) -> ThermalProperties:
            return thermal_properties(*given)._replace(internal_energy=1.1 * thermal_properties(*given).internal_energy)

        monkeypatch.setattr(debye, "thermal_properties", broken)
        bad = debye.consistency(fit, thetas, atoms)
        assert min(bad["heat_capacity_error"]) > 0.05
        assert min(bad["helmholtz_energy_error"]) > 0.01
        assert bad["entropy_error"] == good["entropy_error"]


class TestRows:
    def test_measured_crystals_are_predicted_only_by_models_that_have_not_seen_them(self, tmp_path: Path) -> None:
        inside = [one.scope for one in KNOWN[:4]]
        atoms = {"Al2O3": 10, "Li2O": 3, "CaTiO3": 20, "GaN": 4}
        labels = [20.0 * atoms[one.name] for one in KNOWN[:4]]
        pd.DataFrame({"scope": inside, LABEL: labels}).to_csv(tmp_path / "rows.csv", index=False)
        rows = read_debye_rows(tmp_path / "rows.csv", LABEL, None, 2, 0, tmp_path / "kept")
        assert len(rows) == 4
        for fold in (0, 1):
            train, test, known = rows.split(fold)
            held = {rows.crystals.scopes[row] for row in test}
            predicted = {rows.crystals.scopes[row] for row in known}
            assert held <= predicted
            assert not predicted & {rows.crystals.scopes[row] for row in train}
            assert {one.scope for one in KNOWN[4:]} <= predicted
        assert np.isnan(rows.match).all()

    def test_atoms_of_a_column_count_where_strings_lose_some(self, table: Path, tmp_path: Path) -> None:
        frame = pd.read_parquet(table).assign(atoms=8.0)
        frame[LABEL] *= 4
        frame.to_parquet(tmp_path / "rows.parquet")
        given = (tmp_path / "rows.parquet", LABEL, COLUMNS, 2, 0, tmp_path / "kept")
        rows = read_debye_rows(*given, n_atoms="atoms")
        assert set(rows.n_atoms) == {8.0}
        assert np.nanmax(rows.match) < 1e-4
        frame.assign(atoms=0).to_parquet(tmp_path / "rows.parquet")
        with pytest.raises(TableError, match="1 or more"):
            read_debye_rows(*given, n_atoms="atoms")

    def test_the_match_is_that_of_label_and_density(self, table: Path, tmp_path: Path) -> None:
        rows = read_debye_rows(table, LABEL, COLUMNS, 2, 0, tmp_path)
        assert np.isnan(rows.match).sum() == 1
        assert np.nanmax(rows.match) < 1e-4

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            (lambda frame: frame.rename(columns={LABEL: "Cv"}), "no column 'cv'"),
            (lambda frame: frame.assign(cv=np.nan), "empty in all of"),
            (lambda frame: frame.assign(cv="unknown"), "finite numbers"),
            (lambda frame: frame.assign(cv=4 * frame["cv"]), "per primitive cell or per atom"),
            (lambda frame: frame.drop(columns="phdos"), "--density"),
            (lambda frame: frame.assign(phdos=3.0), "--no-phonons"),
            (lambda frame: frame[:1], "do not make 2 folds"),
        ],
    )
    def test_tables_that_cannot_be_used(
        self, change: Callable[[pd.DataFrame], pd.DataFrame], text: str, table: Path, tmp_path: Path
    ) -> None:
        change(pd.read_parquet(table)).to_parquet(tmp_path / "rows.parquet")
        with pytest.raises((TableError, StudyError), match=text):
            read_debye_rows(tmp_path / "rows.parquet", LABEL, COLUMNS, 2, 0, tmp_path / "kept")

    def test_the_table_is_one_and_may_be_named_by_its_folder(self, tmp_path: Path) -> None:
        with pytest.raises(StudyError, match="reads one table"):
            table_of(["a.csv", "b.csv"])
        with pytest.raises(StudyError, match=r"has no heat_capacity_structures_train\.parquet"):
            table_of([str(tmp_path)])
        (tmp_path / "heat_capacity_structures_train.parquet").touch()
        assert table_of([str(tmp_path)]).is_file()


def test_cells_of_other_rows_are_not_put_together(table: Path, tmp_path: Path) -> None:
    rows = read_debye_rows(table, LABEL, COLUMNS, 2, 0, tmp_path)
    with pytest.raises(StudyError, match="different rows"):
        collect(rows, {"debye": [{"rows": [1, 2]}], "trees": [{"rows": [1, 3]}]})


@pytest.mark.parametrize("given", [{"only_folds": [5]}, {"only_folds": []}, {"folds": 1}, {"temperatures": [0.0]}])
def test_values_that_cannot_work(given: dict[str, Any]) -> None:
    with pytest.raises(CloudError):
        debye.Arguments(["x.csv"], "x", **given)


def test_an_interval_says_what_it_shows() -> None:
    gaps = ({"low": -2, "high": -1}, {"low": 1, "high": 2}, {"low": -1, "high": 1})
    assert [verdict(gap) for gap in gaps] == ["lower", "higher", "no clear difference"]


def test_measured_crystals_are_drawn_from_a_result_file(root: Path, tmp_path: Path) -> None:
    record = json.loads((root / "docs/studies/debye/results.json").read_text())
    save_figure(measured_figure(record["results"]["compounds"], ["debye", "trees"]), str(tmp_path / "measured.png"))
    assert (tmp_path / "measured.png").read_bytes()[:4] == b"\x89PNG"


class TestGivenPredictions:
    @pytest.fixture
    def given(self, table: Path, tmp_path: Path) -> Path:
        """Predictions that are right for the model, and 10 % too low for the trees."""
        label = pd.read_parquet(table)[LABEL]
        frame = pd.DataFrame({"row": np.arange(len(label)), "part": "test", "fold": np.arange(len(label)) % 2})
        for name, factor in (("", 1.0), (" predicted", 1.0), (" trees", 0.9)):
            frame[f"{LABEL}{name} ({UNIT})"] = factor * label
        frame.sample(frac=1, random_state=0).to_csv(tmp_path / "predictions.csv", index=False)
        return tmp_path / "predictions.csv"

    def test_the_right_temperature_is_right_at_every_other(
        self, table: Path, given: Path, several_heads: Path, tmp_path: Path
    ) -> None:
        pytest.importorskip("sklearn")
        words = ["study", "debye", "--data", str(table), "--label", LABEL, "--predictions", str(given)]
        words += ["--checkpoints", str(several_heads / "heat_capacity"), "--out", str(tmp_path / "out")]
        assert main(words) == 0
        found = json.loads((tmp_path / "out/results.json").read_text())["results"]
        assert set(found["heads_at_300_K"]["arms"]) == {"debye", "trees", "mean"}
        assert found["other_temperatures"]["n"] == 39
        for kelvin in ("100", "300", "500", "1000"):
            for quantity, scale in (("heat_capacity", 25.0), ("internal_energy", 25.0 * float(kelvin))):
                arms = found["other_temperatures"][quantity][kelvin]["arms"]
                assert arms["debye"]["mae"] < 1e-3 * scale
                assert arms["trees"]["mae"] > arms["debye"]["mae"]
                assert arms["debye"]["difference"]["high"] < 0
        assert [entry["name"] for entry in found["compounds"]] == ["Al2O3", "Li2O", "CaTiO3", "GaN"]
        assert all(entry["debye"] > 0 and entry["trees"] > 0 for entry in found["compounds"] + found["elements"])
        text = (tmp_path / "out/report.md").read_text()
        assert "Predictions: predictions.csv." in text
        for name in ("errors", "temperatures", "crystals", "measured"):
            assert f"({name}.png)" in text
            assert (tmp_path / f"out/{name}.png").read_bytes()[:4] == b"\x89PNG"

    def test_predictions_of_another_table_are_refused(self, table: Path, given: Path, tmp_path: Path) -> None:
        rows = read_debye_rows(table, LABEL, COLUMNS, 2, 0, tmp_path)
        frame = pd.read_csv(given)
        frame[f"{LABEL} ({UNIT})"] += 1
        frame.to_csv(given, index=False)
        with pytest.raises(StudyError, match="labels are not those"):
            given_predictions(str(given), [], rows)
        frame.drop(columns=f"{LABEL} trees ({UNIT})").to_csv(given, index=False)
        with pytest.raises(StudyError, match="trees"):
            given_predictions(str(given), [], rows)

    def test_two_branches_have_no_one_temperature(self, table: Path, given: Path, tmp_path: Path) -> None:
        rows = read_debye_rows(table, LABEL, COLUMNS, 2, 0, tmp_path)
        settings = {"debye": ["heat_capacity"], "second_branch": "einstein"}
        given.with_name("run.json").write_text(json.dumps({"settings": settings}))
        with pytest.raises(StudyError, match="one branch"):
            given_predictions(str(given), [], rows)
