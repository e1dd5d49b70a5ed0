"""`cloud-hf likelihood`: the threshold below which a masked language model finds a crystal unusual."""

import argparse
import json
from pathlib import Path

from cloud_hf.cli.encode import positive_integer
from cloud_hf.data.tables import check_output
from cloud_hf.data.token_classes import TOKEN_CLASSES
from cloud_hf.files import write_json

__all__ = ["add_likelihood_parser"]


def add_likelihood_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "likelihood",
        help="how well a masked language model tells unusual crystals; its threshold",
        description=likelihood.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--model", required=True, help="folder of a masked language model, as `cloud-hf pretrain` writes"
    )
    parser.add_argument("--inside", required=True, help="TABLE[:PART] of strings like those it learned, unseen")
    parser.add_argument("--outside", help="TABLE[:PART] of strings of another kind")
    parser.add_argument(
        "--words", nargs="+", choices=TOKEN_CLASSES, default=["elements"], help="words that count (default: elements)"
    )
    parser.add_argument("--most", type=positive_integer, help="strings of each table, chosen at random (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice and of the intervals (default 0)")
    parser.add_argument("--save", action="store_true", help="write likelihood.json beside the weights")
    parser.add_argument("--json", help="write the figures to this file")
    parser.set_defaults(run=likelihood)


def likelihood(arguments: argparse.Namespace) -> int:
    """Measure the likelihoods of strings under a masked language model, and store the threshold of unusual ones.

    Both tables have a column 'scope'; of a split table, such as `cloud-hf split` writes, a part may be taken:
    materials_project.parquet:validation. Below the threshold lies 1 % of the strings from inside. With strings from
    outside the AUROC is printed too, the probability that a string from inside is the likelier one of two, with its
    95 % interval. `cloud-hf predict --likelihood MODEL` flags crystals below a threshold that was stored with --save.
    """
    from cloud_hf.inference.likelihood import StringLikelihood, distinct_strings, measure_likelihoods

    if arguments.json:
        check_output(arguments.json)
    model = StringLikelihood.load(arguments.model, arguments.words)
    inside = distinct_strings(arguments.inside, arguments.most, arguments.seed)
    outside = distinct_strings(arguments.outside, arguments.most, arguments.seed) if arguments.outside else None
    figures, settings = measure_likelihoods(model, inside, outside, arguments.seed, progress=True)
    for name in ("inside", "outside"):
        if name in figures:
            figures[name]["table"] = Path(getattr(arguments, name)).name
    print(json.dumps(figures, indent=1))
    if arguments.save:
        print(f"threshold -> {settings.save(arguments.model)}")
    if arguments.json:
        write_json(figures, arguments.json)
    return 0
