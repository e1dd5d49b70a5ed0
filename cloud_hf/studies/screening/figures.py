"""Pictures of the study `screening`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from cloud_hf.studies.common.report import new_figure
from cloud_hf.studies.screening.rows import BULK, ENERGY, GAP, UNITS

__all__ = ["TITLES", "found_figure", "properties_figure"]

TITLES = {ENERGY: "Formation energy", GAP: "Band gap", BULK: "Bulk modulus"}

LINES = {"model": "-", "trees": "--"}


def found_figure(families: Mapping[str, Any], shares: Sequence[float]) -> Figure:
    """Draw which share of the known crystals is found against the share of candidates looked at.

    Args:
        families: Of the results.
        shares: Of the unknown candidates, at which the curves are given.
    """
    figure = new_figure(7.2, 5.0)
    axes = figure.add_subplot()
    colours = colormaps["tab10"]
    for place, (name, family) in enumerate(families.items()):
        for arm, style in LINES.items():
            curve = family["curves"].get(arm)
            if curve:
                label = f"{name} ({family['among_unknown']['n_known']})" if arm == "model" else None
                axes.plot(shares, curve, style, color=colours(place % 10), linewidth=1.6, label=label)
    axes.plot(shares, shares, ":", color="0.3", label="random order")
    for arm, style in LINES.items():
        if any(arm in family["curves"] for family in families.values()):
            axes.plot([], [], style, color="0.4", label={"model": "CLOUD", "trees": "trees"}[arm])
    axes.set(
        xscale="log", xlim=(min(shares), 1), ylim=(0, 1.02), xlabel="Share of the unknown candidates looked at",
        ylabel="Share of the known stable crystals found", title="Hidden crystals found by their predicted energy",
    )  # fmt: skip
    axes.grid(alpha=0.25)
    axes.legend(fontsize=9)
    return figure


def properties_figure(properties: Mapping[str, Any]) -> Figure:
    """Draw predictions of the model for the hidden crystals against their labels; `properties` is of the results."""
    figure = new_figure(max(4.2, 3.9 * len(properties)), 3.9)
    for place, (name, entry) in enumerate(properties.items()):
        axes = figure.add_subplot(1, len(properties), place + 1)
        truth, predicted = (np.array(entry["points"][key]) for key in ("truth", "model"))
        low, high = min(truth.min(), predicted.min()), max(truth.max(), predicted.max())
        axes.plot([low, high], [low, high], color="0.5", linewidth=1)
        axes.scatter(truth, predicted, s=9, alpha=0.5, color="#1f5fa8", edgecolors="none")
        axes.set(
            title=f"{TITLES[name]}, N = {entry['n']}", xlabel=f"calculated, {UNITS[name]}",
            ylabel=f"predicted, {UNITS[name]}",
        )  # fmt: skip
        axes.grid(alpha=0.25)
    return figure
