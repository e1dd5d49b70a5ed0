"""The command itself: help, version, info, encode, and one run through the console script."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import cloud_hf
from cloud_hf import ScopeEncoder
from cloud_hf.crystals.cell import Cell
from cloud_hf.data.tables import read_table
from waiting import Hang

COMMANDS = ("predict", "encode", "pretrain", "finetune", "joint", "evaluate", "info", "convert", "export")
SALT = "0 0 0 | 1a | Na 0.5 Cl 0.5"


class TestHelp:
    def test_the_commands_are_listed(self, cloud) -> None:
        found = cloud("--help")
        assert found.status == 0
        assert all(command in found.out for command in COMMANDS)

    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_explains_itself(self, cloud, command: str) -> None:
        found = cloud(command, "--help")
        assert found.status == 0
        assert f"cloud-hf {command}" in found.out

    @pytest.mark.parametrize(("command", "words"), [
        ("pretrain", ("--data", "--config", "--mlm-probability", "--max-steps")),
        ("finetune", ("--model", "--target", "--debye", "--n-atoms", "--learning-rate")),
        ("evaluate", ("--head", "--data", "--label", "--n-atoms", "--temperature", "--json")),
        ("predict", ("--model", "--head", "--n-atoms", "--temperature", "--plot", "--output")),
    ])  # fmt: skip
    def test_the_arguments_are_named(self, cloud, command: str, words: tuple[str, ...]) -> None:
        out = cloud(command, "--help").out
        assert [word for word in words if word not in out] == []

    def test_the_version_is_the_package_s(self, cloud) -> None:
        found = cloud("--version")
        assert (found.status, found.out.split()) == (0, ["cloud-hf", cloud_hf.__version__])

    @pytest.mark.parametrize("argv", [(), ("melt",), ("predict",), ("predict", "x", "--bogus"), ("evaluate",)])
    def test_what_makes_no_sense_is_status_2(self, cloud, argv: tuple[str, ...]) -> None:
        found = cloud(*argv)
        assert found.status == 2
        assert "usage" in found.err

    @pytest.mark.parametrize("command", ["pretrain", "finetune"])
    def test_an_unknown_training_argument_is_status_2(self, cloud, command: str) -> None:
        required = ["--data", "x.csv", "--model", "m", "--target", "y:eV"][: 2 if command == "pretrain" else 6]
        found = cloud(command, *required, "--bogus", "1")
        assert found.status == 2
        assert "--bogus" in found.err

    @pytest.mark.parametrize("command", ["pretrain", "finetune", "joint"])
    def test_a_recipe_that_is_missing_is_status_2(self, cloud, command: str, tmp_path: Path) -> None:
        found = cloud(command, "--config", tmp_path / "absent.yaml")
        assert found.status == 2
        assert "absent.yaml" in found.err


class TestInfo:
    def test_it_tells_versions_and_what_is_predicted(self, cloud) -> None:
        found = cloud("info")
        assert found.status == 0
        for word in (
            cloud_hf.__version__,
            "torch",
            "spglib",
            "heat_capacity",
            "band_gap (eV)",
            "sites",
            "trees",
        ):
            assert word in found.out

    def test_a_checkpoint_of_one_s_own(self, cloud, gap_folder: Path) -> None:
        found = cloud("info", "--model", gap_folder)
        assert found.status == 0
        assert "band_gap (eV)" in found.out

    def test_damaged_records_end_in_one_line(self, cloud, checkpoint: Path) -> None:
        (checkpoint / "metrics.json").write_text('{"validation": ')
        found = cloud("info", "--model", checkpoint)
        assert found.status == 2
        assert f"{checkpoint / 'metrics.json'}: cannot be read" in found.err
        assert len(found.err.splitlines()) == 1

    @pytest.mark.parametrize("beside_the_parts", [True, False])
    def test_baselines_stand_beside_the_error(self, cloud, checkpoint: Path, beside_the_parts: bool) -> None:
        """As `finetune` writes them, in each target's row, and as a table of other methods."""
        row = {"unit": "eV", "mae": 0.25, "mad": 2.0, "n": 40}
        trees = {"mae": 0.375, "median_absolute_error": 0.3, "mae_mad": 0.2}
        metrics: dict[str, Any] = {"validation": {"gap": row | {"baselines": {"trees": trees}}}}
        if beside_the_parts:
            metrics = {"validation": {"gap": row}, "baselines": {"trees": {"gap": trees}}}
        (checkpoint / "metrics.json").write_text(json.dumps(metrics))
        found = cloud("info", "--model", checkpoint)
        assert found.status == 0, found.err
        assert "gap: 0.25 eV (mean 2, trees 0.375, n = 40)" in found.out

    def test_a_part_without_errors(self, cloud, checkpoint: Path) -> None:
        row = {"unit": "eV", "mae": None, "mad": None, "n": 0, "baselines": {}}
        (checkpoint / "metrics.json").write_text(json.dumps({"test": {"gap": row}}))
        found = cloud("info", "--model", checkpoint)
        assert found.status == 0, found.err
        assert "gap: none (n = 0)" in found.out

    def test_another_model_type(self, cloud, bert_folder: Path) -> None:
        found = cloud("info", "--model", bert_folder)
        assert found.status == 2
        assert "'bert'" in found.err


class TestEncode:
    @pytest.mark.parametrize("grammar", ["composition", "full"])
    def test_the_strings_are_the_encoder_s(self, cloud, examples: list[Path], tmp_path: Path, grammar: str) -> None:
        found = cloud("encode", *examples, "--grammar", grammar, "--released", "-o", tmp_path / "t.csv")
        assert found.status == 0
        table = read_table(tmp_path / "t.csv")
        encoder = ScopeEncoder(grammar, canonical=False)
        assert table["source"].tolist() == [str(path) for path in examples]
        assert table["scope"].tolist() == [encoder.encode(path) for path in examples]
        assert table["space_group"].between(1, 230).all()

    @pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
    def test_its_output_is_an_input(self, cloud, examples: list[Path], tmp_path: Path, suffix: str) -> None:
        assert cloud("encode", *examples, "-o", tmp_path / f"t{suffix}").status == 0
        argv = ["--n-atoms", "n_atoms", "-o", tmp_path / "p.parquet"]
        assert cloud("predict", tmp_path / f"t{suffix}", *argv).status == 0
        assert cloud("predict", *examples, "-o", tmp_path / "q.parquet").status == 0
        one, two = (read_table(tmp_path / name) for name in ("p.parquet", "q.parquet"))
        assert one["scope"].tolist() == two["scope"].tolist()
        assert one["n_atoms"].tolist() == two["n_atoms"].tolist()

    def test_a_summary_by_reason_ends_it(self, cloud, examples: list[Path], tmp_path: Path) -> None:
        for name in ("a.cif", "b.cif"):
            (tmp_path / name).write_text("no crystal")
        (tmp_path / "c.cif").write_text("data_c\n_cell_length_a 4\n")
        (tmp_path / "d.cif").write_bytes(examples[0].read_bytes())
        found = cloud("encode", tmp_path)
        assert found.status == 1
        lines = found.err.splitlines()[-3:]
        assert lines[0] == "cloud-hf: 3 of 4 rows failed."
        assert lines[1].startswith("  2 CrystalReadError: no crystal that can be read; mend the file")
        assert lines[2].startswith("  1 EmptyCrystalError: no atoms; ")

    def test_it_writes_to_the_terminal(self, cloud, examples: list[Path]) -> None:
        found = cloud("encode", *examples, "--grammar", "composition", "--released")
        assert found.status == 0
        assert ScopeEncoder("composition", canonical=False).encode(examples[0]) in found.out

    def test_bad_files_are_rows(self, cloud, bad_files, examples, alloy: Path, tmp_path: Path) -> None:
        inputs = [examples[0], *bad_files.values(), alloy, SALT]
        found = cloud("encode", *inputs, "--grammar", "composition", "-o", tmp_path / "t.jsonl")
        assert found.status == 1
        assert "Traceback" not in found.err
        table = read_table(tmp_path / "t.jsonl")
        assert table["source"].tolist() == [str(name) for name in inputs]
        assert table["error"].isna().tolist() == [True, *[False] * len(bad_files), True, True]
        assert table["scope"].notna().tolist() == table["error"].isna().tolist()

    def test_a_refused_string_is_no_result(self, cloud, tmp_path: Path) -> None:
        strings = ["0 0 0 | Na 1a", "0 0 0 | Na 1b", "0 0 0 | 1a | X 1.0"]  # in order, no such letter, no pairing
        assert cloud("encode", *strings, "-o", tmp_path / "t.csv").status == 1
        table = read_table(tmp_path / "t.csv")
        assert table["source"].tolist() == strings
        assert table["scope"].notna().tolist() == table["error"].isna().tolist() == [True, False, False]

    def test_released_needs_a_grammar_of_the_paper(self, cloud, examples: list[Path]) -> None:
        found = cloud("encode", examples[0], "--released")
        assert found.status == 2
        assert "--grammar composition or full" in found.err

    def test_only_bad_files(self, cloud, bad_files: dict[str, Path], tmp_path: Path) -> None:
        found = cloud("encode", bad_files["empty"], bad_files["missing"], "-o", tmp_path / "t.parquet")
        assert found.status == 1
        assert len(read_table(tmp_path / "t.parquet")) == 2

    def test_a_disordered_crystal_has_no_full_string(self, cloud, alloy: Path, tmp_path: Path) -> None:
        found = cloud("encode", alloy, "--grammar", "full", "-o", tmp_path / "t.csv")
        assert found.status == 1
        assert "composition" in read_table(tmp_path / "t.csv")["error"][0]

    def test_an_unknown_extension(self, cloud, examples: list[Path], tmp_path: Path) -> None:
        found = cloud("encode", examples[0], "-o", tmp_path / "t.txt")
        assert found.status == 2
        assert ".parquet" in found.err

    @pytest.mark.parametrize("argv", [("--symprec", "0"), ("--angle-tolerance", "-1"), ("--max-atoms", "0")])
    def test_a_tolerance_that_is_not_positive(self, cloud, examples: list[Path], argv: tuple[str, str]) -> None:
        found = cloud("encode", examples[0], *argv)
        assert found.status == 2
        assert "positive" in found.err

    def test_a_table_without_rows(self, cloud, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text("scope\n")
        assert cloud("encode", tmp_path / "t.csv", "-o", tmp_path / "o.csv").status == 1
        assert len(read_table(tmp_path / "o.csv")) == 1


class TestEncodeInProcesses:
    def test_the_rows_are_the_same(self, cloud, examples, bad_files, alloy: Path, tmp_path: Path) -> None:
        inputs = [*examples, *bad_files.values(), alloy, SALT]
        for name, argv in (("one", ["--timeout", 0]), ("two", ["--processes", 2]), ("limit", [])):
            assert cloud("encode", *inputs, *argv, "-o", tmp_path / f"{name}.parquet").status == 1
        one, two, limit = (read_table(tmp_path / f"{name}.parquet") for name in ("one", "two", "limit"))
        assert one["source"].tolist() == [str(name) for name in inputs]
        pd.testing.assert_frame_equal(one, two)
        pd.testing.assert_frame_equal(one, limit)

    def test_a_crystal_over_the_limit_keeps_its_row(
        self, cloud, examples, hang: Hang, tmp_path: Path, monkeypatch
    ) -> None:
        describe = ScopeEncoder.describe

        def slow(self: ScopeEncoder, crystal: Cell) -> object:
            if Path(crystal.name).name == examples[1].name:
                hang()
            return describe(self, crystal)

        monkeypatch.setattr(ScopeEncoder, "describe", slow)
        found = cloud("encode", *examples[:3], "--timeout", 600, "-o", tmp_path / "t.csv")
        assert found.status == 1
        table = read_table(tmp_path / "t.csv")
        assert table["error"].isna().tolist() == [True, False, True]
        assert "600 s" in table["error"][1]
        assert str(examples[1]) in table["error"][1]

    @pytest.mark.parametrize(
        "argv", [("--processes", 0), ("--processes", "two"), ("--timeout", -1), ("--timeout", "nan")]
    )
    def test_numbers_that_make_no_sense(self, cloud, examples, argv: tuple[str, object]) -> None:
        for command in ("encode", "predict"):
            found = cloud(command, examples[0], *argv)
            assert found.status == 2
            assert argv[0] in found.err

    def test_an_interrupt_leaves_no_file_and_what_was_there(self, cloud, examples, tmp_path: Path, monkeypatch) -> None:
        def interrupted(*_: object) -> object:
            raise KeyboardInterrupt

        (tmp_path / "t.csv").write_text("old")
        monkeypatch.setattr(ScopeEncoder, "describe", interrupted)
        assert cloud("encode", SALT, examples[0], "--timeout", 0, "-o", tmp_path / "t.csv").status == 130
        assert (tmp_path / "t.csv").read_text() == "old"
        assert len(list(tmp_path.iterdir())) == 1


def test_an_interrupt_is_no_traceback(cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    from cloud_hf.cli import info

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(info, "read_config", interrupt)
    found = cloud("info")
    assert found.status == 130
    assert "interrupted" in found.err


class TestConsoleScript:
    """Fresh processes: what a user sees, with nothing imported before."""

    @pytest.fixture
    def script(self, tmp_path: Path):
        path = Path(sys.executable).with_name("cloud-hf")
        if not path.exists():
            pytest.skip(f"no console script {path}: the package is not installed in this environment")
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path / "hf")}

        def run(*argv: object) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [str(path), *map(str, argv)],
                cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
            )  # fmt: skip

        return run

    def test_its_version(self, script) -> None:
        done = script("--version")
        assert (done.returncode, done.stdout, done.stderr) == (0, f"cloud-hf {cloud_hf.__version__}\n", "")

    @pytest.mark.slow
    def test_a_prediction_with_a_bad_file(self, script, examples: list[Path], bad_files, tmp_path: Path) -> None:
        done = script("predict", examples[0], bad_files["empty"], "-o", "rows.jsonl")
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
        assert [line["source"] for line in lines] == [str(examples[0]), str(bad_files["empty"])]
        assert lines[0]["debye_temperature_of_heat_capacity (K)"] > 0
        assert "1 of 2" in done.stderr

    @pytest.mark.slow
    def test_a_refusal(self, script) -> None:
        done = script("predict", SALT, "--model", "nowhere/at-all")
        assert done.returncode == 2
        assert "nowhere/at-all" in done.stderr
        assert "Traceback" not in done.stderr
