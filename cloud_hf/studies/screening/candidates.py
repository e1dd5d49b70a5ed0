"""The candidates of a hidden family, what is known of each, and the hull as it was before the family was known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Composition

from cloud_hf.errors import StudyError
from cloud_hf.scope import parse
from cloud_hf.screening.candidates import Counts, Product
from cloud_hf.screening.hull import LARGEST_DIFFERENCE, KnownPhases
from cloud_hf.screening.known import KnownStrings
from cloud_hf.screening.prototypes import Prototype
from cloud_hf.studies.common.crystals import Crystals
from cloud_hf.studies.screening.rows import ENERGY

__all__ = ["STABLE", "STATUSES", "Background", "family_candidates"]

STABLE = 0.05
"""eV/atom above the hull, up to which a known crystal counts as one to be found."""

SAME_ENERGY = 0.01
"""eV/atom: a phase and a crystal of its formula that differ by less are one (two releases of one label differ by 0.002
on average)."""

STATUSES = {
    "stable": "known, at most 0.05 eV/atom above the hull",
    "unstable": "known, further above the hull",
    "unlabelled": "known, without an energy of this vintage",
    "unclear": "a phase of this formula is known, but not its structure",
    "unknown": "not known",
}
"""What can be known of a candidate."""

Formula = frozenset[tuple[str, int]]


@lru_cache(maxsize=2**17)
def _formula(text: str) -> Formula:
    """A formula as its elements and their smallest whole numbers."""
    return _reduced({name: round(amount) for name, amount in Composition(text).get_el_amt_dict().items()})


def _reduced(amounts: Mapping[str, int]) -> Formula:
    divisor = gcd(*amounts.values())
    return frozenset((name, amount // divisor) for name, amount in amounts.items())


@dataclass(frozen=True)
class Background:
    """What is known, with and without the hidden families.

    Attributes:
        phases: All known phases.
        before: Those that were known before the crystals of the families.
        removed: Formulas whose phase was a hidden crystal.
        energies: Lowest energy of each labelled string, eV/atom.
        settled: Formulas of known phases whose structure is among the labelled crystals.
        known: All known strings.
    """

    phases: KnownPhases
    before: KnownPhases
    removed: int
    energies: dict[str, float]
    settled: set[Formula]
    known: KnownStrings

    @classmethod
    def of(cls, crystals: Crystals, hidden: NDArray[np.bool_], phases: KnownPhases) -> "Background":
        """Take the hidden crystals out of the phases.

        A phase whose energy a hidden crystal has is that crystal: the lowest energy of another labelled crystal of the
        formula takes its place, if there is one.

        Args:
            crystals: All labelled crystals, n in number.
            hidden: Which of them belong to a family, shape (n,).
            phases: All known phases.

        Raises:
            StudyError: The labels are of another vintage than the phases.
        """
        formulas = [_formula(str(parse(scope).formula)) for scope in crystals.scopes]
        known = {_formula(name): (name, energy) for name, energy in phases.energies.items()}
        energies: dict[str, float] = {}
        lowest: tuple[dict[Formula, float], dict[Formula, float]] = ({}, {})
        rows = zip(crystals.scopes, formulas, crystals.labels[ENERGY].tolist(), hidden.tolist(), strict=True)
        for scope, formula, energy, is_hidden in rows:
            if not np.isnan(energy):
                energies[scope] = min(energy, energies.get(scope, energy))
                part = lowest[is_hidden]
                part[formula] = min(energy, part.get(formula, energy))
        both = {key: min(part[key] for part in lowest if key in part) for key in {*lowest[0], *lowest[1]}}
        gaps = [abs(energy - known[key][1]) for key, energy in both.items() if key in known]
        if not gaps or float(np.median(gaps)) > LARGEST_DIFFERENCE:
            raise StudyError(
                f"the labels of {ENERGY} are not of the vintage of the known phases ({phases.vintage}), so that one "
                "hull cannot hold both."
            )
        settled = {key for key, energy in both.items() if key in known and energy <= known[key][1] + SAME_ENERGY}
        before = dict(phases.energies)
        removed = 0
        for key, energy in lowest[True].items():
            if key in known and energy <= known[key][1] + SAME_ENERGY:
                removed += 1
                del before[known[key][0]]
                if key in lowest[False]:
                    before[known[key][0]] = lowest[False][key]
        earlier = KnownPhases([*before], [*before.values()], phases.vintage, phases.head)
        strings = KnownStrings.bundled().and_strings(crystals.scopes)
        return cls(phases, earlier, removed, energies, settled, strings)

    def has_phase(self, formula: Formula) -> bool:
        """Whether a phase of a formula is known."""
        return formula in self._formulas

    @property
    def _formulas(self) -> set[Formula]:
        return _formulas_of(self.phases)


@lru_cache(maxsize=2)
def _formulas_of(phases: KnownPhases) -> set[Formula]:
    return {_formula(name) for name in phases.energies}


def family_candidates(
    prototype: Prototype, background: Background, most: int, seed: int, labelled: Sequence[str]
) -> dict[str, Any]:
    """Enumerate a family as a screening does, and tell what is known of each candidate.

    Args:
        prototype: Of the family; each slot takes all stable elements, under the usual rules of charge.
        background: What is known.
        most: Unknown candidates to draw at random; all others of a known status are kept.
        seed: Of the draw.
        labelled: Strings of the family that have a label.

    Returns:
        As JSON can hold it: `counts` of the products, in words; `statuses`, how many candidates have each status;
        `against_rules`, how many known stable crystals the enumeration leaves out; and of each kept candidate
        `scope`, `formula`, `status`, `distance` (known energy above the hull of all phases, None if not known), `hull`
        (energy of the hull before the family, eV/atom) and `competing` (the phases that span it there).
    """
    product = Product.of([prototype], {}, limit=None)
    counts = Counts()
    names: list[tuple[str, ...]] = []
    scopes: list[str] = []
    for candidate in product.candidates(counts=counts):
        names.append(candidate.elements)
        scopes.append(candidate.scope)
    formulas = [_reduced(prototype.amounts(elements)) for elements in names]
    distances = [
        None if scope not in background.energies else _distance(prototype, elements, scope, background)
        for scope, elements in zip(scopes, names, strict=True)
    ]
    is_known = background.known.holds(scopes)
    statuses = [
        _status(formula, distance, known, background)
        for formula, distance, known in zip(formulas, distances, is_known.tolist(), strict=True)
    ]
    of_status = {status: np.flatnonzero([one == status for one in statuses]) for status in STATUSES}
    drawn = np.random.default_rng(seed).permutation(of_status["unknown"])[:most]
    chosen = np.sort(np.concatenate([of_status["stable"], of_status["unstable"], drawn]))
    hulls = [background.before.at(prototype.amounts(names[place])) for place in chosen]
    enumerated = {*scopes}
    missed = [scope for scope in dict.fromkeys(labelled) if scope in background.energies and scope not in enumerated]
    return {
        "counts": str(counts),
        "statuses": {status: len(places) for status, places in of_status.items()},
        "against_rules": sum(_above(scope, background) <= STABLE for scope in missed),
        "scope": [scopes[place] for place in chosen],
        "formula": [prototype.compound(names[place]) for place in chosen],
        "status": [statuses[place] for place in chosen],
        "distance": [distances[place] for place in chosen],
        "hull": [hull.energy for hull in hulls],
        "competing": [hull.decomposition for hull in hulls],
    }


def _status(formula: Formula, distance: float | None, known: bool, background: Background) -> str:
    if distance is not None:
        return "stable" if distance <= STABLE else "unstable"
    if known:
        return "unlabelled"
    return "unclear" if background.has_phase(formula) and formula not in background.settled else "unknown"


def _distance(prototype: Prototype, elements: Sequence[str], scope: str, background: Background) -> float:
    return background.energies[scope] - background.phases.at(prototype.amounts(elements)).energy


def _above(scope: str, background: Background) -> float:
    amounts = {name: float(number) for name, number in _formula(str(parse(scope).formula))}
    return background.energies[scope] - background.phases.at(amounts).energy
