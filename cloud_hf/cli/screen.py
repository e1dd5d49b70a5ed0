"""`cloud-hf screen`: prototypes and elements to the candidates that are most likely to be what is wanted."""

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from tabulate import tabulate

from cloud_hf.cli.arguments import (
    PLOT_SUFFIXES,
    add_cluster_arguments,
    add_model,
    add_prediction_arguments,
    add_workers,
    positive_integer,
)
from cloud_hf.cli.output import report_failures
from cloud_hf.corpus.build import import_engine
from cloud_hf.data.tables import TABLE_SUFFIXES, check_output, write_table
from cloud_hf.errors import CloudError
from cloud_hf.screening.candidates import DEFAULT_LIMIT
from cloud_hf.screening.elements import GROUPS

if TYPE_CHECKING:  # torch, which the help does not need
    from cloud_hf.screening.api import Screening

__all__ = ["add_screen_parser"]

SHOWN = 20
"""Candidates on the terminal."""


def add_screen_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "screen", help="hypothetical crystals to those that are most likely wanted", description=screen.__doc__
    )
    parser.add_argument(
        "prototypes",
        nargs="*",
        help="names of prototypes (see --list), crystal files, SCOPE strings, tables, corpora (default: all prototypes "
        "of the package)",
    )
    parser.add_argument("--list", action="store_true", help="show the prototypes and the groups of elements, and stop")
    parser.add_argument(
        "--elements",
        nargs="+",
        default=[],
        metavar="SLOT=LIST",
        help="elements of slots, by symbol or group, a minus takes away: A=Li,Na B=transition-metals,-Cd X=O,S "
        "(default: all stable elements); 'auto' among them: for other slots those that the language model proposes",
    )
    parser.add_argument(
        "--samples", type=positive_integer, default=200, help="with 'auto': draws for each prototype (default 200)"
    )
    parser.add_argument(
        "--sampling-temperature", type=float, default=1.0, help="with 'auto': above 1 draws vary more (default 1)"
    )
    parser.add_argument("--seed", type=int, default=0, help="with 'auto': seed of the draws (default 0)")
    parser.add_argument("--mask-sites", action="store_true", help="with 'auto': let it propose Wyckoff words too")
    parser.add_argument(
        "--want",
        nargs="+",
        default=[],
        metavar="WANT",
        help="band_gap=1.1:1.7 'bulk_modulus>=100' 'energy_above_hull<=0.1'",
    )
    add_model(parser)
    parser.add_argument("--top", type=positive_integer, default=100, metavar="K", help="candidates kept (default 100)")
    parser.add_argument("--new", action="store_true", help="keep no known crystals")
    parser.add_argument(
        "--whole-hull",
        action="store_true",
        help="keep no candidates so low that the hull must lack phases there",
    )
    parser.add_argument(
        "--known", nargs="+", default=[], metavar="TABLE", help="crystals that are known, besides the package's list"
    )
    parser.add_argument(
        "--phases", metavar="TABLE", help="phases for the hull: formula, formation_energy_per_atom, vintage"
    )
    for name, text in (
        ("neutral", "oxidation states add up to zero"),
        ("ordered", "cations are less electronegative than anions"),
        ("alloys", "compounds of metals alone need neither"),
    ):
        parser.add_argument(
            f"--{name}", action=argparse.BooleanOptionalAction, default=True, help=f"{text} (default: yes)"
        )
    parser.add_argument(
        "--limit",
        type=positive_integer,
        default=DEFAULT_LIMIT,
        help=f"most products looked at (default {DEFAULT_LIMIT})",
    )
    parser.add_argument("-o", "--output", help="folder of all candidates; the same command goes on where it stopped")
    parser.add_argument("--table", help="file for the kept candidates (.csv, .jsonl, .parquet)")
    parser.add_argument("--write-structures", metavar="DIR", help="a CIF of each kept candidate, to be relaxed")
    parser.add_argument("--plot", help="Pareto front of the first two wants (.png, .svg, .pdf)")
    add_workers(parser, "encode and screen crystals")
    add_prediction_arguments(parser)
    parser.add_argument("--rows", type=positive_integer, default=20_000, help="products in a piece (default 20000)")
    add_cluster_arguments(parser, "its tasks")
    parser.set_defaults(run=screen)


def screen(arguments: argparse.Namespace) -> int:
    """Screen hypothetical crystals: prototypes times elements, by the chance that all wants are met."""
    if arguments.list:
        print(_listed())
        return 0
    for path, suffixes in ((arguments.plot, PLOT_SUFFIXES), (arguments.table, TABLE_SUFFIXES)):
        if path:
            check_output(path, suffixes, [*arguments.prototypes, *arguments.known, *filter(None, [arguments.phases])])
    from cloud_hf.screening.api import prepare, run_screening
    from cloud_hf.screening.chemistry import Rules
    from cloud_hf.screening.proposals import Sampling

    if arguments.executor != "local":
        if not arguments.output:
            raise CloudError("--executor needs a folder that the cluster can reach; name it with -o.")
        import_engine()
    if arguments.plot and len(arguments.want) < 2:
        raise CloudError("--plot draws the Pareto front of two wants; give two with --want.")
    with ExitStack() as stack:
        temporary = None if arguments.output else stack.enter_context(tempfile.TemporaryDirectory())
        plan, evaluator = prepare(
            Path(arguments.output or str(temporary)),
            arguments.prototypes or None,
            arguments.elements,
            arguments.want,
            model=arguments.model,
            rules=Rules(arguments.neutral, arguments.ordered, arguments.alloys),
            known=arguments.known,
            phases=arguments.phases,
            structures=arguments.write_structures,
            temperature=arguments.temperature,
            limit=arguments.limit,
            batch_size=arguments.batch_size,
            members=arguments.members,
            sampling=Sampling(arguments.samples, arguments.sampling_temperature, arguments.seed, arguments.mask_sites),
            rows=arguments.rows,
            processes=arguments.processes if arguments.executor == "local" else 1,
            timeout=arguments.timeout,
        )
        if arguments.executor != "local":
            from cloud_hf.screening.cluster import write_screen_job

            job = write_screen_job(plan, arguments.executor, arguments.processes, arguments.partition, arguments.time)
            print(f"{len(plan.source):,} products in {plan.pieces} pieces; start them with: python {job}")
            return 0
        screening = run_screening(
            plan,
            evaluator,
            top=arguments.top,
            new=arguments.new,
            whole_hull=arguments.whole_hull,
            structures=arguments.write_structures,
            picture=arguments.plot,
            processes=arguments.processes,
        )
    return _report(screening, arguments)


def _report(screening: "Screening", arguments: argparse.Namespace) -> int:
    if arguments.table:
        write_table(screening.top, arguments.table)
    print(_table(screening.top, [want.quantity for want in screening.wants]))
    if screening.proposed is not None:
        print(f"{screening.proposed}.")
    print(f"{screening.totals.counts}, {screening.totals.known:,} of them known.")
    if screening.totals.incomplete:
        from cloud_hf.screening.evaluation import LARGEST_DROP

        print(
            f"{screening.totals.incomplete:,} candidates lie more than {LARGEST_DROP:g} eV/atom below all known "
            "phases, where phases must be missing ('gap'), and count as so far below; --whole-hull leaves them out, "
            "--phases adds phases."
        )
    if screening.products_per_second is not None:
        print(f"{screening.products_per_second:,.0f} products a second.")
    print("Probability: the chance that all wants are met, with errors as on crystals like those of the training.")
    for path, text in (
        (arguments.table, f"{len(screening.top)} candidates"),
        (arguments.output, "all candidates"),
        (arguments.plot, f"Pareto front of {0 if screening.front is None else len(screening.front)} candidates"),
        (arguments.write_structures, f"{len(screening.top) - len(screening.problems)} structures to be relaxed"),
    ):
        if path:
            print(f"{text} -> {path}")
    errors = screening.top["error"].dropna().tolist() + screening.problems
    return report_failures(errors, len(screening.top))


def _table(top: pd.DataFrame, quantities: list[str]) -> str:
    """The first candidates, with what was wanted of them and the intervals."""
    headings = {name: column for name in quantities for column in top.columns if column.startswith(f"{name} (")}
    rows = []
    for row in top.head(SHOWN).to_dict("records"):
        shown: dict[str, Any] = {
            "formula": row["formula"],
            "prototype": row["prototype"],
            "P": f"{row['probability']:.2f}",
        }
        for name, column in headings.items():
            ends = [row[column.replace(f"{name} (", f"{name}_{end} (", 1)] for end in ("low", "high")]
            text = f"{row[column]:.3g}"
            shown[column.replace(" (", "\n(")] = text if pd.isna(ends[0]) else f"{text} [{ends[0]:.3g}, {ends[1]:.3g}]"
        if "decomposition" in row:
            shown["against"] = row["decomposition"]
        flags = [
            "known" if row["known"] is True else "",
            "gap" if row.get("hull_incomplete") is True else "",
            "unusual" if row.get("out_of_distribution") is True else "",
        ]
        rows.append(shown | {"": ", ".join(filter(None, flags))})
    text = tabulate(rows, headers="keys", tablefmt="simple", disable_numparse=True)
    return text if len(top) <= SHOWN else f"{text}\n... and {len(top) - SHOWN} more"


def _listed() -> str:
    from cloud_hf.screening.prototypes import bundled_prototypes

    rows = [
        [
            prototype.name,
            prototype.formula,
            prototype.space_group,
            " ".join(f"{s}={e}" for s, e in zip(prototype.slots, prototype.elements, strict=True)),
        ]
        for prototype in bundled_prototypes().values()
    ]
    prototypes = tabulate(rows, headers=["prototype", "of", "space group", "slots"], tablefmt="simple")
    groups = tabulate(GROUPS.items(), headers=["group", "elements"], tablefmt="simple")
    return f"{prototypes}\n\n{groups}"
