"""UnconvBench: the paper's folders of tables, and the benchmark's own files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cloud_hf.errors import CloudError, StudyError
from cloud_hf.studies.common.folds import kfold_rows
from cloud_hf.studies.unconvbench.files import find_folders, load_folder
from cloud_hf.studies.unconvbench.study import Arguments, run

from ..benchmark_files import fold_ids, split_oriented, structure

Crystals = Callable[[int], pd.DataFrame]


def write_tables(root: Path, table: pd.DataFrame, column: str = "structure", folds: int = 2) -> Path:
    """Write `<fold>/train_and_val.csv` and `test.csv` of a task, and return its folder."""
    for number, test in enumerate(kfold_rows(len(table), 5, 42)[:folds]):
        folder = root / str(number)
        folder.mkdir(parents=True)
        tested = set(test.tolist())
        for name, chosen in (("train_and_val", False), ("test", True)):
            rows = [row for row in range(len(table)) if (row in tested) == chosen]
            table.iloc[rows][[column, "target"]].to_csv(folder / f"{name}.csv", index=False)
    return root


def rows_of(crystals: Crystals, n: int, how: str) -> pd.DataFrame:
    """The tests' crystals as text."""
    table = crystals(n).reset_index(drop=True)
    found = [structure(row) for _, row in table.iterrows()]
    text = [one.to(fmt="cif") if how == "cif" else json.dumps(one.as_dict()) for one in found]
    return pd.DataFrame({"structure": text, "target": table["energy"]})


def quick(data: Path, out: Path, encoder: Path, **given: Any) -> Arguments:
    """Few steps of a tiny model."""
    return Arguments([str(data)], str(out), model=str(encoder), **{"max_steps": 2, "baselines": False} | given)


class TestTables:
    def test_a_task_in_folders(self, crystals: Crystals, encoder: Path, tmp_path: Path) -> None:
        pytest.importorskip("sklearn")
        table = rows_of(crystals, 30, "cif")
        table.loc[kfold_rows(30, 5, 42)[1][0], "structure"] = "data_x\n_cell_length_a 3.0\n"
        write_tables(tmp_path / "data/unconvbench_exfoliation", table)
        report = run(quick(tmp_path / "data", tmp_path / "out", encoder, baselines=True)).read_text()
        found = json.loads((tmp_path / "out/results.json").read_text())["results"]["tasks"]["exfoliation"]
        assert [(fold["n_train"], fold["n_test"]) for fold in found["folds"]] == [(24, 6), (24, 6)]
        assert found["pooled"]["arms"]["trees"]["mae"] < found["pooled"]["arms"]["mean"]["mae"]
        cell = json.loads((tmp_path / "out/cells/exfoliation/fold_1.json").read_text())
        first = {arm: values[0] for arm, values in cell["predictions"].items()}
        assert first["model"] == first["trees"] == cell["fallback"]  # the row without a string
        assert found["unit"] == "eV/atom"
        assert "test rows of the tables of `unconvbench_exfoliation`, folds 0, 1" in report
        assert "`exfoliation` has 30 rows here, 4,527 in the benchmark" in report
        assert "CLOUD (published)" in report
        assert str(tmp_path) not in report + (tmp_path / "out/results.json").read_text()
        for name in ("mae_mad.png", "parity_exfoliation.png"):
            assert (tmp_path / "out" / name).read_bytes()[:4] == b"\x89PNG"

    @pytest.mark.train
    def test_folds_one_after_the_other(self, crystals: Crystals, encoder: Path, tmp_path: Path) -> None:
        write_tables(tmp_path / "data/supercon", rows_of(crystals, 10, "cif"))
        run(quick(tmp_path / "data", tmp_path / "out", encoder, folds=[1]))
        before = (tmp_path / "out/cells/supercon/fold_1.json").read_bytes()
        run(quick(tmp_path / "data", tmp_path / "out", encoder))
        assert (tmp_path / "out/cells/supercon/fold_1.json").read_bytes() == before
        assert (
            len(json.loads((tmp_path / "out/results.json").read_text())["results"]["tasks"]["supercon"]["folds"]) == 2
        )

    def test_a_logarithm_that_was_asked_for(self, crystals: Crystals, encoder: Path, tmp_path: Path) -> None:
        write_tables(tmp_path / "data/supercon", rows_of(crystals, 10, "cif"))
        with pytest.raises(StudyError, match="8 training labels of fold 0 are not positive"):
            run(quick(tmp_path / "data", tmp_path / "out", encoder, transform="log"))

    @pytest.mark.parametrize("how", ["cif", "json", "path", "scope"])
    def test_all_forms_of_a_crystal_give_the_same_strings(self, how: str, crystals: Crystals, tmp_path: Path) -> None:
        table = rows_of(crystals, 10, "json" if how == "json" else "cif")
        known = load_folder("x", write_tables(tmp_path / "x", table, folds=1), tmp_path / "kept").crystals.scopes
        if how == "path":
            for row, text in enumerate(table["structure"]):
                (tmp_path / f"{row}.cif").write_text(text)
            table["structure"] = [f"../../{row}.cif" for row in range(len(table))]
        if how == "scope":
            table = pd.DataFrame({"gen_str": load_strings(table, tmp_path), "target": table["target"]})
        folder = write_tables(tmp_path / "y", table, table.columns[0], folds=1)
        assert load_folder("y", folder, tmp_path / "kept").crystals.scopes == known

    def test_a_crystal_is_encoded_once(
        self, crystals: Crystals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from cloud_hf.studies.unconvbench import files as unconvbench_files

        counts: list[int] = []
        known = unconvbench_files.encode_once

        def counted(items: Any, *rest: Any) -> pd.DataFrame:
            counts.append(len(items))
            return known(items, *rest)

        monkeypatch.setattr(unconvbench_files, "encode_once", counted)
        folder = write_tables(tmp_path / "x", rows_of(crystals, 10, "cif"), folds=3)
        loaded = load_folder("x", folder, tmp_path / "kept")
        assert counts == [10]
        assert len(loaded.crystals) == 30

    @pytest.mark.train
    def test_failed_rows_are_predicted_and_listed(self, crystals: Crystals, encoder: Path, tmp_path: Path) -> None:
        table = rows_of(crystals, 20, "cif")
        table.loc[kfold_rows(20, 5, 42)[0][2], "structure"] = "data_x\n_cell_length_a 3.0\n"
        write_tables(tmp_path / "data/defected", table)
        report = run(quick(tmp_path / "data", tmp_path / "out", encoder)).read_text()
        found = json.loads((tmp_path / "out/results.json").read_text())["results"]
        folds = found["tasks"]["defected"]["folds"]
        assert [(fold["train_without_string"], fold["test_without_string"]) for fold in folds] == [(0, 1), (1, 0)]
        assert found["tasks"]["defected"]["pooled"]["n"] == 8
        assert "Rows without a usable string: 2." in report
        assert len(pd.read_csv(tmp_path / "out/failures.csv")) == 2  # once in each fold


def load_strings(table: pd.DataFrame, tmp_path: Path) -> list[str]:
    """The strings of a table's crystals, in its order."""
    from cloud_hf.scope import ScopeEncoder

    paths = []
    for row, text in enumerate(table["structure"]):
        paths.append(tmp_path / f"s{row}.cif")
        paths[-1].write_text(text)
    return [str(ScopeEncoder().encode(path)) for path in paths]


class TestBenchmarkFiles:
    def test_json_and_folds(self, crystals: Crystals, encoder: Path, tmp_path: Path) -> None:
        ids = [f"unconvbench_supercon-{row + 1:02d}" for row in range(20)]
        (tmp_path / "ub_unconvbench_supercon.json").write_text(json.dumps(split_oriented(crystals(20), "Tc", "theta")))
        (tmp_path / "metadata_validation.json").write_text(json.dumps(fold_ids("unconvbench_supercon", ids, 42)))
        report = run(quick(tmp_path, tmp_path / "out", encoder, folds=[4], tasks=["unconvbench_supercon"])).read_text()
        assert "test rows of the official folds, fold 4" in report
        found = json.loads((tmp_path / "out/results.json").read_text())["results"]["tasks"]["supercon"]
        assert (found["unit"], found["pooled"]["n"]) == ("K", 4)

    def test_the_fold_file_is_named(self, crystals: Crystals, tmp_path: Path) -> None:
        (tmp_path / "ub_unconvbench_2d_gap.json").write_text(json.dumps(split_oriented(crystals(5), "gap")))
        (found,) = find_folders([str(tmp_path)], []).items()
        assert found[0] == "2d_gap"
        with pytest.raises(StudyError, match=r"metadata_validation\.json.*figshare"):
            load_folder(*found, tmp_path / "kept")


class TestPerAtom:
    @pytest.mark.train
    def test_labels_of_cells_are_learned_per_atom(self, crystals: Crystals, encoder: Path, tmp_path: Path) -> None:
        write_tables(tmp_path / "data/qmof", rows_of(crystals, 20, "json"), folds=1)
        report = run(quick(tmp_path / "data", tmp_path / "out", encoder)).read_text()
        assert "learn them per atom of the primitive cell" in report
        cell = json.loads((tmp_path / "out/cells/qmof/fold_0.json").read_text())
        assert cell["transform"] == "per_atom"


class TestRefusals:
    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(StudyError, match=r"exfoliation \(4,527 rows\).*figshare"):
            find_folders([str(tmp_path)], [])

    def test_a_task_that_is_not_there(self, crystals: Crystals, tmp_path: Path) -> None:
        write_tables(tmp_path / "supercon", rows_of(crystals, 10, "cif"))
        with pytest.raises(StudyError, match=r"no data of qmof.*there are supercon"):
            find_folders([str(tmp_path)], ["qmof"])
        assert list(find_folders([str(tmp_path / "supercon")], [])) == ["supercon"]  # the task's own folder

    def test_a_missing_table(self, crystals: Crystals, tmp_path: Path) -> None:
        folder = write_tables(tmp_path / "supercon", rows_of(crystals, 10, "cif"))
        (folder / "1/test.csv").unlink()
        with pytest.raises(CloudError, match=r"test\.csv: there is no such file"):
            load_folder("supercon", folder, tmp_path / "kept")

    def test_a_test_table_that_is_the_training_table(self, crystals: Crystals, tmp_path: Path) -> None:
        folder = write_tables(tmp_path / "supercon", rows_of(crystals, 10, "cif"))
        (folder / "1/test.csv").write_bytes((folder / "1/train_and_val.csv").read_bytes())
        with pytest.raises(StudyError, match="the tables of fold 1 overlap"):
            load_folder("supercon", folder, tmp_path / "kept")

    def test_ids_in_both_tables(self, crystals: Crystals, tmp_path: Path) -> None:
        folder = write_tables(tmp_path / "supercon", rows_of(crystals, 10, "cif"), folds=1)
        for name in ("train_and_val", "test"):
            table = pd.read_csv(folder / f"0/{name}.csv")
            table.assign(id=[f"JVASP-{row}" for row in range(len(table))]).to_csv(folder / f"0/{name}.csv", index=False)
        with pytest.raises(StudyError, match=r"overlap: 2 ids stand in both, the first 'JVASP-0'"):
            load_folder("supercon", folder, tmp_path / "kept")

    def test_a_target_that_is_missing(self, crystals: Crystals, tmp_path: Path) -> None:
        table = rows_of(crystals, 10, "cif")
        table.loc[2, "target"] = None
        with pytest.raises(StudyError, match="1 of 10 rows have no target"):
            load_folder("supercon", write_tables(tmp_path / "supercon", table, folds=1), tmp_path / "kept")

    def test_a_folder_of_another_study(self, crystals: Crystals, encoder: Path, tmp_path: Path) -> None:
        write_tables(tmp_path / "data/supercon", rows_of(crystals, 10, "cif"), folds=1)
        (tmp_path / "out").mkdir()
        (tmp_path / "out/study.json").write_text(json.dumps({"study": "matbench", "settings": {}}))
        with pytest.raises(StudyError, match="'matbench', not 'unconvbench'"):
            run(quick(tmp_path / "data", tmp_path / "out", encoder))
