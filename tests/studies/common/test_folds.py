"""Folds that others have chosen, and the files that they come in."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cloud_hf.errors import CloudError, StudyError
from cloud_hf.studies.common import benchmark_files
from cloud_hf.studies.common.benchmark_files import open_split_json, read_fold_file, read_labelled_table
from cloud_hf.studies.common.folds import Fold, FoldArguments, check_folds, kfold_rows, rows_of_ids


class TestRule:
    def test_scikit_learn_deals_the_same_folds(self) -> None:
        selection = pytest.importorskip("sklearn.model_selection")
        for n, seed in ((17, 42), (636, 18012019)):
            known = selection.KFold(5, shuffle=True, random_state=seed).split(np.arange(n))
            assert all(
                np.array_equal(rows, test) for rows, (_, test) in zip(kfold_rows(n, 5, seed), known, strict=True)
            )

    def test_the_published_submissions_of_dielectric_have_these_rows(self) -> None:
        # ids mb-dielectric-0008, -0010, ... of fold 0 and so on in the benchmark's documentation
        folds = kfold_rows(4764, 5, 18012019)
        assert (folds[0][:8] + 1).tolist() == [8, 10, 19, 25, 31, 36, 38, 40]
        assert (folds[2][:3] + 1).tolist() == [6, 7, 12]
        assert 4751 - 1 in folds[4]
        assert [len(rows) for rows in folds] == [953, 953, 953, 953, 952]


def _splits(n: int = 10) -> tuple[dict[str, dict[str, list[str]]], list[str]]:
    ids = [f"row-{row}" for row in range(n)]
    splits = {}
    for number, test in enumerate(kfold_rows(n, 5, 0)):
        names = {ids[row] for row in test}
        splits[f"fold_{number}"] = {"train": [one for one in ids if one not in names], "test": sorted(names)}
    return splits, ids


class TestFoldsOfIds:
    def test_each_row_is_tested_once(self) -> None:
        splits, ids = _splits()
        folds = rows_of_ids(splits, ids, "folds.json")
        assert sorted(row for fold in folds for row in fold.test) == list(range(10))
        assert all(len(fold.train) + len(fold.test) == 10 for fold in folds)
        assert [fold.number for fold in rows_of_ids(splits, ids, "folds.json", [3, 1])] == [1, 3]

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda splits: splits["fold_1"]["train"].append(splits["fold_1"]["test"][0]), "overlap.*fold 1"),
            (lambda splits: splits["fold_0"]["test"].append("mb-steels-001"), "not in the data set.*mb-steels-001"),
            (lambda splits: splits["fold_2"]["train"].pop(), "fold 2 leaves out 1"),
            (lambda splits: splits.update(fold_1=splits["fold_0"]), "test rows of the folds overlap"),
            (lambda splits: splits["fold_3"].update(test=[]), "fold 3 has no test rows"),
            (lambda splits: splits["fold_4"]["test"].append(splits["fold_4"]["test"][0]), "more than once"),
            (lambda splits: splits.update(folds=splits.pop("fold_4")), "'folds' among the folds"),
        ],
    )
    def test_what_folds_must_not_be(self, change: Callable[[Any], None], words: str) -> None:
        splits, ids = _splits()
        change(splits)
        with pytest.raises(StudyError, match=words):
            rows_of_ids(splits, ids, "folds.json")

    def test_no_such_fold(self) -> None:
        with pytest.raises(StudyError, match=r"no fold 7; there are 0, 1, 2, 3, 4"):
            rows_of_ids(*_splits(), "folds.json", [7])

    def test_ids_of_the_data_are_unique(self) -> None:
        with pytest.raises(StudyError, match="'row-0' stands in the data set more than once"):
            rows_of_ids(_splits()[0], ["row-0"] * 10, "folds.json")

    def test_a_row_that_is_never_tested(self) -> None:
        fold = Fold(0, np.array([0, 1]), np.array([2]))
        with pytest.raises(StudyError, match="row 0 is tested 0 times"):
            check_folds([fold], 3, "folds.json")


class TestSplitJson:
    @pytest.mark.parametrize("block", [1, 7, 1 << 22])
    def test_rows_stream_whatever_a_block_cuts(
        self, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = [[{"a": [1.25, "]}\\"], "b": None}, -12.5e-3], [{"ü": "€"}, 12345]]
        whole = {"index": [0, 1], "columns": ["structure", "n"], "extra": {"x": 1}, "data": rows}
        with gzip.open(tmp_path / "set.json.gz", "wt") as file:
            json.dump(whole, file, indent=1)
        (tmp_path / "set.json").write_text(json.dumps(whole, ensure_ascii=False), encoding="utf-8")
        monkeypatch.setattr(benchmark_files, "BLOCK", block)
        for name in ("set.json.gz", "set.json"):
            found = open_split_json(tmp_path / name)
            assert (found.index, found.columns, list(found.rows)) == ([0, 1], ["structure", "n"], rows)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ('{"index": [0], "columns": ["a"], "data": [[1]', "ends too early"),
            ('{"index": [0, 1], "columns": ["a"], "data": [[1]]}', "names 2 rows, 'data' holds 1"),
            ('{"index": [0], "columns": ["a", "b"], "data": [[1]]}', "one value for each of 2 columns"),
            ('{"data": [[1]], "index": [0], "columns": ["a"]}', "must stand before"),
            ("[1, 2]", "download it again"),
            ("", "download it again"),
        ],
    )
    def test_damaged_files(self, text: str, words: str, tmp_path: Path) -> None:
        (tmp_path / "set.json").write_text(text)
        with pytest.raises(StudyError, match=rf"set\.json.*{words}"):
            list(open_split_json(tmp_path / "set.json").rows)

    def test_a_file_that_is_no_gzip_file(self, tmp_path: Path) -> None:
        (tmp_path / "set.json.gz").write_text("<html>not found</html>")
        with pytest.raises(StudyError, match="cannot be read as a file of this benchmark"):
            open_split_json(tmp_path / "set.json.gz")

    @pytest.mark.parametrize("whole", [[], {}, {"splits": {}}, {"splits": {"task": {"fold_0": ["a"]}}}, {"splits": 3}])
    def test_wrong_fold_files(self, whole: Any, tmp_path: Path) -> None:
        (tmp_path / "folds.json").write_text(json.dumps(whole))
        with pytest.raises(StudyError, match=r"folds\.json: is no fold file"):
            read_fold_file(tmp_path / "folds.json")


class TestTables:
    def test_columns_are_found(self, tmp_path: Path) -> None:
        scope = "0 3 n O O O i O O O e O O O 0 | 4a 4b | Na 0.5 Cl 0.5"
        for columns in (["scope", "n"], ["gen_str", "value"], ["SCOPE of it", "value"]):
            pd.DataFrame([[scope, 1.5]], columns=columns).to_csv(tmp_path / "rows.csv", index=False)
            items, ids, labels = read_labelled_table(tmp_path / "rows.csv")
            assert (items[0].scope, ids, labels.tolist()) == (scope, ["rows.csv:0"], [1.5])

    @pytest.mark.parametrize("columns", [("string", "cif"), ("CIF", "formula"), ("poscar of it", "formula")])
    def test_the_column_of_crystals(self, columns: tuple[str, str], tmp_path: Path) -> None:
        text = "W\n3.165\n1 0 0\n0 1 0\n0 0 1\nW\n2\nDirect\n0 0 0\n0.5 0.5 0.5\n"
        table = pd.DataFrame([[text, "W", 1.5]], columns=[*columns, "value"])
        table.to_csv(tmp_path / "rows.csv", index=False)
        items, _, _ = read_labelled_table(tmp_path / "rows.csv")
        assert items[0].crystal.value[:2] == (text, columns[0])

    @pytest.mark.parametrize(
        ("table", "given", "words"),
        [
            ({"scope": ["x"], "a": [1.0], "b": [2.0]}, {}, "columns a, b could each be the target"),
            ({"scope": ["x"], "a": ["high"]}, {}, "no column holds numbers only"),
            ({"scope": ["x"], "a": ["high"]}, {"target": "a"}, "must hold finite numbers"),
            ({"scope": ["x"], "a": [1.0]}, {"target": "energi"}, "no column 'energi'"),
            ({"scope": ["x"], "a": [1.0]}, {"structure": "cif"}, "no column 'cif'"),
            ({"a": [1.0]}, {}, "holds no strings or crystals"),
            ({"scope": [], "a": []}, {}, "no rows"),
        ],
    )
    def test_tables_that_cannot_be_used(
        self, table: dict[str, Any], given: dict[str, str], words: str, tmp_path: Path
    ) -> None:
        pd.DataFrame(table).to_csv(tmp_path / "rows.csv", index=False)
        with pytest.raises(CloudError, match=words):
            read_labelled_table(tmp_path / "rows.csv", **given)


class TestArguments:
    @pytest.mark.parametrize(
        "given", [{"folds": [-1]}, {"early_stopping": 0}, {"validation_fraction": 0.9}, {"transform": "sqrt"}]
    )
    def test_values_that_cannot_work(self, given: dict[str, Any]) -> None:
        with pytest.raises(CloudError):
            FoldArguments(data=["x"], out="x", **given)
