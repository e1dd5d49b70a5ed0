"""The study of hidden families, as a command on a small table."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cloud_hf.cli.main import main
from cloud_hf.screening.hull import KnownPhases


@pytest.fixture(autouse=True)
def _phases_of_two_elements(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that binary crystals can meet; to read the formulas of the other phases takes longer than the study."""
    every = KnownPhases.bundled()
    kept = {name: energy for name, energy in every.energies.items() if len(re.findall("[A-Z]", name)) <= 2}
    few = KnownPhases([*kept], [*kept.values()], every.vintage, every.head)
    monkeypatch.setattr(KnownPhases, "bundled", lambda: few)


@pytest.fixture
def command(tables: list[Path], encoder: Path) -> list[str]:
    return [
        "study", "screening", "--data", *map(str, tables), "--energy", "crystals:energy", "labels:energy",
        "--gap", "labels:gap", "--bulk", "labels:bulk", "--families", "rock-salt", "--candidates", "60",
        "--model", str(encoder), "--max-steps", "4",
    ]  # fmt: skip


def test_hidden_crystals_are_ranked(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    out = tmp_path / "out"
    assert main([*command, "--out", str(out)]) == 0
    found = json.loads((out / "results.json").read_text())["results"]
    family = found["families"]["rock-salt"]
    assert found["table"]["rows"] == found["table"]["train"] + found["table"]["hidden"]
    assert family["statuses"]["stable"] > 10
    assert found["phases"]["removed"] >= family["statuses"]["stable"]
    scores = family["among_unknown"]
    assert scores["n_known"] == family["statuses"]["stable"]
    assert scores["n_other"] == 60
    assert {*scores["arms"]} == {"model", "trees", "neighbours", "model_capped", "trees_capped"}
    assert family["near"]["model"]["n_known"] == scores["n_known"] - family["far_below"]["stable"]
    assert family["near"]["model"]["n_other"] == scores["n_other"] - family["far_below"]["unknown"]
    assert found["means"]["model"]["auroc"] == pytest.approx(scores["arms"]["model"]["auroc"]["value"])
    for entry in scores["arms"].values():
        assert entry["auroc"]["low"] <= entry["auroc"]["value"] <= entry["auroc"]["high"]
    assert {*found["properties"]} == {"formation_energy", "band_gap", "bulk_modulus"}
    assert len(family["best"]) == 5
    report = (out / "report.md").read_text()
    assert "rock-salt" in report
    for name in ("found.png", "properties.png"):
        assert f"({name})" in report
        assert (out / name).stat().st_size > 5000

    def nothing(*_: object) -> None:
        raise AssertionError("a cell that is done is computed again")

    for name in ("fitted_predictions", "family_candidates"):
        monkeypatch.setattr(f"cloud_hf.studies.screening.study.{name}", nothing)
    assert main([*command, "--out", str(out)]) == 0
    assert json.loads((out / "results.json").read_text())["results"] == found


def test_refusals(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "out")]
    assert main([*command, *out, "--families", "quartz"]) == 2
    assert "choose from" in capsys.readouterr().err
    assert main([*command, *out, "--energy", "labels:gap"]) == 2
    assert "vintage" in capsys.readouterr().err
