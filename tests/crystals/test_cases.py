"""Crystal files after public bug reports: each gives the crystal that it means, or an error, never another crystal."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cloud_hf import ScopeEncoder, errors

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT / os.environ.get("CLOUD_SHARED", "../shared") / "cases"
NAMES = sorted(path.stem for path in CASES.glob("*.json")) or ["absent"]


def reduced(formula: str) -> dict[str, float]:
    """Amounts per atom of a formula, for comparing formulas however they are written."""
    from pymatgen.core import Composition

    return {str(element): round(x, 3) for element, x in Composition(formula).fractional_composition.items()}


def is_expected(found: Any, expected: Any) -> bool:
    if isinstance(expected, str) or isinstance(found, errors.CloudError):
        return isinstance(expected, str) and isinstance(found, errors.CloudError)
    same = (found.space_group, found.n_atoms) == (expected["space_group"], pytest.approx(expected["n_atoms"], abs=1e-3))
    return same and reduced(found.formula) == pytest.approx(reduced(expected["formula"]), abs=2e-3)


@pytest.mark.parametrize("name", NAMES)
def test_a_reported_file_gives_its_crystal_or_an_error(shared: Path, name: str) -> None:
    folder = shared / "cases"
    case = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    path = next(path for path in folder.glob(f"{name}.*") if path.suffix != ".json")
    [found] = ScopeEncoder(grammar=case["grammar"]).encode_batch([path], timeout=None)
    assert str(path) in str(found) or not isinstance(found, errors.CloudError), "the message names the file"
    assert any(is_expected(found, expected) for expected in case["expected"]), f"{case['trait']}: {found}"
