"""The leakage report: which names of crystals stand on both sides of a split, in several tables, under own splits."""

from collections.abc import Mapping
from functools import partial
from itertools import combinations
from typing import Any

import pandas as pd
from tabulate import tabulate

from cloud_hf.data.assignment import SIDES
from cloud_hf.data.splits import PART_NAMES

__all__ = ["NAME_KINDS", "leakage_markdown", "leakage_report", "own_split_columns"]

NAME_KINDS = {
    "sites": "canonical `sites` string",
    "name": "composition name",
    "entry": "database entry",
    "composition": "composition, any symmetry",
    "protostructure": "protostructure",
}
"""Names that are compared, from the finest to the coarsest. The first three never stand on both sides."""

SHOWN_PAIRS = 10
"""Pairs of own split columns in the document; the figures hold all."""


def own_split_columns(table: pd.DataFrame) -> dict[str, pd.Series]:
    """Return the split columns that a table brings along, as `train` and `validation`.

    A column counts if its name contains `split` and its texts are the usual ones (`PART_NAMES`); everything that is
    held out counts as validation, other cells as missing.

    Args:
        table: The table as read.
    """
    known = {name: SIDES[part != "train"] for name, part in PART_NAMES.items()}
    columns = {}
    for name in table.columns:
        if "split" in str(name).lower():
            values = table[name].map(lambda text: known.get(str(text).lower())).astype(object)
            if values.notna().any():
                columns[str(name)] = values.where(values.notna(), None)
    return columns


def leakage_report(
    rows: pd.DataFrame, own_columns: Mapping[str, Mapping[str, pd.Series]], folds: int
) -> dict[str, Any]:
    """Count what a split keeps apart and what the tables' own splits do not.

    Args:
        rows: The rows of all tables: those of `name_rows` with `table`, `group`, `fold` and `part`.
        own_columns: Own split columns of each table, from `own_split_columns`.
        folds: Number of folds.

    Returns:
        Counts, ready for JSON: `tables`, `groups`, `parts` and `folds` (overlaps between them), `between_tables`, and
        `own_splits` with their contradictions.
    """
    named = rows[rows["group"].notna()]
    keys = {kind: _long(named, kind) for kind in NAME_KINDS}
    return {
        "tables": {str(table): _table_counts(part, folds) for table, part in rows.groupby("table", sort=True)},
        "groups": _group_counts(named, keys),
        "parts": {kind: _overlap(key, "part") for kind, key in keys.items()},
        "folds": {kind: _overlap(key, "fold") for kind, key in keys.items()},
        "between_tables": {kind: _between_tables(key) for kind, key in keys.items()},
        "own_splits": _own_splits(rows, own_columns),
    }


def _long(named: pd.DataFrame, kind: str) -> pd.DataFrame:
    """One line per row and name of one kind; the index tells the row."""
    columns = ["table", "group", "part", "fold"]
    column = "names" if kind == "name" else kind
    key = named[[*columns, column]].rename(columns={column: "key"})
    return (key.explode("key") if kind == "name" else key).dropna(subset="key")


def _table_counts(part: pd.DataFrame, folds: int) -> dict[str, Any]:
    named = part[part["group"].notna()]
    return {
        "rows": len(part),
        "failed": int(part["error"].notna().sum()),
        "sites_strings": int(named["sites"].nunique()),
        "groups": int(named["group"].nunique()),
        **{name: int((named["part"] == name).sum()) for name in SIDES},
        "folds": [int((named["fold"] == fold).sum()) for fold in range(folds)],
    }


def _group_counts(named: pd.DataFrame, keys: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """How many groups there are, and how far they go beyond one `sites` string."""
    strings = keys["sites"].groupby("group")["key"].nunique()
    names = keys["name"].groupby("group")["key"].nunique()
    sizes = named["group"].value_counts()
    several = strings[strings > 1].index
    return {
        "groups": len(sizes),
        "sites_strings": int(keys["sites"]["key"].nunique()),
        "with_several_sites_strings": len(several),
        "rows_in_those": int(sizes[sizes.index.isin(several)].sum()),
        "joined_by_a_second_name": int((names > 1).sum()),
        "largest_rows": int(sizes.max()) if len(sizes) else 0,
    }


def _overlap(key: pd.DataFrame, side: str) -> dict[str, int]:
    """Names of which rows stand on several sides, and how many rows of the rest share them with `train`."""
    sides = key.groupby("key")[side].nunique()
    shared = set(sides[sides > 1].index)
    counts = {"names": len(sides), "on_several_sides": len(shared)}
    if side == "part":
        held_out = key[key["part"] == SIDES[1]]
        counts |= {"validation_rows": held_out.index.nunique(), "validation_rows_seen": _rows_in(held_out, shared)}
    return counts


def _rows_in(key: pd.DataFrame, names: set[str]) -> int:
    """Rows that have one of the names; a row with two of them counts once."""
    return int(key.index[key["key"].isin(names)].nunique())


def _between_tables(key: pd.DataFrame) -> dict[str, dict[str, int]]:
    """For every pair of tables, rows of the first that share a name with the second; `any other` for all others."""
    names = {str(table): part for table, part in key.groupby("table", sort=True)}
    sets = {table: set(part["key"]) for table, part in names.items()}
    shared: dict[str, dict[str, int]] = {}
    for table, part in names.items():
        others = {other: _rows_in(part, sets[other]) for other in sets if other != table}
        union = set().union(*(sets[other] for other in others)) if others else set()
        shared[table] = {"any other": _rows_in(part, union)} | {o: n for o, n in others.items() if n}
    return shared


def _own_splits(rows: pd.DataFrame, own_columns: Mapping[str, Mapping[str, pd.Series]]) -> dict[str, Any]:
    """Count groups that a table's own split column uses for training and the same or another column holds out."""
    sides: dict[str, dict[str, set[str]]] = {}
    columns: dict[str, dict[str, int]] = {}
    for table, splits in sorted(own_columns.items()):
        part = rows[rows["table"] == table].reset_index(drop=True)
        for column, values in splits.items():
            side = values.reset_index(drop=True)
            taken = {name: part[(side == name) & part["group"].notna()] for name in SIDES}
            label = f"{table}.{column}"
            sides[label] = {name: set(chosen["group"]) for name, chosen in taken.items()}
            strings = [set(chosen["sites"].dropna()) for chosen in taken.values()]
            columns[label] = {name: len(chosen) for name, chosen in taken.items()} | {
                "sites_strings_on_both_sides": len(strings[0] & strings[1]),
                "groups_on_both_sides": len(sides[label][SIDES[0]] & sides[label][SIDES[1]]),
            }
    pairs = {}
    for one, other in combinations(sides, 2):
        there = len(sides[one][SIDES[0]] & sides[other][SIDES[1]])
        back = len(sides[one][SIDES[1]] & sides[other][SIDES[0]])
        if there or back:
            pairs[f"{one} / {other}"] = {"train_and_held_out": there, "held_out_and_train": back}
    trained = set().union(*(side[SIDES[0]] for side in sides.values()))
    held_out = set().union(*(side[SIDES[1]] for side in sides.values()))
    return {
        "columns": columns,
        "pairs": pairs,
        "groups_held_out_somewhere": len(held_out),
        "of_these_trained_on_elsewhere": len(held_out & trained),
    }


def leakage_markdown(report: Mapping[str, Any]) -> str:
    """Write a report, with its `settings`, as a Markdown document.

    Args:
        report: From `leakage_report`, with `settings` of the split added.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined  # not for the help of the command

    tables, own_splits = report["tables"], report["own_splits"]
    pairs = sorted(own_splits["pairs"].items(), key=lambda pair: -sum(pair[1].values()))
    environment = Environment(loader=PackageLoader("cloud_hf.data", "."), autoescape=False, undefined=StrictUndefined)  # noqa: S701  (Markdown)
    text = environment.get_template("leakage.md.j2").render(
        settings=report["settings"],
        groups=report["groups"],
        own_splits=own_splits,
        sides=list(SIDES),
        folds=[f"fold {number}" for number in range(len(next(iter(tables.values()))["folds"]) if tables else 0)],
        kinds=[f"by {text}" for text in NAME_KINDS.values()],
        table=partial(tabulate, tablefmt="github"),
        tables=[
            [name, *(row[key] for key in ("rows", "failed", "sites_strings", "groups", *SIDES)), *row["folds"]]
            for name, row in tables.items()
        ],
        names=[
            [
                text,
                *(report["parts"][kind][key] for key in ("names", "on_several_sides", "validation_rows_seen")),
                report["folds"][kind]["on_several_sides"],
            ]
            for kind, text in NAME_KINDS.items()
        ],
        shared=[
            [name, *(report["between_tables"][kind].get(name, {}).get("any other", 0) for kind in NAME_KINDS)]
            for name in tables
        ],
        columns=[
            [name, *(row[key] for key in (*SIDES, "sites_strings_on_both_sides", "groups_on_both_sides"))]
            for name, row in own_splits["columns"].items()
        ],
        pairs=[[*name.split(" / "), *counts.values()] for name, counts in pairs[:SHOWN_PAIRS]],
    )
    return text.rstrip() + "\n"
