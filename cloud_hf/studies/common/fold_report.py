"""Tables and pictures of a benchmark with folds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cloud_hf.data.tables import write_table
from cloud_hf.studies.common.fold_runs import FoldArguments
from cloud_hf.studies.common.folds import FoldedTask
from cloud_hf.studies.common.report import ARM_STYLES, NAMES, Report, new_figure

__all__ = [
    "arm_bars",
    "failures_of",
    "fold_table",
    "over_folds_table",
    "parity_figure",
    "protocol",
    "rows_and_failures",
]

FOLDERS = r"(?<![\w.])(?:/[^\s/:]+)+/"
"""Folders before the name of a file, which say more about a machine than about a row."""

LISTED = 5
"""Failures that a report shows; the file beside it holds all."""


def protocol(arguments: FoldArguments) -> str:
    """Say how models were trained, and what chose the weights."""
    length = f"{arguments.max_steps} steps" if arguments.max_steps > 0 else f"{arguments.num_train_epochs:g} epochs"
    model = {"default": "the masked language model in the package", "multitask": "the multi-task model in the package",
             "scratch": "random weights"}.get(arguments.model, "the encoder given")  # fmt: skip
    words = (
        f"The head and all layers of {model} learn for {length}, batches of {arguments.per_device_train_batch_size}, "
        f"peak learning rate {arguments.learning_rate:g}, L1 on the standardised target, seed {arguments.seed}. "
    )
    if arguments.early_stopping:
        words += (
            f"{arguments.validation_fraction:.0%} of a fold's training strings are held back; the weights of the "
            f"epoch with the smallest error on them predict (patience {arguments.early_stopping}). "
            "Trees learn from them too. "
        )
    else:
        words += "No row is held back and nothing is selected: the last step's weights predict. "
    return words + "Test rows are predicted once and choose nothing."


def rows_and_failures(report: Report, tasks: Sequence[FoldedTask], scores: Mapping[str, Mapping[str, Any]]) -> None:
    """Add a table of the data, remarks, and the rows without a usable string."""
    rows = [
        [task.name, task.facts.get("file"), len(task.labels), len(task.crystals), len(task.crystals.failures),
         task.unit, ", ".join(dict.fromkeys(fold["transform"] for fold in scores[task.name]["folds"]))]
        for task in tasks
    ]  # fmt: skip
    report.table(["task", "file", "rows read", "with a string", "without", "unit", "what is learned"], rows)
    for remark in dict.fromkeys(remark for task in tasks for remark in task.remarks):
        report.text(remark)
    failures = failures_of(tasks)
    if len(failures):
        report.text(
            f"Rows without a usable string: {len(failures):,}. They are predicted as the median of the fold's training "
            f"labels and count in every error; all are in `failures.csv`. The first {min(LISTED, len(failures))}:"
        )
        report.table(["task", "id", "reason"], failures[["task", "id", "reason"]].head(LISTED).to_numpy().tolist())


def failures_of(tasks: Sequence[FoldedTask], path: Path | None = None) -> pd.DataFrame:
    """Return the rows without a usable string, columns `task`, `row`, `id` and `reason`, and write them to `path`."""
    found = [
        task.crystals.failures.rename(columns={"source": "id"}).assign(task=task.name)[["task", "row", "id", "reason"]]
        for task in tasks
    ]
    whole = pd.concat(found, ignore_index=True)
    whole["reason"] = whole["reason"].str.replace(FOLDERS, "", regex=True)
    if path is not None and len(whole):
        write_table(whole, path)
    return whole


def fold_table(report: Report, scores: Mapping[str, Mapping[str, Any]]) -> None:
    """Add one line per task and fold."""
    arms = list(dict.fromkeys(arm for found in scores.values() for fold in found["folds"] for arm in fold["mae"]))
    lines = [
        [task, fold["fold"], fold["n_train"], fold["n_test"], fold["train_without_string"],
         fold["test_without_string"], fold["test_strings_in_training"], *[fold["mae"].get(arm) for arm in arms],
         found["unit"]]
        for task, found in scores.items()
        for fold in found["folds"]
    ]  # fmt: skip
    report.table(
        ["task", "fold", "training rows", "test rows", "training rows without string", "test rows without string",
         "test rows whose string is in training", *[f"MAE, {NAMES.get(arm, arm)}" for arm in arms], "unit"],
        lines,
    )  # fmt: skip


def over_folds_table(
    report: Report, scores: Mapping[str, Mapping[str, Any]], published: Mapping[str, Mapping[str, Sequence[Any]]]
) -> None:
    """Add mean and standard deviation over folds of each task and arm, and what is published.

    Args:
        report: To add to.
        scores: Task to what `score_folds` returned.
        published: Task to name of a model to MAE and MAE:MAD, either may be None.
    """
    lines: list[list[Any]] = []
    for task, found in scores.items():
        n = found["pooled"]["n"]
        for arm, over in found["over_folds"].items():
            lines.append(
                [task, NAMES.get(arm, arm), len(found["folds"]), n, over["mean"], over["std"], over["mae_mad"],
                 found["unit"]]
            )  # fmt: skip
        for name, (mae, ratio) in published.get(task, {}).items():
            lines.append([task, f"{name} (published)", 5, None, mae, None, ratio, found["unit"]])
    report.table(["task", "by", "folds", "N", "MAE, mean of folds", "standard deviation", "MAE:MAD", "unit"], lines)


def parity_figure(task: FoldedTask, cells: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw predictions of the test rows over their labels, model beside trees, on logarithmic axes for `log`."""
    labels = np.concatenate([cell["labels"] for cell in cells])
    arms = [arm for arm in ("model", "trees") if arm in cells[0]["predictions"]]
    values = {arm: np.concatenate([cell["predictions"][arm] for cell in cells]) for arm in arms}
    every = np.concatenate([labels, *values.values()])
    logarithmic = cells[0]["transform"] == "log" and every.min() > 0
    low, high = float(every.min()), float(every.max())
    if logarithmic:
        limits = (low / 1.1, high * 1.1)
    else:
        margin = 0.04 * (high - low) or 1.0
        limits = (low - margin, high + margin)
    unit = "" if task.unit == "1" else f" {task.unit}"
    words = f"{task.quantity},{unit}" if unit else f"{task.quantity} (dimensionless)"
    figure = new_figure(5.2 * len(arms) + 0.6, 5.2)
    panels = figure.subplots(1, len(arms), squeeze=False, sharey=True)[0]
    for axes, arm in zip(panels, arms, strict=True):
        scale = "log" if logarithmic else "linear"
        axes.set(xscale=scale, yscale=scale, xlim=limits, ylim=limits, xlabel=f"Label: {words}")
        axes.set_aspect("equal")
        size = float(np.clip(3000 / len(labels), 1.5, 30))
        axes.scatter(
            labels, values[arm], s=size, alpha=0.45, linewidths=0, color=ARM_STYLES[arm]["color"], rasterized=True
        )
        axes.plot(limits, limits, color="0.2", linewidth=1.0, linestyle="--", label="label = prediction")
        mae = np.abs(values[arm] - labels).mean()
        axes.set_title(f"{ARM_STYLES[arm]['label']}: MAE {mae:.3g}{unit}, n = {len(labels):,}", fontsize=10)
        axes.grid(alpha=0.25)
        axes.legend(loc="upper left", fontsize=9)
    panels[0].set_ylabel(f"Prediction: {words}")
    figure.suptitle(f"{task.name}: rows that were not trained on", fontsize=11)
    return figure


def arm_bars(
    values: Mapping[str, Mapping[str, float]], dots: Mapping[str, Mapping[str, Sequence[float]]], ylabel: str,
    title: str, line: tuple[float, str] | None = None,
) -> Figure:  # fmt: skip
    """Draw one group of bars per task, one bar per arm, and points for its folds.

    Args:
        values: Task to arm to height.
        dots: Task to arm to heights of single folds.
        ylabel: With the unit.
        title: Of the picture.
        line: Height of a reference line and its name.
    """
    arms = list(dict.fromkeys(arm for found in values.values() for arm in found))
    styles = {
        **ARM_STYLES,
        "published": {"color": ARM_STYLES["published"]["color"], "label": "CLOUD, published"},
        "best on the board": {"color": "#8c6d1f", "label": "best on the board"},
    }
    figure = new_figure(max(5.5, 1.8 + 1.3 * len(values)), 4.6)
    axes = figure.add_subplot()
    width = min(0.8 / len(arms), 0.4)
    for place, arm in enumerate(arms):
        offset = (place - (len(arms) - 1) / 2) * width
        at = [index + offset for index, task in enumerate(values) if arm in values[task]]
        heights = [found[arm] for found in values.values() if arm in found]
        style = styles.get(arm, {"color": "0.4", "label": arm})
        axes.bar(at, heights, width * 0.9, color=style["color"], label=style["label"])
        for index, task in enumerate(values):
            folds = dots.get(task, {}).get(arm, ())
            axes.scatter([index + offset] * len(folds), folds, s=14, color="0.1", zorder=3, linewidths=0)
    axes.scatter([], [], s=14, color="0.1", label="single folds")
    if line:
        axes.axhline(line[0], color="0.2", linestyle="--", linewidth=1.0, label=line[1])
    axes.set_xticks(range(len(values)), list(values), rotation=20 if len(values) > 3 else 0)
    axes.set_xlim(-0.75, len(values) - 0.25)
    top = max(max(found.values()) for found in values.values())
    top = max(
        [
            top,
            line[0] if line else 0.0,
            *(height for found in dots.values() for folds in found.values() for height in folds),
        ]
    )
    axes.set(ylabel=ylabel, title=title, ylim=(0, 1.32 * top))
    axes.grid(axis="y", alpha=0.25)
    axes.legend(fontsize=9, ncols=2, loc="upper center")
    return figure
