"""What all studies share: the folder, rows, trainings, errors and reports."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cloud_hf.cli.main import main
from cloud_hf.errors import CloudError, StudyError
from cloud_hf.studies.common.arguments import StudyArguments, TrainingStudyArguments
from cloud_hf.studies.common.crystals import Crystals, assigned_folds, read_crystals
from cloud_hf.studies.common.fitting import StudyTarget, encoder_folder, fit_and_predict, fit_arms, training_settings
from cloud_hf.studies.common.folder import StudyFolder
from cloud_hf.studies.common.scoring import compared, paired, signed


class TestFolder:
    def test_a_cell_is_computed_once(self, tmp_path: Path) -> None:
        calls: list[int] = []
        for _ in range(2):
            folder = StudyFolder(tmp_path / "out", "scaling", {"seed": 0})
            found = folder.cell("a/b", lambda: calls.append(1) or {"value": 1.5})
            assert found["value"] == 1.5
        assert calls == [1]
        assert folder.has("a/b")

    def test_a_failed_cell_leaves_nothing(self, tmp_path: Path) -> None:
        folder = StudyFolder(tmp_path / "out", "scaling", {})

        def fails() -> dict[str, float]:
            raise StudyError("no")

        with pytest.raises(StudyError):
            folder.cell("one", fails)
        assert not folder.has("one")

    def test_another_study_is_refused(self, tmp_path: Path) -> None:
        StudyFolder(tmp_path / "out", "scaling", {})
        with pytest.raises(StudyError, match=r"'scaling', not 'debye'"):
            StudyFolder(tmp_path / "out", "debye", {})

    def test_other_settings_are_named(self, tmp_path: Path) -> None:
        StudyFolder(tmp_path / "out", "scaling", {"seed": 0, "rows": "abc"})
        with pytest.raises(StudyError, match=r"seed was 0, is 1"):
            StudyFolder(tmp_path / "out", "scaling", {"seed": 1, "rows": "abc"})

    def test_a_folder_with_other_files_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").write_text("years of work")
        with pytest.raises(StudyError, match="not of a study"):
            StudyFolder(tmp_path, "scaling", {})

    def test_a_damaged_cell_is_named(self, tmp_path: Path) -> None:
        folder = StudyFolder(tmp_path / "out", "scaling", {})
        folder.cell("one", dict)
        (tmp_path / "out/cells/one.json").write_text("{")
        with pytest.raises(StudyError, match=r"one\.json"):
            folder.cell("one", dict)

    def test_results_say_what_made_them(self, tmp_path: Path) -> None:
        path = StudyFolder(tmp_path / "out", "scaling", {"seed": 3}).write_results({"x": 1})
        found = json.loads(path.read_text())
        assert found["study"] == "scaling"
        assert found["settings"] == {"seed": 3}
        assert found["results"] == {"x": 1}
        assert found["version"]


class TestScores:
    def test_the_difference_is_paired(self) -> None:
        chance = np.random.default_rng(0)
        errors = chance.gamma(1, 5, 300)
        gap = paired(errors - 0.1 + 0.01 * chance.normal(size=300), errors)
        assert gap["low"] < -0.1 < gap["high"] < 0  # far smaller than the spread of the errors themselves
        assert gap["relative"] == pytest.approx(-0.1 / errors.mean(), rel=0.02)

    def test_arms_are_scored_on_the_same_rows(self) -> None:
        labels = np.array([1.0, 2.0, 4.0])
        found = compared(labels, {"model": labels + 0.1, "trees": labels - 0.3}, "eV", "three rows")
        assert (found["n"], found["unit"], found["rows"]) == (3, "eV", "three rows")
        assert found["arms"]["model"]["mae"] == pytest.approx(0.1)
        assert found["arms"]["model"]["difference"]["difference"] == pytest.approx(-0.2)
        assert "difference" not in found["arms"]["trees"]
        assert signed(found["arms"]["model"]["difference"]) == "-0.2 (-0.2 to -0.2)"


class TestCrystals:
    def test_failed_rows_are_listed(self, crystals: Callable[[int], pd.DataFrame], tmp_path: Path) -> None:
        table = crystals(6)
        table.at[2, "numbers"] = [3, 300]
        table.to_parquet(tmp_path / "rows.parquet")
        found = read_crystals(tmp_path / "rows.parquet", ["energy"], tmp_path / "kept")
        assert len(found) == 5
        assert found.position.tolist() == [0, 1, 3, 4, 5]
        assert found.failures["row"].tolist() == [2]
        assert "300" in found.failures["reason"][0]
        again = read_crystals(tmp_path / "rows.parquet", ["energy"], tmp_path / "kept")
        assert again.digest == found.digest
        assert again.failures["reason"].tolist() == found.failures["reason"].tolist()
        assert found.take([4, 0]).ids == [found.ids[4], found.ids[0]]
        ((reason, sources),) = found.failed_by_reason.items()
        assert (sources, sources[0] in reason) == ([found.failures["source"][0]], False)

    def test_a_crystal_that_hangs_costs_its_own_row(self, hanging_table: Path, tmp_path: Path) -> None:
        arguments = StudyArguments([str(hanging_table)], str(tmp_path), encode_timeout=600.0)
        found = read_crystals(hanging_table, ["gap"], tmp_path / "kept", arguments.workers)
        assert (found.ids, found.failures["source"].tolist()) == (["good"], ["bad"])
        assert "600 s" in found.failures["reason"][0]

    def test_a_table_without_any_crystal(self, tmp_path: Path) -> None:
        pd.DataFrame({"scope": ["nonsense"], "energy": [1.0]}).to_csv(tmp_path / "rows.csv")
        with pytest.raises(StudyError, match="none of 1 rows"):
            read_crystals(tmp_path / "rows.csv", ["energy"])

    def test_long_strings_are_failures(self, crystals: Callable[[int], pd.DataFrame], tmp_path: Path) -> None:
        crystals(3).to_parquet(tmp_path / "rows.parquet")
        with pytest.raises(StudyError, match="more than 8 tokens"):
            read_crystals(tmp_path / "rows.parquet", max_tokens=8)

    def test_crystals_after_others(self, crystals: Callable[[int], pd.DataFrame], tmp_path: Path) -> None:
        crystals(4).to_parquet(tmp_path / "rows.parquet")
        found = read_crystals(tmp_path / "rows.parquet", ["energy"])
        known = Crystals.of_scopes(["NaCl", "Si"], [found.scopes[0], found.scopes[1]])
        both = found.followed_by(known)
        assert both.scopes == [*found.scopes, *known.scopes]
        assert both.ids[-2:] == ["NaCl", "Si"]
        assert both.n_atoms.tolist() == [*found.n_atoms, *found.n_atoms[:2]]
        assert np.isnan(both.labels["energy"]).tolist() == [False] * 4 + [True] * 2
        assert both.take([5]).with_scopes(["x"]).scopes == ["x"]

    def test_folds_of_a_split(self, crystals: Callable[[int], pd.DataFrame], tmp_path: Path) -> None:
        crystals(12).to_parquet(tmp_path / "rows.parquet")
        assert main(["split", str(tmp_path / "rows.parquet"), "--output", str(tmp_path / "split"), "--folds", "3"]) == 0
        split = tmp_path / "split/rows.split.parquet"
        found = read_crystals(tmp_path / "rows.parquet", ["energy"]).take([7, 2, 3])
        expected = pd.read_parquet(split)["fold"].to_numpy()[[7, 2, 3]]
        assert assigned_folds(found, split, 5, 0).tolist() == expected.tolist()
        crystals(12).iloc[::-1].to_parquet(tmp_path / "other.parquet")
        with pytest.raises(StudyError, match="another table"):
            assigned_folds(read_crystals(tmp_path / "other.parquet"), split, 5, 0)


class TestFitting:
    @pytest.mark.parametrize(
        "target",
        [
            pytest.param(StudyTarget("energy", "eV/atom"), marks=pytest.mark.slow),
            StudyTarget("cv", "J/(mol cell K)", debye="heat_capacity", per_cell=True),
        ],
    )
    def test_all_arms_predict_the_same_rows(
        self, target: StudyTarget, crystals: Callable[[int], pd.DataFrame], encoder: Path, tmp_path: Path
    ) -> None:
        pytest.importorskip("sklearn")
        crystals(40).to_parquet(tmp_path / "rows.parquet")
        rows = read_crystals(tmp_path / "rows.parquet", [target.name])
        arguments = TrainingStudyArguments(["x"], "x", model=str(encoder), num_train_epochs=12, learning_rate=0.01)
        train, test = np.arange(30), np.arange(30, 40)
        found = fit_arms(arguments, target, rows, train, test)
        again = fit_arms(arguments, target, rows, train, test)
        assert found == again
        scores = compared(rows.labels[target.name][test], found, target.unit, "ten rows")["arms"]
        assert scores["model"]["mae"] < scores["mean"]["mae"]
        assert scores["trees"]["mae"] < scores["mean"]["mae"]

    def test_labels_of_other_rows_are_not_looked_at(
        self, crystals: Callable[[int], pd.DataFrame], encoder: Path, tmp_path: Path
    ) -> None:
        table = crystals(20)
        table.to_parquet(tmp_path / "rows.parquet")
        rows = read_crystals(tmp_path / "rows.parquet", ["energy"])
        hidden = rows.take(np.arange(20))
        hidden.labels["energy"][15:] = np.nan
        arguments = TrainingStudyArguments(["x"], "x", model=str(encoder), num_train_epochs=2)
        target, parts = StudyTarget("energy", "eV/atom"), (np.arange(15), {"test": np.arange(15, 20)})
        one = fit_and_predict(arguments, target, rows, *parts).predictions["test"]
        two = fit_and_predict(arguments, target, hidden, *parts).predictions["test"]
        assert np.array_equal(one, two)

    def test_no_rows_to_train_on(self, crystals: Callable[[int], pd.DataFrame], encoder: Path, tmp_path: Path) -> None:
        crystals(4).to_parquet(tmp_path / "rows.parquet")
        rows = read_crystals(tmp_path / "rows.parquet", ["energy"])
        arguments = TrainingStudyArguments(["x"], "x", model=str(encoder))
        with pytest.raises(StudyError, match="no row is left"):
            fit_and_predict(arguments, StudyTarget("energy", "eV/atom"), rows, np.arange(0), {})

    def test_encoders_by_name(self, encoder: Path) -> None:
        for name in ("default", "scratch"):
            assert (Path(encoder_folder(name)) / "model.safetensors").is_file()
        assert encoder_folder("owner/name") == "owner/name"
        settings = training_settings(TrainingStudyArguments(["x"], "x", model=str(encoder)))
        assert settings["model"] == settings["weights"] != str(encoder)  # weights, not a path, decide


class TestCommand:
    def test_the_list(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["study", "--help"]) == 0
        assert "matbench" in capsys.readouterr().out

    def test_an_unknown_study(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["study", "astrology"]) == 2
        assert "there are: matbench" in capsys.readouterr().err

    @pytest.mark.parametrize("given", [{"data": []}, {"out": ""}, {"seed": -1}, {"learning_rate": 2.0}])
    def test_values_that_cannot_work(self, given: dict[str, object]) -> None:
        with pytest.raises(CloudError):
            TrainingStudyArguments(**({"data": ["x"], "out": "x"} | given))  # type: ignore[arg-type]
