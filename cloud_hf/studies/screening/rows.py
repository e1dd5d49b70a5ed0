"""Labelled crystals of the study, which of them belong to a hidden family, and what is learned from the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cloud_hf.data.kept_strings import ONE_WORKER, Workers
from cloud_hf.data.tables import numeric_column, read_table
from cloud_hf.errors import ScopeError, StudyError
from cloud_hf.scope import parse
from cloud_hf.screening.prototypes import Prototype, bundled_prototypes, prototype_of_scope, slot_maps
from cloud_hf.studies.common.crystals import Crystals, read_crystals

__all__ = ["BULK", "ENERGY", "GAP", "UNITS", "families_of", "family_prototypes", "read_labelled"]

ENERGY, GAP, BULK = "formation_energy", "band_gap", "bulk_modulus"
UNITS = {ENERGY: "eV/atom", GAP: "eV", BULK: "GPa"}
"""What the model learns, and in which units the tables must hold it."""

SOFTEST = 0.5
"""GPa: a bulk modulus below is that of a crystal that is not stable, and no label."""


@dataclass(frozen=True)
class _Column:
    """A label column: stem of the name of its table, and its name there."""

    table: str
    name: str

    @classmethod
    def of(cls, text: str) -> "_Column":
        table, separator, name = text.partition(":")
        if not (table and separator and name):
            raise StudyError(f"{text!r} names no label column; write TABLE:COLUMN, the table without its ending.")
        return cls(table, name)


def family_prototypes(names: Sequence[str]) -> dict[str, Prototype]:
    """Return the prototypes of the families.

    Raises:
        StudyError: No family, an unknown one, or two that are the same crystals.
    """
    bundled = bundled_prototypes()
    unknown = [name for name in names if name not in bundled]
    if unknown or not names:
        raise StudyError(f"--families {' '.join(names)}: choose from {', '.join(bundled)}.")
    chosen = {name: bundled[name] for name in names}
    for number, (name, prototype) in enumerate(chosen.items()):
        for other in [*chosen][:number]:
            if slot_maps(prototype, chosen[other]):
                raise StudyError(f"the families {other!r} and {name!r} are the same crystals; leave one out.")
    return chosen


def families_of(scopes: Sequence[str], families: dict[str, Prototype]) -> NDArray[np.object_]:
    """Return the family of each crystal by its string, whatever its elements; None: of none of them.

    Args:
        scopes: Canonical `sites` strings, n in number.
        families: Prototypes by name.

    Returns:
        Shape (n,).
    """
    by_group: dict[int, list[str]] = {}
    for name, prototype in families.items():
        by_group.setdefault(prototype.space_group, []).append(name)
    names_found: list[str | None] = []
    for scope in scopes:
        names_found.append(None)
        crystal = parse(scope)
        names = by_group.get(crystal.space_group, [])
        if crystal.orbits is None:
            raise ScopeError(f"{scope!r} does not tell who sits where.")
        names = [name for name in names if len(families[name].orbits) == len(crystal.orbits)]
        if names:
            shape = prototype_of_scope(crystal, "")
            names_found[-1] = next((name for name in names if slot_maps(shape, families[name])), None)
    return np.array(names_found, dtype=object)


def read_labelled(
    data: Sequence[str],
    columns: dict[str, list[str]],
    cache: Path,
    workers: Workers = ONE_WORKER,
    rows: int | None = None,
) -> Crystals:
    """Read crystals and their labels.

    Args:
        data: The table of crystals, and tables whose labels belong to it by `id`.
        columns: For each quantity its label columns, `TABLE:COLUMN`; the first that has a number counts.
        cache: Folder that keeps the strings.
        workers: Processes that encode crystals.
        rows: Only the first rows of the table; None: all.

    Returns:
        Crystals with any label, under the names of the quantities.

    Raises:
        StudyError: A column of a table that is not given, ids that name two rows, or no label at all.
        TableError: A table or column that cannot be read.
    """
    tables = {Path(path).stem: (path, read_table(path)) for path in data}
    first = Path(data[0]).stem
    table = tables[first][1]
    if len(tables) > 1 and ("id" not in table or table["id"].duplicated().any()):
        raise StudyError("labels of other tables need a column 'id' in which each row has its own.", source=data[0])
    labels = {name: _joined(texts, tables, first) for name, texts in columns.items() if texts}
    if BULK in labels:
        labels[BULK] = np.where(labels[BULK] < SOFTEST, np.nan, labels[BULK])
    labelled = np.flatnonzero(~np.isnan(np.stack([*labels.values()])).all(axis=0))
    labelled = labelled if rows is None else labelled[:rows]
    if not len(labelled):
        raise StudyError("no row has a label.", source=data[0])
    crystals = read_crystals(data[0], (), cache, workers, rows=labelled)
    labels = {name: values[crystals.position] for name, values in labels.items()}
    return Crystals(**{**vars(crystals), "labels": labels})


def _joined(texts: Sequence[str], tables: dict[str, tuple[str, pd.DataFrame]], first: str) -> NDArray[np.float64]:
    """The labels of a quantity, a number for each row of the first table, NaN where no column has one."""
    length = len(tables[first][1])
    values = np.full(length, np.nan)
    for text in texts:
        column = _Column.of(text)
        if column.table not in tables:
            raise StudyError(f"{text!r}: --data has no table {column.table!r}; there are {', '.join(tables)}.")
        path, table = tables[column.table]
        numbers = numeric_column(table, column.name, path)
        if column.table != first:
            if "id" not in table or table["id"].duplicated().any():
                raise StudyError("needs a column 'id' in which each row has its own.", source=path)
            numbers = numbers.set_axis(table["id"]).reindex(tables[first][1]["id"])
        values = np.where(np.isnan(values), numbers.to_numpy(dtype=float), values)
    return values
