"""The screening benchmark: its strings are different ones that crystals may have."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pandas as pd
import pytest

from cloud_hf.scope import parse


def test_strings_are_distinct_and_valid_beyond_the_end_of_the_table(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(root / "scripts")  # as when the script is run
    spec = importlib.util.spec_from_file_location("benchmark_predict", root / "scripts" / "benchmark_predict.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    good = [
        "1 2 a E C C n O O O 0 | 3a 3b 6c 18f | Ba 0.1 Ti 0.1 B 0.2 O 0.6",
        "0 7 a O D D a D O D b O D D c D D O d O O O e F B F h B B B 1 Z Z Z | 8a | Si 1.0",
    ]
    pd.DataFrame({"scope": good}).to_parquet(tmp_path / "t.parquet")
    found = list(module.strings_of(tmp_path / "t.parquet", 41))
    assert len(found) == 41
    assert set(found[:2]) == set(good)
    assert len(set(found)) >= 35  # two elements may be exchanged for themselves
    assert {parse(scope).space_group for scope in found} == {parse(scope).space_group for scope in good}
    assert {len(scope.split()) for scope in found} == {len(scope.split()) for scope in good}
