"""`cloud-hf split`: one assignment of folds and validation rows for many tables, with a leakage report."""

import argparse
import hashlib
import itertools
import sys
from pathlib import Path

import pandas as pd

from cloud_hf.cli.arguments import add_max_atoms, add_workers, positive_integer
from cloud_hf.cli.output import report_failures
from cloud_hf.data.assignment import assign, group_rows
from cloud_hf.data.leakage import leakage_markdown, leakage_report, own_split_columns
from cloud_hf.data.names import name_rows
from cloud_hf.data.tables import check_output, read_table, write_table
from cloud_hf.errors import TableError
from cloud_hf.files import write_json, write_text
from cloud_hf.scope import ScopeEncoder

__all__ = ["add_split_parser"]

COLUMNS = ["row", "id", "scope", "group", "fold", "part", "error"]


def add_split_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = commands.add_parser("split", help="folds and validation rows by crystal", description=split.__doc__)
    parser.add_argument(
        "tables",
        nargs="+",
        help="tables (.csv, .jsonl, .parquet) with a column 'scope' or the columns lattice (9 numbers, Å), numbers, "
        "frac_coords; all tables that a model trains on or is scored on belong in one call",
    )
    parser.add_argument("-o", "--output", required=True, help="folder for TABLE.split.parquet and the report")
    parser.add_argument("--folds", type=positive_integer, default=5, help="number of folds (default 5)")
    parser.add_argument("--validation", type=float, default=0.1, help="share of groups for validation (default 0.1)")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives another assignment (default 0)")
    add_workers(parser)
    parser.add_argument("--cache", help="folder for encoded strings, reused by later calls (default OUTPUT/strings)")
    parser.add_argument("--json", help="write the report's figures here (default OUTPUT/leakage.json)")
    parser.add_argument("--markdown", help="write the report's text here (default OUTPUT/leakage.md)")
    add_max_atoms(parser)
    parser.set_defaults(run=split)


def split(arguments: argparse.Namespace) -> int:
    """Assign folds and parts by crystal across tables, so that none is trained on here and validated on there."""
    paths = sorted({Path(name).resolve(): Path(name) for name in arguments.tables}.values(), key=lambda path: path.stem)
    for path, other_path in itertools.pairwise(paths):
        if path.stem == other_path.stem:
            raise TableError(
                f"its output and that of {other_path} would both be {path.stem}.split.parquet; rename one.",
                source=str(path),
            )
    assign([], arguments.folds, arguments.validation)  # refuse wrong numbers before the work
    folder = Path(arguments.output)
    json_path = Path(arguments.json or folder / "leakage.json")
    markdown_path = Path(arguments.markdown or folder / "leakage.md")
    outputs = {path: folder / f"{path.stem}.split.parquet" for path in paths}
    for output in (json_path, markdown_path, *outputs.values()):
        check_output(output, inputs=paths)
    encoder = ScopeEncoder(max_atoms=arguments.max_atoms)
    cache = arguments.cache or folder / "strings"
    parts, own_columns = [], {}
    for path in paths:
        print(f"{path.stem}: naming its crystals", flush=True)
        named = name_rows(path, encoder, cache, arguments.processes, arguments.timeout, sys.stderr.isatty())
        parts.append(named.assign(table=path.stem))
        own_columns[path.stem] = own_split_columns(read_table(path))
    rows = pd.concat(parts, ignore_index=True)
    groups = group_rows(rows["names"].tolist(), rows["entry"].tolist())
    fold, part = assign(groups, arguments.folds, arguments.validation, arguments.seed)
    rows["group"] = pd.Series([_short(name) for name in groups], dtype=object)
    rows["fold"] = pd.array(fold, dtype="Int64")
    rows["part"] = pd.Series(part, dtype=object)
    settings = {
        "encoder": encoder.settings,
        "seed": arguments.seed,
        "folds": arguments.folds,
        "validation": arguments.validation,
    }
    report = {"settings": settings, **leakage_report(rows, own_columns, arguments.folds)}
    for path, output in outputs.items():
        write_table(rows.loc[rows["table"] == path.stem, COLUMNS], output)
    write_json(report, json_path)
    write_text(leakage_markdown(report), markdown_path)
    counts = report["groups"]
    print(
        f"{len(rows)} rows of {len(paths)} tables in {counts['groups']} groups -> {folder}; report: {markdown_path}\n"
        f"on both sides of train and validation: {report['parts']['sites']['on_several_sides']} sites strings, "
        f"{report['parts']['name']['on_several_sides']} composition names, "
        f"{report['parts']['protostructure']['on_several_sides']} protostructures"
    )
    return report_failures(rows["error"].dropna(), len(rows))


def _short(name: str | None) -> str | None:
    """Sixteen digits in place of the name of a group, a string that would only look like the row's own."""
    return None if name is None else hashlib.sha256(name.encode()).hexdigest()[:16]
