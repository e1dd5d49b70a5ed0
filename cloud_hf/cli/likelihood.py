"""`cloud-hf likelihood`: the threshold below which a masked language model finds a crystal unusual."""

import argparse
import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cloud_hf.cli.arguments import positive_integer
from cloud_hf.data.tables import check_output
from cloud_hf.data.token_classes import TOKEN_CLASSES
from cloud_hf.errors import CheckpointError, CloudError
from cloud_hf.files import write_json

if TYPE_CHECKING:  # torch, which the help does not need
    from cloud_hf.inference.likelihood import StringLikelihood
    from cloud_hf.inference.likelihood_head import LikelihoodHead

__all__ = ["add_likelihood_parser"]


def add_likelihood_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "likelihood",
        help="how well a masked language model tells unusual crystals; its threshold",
        description=inspect.getdoc(likelihood),
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
    parser.add_argument(
        "--distil",
        metavar="FOLDER",
        help="teach the likelihoods to the encoder of this property checkpoint, by a small head that is stored there "
        "with its threshold: `predict` then flags crystals at no cost; the figures are those of the head",
    )
    parser.add_argument(
        "--learn", nargs="+", metavar="TABLE[:PART]", help="strings that --distil learns from, none of those measured"
    )
    parser.add_argument(
        "--most-learned",
        type=positive_integer,
        default=15_000,
        help="strings of --learn, chosen at random; as many with exchanged elements are made (default 15000)",
    )
    parser.add_argument("--json", help="write the figures to this file")
    parser.set_defaults(run=likelihood)


def likelihood(arguments: argparse.Namespace) -> int:
    """Measure the likelihoods of strings under a masked language model, and store the threshold of unusual ones.

    Both tables have a column 'scope'; of a split table, such as `cloud-hf split` writes, a part may be taken:
    materials_project.parquet:validation. Below the threshold lies 1 % of the strings from inside. With strings from
    outside the AUROC is printed too, the probability that a string from inside is the likelier one of two, with its
    95 % interval. `cloud-hf predict --likelihood MODEL` flags crystals below a threshold that was stored with --save.

    With --distil FOLDER --learn TABLE the encoder of a property checkpoint tells the likelihoods of the model itself,
    from real strings and such with elements exchanged; `cloud-hf predict` then flags crystals without a further pass.
    """
    from cloud_hf.inference.likelihood import StringLikelihood, distinct_strings, measure_likelihoods

    if arguments.json:
        read = filter(None, (arguments.inside, arguments.outside, *(arguments.learn or ())))
        check_output(arguments.json, inputs=[name for text in read for name in (text, text.partition(":")[0])])
    if bool(arguments.distil) != bool(arguments.learn) or (arguments.distil and arguments.save):
        raise CloudError("--distil FOLDER and --learn TABLE go together; --save is for the model's own threshold.")
    model = StringLikelihood.load(arguments.model, arguments.words)
    inside = distinct_strings(arguments.inside, arguments.most, arguments.seed)
    outside = distinct_strings(arguments.outside, arguments.most, arguments.seed) if arguments.outside else None
    head = None
    if arguments.distil:
        head = _distilled(arguments, model, {*inside, *(outside or ())})
    figures, settings = measure_likelihoods(head or model, inside, outside, arguments.seed, progress=True)
    for name in ("inside", "outside"):
        if name in figures:
            figures[name]["table"] = Path(getattr(arguments, name)).name
    if head is not None:
        figures["distilled_from"] = Path(arguments.model).name
    print(json.dumps(figures, indent=1))
    if arguments.save:
        print(f"threshold -> {settings.save(arguments.model)}")
    if head is not None:
        head.settings = settings
        print(f"head and threshold -> {head.save(arguments.distil)}")
    if arguments.json:
        write_json(figures, arguments.json)
    return 0


def _distilled(arguments: argparse.Namespace, teacher: "StringLikelihood", measured: set[str]) -> "LikelihoodHead":
    """Fit the head of a property checkpoint to a teacher, with none of the strings by which it is measured."""
    from cloud_hf.checkpoints.reading import read_config
    from cloud_hf.inference.fast_model import load_fast
    from cloud_hf.inference.likelihood import distinct_strings
    from cloud_hf.inference.likelihood_head import distil

    network = load_fast(arguments.distil, read_config(arguments.distil), flagged=False)
    if network is None:
        raise CheckpointError("is no property checkpoint that a head can be fitted to.", source=arguments.distil)
    if network.settings.grammar != "sites" or teacher.model.config.grammar != "sites":
        raise CheckpointError("a head is learned from strings of the grammar 'sites'.", source=arguments.distil)
    distinct = {scope: None for table in arguments.learn for scope in distinct_strings(table, seed=arguments.seed)}
    longest = min(network.tokenizer.model_max_length, teacher.tokenizer.model_max_length) - 2
    strings = [scope for scope in distinct if scope not in measured and len(scope.split()) <= longest]
    order = np.random.default_rng(arguments.seed).permutation(len(strings))[: arguments.most_learned]
    return distil(teacher, network, [strings[row] for row in order], arguments.seed, measured)
