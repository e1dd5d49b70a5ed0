"""What lies beside the weights of a checkpoint and tells where they come from: errors, pre-training, training data.

The records hold for one set of weights, whose checksum they carry; beside other weights they count for nothing.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import safe_open

from cloud_hf.errors import CheckpointError
from cloud_hf.files import copy_file, read_json, write_json
from cloud_hf.models.conformal import CALIBRATION_FILE, Calibration

__all__ = [
    "METRICS_FILE",
    "PRETRAINED_METRICS_FILE",
    "PRETRAINING_FILE",
    "TRAINING_DATA_FILE",
    "Records",
    "baseline_errors",
    "carry_records",
    "checksum_of_weights",
    "read_calibration",
    "read_record",
    "read_records",
    "record_training_data",
    "rows_of",
    "source_folder",
]

METRICS_FILE = "metrics.json"
"""Errors on the training and validation rows of a fine-tuned checkpoint."""

PRETRAINING_FILE = "pretraining.json"
"""Errors of the pre-training that a fine-tuned checkpoint started from."""

TRAINING_DATA_FILE = "training_data.json"
"""Data, rows and licences of each training step, and the checksum of the weights that all records belong to."""

PRETRAINED_METRICS_FILE = "validation_results.json"
"""What `cloud-hf pretrain` writes; a fine-tuned checkpoint holds it as `pretraining.json`."""

RECORDS = (TRAINING_DATA_FILE, METRICS_FILE, PRETRAINING_FILE, PRETRAINED_METRICS_FILE, CALIBRATION_FILE)


_HEAD = re.compile(r"^(members\.\d+\.)?classifier\.")


@dataclass(frozen=True)
class Records:
    """Records of one checkpoint.

    Attributes:
        metrics: Part of the rows → target → errors with `unit` and `n`, and those of other methods under `baselines`
            (`baseline_errors` reads them).
        pretraining: Perplexity, accuracy and numbers of strings of the pre-training.
        license: Licence of the weights, None if not recorded.
        steps: Training steps in their order: `step`, `data`, `rows`, `license`, `model` (what it started from).
    """

    metrics: dict[str, Any] = field(default_factory=dict)
    pretraining: dict[str, Any] = field(default_factory=dict)
    license: str | None = None
    steps: list[dict[str, Any]] = field(default_factory=list)


def checksum_of_weights(folder: Path) -> str | None:
    """Return the SHA-256 of all tensors (names, types, shapes, values), however they are split; None without any.

    Half precision counts as the float32 that holds the same values, as which it may be loaded and saved again; a head
    counts by its older name, `head`, with which checkpoints have been recorded.
    """
    files: dict[str, tuple[str, Path]] = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as tensors:
            names = tensors.keys()
        files |= {_HEAD.sub(r"\1head.", name): (name, path) for name in names}
    digest = hashlib.sha256()
    for older_name, (name, path) in sorted(files.items()):
        with safe_open(path, "pt") as tensors:
            tensor = tensors.get_tensor(name)
        tensor = tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
        digest.update(f"{older_name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest() if files else None


def read_records(folder: Path) -> Records:
    """Read the records in a folder; empty where none belong to the weights that lie there.

    Raises:
        CheckpointError: One of them is damaged.
    """
    training_data = read_record(folder / TRAINING_DATA_FILE)
    checksum = training_data.get("weights")
    if checksum is None or checksum != checksum_of_weights(folder):
        return Records()
    return Records(
        metrics=read_record(folder / METRICS_FILE),
        pretraining=read_record(folder / PRETRAINING_FILE) or read_record(folder / PRETRAINED_METRICS_FILE),
        license=training_data.get("license"),
        steps=training_data.get("steps") or [],
    )


def read_calibration(folder: str | Path) -> Calibration | None:
    """Read the calibration in a folder, made for its weights or for others; None where there is none.

    Raises:
        CheckpointError: The file is damaged.
    """
    path = Path(folder) / CALIBRATION_FILE
    return Calibration.load(path) if path.is_file() else None


def baseline_errors(metrics: dict[str, Any], part: str, target: str) -> dict[str, float]:
    """Return the MAE of each other method on some rows, in the target's unit, by the method's name.

    Args:
        metrics: Content of `METRICS_FILE`. Baselines stand in the target's row (name → errors), as `cloud-hf finetune`
            writes them, or beside the parts (name → part → target → errors; without the part: of rows kept back).
        part: Part of the rows.
        target: Name of the target.
    """
    row = metrics[part][target]
    errors_of = dict(row.get("baselines") or {})
    for name, errors in (metrics.get("baselines") or {}).items():
        kept_back = errors.get(target) if part != "train" else None
        errors_of[name] = errors.get(part, {}).get(target) or kept_back or {}
    return {name: errors["mae"] for name, errors in errors_of.items() if errors.get("mae") is not None}


def rows_of(part: str) -> str:
    """Name the rows of a part of `METRICS_FILE`; those of `folds` were scored by models that had not seen them."""
    return "out-of-fold rows" if part == "folds" else f"{part} rows"


def record_training_data(
    folder: str | Path,
    step: str,
    data: Sequence[str],
    rows: int,
    data_license: str | None = None,
    license: str | None = None,
    model: str | None = None,
) -> None:
    """Write what the weights in a folder were trained on, after the weights and the errors were saved.

    Args:
        folder: Holds the weights.
        step: `pre-training` or `fine-tuning`.
        data: Tables that were read; only their names are kept.
        rows: Rows (fine-tuning) or distinct strings (pre-training) in them.
        data_license: Licence of the data, as the user gives it; None: not recorded.
        license: Licence of the weights, as the user gives it; None: not recorded.
        model: Checkpoint that training started from, whose steps are taken over; None: new weights.
    """
    folder = Path(folder)
    start = source_folder(model) if model else None
    steps = read_records(start).steps if start else []
    if start and step == "fine-tuning":
        for name in (PRETRAINED_METRICS_FILE, PRETRAINING_FILE):
            if (start / name).is_file():
                copy_file(start / name, folder / PRETRAINING_FILE)
    entry = {"step": step, "data": [Path(name).name for name in data], "rows": rows, "license": data_license}
    record = {
        "license": license,
        "steps": [*steps, entry | {"model": Path(model).name if model and Path(model).exists() else model}],
        "weights": checksum_of_weights(folder),
    }
    write_json(record, folder / TRAINING_DATA_FILE, indent=2)


def source_folder(name: str | None, commit: str | None = None, online: bool = True) -> Path | None:
    """Return the folder of a checkpoint: itself, or where the Hub's cache keeps it; None if there is none.

    Args:
        name: Folder or Hub id, as `from_pretrained` was given it.
        commit: Commit of the repository; None: the head of `main`.
        online: Fetch config and records of a Hub id that the cache does not hold.
    """
    if not name:
        return None
    if Path(name).is_dir():
        return Path(name)
    try:
        return Path(
            snapshot_download(
                name, revision=commit, allow_patterns=["config.json", *RECORDS], local_files_only=not online
            )
        )
    except (OSError, ValueError):  # no such repository, or not for us: then there are no records
        return None


def carry_records(source: Path | None, folder: Path) -> bool:
    """Copy the records of `source` into a folder that holds the same weights; otherwise do nothing and return False."""
    checksum = read_record(source / TRAINING_DATA_FILE).get("weights") if source else None
    if source is None or checksum is None or checksum != checksum_of_weights(folder):
        return False
    if source.resolve() != folder.resolve():
        for name in RECORDS:
            if (source / name).is_file():
                copy_file(source / name, folder / name)
    return True


def read_record(path: Path) -> dict[str, Any]:
    """Read a file beside the weights, empty if there is none.

    Raises:
        CheckpointError: It is damaged.
    """
    return read_json(path, error=CheckpointError, remedy="Mend it or remove it.") if path.is_file() else {}
