"""Rules of thumb for what may exist: charges that add up to zero, cations less electronegative than anions.

Oxidation states are those of pymatgen: common ones, and those of compounds in the ICSD. Elements of one slot share a
state; a compound of metals alone passes, since charges say nothing of alloys (as in SMACT, Davies et al., J. Open
Source Softw. 4, 1361 (2019)).
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from math import isnan

from pymatgen.core import Element

from cloud_hf.screening.elements import group_elements

__all__ = ["Rules", "electronegativity", "oxidation_states"]

HYDROGEN_AND_CARBON = {"H": (-1, 1), "C": (-4, 4)}
"""States that matter in crystals, where pymatgen lists those of molecules too."""


@cache
def oxidation_states(symbol: str) -> tuple[int, ...]:
    """Return the oxidation states that an element may have in a crystal, without zero."""
    if symbol in HYDROGEN_AND_CARBON:
        return HYDROGEN_AND_CARBON[symbol]
    element = Element(symbol)
    return tuple(sorted({*element.common_oxidation_states, *element.icsd_oxidation_states} - {0}))


@cache
def electronegativity(symbol: str) -> float:
    """Pauling electronegativity, NaN where there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns of noble gases
        return float(Element(symbol).X)


@cache
def _is_metal(symbol: str) -> bool:
    return symbol not in group_elements("nonmetals")


@dataclass(frozen=True)
class Rules:
    """Which rules a candidate must obey.

    Attributes:
        neutral: Oxidation states of the elements can add up to zero.
        ordered: In such a choice every cation is less electronegative than every anion.
        alloys: Compounds of metals alone pass both.
    """

    neutral: bool = True
    ordered: bool = True
    alloys: bool = True

    def allow(self, elements: Sequence[str], counts: Sequence[int]) -> bool:
        """Tell whether a compound obeys the rules.

        Args:
            elements: One of each slot.
            counts: Atoms of each slot per formula unit.
        """
        if not (self.neutral or self.ordered):
            return True
        return _allowed(tuple(elements), tuple(counts), self)


@lru_cache(maxsize=2**16)
def _allowed(elements: tuple[str, ...], counts: tuple[int, ...], rules: Rules) -> bool:
    if rules.alloys and all(map(_is_metal, elements)):
        return True
    negativity = [electronegativity(symbol) for symbol in elements]
    options = [oxidation_states(symbol) for symbol in elements]

    def search(place: int, charge: int, cations: float, anions: float) -> bool:
        """Whether the slots from `place` on can complete a choice: highest cation and lowest anion so far."""
        if place == len(elements):
            return charge == 0 or not rules.neutral
        for state in options[place]:
            value = negativity[place]
            highest = max(cations, value) if state > 0 else cations
            lowest = min(anions, value) if state < 0 else anions
            if rules.ordered and (isnan(value) or highest >= lowest):
                continue
            if search(place + 1, charge + state * counts[place], highest, lowest):
                return True
        return False

    return search(0, 0, float("-inf"), float("inf"))
