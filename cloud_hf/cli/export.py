"""`cloud-hf export`: CLOUD checkpoints in forms that need no CLOUD code."""

import argparse

from tabulate import tabulate

from cloud_hf.inference.prediction import model_path

__all__ = ["add_export_parser"]


def add_export_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = commands.add_parser("export", help="a checkpoint as plain BERT or ONNX", description=run_export.__doc__)
    parser.add_argument("model", metavar="MODEL", help="'default', a checkpoint folder, or a Hub id")
    parser.add_argument("output", metavar="OUTPUT", help="folder to write")
    parser.add_argument("--format", choices=("bert", "onnx"), default="bert", help="default: bert")
    parser.add_argument("--encoder-only", action="store_true", help="leave the head out")
    parser.add_argument("--overwrite", action="store_true", help="replace a checkpoint in OUTPUT")
    parser.set_defaults(run=run_export)


def run_export(arguments: argparse.Namespace) -> int:
    """Write a checkpoint as plain BERT for stock transformers, or as ONNX for inference, with a tokenizer.json."""
    from cloud_hf.checkpoints.export import export

    path = model_path(arguments.model)
    done = export(path, arguments.output, arguments.format, arguments.encoder_only, arguments.overwrite)
    print(tabulate([*done.rows, ("written to", arguments.output)], tablefmt="plain", disable_numparse=True))
    return 0
