"""The demo's crystals against values that everyone in the field knows: a check of the product, since these are training
crystals, not of how well it generalises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import cloud_hf

HERE = Path(__file__).parent
EXAMPLES = sorted((HERE.parents[1] / "examples").glob("*.cif"))
REFERENCES: dict[str, Any] = json.loads((HERE / "known_crystals.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def predicted() -> pd.DataFrame:
    table = cloud_hf.predict(EXAMPLES, temperature=298.15)
    table.index = pd.Index([path.stem for path in EXAMPLES])
    return table


@pytest.mark.parametrize("quantity", REFERENCES)
def test_every_crystal_is_near_its_reference(predicted: pd.DataFrame, quantity: str) -> None:
    reference = REFERENCES[quantity]
    wrong = {}
    for name, known in reference["values"].items():
        value = predicted.loc[name, f"{quantity} ({reference['unit']})"]
        allowed = reference.get("tolerance", reference.get("relative_tolerance", 0) * abs(known))
        if not abs(value - known) <= allowed:
            wrong[name] = f"{value:.3g} instead of {known:g}"
    known_misses = set(reference.get("misses", ()))
    assert set(wrong) <= known_misses, wrong
    assert known_misses <= set(wrong), f"no longer wrong: {sorted(known_misses - set(wrong))}"


def test_metals_have_no_negative_gap(predicted: pd.DataFrame) -> None:
    gaps = predicted[["band_gap_low (eV)", "band_gap (eV)", "band_gap_high (eV)"]]
    assert (gaps >= 0).all(axis=None)
    assert (gaps["band_gap (eV)"] == 0).any()


def test_the_references_are_of_the_examples() -> None:
    names = {path.stem for path in EXAMPLES}
    assert len(names) >= 30
    for reference in REFERENCES.values():
        assert set(reference["values"]) <= names
        assert reference["source"]
