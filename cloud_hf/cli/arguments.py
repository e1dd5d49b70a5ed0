"""Arguments that several commands share, and the texts that they are read from."""

import argparse
import math

from cloud_hf.errors import CloudError
from cloud_hf.scope import MAX_ATOMS, TIMEOUT
from cloud_hf.scope.backends import BACKENDS

__all__ = [
    "PLOT_SUFFIXES",
    "add_cluster_arguments",
    "add_encoding_arguments",
    "add_input_arguments",
    "add_max_atoms",
    "add_model",
    "add_model_arguments",
    "add_prediction_arguments",
    "add_structure",
    "add_symmetry_arguments",
    "add_trust_sites",
    "add_workers",
    "kelvin",
    "positive_integer",
    "seconds",
]

PLOT_SUFFIXES = (".png", ".svg", ".pdf")
"""Pictures that a command draws."""


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


def kelvin(text: str) -> float:
    """Read a temperature in K from the command line."""
    from cloud_hf.inference.prediction import checked_temperature

    try:
        return checked_temperature(text)
    except CloudError as error:
        raise argparse.ArgumentTypeError(error.reason) from error


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that every command reading crystals shares."""
    parser.add_argument(
        "inputs",
        nargs="+",
        help="CIF, POSCAR or other crystal files, folders, globs, tar and zip archives, SCOPE strings, or tables "
        "(.csv, .jsonl, .parquet) with the columns lattice (9 numbers, Å), numbers, frac_coords, or a column scope, "
        "structure, cif, atoms or optimade",
    )
    add_structure(parser)
    parser.add_argument("-o", "--output", help="write rows to this .csv, .jsonl or .parquet file")
    add_encoding_arguments(parser)


def add_structure(parser: argparse.ArgumentParser) -> None:
    """The column of crystals of a table, where its name does not tell."""
    parser.add_argument(
        "--structure",
        metavar="COLUMN",
        help="column of a table that holds the crystals: paths (relative to the table), CIF or POSCAR texts, pymatgen "
        "JSON, or SCOPE strings",
    )


def add_max_atoms(parser: argparse.ArgumentParser) -> None:
    """The encoder's size limit."""
    text = f"largest number of sites in a cell (default {MAX_ATOMS})"
    parser.add_argument("--max-atoms", type=positive_integer, default=MAX_ATOMS, help=text)


def add_encoding_arguments(parser: argparse.ArgumentParser) -> None:
    """The limits of encoding."""
    add_max_atoms(parser)
    add_workers(parser)
    add_trust_sites(parser)


def add_workers(parser: argparse.ArgumentParser, task: str = "encode crystals") -> None:
    """Worker processes, and the time that one crystal may take.

    Args:
        parser: Of the command.
        task: What the processes do.
    """
    parser.add_argument(
        "--processes", type=positive_integer, default=1, help=f"worker processes that {task} (default 1)"
    )
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


def add_symmetry_arguments(parser: argparse.ArgumentParser) -> None:
    """The search of the space group."""
    parser.add_argument(
        "--symmetry", choices=tuple(BACKENDS), default="spglib", help="back-end of the search (default spglib)"
    )
    parser.add_argument(
        "--symprec", type=float, default=0.01, help="distance tolerance of the symmetry search, Å (default 0.01)"
    )
    parser.add_argument("--angle-tolerance", type=float, default=5.0, help="angle tolerance, degrees (default 5)")


def add_cluster_arguments(parser: argparse.ArgumentParser, processes: str) -> None:
    """Where the work is done.

    Args:
        parser: Of the command.
        processes: What `--processes` means on a cluster.
    """
    from cloud_hf.corpus.jobs import JOB_KINDS  # here, as commands without a cluster need nothing of a corpus

    parser.add_argument(
        "--executor",
        choices=("local", *JOB_KINDS),
        default="local",
        help=f"local: work now; slurm, ray: write a job file for datatrove's executor (--processes: {processes})",
    )
    parser.add_argument("--partition", default="cpu", help="Slurm's partition (default cpu)")
    parser.add_argument("--time", default="24:00:00", help="Slurm's time limit of a task (default 24:00:00)")


def add_model(parser: argparse.ArgumentParser) -> None:
    """The property model."""
    parser.add_argument(
        "--model", default="default", help="'default' (inside the package), a checkpoint folder, or a Hub id"
    )


def add_model_arguments(
    parser: argparse.ArgumentParser,
    head: str = "property, e.g. heat_capacity, or an auxiliary target (default: all that are not auxiliary)",
) -> None:
    """Arguments that every command giving the predictions of some heads shares.

    Args:
        parser: Of the command.
        head: What `--head` means to it.
    """
    add_model(parser)
    parser.add_argument("--head", help=head)
    add_prediction_arguments(parser)
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of the weights; bfloat16 is about 1 %% less exact, and faster only on some processors: try it on yours",
    )


def add_prediction_arguments(parser: argparse.ArgumentParser) -> None:
    """How a property model is run."""
    parser.add_argument(
        "--members",
        type=positive_integer,
        metavar="N",
        help="run only the first N members of the model's ensemble, 1 for speed (default: all); intervals stay those "
        "of all members",
    )
    parser.add_argument("--temperature", type=kelvin, default=300.0, help="K, for thermal properties (default 300)")
    parser.add_argument(
        "--batch-size", type=positive_integer, default=256, help="strings per forward pass (default 256)"
    )
