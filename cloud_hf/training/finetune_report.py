"""What a fine-tuning leaves beside the weights: errors, predictions of every row, and the line that repeats it."""

import dataclasses
import json
import shlex
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tabulate import tabulate

from cloud_hf.data.splits import PARTS
from cloud_hf.training.arguments import CloudTrainingArguments
from cloud_hf.training.finetune_arguments import FinetuneArguments
from cloud_hf.training.finetune_rows import Rows, Target
from cloud_hf.training.metrics import regression_metrics

__all__ = [
    "average_metrics",
    "choice_lines",
    "command_line",
    "error_table",
    "frame_metrics",
    "given_arguments",
    "parity_parts",
    "prediction_frame",
    "several_frames",
    "spread",
]  # fmt: skip

HARMLESS = {
    "output_dir", "seed", "resume_from_checkpoint", "disable_tqdm", "report_to", "run_name", "log_level",
    "logging_steps", "logging_strategy", "logging_first_step", "save_strategy", "save_steps", "save_total_limit",
    "dataloader_num_workers", "per_device_eval_batch_size", "push_to_hub", "hub_model_id", "hub_token",
}  # fmt: skip
"""Training arguments that do not change what a run ends with."""


BASELINE_METRICS = ("mae", "median_absolute_error", "mae_mad")


def prediction_frame(
    rows: Rows,
    targets: Sequence[Target],
    parts: dict[str, NDArray[np.int64]],
    predictions: dict[str, NDArray[np.float64]],
    beside: dict[str, dict[str, NDArray[np.float64]]],
    fold: int | None,
) -> pd.DataFrame:
    """Put labels and predictions side by side, one row per crystal.

    Args:
        rows: All rows of the table.
        targets: Names and units.
        parts: Row numbers of each part.
        predictions: Of each part, shape (n, n_targets), in the targets' units.
        beside: Further predictions, `trees` and `auto`, of the parts that they are for.
        fold: Number of the scored fold, if there are folds.

    Returns:
        Columns `row`, `source`, `scope`, `part`, `fold`, and for each target `NAME (UNIT)`, `NAME predicted (UNIT)`,
        `NAME error (UNIT)` (predicted - label), `NAME mean predictor (UNIT)` and, of `beside`, `NAME trees (UNIT)`.
    """
    frames = []
    for part, numbers in parts.items():
        frame = {
            "row": rows.position[numbers],
            "source": [rows.source[row] for row in numbers],
            "scope": [rows.scope[row] for row in numbers],
            "part": part,
        }
        if fold is not None:
            frame["fold"] = fold
        for column, target in enumerate(targets):
            label, predicted = rows.labels[numbers, column], predictions[part][:, column]
            frame[_column(target)] = label
            frame[_column(target, "predicted")] = predicted
            frame[_column(target, "error")] = predicted - label
            frame[_column(target, "mean predictor")] = np.nanmean(rows.labels[parts["train"], column])
            for name, by_part in beside.items():
                if part in by_part:
                    frame[_column(target, name)] = by_part[part][:, column]
        frames.append(pd.DataFrame(frame))
    return pd.concat(frames, ignore_index=True)


def _column(target: Target, what: str = "") -> str:
    return f"{target.name}{' ' if what else ''}{what} ({target.unit})"


def frame_metrics(frame: pd.DataFrame, targets: Sequence[Target]) -> dict[str, dict[str, Any]]:
    """Compute the errors of each part and target.

    Args:
        frame: From `prediction_frame`.
        targets: Names and units.

    Returns:
        Part, then target, to `regression_metrics` with `unit` and `baselines`: `mean` (the mean of the training
        labels) and, where they were scored, `trees` and `auto`, each with `mae` in the unit.
    """
    metrics: dict[str, dict[str, Any]] = {}
    for part in (part for part in PARTS if part in set(frame["part"])):
        of_part = frame[frame["part"] == part]
        for target in targets:
            present = of_part[of_part[_column(target)].notna()]
            label = present[_column(target)].to_numpy()
            row: dict[str, Any] = {"unit": target.unit}
            row |= regression_metrics(label, present[_column(target, "predicted")].to_numpy())
            baselines = {}
            for name in ("mean predictor", "trees", "auto"):
                column = _column(target, name)
                if column in present and len(present) and present[column].notna().all():
                    errors = regression_metrics(label, present[column].to_numpy())
                    baselines[name.split()[0]] = {
                        key: errors[key] for key in ("mae", "median_absolute_error", "mae_mad")
                    }
            metrics.setdefault(part, {})[target.name] = row | {"baselines": baselines}
    return metrics


def average_metrics(each: Sequence[dict[str, dict[str, Any]]], over: str) -> dict[str, dict[str, Any]]:
    """Average the errors of several runs, and keep each run's MAE and their standard deviation.

    Args:
        each: Metrics of the runs, alike in parts and targets.
        over: What the runs differ in, `seeds` or `folds`: the name of the entry with the spread.
    """
    averaged: dict[str, dict[str, Any]] = {}
    for part, targets in each[0].items():
        for name, first in targets.items():
            rows = [metrics[part][name] for metrics in each]
            row = {
                key: float(np.mean([one[key] for one in rows]))
                if isinstance(value, float) and None not in [one[key] for one in rows]
                else value
                for key, value in first.items()
            }
            averaged.setdefault(part, {})[name] = row | {over: spread(one["mae"] for one in rows)}
    return averaged


def spread(values: Iterable[float | None]) -> dict[str, Any]:
    """Return the MAE of several runs with their mean and (sample) standard deviation; None where there is none."""
    every = list(values)
    present = [value for value in every if value is not None]
    return {
        "mae": every,
        "mae_mean": float(np.mean(present)) if present else None,
        "mae_std": float(np.std(present, ddof=1)) if len(present) > 1 else None,
    }


def several_frames(frames: Sequence[pd.DataFrame], targets: Sequence[Target]) -> pd.DataFrame:
    """Average the predictions of several seeds for the same rows, and add their spread as `NAME seeds (UNIT)`."""
    average = frames[0].reset_index(drop=True)
    if len(frames) > 1:
        for target in targets:
            every = np.stack([frame[_column(target, "predicted")].to_numpy() for frame in frames])
            average[_column(target, "predicted")] = every.mean(axis=0)
            average[_column(target, "error")] = every.mean(axis=0) - average[_column(target)]
            average[_column(target, "seeds")] = every.std(axis=0, ddof=1)
    return average


def error_table(metrics: dict[str, Any]) -> str:
    """Write the MAE of the model beside those of the mean predictor and the trees."""
    lines = []
    for part, targets in metrics.items():
        for name, row in targets.items():
            baselines = row["baselines"]
            trees = baselines.get("trees", {}).get("mae")
            several = next((row[over] for over in ("seeds", "folds") if over in row), None)
            mean, auto = (baselines.get(kind, {}).get("mae") for kind in ("mean", "auto"))
            line = [part, name, row["n"], row["mae"], several and several["mae_std"], mean, trees, auto, row["mae_mad"]]
            lines.append([*line, row["median_absolute_error"], row["rmse"], row["r2"], row["unit"]])
    headers = [
        "rows",
        "target",
        "n",
        "MAE",
        "+-",
        "MAE of the mean",
        "MAE of trees",
        "MAE of auto",
        "MAE:MAD",
        "median error",
    ]
    headers += ["RMSE", "R2", "unit"]
    filled = [index for index in range(len(headers)) if any(line[index] is not None for line in lines)]
    shown = [[line[index] for index in filled] for line in lines]
    return tabulate(shown, headers=[headers[index] for index in filled], floatfmt=".4g")


def choice_lines(choices: dict[str, Any], what: str, targets: Sequence[Target]) -> list[str]:
    """Say what an inner validation chose to stand in the table of errors.

    Args:
        choices: Of each run, and in it of each target, what `TreeChoice` or `FewLabelChoice` holds.
        what: What was chosen, the first word of the lines.
        targets: Names and units.
    """
    lines = []
    for target in targets:
        chosen = [of_run[target.name] for of_run in choices.values() if of_run and target.name in of_run]
        if chosen:
            models = ", ".join(dict.fromkeys(one["model"].replace("_", " ") for one in chosen))
            inner = [one["errors"][one["model"]] for one in chosen if one["errors"]]
            known = (
                f"inner validation, MAE {np.mean(inner):.4g} {target.unit}" if inner else "too few rows to choose by"
            )
            lines.append(f"{what} of {target.name}: {models} ({known}).")
    return lines


def parity_parts(frame: pd.DataFrame, target: Target) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return labels and predictions of a target by part, without the unlabelled rows."""
    parts = {}
    for part in PARTS:
        of_part = frame[(frame["part"] == part) & frame[_column(target)].notna()]
        if len(of_part):
            parts[part] = (of_part[_column(target)].to_numpy(), of_part[_column(target, "predicted")].to_numpy())
    return parts


def given_arguments(arguments: Any, standard: Any) -> dict[str, Any]:
    """Return the arguments that differ from those of `standard`, by name, as plain values."""
    given = {}
    for entry in dataclasses.fields(arguments):
        value = getattr(arguments, entry.name)
        if entry.init and value != getattr(standard, entry.name, dataclasses.MISSING):
            given[entry.name] = value.value if isinstance(value, Enum) else value
    return given


def command_line(arguments: FinetuneArguments, training: CloudTrainingArguments) -> str:
    """Return the command that repeats a run: every argument that is not the default, and the seed."""
    command = ["cloud-hf", "finetune"]
    standard = FinetuneArguments(model="", data="", target=[])
    first = {name: getattr(arguments, name) for name in ("model", "data", "target")}
    plain = CloudTrainingArguments(output_dir="", use_cpu=training.use_cpu)
    last = given_arguments(training, plain) | {"seed": training.seed, "output_dir": training.output_dir}
    if training.use_cpu:
        last["use_cpu"] = True
    for name, value in (first | given_arguments(arguments, standard) | last).items():
        if value is None or name == "resume_from_checkpoint":
            continue
        command += [f"--{name.replace('_', '-')}", *map(_word, value if isinstance(value, list | tuple) else [value])]
    return shlex.join(command)


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return json.dumps(value)
    return str(value)
