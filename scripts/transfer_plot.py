"""Pictures of Cv(T) that was predicted from one temperature."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from heat_capacity_study import HeatCapacities
from known_heat_capacities import phonon_heat_capacity
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cloud_hf.debye import heat_capacity

__all__ = ["plot_curves"]

QUANTILES = (0.5, 0.95)
"""Held-out rows that are drawn: at these quantiles of the model's error, averaged over the temperatures."""
COLOURS = {"model": "tab:blue", "trees": "tab:orange"}


def plot_curves(
    compounds: list[dict[str, Any]], thetas: pd.DataFrame, data: HeatCapacities, match: float, path: Path
) -> None:
    """Draw measured compounds, and held-out rows with their phonon density of states.

    Args:
        compounds: From `transfer.measured`.
        thetas: From `transfer.read_thetas`.
        data: The table.
        match: Rows below this `cloud_match_dcv_per_atom` are drawn, J/(mol atom K).
        path: Picture to write, PNG.
    """
    rows = _chosen_rows(thetas, data, match)
    figure = Figure(figsize=(10.5, 6.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(2, 3).flat)
    for panel, entry in zip(axes, compounds, strict=False):
        kelvin = np.linspace(1, max(entry["temperature"]) * 1.15, 200)
        _curves(panel, entry, kelvin, entry["atoms"])
        panel.plot(entry["temperature"], entry["measured"], "o", color="black", markersize=4, label="measured")
        panel.set_title(f"{entry['name']}, {entry['from']}", fontsize=9)
        panel.set_ylabel("Cv, J/(mol formula unit K)")
    for panel, (number, quantile) in zip(axes[len(compounds) :], rows, strict=False):
        row = thetas.iloc[number]
        crystal = data.table.iloc[int(row["row"])]
        kelvin = np.linspace(5, 1000, 200)
        truth = [phonon_heat_capacity(crystal["phfreq"], crystal["phdos"], one) for one in kelvin]
        panel.plot(kelvin, truth, color="black", linestyle="--", label="phonon density of states")
        _curves(panel, row, kelvin, 1)
        panel.set_title(f"{crystal['formula']}, held-out row, error quantile {quantile:g}", fontsize=9)
        panel.set_ylabel("Cv, J/(mol atom K)")
    for panel in axes:
        panel.set_xlabel("T, K")
        panel.set_xlim(left=0)
        panel.set_ylim(bottom=0)
        panel.legend(frameon=False, fontsize=8, loc="lower right")
    aside = path.with_name(f".{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(aside, dpi=130, format="png")
    aside.replace(path)


def _curves(panel: Axes, entry: Any, kelvin: Any, atoms: float) -> None:
    for arm, colour in COLOURS.items():
        if entry[arm] is not None:
            theta = float(entry[arm])
            values = heat_capacity(theta, kelvin, atoms).numpy()
            panel.plot(kelvin, values, color=colour, linewidth=1.4, label=f"{arm}, {theta:.0f} K")


def _chosen_rows(thetas: pd.DataFrame, data: HeatCapacities, match: float) -> list[tuple[int, float]]:
    """Numbers of the rows to draw, with their quantile."""
    table = data.table.iloc[thetas["row"].to_numpy()]
    theta = thetas["model"].to_numpy()
    errors = np.zeros(len(thetas))
    for name in table.columns:
        if name.startswith("cv_") and name.endswith("K_per_atom"):
            kelvin = float(name[3:].partition("K")[0])
            errors += np.abs(heat_capacity(theta, kelvin).numpy() - table[name].to_numpy())
    usable = np.flatnonzero((table["cloud_match_dcv_per_atom"] < match).to_numpy())
    order = usable[np.argsort(errors[usable], kind="stable")]
    return [(int(order[min(int(quantile * len(order)), len(order) - 1)]), quantile) for quantile in QUANTILES]
