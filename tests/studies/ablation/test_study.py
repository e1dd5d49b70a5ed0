"""The study `ablation`: its grid, its verdicts, and that it goes on where it stopped."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cloud_hf.cli.main import main
from cloud_hf.errors import CloudError, StudyError
from cloud_hf.scope import parse
from cloud_hf.studies.ablation import study as ablation
from cloud_hf.studies.ablation.cells import CELLS
from cloud_hf.studies.ablation.study import Arguments, quarter_of, verdict

LABEL = "cv"


@pytest.fixture(scope="module")
def table(crystals: Callable[[int], pd.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ablation") / "rows.parquet"
    crystals(16).to_parquet(path)
    return path


def test_every_cell_changes_one_thing_of_its_reference() -> None:
    cells = {cell.name: cell for cell in CELLS}
    assert len(cells) == len(CELLS)
    for cell in CELLS[1:]:
        parts = [
            (c.training.encoder, c.training.changes, c.training.strings, c.training.head, c.reads, c.seeds)
            for c in (cell, cells[str(cell.reference)])
        ]
        assert sum(one != two for one, two in zip(*parts, strict=True)) == 1, cell.name


def test_verdicts() -> None:
    better = {"difference": -1.5, "low": -2, "high": -1}
    worse = {"difference": 1.5, "low": 1, "high": 2}
    unclear = {"difference": 0.5, "low": -1, "high": 2}
    assert [verdict(gap, True) for gap in (better, worse, unclear)] == ["pays", "hurts", "no clear gain"]
    assert [verdict(gap, False) for gap in (better, worse, unclear)] == ["better so", "worse", "no clear loss"]
    assert verdict(better, True, seeds=1.0) == "within the spread of seeds"
    assert verdict(better, True, seeds=0.1) == "pays"
    assert verdict(None, True) == ""


@pytest.mark.train
def test_the_grid_goes_on_where_it_stopped(
    table: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    words = ["study", "ablation", "--data", str(table), "--label", LABEL, "--model", str(encoder), "--out", str(out)]
    words += ["--max-steps", "2", "--folds", "0", "--no-baselines"]
    trained: list[Any] = []
    fit = ablation.fit_and_predict
    monkeypatch.setattr(ablation, "fit_and_predict", lambda *given: trained.append(given) or fit(*given))
    assert main([*words, "--cells", "base", "labellings_averaged", "multitask"]) == 0
    assert len(trained) == 1  # both cells read the same training; multitask has no encoder
    found = json.loads((out / "results.json").read_text())["results"]
    assert set(found["cells"]) == {"base", "labellings_averaged"}
    assert "multitask" in found["not_measured"]
    report = (out / "report.md").read_text()
    for cell in found["cells"].values():
        assert cell["mae"] == pytest.approx(np.mean(cell["absolute_error"]), abs=1e-4)
        assert f"{cell['mae']:.3f}" in report
    assert "`multitask`" in report.split("Not measured:")[1]
    assert found["cells"]["labellings_averaged"]["to_reference"]["low"] <= 0.0

    assert main([*words, "--cells", "composition", "random_order", "labellings_both"]) == 0
    assert len(trained) == 4
    cells = json.loads((out / "results.json").read_text())["results"]["cells"]
    assert list(cells)[:3] == ["base", "composition", "random_order"]  # what was done stays
    assert set(cells) == {"base", "labellings_averaged", "composition", "random_order", "labellings_trained",
                          "labellings_both"}  # fmt: skip  # both read the same training
    assert {parse(given[2].scopes[0]).grammar for given in trained} == {"sites", "composition"}
    assert cells["base"] == found["cells"]["base"]
    assert main([*words[:-2], "1", "--no-baselines", "--cells", "base"]) == 0
    assert len(trained) == 5  # another fold
    with pytest.raises(StudyError, match="max_steps was 2, is 3"):
        ablation.run(Arguments([str(table)], str(out), label=LABEL, model=str(encoder), max_steps=3, baselines=False))


def test_a_pretraining_that_stops_costs_its_cell_only(
    table: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pd.DataFrame({"scope": [f"word {n}" for n in range(40)]}).to_parquet(tmp_path / "corpus.parquet")
    commands: list[list[str]] = []

    def stopped(command: list[str], **_: Any) -> Any:
        commands.append(command)
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(ablation.subprocess, "run", stopped)
    arguments = Arguments(
        [str(table)], str(tmp_path / "out"), label=LABEL, model=str(encoder), max_steps=2, baselines=False, folds=[0],
        cells=["base", "corpus_quarter"], corpus=[str(tmp_path / "corpus.parquet")], recipe="recipe.yaml",
    )  # fmt: skip
    with pytest.raises(StudyError, match=r"corpus_quarter: .*pre-training on a quarter"):
        ablation.run(arguments)
    assert set(json.loads((tmp_path / "out/results.json").read_text())["results"]["cells"]) == {
        "base",
        "labellings_averaged",
    }
    (command,) = commands
    strings = pd.read_parquet(command[command.index("--data") + 1])["scope"]
    assert len(strings) == 10


def test_a_quarter_of_the_strings_is_always_the_same(tmp_path: Path) -> None:
    pd.DataFrame({"scope": [f"word {n}" for n in range(40)] * 2}).to_parquet(tmp_path / "a.parquet")
    quarter = quarter_of([str(tmp_path / "a.parquet")])
    assert len(quarter) == quarter["scope"].nunique() == 10
    assert quarter.equals(quarter_of([str(tmp_path / "a.parquet")]))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"cells": ["magic"]}, "no cell 'magic'"), ({"corpus": ["a.parquet"]}, "--recipe"), ({"folds": []}, "--folds"),
        ({"data": ["a", "b"]}, "one table"),
    ],
)  # fmt: skip
def test_values_that_cannot_work(given: dict[str, Any], text: str) -> None:
    with pytest.raises(CloudError, match=text):
        Arguments(**({"data": ["a.parquet"], "out": "out"} | given))
