"""The known crystals that are most like the one on the page, with their values from databases."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cloud_hf.data.inputs import Item
from cloud_hf.errors import CheckpointError, CloudError
from cloud_hf.inference.api import EMBEDDING_HEAD
from cloud_hf.inference.fast_model import FastPredictor
from cloud_hf.inference.prediction import Predictors, model_path
from cloud_hf.screening.known_crystals import vectors_of
from cloud_hf.screening.search import Collection, nearest, same_first

__all__ = ["COLUMNS", "NearestKnown", "Neighbour"]

SHOWN = 6
"""Crystals on the page."""

COLUMNS: dict[str, tuple[int, dict[str, str]]] = {
    "Formation energy (eV/atom)": (
        2,
        {
            "formation_energy_per_atom (eV/atom)": "2021",
            "mpts52_formation_energy (eV/atom)": "2022",
            "megnet2018_e_form (eV/atom)": "2018",
        },
    ),
    "Above hull (eV/atom)": (3, {"energy_above_hull (eV/atom)": ""}),
    "Band gap (eV)": (2, {"band_gap (eV)": "2021", "megnet2018_gap_pbe (eV)": "2018"}),
    "Bulk modulus (GPa)": (0, {"bulk_modulus (GPa)": ""}),
    "Shear modulus (GPa)": (0, {"shear_modulus (GPa)": ""}),
    "Heat capacity at 300 K (J/(mol atom K))": (1, {"heat_capacity_per_atom_300K (J/(mol atom K))": ""}),
}
"""For each quantity shown: its decimals, and table columns in order of preference with their release year; the first
that has a value is shown."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A known crystal that is like the one that was asked about.

    Attributes:
        name: Its id in its source.
        formula: Reduced formula.
        space_group: Short Hermann-Mauguin symbol.
        similarity: Cosine of the two vectors.
        same: Whether it has the very string that was asked about.
        values: Its known values as text and the year of their release, by the names of `COLUMNS`.
    """

    name: str
    formula: str
    space_group: str
    similarity: float
    same: bool
    values: dict[str, tuple[str, str]]

    @property
    def url(self) -> str | None:
        """Its page at the Materials Project; None if it is not from there."""
        return f"https://materialsproject.org/materials/{self.name}" if self.name.startswith("mp-") else None


class NearestKnown:
    """Finds the known crystals that are nearest to a string.

    Args:
        predictor: The model that gave the vectors of the known crystals.
        known: They.
    """

    def __init__(self, predictor: FastPredictor, known: Collection) -> None:
        self._predictor, self._known = predictor, known
        if known.compact is None:
            raise CloudError("the collection has no vectors")
        self._compact, self._table = known.compact, known.compact.table

    @classmethod
    def bundled(cls, predictors: Predictors) -> "NearestKnown | None":
        """Return the known crystals of the package; None where their vectors are not of the bundled model.

        Args:
            predictors: Of the bundled model.
        """
        known = Collection.known()
        made = (pipeline for pipeline in predictors.pipelines if isinstance(pipeline, FastPredictor))
        predictor = next(
            (pipeline for pipeline in made if EMBEDDING_HEAD in (pipeline.settings.target_names or ())), None
        )
        try:
            folder = model_path("default", EMBEDDING_HEAD)
        except CheckpointError:
            return None
        if predictor is None or known.compact is None or not known.compact.fits(folder):
            return None
        return cls(predictor, known)

    def __len__(self) -> int:
        return len(self._known)

    def __call__(self, item: Item) -> list[Neighbour]:
        """Return the nearest, the crystal itself first if it is known.

        Args:
            item: With its canonical string.
        """
        scope = item.scope or ""
        query = self._compact.project(vectors_of(self._predictor, [scope]))
        ((places, cosines),) = same_first([scope], self._known, *nearest(query, self._table, SHOWN))
        neighbours = []
        for place, cosine in zip(places, cosines, strict=True):
            row: dict[str, Any] = {str(name): value for name, value in self._known.labels.iloc[place].items()}
            same = self._known.scopes[place] == scope
            neighbours.append(
                Neighbour(self._known.sources[place], row["formula"], row["space_group"], cosine, same, _values(row))
            )
        return neighbours


def _values(row: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    values = {}
    for title, (places, columns) in COLUMNS.items():
        name = next((name for name in columns if not pd.isna(row[name])), None)
        if name is not None:
            values[title] = (f"{row[name]:z.{places}f}", columns[name])
    return values
