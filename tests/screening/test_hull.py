"""Energy above the hull of known phases."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition

from cloud_hf.errors import TableError
from cloud_hf.screening.hull import ENERGY, FORMULA, KnownPhases, SystemHull

PHASES = {"MgO": -3.0, "Al2O3": -3.4, "MgAl2O4": -3.3, "MgAl": -0.02, "MgO2": -2.0, "AlO": -1.0}


@pytest.fixture
def known() -> KnownPhases:
    """A small made-up system."""
    return KnownPhases(list(PHASES), list(PHASES.values()), "made up", "energy")


@given(st.tuples(*[st.integers(0, 6)] * 3).filter(any))
def test_the_hull_is_that_of_pymatgen(amounts: tuple[int, int, int]) -> None:
    known = KnownPhases(list(PHASES), list(PHASES.values()), "made up", "energy")
    composition = Composition({e: n for e, n in zip(("Mg", "Al", "O"), amounts, strict=True) if n})
    entries = [PDEntry(Composition(name), energy * Composition(name).num_atoms) for name, energy in PHASES.items()]
    entries += [PDEntry(Composition(element), 0.0) for element in ("Mg", "Al", "O")]
    diagram = PhaseDiagram(entries)
    found = known.at({symbol: float(n) for symbol, n in composition.get_el_amt_dict().items()})
    assert found.energy == pytest.approx(diagram.get_hull_energy_per_atom(composition), abs=1e-9)
    names = {entry.composition.reduced_formula for entry in diagram.get_decomposition(composition)}
    parts = [part.split()[-1] for part in found.decomposition.split(" + ")]
    assert names == {Composition(part).reduced_formula for part in parts}


def test_a_phase_of_its_own_is_its_decomposition(known: KnownPhases) -> None:
    assert known.at({"Mg": 1, "Al": 2, "O": 4}).decomposition == "MgAl2O4"
    assert known.at({"Mg": 3, "O": 3}) == known.at({"Mg": 1, "O": 1})


def test_elements_are_the_zero(known: KnownPhases) -> None:
    assert known.at({"Xe": 1.0}).energy == 0
    assert known.at({"Cs": 1, "Li": 1}).decomposition in ("0.50 Cs + 0.50 Li", "0.50 Li + 0.50 Cs")


def test_phases_of_the_user_lower_the_hull(known: KnownPhases, tmp_path) -> None:
    before = known.at({"Mg": 1, "Al": 1}).energy
    path = tmp_path / "mine.csv"
    pd.DataFrame({FORMULA: ["Al2Mg2"], ENERGY: [-0.5], "vintage": ["made up"]}).to_csv(path, index=False)
    assert known.add_table(path) == 1
    after = known.at({"Mg": 1, "Al": 1})
    assert before == pytest.approx(-0.02)
    assert after.energy == pytest.approx(-0.5)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({FORMULA: ["MgO"], ENERGY: [-3.0]}, "no column 'vintage'"),
        ({FORMULA: ["MgO"], ENERGY: [-3.0], "vintage": ["r2SCAN"]}, "of the vintage 'r2SCAN'"),
        ({FORMULA: ["MgO"], ENERGY: [None], "vintage": ["made up"]}, "row 0: the column"),
        ({FORMULA: ["Qq"], ENERGY: [-1.0], "vintage": ["made up"]}, "no chemical formula"),
        ({FORMULA: list(PHASES), ENERGY: [-1.5] * 6, "vintage": ["made up"] * 6}, "differ by"),
    ],
)
def test_phases_of_another_vintage_are_refused(known: KnownPhases, tmp_path, columns: dict, reason: str) -> None:
    path = tmp_path / "mine.csv"
    pd.DataFrame(columns).to_csv(path, index=False)
    with pytest.raises(TableError, match=reason):
        known.add_table(path)


def test_a_hull_of_one_element() -> None:
    hull = SystemHull(["Si"], [("Si", {"Si": 1.0}, 0.0), ("Si", {"Si": 1.0}, 0.1)])
    assert hull.at({"Si": 1.0}).energy == 0


class TestBundled:
    @pytest.fixture(scope="class")
    def known(self) -> KnownPhases:
        return KnownPhases.bundled()

    def test_no_known_phase_lies_below_the_hull(self, known: KnownPhases, shared) -> None:
        table = pd.read_parquet(shared / "data" / "known_phases.parquet").sample(25, random_state=0)
        amounts = [Composition(formula).get_el_amt_dict() for formula in table[FORMULA]]
        distances = [
            energy - known.at(one).energy for one, energy in zip(amounts, table[ENERGY], strict=True) if len(one) <= 4
        ]
        assert min(distances) > -1e-3
        assert min(distances) < 1e-3  # some are on it

    def test_the_head_is_of_their_vintage(self, known: KnownPhases, shared) -> None:
        table = pd.read_parquet(shared / "data" / "materials_project.parquet", columns=["formula", known.head])
        energies = table.dropna().groupby("formula")[known.head].min()
        phases = pd.read_parquet(shared / "data" / "known_phases.parquet").set_index(FORMULA)[ENERGY]
        common = energies.index.intersection(phases.index)
        assert len(common) > 5000
        assert float((energies[common] - phases[common]).abs().median()) < 0.002
