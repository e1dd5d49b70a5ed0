"""Tables of crystals as a study reads them: strings of the grammar `sites`, and labels."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cloud_hf.data.assignment import folds_by_crystal
from cloud_hf.data.kept_strings import ONE_WORKER, Workers, encode_table
from cloud_hf.data.tables import numeric_column, read_table
from cloud_hf.errors import StudyError, TableError
from cloud_hf.scope import parse

__all__ = ["MAX_TOKENS", "Crystals", "assigned_folds", "crystals_from_strings", "read_crystals", "with_atoms"]

MAX_TOKENS = 128
"""Longest string of the encoders inside the package, with [CLS] and [SEP]."""

Indices = NDArray[np.int64]
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Crystals:
    """Crystals that have a string, n in number.

    Attributes:
        position: Row of the table, from 0, shape (n,).
        ids: The rows' `id`, or `file:row`.
        scopes: Canonical SCOPE strings of the grammar `sites`.
        space_group: Numbers in the International Tables, shape (n,).
        n_atoms: Atoms per primitive cell, shape (n,).
        labels: Each label column, NaN where it is empty, shape (n,).
        failures: Rows of the table without a usable string, with columns `row`, `source` and `reason`.
        table: The other columns of the table, n rows.
    """

    position: Indices
    ids: list[str]
    scopes: list[str]
    space_group: Indices
    n_atoms: Numbers
    labels: dict[str, Numbers]
    failures: pd.DataFrame
    table: pd.DataFrame = field(repr=False)

    def __len__(self) -> int:
        return len(self.scopes)

    def take(self, rows: Indices | Sequence[int]) -> "Crystals":
        """Return some of the crystals, in the order given; the failures stay as they are."""
        chosen = np.asarray(rows, dtype=np.int64)
        return replace(
            self,
            position=self.position[chosen],
            ids=[self.ids[row] for row in chosen],
            scopes=[self.scopes[row] for row in chosen],
            space_group=self.space_group[chosen],
            n_atoms=self.n_atoms[chosen],
            labels={name: values[chosen] for name, values in self.labels.items()},
            table=self.table.iloc[chosen].reset_index(drop=True),
        )

    @classmethod
    def of_scopes(cls, names: Sequence[str], scopes: Sequence[str]) -> "Crystals":
        """Return crystals of canonical `sites` strings, without labels and of no table."""
        parsed = [parse(scope) for scope in scopes]
        return cls(
            position=np.full(len(parsed), -1),
            ids=list(names),
            scopes=list(scopes),
            space_group=np.array([scope.space_group for scope in parsed], dtype=np.int64),
            n_atoms=np.array([float(scope.n_atoms_primitive or 0) for scope in parsed]),
            labels={},
            failures=pd.DataFrame(columns=["row", "source", "reason"]),
            table=pd.DataFrame(index=range(len(parsed))),
        )

    def followed_by(self, other: "Crystals") -> "Crystals":
        """Return these crystals and others after them; labels that either lacks are NaN there."""
        names = [*dict.fromkeys([*self.labels, *other.labels])]
        parts = (self, other)
        return replace(
            self,
            position=np.concatenate([part.position for part in parts]),
            ids=[*self.ids, *other.ids],
            scopes=[*self.scopes, *other.scopes],
            space_group=np.concatenate([part.space_group for part in parts]),
            n_atoms=np.concatenate([part.n_atoms for part in parts]),
            labels={
                name: np.concatenate([part.labels.get(name, np.full(len(part), np.nan)) for part in parts])
                for name in names
            },
            table=pd.concat([part.table for part in parts], ignore_index=True),
        )

    def with_scopes(self, scopes: Sequence[str]) -> "Crystals":
        """Return the crystals with other strings that stand for them."""
        return replace(self, scopes=list(scopes))

    def labelled(self, *names: str) -> "Crystals":
        """Return the crystals that have all of these labels."""
        return self.take(np.flatnonzero(~np.isnan(np.stack([self.labels[name] for name in names])).any(axis=0)))

    @property
    def failed_by_reason(self) -> dict[str, list[str]]:
        """The failures' sources by reason, as results list them."""
        sources: dict[str, list[str]] = {}
        for source, reason in zip(self.failures["source"], self.failures["reason"], strict=True):
            sources.setdefault(str(reason), []).append(str(source))
        return sources

    @property
    def digest(self) -> str:
        """Hash of strings and labels, by which the folder of a study knows its data."""
        digest = hashlib.sha256("\n".join(self.scopes).encode())
        for name in sorted(self.labels):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(self.labels[name]).tobytes())
        return digest.hexdigest()[:12]


def read_crystals(
    path: str | Path,
    labels: Sequence[str] = (),
    cache: str | Path | None = None,
    workers: Workers = ONE_WORKER,
    max_tokens: int = MAX_TOKENS,
    rows: Indices | None = None,
) -> Crystals:
    """Read a table, encode its crystals and take its labels.

    Args:
        path: `.csv`, `.jsonl` or `.parquet` with structure columns or a column `scope`; strings of the paper's
            grammars are translated where they tell who sits where.
        labels: Columns of numbers.
        cache: Folder that keeps the strings for the next time.
        workers: Processes that encode crystals.
        max_tokens: Rows with longer strings, [CLS] and [SEP] counted, are failures.
        rows: Only these rows of the table, from 0.

    Raises:
        StudyError: No row has a usable string.
        TableError: The table or a label column cannot be read.
    """
    table = read_table(path)
    numbers = {name: numeric_column(table, name, path).to_numpy() for name in labels}
    chosen = np.arange(len(table)) if rows is None else np.asarray(rows, dtype=np.int64)
    strings = encode_table(table, path, cache, workers, rows=rows)
    return crystals_from_strings(
        strings, strings["source"].tolist(), numbers, path, max_tokens, chosen, table.drop(columns=[*labels])
    )


def crystals_from_strings(
    strings: pd.DataFrame,
    sources: Sequence[str],
    labels: Mapping[str, Numbers],
    path: str | Path,
    max_tokens: int = MAX_TOKENS,
    rows: Indices | None = None,
    table: pd.DataFrame | None = None,
) -> Crystals:
    """Sort what `encode_once` returned into crystals with a usable string and failures.

    Args:
        strings: What `encode_once` returned, m rows.
        sources: What each of them is called, m names.
        labels: Each label column of the whole table.
        path: Path of the table, for the message.
        max_tokens: Rows with longer strings, [CLS] and [SEP] counted, are failures.
        rows: Rows of the table that were encoded, shape (m,); None: all.
        table: The other columns of the whole table.

    Raises:
        StudyError: No row has a usable string.
    """
    chosen = np.arange(len(strings)) if rows is None else rows
    reasons = strings["reason"].tolist()
    for row, scope in enumerate(strings["scope"]):
        if reasons[row] is None and len(scope.split()) + 2 > max_tokens:
            reasons[row] = f"the string has more than {max_tokens} tokens"
    good = np.array([row for row, reason in enumerate(reasons) if reason is None], dtype=np.int64)
    failures = pd.DataFrame(
        [(int(chosen[row]), sources[row], reason) for row, reason in enumerate(reasons) if reason is not None],
        columns=["row", "source", "reason"],
    )
    if not len(good):
        first = "; the first: {source}: {reason}".format(**failures.iloc[0]) if len(failures) else ""
        raise StudyError(f"none of {len(strings)} rows has a usable SCOPE string{first}", source=str(path))
    usable = strings.iloc[good]
    rest = pd.DataFrame(index=range(len(good))) if table is None else table.iloc[chosen[good]].reset_index(drop=True)
    return Crystals(
        position=chosen[good],
        ids=[sources[row] for row in good],
        scopes=usable["scope"].tolist(),
        space_group=usable["space_group"].to_numpy(dtype=np.int64),
        n_atoms=usable["n_atoms"].to_numpy(dtype=float),
        labels={name: values[chosen[good]] for name, values in labels.items()},
        failures=failures,
        table=rest,
    )


def with_atoms(crystals: Crystals, column: str | None, path: str | Path) -> Crystals:
    """Return the crystals with the atoms per primitive cell that a column of their table gives; None: as they are.

    Raises:
        TableError: The column is missing, or holds anything but numbers from 1 on.
    """
    if column is None:
        return crystals
    atoms = numeric_column(crystals.table, column, path).to_numpy()
    bad = np.flatnonzero(~(atoms >= 1))
    if len(bad):
        raise TableError(
            f"column {column!r} must hold atoms per primitive cell, 1 or more; {crystals.ids[bad[0]]} has "
            f"{atoms[bad[0]]:g} ({len(bad)} such rows).",
            source=str(path),
        )
    return replace(crystals, n_atoms=atoms)


def assigned_folds(crystals: Crystals, split: str | Path | None, folds: int, seed: int) -> Indices:
    """Return the fold of each crystal, shape (n,).

    Args:
        crystals: Crystals of one table.
        split: The `.split.parquet` that `cloud-hf split` wrote for this table; None: folds by string, so that crystals
            that the paper's string cannot tell apart share one.
        folds: Number of folds by string.
        seed: Seed of the folds by string.

    Raises:
        StudyError: The split is of another table.
    """
    if split is None:
        return folds_by_crystal(crystals.scopes, folds, seed)
    table = read_table(split)
    missing = [name for name in ("row", "id", "fold") if name not in table.columns]
    if missing:
        raise StudyError(f"has no column {missing[0]!r}, so it is not what `cloud-hf split` writes.", source=str(split))
    rows = table.set_index("row").reindex(crystals.position)
    named = [str(name) for name in rows["id"]]
    if rows["fold"].isna().any() or any(
        name != known for name, known, is_named in zip(named, crystals.ids, rows["id"].notna(), strict=True) if is_named
    ):
        raise StudyError("is the split of another table; run `cloud-hf split` again.", source=str(split))
    return rows["fold"].to_numpy(dtype=np.int64)
