"""The study of crystals unlike those trained on, as a command on a small table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cloud_hf.cli.main import main
from cloud_hf.errors import CloudError
from cloud_hf.studies.common.fitting import study_target
from cloud_hf.studies.ood.study import Arguments, growth


@pytest.fixture(scope="module")
def command(
    crystals: Callable[[int], pd.DataFrame], encoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    path = tmp_path_factory.mktemp("ood") / "rows.parquet"
    table = crystals(180)
    table["id"] = [f"mp-{row}" for row in range(len(table))]
    table.at[7, "numbers"] = [3, 300]
    table.to_parquet(path)
    return [
        "study", "ood", "--data", str(path), "--target", "energy:eV/atom", "--model", str(encoder), "--max-steps", "6",
        "--share", "0.2", "--splits", "element", "time",
    ]  # fmt: skip


def results(out: Path) -> Any:
    return json.loads((out / "results.json").read_text())["results"]


class TestStudy:
    def test_errors_inside_and_outside(
        self, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("sklearn")
        command = [*command, "--splits", "time"]
        assert main([*command, "--out", str(tmp_path / "out")]) == 0
        found = results(tmp_path / "out")
        assert len(found["splits"]) == 1
        for split in found["splits"].values():
            for part in ("inside", "outside"):
                arms = split[part]["arms"]
                assert {*arms} == {"model", "trees", "mean"}
                difference = arms["model"]["difference"]
                assert difference["difference"] == pytest.approx(arms["model"]["mae"] - arms["trees"]["mae"])
                assert split[part]["n"] >= 20
                assert split[part]["unit"] == "eV/atom"
            ratio = split["outside"]["arms"]["trees"]["mae"] / split["inside"]["arms"]["trees"]["mae"]
            assert split["growth"]["trees"]["ratio"] == pytest.approx(ratio)
        assert found["table"]["failed"] == 1
        assert found["table"]["used"] == 179
        report = (tmp_path / "out/report.md").read_text()
        assert "![" in report
        assert "crystals with entry numbers above" in report
        for name in ("errors.png", "growth.png"):
            assert (tmp_path / "out" / name).stat().st_size > 5000

        def nothing(*_: object) -> None:
            raise AssertionError("a cell that is done is computed again")

        monkeypatch.setattr("cloud_hf.studies.ood.study.fit_arms", nothing)
        assert main([*command, "--out", str(tmp_path / "out")]) == 0
        assert results(tmp_path / "out") == found

    def test_other_settings_are_refused(
        self, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        command = [*command, "--no-baselines", "--splits", "time", "--max-steps", "1", "--out", str(tmp_path / "out")]
        assert main(command) == 0
        assert main([*command, "--share", "0.3"]) == 2
        assert "share was 0.2, is 0.3" in capsys.readouterr().err
        assert main([*command, "--seed", "1"]) == 2

    @pytest.mark.train
    def test_heat_capacities_through_the_debye_model(self, command: list[str], tmp_path: Path) -> None:
        command = [text if text != "energy:eV/atom" else "cv:J/(mol cell K)" for text in command]
        flags = ["--debye", "--per-cell", "--no-baselines", "--splits", "element", "--rows", "150"]
        assert main([*command, *flags, "--out", str(tmp_path / "out")]) == 0
        found = results(tmp_path / "out")
        (split,) = found["splits"].values()
        assert split["outside"]["unit"] == "J/(mol cell K)"
        assert 0 < split["outside"]["arms"]["model"]["mae"] < 50
        assert found["table"]["used"] + found["table"]["failed"] == 150


class TestRefusals:
    @pytest.mark.parametrize(
        ("flags", "words"),
        [
            (["--target", "energy"], "has no unit"),
            (["--target", "enrgy:eV"], "enrgy"),
            (["--target", "prototype:eV"], "prototype"),
            (["--rows", "100000"], "fewer than --rows"),
            (["--splits", "elements"], "choose from element"),
            (["--share", "0.9"], "share"),
            (["--debye"], "Debye"),
            (["--transform", "sqrt"], "choose from standardise"),
            (["--transform", "log"], "must be positive"),
            (["--data", "nowhere.parquet"], "nowhere.parquet"),
        ],
    )
    def test_bad_input(
        self, command: list[str], flags: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main([*command, *flags, "--out", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert "Traceback" not in error

    def test_two_tables(self) -> None:
        with pytest.raises(CloudError, match="one table"):
            Arguments(["a.csv", "b.csv"], "out", target="energy:eV")

    def test_a_target(self) -> None:
        target = study_target(Arguments(["a.csv"], "out", target="cv:J/(mol cell K)", debye=True, per_cell=True))
        assert (target.name, target.unit, target.debye, target.per_cell) == (
            "cv",
            "J/(mol cell K)",
            "heat_capacity",
            True,
        )


class TestGrowth:
    def test_the_interval_holds_the_true_ratio(self) -> None:
        chance = np.random.default_rng(0)
        hits = 0
        for _ in range(20):
            found = growth(chance.gamma(2, 1.5, 300), chance.gamma(2, 1.0, 200))
            hits += found["low"] < 1.5 < found["high"]
            assert found["low"] < found["ratio"] < found["high"]
        assert hits >= 17

    def test_no_error_inside(self) -> None:
        assert growth([1.0, 2.0], [0.0, 0.0]) == {}
