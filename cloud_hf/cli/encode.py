"""`cloud-hf encode`: crystals to SCOPE strings."""

import argparse
import sys
from pathlib import Path

import pandas as pd
from tabulate import tabulate
from tqdm import tqdm

from cloud_hf.data.inputs import Item, collect_items, encode_item
from cloud_hf.data.tables import ENCODER_COLUMN, TABLE_SUFFIXES, check_output, write_table
from cloud_hf.errors import TableError
from cloud_hf.scope import ScopeEncoder
from cloud_hf.scope.backends import BACKENDS
from cloud_hf.scope.encoder import ENCODER_GRAMMARS
from cloud_hf.scope.readers import MAX_ATOMS

__all__ = [
    "COLUMNS",
    "add_encode_parser",
    "add_input_arguments",
    "add_max_atoms",
    "check_table_output",
    "positive_integer",
    "report_failures",
    "show",
]

SHOWN_FAILURES = 10
"""Failed rows that are named on the terminal; the output file names all."""

COLUMNS = ("source", "formula", "space_group", "space_group_symbol", "scope", "n_atoms")
"""Fields of an `Item` that are written to columns of the same name."""


def positive_integer(text: str) -> int:
    """Read a whole number >= 1 from the command line."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a positive whole number, not {value}")
    return value


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that every command reading crystals shares."""
    parser.add_argument(
        "inputs",
        nargs="+",
        help="CIF or POSCAR files, folders, globs, SCOPE strings, or tables (.csv, .jsonl, .parquet) with a column "
        "'scope' or the columns lattice (9 numbers, Å), numbers, frac_coords",
    )
    parser.add_argument("-o", "--output", help="write rows to this .csv, .jsonl or .parquet file")
    add_max_atoms(parser)


def add_max_atoms(parser: argparse.ArgumentParser) -> None:
    """The encoder's size limit."""
    text = f"largest number of sites in a cell (default {MAX_ATOMS})"
    parser.add_argument("--max-atoms", type=positive_integer, default=MAX_ATOMS, help=text)


def add_encode_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = commands.add_parser("encode", help="crystals to SCOPE strings", description=encode.__doc__)
    add_input_arguments(parser)
    parser.add_argument("--grammar", choices=ENCODER_GRAMMARS, default="sites", help="form of the string")
    parser.add_argument(
        "--released",
        action="store_true",
        help="composition or full exactly as the paper's encoder writes them, in the order of the input",
    )
    parser.add_argument("--symmetry", choices=tuple(BACKENDS), default="spglib", help="back-end of the search")
    parser.add_argument("--symprec", type=float, default=0.01, help="distance tolerance of the symmetry search, Å")
    parser.add_argument("--angle-tolerance", type=float, default=5.0, help="angle tolerance, degrees")
    parser.set_defaults(run=encode)


def encode(arguments: argparse.Namespace) -> int:
    """Write crystals as SCOPE strings, one row each; a crystal that fails keeps its row, with the error."""
    check_table_output(arguments)
    encoder = ScopeEncoder(
        arguments.grammar,
        canonical=not arguments.released,
        symprec=arguments.symprec,
        angle_tolerance=arguments.angle_tolerance,
        symmetry=arguments.symmetry,
        max_atoms=arguments.max_atoms,
    )
    given = collect_items(arguments.inputs)
    items = [encode_item(item, encoder) for item in tqdm(given, desc="encode", unit="crystal", disable=None)]
    table = pd.DataFrame([_row(item) for item in items]).astype({"space_group": "Int64"})
    # strings that were given were made by an encoder that is not known here
    table[ENCODER_COLUMN] = [encoder.settings if item.scope is None else None for item in given]
    if arguments.output:
        write_table(table, arguments.output)
        print(f"{len(table)} rows -> {arguments.output}")
    else:
        print(show(table.drop(columns=[ENCODER_COLUMN, *(["source"] if _all_strings(items) else [])])))
    return report_failures(table)


def _row(item: Item) -> dict[str, object]:
    return {column: getattr(item, column) for column in COLUMNS} | {"error": item.error}


def _all_strings(items: list[Item]) -> bool:
    return all(item.source == item.scope for item in items)


def show(table: pd.DataFrame, most: int | None = None) -> str:
    """Format a table for the terminal, one line a row, without errors and empty columns; at most `most` rows."""
    shown = table.drop(columns="error").dropna(axis="columns", how="all").astype(object)
    if most is not None and len(shown) > most:
        return f"{_show_rows(shown.head(most))}\n... and {len(shown) - most} more rows"
    return _show_rows(shown)


def _show_rows(shown: pd.DataFrame) -> str:
    """Format rows as they are."""
    rows = shown.where(shown.notna(), "").to_numpy().tolist()
    return tabulate(rows, headers=[str(name) for name in shown.columns], tablefmt="simple", disable_numparse=True)


def check_table_output(arguments: argparse.Namespace) -> None:
    """Refuse, before the work, an output that cannot be written or that is one of the inputs."""
    if not arguments.output:
        return
    check_output(arguments.output, TABLE_SUFFIXES)
    if Path(arguments.output).resolve() in {Path(text).resolve() for text in arguments.inputs if "|" not in text}:
        raise TableError(f"{arguments.output}: is also an input; choose another name for the output.")


def report_failures(table: pd.DataFrame, total: int | None = None) -> int:
    """Tell on stderr which rows failed and why; return the exit status, 1 if there are any."""
    errors = table["error"].dropna()
    for error in errors[:SHOWN_FAILURES]:
        print(f"cloud-hf: {error}", file=sys.stderr)
    if len(errors):
        more = f", {len(errors) - SHOWN_FAILURES} of them not shown" if len(errors) > SHOWN_FAILURES else ""
        print(f"cloud-hf: {len(errors)} of {total or len(table)} rows failed{more}.", file=sys.stderr)
    return int(len(errors) > 0)
