"""Reduced formulas as pymatgen writes them, without its objects, which take a twentieth of an encoding."""

import math
import warnings
from functools import cache, lru_cache

from pymatgen.core import Composition, Element

__all__ = ["reduced_formula"]

Amounts = tuple[tuple[str, float], ...]

_POLYANION = 1.65
"""Two elements whose electronegativities differ by less stand together in brackets, e.g. `(PO4)2` (pymatgen)."""


def reduced_formula(amounts: dict[str, float]) -> str:
    """Return pymatgen's reduced formula, e.g. `Al2O3`.

    Args:
        amounts: Amount of each element, in any order.
    """
    if not all(amount.is_integer() and amount > 0 for amount in amounts.values()):
        return _formula_of_parts(tuple(amounts.items()))
    divisor = math.gcd(*map(int, amounts.values()))
    return _formula(tuple([(element, int(amount) // divisor) for element, amount in amounts.items()]))


@lru_cache(maxsize=2**14)
def _formula_of_parts(amounts: Amounts) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns of noble gases, which have no electronegativity
        return Composition(dict(amounts)).reduced_formula


@lru_cache(maxsize=2**14)
def _formula(counts: tuple[tuple[str, int], ...]) -> str:
    """The formula of whole numbers without a common divisor."""
    ordered = sorted(counts, key=_place)
    bracket = ""
    if len(ordered) >= 3 and _electronegativity(ordered[-1][0]) - _electronegativity(ordered[-2][0]) < _POLYANION:
        (one, n_one), (other, n_other) = ordered[-2:]
        times = math.gcd(n_one, n_other)
        if times > 1:
            ordered = ordered[:-2]
            bracket = f"({_counted(one, n_one // times)}{_counted(other, n_other // times)}){times}"
    formula = "".join([_counted(element, count) for element, count in ordered]) + bracket
    return Composition.special_formulas.get(formula, formula)


def _counted(element: str, count: int) -> str:
    return element if count == 1 else f"{element}{count}"


def _place(pair: tuple[str, int]) -> tuple[float, str]:
    """Elements by rising electronegativity, those without one last, equal ones by the alphabet."""
    value = _electronegativity(pair[0])
    return math.inf if math.isnan(value) else value, pair[0]


@cache
def _electronegativity(element: str) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(Element(element).X)
