"""`cloud-hf search`: the crystals of a table or corpus, or known ones, that are nearest to others."""

import argparse

from tabulate import tabulate

from cloud_hf.cli.arguments import add_model, add_workers, positive_integer
from cloud_hf.cli.output import report_failures
from cloud_hf.data.tables import TABLE_SUFFIXES, check_output, write_table

__all__ = ["add_search_parser"]

HIDDEN = ("scope", "error")


def add_search_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "search", help="the nearest known crystals, or those of a table or corpus", description=search.__doc__
    )
    parser.add_argument("inputs", nargs="+", help="crystal files, SCOPE strings or tables that are asked for")
    parser.add_argument(
        "--in",
        dest="collection",
        metavar="TABLE",
        help="table or folder of a corpus (default: known crystals inside the package, with values from databases)",
    )
    parser.add_argument("-k", type=positive_integer, default=10, help="neighbours of each (default 10)")
    parser.add_argument("-o", "--output", help="file for the neighbours (.csv, .jsonl, .parquet)")
    parser.add_argument("--vectors", metavar="FILE", help="keep the vectors of the table here (.safetensors)")
    parser.add_argument("--index", metavar="FILE", help="keep an approximate index here, for tables above a million")
    add_model(parser)
    parser.add_argument("--head", help="take the bundled checkpoint with this head")
    add_workers(parser)
    parser.set_defaults(run=search)


def search(arguments: argparse.Namespace) -> int:
    """Find the known crystals, or those of a table or corpus, that are nearest by what the model makes of them."""
    if arguments.output:
        read = [*arguments.inputs, *filter(None, [arguments.collection])]
        check_output(arguments.output, TABLE_SUFFIXES, read)
    from cloud_hf.screening.search import search as find

    neighbours = find(
        arguments.inputs,
        arguments.collection,
        arguments.k,
        model=arguments.model,
        head=arguments.head,
        vectors=arguments.vectors,
        index=arguments.index,
        processes=arguments.processes,
        timeout=arguments.timeout,
    )
    shown = neighbours[neighbours["error"].isna()].drop(columns=list(HIDDEN)).dropna(axis="columns", how="all")
    print(tabulate(shown.to_dict("records"), headers="keys", tablefmt="simple", floatfmt=".4g", missingval=""))
    if arguments.output:
        write_table(neighbours, arguments.output)
        print(f"{len(neighbours)} rows -> {arguments.output}")
    return report_failures(neighbours["error"].dropna().tolist(), neighbours["query"].nunique())
