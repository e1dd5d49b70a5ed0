"""`cloud-hf evaluate`: errors of a head on a labelled table."""

import argparse
import sys

from tabulate import tabulate

from cloud_hf.checkpoints.bundled import DEFAULT_HEAD, bundled_heads
from cloud_hf.cli.arguments import add_encoding_arguments, add_model_arguments, add_structure
from cloud_hf.cli.output import report_failures
from cloud_hf.cli.predict import with_reading
from cloud_hf.data.tables import check_output
from cloud_hf.files import write_json

__all__ = ["add_evaluate_parser"]


def add_evaluate_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = commands.add_parser("evaluate", help="errors of a head on a labelled table", description=evaluate.__doc__)
    add_model_arguments(
        parser,
        head="the head whose labels these are, which may be an auxiliary target (default: the one that --label is "
        f"named after; if none is, {DEFAULT_HEAD}, or the first of a checkpoint without it)",
    )
    parser.add_argument("--data", required=True, help="labelled table (.csv, .jsonl, .parquet)")
    add_structure(parser)
    parser.add_argument(
        "--label", "--target", required=True, dest="label", help="column with the labels, in the head's unit"
    )
    parser.add_argument(
        "--n-atoms",
        help="column with atoms per cell, for labels per cell (heat capacities in J/(mol cell K), targets learned per "
        "atom); without it labels are per atom, or per primitive cell for targets learned per atom",
    )
    parser.add_argument("--json", help="write the metrics to this file")
    add_encoding_arguments(parser)
    parser.epilog = f"Heads of the bundled models: {', '.join(bundled_heads())}."
    parser.set_defaults(run=evaluate)


def evaluate(arguments: argparse.Namespace) -> int:
    """Score a head on a table. Exit status 0 if every labelled row was scored, 1 otherwise."""
    from cloud_hf.inference.evaluation import evaluate_table
    from cloud_hf.inference.prediction import heads_of, load_predictor

    if arguments.json:
        check_output(arguments.json, inputs=[arguments.data])
    head = arguments.head
    if head is None and arguments.model == "default" and arguments.label in bundled_heads():
        head = arguments.label
    predictor = load_predictor(arguments.model, head, arguments.dtype, arguments.members)
    predictor = with_reading(predictor, arguments.max_atoms, arguments.trust_sites)
    head = head or _head_of(arguments.label, heads_of(predictor.model.config))
    evaluation = evaluate_table(
        predictor,
        arguments.data,
        arguments.label,
        head,
        arguments.n_atoms,
        arguments.temperature,
        arguments.batch_size,
        arguments.processes,
        arguments.timeout,
        arguments.structure,
    )
    metrics = evaluation.metrics
    for warning in evaluation.warnings:
        print(f"cloud-hf: warning: {warning}", file=sys.stderr)
    print(tabulate([[name, _shown(value)] for name, value in metrics.items()], tablefmt="plain", disable_numparse=True))
    if arguments.json:
        write_json(metrics, arguments.json, indent=2)
    if not metrics["n"] and not metrics["n_failed"]:
        print(f"cloud-hf: {arguments.data}: no row has a label in the column {arguments.label!r}.", file=sys.stderr)
    reasons = [reason for _, reason in evaluation.failures]
    return report_failures(reasons, metrics["n"] + metrics["n_failed"]) or int(metrics["n"] == 0)


def _head_of(label: str, heads: list[str]) -> str:
    """The head that labels belong to where the user names none."""
    return next((name for name in (label, DEFAULT_HEAD) if name in heads), heads[0])


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
