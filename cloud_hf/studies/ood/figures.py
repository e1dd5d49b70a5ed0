"""Pictures of the study `ood`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cloud_hf.studies.common.report import ARM_STYLES, new_figure

__all__ = ["TITLES", "error_bars", "growth_figure"]

TITLES = {
    "element": "element", "space_group": "space group", "prototype": "prototype", "time": "newest",
    "size": "large cells",
}  # fmt: skip


def _labels(splits: Mapping[str, Any]) -> list[str]:
    return [f"{TITLES[split['split']]}\n{split['group'].replace('_', ' ')}" for split in splits.values()]


def error_bars(splits: Mapping[str, Any], unit: str) -> Figure:
    """Draw the errors inside and outside of every split; `splits` is of the results."""
    arms = [arm for arm in ("model", "trees") if all(arm in split["outside"]["arms"] for split in splits.values())]
    figure = new_figure(max(5.0, 2.2 + 1.5 * len(splits)), 4.8)
    axes = figure.add_subplot()
    width = 0.8 / (2 * len(arms))
    for index, (arm, part) in enumerate((arm, part) for arm in arms for part in ("inside", "outside")):
        places = np.arange(len(splits)) + (index - len(arms) + 0.5) * width
        scores = [split[part]["arms"][arm] for split in splits.values()]
        # 1.96 standard errors of a mean absolute error, whose variance is that of the errors
        spread = [
            1.96 * np.sqrt(max(score["rmse"] ** 2 - score["mae"] ** 2, 0) / split[part]["n"])
            for score, split in zip(scores, splits.values(), strict=True)
        ]
        style = ARM_STYLES[arm]
        axes.bar(
            places, [score["mae"] for score in scores], 0.94 * width, yerr=spread, color=style["color"],
            alpha=0.4 if part == "inside" else 1.0, label=f"{style['label']}, {part}",
            error_kw={"elinewidth": 1, "capsize": 2, "ecolor": "0.25"},
        )  # fmt: skip
    axes.set_xticks(np.arange(len(splits)), _labels(splits))
    axes.set(ylabel=f"Mean absolute error, {unit}", title="Errors on crystals unlike those trained on")
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    axes.set_ylim(0, 1.22 * axes.get_ylim()[1])
    axes.legend(ncols=len(arms), fontsize=9, loc="upper left")
    return figure


def growth_figure(splits: Mapping[str, Any]) -> Figure:
    """Draw how many times larger the error is outside, with its interval; `splits` is of the results."""
    figure = new_figure(max(5.0, 2.2 + 1.3 * len(splits)), 4.4)
    axes = figure.add_subplot()
    for index, arm in enumerate(("model", "trees")):
        points = [(place, f["growth"][arm]) for place, f in enumerate(splits.values()) if f["growth"].get(arm)]
        if not points:
            continue
        ratio = np.array([growth["ratio"] for _, growth in points])
        ends = np.array([(growth["low"], growth["high"]) for _, growth in points])
        axes.errorbar(
            [place + 0.16 * (index - 0.5) for place, _ in points], ratio, np.abs(ends.T - ratio), fmt="none",
            ecolor=ARM_STYLES[arm]["color"], elinewidth=1.4, capsize=3,
        )  # fmt: skip
        axes.scatter([place + 0.16 * (index - 0.5) for place, _ in points], ratio, zorder=3, **ARM_STYLES[arm])
    axes.axhline(1, color="0.3", linestyle="--", linewidth=1, label="no more error outside")
    axes.set_xticks(np.arange(len(splits)), _labels(splits))
    axes.set(
        ylabel="MAE outside / MAE inside", title="How much the error grows outside", xlim=(-0.5, len(splits) - 0.5)
    )
    axes.grid(axis="y", alpha=0.25)
    axes.set_ylim(top=axes.get_ylim()[0] + 1.3 * np.ptp(axes.get_ylim()))  # room for the legend
    axes.legend(fontsize=9, loc="upper right")
    return figure
