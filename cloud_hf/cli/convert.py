"""`cloud-hf convert`: published weights to CLOUD checkpoints."""

import argparse

from tabulate import tabulate

__all__ = ["add_convert_parser"]


def add_convert_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "convert", help="published weights to a CLOUD checkpoint", description=run_convert.__doc__
    )
    parser.add_argument(
        "source", metavar="SOURCE", help="folder, .safetensors, .bin, .pth or .pt file, or Hub id owner/name[/folder]"
    )
    parser.add_argument("output", metavar="OUTPUT", help="folder to write")
    parser.add_argument(
        "--config", metavar="FILE", help="config.json or the paper's .yaml, instead of the one beside the weights"
    )
    parser.add_argument("--target", metavar="NAME:UNIT", help="what a fine-tuned head predicts, e.g. band_gap:eV")
    parser.add_argument("--debye", action="store_true", help="the head gives a Debye temperature (CLOUD-DEBYE)")
    parser.add_argument("--overwrite", action="store_true", help="replace a checkpoint in OUTPUT")
    parser.set_defaults(run=run_convert)


def run_convert(arguments: argparse.Namespace) -> int:
    """Convert published weights, pre-trained or fine-tuned, to a checkpoint for predict, finetune and the classes."""
    from cloud_hf.checkpoints.conversion import convert

    done = convert(
        arguments.source,
        arguments.output,
        arguments.config,
        arguments.target,
        arguments.debye,
        arguments.overwrite,
    )
    print(tabulate([*done.rows, ("written to", arguments.output)], tablefmt="plain", disable_numparse=True))
    return 0
