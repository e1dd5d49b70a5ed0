"""The rows of the study `debye`: heat capacities, folds, densities of states, and crystals with measured values."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cloud_hf.data.assignment import composition_name, folds_by_crystal
from cloud_hf.data.kept_strings import ONE_WORKER, Workers
from cloud_hf.errors import StudyError, TableError
from cloud_hf.studies.common.arguments import one_table
from cloud_hf.studies.common.crystals import Crystals, read_crystals, with_atoms
from cloud_hf.studies.common.heat_capacities import check_heat_capacities
from cloud_hf.studies.debye.known import COMPOUNDS, ELEMENTS, Known
from cloud_hf.studies.debye.phonons import Density, phonon_heat_capacity, read_densities

__all__ = ["KNOWN", "TABLE", "DebyeRows", "read_debye_rows", "table_of"]

Numbers = NDArray[np.float64]
Indices = NDArray[np.int64]

TABLE = "heat_capacity_structures_train.parquet"
"""What is looked for in a folder."""

KNOWN: tuple[Known, ...] = (*COMPOUNDS, *ELEMENTS)

TEMPERATURE = 300.0
"""Of the labels, K."""


@dataclass(frozen=True)
class DebyeRows:
    """Labelled crystals, n in number, and those with measured values, k in number.

    The table of crystals is `crystals`; beside it stands what no other study has: folds of the labelled rows alone, and
    densities of states, which are no labels.

    Attributes:
        crystals: The labelled crystals, then the measured ones, whose label is NaN; n + k in number.
        label: Name of the label column: Cv at 300 K in J/(mol cell K).
        fold: Fold of the labelled crystals, shape (n,); crystals that the paper's string cannot tell apart share one.
        densities: Phonon density of states of the labelled crystals, None where there is no usable one.
        match: |Cv at 300 K of the density of states - label| in J/(mol atom K), NaN without a density; shape (n,).
        names: Composition names of all crystals.
        unlabelled: Rows of the table with a string and no label.
    """

    crystals: Crystals
    label: str
    fold: Indices
    densities: list[Density | None]
    match: Numbers
    names: list[str]
    unlabelled: int

    def __len__(self) -> int:
        return len(self.fold)

    @property
    def labels(self) -> Numbers:
        """Cv at 300 K in J/(mol cell K), shape (n,)."""
        return self.crystals.labels[self.label][: len(self)]

    @property
    def n_atoms(self) -> Numbers:
        """Atoms per primitive cell, shape (n,)."""
        return self.crystals.n_atoms[: len(self)]

    def split(self, fold: int) -> tuple[Indices, Indices, Indices]:
        """Return rows to train on, rows to predict, and those of the measured crystals that are not trained on."""
        train, test = np.flatnonzero(self.fold != fold), np.flatnonzero(self.fold == fold)
        seen = {self.names[row] for row in train}
        known = [row for row in range(len(self), len(self.names)) if self.names[row] not in seen]
        return train, test, np.array(known, dtype=np.int64)


def table_of(data: list[str]) -> Path:
    """Return the one table that `--data` names, itself or by its folder.

    Raises:
        StudyError: Several, or a folder without it.
    """
    path = one_table(data)
    if path.is_dir():
        if not (path / TABLE).is_file():
            raise StudyError(f"the folder has no {TABLE}; name the table itself with --data.", source=str(path))
        return path / TABLE
    return path


def read_debye_rows(
    path: Path, label: str, columns: tuple[str, str] | None, folds: int, seed: int, cache: Path,
    workers: Workers = ONE_WORKER, n_atoms: str | None = None,
) -> DebyeRows:  # fmt: skip
    """Read and check the table, give each crystal its fold, and add the crystals with measured values.

    Args:
        path: Table of crystals.
        label: Column of Cv at 300 K in J/(mol cell K).
        columns: Wavenumbers (1/cm) and density of states, lists of numbers; None: not there.
        folds: Number of folds.
        seed: Seed of the folds.
        cache: Folder that keeps the strings.
        workers: Processes that encode crystals.
        n_atoms: Column of atoms per primitive cell; None: as the strings say.

    Raises:
        TableError: A column is missing or holds something else.
        StudyError: Too few labelled crystals for the folds.
    """
    table = read_crystals(path, [label], cache, workers)
    crystals = table.labelled(label)
    if not len(crystals):
        raise StudyError(
            f"column {label!r} is empty in all of {len(table)} rows; name another with --label.", source=str(path)
        )
    crystals = with_atoms(crystals, n_atoms, path)
    check_heat_capacities(crystals.labels[label], crystals.n_atoms, crystals.ids, label, path)
    densities = _densities(crystals.table, columns, path)
    names = [composition_name(scope) for scope in crystals.scopes]
    if folds > len(set(names)):
        raise StudyError(
            f"{len(set(names))} distinct crystals do not make {folds} folds; lower --folds.", source=str(path)
        )
    fold = folds_by_crystal(crystals.scopes, folds, seed)
    per_atom = crystals.labels[label] / crystals.n_atoms
    match = [
        np.nan if density is None else abs(phonon_heat_capacity(density[0], density[1], TEMPERATURE) - value)
        for density, value in zip(densities, per_atom, strict=True)
    ]
    known = Crystals.of_scopes([known.name for known in KNOWN], [known.scope for known in KNOWN])
    return DebyeRows(
        crystals=crystals.followed_by(known),
        label=label,
        fold=fold,
        densities=densities,
        match=np.array(match, dtype=float),
        names=[*names, *(composition_name(known.scope) for known in KNOWN)],
        unlabelled=len(table) - len(crystals),
    )


def _densities(table: pd.DataFrame, columns: tuple[str, str] | None, path: Path) -> list[Density | None]:
    if columns is None:
        return [None] * len(table)
    for flag, column in zip(("--wavenumber", "--density"), columns, strict=True):
        if column not in table.columns:
            raise TableError(
                f"there is no column {column!r}; name it with {flag}, or leave the phonons out with "
                f"--no-phonons. The table has {', '.join(map(str, table.columns))}.",
                source=str(path),
            )
    densities = read_densities(*(table[column] for column in columns))
    if not any(density is not None for density in densities):
        raise TableError(
            f"no row of {columns[0]!r} and {columns[1]!r} holds a density of states (two lists of the same "
            "length, wavenumbers in 1/cm that increase from 0); leave the phonons out with --no-phonons.",
            source=str(path),
        )
    return densities
