"""`cloud-hf corpus`: crystals by the million to shards of SCOPE strings."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cloud_hf.cli.arguments import (
    add_cluster_arguments,
    add_encoding_arguments,
    add_max_atoms,
    add_symmetry_arguments,
    add_workers,
    positive_integer,
    seconds,
)
from cloud_hf.cli.output import report_failures, show_reasons
from cloud_hf.corpus.jobs import write_job
from cloud_hf.corpus.leakage import DEFAULT_KINDS, Known, corpus_leakage, leakage_text
from cloud_hf.corpus.plan import BuildSettings, make_plan
from cloud_hf.corpus.report import equation
from cloud_hf.corpus.schema import Folders
from cloud_hf.corpus.shards import open_corpus
from cloud_hf.data.leakage import NAME_KINDS
from cloud_hf.data.names import name_rows
from cloud_hf.data.tables import check_output, read_table
from cloud_hf.errors import TableError
from cloud_hf.files import write_json, write_text
from cloud_hf.scope import ScopeEncoder
from cloud_hf.scope.grammar import GRAMMARS

__all__ = ["add_corpus_parser"]

SHOWN_PROVIDERS = 5


def add_corpus_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommands."""
    parser = commands.add_parser("corpus", help="millions of crystals to shards of SCOPE strings")
    actions = parser.add_subparsers(dest="action", required=True, metavar="action")
    _add_fetch(actions)
    _add_build(actions)
    _add_leakage(actions)
    _add_push(actions)


def _add_fetch(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = actions.add_parser("fetch", help="structures from OPTIMADE providers", description=fetch.__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--providers", nargs="+", metavar="PREFIX", help="registered providers, e.g. mp oqmd alexandria")
    where.add_argument("--url", nargs="+", help="base URLs of databases, e.g. https://optimade.materialsproject.org")
    parser.add_argument("-o", "--output", required=True, help="folder, an input of `corpus build`")
    parser.add_argument("--filter", default="", help="in OPTIMADE's language, e.g. 'nelements=2' (default: everything)")
    parser.add_argument("--most", type=positive_integer, help="structures per provider (default: all)")
    parser.add_argument("--page", type=positive_integer, default=100, help="structures per request (default 100)")
    parser.add_argument("--delay", type=seconds, default=1.0, help="s between requests to a provider (default 1)")
    parser.add_argument(
        "--attempts", type=positive_integer, default=5, help="repetitions of a request, with growing pauses (default 5)"
    )
    parser.set_defaults(run=fetch)


def fetch(arguments: argparse.Namespace) -> int:
    """Fetch structures from OPTIMADE providers to Parquet shards; the same command goes on with an interrupted run."""
    from cloud_hf.corpus.fetch import Request, base_urls, fetch_structures

    request = Request(
        arguments.filter, arguments.page, arguments.most, arguments.delay or 0.0, attempts=arguments.attempts
    )
    check_output(Path(arguments.output) / "state.json")
    urls = arguments.url or base_urls(arguments.providers, request)
    providers = fetch_structures(urls, arguments.output, request, progress=sys.stderr.isatty())
    for provider in providers:
        licence = f", {provider.license}" if provider.license else ""
        state = "" if provider.done else ", not all"
        print(f"{provider.url} ({provider.provider}{licence}): {provider.structures} structures{state}")
        if provider.problem:
            note = "what was fetched stays, and the same command goes on"
            print(f"cloud-hf: {provider.url}: {provider.problem} ({note})", file=sys.stderr)
    return int(any(provider.problem for provider in providers))


def _add_build(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = actions.add_parser("build", help="encode crystals to a corpus", description=build.__doc__)
    parser.add_argument(
        "inputs",
        nargs="*",
        help="folders of CIF or POSCAR files, tar and zip archives of them, tables of structures (.parquet, .jsonl, "
        ".jsonl.gz), what `corpus fetch` wrote, folders of Dataset.save_to_disk, hf://OWNER/NAME[/CONFIG][:SPLIT]; "
        "none: go on with the corpus that was begun",
    )
    parser.add_argument("-o", "--output", required=True, help="folder of the corpus")
    parser.add_argument(
        "--grammars",
        nargs="+",
        choices=GRAMMARS,
        default=GRAMMARS,
        help="columns of strings (default: all)",
    )
    add_symmetry_arguments(parser)
    parser.add_argument("--rows", type=positive_integer, default=10_000, help="crystals per task (default 10000)")
    parser.add_argument("--license", help="licence of rows that do not say theirs")
    add_cluster_arguments(parser, "cores of a task")
    add_encoding_arguments(parser)
    parser.set_defaults(run=build)


def build(arguments: argparse.Namespace) -> int:
    """Encode crystals to deduplicated shards of SCOPE strings; the same command goes on with an interrupted build."""
    from cloud_hf.corpus.build import build_corpus, import_engine

    settings = BuildSettings(
        tuple(arguments.grammars),
        arguments.symprec,
        arguments.angle_tolerance,
        arguments.symmetry,
        arguments.max_atoms,
        arguments.rows,
        arguments.license,
        arguments.trust_sites,
    )
    root = Path(arguments.output)
    if arguments.executor != "local":
        import_engine()
        plan = make_plan(arguments.inputs, Folders(root), settings)
        where = arguments.partition, arguments.time
        job = write_job(root, arguments.executor, arguments.processes, arguments.timeout, *where)
        print(f"{plan.rows} crystals in {plan.tasks} tasks; start them with: python {job}")
        return 0
    report = build_corpus(arguments.inputs, root, settings, arguments.processes, arguments.timeout, progress=None)
    return _report(report, root)


def _add_leakage(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = actions.add_parser(
        "leakage", help="what a corpus shares with labelled tables", description=leakage.__doc__
    )
    parser.add_argument("corpus", help="folder or Hub id of a corpus")
    parser.add_argument("tables", nargs="+", help="labelled tables, as for `cloud-hf split`")
    parser.add_argument("-o", "--output", required=True, help="folder for exclude.parquet, leakage.json and leakage.md")
    parser.add_argument(
        "--by", nargs="+", choices=tuple(NAME_KINDS), default=DEFAULT_KINDS, help="what counts as the same crystal"
    )
    parser.add_argument(
        "--where", metavar="COLUMN=VALUE,VALUE", help="only these rows of the tables, e.g. split=validation,test"
    )
    add_workers(parser)
    parser.add_argument("--cache", help="folder for encoded strings, reused by later calls (default OUTPUT/strings)")
    add_max_atoms(parser)
    parser.set_defaults(run=leakage)


def leakage(arguments: argparse.Namespace) -> int:
    """Compare a corpus with labelled tables; write a report, and the list of rows that `pretrain --exclude` honours.

    A row of a table whose crystal cannot be read is named, and the exit status is then 1: it is not compared.
    """
    folder = Path(arguments.output)
    exclude = folder / "exclude.parquet"
    check_output(exclude, inputs=arguments.tables)
    corpus = open_corpus(arguments.corpus)
    encoder, cache = ScopeEncoder(max_atoms=arguments.max_atoms), arguments.cache or folder / "strings"
    known = Known()
    failures: list[str] = []
    bar = sys.stderr.isatty()
    for text in arguments.tables:
        path = Path(text)
        named = name_rows(path, encoder, cache, arguments.processes, arguments.timeout, bar)
        named = named if arguments.where is None else named[_wanted(path, arguments.where)]
        known.add(path.stem, named)
        failures += named["error"].dropna().tolist()
    report = corpus_leakage(corpus, known, exclude, tuple(arguments.by), progress=bar)
    write_json(report, folder / "leakage.json")
    write_text(leakage_text(report), folder / "leakage.md")
    print(f"{report['excluded']} of {report['rows']} rows of the corpus agree with the tables -> {exclude}")
    return report_failures(failures, sum(known.rows.values()))  # whose crystals may be in the corpus all the same


def _wanted(path: Path, where: str) -> Any:
    """Rows of a table in which a column has one of some values."""
    column, _, values = where.partition("=")
    table = read_table(path)
    if column not in table.columns or not values:
        raise TableError(
            f"--where {where!r} must name a column and its values; it has {', '.join(table.columns)}.", source=str(path)
        )
    wanted = table[column].astype(str).isin(values.split(",")).to_numpy()
    if not wanted.any():
        raise TableError(
            f"--where {where!r}: no row has one of these values in the column {column!r}.", source=str(path)
        )
    return wanted


def _add_push(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = actions.add_parser("push", help="a corpus to the Hub, with a card", description=push.__doc__)
    parser.add_argument("corpus", help="folder of a corpus")
    parser.add_argument("repository", help="OWNER/NAME on the Hub")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.set_defaults(run=push)


def push(arguments: argparse.Namespace) -> int:
    """Publish a corpus as a data set on the Hub; the card counts sources and licences, with pictures of the content."""
    from cloud_hf.corpus.publish import push_corpus

    print(push_corpus(arguments.corpus, arguments.repository, arguments.private))
    return 0


def _report(report: Mapping[str, Any], root: Path) -> int:
    rows, counts = report["rows"], report["counts"]
    print(equation(rows))
    print(f"{len(report['shards'])} shards -> {root}; by provider: {_listed(counts['providers'])}")
    if rows["quarantined"]:
        print(f"cloud-hf: {rows['quarantined']} rows are quarantined; see {root / 'quarantine'}:", file=sys.stderr)
        show_reasons(counts["errors"])
    return int(rows["quarantined"] > 0)


def _listed(counts: Mapping[str, int]) -> str:
    shown = [f"{name} {number}" for name, number in list(counts.items())[:SHOWN_PROVIDERS]]
    return ", ".join(shown) + (f" and {len(counts) - len(shown)} more" if len(counts) > len(shown) else "")
