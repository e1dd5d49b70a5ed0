"""`corpus.json`: what a corpus holds, counted from its files, and the equation that must hold."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pyarrow.compute as compute
import pyarrow.parquet as parquet

from cloud_hf.corpus.plan import Plan
from cloud_hf.corpus.schema import (
    CORPUS_FILE,
    DUPLICATES,
    ENCODED,
    QUARANTINE,
    ROWS_READ,
    SHARDS,
    Folders,
    save_json,
)
from cloud_hf.errors import CorpusError, one_line
from cloud_hf.scope.grammar import CANONICAL_FIRST

__all__ = ["equation", "read_report", "write_report"]

FORMAT = 1


def equation(rows: Mapping[str, int]) -> str:
    """Return the line that says where every row went."""
    return (
        f"{rows['in']} rows in = {rows['out']} rows out + {rows['duplicates']} duplicates + "
        f"{rows['quarantined']} quarantined"
    )


def write_report(folders: Folders, plan: Plan) -> dict[str, Any]:
    """Count rows and what they are, and write `corpus.json`.

    Raises:
        CorpusError: A file is missing, or the rows of a task do not add up.
    """
    total = Counter[str]()
    shards = []
    for task in range(plan.tasks):
        read, encoded = _rows_read(folders, task)
        out, duplicates, quarantined = (_n_rows(folders, kind, task) for kind in (SHARDS, DUPLICATES, QUARANTINE))
        counts = {"in": read, "out": out, "duplicates": duplicates, "quarantined": quarantined}
        if read != encoded + quarantined or encoded != out + duplicates:
            raise CorpusError(
                f"task {task} does not add up ({equation(counts)}, {encoded} encoded): its files were "
                "changed from outside; build the corpus anew in another folder.",
                source=str(folders.root),
            )
        total.update(counts)
        shards.append({"file": folders.table(SHARDS, task).relative_to(folders.root).as_posix(), "rows": out})
    report = {
        "format": FORMAT,
        "inputs": list(plan.inputs),
        "settings": asdict(plan.settings),
        "encoder": plan.encoder,
        "versions": plan.versions,
        "rows": {name: total[name] for name in ("in", "out", "duplicates", "quarantined")},
        "shards": shards,
        "counts": _counts(folders, plan),
    }
    save_json(report, folders.root / CORPUS_FILE)
    return report


def read_report(folders: Folders) -> dict[str, Any]:
    """Return what `corpus.json` says, after a look at whether the shards are still there.

    Raises:
        CorpusError: The report cannot be read, or a shard is missing or has other rows than it says.
    """
    path = folders.root / CORPUS_FILE
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        expected = [int(shard["rows"]) for shard in report["shards"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"cannot be read as the report of a corpus ({one_line(error)}).", source=str(path)) from error
    for number, rows in enumerate(expected):
        if (n_rows := _n_rows(folders, SHARDS, number)) != rows:
            raise CorpusError(
                f"has {n_rows} rows, not {rows}: it was changed from outside; build the corpus anew in another folder.",
                source=str(folders.table(SHARDS, number)),
            )
    return report


def _rows_read(folders: Folders, task: int) -> tuple[int, int]:
    """Crystals that the task was given, and those that it encoded."""
    metadata = _metadata(folders, ENCODED, task)
    return int(metadata.metadata[ROWS_READ]), metadata.num_rows


def _n_rows(folders: Folders, kind: str, task: int) -> int:
    return int(_metadata(folders, kind, task).num_rows)


def _metadata(folders: Folders, kind: str, task: int) -> Any:
    path = folders.table(kind, task)
    try:
        return parquet.read_metadata(path)
    except (OSError, ValueError) as error:
        raise CorpusError(
            f"cannot be read ({one_line(error)}); build the corpus anew in another folder.", source=str(path)
        ) from error


def _counts(folders: Folders, plan: Plan) -> dict[str, dict[str, int]]:
    """Rows by provider, licence, space group, length of the canonical string in words, and reason of failure."""
    counts: dict[str, Counter[str]] = {}
    names = ("providers", "licenses", "space_groups", "words", "errors")
    counts = {name: Counter() for name in names}
    strings = [name for name in CANONICAL_FIRST if name in plan.settings.grammars]
    for task in range(plan.tasks):
        table = parquet.read_table(
            folders.table(SHARDS, task), columns=["provider", "license", "space_group", *strings]
        )
        scope = compute.coalesce(*(table[name] for name in strings))
        words = compute.add(compute.count_substring(scope, " "), 1)
        columns = table["provider"], table["license"], table["space_group"], words
        failed = parquet.read_table(folders.table(QUARANTINE, task), columns=["error"])["error"]
        for name, column in zip(names, (*columns, failed), strict=True):
            for entry in compute.value_counts(column).to_pylist():
                counts[name][str(entry["values"] if entry["values"] is not None else "unknown")] += entry["counts"]
    by_number = {"space_groups", "words"}
    return {
        name: dict(
            sorted(counter.items(), key=lambda item: int(item[0])) if name in by_number else counter.most_common()
        )
        for name, counter in counts.items()
    }
