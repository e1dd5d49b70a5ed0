"""The script that puts trees beside the joint model: out-of-fold predictions, and a run that goes on."""

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


@pytest.fixture
def script(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("joint_trees", root / "scripts" / "joint_trees.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_rows_are_predicted_by_trees_of_the_other_folds(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn")
    chance = np.random.default_rng(0)
    table = pd.DataFrame({"scope": SCOPES, "group": SCOPES, "fold": np.arange(len(SCOPES)) % 3, "part": "train"})
    table["n_atoms"] = 3
    table["gap"] = np.where(np.arange(len(SCOPES)) == 4, np.nan, chance.normal(size=len(SCOPES)))
    table["rare"] = [1.0] + [np.nan] * (len(SCOPES) - 1)
    table.to_parquet(tmp_path / "joint.parquet")
    monkeypatch.setattr(script, "FEWEST", 20)
    words = ["joint_trees.py", "--table", str(tmp_path / "joint.parquet"), "--out", str(tmp_path / "out"), "--light"]
    monkeypatch.setattr(sys, "argv", words)
    script.main()
    found = pd.read_parquet(tmp_path / "out" / "gap.parquet")
    assert sorted(found.scope) == sorted(set(SCOPES) - {SCOPES[4]})
    # extra trees repeat the labels that they have seen, and no row has seen its own
    assert np.abs(found.prediction - found.label).min() > 1e-6
    errors = json.loads((tmp_path / "out" / "errors.json").read_text())
    assert list(errors) == ["gap"]
    assert errors["gap"]["n"] == len(found) == len(SCOPES) - 1
    assert errors["gap"]["mae"] == pytest.approx((found.prediction - found.label).abs().mean())
    fitted: list[int] = []
    monkeypatch.setattr(script, "predict_fold", lambda *given: fitted.append(given[3]))
    script.main()
    assert not fitted
    monkeypatch.setattr(sys, "argv", [*words, "--targets", "gaps"])
    with pytest.raises(SystemExit, match="no column gaps"):
        script.main()


def test_what_the_trees_learn_of_a_target(script: ModuleType) -> None:
    assert script.kind_of("heat_capacity_298.15K") == ("heat_capacity", 298.15)
    assert script.kind_of("jarvis_bulk_modulus")[0] == "log"
    assert script.kind_of("megnet2018_gap_pbe")[0] == "value"
