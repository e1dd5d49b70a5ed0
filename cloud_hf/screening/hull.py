"""Energy above the convex hull of known phases: one hull for each chemical system, made by pymatgen and kept.

The package ships the phases of the Materials Project of 2018 (CC-BY-4.0; see
`known_phases.json`). Their formation energies are of one vintage, and only a head of that vintage may be compared with
them: energies of two vintages differ by up to 0.1 eV/atom, more than what decides on stability.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import as_file, files
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Element

from cloud_hf.data.tables import numeric_column, read_table
from cloud_hf.errors import TableError
from cloud_hf.scope.canonical import ELEMENT_RANK

__all__ = ["ENERGY", "FORMULA", "PHASES_FILE", "RECORD_FILE", "VINTAGE", "HullDistance", "KnownPhases", "SystemHull"]

PHASES_FILE = "known_phases.parquet"
RECORD_FILE = "known_phases.json"

FORMULA, ENERGY, VINTAGE = "formula", "formation_energy_per_atom", "vintage"
"""Columns of a table of phases: reduced formula, eV/atom, and what computed the energies."""

KEPT_SYSTEMS = 4096
"""Hulls that are kept in memory, about 5 kB each; of others the oldest goes."""

FEWEST_COMMON = 5
LARGEST_DIFFERENCE = 0.05
"""eV/atom: tables whose energies of common formulas differ by more (median) are of different vintages."""

_SYMBOL = re.compile("[A-Z][a-z]?")

Phase = tuple[str, dict[str, float], float]
"""Reduced formula, atomic fractions, formation energy in eV/atom."""


@dataclass(frozen=True, slots=True)
class HullDistance:
    """Where the hull lies at a composition.

    Attributes:
        energy: Of the hull, eV/atom.
        decomposition: Phases that span it there with their shares of the atoms, e.g. `0.60 MgO + 0.40 Al2O3`.
    """

    energy: float
    decomposition: str


class SystemHull:
    """The lower convex hull of one chemical system.

    Args:
        elements: Symbols of all its elements.
        phases: Phases of these elements, at least each element itself at 0 eV/atom.
    """

    def __init__(self, elements: Sequence[str], phases: Iterable[Phase]) -> None:
        self.elements = sorted(elements)
        entries = [PDEntry(Composition(fractions), energy, name) for name, fractions, energy in phases]
        diagram = PhaseDiagram(entries, [Element(symbol) for symbol in self.elements])
        hull_entries = diagram.qhull_entries
        self.names = [str(entry.name) for entry in hull_entries]
        corners = np.array(
            [[entry.composition.get_atomic_fraction(element) for element in self.elements] for entry in hull_entries]
        )
        energies = np.array([entry.energy_per_atom for entry in hull_entries])
        self._facets = np.array(diagram.facets, dtype=np.int64).reshape(-1, len(self.elements))
        self._corners = corners[self._facets]
        # the hull is the highest of the planes through its facets; a plane is the chemical potentials of the elements
        self._planes = np.linalg.solve(self._corners, energies[self._facets][..., None])[..., 0]

    def at(self, fractions: Mapping[str, float]) -> HullDistance:
        """Return the hull at a composition.

        Args:
            fractions: Atomic fraction of each element; one that is not named is absent.
        """
        point = np.array([fractions.get(element, 0.0) for element in self.elements])
        heights = self._planes @ point
        facet = int(np.argmax(heights))
        shares = np.linalg.solve(self._corners[facet].T, point)
        parts = sorted(zip(shares.tolist(), self._facets[facet].tolist(), strict=True), reverse=True)
        text = " + ".join(f"{share:.2f} {self.names[place]}" for share, place in parts if share > 1e-4)
        return HullDistance(float(heights[facet]), text.removeprefix("1.00 "))


class KnownPhases:
    """Phases by chemical system, with the hulls made of them.

    Args:
        formulas: Reduced formulas.
        energies: Formation energies in eV/atom, shape (len(formulas),).
        vintage: Functional and release of the energies.
        head: Name of the head that predicts energies of this vintage.

    Attributes:
        vintage: As given.
        head: As given.
    """

    def __init__(
        self, formulas: Sequence[str], energies: NDArray[np.float64] | Sequence[float], vintage: str, head: str
    ) -> None:
        self.vintage, self.head = vintage, head
        self._energies: dict[frozenset[str], dict[str, float]] = {}
        for formula, energy in zip(formulas, energies, strict=True):
            self._add(formula, float(energy))
        self.hull = lru_cache(maxsize=KEPT_SYSTEMS)(self._hull)

    def __len__(self) -> int:
        return sum(map(len, self._energies.values()))

    @property
    def energies(self) -> dict[str, float]:
        """Formation energy of each phase in eV/atom, by its formula."""
        return {name: energy for system in self._energies.values() for name, energy in system.items()}

    @classmethod
    def bundled(cls) -> "KnownPhases":
        """Return the phases inside the package."""
        folder = files(__package__)
        record = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
        with as_file(folder / PHASES_FILE) as path:
            table = pd.read_parquet(path)
        return cls(table[FORMULA].tolist(), table[ENERGY].to_numpy(dtype=float), record["vintage"], record["head"])

    def add_table(self, path: str | Path) -> int:
        """Add the user's phases and return how many there are.

        Args:
            path: A table with the columns `formula`, `formation_energy_per_atom` (eV/atom) and `vintage`.

        Raises:
            TableError: It cannot be read, a column is missing, a row holds no formula or number, or its energies are of
                another vintage, by what it says or by those of formulas that are known.
        """
        table = read_table(path)
        for column in (FORMULA, VINTAGE):
            if column not in table:
                raise TableError(
                    f"there is no column {column!r}; a table of phases has {FORMULA}, {ENERGY} (eV/atom) and {VINTAGE} "
                    f"({self.vintage!r}).",
                    source=str(path),
                )
        others = sorted(set(table[VINTAGE].astype(str)) - {self.vintage})
        if others:
            raise TableError(
                f"its energies are of the vintage {others[0]!r}, those of the known phases of {self.vintage!r}; one "
                "hull cannot hold both. Compute the energies with the settings of the known phases.",
                source=str(path),
            )
        energies = numeric_column(table, ENERGY, path)
        rows: list[tuple[str, float]] = []
        for row, (formula, energy) in enumerate(zip(table[FORMULA], energies, strict=True)):
            if np.isnan(energy):
                raise TableError(f"the column {ENERGY!r} is empty.", source=str(path), row=row)
            composition = _composition(str(formula))
            if composition is None:
                raise TableError(f"{formula!r} is no chemical formula.", source=str(path), row=row)
            rows.append((composition.reduced_formula, float(energy)))
        common = [abs(energy - known) for name, energy in rows if (known := self._energy(name)) is not None]
        if len(common) >= FEWEST_COMMON and float(np.median(common)) > LARGEST_DIFFERENCE:
            raise TableError(
                f"the energies of {len(common)} formulas that are known differ by {np.median(common):.3f} eV/atom "
                f"(median), so they are not of the vintage {self.vintage!r}; one hull cannot hold both.",
                source=str(path),
            )
        for name, energy in rows:
            self._add(name, energy)
        self.hull.cache_clear()
        return len(rows)

    def at(self, amounts: Mapping[str, float]) -> HullDistance:
        """Return the hull at a composition.

        Args:
            amounts: Amount of each element.
        """
        total = sum(amounts.values())
        return self.hull(frozenset(amounts)).at({element: amount / total for element, amount in amounts.items()})

    def _add(self, formula: str, energy: float) -> None:
        system = self._energies.setdefault(frozenset(_SYMBOL.findall(formula)), {})
        system[formula] = min(energy, system.get(formula, energy))

    def _energy(self, formula: str) -> float | None:
        return self._energies.get(frozenset(_SYMBOL.findall(formula)), {}).get(formula)

    def _hull(self, elements: frozenset[str]) -> SystemHull:
        phases: list[Phase] = []
        for number in range(1, len(elements) + 1):
            for some in combinations(sorted(elements), number):
                for name, energy in self._energies.get(frozenset(some), {}).items():
                    phases.append((name, Composition(name).fractional_composition.get_el_amt_dict(), energy))
        # formation energies are counted from the elements
        return SystemHull(sorted(elements), [*phases, *((element, {element: 1.0}, 0.0) for element in elements)])


def _composition(formula: str) -> Composition | None:
    """The composition of a formula; None if it is none of elements."""
    try:
        composition = Composition(formula)
    except ValueError:
        return None
    return composition if set(composition.get_el_amt_dict()) <= set(ELEMENT_RANK) else None
