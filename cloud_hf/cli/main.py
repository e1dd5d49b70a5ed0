"""Entry point of the `cloud-hf` command."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

import cloud_hf
from cloud_hf.cli.flags import CommandParser, arguments_as_flags
from cloud_hf.errors import CloudError

__all__ = ["build_parser", "main"]

COMMANDS = {
    "predict": ("cloud_hf.cli.predict", "crystals to physical properties"),
    "screen": ("cloud_hf.cli.screen", "hypothetical crystals to those that are most likely wanted"),
    "search": ("cloud_hf.cli.search", "the nearest known crystals, or those of a table or corpus"),
    "encode": ("cloud_hf.cli.encode", "crystals to SCOPE strings"),
    "corpus": ("cloud_hf.cli.corpus", "millions of crystals to shards of SCOPE strings"),
    "pretrain": ("cloud_hf.cli.train", "pre-train by masked-language modelling on SCOPE strings"),
    "finetune": ("cloud_hf.cli.train", "fine-tune a checkpoint on labelled crystals"),
    "joint": ("cloud_hf.cli.train", "train one model of all heads on the labels of many tables"),
    "study": ("cloud_hf.cli.study", "benchmarks and studies with a report: MatBench, scaling, attention, ..."),
    "evaluate": ("cloud_hf.cli.evaluate", "errors of a head on a labelled table"),
    "calibrate": ("cloud_hf.cli.calibrate", "intervals for a checkpoint, from predictions of unseen rows"),
    "likelihood": ("cloud_hf.cli.likelihood", "how well a masked language model tells unusual crystals; its threshold"),
    "split": ("cloud_hf.cli.split", "folds and validation rows by crystal"),
    "app": ("cloud_hf.cli.app", "the demo page in a browser"),
    "info": ("cloud_hf.cli.info", "versions, and what a checkpoint predicts"),
    "convert": ("cloud_hf.cli.convert", "published weights to a CLOUD checkpoint"),
    "export": ("cloud_hf.cli.export", "a checkpoint as plain BERT or ONNX"),
}
"""Each command with the module that holds its `add_<command>_parser(commands)`, imported only when the command is
given, and its line in the help."""


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of `cloud-hf` with all its commands, of which only `command` knows its arguments."""
    parser = CommandParser(prog="cloud-hf", description="CLOUD: crystals to SCOPE strings to physical predictions.")
    parser.add_argument("--version", action="version", version=f"cloud-hf {cloud_hf.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, (module, text) in COMMANDS.items():
        if name == command:
            getattr(import_module(module), f"add_{name}_parser")(commands)
        else:
            commands.add_parser(name, help=text)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0 done, 1 some rows failed, 2 it could not run."""
    with arguments_as_flags():
        return _run(list(sys.argv[1:] if argv is None else argv))


def _run(given: list[str]) -> int:
    try:
        if given and given[0] in ("pretrain", "finetune", "joint"):  # transformers' own parser reads their arguments
            from cloud_hf.cli.train import TRAINING_COMMANDS

            _hide_loading_bars()
            return TRAINING_COMMANDS[given[0]](given[1:])
        if given and given[0] == "study":
            from cloud_hf.cli.study import study

            _hide_loading_bars()
            return study(given[1:])
        arguments = build_parser(given[0] if given else None).parse_args(given)
        if arguments.command not in ("encode", "corpus"):  # which need neither torch nor transformers
            _hide_loading_bars()
        return int(arguments.run(arguments))
    except CloudError as error:
        print(f"cloud-hf: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("cloud-hf: interrupted", file=sys.stderr)
        return 130


def _hide_loading_bars() -> None:
    """Switch off the bars of loading weights; encoding and predicting show their own."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()


if __name__ == "__main__":
    sys.exit(main())
