"""Cross-checks: what the sites of a cell hold against the formula that the source gives beside them."""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from math import gcd

from pymatgen.core import Element

__all__ = ["formula_text", "mismatch", "parse_formula"]

_PART = re.compile(r"([A-Z][a-z]?)\s*(\d+(?:\.\d*)?|\.\d+)?(?:\(\d+\))?[\s,]*")
_CHARGE = re.compile(r"[\s,]+\d*[+-]$")

_DIATOMIC = frozenset({"H", "N", "O", "F", "Cl"})
"""Elements whose formula unit may be a molecule of two atoms."""
_PEROXIDES = frozenset({"H", "Li", "Na", "K", "Rb", "Cs"})
"""Elements A whose peroxide has the formula unit A2O2, which is not reduced to AO."""

_TRACE = 0.005
"""Share of the atoms below which an element may be named in a formula and absent from the sites."""
_LOOSE, _DISORDERED = 0.01, 0.06
"""Relative difference that rounding of occupancies explains, and that of elements on partially occupied sites."""


@lru_cache(maxsize=4096)
def parse_formula(text: str) -> dict[str, tuple[float, float]] | None:
    """Read a sum formula such as `C2 H6.5 O` or `Al2O3`.

    Returns:
        Amount of each element and the unit of its last digit (0 for whole numbers); D and T count as H. `None` for
        what is no sum formula (brackets, unknown symbols, a question mark).
    """
    text = _CHARGE.sub("", text.strip())
    amounts: dict[str, tuple[float, float]] = {}
    at = 0
    while at < len(text):
        match = _PART.match(text, at)
        if match is None:
            return None
        at = match.end()
        symbol, digits = match.groups()
        symbol = {"D": "H", "T": "H"}.get(symbol, symbol)
        if not Element.is_valid_symbol(symbol):
            return None
        digits = digits or "1"
        before, unit = amounts.get(symbol, (0.0, 0.0))
        decimals = len(digits.partition(".")[2])
        amounts[symbol] = (before + float(digits), max(unit, 10.0**-decimals if decimals else 0.0))
    amounts = {symbol: amount for symbol, amount in amounts.items() if amount[0] > 0}
    return amounts or None


def formula_text(amounts: Mapping[str, float]) -> str:
    """Return amounts as messages write them, e.g. `Al4 O6`."""
    return " ".join(f"{element}{round(amount, 3):g}" for element, amount in amounts.items())


def mismatch(
    amounts: Mapping[str, float],
    formula: Mapping[str, tuple[float, float]],
    units: float | None = None,
    disordered: Iterable[str] = (),
) -> str | None:
    """Compare the amounts in a cell with a formula.

    Args:
        amounts: Atoms of each element in the cell.
        formula: As `parse_formula` gives it.
        units: Formula units per cell, where the source says so.
        disordered: Elements on partially occupied sites, whose amounts are refined or declared more freely.

    Returns:
        The difference in words, naming both formulas; `None` where rounding or disorder explains it.
    """
    said = {element: amount for element, (amount, _) in formula.items()}
    trace = _TRACE * sum(said.values())
    missing = [element for element, amount in said.items() if element not in amounts and amount > trace]
    extra = [element for element in amounts if element not in formula]
    if missing:
        return f"{_both(amounts, said)}: no site holds {', '.join(missing)}"
    if extra:
        return f"{_both(amounts, said)}: it has no {', '.join(extra)}"
    common = [element for element in formula if element in amounts]
    scale = sum([amounts[element] for element in common]) / sum([said[element] for element in common])
    loose = set(disordered)
    for element in common:
        amount, unit = formula[element]
        allowed = scale * 0.51 * unit + (_DISORDERED if element in loose else _LOOSE) * amounts[element] + 0.002
        if abs(amounts[element] - scale * amount) > allowed:
            return _both(amounts, said)
    if units is None:
        return None
    is_whole = not any(unit for _, unit in formula.values())
    divisor = gcd(*map(round, said.values())) if is_whole else 1
    slack = 0.03 + (0.05 if loose else 0.0) + max((0.5 * unit / amount for amount, unit in formula.values()), default=0)
    counts = [scale, scale * divisor]
    if divisor > 1 and _is_pair(said):
        counts.append(scale * divisor / 2)
    if any(abs(count / units - 1) <= slack for count in counts):
        return None
    return f"{_both(amounts, said)}, {units:g} times in the cell"


def _is_pair(said: Mapping[str, float]) -> bool:
    """Whether the formula unit may be twice the reduced formula: O2, Na2O2."""
    if len(said) == 1:
        return said.keys() <= _DIATOMIC
    return len(set(said.values())) == 1 and "O" in said and said.keys() - {"O"} <= _PEROXIDES and len(said) == 2


def _both(amounts: Mapping[str, float], said: Mapping[str, float]) -> str:
    return f"the sites hold {formula_text(amounts)}, the formula says {formula_text(said)}"
