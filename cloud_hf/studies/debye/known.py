"""Measured heat capacities and handbook Debye temperatures to hold predictions against."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cloud_hf.models.debye import heat_capacity
from cloud_hf.scope.grammar import Scope

__all__ = ["COMPOUNDS", "ELEMENTS", "Known", "beside_handbook", "beside_measured"]


@dataclass(frozen=True)
class Known:
    """A crystal with measured values.

    Attributes:
        name: Formula, with the structure where there are several.
        space_group: Number in the International Tables.
        orbits: Elements and Wyckoff words, as in a `sites` string.
        atoms: Atoms per formula unit.
        heat_capacity: Cv in J/(mol formula unit K) by temperature in K.
        debye_temperature: Handbook value in K; the middle where handbooks give a range.
    """

    name: str
    space_group: int
    orbits: str
    atoms: int = 1
    heat_capacity: dict[float, float] | None = None
    debye_temperature: float | None = None

    @property
    def scope(self) -> str:
        """Canonical `sites` string."""
        words = self.orbits.split()
        return str(Scope("sites", self.space_group, tuple(words[1::2]), tuple(words[::2])).canonical())


COMPOUNDS = (
    Known(
        "Al2O3", 167, "Al 12c O 18e", 5,
        {50: 1.492, 100: 12.84, 150: 31.98, 200: 51.14, 250: 67.01, 300: 79.41, 400: 96.18},
    ),
    Known("Li2O", 225, "Li 8c O 4a", 3, {100: 10.447, 200: 37.204, 300: 54.379}),
    Known("CaTiO3", 62, "Ca 4c Ti 4a O 4c O 8d", 5, {101.85: 37.93, 202.74: 78.10, 299.6: 98.17, 398.33: 109.7}),
    Known("GaN", 186, "Ga 2b N 2b", 2, {102.8: 15.1, 200: 26.76, 300: 35.962, 400: 41.884, 500: 45.480}),
)  # fmt: skip
"""Experimental Cv."""

_FCC, _BCC, _HCP, _DIAMOND = (225, "4a"), (229, "2a"), (194, "2c"), (227, "8a")
_HANDBOOK = {
    "Cs": (_BCC, 38.0), "Rb": (_BCC, 56.0), "Pb": (_FCC, 105.0), "Au": (_FCC, 170.0), "Ag": (_FCC, 220.0),
    "Pt": (_FCC, 240.0), "Zn": (_HCP, 327.0), "Cu": (_FCC, 343.0), "Ge": (_DIAMOND, 374.0), "W": (_BCC, 400.0),
    "Al": (_FCC, 428.0), "Fe": (_BCC, 470.0), "Cr": (_BCC, 630.0), "Si": (_DIAMOND, 645.0), "Be": (_HCP, 1440.0),
    "C": (_DIAMOND, 2230.0),
}  # fmt: skip
ELEMENTS = tuple(
    Known(element, group, f"{element} {word}", debye_temperature=theta)
    for element, ((group, word), theta) in _HANDBOOK.items()
)
"""Handbook Debye temperatures. They depend on their definition, so heat capacities are compared, not temperatures."""


def beside_measured(known: Known, entry: Mapping[str, Any], arms: Sequence[str]) -> dict[str, Any]:
    """Add Cv(T) that follows from Debye temperatures, per formula unit, beside the measured one.

    Args:
        known: A compound with measured heat capacities.
        entry: Debye temperature of each arm in K, or None.
        arms: Their names in `entry`.

    Returns:
        `entry` with `atoms` (per formula unit), `unit`, `temperature` (K) and `measured`, and of each arm that has a
        temperature `ARM_heat_capacity` at the same temperatures and `ARM_mae`, J/(mol formula unit K).
    """
    kelvin = np.array(list((known.heat_capacity or {}).keys()), dtype=float)
    truth = np.array(list((known.heat_capacity or {}).values()))
    result = dict(entry) | {"atoms": known.atoms, "unit": "J/(mol formula unit K)", "temperature": kelvin.tolist()}
    result["measured"] = truth.tolist()
    for arm in arms:
        if entry[arm] is not None:
            values = heat_capacity(entry[arm], kelvin, known.atoms).numpy()
            result[f"{arm}_heat_capacity"] = values.round(3).tolist()
            result[f"{arm}_mae"] = float(np.abs(values - truth).mean())
    return result


def beside_handbook(known: Known, entry: Mapping[str, Any], arms: Sequence[str]) -> dict[str, Any]:
    """Add Cv at 300 K that follows from Debye temperatures, per atom, beside that of the handbook's.

    Args:
        known: An element with a handbook Debye temperature.
        entry: Debye temperature of each arm in K, or None.
        arms: Their names in `entry`.

    Returns:
        `entry` with `handbook` (K), `unit`, and of `handbook` and each arm that has a temperature `ARM_heat_capacity`,
        J/(mol atom K).
    """
    result = dict(entry) | {"handbook": known.debye_temperature, "unit": "J/(mol atom K)"}
    for arm in ("handbook", *arms):
        if result[arm] is not None:
            result[f"{arm}_heat_capacity"] = round(float(heat_capacity(result[arm], 300.0)), 3)
    return result
