"""Pictures of the study `discovery`."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cloud_hf.studies.common.report import ARM_STYLES, new_figure
from cloud_hf.studies.discovery.metrics import STABILITY_THRESHOLD, cumulative_curves

__all__ = ["WINDOW", "figures"]

Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]

_STYLES = ARM_STYLES | {"checkpoint": {"color": "#7a3fa0", "marker": "s", "label": "CLOUD, given checkpoint"}}
WINDOW = 0.02
"""Half the width of the window of the rolling error, eV/atom."""


def figures(arms: Mapping[str, Numbers], labels: Numbers, seen: Flags, distances: Numbers | None) -> dict[str, Figure]:
    """Draw predicted energies and their errors, and stability where distances to the hull are known.

    Args:
        arms: Predicted formation energies of every crystal of WBM, eV/atom, shape (n,).
        labels: eV/atom, NaN without one, shape (n,).
        seen: Whether the string is in the training table, shape (n,).
        distances: eV/atom above the hull, shape (n,); None without a hull.
    """
    rows = np.flatnonzero(~np.isnan(labels) & ~seen)
    shown = {arm: values[rows] for arm, values in arms.items() if arm != "mean"}
    drawn = {"parity.png": _parity(labels[rows], shown), "errors.png": _errors(labels[rows], shown)}
    if distances is None:
        return drawn
    rows = np.flatnonzero(~np.isnan(distances) & ~np.isnan(labels))
    predicted = {arm: (distances + values - labels)[rows] for arm, values in arms.items() if arm != "mean"}
    return drawn | {
        "hull.png": _hull(distances[rows], predicted),
        "cumulative.png": _cumulative(distances[rows], predicted),
    }


def _parity(labels: Numbers, arms: Mapping[str, Numbers]) -> Figure:
    every = np.concatenate([labels, *arms.values()])
    low, high = float(every.min()), float(every.max())
    margin = 0.04 * (high - low) or 1.0
    limits = (low - margin, high + margin)
    figure = new_figure(max(4.6, 2.9 * len(arms) + 1.0), 3.7)
    panels = figure.subplots(1, len(arms), sharex=True, sharey=True, squeeze=False)[0]
    maps = []
    for axes, (arm, values) in zip(panels, arms.items(), strict=True):
        extent = (*limits, *limits)
        maps.append(
            axes.hexbin(
                labels, values, gridsize=32, extent=extent, bins="log", mincnt=1, cmap="viridis", linewidths=0.1
            )
        )
        axes.plot(limits, limits, color="0.2", linestyle="--", linewidth=1)
        mae = np.abs(values - labels).mean()
        axes.set_title(f"{_STYLES[arm]['label']}\nMAE {mae:.3g} eV/atom, n = {len(labels):,}", fontsize=10)
        axes.set(xlabel="True energy, eV/atom", xlim=limits, ylim=limits, aspect="equal")
        axes.grid(alpha=0.25)
    panels[0].set_ylabel("Predicted energy, eV/atom")
    figure.suptitle("Formation energies of unseen crystals of WBM", fontsize=11)
    most = max(2.0, *(float(np.max(cells.get_array())) for cells in maps))
    for cells in maps:
        cells.set_clim(1, most)
    figure.colorbar(maps[0], ax=list(panels), shrink=0.8, label="crystals per cell")
    return figure


def _errors(labels: Numbers, arms: Mapping[str, Numbers]) -> Figure:
    figure = new_figure(7.0, 4.4)
    axes = figure.add_subplot()
    gaps = {arm: values - labels for arm, values in arms.items()}
    reach = max(float(np.quantile(np.abs(gap), 0.98)) for gap in gaps.values()) or 1.0
    for arm, gap in gaps.items():
        colour = _STYLES[arm]["color"]
        label = f"{_STYLES[arm]['label']}: mean {gap.mean():+.3f} eV/atom"
        axes.hist(
            gap,
            bins=np.linspace(-reach, reach, 101).tolist(),
            histtype="step",
            color=colour,
            linewidth=1.6,
            label=label,
        )
        axes.axvline(gap.mean(), color=colour, linestyle="--", linewidth=1)
    axes.axvline(0, color="0.4", linewidth=0.8)
    axes.set(
        xlabel="Predicted - true formation energy, eV/atom", ylabel="Crystals",
        title=f"Errors on {len(labels):,} unseen crystals of WBM", xlim=(-reach, reach),
    )  # fmt: skip
    axes.grid(alpha=0.25)
    axes.set_ylim(0, 1.3 * axes.get_ylim()[1])
    axes.legend(fontsize=9, loc="upper left")
    return figure


def _hull(true: Numbers, arms: Mapping[str, Numbers]) -> Figure:
    """Of the first arm the crystals by true distance, right and wrong; of all the rolling error."""
    figure = new_figure(7.4, 6.8)
    above, below = figure.subplots(2, 1, sharex=True)
    arm, predicted = next(iter(arms.items()))
    reach = max(float(np.quantile(np.abs(true), 0.98)), 5 * WINDOW)
    stable, called = true <= STABILITY_THRESHOLD, predicted <= STABILITY_THRESHOLD
    kinds = (
        ("true positive", stable & called, "#1f5fa8"), ("false negative", stable & ~called, "#9fc3e6"),
        ("true negative", ~stable & ~called, "#3d8b40"), ("false positive", ~stable & called, "#d1682a"),
    )  # fmt: skip
    above.hist(
        [true[chosen] for _, chosen, _ in kinds], bins=np.linspace(-reach, reach, 81).tolist(), stacked=True,
        color=[colour for *_, colour in kinds],
        label=[f"{name}, {int(chosen.sum()):,}" for name, chosen, _ in kinds],
    )  # fmt: skip
    above.set(ylabel="Crystals", title=f"Stable or not by {_STYLES[arm]['label']}")
    above.legend(fontsize=9)
    grid = np.linspace(-reach, reach, 161)
    for name, values in arms.items():
        error = np.abs(values - true)
        order = np.argsort(true)
        ends = np.searchsorted(true[order], [grid - WINDOW, grid + WINDOW])
        sums = np.concatenate([[0.0], np.cumsum(error[order])])
        counts = ends[1] - ends[0]
        rolling = np.where(counts >= 3, (sums[ends[1]] - sums[ends[0]]) / np.maximum(counts, 1), np.nan)
        below.plot(grid, rolling, color=_STYLES[name]["color"], linewidth=1.6, label=_STYLES[name]["label"])
    below.fill_between(grid, np.abs(grid), color="0.5", alpha=0.15, label="error smaller than the distance")
    for axes in (above, below):
        axes.axvline(STABILITY_THRESHOLD, color="0.3", linestyle="--", linewidth=1)
        axes.grid(alpha=0.25)
    below.set(xlabel="True energy above the hull, eV/atom", ylabel="Rolling MAE, eV/atom", xlim=(-reach, reach))
    below.set_ylim(bottom=0)
    below.legend(fontsize=9)
    return figure


def _cumulative(true: Numbers, arms: Mapping[str, Numbers]) -> Figure:
    figure = new_figure(9.0, 4.2)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    steps = np.arange(1, len(true) + 1)
    for arm, predicted in arms.items():
        style = {"color": _STYLES[arm]["color"], "linewidth": 1.6, "label": _STYLES[arm]["label"]}
        followed = int((predicted <= STABILITY_THRESHOLD).sum())
        for axes, values in zip(panels, cumulative_curves(true, predicted), strict=True):
            axes.plot(steps, values, **style)
            if followed:
                axes.plot(followed, values[followed - 1], "o", color=style["color"], markersize=6)
    share = float((true <= STABILITY_THRESHOLD).mean())
    panels[0].axhline(share, color="0.4", linestyle="--", linewidth=1, label=f"at random: {share:.2f}")
    panels[1].plot(steps, steps / len(true), color="0.4", linestyle="--", linewidth=1, label="at random")
    for axes, title in zip(panels, ("Precision", "Recall"), strict=True):
        axes.set(xlabel="Crystals followed, most stable prediction first", title=title, ylim=(0, 1.02))
        axes.grid(alpha=0.25)
        axes.legend(fontsize=9)
    panels[0].set_ylabel("Share")
    figure.supxlabel("Dots: as many as are predicted stable.", fontsize=9, color="0.35")
    return figure
