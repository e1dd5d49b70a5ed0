"""MatBench on files in exactly its format."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Structure

from cloud_hf.cli.main import main
from cloud_hf.errors import StudyError
from cloud_hf.studies.matbench.files import find_sources, load_task
from cloud_hf.studies.matbench.study import Arguments, run
from cloud_hf.studies.matbench.submission import benchmark_hash, fold_scores

from ..benchmark_files import write_matbench

Crystals = Callable[[int], pd.DataFrame]


@pytest.fixture(scope="module")
def folder(crystals: Crystals, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 40 rows, one of which is a disordered crystal without a string, and its folds."""
    folder = write_matbench(tmp_path_factory.mktemp("matbench"), crystals(40))
    path = folder / "matbench_perovskites.json.gz"
    whole = json.loads(gzip.decompress(path.read_bytes()))
    disordered = Structure.from_dict(whole["data"][3][0])
    disordered.replace(0, {"Na": 0.5, "K": 0.5})
    whole["data"][3][0] = disordered.as_dict()
    with gzip.open(path, "wt") as file:
        json.dump(whole, file)
    return folder


def quick(data: Path, out: Path, encoder: Path, **given: Any) -> Arguments:
    """Few steps of a tiny model."""
    return Arguments([str(data)], str(out), model=str(encoder), **{"max_steps": 2, "baselines": False} | given)


@pytest.fixture(scope="module")
def finished(folder: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of all five folds."""
    out = tmp_path_factory.mktemp("results") / "out"
    run(quick(folder, out, encoder, max_steps=8, learning_rate=0.01))
    return out


class TestStudy:
    def test_results(self, finished: Path) -> None:
        found = json.loads((finished / "results.json").read_text())["results"]
        task = found["tasks"]["perovskites"]
        assert [fold["n_test"] for fold in task["folds"]] == [8] * 5
        assert sum(fold["test_without_string"] for fold in task["folds"]) == 1
        assert found["without_string"] == {"perovskites": 1}
        assert task["pooled"]["n"] == 40
        assert task["unit"] == "eV/unit cell"
        for arm, over in task["over_folds"].items():
            values = [fold["mae"][arm] for fold in task["folds"]]
            assert over["mean"] == pytest.approx(np.mean(values))
            assert over["std"] == pytest.approx(np.std(values))  # of the population, as on the board
        assert task["pooled"]["arms"]["model"]["mae"] < task["pooled"]["arms"]["mean"]["mae"]
        assert "difference" in task["pooled"]["arms"]["model"]
        assert task["data"]["folds_by_rule"] is True

    def test_the_report_says_what_it_stands_on(self, finished: Path) -> None:
        report = (finished / "report.md").read_text()
        for words in (
            "test rows of the official folds, folds 0, 1, 2, 3, 4",
            "is not the published file",
            "Not to be submitted",
            "CLOUD (published)",
            "nothing is selected: the last step's weights",
            "Rows without a usable string: 1.",
            "mb-perovskites-04",
        ):
            assert words in report
        assert (finished / "parity_perovskites.png").read_bytes()[:4] == b"\x89PNG"
        assert pd.read_csv(finished / "failures.csv")["id"].tolist() == ["mb-perovskites-04"]
        assert str(finished) not in report + (finished / "results.json").read_text()

    def test_a_second_run_computes_nothing(
        self, finished: Path, folder: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def never(*_: Any, **__: Any) -> None:
            raise AssertionError("computed again")

        monkeypatch.setattr("cloud_hf.studies.common.folds.fit_and_predict", never)
        monkeypatch.setattr("cloud_hf.data.kept_strings.encode_items", never)
        before = (finished / "report.md").read_text()
        run(quick(folder, finished, encoder, max_steps=8, learning_rate=0.01))
        assert (finished / "report.md").read_text() == before

    def test_the_submission_is_what_the_benchmark_reads(self, finished: Path, folder: Path) -> None:
        with gzip.open(finished / "submission/results.json.gz", "rt") as file:
            record = json.load(file)
        assert set(record) == {
            "@module", "@class", "version", "tasks", "user_metadata", "benchmark_name", "datestamp", "hash",
        }  # fmt: skip
        assert record["hash"] == benchmark_hash(record)
        task = record["tasks"]["matbench_perovskites"]
        assert (task["@class"], task["dataset_name"]) == ("MatbenchTask", "matbench_perovskites")
        splits = json.loads((folder / "matbench_v0.1_validation.json").read_text())["splits"]["matbench_perovskites"]
        found = json.loads((finished / "results.json").read_text())["results"]["tasks"]["perovskites"]
        for name, fold in task["results"].items():
            assert list(fold) == ["data", "parameters", "scores"]
            assert list(fold["data"]) == splits[name]["test"]
            assert all(isinstance(value, float) for value in [*fold["data"].values(), *fold["scores"].values()])
            assert sorted(fold["scores"]) == ["mae", "mape", "max_error", "rmse"]
            assert fold["scores"]["mae"] == pytest.approx(found["folds"][int(name[-1])]["mae"]["model"])

    def test_rows_without_a_string_get_the_median(self, finished: Path, folder: Path) -> None:
        cells = [json.loads(path.read_text()) for path in sorted((finished / "cells/perovskites").glob("*.json"))]
        (cell,) = [cell for cell in cells if cell["test_without_string"]]
        splits = json.loads((folder / "matbench_v0.1_validation.json").read_text())["splits"]["matbench_perovskites"]
        row = splits[f"fold_{cell['fold']}"]["test"].index("mb-perovskites-04")
        assert cell["predictions"]["model"][row] == cell["fallback"]

    def test_other_labels_in_the_same_folder(
        self, finished: Path, crystals: Crystals, encoder: Path, tmp_path: Path
    ) -> None:
        table = crystals(40)
        table["energy"] += 1.0
        other = write_matbench(tmp_path / "other", table)
        with pytest.raises(StudyError, match=r"fold 0 of perovskites of other rows, strings or labels"):
            run(quick(other, finished, encoder, max_steps=8, learning_rate=0.01))


class TestProtocol:
    def test_labels_of_test_rows_are_not_looked_at(self, crystals: Crystals, encoder: Path, tmp_path: Path) -> None:
        table = crystals(30)
        one = write_matbench(tmp_path / "one", table)
        splits = json.loads((one / "matbench_v0.1_validation.json").read_text())["splits"]["matbench_perovskites"]
        tested = [int(name[-2:]) - 1 for name in splits["fold_0"]["test"]]
        table.loc[table.index[tested], "energy"] = 99.0
        two = write_matbench(tmp_path / "two", table)
        found = []
        for data in (one, two):
            run(quick(data, tmp_path / f"{data.name}-out", encoder, folds=[0], early_stopping=1))
            cell = json.loads((tmp_path / f"{data.name}-out/cells/perovskites/fold_0.json").read_text())
            assert cell["selection"] is not None
            assert cell["n_validation"] >= 1
            found.append(cell["predictions"])
        assert found[0] == found[1]
        report = (tmp_path / "one-out/report.md").read_text()
        assert "weights of the epoch with the smallest error on them predict" in report
        assert "None: that takes all five official folds" in report

    def test_folds_by_another_rule_are_marked(self, crystals: Crystals, encoder: Path, tmp_path: Path) -> None:
        data = write_matbench(tmp_path / "data", crystals(30))
        path = data / "matbench_v0.1_validation.json"
        whole = json.loads(path.read_text())
        folds = whole["splits"]["matbench_perovskites"]
        folds["fold_0"], folds["fold_1"] = folds["fold_1"], folds["fold_0"]
        path.write_text(json.dumps(whole))
        run(quick(data, tmp_path / "out", encoder, folds=[0]))
        assert "are not the benchmark's (`KFold" in (tmp_path / "out/report.md").read_text()


class TestTables:
    def test_folds_of_a_table_keep_equal_strings_together(
        self, crystals: Crystals, encoder: Path, tmp_path: Path
    ) -> None:
        table = pd.concat([crystals(20), crystals(20)], ignore_index=True).rename(columns={"energy": "e_form"})
        table[["lattice", "numbers", "frac_coords", "e_form"]].to_parquet(tmp_path / "perovskites_part.parquet")
        run(quick(tmp_path, tmp_path / "out", encoder, folds=[0, 1]))
        found = json.loads((tmp_path / "out/results.json").read_text())["results"]["tasks"]["perovskites"]
        assert [fold["test_strings_in_training"] for fold in found["folds"]] == [0, 0]
        report = (tmp_path / "out/report.md").read_text()
        assert "These are not MatBench's folds" in report
        assert "(published)" not in report

    def test_ids_and_fold_file_give_the_official_folds(self, folder: Path, crystals: Crystals, tmp_path: Path) -> None:
        table = crystals(40).rename(columns={"energy": "e_form"}).drop(columns=["id", "theta", "cv", "prototype"])
        folds = str(folder / "matbench_v0.1_validation.json")
        table.to_parquet(tmp_path / "perovskites.parquet")
        (source,) = find_sources([str(tmp_path), folds], []).values()
        with pytest.raises(StudyError, match="no column 'id' with the ids"):
            load_task("perovskites", source, tmp_path / "kept")
        table.assign(id=[f"mb-perovskites-{row + 1:02d}" for row in range(40)]).to_parquet(source.path)
        loaded = load_task("perovskites", source, tmp_path / "kept")
        assert loaded.facts["folds_by_rule"]
        assert loaded.rows == "test rows of the official folds"

    @pytest.mark.slow  # the other tables are smaller
    def test_published_strings(self, shared: Path, tmp_path: Path) -> None:
        (item,) = find_sources([str(shared / "data/dielectric_fold0_train.parquet")], []).items()
        loaded = load_task(*item, tmp_path / "kept", [2])
        assert (item[0], len(loaded.labels), len(loaded.crystals)) == ("dielectric", 3811, 3811)
        assert loaded.transform == "log"


class TestRefusals:
    def test_a_missing_data_set(self, tmp_path: Path) -> None:
        with pytest.raises(StudyError) as found:
            find_sources([str(tmp_path)], ["matbench_phonons"])
        for words in ("projects/matbench_phonons.json.gz", "1,265 rows", "SHA-256 4db551f2"):
            assert words in str(found.value)

    def test_a_missing_fold_file(self, folder: Path) -> None:
        with pytest.raises(StudyError, match=r"matbench_v0\.1_validation\.json is not there.*materialsproject"):
            find_sources([str(folder / "matbench_perovskites.json.gz")], [])

    def test_folds_of_another_task(self, folder: Path, crystals: Crystals, tmp_path: Path) -> None:
        data = write_matbench(tmp_path / "data", crystals(10), "dielectric", "n")
        (data / "matbench_v0.1_validation.json").write_bytes((folder / "matbench_v0.1_validation.json").read_bytes())
        (source,) = find_sources([str(data)], []).values()
        with pytest.raises(StudyError, match="no folds of matbench_dielectric; it has matbench_perovskites"):
            load_task("dielectric", source, tmp_path / "kept")

    def test_folds_of_another_data_set(self, folder: Path, crystals: Crystals, tmp_path: Path) -> None:
        data = write_matbench(tmp_path / "data", crystals(9))
        (data / "matbench_v0.1_validation.json").write_bytes((folder / "matbench_v0.1_validation.json").read_bytes())
        (source,) = find_sources([str(data)], []).values()
        with pytest.raises(StudyError, match=r"not in the data set.*fold file of other data"):
            load_task("perovskites", source, tmp_path / "kept")

    @pytest.mark.parametrize(("value", "words"), [(None, "1 of 10 rows have no target"), ("big", "holds 'big'")])
    def test_missing_targets(self, value: Any, words: str, crystals: Crystals, tmp_path: Path) -> None:
        data = write_matbench(tmp_path / "data", crystals(10))
        path = data / "matbench_perovskites.json.gz"
        whole = json.loads(gzip.decompress(path.read_bytes()))
        whole["data"][4][1] = value
        with gzip.open(path, "wt") as file:
            json.dump(whole, file)
        (source,) = find_sources([str(data)], []).values()
        with pytest.raises(StudyError, match=words):
            load_task("perovskites", source, tmp_path / "kept")

    def test_a_renamed_data_set(self, crystals: Crystals, tmp_path: Path) -> None:
        data = write_matbench(tmp_path / "data", crystals(5))
        (data / "matbench_perovskites.json.gz").rename(data / "matbench_phonons.json.gz")
        (source,) = find_sources([str(data)], []).values()
        with pytest.raises(StudyError, match="columns structure, e_form, not 'structure' and 'last phdos peak'"):
            load_task("phonons", source, tmp_path / "kept")

    def test_two_tables_of_one_task(self, tmp_path: Path) -> None:
        for name in ("dielectric_a.csv", "dielectric_b.csv"):
            (tmp_path / name).write_text("scope,n\n")
        with pytest.raises(StudyError, match=r"dielectric_a\.csv and dielectric_b\.csv could each be dielectric"):
            find_sources([str(tmp_path)], [])

    @pytest.mark.parametrize("task", ["steels", "dielectrics"])
    def test_a_task_that_is_none(self, task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["study", "matbench", "--data", str(tmp_path), "--out", "x", "--tasks", task]) == 2
        assert "there are jdft2d, phonons" in " ".join(capsys.readouterr().err.split())


class TestScores:
    def test_known_answers(self) -> None:
        found = fold_scores([1.0, -2.0, 0.0], [2.0, -2.0, 3.0])
        assert found["mae"] == pytest.approx(4 / 3)
        assert found["rmse"] == pytest.approx((10 / 3) ** 0.5)
        assert found["mape"] == pytest.approx(0.5)  # the zero label is left out
        assert found["max_error"] == 3.0

    def test_the_hash_does_not_depend_on_order_or_on_itself(self) -> None:
        one = {"a": {"y": 1, "x": [1, 2]}, "b": 2.5}
        two = {"b": 2.5, "hash": "old", "a": {"x": [1, 2], "y": 1}}
        assert benchmark_hash(one) == benchmark_hash(two)
