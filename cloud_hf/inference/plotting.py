"""The picture of predicted heat capacities."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cloud_hf.errors import CloudError
from cloud_hf.files import save_figure
from cloud_hf.inference.curves import DULONG_PETIT
from cloud_hf.inference.prediction import Prediction
from cloud_hf.models.debye import heat_capacity

__all__ = ["crystal_names", "heat_capacity_axes", "plot_heat_capacity"]

LABELLED_CURVES = 24
"""More curves than this are drawn without names and bands."""

BAND_OPACITY = 0.16


def plot_heat_capacity(predictions: Sequence[Prediction], path: str, highest: float = 1000.0) -> None:
    """Draw Cv(T) of every crystal that has a Debye temperature, with its interval and the Dulong-Petit limit.

    Args:
        predictions: From `predict_items`; failed ones are left out.
        path: Picture to write; its extension gives the format.
        highest: End of the temperature axis, K.

    Raises:
        CloudError: No prediction has a Debye temperature, or the picture cannot be written.
    """
    curves = sorted(
        (
            (quantity, name)
            for prediction, name in zip(predictions, crystal_names(predictions), strict=True)
            for quantity in prediction.quantities
            if quantity["name"] == "debye_temperature"
        ),
        key=lambda curve: (curve[0]["value"], curve[1]),
    )
    if not curves:
        raise CloudError("There is nothing to plot: no crystal has a predicted Debye temperature.")
    temperature = torch.linspace(0.0, highest, 501, dtype=torch.float64)
    ends = [
        [float(quantity[end if end in quantity else "value"]) for quantity, _ in curves]
        for end in ("low", "value", "high")
    ]
    soft, middle, stiff = (_curves(values, temperature) for values in ends)
    banded = any("low" in quantity for quantity, _ in curves) and len(curves) <= LABELLED_CURVES

    figure = Figure(figsize=(9.5, 5.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    from matplotlib import colormaps

    colours = colormaps["viridis"](torch.linspace(0.0, 0.94, len(curves)).numpy())
    for index, ((quantity, name), colour) in enumerate(zip(curves, colours, strict=True)):
        label = f"{name}, {_with_ends(quantity)} K" if len(curves) <= LABELLED_CURVES else None
        if banded and "low" in quantity:
            axes.fill_between(temperature, stiff[index], soft[index], color=colour, alpha=BAND_OPACITY, linewidth=0)
        axes.plot(temperature, middle[index], color=colour, linewidth=1.6, label=label, zorder=3)
    heat_capacity_axes(axes, highest)
    axes.set_title("Heat capacity from the predicted Debye temperature")
    axes.grid(alpha=0.25)
    if len(curves) <= LABELLED_CURVES:
        axes.legend(title="Crystal, Debye temperature", loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=9)
    note = "One Debye temperature per crystal, learned from heat capacities at 300 K: an approximation at low T."
    if banded:
        level = next(quantity["level"] for quantity, _ in curves if "low" in quantity)
        note += f"\nBands: {level:.0%} intervals of the Debye temperature."
    figure.supxlabel(note, fontsize=9, color="0.35")
    save_figure(figure, path)


def crystal_names(predictions: Sequence[Prediction]) -> list[str]:
    """What a picture calls each crystal: its formula; where several share it, with the space group, else the file."""
    items = [prediction.item for prediction in predictions]
    names = [item.formula or item.source for item in items]
    for also in ([item.space_group_symbol or "" for item in items], [Path(item.source).name[:24] for item in items]):
        counts = Counter(names)
        names = [
            f"{name}, {more}" if more and counts[name] > 1 else name for name, more in zip(names, also, strict=True)
        ]
    return names


def heat_capacity_axes(axes: Any, highest: float) -> None:
    """Name the axes of Cv(T) and draw the Dulong-Petit limit.

    Args:
        axes: Of matplotlib.
        highest: End of the temperature axis, K.
    """
    axes.axhline(DULONG_PETIT, color="0.25", linestyle="--", linewidth=1.2)
    axes.annotate(
        f"Dulong-Petit limit, 3R = {DULONG_PETIT:.2f} J/(mol atom K)", (0.99 * highest, DULONG_PETIT), xytext=(0, 4),
        textcoords="offset points", ha="right", color="0.25",
    )  # fmt: skip
    axes.set(
        xlabel="Temperature, K",
        ylabel="Heat capacity Cv, J/(mol atom K)",
        xlim=(0, highest),
        ylim=(0, 1.09 * DULONG_PETIT),
    )


def _curves(debye_temperatures: Sequence[float], temperature: torch.Tensor) -> torch.Tensor:
    """Cv in J/(mol atom K), shape (crystals, temperatures)."""
    theta = torch.tensor(debye_temperatures, dtype=torch.float64)
    return heat_capacity(theta[:, None], temperature[None, :])


def _with_ends(theta: Mapping[str, Any]) -> str:
    ends = f" [{theta['low']:.0f}, {theta['high']:.0f}]" if "low" in theta else ""
    return f"{theta['value']:.0f}{ends}"
