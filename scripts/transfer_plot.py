"""Pictures of Cv(T) that was predicted from one temperature."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from heat_capacity_study import HeatCapacities
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cloud_hf.files import new_file
from cloud_hf.models.debye import heat_capacity
from cloud_hf.studies.debye.figures import measured_panel, phonon_panel, rows_at_quantiles

__all__ = ["plot_curves"]

QUANTILES = (0.5, 0.95)
"""Held-out rows that are drawn: at these quantiles of the model's error, averaged over the temperatures."""
ARMS = ("model", "trees")


def plot_curves(
    compounds: list[dict[str, Any]], thetas: pd.DataFrame, data: HeatCapacities, match: float, path: Path
) -> None:
    """Draw measured compounds, and held-out rows with their phonon density of states.

    Args:
        compounds: From `beside_measured`.
        thetas: From `transfer.read_thetas`.
        data: The table.
        match: Rows below this `cloud_match_dcv_per_atom` are drawn, J/(mol atom K).
        path: Picture to write, PNG.
    """
    figure = Figure(figsize=(10.5, 6.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(2, 3).flat)
    for panel, entry in zip(axes, compounds, strict=False):
        measured_panel(panel, entry, ARMS)
    rows = rows_at_quantiles(*_errors(thetas, data, match), QUANTILES)
    for panel, number, quantile in zip(axes[len(compounds) :], rows, QUANTILES, strict=False):
        row = thetas.iloc[number]
        crystal = data.table.iloc[int(row["row"])]
        title = f"{crystal['formula']}, held-out row, error quantile {quantile:g}"
        phonon_panel(panel, title, row.to_dict(), ARMS, crystal["phfreq"], crystal["phdos"])
    with new_file(path) as aside:
        figure.savefig(aside, dpi=130, format="png")


def _errors(thetas: pd.DataFrame, data: HeatCapacities, match: float) -> tuple[Any, Any]:
    """The model's error summed over the temperatures of the table, and which rows have a density of states to trust."""
    table = data.table.iloc[thetas["row"].to_numpy()]
    theta = thetas["model"].to_numpy()
    errors = np.zeros(len(thetas))
    for name in table.columns:
        if name.startswith("cv_") and name.endswith("K_per_atom"):
            kelvin = float(name[3:].partition("K")[0])
            errors += np.abs(heat_capacity(theta, kelvin).numpy() - table[name].to_numpy())
    return errors, (table["cloud_match_dcv_per_atom"] < match).to_numpy()
