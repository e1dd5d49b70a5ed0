"""Reduced formulas: pymatgen's, however many there are."""

from __future__ import annotations

import random
import warnings

import numpy as np
import pytest
from pymatgen.core import Composition

from cloud_hf.scope.canonical import ELEMENT_ORDER
from cloud_hf.scope.encoder import _fractions
from cloud_hf.scope.formula import reduced_formula

#: Elements with formulas of their own, noble gases, and makers of polyanions.
SPECIAL = tuple("O N H F Cl Li Na K Rb Cs He Ne Ar P S C Si As Se Fe".split())  # noqa: SIM905


def pymatgen(amounts: dict[str, float]) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Composition(amounts).reduced_formula


@pytest.mark.parametrize("elements", [ELEMENT_ORDER, SPECIAL], ids=["all", "special"])
@pytest.mark.parametrize("counts", [[1, 2, 2, 3, 4, 6, 8, 12, 16], [0.25, 0.5, 1, 1.3333, 2]], ids=["whole", "parts"])
def test_it_is_pymatgens(elements: tuple[str, ...], counts: list[float]) -> None:
    chance = random.Random(0)
    for _ in range(3000):
        chosen = chance.sample(elements, chance.randint(1, 6))
        amounts = {element: float(chance.choice(counts)) for element in chosen}
        assert reduced_formula(amounts) == pymatgen(amounts), amounts


@pytest.mark.parametrize(
    ("amounts", "formula"),
    [
        ({"O": 16.0, "P": 4.0, "Li": 4.0, "Fe": 4.0}, "LiFePO4"),
        ({"Ca": 3.0, "P": 2.0, "O": 8.0}, "Ca3(PO4)2"),
        ({"Li": 2.0, "O": 2.0}, "Li2O2"),
        ({"Xe": 1.0, "He": 2.0}, "XeHe2"),
    ],
)
def test_known_ones(amounts: dict[str, float], formula: str) -> None:
    assert reduced_formula(amounts) == formula


def test_fractions_are_rounded_as_numpy_rounds_them() -> None:
    """The paper's strings were rounded by numpy, which rounds 0.075 up and 0.125 down."""
    for total in range(2, 300):
        for part in range(1, total):
            share = float(np.round(part / total, 2))
            assert _fractions({"Na": float(part), "Cl": float(total - part)})[1] == str(share)
