"""Checkpoints that are whole or not there, and that know which run wrote them."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from cloud_hf.errors import CheckpointError
from cloud_hf.files import refuse_other_settings, setting_differences

logger = logging.get_logger(__name__)

__all__ = [
    "CHECKPOINT_FILE",
    "check_same_run",
    "data_hash",
    "newest_checkpoint",
    "run_settings",
    "what_is_missing",
    "write_run",
]

CHECKPOINT_FILE = "cloud_run.json"
"""In every checkpoint, written last: the settings of the run, and name and size of every other file."""

DECISIVE = (
    "adam_beta1", "adam_beta2", "adam_epsilon", "bf16", "data_seed", "dataloader_drop_last", "fp16", "learning_rate",
    "lr_scheduler_kwargs", "lr_scheduler_type", "max_grad_norm", "max_steps", "num_train_epochs", "optim", "optim_args",
    "seed", "train_sampling_strategy", "warmup_steps", "weight_decay",
)  # fmt: skip
"""Training arguments that change the weights a run ends with."""

OF_THE_MODEL_FILE = {
    "_name_or_path", "architectures", "auto_map", "custom_pipelines", "dtype", "transformers_version", "use_cache",
}  # fmt: skip
"""Fields of a config that say how it was saved, not what the model is."""


def run_settings(args: TrainingArguments, model_config: Any, more: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Collect what decides the weights that a run ends with (`decisive`), and what only rounds them (`rounding`)."""
    decisive = {name: getattr(args, name) for name in DECISIVE}
    rows = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    decisive["strings per step"] = rows
    config = model_config.to_dict()
    decisive |= {name: value for name, value in config.items() if name not in OF_THE_MODEL_FILE}
    rounding = {
        "processes": args.world_size,
        "per_device_train_batch_size": args.train_batch_size,
        "gradient_accumulation_steps": args.gradient_accumulation_steps,
        "torch_compile": args.torch_compile,
        "matmul_precision": getattr(args, "matmul_precision", "highest"),
        "device": args.device.type,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    settings: dict[str, dict[str, Any]] = {"decisive": decisive | more, "rounding": rounding}
    as_stored: dict[str, dict[str, Any]] = json.loads(json.dumps(settings, default=str))
    return as_stored


def data_hash(ids: Any, lengths: Any) -> str:
    """Return a hash of tokenised strings, given as flat ids and the length of each string."""
    digest = hashlib.sha256(np.ascontiguousarray(lengths, dtype=np.int64).tobytes())
    digest.update(np.ascontiguousarray(ids, dtype=np.int32).tobytes())
    return digest.hexdigest()[:16]


def write_run(folder: Path, settings: dict[str, Any]) -> None:
    """Write `CHECKPOINT_FILE` into a checkpoint whose other files are all there, and force everything to the disk."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {str(path.relative_to(folder)): path.stat().st_size for path in paths}
    run_file = folder / CHECKPOINT_FILE
    run_file.write_text(json.dumps(settings | {"files": files}, indent=2) + "\n", encoding="utf-8")
    for path in (*paths, run_file, folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def what_is_missing(folder: Path) -> str | None:
    """Say why a checkpoint cannot be resumed from, or None if it is whole."""
    try:
        run = json.loads((folder / CHECKPOINT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return f"it has no readable {CHECKPOINT_FILE}, which is written last"
    for name, size in run["files"].items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if (folder / name).stat().st_size != size:
            return f"{name} has {(folder / name).stat().st_size:,} of {size:,} bytes"
    return None


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the whole checkpoint of the highest step in a folder; a warning names those that are not whole."""
    steps: dict[int, Path] = {}
    for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        number = path.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-")
        if number.isdigit() and path.is_dir():
            steps[int(number)] = path
    for step in sorted(steps, reverse=True):
        reason = what_is_missing(steps[step])
        if reason is None:
            return steps[step]
        logger.warning(f"{steps[step]} is not resumed from: {reason}.")
    return None


def check_same_run(folder: Path, settings: dict[str, dict[str, Any]]) -> None:
    """Refuse a checkpoint of another run, and warn of what makes a resumed run differ by rounding.

    Raises:
        CheckpointError: The checkpoint is not whole, or its run had other settings; the message names them.
    """
    reason = what_is_missing(folder) if folder.is_dir() else "there is no such folder"
    if reason:
        raise CheckpointError(
            f"cannot be resumed from: {reason}. --resume-from-checkpoint true takes the newest whole one.",
            source=str(folder),
        )
    run = json.loads((folder / CHECKPOINT_FILE).read_text(encoding="utf-8"))
    remedy = (
        f"Give the same settings to resume it, or start a new run from its weights with --model {folder} and another "
        "--output-dir."
    )
    refuse_other_settings(folder, run["decisive"], settings["decisive"], remedy=remedy, error=CheckpointError)
    rounding = setting_differences(run["rounding"], settings["rounding"])
    if rounding:
        logger.warning(f"The resumed run is not bit for bit the uninterrupted one: {'; '.join(rounding)}.")
