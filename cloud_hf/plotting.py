"""Pictures of predictions."""

from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cloud_hf.debye import GAS_CONSTANT, heat_capacity
from cloud_hf.errors import CloudError
from cloud_hf.prediction import Prediction

__all__ = ["plot_heat_capacity"]

LABELLED_CURVES = 24
"""More curves than this are drawn without names."""


def plot_heat_capacity(predictions: Sequence[Prediction], path: str, highest: float = 1000.0) -> None:
    """Draw Cv(T) of every crystal that has a Debye temperature, with the Dulong-Petit limit.

    Args:
        predictions: From `predict_items`; failed ones are left out.
        path: Picture to write; its extension gives the format.
        highest: End of the temperature axis, K.

    Raises:
        CloudError: No prediction has a Debye temperature, or the picture cannot be written.
    """
    curves = sorted(
        (float(quantity["value"]), prediction.item.formula or prediction.item.source)
        for prediction in predictions
        for quantity in prediction.quantities
        if quantity["name"] == "debye_temperature"
    )
    if not curves:
        raise CloudError("There is nothing to plot: no crystal has a predicted Debye temperature.")
    temperature = torch.linspace(0.0, highest, 501, dtype=torch.float64)
    theta = torch.tensor([value for value, _ in curves], dtype=torch.float64)
    values = heat_capacity(theta[:, None], temperature[None, :])

    figure = Figure(figsize=(9.5, 5.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    from matplotlib import colormaps

    colours = colormaps["viridis"](torch.linspace(0.0, 0.94, len(curves)).numpy())
    for (debye_temperature, name), curve, colour in zip(curves, values, colours, strict=True):
        label = f"{name}, {debye_temperature:.0f} K" if len(curves) <= LABELLED_CURVES else None
        axes.plot(temperature, curve, color=colour, linewidth=1.6, label=label)
    limit = 3 * GAS_CONSTANT
    axes.axhline(limit, color="0.25", linestyle="--", linewidth=1.2)
    axes.annotate(
        f"Dulong-Petit limit, 3R = {limit:.2f} J/(mol atom K)", (0.99 * highest, limit), xytext=(0, 4),
        textcoords="offset points", ha="right", color="0.25",
    )  # fmt: skip
    axes.set(
        xlabel="Temperature, K",
        ylabel="Heat capacity Cv, J/(mol atom K)",
        title="Heat capacity from the predicted Debye temperature",
        xlim=(0, highest),
        ylim=(0, 1.09 * limit),
    )
    axes.grid(alpha=0.25)
    if len(curves) <= LABELLED_CURVES:
        axes.legend(title="Crystal, Debye temperature", loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=9)
    figure.supxlabel(
        "One Debye temperature per crystal, learned from heat capacities at 300 K: an approximation at low T.",
        fontsize=9, color="0.35",
    )  # fmt: skip
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise CloudError(f"{path}: the picture cannot be written ({error}).") from error
