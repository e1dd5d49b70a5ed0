"""The picture of the study `low-data`."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from cloud_hf.studies.common.report import ARM_STYLES, new_figure

__all__ = ["NAMES", "curve_figure"]

NAMES = {
    "model": "model",
    "scratch": "model without pre-training",
    "auto": "few-label method",
    "trees": "trees",
    "mean": "mean of the labels",
}
TICKS = tuple(float(f"{digit}e{power}") for power in range(-6, 7) for digit in (1, 1.5, 2, 3, 4, 5, 6, 8))


def curve_figure(lines: Sequence[Mapping[str, Any]], quantity: str, title: str) -> Figure:
    """Draw the MAE over the number of training rows, both logarithmic, with the range of the draws as a band.

    Args:
        lines: What `summary` returns.
        quantity: What is drawn, with its unit.
        title: Title of the picture.
    """
    figure = new_figure(6.6, 4.6)
    axes = figure.add_subplot()
    arms = [arm for arm in ARM_STYLES if any(arm in line["arms"] for line in lines)]
    for arm in arms:
        style = ARM_STYLES[arm]
        points = [(line["train_rows"], line["arms"][arm]) for line in lines if arm in line["arms"]]
        sizes = [n for n, _ in points]
        axes.plot(sizes, [entry["mae_mean"] for _, entry in points], **style, linestyle="-", zorder=3)
        axes.fill_between(
            sizes, [min(entry["mae"]) for _, entry in points], [max(entry["mae"]) for _, entry in points],
            color=style["color"], alpha=0.18, linewidth=0,
        )  # fmt: skip
    sizes = [line["train_rows"] for line in lines]
    axes.set(xscale="log", yscale="log", xlabel="labels learned from", ylabel=quantity)
    axes.set_xticks(sizes, labels=[f"{n:,}" for n in sizes])
    axes.set_xticks([], minor=True)
    low, high = axes.get_ylim()
    ticks = [tick for tick in TICKS if low <= tick <= high]
    axes.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.set_title(f"{title}; band: range of the draws", fontsize=10)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    return figure
