"""`cloud-hf encode`: crystals to SCOPE strings."""

import argparse
import math

from tqdm import tqdm

from cloud_hf.cli.output import check_table_output, open_rows, show
from cloud_hf.data.strings import STRING_COLUMNS, string_rows
from cloud_hf.data.tables import ENCODER_COLUMN
from cloud_hf.errors import CloudError
from cloud_hf.scope import MAX_ATOMS, TIMEOUT, ScopeEncoder
from cloud_hf.scope.backends import BACKENDS
from cloud_hf.scope.grammar import GRAMMARS

__all__ = [
    "add_encode_parser", "add_encoding_arguments", "add_input_arguments", "add_max_atoms", "add_timeout",
    "positive_integer",
]  # fmt: skip


def positive_integer(text: str) -> int:
    """Read a whole number >= 1 from the command line."""
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive whole number, not {text!r}")
    return int(text)


def seconds(text: str) -> float | None:
    """Read a time limit in s from the command line, 0 for none."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of seconds, or 0 for no limit, not {text!r}")
    return value or None


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that every command reading crystals shares."""
    parser.add_argument(
        "inputs",
        nargs="+",
        help="CIF, POSCAR or other crystal files, folders, globs, tar and zip archives, SCOPE strings, or tables "
        "(.csv, .jsonl, .parquet) with the columns lattice (9 numbers, Å), numbers, frac_coords, or a column scope, "
        "structure, cif, atoms or optimade",
    )
    parser.add_argument("-o", "--output", help="write rows to this .csv, .jsonl or .parquet file")
    add_encoding_arguments(parser)


def add_max_atoms(parser: argparse.ArgumentParser) -> None:
    """The encoder's size limit."""
    text = f"largest number of sites in a cell (default {MAX_ATOMS})"
    parser.add_argument("--max-atoms", type=positive_integer, default=MAX_ATOMS, help=text)


def add_encoding_arguments(parser: argparse.ArgumentParser) -> None:
    """The limits of encoding."""
    add_max_atoms(parser)
    parser.add_argument(
        "--processes", type=positive_integer, default=1, help="worker processes that encode crystals (default 1)"
    )
    add_timeout(parser)
    add_trust_sites(parser)


def add_timeout(parser: argparse.ArgumentParser) -> None:
    """The time that one crystal may take."""
    text = f"longest time for one crystal, s; 0 sets no limit (default {TIMEOUT:g})"
    parser.add_argument("--timeout", type=seconds, default=TIMEOUT, help=text)


def add_trust_sites(parser: argparse.ArgumentParser) -> None:
    """The way out where a crystal contradicts what its source says beside it."""
    parser.add_argument(
        "--trust-sites",
        action="store_true",
        help="take the sites of a crystal as they are, with a warning, where the formula of its file, hydrogen without "
        "positions, or the lack of any symmetry in a CIF speaks against them",
    )


def add_encode_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = commands.add_parser("encode", help="crystals to SCOPE strings", description=encode.__doc__)
    add_input_arguments(parser)
    parser.add_argument("--grammar", choices=GRAMMARS, default="sites", help="form of the string")
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
    if arguments.released and arguments.grammar == "sites":
        raise CloudError("--released needs --grammar composition or full; the paper's encoder has no grammar 'sites'.")
    encoder = ScopeEncoder(
        arguments.grammar,
        canonical=not arguments.released,
        symprec=arguments.symprec,
        angle_tolerance=arguments.angle_tolerance,
        symmetry=arguments.symmetry,
        max_atoms=arguments.max_atoms,
        trust_sites=arguments.trust_sites,
    )
    encoded_rows = string_rows(arguments.inputs, encoder, arguments.processes, arguments.timeout)
    all_strings = True
    with open_rows(STRING_COLUMNS, arguments.output) as rows:
        for item, row in tqdm(encoded_rows, desc="encode", unit="crystal", disable=None):
            rows.add(row)
            rows.failed(item.error)
            all_strings &= item.source == item.scope
    if arguments.output:
        print(f"{rows.n_rows} rows -> {arguments.output}")
    else:
        hidden = (ENCODER_COLUMN, "source") if all_strings else (ENCODER_COLUMN,)
        shown = [{name: value for name, value in row.items() if name not in hidden} for row in rows.shown]
        print(show(shown, rows.n_rows))
    return rows.report(rows.n_rows)
