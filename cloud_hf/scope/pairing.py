"""Which element sits where: from a `composition` or `full` string to the `sites` string of the same crystal.

A `composition` string lists the occupied positions once each and the atomic fractions to two decimals; which element
fills which position, and how often, is not written. Three facts nearly fix it:

- Multiplicities of an element's orbits add up to its number of atoms, and positions without free coordinates are
  filled once.
- Encoders list the positions as they meet them while going through the elements in the order of the composition.
- Cells are small: the smallest number of atoms, then of orbits, that the text allows is nearly always the true one.

Of the paper's heat-capacity strings, where both symmetry searches agree on the space group, the result is the crystal's
own canonical string for 95 in 100 (`tests/scope/test_pairing.py`).
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence

from cloud_hf.errors import ScopeError
from cloud_hf.scope._relabelings import WyckoffTable, wyckoff_table
from cloud_hf.scope.grammar import Scope, parse

__all__ = ["sites_scope"]

TOLERANCES = (0.0051, 0.0151)
"""Largest deviation of a fraction from a whole number of atoms: rounding, then strings whose fractions are worse."""

MAX_MULTIPLE = 6
"""Atoms tried, in units of those that filling every listed position once needs, ..."""

MAX_ATOMS = 96
"""... and at least up to this number per conventional cell."""

MAX_STEPS = 20_000
"""Of the search through assignments; the best one found until then is taken."""

Filling = tuple[tuple[int, ...], ...]
"""How often each element fills each listed position."""


def sites_scope(scope: str | Scope) -> Scope:
    """Return the canonical `sites` string of a crystal known by a string of any grammar.

    Args:
        scope: SCOPE string, or what `parse` made of it.

    Returns:
        A `Scope` of the grammar `sites`: exact for `sites`, the most plausible one for `composition` and for a `full`
        string that does not tell how many primitive cells it lists (`Scope.orbits`).

    Raises:
        ScopeError: No crystal with whole atoms on these positions has these fractions (mixed sites, the unknown
            element X), or a string that no crystal has.
    """
    scope = parse(scope) if isinstance(scope, str) else scope
    pairs = scope.orbits
    if pairs is None:
        pairs = _paired(scope) if scope.rounded_fractions is not None else _listed(scope)
    if pairs is None:
        raise ScopeError(
            f"{scope}: which element fills which Wyckoff position does not follow from the string; give a `sites` "
            "string or the structure."
        )
    sites = Scope("sites", scope.space_group, tuple(word for _, word in pairs), tuple(element for element, _ in pairs))
    return sites.canonical()


def _listed(scope: Scope) -> tuple[tuple[str, str], ...]:
    """Orbits of a `full` string: of the conventional cell if the numbers of sites allow, else of a primitive one."""
    counts = Counter(zip(scope.occupants, scope.wyckoff, strict=True))
    table = wyckoff_table(scope.space_group)
    orbits = {pair: count * table.lattice_points // int(pair[1][:-1]) for pair, count in counts.items()}
    cells = 1 if math.gcd(*orbits.values()) % table.lattice_points else table.lattice_points
    return tuple(pair for pair, times in orbits.items() for _ in range(times // cells))


def _paired(scope: Scope) -> tuple[tuple[str, str], ...] | None:
    """(element, Wyckoff word) of every orbit of the most plausible assignment, None if there is none."""
    fractions = scope.rounded_fractions or ()
    if "X" in scope.occupants:
        return None
    table = wyckoff_table(scope.space_group)
    fillings = next(filter(None, (_fillings(scope, fractions, table, tolerance) for tolerance in TOLERANCES)), None)
    if fillings is None:
        return None
    best = min(fillings, key=_implausibility)
    return tuple(
        (element, word)
        for element, row in zip(scope.occupants, best, strict=True)
        for word, times in zip(scope.wyckoff, row, strict=True)
        for _ in range(times)
    )


def _fillings(scope: Scope, fractions: Sequence[float], table: WyckoffTable, tolerance: float) -> list[Filling]:
    """All assignments for the smallest number of atoms that has one."""
    letters = [table.words.index(word) for word in scope.wyckoff]
    sizes = [table.multiplicities[letter] for letter in letters]
    free = [table.free[letter] > 0 for letter in letters]
    smallest = sum(sizes)
    largest = max(smallest * MAX_MULTIPLE, MAX_ATOMS) if any(free) else smallest
    steps = itertools.count()
    for n_atoms in range(smallest, largest + 1, math.gcd(*sizes)):
        fillings = [
            filling
            for atoms in _whole_atoms(fractions, n_atoms, tolerance, steps)
            for filling in _assignments(atoms, sizes, free, steps)
        ]
        if fillings or next(steps) > MAX_STEPS:
            return fillings
    return []


def _whole_atoms(
    fractions: Sequence[float], n_atoms: int, tolerance: float, steps: Iterator[int]
) -> Iterator[tuple[int, ...]]:
    """Numbers of atoms of each element that add up and round to the fractions."""
    choices = []
    for fraction in fractions:
        low = math.ceil((fraction - tolerance) * n_atoms)
        high = math.floor((fraction + tolerance) * n_atoms)
        choices.append(range(max(1, low), high + 1))
        if not choices[-1]:
            return
    for atoms in itertools.product(*choices):
        if next(steps) > MAX_STEPS:
            return
        if sum(atoms) == n_atoms:
            yield atoms


def _assignments(
    atoms: Sequence[int], sizes: Sequence[int], free: Sequence[bool], steps: Iterator[int]
) -> Iterator[Filling]:
    """Every way to give the elements their atoms that fills each position, those without free coordinates once."""

    def rows(left: int, position: int, used: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if next(steps) > MAX_STEPS:
            return
        if position == len(sizes):
            if left == 0:
                yield ()
            return
        most = left // sizes[position]
        if not free[position]:
            most = min(most, 1 - used[position])
        for times in range(most, -1, -1):
            for rest in rows(left - times * sizes[position], position + 1, used):
                yield (times, *rest)

    def fill(element: int, used: tuple[int, ...]) -> Iterator[Filling]:
        if element == len(atoms):
            if all(used):
                yield ()
            return
        for row in rows(atoms[element], 0, used):
            for rest in fill(element + 1, tuple(map(sum, zip(used, row, strict=True)))):
                yield (row, *rest)

    yield from fill(0, (0,) * len(sizes))


def _implausibility(filling: Filling) -> tuple[int, int, int]:
    """Inversions of the order in which positions are first met, then orbits, then how late new positions come."""
    met: dict[int, int] = {}
    orbits = 0
    for row in filling:
        for position, times in enumerate(row):
            if times:
                met.setdefault(position, orbits)
                orbits += times
    order = list(met)
    inversions = sum(later < earlier for index, later in enumerate(order) for earlier in order[:index])
    return inversions, orbits, sum(met.values())
