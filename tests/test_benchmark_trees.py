"""The script that scores the tree baseline: rounds, errors, and the figures that were published."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

METALS = ("Li", "Na", "K", "Rb", "Cs", "Mg", "Ca", "Sr", "Ba", "Al", "Ga", "In", "Cu", "Ag", "Au")
SCOPES = [f"1 0 0 | {metal} 2i O {word}" for metal in METALS for word in ("1a", "2i")]


@pytest.fixture(scope="module")
def script(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_trees", root / "scripts" / "benchmark_trees.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmark_trees"] = module  # a dataclass looks its module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A table with two missing labels, and its split."""
    labels = np.linspace(1, 3, len(SCOPES))
    labels[[3, 8]] = np.nan
    source = ["a", "b"] * (len(SCOPES) // 2)
    pd.DataFrame({"label": labels, "source": source}).to_parquet(tmp_path / "table.parquet")
    split = pd.DataFrame({"scope": SCOPES, "fold": np.arange(len(SCOPES)) % 5})
    split["part"] = np.where(split["fold"] == 0, "validation", "train")
    split.to_parquet(tmp_path / "table.split.parquet")
    return tmp_path, tmp_path


@pytest.mark.parametrize("evaluation", ["kfold", "folds", "part"])
def test_no_row_is_trained_on_and_scored(script: ModuleType, folders: tuple[Path, Path], evaluation: str) -> None:
    task = script.Task("table", "label", "eV", evaluation, only=("source", "b"))
    rows = script.read_task(task, *folders)
    assert len(rows) == len(SCOPES) - 2
    rounds = script.sides(task, rows)
    assert len(rounds) == (1 if evaluation == "part" else 5)
    scored = np.concatenate([test for _, test in rounds])
    assert len(set(scored)) == len(scored)
    assert rows["scored"].iloc[scored].all()
    assert all(not set(train) & set(test) for train, test in rounds)
    if evaluation != "part":
        assert len(scored) == rows["scored"].sum()


def test_a_task_gives_errors_beside_the_reference(script: ModuleType, folders: tuple[Path, Path]) -> None:
    task = script.Task("table", "label", "eV", "part", "log", (1.0, 2.0, None))
    result = script.run_task(task, script.read_task(task, *folders), n_jobs=1)
    assert result["train_rows"] + result["test_rows"] == len(SCOPES) - 2
    assert result["extra_trees"]["ratio"] == pytest.approx(result["extra_trees"]["mae"] / 2)
    assert result["average"]["ratio"] is None
    assert 0 < result["average"]["mae_mad"] < 1.5
    assert task.name in script.show({task.name: result})


def test_the_published_figures_reach_the_reference(script: ModuleType, root: Path) -> None:
    tasks = json.loads((root / "docs" / "results" / "trees.json").read_text(encoding="utf-8"))["tasks"]
    compared = {task.name: tasks[task.name] for task in script.TASKS if task.evaluation == "kfold"}
    assert len(compared) == 2
    for row in compared.values():
        assert row["same_rows_as_reference"]
        for model in script.TREE_MODELS:
            assert row[model]["mae"] == pytest.approx(row[model]["reference_mae"] * row[model]["ratio"])
        assert row["average"]["ratio"] < 1 + script.TOLERANCE
