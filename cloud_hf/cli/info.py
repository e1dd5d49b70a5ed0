"""`cloud-hf info`: what is installed, and what a checkpoint predicts."""

import argparse
import json
import platform
from importlib.metadata import version
from pathlib import Path

from tabulate import tabulate

import cloud_hf
from cloud_hf.prediction import heads_of, load_predictor

__all__ = ["add_info_parser"]

LIBRARIES = ("torch", "transformers", "tokenizers", "datasets", "accelerate", "pymatgen", "spglib")


def add_info_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = commands.add_parser("info", help="versions, and what a checkpoint predicts", description=info.__doc__)
    parser.add_argument("--model", default="default", help="'default', a checkpoint folder, or a Hub id")
    parser.add_argument("--head", help="head of the bundled model")
    parser.set_defaults(run=info)


def info(arguments: argparse.Namespace) -> int:
    """Show versions, and grammar, heads, units and training errors of a checkpoint."""
    predictor = load_predictor(arguments.model, arguments.head)
    config = predictor.model.config
    rows = [
        ("cloud-hf", cloud_hf.__version__),
        ("Python", platform.python_version()),
        *((name, version(name)) for name in LIBRARIES),
        ("bundled heads", ", ".join(cloud_hf.bundled_heads())),
        ("checkpoint", config._name_or_path),
        ("class", ", ".join(config.architectures or [])),
        ("heads", ", ".join(heads_of(config))),
        ("outputs", ", ".join(f"{n} ({u})" for n, u in zip(config.target_names, config.target_units, strict=True))),
        ("grammar", f"{config.grammar}, {'canonical' if config.canonical else 'in the order of the input'}"),
        ("symmetry search", f"symprec {config.symprec} Å, angle tolerance {config.angle_tolerance} degrees"),
        ("encoder", f"{config.num_hidden_layers} layers x {config.hidden_size}, {config.vocab_size} words"),
        ("longest string", f"{config.max_position_embeddings} tokens"),
        ("parameters", f"{predictor.model.num_parameters():,}"),
    ]
    metrics = Path(config._name_or_path) / "metrics.json"
    if metrics.is_file():
        for part, targets in json.loads(metrics.read_text(encoding="utf-8")).items():
            rows += [
                (
                    f"MAE, {part} rows",
                    f"{name}: {row['mae']:.3g} {row['unit']} (mean predictor {row['mad']:.3g}, n = {row['n']})",
                )
                for name, row in targets.items()
            ]
    print(tabulate(rows, tablefmt="plain", disable_numparse=True))
    return 0
