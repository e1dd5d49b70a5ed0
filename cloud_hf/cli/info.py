"""`cloud-hf info`: what is installed, and what a checkpoint predicts."""

import argparse
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tabulate import tabulate

import cloud_hf
from cloud_hf.checkpoints.reading import read_config
from cloud_hf.checkpoints.records import (
    METRICS_FILE,
    PRETRAINED_METRICS_FILE,
    PRETRAINING_FILE,
    baseline_errors,
    read_calibration,
    read_record,
    rows_of,
)
from cloud_hf.cli.arguments import add_model
from cloud_hf.inference.prediction import heads_of, model_path

__all__ = ["add_info_parser"]

LIBRARIES = ("torch", "transformers", "tokenizers", "datasets", "accelerate", "pymatgen", "spglib")


def add_info_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = commands.add_parser("info", help="versions, and what a checkpoint predicts", description=info.__doc__)
    add_model(parser)
    parser.add_argument("--head", help="head of the bundled model")
    parser.set_defaults(run=info)


def info(arguments: argparse.Namespace) -> int:
    """Show versions, and grammar, heads, units and training errors of a checkpoint."""
    path = model_path(arguments.model, arguments.head)
    config = read_config(path)
    outputs = zip(config.target_names or [], config.target_units or [], strict=False)
    rows = [
        ("cloud-hf", cloud_hf.__version__),
        ("Python", platform.python_version()),
        *((name, version(name)) for name in LIBRARIES),
        ("bundled heads", ", ".join(cloud_hf.bundled_heads())),
        ("checkpoint", path),
        ("class", ", ".join(config.architectures or [])),
        ("heads", ", ".join(heads_of(config)) or "none: a pre-trained encoder, to be fine-tuned"),
        ("outputs", ", ".join(f"{name} ({unit})" for name, unit in outputs)),
        ("grammar", f"{config.grammar}, {'canonical' if config.canonical else 'in the order of the input'}"),
        ("symmetry search", f"{config.symmetry}, symprec {config.symprec} Å, angle {config.angle_tolerance} degrees"),
        ("strings made with", config.encoder_settings or "not recorded"),
        ("encoder", f"{config.num_hidden_layers} layers x {config.hidden_size}, {config.vocab_size} words"),
        ("longest string", f"{config.max_position_embeddings} tokens"),
        *_intervals(Path(path)),
        *_metrics(Path(path)),
    ]
    print(tabulate(rows, tablefmt="plain", disable_numparse=True))
    return 0


def _intervals(folder: Path) -> list[tuple[str, str]]:
    """The targets with intervals, and on how many rows these were measured."""
    calibration = read_calibration(folder)
    if calibration is None:
        return []
    targets = calibration.targets.items()
    return [("intervals", ", ".join(f"{name} (measured on {target.n_rows} rows)" for name, target in targets))]


def _metrics(folder: Path) -> list[tuple[str, str]]:
    """What `cloud-hf finetune` and `cloud-hf pretrain` wrote beside the weights."""
    rows: list[tuple[str, str]] = []
    metrics = read_record(folder / METRICS_FILE)
    for part in (part for part in metrics if part != "baselines"):
        rows += [
            (f"MAE, {rows_of(part)}", f"{name}: {_errors(row, baseline_errors(metrics, part, name))}")
            for name, row in metrics[part].items()
        ]
    for name in (PRETRAINING_FILE, PRETRAINED_METRICS_FILE):
        results = read_record(folder / name)
        if "validation_perplexity" in results:
            rows.append(("pre-training", f"perplexity {results['validation_perplexity']:.3g} on strings kept back"))
    return rows


def _errors(row: dict[str, Any], baselines: dict[str, float]) -> str:
    """The MAE of the model beside those of the mean and of other methods."""
    errors = {"mean": row["mad"]} | baselines
    others = "".join(f"{name} {value:.3g}, " for name, value in errors.items() if value is not None)
    mae = "none" if row["mae"] is None else f"{row['mae']:.3g} {row['unit']}"
    return f"{mae} ({others}n = {row['n']})"
