"""Leakage between a corpus and labelled tables: which rows name the same crystal, and which training leaves out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from tabulate import tabulate
from tqdm import tqdm

from cloud_hf.corpus.schema import open_rows
from cloud_hf.corpus.shards import Corpus
from cloud_hf.data.assignment import composition_name, database_entry, protostructure
from cloud_hf.data.leakage import NAME_KINDS
from cloud_hf.errors import CorpusError, TableError
from cloud_hf.scope import parse
from cloud_hf.scope.grammar import CANONICAL_FIRST

__all__ = ["DEFAULT_KINDS", "EXCLUSION_SCHEMA", "Known", "corpus_leakage", "leakage_text"]

DEFAULT_KINDS = ("name", "entry")
"""What `cloud-hf split` calls the same crystal: rows that share a composition name or a database entry."""

EXCLUSION_SCHEMA = pa.schema([(name, pa.string()) for name in ("hash", "source", "kind", "table", "row", "name")])
"""An exclusion list: the row of the corpus, and the first row of a table that it agrees with, in what."""


@dataclass
class Known:
    """The names of the rows of labelled tables.

    Attributes:
        rows: Rows of each table.
        names: For each kind of `NAME_KINDS`, name -> table and row of all that have it.
    """

    rows: dict[str, int] = field(default_factory=dict)
    names: dict[str, dict[str, list[tuple[str, str]]]] = field(
        default_factory=lambda: {kind: {} for kind in NAME_KINDS}
    )

    def add(self, table: str, named: pd.DataFrame) -> None:
        """Take the rows of a table as `cloud_hf.data.names.name_rows` gives them.

        Raises:
            TableError: A table of that name was taken before.
        """
        if table in self.rows:
            raise TableError("two tables have this name; rename one.", source=table)
        self.rows[table] = len(named)
        for row in named.to_dict("records"):
            for kind, names in self.names.items():
                keys = row["names"] if kind == "name" else [row[kind]]
                for name in keys:
                    if name is not None:
                        names.setdefault(name, []).append((table, str(row["id"])))


def corpus_leakage(
    corpus: Corpus, known: Known, output: Path, kinds: Sequence[str] = DEFAULT_KINDS, progress: bool = False
) -> dict[str, Any]:
    """Compare every row of a corpus with labelled tables, and write the list of those to leave out.

    Args:
        corpus: The corpus.
        known: The names of the tables' rows.
        output: The list, a `.parquet` file for `cloud-hf pretrain --exclude`.
        kinds: A row of the corpus that shares a name of one of these kinds with a table is on the list.
        progress: Whether to show a bar.

    Returns:
        `corpus`, `rows`, `kinds`, `excluded` and, under `tables`, for each table and kind how many of its rows are in
        the corpus (`rows_of_table`) and how many rows of the corpus agree with it (`rows_of_corpus`).

    Raises:
        CorpusError: The corpus cannot be read, or an unknown kind.
    """
    if not set(kinds) <= set(NAME_KINDS) or not kinds:
        raise CorpusError(f"what counts as the same crystal must be some of {', '.join(NAME_KINDS)}, not {kinds}.")
    seen: dict[str, set[str]] = {kind: set() for kind in NAME_KINDS}
    of_corpus = {table: dict.fromkeys(NAME_KINDS, 0) for table in known.rows}
    with (
        open_rows(output, EXCLUSION_SCHEMA) as excluded,
        tqdm(total=len(corpus), desc="comparing", unit="row", disable=not progress) as bar,
    ):
        for row in _rows(corpus):
            bar.update()
            agreements = [
                (kind, name, known.names[kind][name])
                for kind, name in _names(row).items()
                if name is not None and name in known.names[kind]
            ]
            for kind, name, places in agreements:
                seen[kind].add(name)
                for table in {table for table, _ in places}:
                    of_corpus[table][kind] += 1
            first = next((agreement for agreement in agreements if agreement[0] in kinds), None)
            if first is not None:
                kind, name, places = first
                excluded.add((row["hash"], row["source"], kind, *places[0], name))
        n_excluded = excluded.n_rows
    of_table = {table: dict.fromkeys(NAME_KINDS, 0) for table in known.rows}
    for kind, names in seen.items():
        for table, _ in {place for name in names for place in known.names[kind][name]}:
            of_table[table][kind] += 1
    tables = {
        table: {"rows": rows}
        | {
            kind: {"rows_of_table": of_table[table][kind], "rows_of_corpus": of_corpus[table][kind]}
            for kind in NAME_KINDS
        }
        for table, rows in known.rows.items()
    }
    report = {"corpus": corpus.name, "rows": len(corpus), "kinds": list(kinds), "excluded": n_excluded}
    return report | {"tables": tables}


def _rows(corpus: Corpus) -> Iterator[dict[str, Any]]:
    strings = [name for name in CANONICAL_FIRST if name in corpus.grammars]
    for number in range(len(corpus.files)):
        for table in corpus.shard(number, ("hash", "id", "source", *strings)):
            for row in table.to_pylist():
                yield row | {"scope": next(row[name] for name in strings if row[name] is not None)}


def _names(row: Mapping[str, Any]) -> dict[str, str | None]:
    """Every name by which the row of a corpus may be known, as `name_rows` writes them."""
    scope = parse(row["scope"])
    name = composition_name(scope)
    return {
        "sites": str(scope.canonical()) if scope.grammar == "sites" else None,
        "name": name,
        "entry": database_entry(row["id"]) if row["id"] is not None else None,
        "composition": name.split(" | ")[2],
        "protostructure": protostructure(scope),
    }


def leakage_text(report: Mapping[str, Any]) -> str:
    """Write a report as Markdown."""
    rows = [
        [table, counts["rows"], NAME_KINDS[kind], counts[kind]["rows_of_table"], counts[kind]["rows_of_corpus"]]
        for table, counts in report["tables"].items()
        for kind in NAME_KINDS
    ]
    headers = ["table", "rows", "shared", "rows of the table in the corpus", "rows of the corpus that agree"]
    kinds = " or ".join(f"{NAME_KINDS[kind]}" for kind in report["kinds"])
    return (
        f"# Leakage between {report['corpus']} and labelled tables\n\n"
        f"{report['excluded']} of {report['rows']} rows of the corpus are on the exclusion list: they share a {kinds} "
        f"with a row of the tables.\n\n{tabulate(rows, headers=headers, tablefmt='github')}\n"
    )
