"""`cloud-hf evaluate`: the numbers are those of predict's output, every row is scored or counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import cloud_hf
from cloud_hf.data.tables import read_table, write_table

KEYS = {"mae", "mae_mad", "rmse", "r2", "median_absolute_error", "n", "n_failed", "n_unlabelled", "unit"}
PER_ATOM = "heat_capacity_per_atom (J/(mol atom K))"
PER_CELL = "heat_capacity_per_cell (J/(mol primitive cell K))"
STRINGS = [
    f"1 0 0 | {word} | {composition}"
    for word in ("2i", "1a 2i", "1h 2i")
    for composition in ("Cu 1.0", "Na 0.5 Cl 0.5", "Ti 0.33 O 0.67", "Mg 0.5 O 0.5")
]
STRUCTURE = {
    "lattice": [5.64, 0, 0, 0, 5.64, 0, 0, 0, 5.64], "numbers": [11, 17], "frac_coords": [0, 0, 0, 0.5, 0.5, 0.5],
}  # fmt: skip


@pytest.fixture
def rows() -> pd.DataFrame:
    chance = np.random.default_rng(5)
    atoms = chance.integers(1, 9, len(STRINGS))
    return pd.DataFrame({"scope": STRINGS, "atoms": atoms, "cell": atoms * chance.normal(22, 2, len(atoms))})


@pytest.fixture
def evaluate(cloud, tmp_path: Path):
    """Write a table, evaluate on it, check the exit status and return the JSON."""

    def run(table: pd.DataFrame, *argv: object, status: int = 0, suffix: str = ".parquet") -> dict[str, Any]:
        write_table(table, tmp_path / f"data{suffix}")
        out = tmp_path / "metrics.json"
        out.unlink(missing_ok=True)
        found = cloud("evaluate", "--data", tmp_path / f"data{suffix}", "--json", out, *argv)
        assert found.status == status, found.err
        return json.loads(out.read_text())

    return run


def by_hand(y: np.ndarray, p: np.ndarray) -> dict[str, float]:
    error, spread = np.abs(y - p), np.abs(y - y.mean())
    return {
        "mae": error.mean(),
        "mae_mad": error.mean() / spread.mean(),
        "rmse": np.sqrt((error**2).mean()),
        "r2": 1 - (error**2).sum() / (spread**2).sum(),
        "median_absolute_error": np.median(error),
        "n": len(y),
    }


class TestNumbers:
    @pytest.mark.parametrize("kelvin", [None, 100])
    def test_per_cell_as_predicted(self, evaluate, cloud, rows: pd.DataFrame, tmp_path: Path, kelvin) -> None:
        temperature = [] if kelvin is None else ["--temperature", kelvin]
        found = evaluate(rows, "--head", "heat_capacity", "--label", "cell", "--n-atoms", "atoms", *temperature)
        write_table(rows, tmp_path / "in.csv")
        head = ["--head", "heat_capacity"]
        cloud("predict", tmp_path / "in.csv", *head, "--n-atoms", "atoms", *temperature, "-o", tmp_path / "out.parquet")
        expected = by_hand(rows["cell"].to_numpy(), read_table(tmp_path / "out.parquet")[PER_CELL].to_numpy())
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, rel=1e-4), name
        assert (found["n_failed"], found["n_unlabelled"]) == (0, 0)
        assert found["unit"] == "J/(mol cell K)"

    def test_per_atom_as_predicted(self, evaluate, cloud, rows: pd.DataFrame, tmp_path: Path) -> None:
        rows["atom"] = rows["cell"] / rows["atoms"]
        found = evaluate(rows, "--head", "heat_capacity", "--label", "atom")
        cloud("predict", *rows["scope"], "-o", tmp_path / "out.parquet")
        expected = by_hand(rows["atom"].to_numpy(), read_table(tmp_path / "out.parquet")[PER_ATOM].to_numpy())
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, rel=1e-4), name
        assert found["unit"] == "J/(mol atom K)"

    def test_its_own_predictions_are_perfect(self, evaluate, cloud, rows: pd.DataFrame, tmp_path: Path) -> None:
        cloud("predict", *rows["scope"], "--n-atoms", 4, "-o", tmp_path / "out.parquet")
        rows["label"] = read_table(tmp_path / "out.parquet")[PER_CELL]
        found = evaluate(rows.assign(atoms=4), "--label", "label", "--n-atoms", "atoms")
        assert found["mae_mad"] < 1e-4
        assert found["r2"] == pytest.approx(1.0, abs=1e-6)

    def test_a_label_named_after_a_head_is_of_that_head(self, evaluate, rows: pd.DataFrame) -> None:
        rows = rows.assign(band_gap=1.0, other=1.0)
        named = evaluate(rows, "--label", "band_gap", "--members", 1)
        assert (named["head"], named["unit"]) == ("band_gap", "eV")
        assert named == evaluate(rows, "--label", "other", "--head", "band_gap", "--members", 1)
        assert evaluate(rows, "--label", "other", "--members", 1)["head"] == "heat_capacity"

    def test_the_json_is_flat_with_the_agreed_keys(self, evaluate, rows: pd.DataFrame) -> None:
        found = evaluate(rows, "--label", "cell", "--n-atoms", "atoms")
        assert set(found) >= KEYS
        assert not [name for name, value in found.items() if isinstance(value, dict | list)]
        assert isinstance(found["n"], int)
        assert isinstance(found["unit"], str)

    def test_the_order_of_the_rows_and_the_format_do_not_matter(self, evaluate, rows: pd.DataFrame) -> None:
        argv = ["--label", "cell", "--n-atoms", "atoms", "--members", 1]
        before = evaluate(rows, *argv)
        for suffix in (".csv", ".jsonl"):
            after = evaluate(rows.iloc[::-1].reset_index(drop=True), *argv, suffix=suffix)
            for name in ("mae", "rmse", "r2", "median_absolute_error"):
                assert after[name] == pytest.approx(before[name], rel=1e-5)

    def test_the_batch_size_does_not_matter(self, evaluate, rows: pd.DataFrame) -> None:
        one, many = (evaluate(rows, "--label", "cell", "--n-atoms", "atoms", "--batch-size", n) for n in (1, 100))
        assert one["mae"] == pytest.approx(many["mae"], rel=1e-5)

    def test_regression_heads_have_their_unit(self, evaluate, gap_folder: Path, rows: pd.DataFrame) -> None:
        rows["gap"] = np.linspace(0, 5, len(rows))
        found = evaluate(rows, "--model", gap_folder, "--head", "band_gap", "--label", "gap")
        assert (found["unit"], found["n"]) == ("eV", len(rows))

    @pytest.mark.parametrize(("head", "unit"), [("volume", "Å^3"), ("energy", "eV")])
    def test_targets_learned_per_atom_are_scored_per_cell(
        self, evaluate, cloud, volume_folder: Path, rows: pd.DataFrame, tmp_path: Path, head: str, unit: str
    ) -> None:
        model = ["--model", volume_folder, "--head", head]
        write_table(rows, tmp_path / "in.csv")
        cloud("predict", tmp_path / "in.csv", *model, "--n-atoms", "atoms", "-o", tmp_path / "out.parquet")
        predicted = read_table(tmp_path / "out.parquet")[f"{head} ({unit})"].to_numpy()
        found = evaluate(rows, *model, "--label", "cell", "--n-atoms", "atoms")
        for name, value in by_hand(rows["cell"].to_numpy(), predicted).items():
            assert found[name] == pytest.approx(value, rel=1e-4), name
        assert found["unit"] == unit
        doubled = rows.assign(atoms=2 * rows["atoms"], label=2 * predicted)
        assert evaluate(doubled, *model, "--label", "label", "--n-atoms", "atoms")["mae_mad"] < 1e-4

    def test_without_a_column_a_cell_is_the_encoder_s(
        self, evaluate, cloud, volume_folder: Path, tmp_path: Path
    ) -> None:
        """Crystals know their primitive cell; with the column the label's own cell counts, here four times as large."""
        model = ["--model", volume_folder, "--head", "energy"]
        table = pd.DataFrame([STRUCTURE | {"numbers": [11, z], "atoms": 8} for z in (9, 17, 35)])
        write_table(table, tmp_path / "in.parquet")
        cloud("predict", tmp_path / "in.parquet", *model, "-o", tmp_path / "out.parquet")
        table["label"] = read_table(tmp_path / "out.parquet")["energy (eV)"]
        assert evaluate(table, *model, "--label", "label")["mae"] < 1e-4
        table["label"] *= 4
        assert evaluate(table, *model, "--label", "label", "--n-atoms", "atoms")["mae"] < 1e-4

    def test_bare_strings_without_atoms_cannot_be_scored_per_cell(
        self, evaluate, volume_folder: Path, rows: pd.DataFrame
    ) -> None:
        found = evaluate(rows, "--model", volume_folder, "--head", "energy", "--label", "cell", status=1)
        assert (found["n"], found["n_failed"]) == (0, len(rows))


class TestRows:
    def test_structure_columns_win_over_strings(self, evaluate, cloud, rows: pd.DataFrame, tmp_path: Path) -> None:
        crystals = [STRUCTURE | {"numbers": [11, z], "scope": STRINGS[0], "y": 20.0 + z / 10} for z in (9, 17, 35)]
        table = pd.DataFrame(crystals)
        found = evaluate(table, "--label", "y")
        without = evaluate(table.drop(columns="scope"), "--label", "y")
        strings_only = evaluate(table[["scope", "y"]], "--label", "y")
        assert found["mae"] == without["mae"]
        assert found["mae"] != strings_only["mae"]

    def test_unlabelled_rows_are_counted_and_not_scored(self, evaluate, rows: pd.DataFrame) -> None:
        argv = ["--label", "cell", "--n-atoms", "atoms"]
        kept = evaluate(rows.iloc[3:], *argv)
        rows.loc[:2, "cell"] = np.nan
        found = evaluate(rows, *argv, status=0)
        assert (found["n"], found["n_unlabelled"], found["n_failed"]) == (len(rows) - 3, 3, 0)
        assert found["mae"] == pytest.approx(kept["mae"], rel=1e-6)

    def test_an_unlabelled_row_may_be_anything(self, evaluate, rows: pd.DataFrame) -> None:
        rows.loc[0, ["scope", "cell"]] = ["garbage", np.nan]
        rows.loc[1, "scope"] = None
        rows.loc[1, "cell"] = np.nan
        found = evaluate(rows, "--label", "cell", "--n-atoms", "atoms", status=0)
        assert (found["n_unlabelled"], found["n_failed"]) == (2, 0)

    def test_failed_rows_are_counted_and_not_scored(self, evaluate, rows: pd.DataFrame) -> None:
        argv = ["--label", "cell", "--n-atoms", "atoms"]
        kept = evaluate(rows.iloc[2:], *argv)
        rows.loc[0, "scope"] = "1 0 0 | 2i | Xx 1.0"
        rows.loc[1, "scope"] = None
        found = evaluate(rows, *argv, status=1)
        assert (found["n"], found["n_unlabelled"], found["n_failed"]) == (len(rows) - 2, 0, 2)
        assert found["mae"] == pytest.approx(kept["mae"], rel=1e-5)

    def test_a_bad_structure_is_a_failed_row(self, evaluate) -> None:
        crystals = [STRUCTURE, STRUCTURE | {"numbers": [11, 500]}, STRUCTURE | {"numbers": [11]}, STRUCTURE]
        table = pd.DataFrame([row | {"y": 20.0 + index} for index, row in enumerate(crystals)])
        found = evaluate(table, "--label", "y", status=1)
        assert (found["n"], found["n_failed"]) == (2, 2)

    @pytest.mark.parametrize("bad", [0, -2, np.nan])
    def test_a_row_without_atoms_fails(self, evaluate, rows: pd.DataFrame, bad: float) -> None:
        rows["atoms"] = rows["atoms"].astype(float)
        rows.loc[4, "atoms"] = bad
        found = evaluate(rows, "--label", "cell", "--n-atoms", "atoms", status=1)
        assert (found["n"], found["n_failed"]) == (len(rows) - 1, 1)

    def test_the_failed_rows_are_named(self, cloud, rows: pd.DataFrame, tmp_path: Path) -> None:
        rows.loc[2, "scope"] = "1 0 0 | 2i | Xx 1.0"
        write_table(rows, tmp_path / "t.csv")
        found = cloud("evaluate", "--data", tmp_path / "t.csv", "--label", "cell", "--n-atoms", "atoms")
        assert found.status == 1
        assert "t.csv:2" in found.err
        assert "Xx" in found.err

    def test_a_single_row_has_no_ratio(self, evaluate, rows: pd.DataFrame) -> None:
        found = evaluate(rows.iloc[:1], "--label", "cell", "--n-atoms", "atoms")
        assert found["n"] == 1
        assert found["mae_mad"] is None
        assert found["r2"] is None

    @pytest.mark.parametrize("kind", ["all unlabelled", "all failed"])
    def test_nothing_to_score(self, evaluate, rows: pd.DataFrame, kind: str) -> None:
        if kind == "all unlabelled":
            rows["cell"] = np.nan
        else:
            rows["scope"] = "garbage"
        found = evaluate(rows, "--label", "cell", status=1)
        assert found["n"] == 0
        assert found["mae"] is None
        assert found["n_failed"] + found["n_unlabelled"] == len(rows)


class TestRefusals:
    @pytest.fixture
    def refused(self, cloud, rows: pd.DataFrame, tmp_path: Path):
        """Evaluate a table, expect exit status 2 and no JSON, and return the message."""

        def run(*argv: object, table: pd.DataFrame = rows) -> str:
            write_table(table, tmp_path / "t.csv")
            found = cloud("evaluate", "--data", tmp_path / "t.csv", "--json", tmp_path / "m.json", *argv)
            assert found.status == 2
            assert not (tmp_path / "m.json").exists()
            return found.err

        return run

    def test_a_label_column_that_is_missing(self, refused) -> None:
        message = refused("--label", "bulk")
        assert "'bulk'" in message
        assert "cell" in message

    def test_labels_that_are_text(self, refused, rows) -> None:
        assert "row 0" in refused("--label", "y", table=rows.assign(y="about 20"))

    def test_infinite_labels(self, refused, rows) -> None:
        assert "row 0" in refused("--label", "y", table=rows.assign(y=np.inf))

    def test_an_atoms_column_that_is_missing_or_text(self, refused, rows) -> None:
        assert "'n'" in refused("--label", "cell", "--n-atoms", "n")
        assert "row 0" in refused("--label", "cell", "--n-atoms", "n", table=rows.assign(n="two"))

    def test_neither_strings_nor_structures(self, refused, rows) -> None:
        assert "scope" in refused("--label", "cell", table=rows.drop(columns=["scope", "atoms"]))

    @pytest.mark.parametrize("head", ["hardness", "melting_point"])
    def test_a_head_that_the_model_lacks(self, refused, head: str, checkpoint: Path) -> None:
        assert head in refused("--label", "cell", "--model", checkpoint, "--head", head)

    def test_atoms_for_an_intensive_quantity(self, refused, gap_folder: Path) -> None:
        message = refused("--label", "cell", "--n-atoms", "atoms", "--model", gap_folder, "--head", "band_gap")
        assert "--n-atoms" in message

    def test_atoms_for_the_intensive_quantity_of_a_head_with_others(self, refused, volume_folder: Path) -> None:
        message = refused("--label", "cell", "--n-atoms", "atoms", "--model", volume_folder, "--head", "band_gap")
        assert "--n-atoms" in message

    def test_another_model_type(self, refused, bert_folder: Path) -> None:
        assert "'bert'" in refused("--label", "cell", "--model", bert_folder)

    def test_a_table_that_is_not_there(self, cloud, tmp_path: Path) -> None:
        found = cloud("evaluate", "--data", tmp_path / "absent.parquet", "--label", "y")
        assert found.status == 2
        assert "absent.parquet" in found.err

    def test_a_json_that_cannot_be_written(self, cloud, rows: pd.DataFrame, tmp_path: Path) -> None:
        write_table(rows, tmp_path / "t.csv")
        (tmp_path / "file").write_text("x")
        argv = ["--data", tmp_path / "t.csv", "--label", "cell", "--n-atoms", "atoms"]
        found = cloud("evaluate", *argv, "--json", tmp_path / "file" / "m.json")
        assert found.status == 2
        assert "m.json" in found.err

    @pytest.mark.parametrize("missing", ["--data", "--label"])
    def test_required_arguments(self, cloud, missing: str) -> None:
        argv = {"--data": "t.csv", "--label": "y"}
        argv.pop(missing)
        found = cloud("evaluate", *(word for pair in argv.items() for word in pair))
        assert found.status == 2
        assert missing in found.err


def test_the_bundled_model_on_fifty_training_rows(evaluate, shared: Path) -> None:
    """These rows were trained on: a working checkpoint stays far below the mean predictor's error."""
    table = read_table(shared / "data" / "heat_capacity_train.parquet").iloc[:50]
    found = evaluate(table, "--head", "heat_capacity", "--label", "heat_capacity", "--n-atoms", "n_atoms")
    assert (found["n"], found["n_failed"], found["n_unlabelled"]) == (50, 0, 0)
    assert found["mae_mad"] < 0.2


def test_the_guide_s_table_of_paths_is_read_by_every_command(cloud, examples: list[Path], tmp_path: Path) -> None:
    table = pd.DataFrame({"cif_path": [str(path) for path in examples[:2]], "band_gap": [1.0, 2.0]})
    table.to_csv(tmp_path / "my.csv", index=False)
    column = ("--structure", "cif_path")
    flags = (*column, "--members", 1)
    found = cloud("evaluate", "--data", tmp_path / "my.csv", "--label", "band_gap", *flags)
    assert found.status == 0, found.err
    assert ["n", "2"] in [line.split() for line in found.out.splitlines()]
    for command, given in (("predict", flags), ("encode", column)):
        assert cloud(command, tmp_path / "my.csv", *given, "-o", tmp_path / "out.csv").status == 0
        expected = cloud_hf.encode(examples[:2], progress=False)["scope"].tolist()
        assert read_table(tmp_path / "out.csv")["scope"].tolist() == expected


def test_a_column_without_labels_is_said(cloud, rows: pd.DataFrame, tmp_path: Path) -> None:
    rows.assign(y=np.nan).to_csv(tmp_path / "t.csv", index=False)
    found = cloud("evaluate", "--data", tmp_path / "t.csv", "--label", "y", "--members", 1)
    assert (found.status, "no row has a label in the column 'y'" in found.err) == (1, True)
