"""`cloud-hf predict`: one row an input, in order, whatever the input; physics consistent with the Debye model."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cloud_hf.data.tables import read_table
from cloud_hf.inference.plotting import LABELLED_CURVES
from cloud_hf.models.debye import GAS_CONSTANT, heat_capacity

THETA = "debye_temperature_of_heat_capacity (K)"
PER_ATOM = "heat_capacity_per_atom (J/(mol atom K))"
PER_CELL = "heat_capacity_per_cell (J/(mol primitive cell K))"
COPPER = "1 0 0 | 2i | Cu 1.0"
SALT = "0 0 0 | 1a | Na 0.5 Cl 0.5"
STRUCTURE = {
    "lattice": [5.64, 0, 0, 0, 5.64, 0, 0, 0, 5.64], "numbers": [11, 17], "frac_coords": [0, 0, 0, 0.5, 0.5, 0.5],
}  # fmt: skip


@pytest.fixture
def predict(cloud, tmp_path: Path):
    """Run `predict` and return the table that it wrote; the exit status must say whether a row failed.

    One bundled head of one member is asked unless a model or head is given or `all_heads` are to answer, which takes
    several times as long.
    """

    def run(
        *argv: object, suffix: str = ".parquet", status: int | None = None, all_heads: bool = False
    ) -> pd.DataFrame:
        path = tmp_path / f"predicted{suffix}"
        if not all_heads and not {"--model", "--head"} & set(argv):
            argv = (*argv, "--head", "heat_capacity", "--members", 1)
        path.unlink(missing_ok=True)
        found = cloud("predict", *argv, "--output", path)
        table = read_table(path)
        assert found.status == int(table["error"].notna().any())
        assert status in (None, found.status)
        assert "Traceback" not in found.out + found.err
        return table

    return run


class TestRows:
    def test_every_kind_of_input_keeps_its_place(self, predict, examples: list[Path], tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        shutil.copyfile(examples[0], tmp_path / "folder" / "one.cif")
        shutil.copyfile(examples[1], tmp_path / "folder" / "two.CIF")
        (tmp_path / "strings.csv").write_text(f"scope\n{COPPER}\n{SALT}\n")
        pd.DataFrame([{"id": "salt", "scope": COPPER, **STRUCTURE}]).to_parquet(tmp_path / "structures.parquet")
        (tmp_path / "strings.jsonl").write_text(json.dumps({"id": "j", "scope": SALT}) + "\n")
        table = predict(
            examples[3], COPPER, tmp_path / "structures.parquet", tmp_path / "absent.cif", tmp_path / "folder",
            examples[0].parent / "S*.cif", tmp_path / "strings.csv", tmp_path / "strings.jsonl", SALT,
            status=1, all_heads=True,
        )  # fmt: skip
        matches = sorted(str(path) for path in examples if path.name.startswith("S"))
        assert table["source"].tolist() == [
            str(examples[3]), COPPER, "salt", str(tmp_path / "absent.cif"),
            str(tmp_path / "folder" / "one.cif"), str(tmp_path / "folder" / "two.CIF"), *matches,
            f"{tmp_path / 'strings.csv'}:0", f"{tmp_path / 'strings.csv'}:1", "j", SALT,
        ]  # fmt: skip
        assert table["error"].notna().tolist() == [name.endswith("absent.cif") for name in table["source"]]
        assert table.loc[2, "formula"] == "NaCl"

    def test_the_three_formats_hold_the_same_rows(self, predict, examples, bad_files) -> None:
        inputs = [examples[0], bad_files["empty"], COPPER, examples[5]]
        tables = [predict(*inputs, suffix=suffix) for suffix in (".csv", ".jsonl", ".parquet")]
        for table in tables:
            assert list(table.columns) == list(tables[0].columns)
            assert table["source"].tolist() == [str(name) for name in inputs]
            for column in ("scope", "formula", "space_group_symbol", "error"):
                pd.testing.assert_series_equal(
                    table[column].astype(object).where(table[column].notna(), None),
                    tables[0][column].astype(object).where(tables[0][column].notna(), None),
                )
            for column in (THETA, PER_ATOM, PER_CELL, "n_atoms", "space_group"):
                np.testing.assert_allclose(
                    table[column].astype(float), tables[0][column].astype(float), rtol=1e-9, err_msg=column
                )

    def test_the_order_of_the_inputs_does_not_change_a_value(self, predict, examples: list[Path]) -> None:
        forwards = predict(*examples, COPPER, SALT).set_index("source")
        backwards = predict(SALT, COPPER, *examples[::-1]).set_index("source")
        assert backwards.index.tolist() == forwards.index.tolist()[::-1]
        np.testing.assert_allclose(backwards.loc[forwards.index, THETA], forwards[THETA], rtol=1e-5)

    def test_the_batch_size_does_not_change_a_value(self, predict, examples: list[Path]) -> None:
        several = [*examples[::2], COPPER, "--head", "heat_capacity"]
        expected = predict(*several)
        for size in (1, 3, 100):
            table = predict(*several, "--batch-size", size)
            assert table["source"].tolist() == expected["source"].tolist()
            np.testing.assert_allclose(table[THETA], expected[THETA], rtol=1e-5)
            np.testing.assert_allclose(table[PER_ATOM], expected[PER_ATOM], rtol=1e-5)

    def test_a_file_and_its_string_predict_the_same(self, predict, examples: list[Path]) -> None:
        files = predict(*examples)
        strings = predict(*files["scope"])
        np.testing.assert_allclose(strings[THETA], files[THETA], rtol=1e-6)
        assert strings["space_group"].tolist() == files["space_group"].tolist()

    def test_the_terminal_shows_a_line_per_crystal(self, cloud, examples: list[Path]) -> None:
        found = cloud("predict", *examples)
        assert found.status == 0
        for name in ("Cu", "NaCl", "SrTiO3", "Fm-3m"):
            assert name in found.out
        assert "debye" in found.out
        assert "shear" in found.out

    def test_the_same_input_twice_is_two_rows(self, predict, examples: list[Path]) -> None:
        table = predict(examples[0], examples[0], COPPER, COPPER)
        assert len(table) == 4
        assert table[THETA][0] == table[THETA][1]


class TestBadInput:
    def test_every_kind_is_a_row_with_an_error(self, predict, bad_files: dict[str, Path], examples: list[Path]) -> None:
        inputs = [examples[0], *bad_files.values(), examples[1]]
        table = predict(*inputs, status=1)
        assert table["source"].tolist() == [str(path) for path in inputs]
        failed = table[table["error"].notna()]
        assert failed["source"].tolist() == [str(path) for path in bad_files.values()]
        for source, error in zip(failed["source"], failed["error"], strict=True):
            assert Path(source).name in error, error
            assert "unexpected" not in error
            assert "\n" not in error
        assert failed[[THETA, PER_ATOM, PER_CELL]].isna().all(axis=None)
        assert table[table["error"].isna()][THETA].notna().all()

    @pytest.mark.parametrize(
        ("kind", "word"),
        [
            ("missing", "no such file"), ("empty", "empty"), ("no atoms", "atoms"),
            ("atom loop without rows", "atoms"), ("overlapping atoms", "apart"), ("zero volume", "volume"),
            ("dummy element", "Xx"), ("5,000 atoms", "5202"), ("not a CIF", "CIF|atoms|readable"),
        ],
    )  # fmt: skip
    def test_the_error_says_what_is_wrong(self, predict, bad_files, kind: str, word: str) -> None:
        table = predict(bad_files[kind])
        assert len(table) == 1
        assert table["error"].str.contains(word)[0], table["error"][0]

    def test_only_bad_inputs_still_give_rows(self, predict, bad_files: dict[str, Path]) -> None:
        table = predict(bad_files["empty"], bad_files["missing"], suffix=".csv", status=1)
        assert len(table) == 2

    def test_partial_occupancies_need_a_model_of_compositions(self, predict, alloy: Path, composition_folder) -> None:
        assert "composition" in predict(alloy, status=1)["error"][0]
        table = predict(alloy, "--model", composition_folder, status=0)
        assert "Cu 0.75" in table["scope"][0]
        assert "Au 0.25" in table["scope"][0]
        assert table["n_atoms"][0] == pytest.approx(1.0)
        assert table["debye_temperature (K)"][0] > 0

    def test_a_larger_limit_lets_a_large_cell_in(self, predict, bad_files: dict[str, Path]) -> None:
        table = predict(bad_files["5,000 atoms"], "--max-atoms", 6000, status=0)
        assert table["n_atoms"][0] == pytest.approx(1.0)

    @pytest.mark.parametrize(
        "text",
        [
            "1 0 0 | 2i | Xx 1.0", "1 0 0 | 99z | Cu 1.0", "1 0 0 | Cu 1.0", "| |", "1 0 0 | 2i 2i | Cu Na Na",
            "1 0 0 | 2i | Cu 7.5", "1 0 0 | " + "2i " * 90 + "| Cu 1.0", "1 0 0 | " + "2i " * 400 + "| Cu 1.0",
        ],
        ids=lambda text: text[:30],
    )  # fmt: skip
    def test_a_bad_string_is_a_row_between_good_ones(self, predict, text: str) -> None:
        table = predict(COPPER, text, SALT)
        assert table["source"].tolist() == [COPPER, text, SALT]
        assert table["error"].isna()[[0, 2]].all()
        if text.count("2i") != 90:  # that one is only long, not wrong
            assert table["error"].notna()[1]

    def test_bad_rows_of_tables(self, predict, tmp_path: Path) -> None:
        (tmp_path / "damaged.parquet").write_bytes(b"PAR1 nothing")
        (tmp_path / "columns.csv").write_text("formula\nCu\n")
        (tmp_path / "strings.csv").write_text(f"scope,x\n{COPPER},1\n,2\ngarbage,3\n{SALT},4\n")
        bad = STRUCTURE | {"numbers": [11, 300]}
        pd.DataFrame([{"id": "good", **STRUCTURE}, {"id": "bad", **bad}]).to_parquet(tmp_path / "crystals.parquet")
        names = ["damaged.parquet", "columns.csv", "strings.csv", "crystals.parquet"]
        table = predict(*(tmp_path / name for name in names), status=1)
        assert table["error"].isna().tolist() == [False, False, True, False, False, True, True, False]

    def test_a_table_without_rows_is_said(self, predict, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text("scope\n")
        table = predict(tmp_path / "t.csv", status=1)
        assert "t.csv" in table["error"][0]


class TestOutput:
    def test_an_unknown_extension_is_refused(self, cloud, tmp_path: Path) -> None:
        found = cloud("predict", COPPER, "-o", tmp_path / "out.xlsx")
        assert found.status == 2
        assert ".parquet" in found.err
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("option", ["--output", "--plot"])
    def test_an_impossible_path_is_refused(self, cloud, tmp_path: Path, option: str) -> None:
        (tmp_path / "file").write_text("x")
        name = "out.csv" if option == "--output" else "out.png"
        found = cloud("predict", COPPER, option, tmp_path / "file" / name)
        assert found.status == 2
        assert name in found.err
        (tmp_path / name).mkdir()
        assert cloud("predict", COPPER, option, tmp_path / name).status == 2

    @pytest.mark.parametrize(("option", "name"), [("--output", "out.xls"), ("--plot", "out.xyz")])
    def test_it_is_refused_before_the_work(self, cloud, tmp_path: Path, option: str, name: str) -> None:
        found = cloud("predict", COPPER, option, tmp_path / name)
        assert found.status == 2
        assert name in found.err
        assert "debye_temperature" not in found.out

    def test_an_existing_file_is_replaced(self, cloud, tmp_path: Path) -> None:
        path = tmp_path / "out.csv"
        path.write_text("old")
        assert cloud("predict", COPPER, SALT, "-o", path).status == 0
        assert read_table(path)["source"].tolist() == [COPPER, SALT]
        assert [entry.name for entry in tmp_path.iterdir()] == ["out.csv"]

    def test_folders_are_made(self, cloud, tmp_path: Path) -> None:
        path = tmp_path / "a" / "b" / "out.csv"
        assert cloud("predict", COPPER, "-o", path).status == 0
        assert len(read_table(path)) == 1


class TestPhysics:
    @pytest.mark.parametrize("kelvin", [0.0, 1.0, 77.0, 300.0, 1500.0])
    def test_thermal_quantities_agree_with_one_another(self, predict, examples, kelvin: float) -> None:
        table = predict(*examples, "--temperature", kelvin)
        if kelvin == 300:
            theta = torch.tensor(table[THETA].to_numpy(float))
            np.testing.assert_allclose(table[PER_ATOM], heat_capacity(theta, kelvin), rtol=2e-5, atol=1e-9)
        free, energy = (
            table[f"{name}_per_atom (J/(mol atom))"] for name in ("thermal_helmholtz_energy", "thermal_energy")
        )
        entropy = table["entropy_per_atom (J/(mol atom K))"]
        np.testing.assert_allclose(free, energy - kelvin * entropy, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(table[PER_CELL], table[PER_ATOM] * table["n_atoms"], rtol=1e-6, atol=1e-12)
        assert (table[PER_ATOM] <= 3 * GAS_CONSTANT * (1 + 1e-6)).all()

    def test_the_debye_temperature_has_no_temperature(self, predict, examples: list[Path]) -> None:
        cold, hot = (predict(*examples, "--temperature", kelvin)[THETA] for kelvin in (10, 1000))
        np.testing.assert_array_equal(cold, hot)

    @pytest.mark.parametrize("bad", ["-1", "nan", "inf", "cold"])
    def test_a_temperature_that_is_none(self, cloud, bad: str) -> None:
        found = cloud("predict", COPPER, f"--temperature={bad}")
        assert found.status == 2
        assert "temperature" in found.err

    @pytest.mark.parametrize("size", ["0", "-1", "many"])
    def test_a_batch_size_that_is_none(self, cloud, size: str) -> None:
        found = cloud("predict", COPPER, f"--batch-size={size}")
        assert found.status == 2
        assert "batch-size" in found.err


class TestAtoms:
    def test_a_bare_string_of_a_composition_has_no_cell(self, predict, composition_folder: Path) -> None:
        table = predict(COPPER, "--model", composition_folder)
        assert PER_CELL not in table or table[PER_CELL].isna().all()
        assert table[PER_ATOM].notna().all()

    @pytest.mark.parametrize("atoms", [1, 2, 5.5])
    def test_a_number(self, predict, atoms: float) -> None:
        table = predict(COPPER, "--n-atoms", atoms)
        assert table[PER_CELL][0] == pytest.approx(atoms * table[PER_ATOM][0], rel=1e-6)

    def test_a_column(self, predict, composition_folder: Path, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text(f"scope,atoms\n{COPPER},3\n{COPPER},\n{SALT},8\n")
        table = predict(tmp_path / "t.csv", "--n-atoms", "atoms", "--model", composition_folder, status=0)
        expected = table[PER_ATOM] * np.array([3, np.nan, 8])
        np.testing.assert_allclose(table[PER_CELL].astype(float), expected, rtol=1e-6)

    def test_a_file_knows_its_own(self, predict, examples: list[Path]) -> None:
        table = predict(*examples, "--n-atoms", 77)
        pd.testing.assert_series_equal(table["n_atoms"], predict(*examples)["n_atoms"])

    def test_mixed_rows_are_per_cell_where_it_is_known(self, predict, composition_folder, examples: list[Path]) -> None:
        table = predict(examples[0], COPPER, "--model", composition_folder, status=0)
        assert table[PER_CELL].notna().tolist() == [True, False]

    def test_who_sits_where_tells_the_atoms(self, predict) -> None:
        table = predict(COPPER, "--head", "heat_capacity", status=0)
        assert table[PER_CELL][0] == pytest.approx(2 * table[PER_ATOM][0], rel=1e-6)

    @pytest.mark.parametrize("bad", ["0", "-2", "inf", "0.5"])
    def test_less_than_one_atom_is_an_error_row(self, predict, bad: str) -> None:
        table = predict(COPPER, f"--n-atoms={bad}", status=1)
        assert table["source"].tolist() == [COPPER]

    def test_a_bad_number_in_a_column_costs_its_row(self, predict, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text(f"scope,atoms\n{COPPER},3\n{COPPER},0\n{SALT},-1\n{SALT},4\n")
        table = predict(tmp_path / "t.csv", "--n-atoms", "atoms", status=1)
        assert table["error"].isna().tolist() == [True, False, False, True]


class TestModels:
    def test_the_default_is_the_bundled_heat_capacity(self, predict, checkpoint: Path) -> None:
        default = predict(COPPER, all_heads=True)
        for argv in (["--head", "heat_capacity"], ["--model", checkpoint], ["--model", "default"]):
            assert predict(COPPER, *argv)[THETA][0] == default[THETA][0]

    @pytest.mark.parametrize("head", ["melting_point", "hardness"])
    def test_a_head_that_is_not_there(self, cloud, checkpoint: Path, head: str) -> None:
        found = cloud("predict", COPPER, "--model", checkpoint, "--head", head)
        assert found.status == 2
        assert head in found.err
        assert "heat_capacity" in found.err

    def test_a_head_that_nobody_knows(self, cloud) -> None:
        found = cloud("predict", COPPER, "--head", "melting_point")
        assert found.status == 2
        assert "melting_point" in found.err
        assert "heat_capacity" in found.err

    def test_regression_targets_with_units(self, predict, gap_folder: Path, examples: list[Path]) -> None:
        table = predict(*examples, "--model", gap_folder)
        assert table[["band_gap (eV)", "refractive_index (1)"]].notna().all(axis=None)
        assert THETA not in table
        assert predict(COPPER, "--model", gap_folder, "--head", "band_gap")["band_gap (eV)"].notna().all()

    def test_nothing_to_plot_without_a_debye_temperature(self, cloud, gap_folder: Path, tmp_path: Path) -> None:
        found = cloud("predict", COPPER, "--model", gap_folder, "--plot", tmp_path / "p.png")
        assert found.status == 2
        assert "Debye" in found.err

    def test_another_model_type(self, cloud, bert_folder: Path) -> None:
        found = cloud("predict", COPPER, "--model", bert_folder)
        assert found.status == 2
        assert "'bert'" in found.err

    def test_an_encoder_without_head(self, cloud, encoder_folder: Path) -> None:
        found = cloud("predict", COPPER, "--model", encoder_folder)
        assert found.status == 2
        assert "finetune" in found.err

    @pytest.mark.parametrize("kind", ["absent", "empty", "file", "no weights", "truncated", "config", "other size"])
    def test_a_damaged_checkpoint(self, cloud, checkpoint: Path, kind: str) -> None:
        weights = checkpoint / "model.safetensors"
        if kind in ("absent", "empty", "file"):
            shutil.rmtree(checkpoint)
        if kind == "empty":
            checkpoint.mkdir()
        elif kind == "file":
            checkpoint.write_text("weights")
        elif kind == "no weights":
            weights.unlink()
        elif kind == "truncated":
            weights.write_bytes(weights.read_bytes()[:100_000])
        elif kind == "config":
            (checkpoint / "config.json").write_text("{")
        elif kind == "other size":
            config = json.loads((checkpoint / "config.json").read_text())
            config["intermediate_size"] //= 2
            (checkpoint / "config.json").write_text(json.dumps(config))
        found = cloud("predict", COPPER, "--model", checkpoint)
        assert found.status == 2
        assert str(checkpoint) in found.err
        assert "Traceback" not in found.err

    def test_missing_weights_are_not_made_up(self, cloud, checkpoint: Path) -> None:
        from safetensors.torch import load_file, save_file

        weights = load_file(checkpoint / "model.safetensors")
        kept = {name: value for name, value in weights.items() if not name.startswith(("head.", "classifier."))}
        assert len(kept) < len(weights)
        save_file(kept, checkpoint / "model.safetensors", metadata={"format": "pt"})
        found = cloud("predict", COPPER, "--model", checkpoint)
        assert found.status == 2
        assert "missing" in found.err


def png_size(path: Path) -> tuple[int, int]:
    header = path.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", header[16:24])


class TestPlot:
    def test_a_picture_of_all_crystals(self, cloud, examples: list[Path], tmp_path: Path) -> None:
        argv = ["--head", "heat_capacity", "--plot", tmp_path / "new" / "cv.png"]
        assert cloud("predict", *examples, *argv).status == 0
        width, height = png_size(tmp_path / "new" / "cv.png")
        assert 800 <= height < width <= 4000

    def test_more_curves_than_names(self, cloud, examples: list[Path], tmp_path: Path) -> None:
        strings = [f"1 0 0 | 2i | Cu {n / 100} Au {round(1 - n / 100, 2)}" for n in range(10, 11 + LABELLED_CURVES)]
        argv = ["--head", "heat_capacity", "--members", 1, "--plot"]
        assert cloud("predict", *strings, *argv, tmp_path / "many.png").status == 0
        assert cloud("predict", *strings[:2], *argv, tmp_path / "few.png").status == 0
        assert png_size(tmp_path / "many.png") == png_size(tmp_path / "few.png")

    def test_failed_rows_are_left_out(self, cloud, bad_files, tmp_path: Path) -> None:
        found = cloud("predict", bad_files["empty"], COPPER, "--plot", tmp_path / "cv.png")
        assert found.status == 1
        assert png_size(tmp_path / "cv.png")

    def test_only_failed_rows(self, cloud, bad_files, tmp_path: Path) -> None:
        found = cloud("predict", bad_files["empty"], "--plot", tmp_path / "cv.png", "-o", tmp_path / "rows.csv")
        assert found.status in (1, 2)
        assert len(read_table(tmp_path / "rows.csv")) == 1

    @pytest.mark.parametrize("suffix", [".svg", ".pdf"])
    def test_other_formats(self, cloud, tmp_path: Path, suffix: str) -> None:
        assert cloud("predict", COPPER, "--members", 1, "--plot", tmp_path / f"cv{suffix}").status == 0
        assert (tmp_path / f"cv{suffix}").stat().st_size > 1000
