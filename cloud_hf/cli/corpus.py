"""`cloud-hf corpus`: crystals by the million to shards of SCOPE strings."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cloud_hf.cli.encode import add_encoding_arguments, positive_integer
from cloud_hf.corpus.jobs import JOB_KINDS, write_job
from cloud_hf.corpus.plan import BuildSettings, make_plan
from cloud_hf.corpus.report import equation
from cloud_hf.corpus.schema import GRAMMAR_COLUMNS, Folders
from cloud_hf.scope.backends import BACKENDS

__all__ = ["add_corpus_parser"]

SHOWN_REASONS = 5


def add_corpus_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommands."""
    parser = commands.add_parser("corpus", help="millions of crystals to shards of SCOPE strings")
    actions = parser.add_subparsers(dest="action", required=True, metavar="action")
    _add_build(actions)


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
        choices=GRAMMAR_COLUMNS,
        default=GRAMMAR_COLUMNS,
        help="columns of strings (default: all)",
    )
    parser.add_argument("--symmetry", choices=tuple(BACKENDS), default="spglib", help="back-end of the search")
    parser.add_argument("--symprec", type=float, default=0.01, help="distance tolerance of the symmetry search, Å")
    parser.add_argument("--angle-tolerance", type=float, default=5.0, help="angle tolerance, degrees")
    parser.add_argument("--rows", type=positive_integer, default=10_000, help="crystals per task (default 10000)")
    parser.add_argument("--license", help="licence of rows that do not say theirs")
    parser.add_argument(
        "--executor",
        choices=("local", *JOB_KINDS),
        default="local",
        help="local: work now; slurm, ray: write a job file for datatrove's executor (--processes: cores of a task)",
    )
    parser.add_argument("--partition", default="cpu", help="Slurm's partition (default cpu)")
    parser.add_argument("--time", default="24:00:00", help="Slurm's time limit of a task (default 24:00:00)")
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


def _report(report: Mapping[str, Any], root: Path) -> int:
    rows, counts = report["rows"], report["counts"]
    print(equation(rows))
    print(f"{len(report['shards'])} shards -> {root}; by provider: {_listed(counts['providers'])}")
    if rows["quarantined"]:
        print(f"cloud-hf: quarantined: {_listed(counts['errors'])}; see {root / 'quarantine'}", file=sys.stderr)
    return int(rows["quarantined"] > 0)


def _listed(counts: Mapping[str, int]) -> str:
    shown = [f"{name} {number}" for name, number in list(counts.items())[:SHOWN_REASONS]]
    return ", ".join(shown) + (f" and {len(counts) - len(shown)} more" if len(counts) > len(shown) else "")
