"""Candidates to rows: predictions with their distributions, the distance to the hull, the chance to meet all wants."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cloud_hf.data.inputs import Item
from cloud_hf.errors import CheckpointError, CloudError
from cloud_hf.inference.distribution import Distribution, predict_distributions
from cloud_hf.inference.prediction import Predictors
from cloud_hf.screening.candidates import Candidate
from cloud_hf.screening.hull import KnownPhases
from cloud_hf.screening.known import KnownStrings
from cloud_hf.screening.prototypes import Prototype
from cloud_hf.screening.wants import HULL, Want

__all__ = ["DECOMPOSITION", "HULL_UNIT", "INCOMPLETE", "LARGEST_DROP", "PROBABILITY", "Evaluator", "no_hull"]

PROBABILITY = "probability"
"""Column of the chance to meet all wants."""

DECOMPOSITION = "decomposition"
INCOMPLETE = "hull_incomplete"
"""Column that says that phases must be missing from the hull at this composition."""

LARGEST_DROP = 0.25
"""eV/atom. A candidate this far below every known phase means that phases are missing there.

It is credited with no more than this, so that the size of a gap in the hull ranks no candidate before others. It stays
in the list, because known stable crystals are more frequent among such candidates than among others.
"""
HULL_UNIT = "eV/atom"

Numbers = NDArray[np.float64]


def _gives(predictors: Predictors, head: str) -> bool:
    """Whether some model has a head, auxiliary ones included."""
    return any(head in pipeline.units for pipeline in predictors.pipelines)


def no_hull(phases: KnownPhases, names: Iterable[str]) -> CheckpointError:
    """The error of a model that predicts no energies of the phases' vintage; `names`: what it predicts."""
    return CheckpointError(
        f"{HULL} needs the head {phases.head!r}, of the vintage of the known phases ({phases.vintage}); this model "
        f"gives {', '.join(names)}."
    )


class Evaluator:
    """Predicts candidates and scores them.

    Args:
        predictors: The models.
        wants: What is wanted, of quantities that the models give, or `energy_above_hull`.
        prototypes: The prototypes of the candidates.
        phases: Known phases; None: no distance to the hull.
        known: Strings of known crystals.
        temperature: K, for thermal properties.
        batch_size: Strings per forward pass.

    Raises:
        CheckpointError: The distance to the hull is wanted, and no model predicts energies of the phases' vintage.
    """

    def __init__(
        self,
        predictors: Predictors,
        wants: Sequence[Want],
        prototypes: Sequence[Prototype],
        phases: KnownPhases | None = None,
        known: KnownStrings | None = None,
        temperature: float = 300.0,
        batch_size: int = 256,
    ) -> None:
        names = {want.quantity for want in wants} - {HULL}
        self.wants, self.prototypes = list(wants), list(prototypes)
        self.phases = phases if any(want.quantity == HULL for want in wants) else None
        if self.phases is not None:
            if not _gives(predictors, self.phases.head):
                raise no_hull(self.phases, predictors.units)
            names.add(self.phases.head)
        self.predictors = predictors.giving(names)
        self.known, self.temperature, self.batch_size = known, temperature, batch_size
        self._names = names
        # elements of the training rows of each wanted head, where they are recorded
        self._trained = {
            name: target.elements
            for pipeline, shown in self.predictors.parts
            if pipeline.calibration is not None
            for name, target in pipeline.calibration.targets.items()
            if name in names and name in shown and target.elements
        }

    @property
    def columns(self) -> dict[str, str]:
        """Columns of the rows and their dtypes."""
        columns = {
            "prototype": "object", "formula": "object", "elements": "object", "space_group": "Int64", "scope": "object",
            "n_atoms": "Int64", "known": "boolean", PROBABILITY: "float64",
        }  # fmt: skip
        columns |= {f"P({want})": "float64" for want in self.wants} if len(self.wants) > 1 else {}
        for name, unit in self._recorded.items():
            columns |= {f"{name}{end} ({unit})": "float64" for end in ("", "_low", "_high")}
        if self.phases is not None:
            columns |= {f"{HULL}{end} ({HULL_UNIT})": "float64" for end in ("", "_low", "_high")}
            columns |= {DECOMPOSITION: "object", INCOMPLETE: "boolean"}
        return columns | {"unknown_elements": "object", "log_probability": "float64", "error": "object"}

    @property
    def _recorded(self) -> dict[str, str]:
        """Units of the quantities that rows hold: what is wanted, and the scalars that come with it at no cost."""
        units: dict[str, str] = {}
        for pipeline, shown in self.predictors.parts:
            scalars = set(pipeline.settings.target_names)
            units |= {name: unit for name, unit in shown.items() if name in self._names or name in scalars}
        return units

    def rows(self, candidates: Sequence[Candidate]) -> pd.DataFrame:
        """Predict candidates and return a row for each, in order."""
        described, columns = self._described(candidates), self.columns
        table: dict[str, NDArray[Any]] = {
            name: np.full(len(candidates), np.nan, dtype=float)
            if kind == "float64"
            else np.full(len(candidates), None, dtype=object)
            for name, kind in columns.items()
            if name not in described
        }
        order = sorted(range(len(candidates)), key=lambda place: candidates[place].scope.count(" "))
        for start in range(0, len(order), self.batch_size):
            self._fill(table, candidates, order[start : start + self.batch_size])
        return pd.DataFrame(described | table, columns=list(columns)).astype(columns)

    def _described(self, candidates: Sequence[Candidate]) -> dict[str, Any]:
        scopes = [candidate.scope for candidate in candidates]
        kinds = [self.prototypes[candidate.prototype] for candidate in candidates]
        return {
            "prototype": [kind.name for kind in kinds],
            "formula": [kind.compound(candidate.elements) for kind, candidate in zip(kinds, candidates, strict=True)],
            "elements": [
                " ".join(f"{slot}={element}" for slot, element in zip(kind.slots, candidate.elements, strict=True))
                for kind, candidate in zip(kinds, candidates, strict=True)
            ],
            "space_group": [kind.space_group for kind in kinds],
            "scope": scopes,
            "n_atoms": [candidate.n_atoms for candidate in candidates],
            "known": [None] * len(scopes) if self.known is None else self.known.holds(scopes),
            "log_probability": [candidate.log_probability for candidate in candidates],
        }

    def _fill(self, table: dict[str, NDArray[Any]], candidates: Sequence[Candidate], places: Sequence[int]) -> None:
        items = [Item(candidates[p].scope, scope=candidates[p].scope, n_atoms=candidates[p].n_atoms) for p in places]
        try:
            features = self.predictors.collate(items)
        except CloudError as error:  # a string that a model cannot read: the others still have their rows
            if len(places) == 1:
                table["error"][places[0]] = str(error)
            else:
                for place in places:
                    self._fill(table, candidates, [place])
            return
        distributions = predict_distributions(self.predictors, features, self._names, self.temperature)
        filled: dict[str, Any] = {}
        for name, unit in self._recorded.items():
            filled |= _columns(name, unit, distributions[name])
        if self.phases is not None:
            hull = [self._hull(candidates[place]) for place in places]
            energies = np.array([energy for energy, _ in hull])
            distributions[HULL] = distributions[self.phases.head].shifted(-energies)
            filled |= _columns(HULL, HULL_UNIT, distributions[HULL])
            filled[DECOMPOSITION] = [text for _, text in hull]
            filled[INCOMPLETE] = distributions[HULL].values < -LARGEST_DROP
            distributions[HULL] = distributions[HULL].shifted(
                np.maximum(-LARGEST_DROP - distributions[HULL].values, 0.0)
            )
        chances = {str(want): distributions[want.quantity].within(want.low, want.high) for want in self.wants}
        filled[PROBABILITY] = np.prod(list(chances.values()), axis=0)
        if len(chances) > 1:
            filled |= {f"P({name})": values for name, values in chances.items()}
        filled["unknown_elements"] = [self._unknown(candidates[place].elements) for place in places]
        for name, values in filled.items():
            table[name][list(places)] = values

    def _hull(self, candidate: Candidate) -> tuple[float, str]:
        assert self.phases is not None  # noqa: S101
        place = self.phases.at(self.prototypes[candidate.prototype].amounts(candidate.elements))
        return place.energy, place.decomposition

    def _unknown(self, elements: Sequence[str]) -> str | None:
        """Name the elements that a wanted head has never seen."""
        parts = []
        for element in elements:
            heads = [name for name, known in self._trained.items() if element not in known]
            if heads:
                parts.append(f"{element}: {', '.join(heads)}")
        return "; ".join(parts) or None


def _columns(name: str, unit: str, distribution: Distribution) -> dict[str, Numbers]:
    low, high = distribution.ends()
    return {f"{name} ({unit})": distribution.values, f"{name}_low ({unit})": low, f"{name}_high ({unit})": high}
