"""Pictures of a benchmark with folds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cloud_hf.studies.common.folds import FoldedTask, joined_folds
from cloud_hf.studies.common.report import ARM_STYLES, new_figure

__all__ = ["arm_bars", "parity_figures"]


def parity_figures(done: Sequence[tuple[FoldedTask, Sequence[Mapping[str, Any]]]]) -> dict[str, Figure]:
    """Draw predictions over labels of each task, from the cells of its folds."""
    return {f"parity_{task.name}.png": _parity_figure(task, cells) for task, cells in done}


def _parity_figure(task: FoldedTask, cells: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw predictions of the test rows over their labels, model beside trees, on logarithmic axes for `log`."""
    labels, predictions = joined_folds(cells)
    arms = [arm for arm in ("model", "trees") if arm in predictions]
    values = {arm: predictions[arm] for arm in arms}
    every = np.concatenate([labels, *values.values()])
    logarithmic = cells[0]["transform"] == "log" and every.min() > 0
    low, high = float(every.min()), float(every.max())
    if logarithmic:
        limits = (low / 1.1, high * 1.1)
    else:
        margin = 0.04 * (high - low) or 1.0
        limits = (low - margin, high + margin)
    unit = "" if task.unit == "1" else f" {task.unit}"
    quantity = f"{task.quantity},{unit}" if unit else f"{task.quantity} (dimensionless)"
    figure = new_figure(5.2 * len(arms) + 0.6, 5.2)
    panels = figure.subplots(1, len(arms), squeeze=False, sharey=True)[0]
    for axes, arm in zip(panels, arms, strict=True):
        scale = "log" if logarithmic else "linear"
        axes.set(xscale=scale, yscale=scale, xlim=limits, ylim=limits, xlabel=f"Label: {quantity}")
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
    panels[0].set_ylabel(f"Prediction: {quantity}")
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
        ylabel: Name of the axis with the unit.
        title: Title of the picture.
        line: Height of a reference line and its name.
    """
    arms = list(dict.fromkeys(arm for by_arm in values.values() for arm in by_arm))
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
        heights = [by_arm[arm] for by_arm in values.values() if arm in by_arm]
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
    top = max(
        line[0] if line else 0.0,
        *(height for by_arm in values.values() for height in by_arm.values()),
        *(height for by_arm in dots.values() for folds in by_arm.values() for height in folds),
    )
    axes.set(ylabel=ylabel, title=title, ylim=(0, 1.32 * top))
    axes.grid(axis="y", alpha=0.25)
    axes.legend(fontsize=9, ncols=2, loc="upper center")
    return figure
