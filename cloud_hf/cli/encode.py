"""`cloud-hf encode`: crystals to SCOPE strings."""

import argparse

from tqdm import tqdm

from cloud_hf.cli.arguments import add_input_arguments, add_symmetry_arguments
from cloud_hf.cli.output import check_table_output, open_rows, show
from cloud_hf.data.strings import STRING_COLUMNS, string_rows
from cloud_hf.data.tables import ENCODER_COLUMN
from cloud_hf.errors import CloudError
from cloud_hf.scope import ScopeEncoder
from cloud_hf.scope.grammar import GRAMMARS

__all__ = ["add_encode_parser"]


def add_encode_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = commands.add_parser("encode", help="crystals to SCOPE strings", description=encode.__doc__)
    add_input_arguments(parser)
    parser.add_argument("--grammar", choices=GRAMMARS, default="sites", help="form of the string (default sites)")
    parser.add_argument(
        "--released",
        action="store_true",
        help="composition or full exactly as the paper's encoder writes them, in the order of the input",
    )
    add_symmetry_arguments(parser)
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
    encoded_rows = string_rows(arguments.inputs, encoder, arguments.processes, arguments.timeout, arguments.structure)
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
