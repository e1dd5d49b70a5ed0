"""Entry point of the `cloud-hf` command."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from transformers.utils.logging import disable_progress_bar

import cloud_hf
from cloud_hf.cli.convert import add_convert_parser
from cloud_hf.cli.encode import add_encode_parser
from cloud_hf.cli.evaluate import add_evaluate_parser
from cloud_hf.cli.export import add_export_parser
from cloud_hf.cli.info import add_info_parser
from cloud_hf.cli.predict import add_predict_parser
from cloud_hf.cli.split import add_split_parser
from cloud_hf.cli.train import TRAINING_COMMANDS, add_train_parsers
from cloud_hf.errors import CloudError

__all__ = ["build_parser", "main"]

COMMANDS: tuple[Any, ...] = (
    add_predict_parser,
    add_encode_parser,
    add_train_parsers,
    add_evaluate_parser,
    add_split_parser,
    add_info_parser,
    add_convert_parser,
    add_export_parser,
)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command and all its subcommands."""
    parser = argparse.ArgumentParser(
        prog="cloud-hf", description="CLOUD: crystals to SCOPE strings to physical predictions."
    )
    parser.add_argument("--version", action="version", version=f"cloud-hf {cloud_hf.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for add in COMMANDS:
        add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0 done, 1 some rows failed, 2 it could not run."""
    disable_progress_bar()  # the one of loading weights; encoding and predicting show their own
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if words and words[0] in TRAINING_COMMANDS:
            return TRAINING_COMMANDS[words[0]](words[1:])
        arguments = build_parser().parse_args(words)
        return int(arguments.run(arguments))
    except CloudError as error:
        print(f"cloud-hf: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("cloud-hf: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
