"""One table of all labels by canonical string, from many tables, with one grouped assignment of folds."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cloud_hf.data.tables import is_missing, numeric_column, read_table
from cloud_hf.errors import PhononDOSError, ScopeError, TableError
from cloud_hf.models.phonon_dos import share_of_modes
from cloud_hf.scope import parse
from cloud_hf.scope.pairing import sites_scope
from cloud_hf.training.joint_recipe import Dos, JointRecipe, Source

__all__ = ["DEBYE_COLUMN", "DOS_COLUMN", "build_joint_table", "check_folds", "heat_capacity_column", "label_columns"]

DOS_COLUMN = "dos"
"""Share of the modes in each bin of the recipe, a list of numbers or nothing."""

DEBYE_COLUMN = "debye_temperature"
"""Debye temperature of low temperatures, K."""


def heat_capacity_column(kelvin: float) -> str:
    """Name of the column of heat capacities at a temperature, J/(mol atom K)."""
    return f"heat_capacity_{kelvin:g}K"


def label_columns(recipe: JointRecipe) -> list[str]:
    """Columns of numbers that are labels: targets, heat capacities, Debye temperature."""
    return [*recipe.targets, *map(heat_capacity_column, recipe.temperatures), DEBYE_COLUMN]


def build_joint_table(
    recipe: JointRecipe, data: Path, split: Path, max_words: int = 126
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Join the labels of all sources by canonical string.

    Rows of one string, source and target become one by their median; of several sources the first that has a label
    counts, so what is surest comes first in the recipe. Densities of states and heat capacities
    become one by their mean.

    Args:
        recipe: What is a label of what.
        data: Folder of the tables.
        split: Folder that `cloud-hf split` wrote of all of them.
        max_words: Longest string, in words.

    Returns:
        A row per string, with `scope`, `group`, `fold`, `part`, `n_atoms` (of the primitive cell), all `label_columns`
        (NaN where there is none) and `DOS_COLUMN`; and how many rows and labels came from where and why others did not.

    Raises:
        TableError: A table or column is missing, the split is of other tables, or it splits a crystal.
        PhononDOSError: A density of states that cannot be normalised.
    """
    excluded = {group for table in recipe.exclude for group in _split_rows(split, table).group}
    counts: dict[str, Any] = {}
    pieces = []
    for place, source in enumerate(recipe.sources):
        piece = _labels(recipe, source, data, split)
        kept = piece[~piece.group.isin(excluded)].assign(source=place)
        words = kept.scope.str.count(" ") + 1
        pieces.append(kept[words <= max_words])
        counts[f"{place}: {source.table}"] = {
            "rows": len(piece),
            "excluded crystals": len(piece) - len(kept),
            "too long": int((words > max_words).sum()),
        }
    rows = pd.concat(pieces, ignore_index=True)
    check_folds(rows, str(split))
    columns = label_columns(recipe)
    rows = rows.reindex(columns=["scope", "group", "fold", "part", "source", *columns, DOS_COLUMN])
    targets = list(recipe.targets)
    by_string = rows.groupby("scope", sort=True)
    table = by_string[["group", "fold", "part"]].first()
    table = table.join(rows.groupby(["scope", "source"])[targets].median().groupby("scope").first())
    table = table.join(by_string[[column for column in columns if column not in targets]].mean())
    spectra = (
        rows[rows[DOS_COLUMN].notna()]
        .groupby("scope")[DOS_COLUMN]
        .agg(lambda spectra_of_string: np.mean([*spectra_of_string], axis=0))
    )
    table[DOS_COLUMN] = spectra.reindex(table.index)
    table = table.reset_index()
    table.insert(4, "n_atoms", [parse(scope).n_atoms_primitive for scope in table.scope])
    has_label = table[columns].notna().any(axis=1) | table[DOS_COLUMN].notna()
    table = table[has_label].reset_index(drop=True)
    counts["strings"] = len(table)
    for name in [*columns, DOS_COLUMN]:
        counts[f"label: {name}"] = {
            part: int(table[table.part == part][name].notna().sum()) for part in sorted(set(table.part))
        }
    return table, counts


def check_folds(rows: pd.DataFrame, source: str) -> None:
    """Refuse an assignment in which a crystal, by its string or its group, stands on two sides.

    Args:
        rows: With `scope`, `group`, `fold` and `part`.
        source: What the message calls the assignment.

    Raises:
        TableError: It does; the message names the first string or group.
    """
    for name in ("scope", "group"):
        for side in ("fold", "part"):
            several = rows.groupby(name)[side].nunique()
            if (several > 1).any():
                one = several.index[several > 1][0]
                raise TableError(
                    f"{int((several > 1).sum())} crystals are in more than one {side}, first the {name} {one!r}: split "
                    "all tables in one call of `cloud-hf split`.",
                    source=source,
                )
    if rows[["group", "fold", "part"]].isna().any(axis=None):
        raise TableError("some rows have no group, fold or part.", source=source)


def _split_rows(split: Path, table: str) -> pd.DataFrame:
    """Rows with a canonical `sites` string: `row`, `id`, `scope`, `group`, `fold`, `part`."""
    rows = read_table(split / f"{table}.split.parquet")
    rows = rows[rows.scope.notna() & rows.error.isna()].copy()
    rows["scope"] = [_sites(scope) for scope in rows.scope]
    return rows[rows.scope.notna()]


def _sites(scope: str) -> str | None:
    try:
        return str(sites_scope(scope))
    except ScopeError:  # a string that leaves open who sits where
        return None


def _labels(recipe: JointRecipe, source: Source, data: Path, split: Path) -> pd.DataFrame:
    """Rows of one source with its labels, in the columns of the joint table."""
    path = data / f"{source.table}.parquet"
    table = read_table(path)
    crystals = _split_rows(split, source.strings_of or source.table)
    if source.strings_of:
        crystals = crystals.drop_duplicates("id").set_index("id")
        place = table["id"].astype(str)
        known = place.isin(crystals.index)
        table, rows = table[known], crystals.loc[place[known].tolist()]
    else:
        if len(crystals) and int(crystals.row.max()) >= len(table):
            raise TableError("the split has more rows than the table; split this version of it.", source=str(path))
        table, rows = table.iloc[crystals.row.astype(int)], crystals
    table, rows = table.reset_index(drop=True), rows.reset_index(drop=True)
    keep = np.ones(len(table), dtype=bool)
    for column, value in source.where.items():
        keep &= (_column(table, column, path) == value).to_numpy()
    for column, values in source.without.items():
        keep &= ~_column(table, column, path).isin(list(values)).to_numpy()
    for column, limits in source.within.items():
        keep &= numeric_column(table, column, path).between(*limits).to_numpy()
    table, rows = table[keep].reset_index(drop=True), rows[keep].reset_index(drop=True)
    labels = rows[["scope", "group", "fold", "part"]].copy()

    def label(column: str) -> pd.Series:
        values = numeric_column(table, column, path)
        if column in source.per_cell:
            values = values / numeric_column(table, "nsites", path)
        limits = source.label_within.get(column)
        return values if limits is None else values.where(values.between(*limits))

    for column, (target, _) in source.targets.items():
        labels[target] = label(column)
    for target, value in source.values.items():
        labels[target] = float(value)
    for column, kelvin in source.heat_capacity.items():
        labels[heat_capacity_column(kelvin)] = label(column)
    if source.debye_temperature is not None:
        labels[DEBYE_COLUMN] = label(source.debye_temperature)
    if source.dos is not None:
        spectra = _spectra(table, source.dos, recipe.vibrations.edges, path)
        labels[DOS_COLUMN] = pd.Series(spectra, index=labels.index, dtype=object)
    return labels


def _column(table: pd.DataFrame, column: str, path: Path) -> pd.Series:
    if column not in table.columns:
        raise TableError(f"there is no column {column!r}.", source=str(path))
    return table[column]


def _spectra(table: pd.DataFrame, dos: Dos, edges: tuple[float, ...], path: Path) -> list[NDArray[np.float64] | None]:
    """Share of the modes in each bin of `edges`, None where a row has no density of states."""
    spectra: list[NDArray[np.float64] | None] = []
    points = [None] * len(table) if dos.wavenumber is None else _column(table, dos.wavenumber, path)
    for row, (given, wavenumber) in enumerate(zip(_column(table, dos.column, path), points, strict=True)):
        if is_missing(given):
            spectra.append(None)
            continue
        weights = np.array(given, dtype=float)
        if dos.edges is not None:
            bounds = np.asarray(dos.edges)
        else:  # a sample stands for the modes up to half way to its neighbours
            samples = np.asarray(wavenumber, dtype=float)
            bounds = np.concatenate([[samples[0]], (samples[1:] + samples[:-1]) / 2, [samples[-1]]])
            weights = weights * np.diff(bounds) if weights.shape == samples.shape else weights[:0]
        if weights.shape != (len(bounds) - 1,):
            raise PhononDOSError(f"{dos.column} does not fit its {len(bounds) - 1} bins.", source=str(path), row=row)
        try:
            shares = share_of_modes(torch.from_numpy(weights)).numpy()
        except PhononDOSError as error:
            raise PhononDOSError(error.reason, source=str(path), row=row) from error
        cumulative = np.concatenate([[0.0], np.cumsum(shares)])
        spectra.append(np.diff(np.interp(edges, bounds, cumulative)))
    return spectra
