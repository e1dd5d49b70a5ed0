"""Pictures of predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cloud_hf.errors import CloudError
from cloud_hf.files import new_file
from cloud_hf.inference.prediction import Prediction
from cloud_hf.models.debye import GAS_CONSTANT, heat_capacity

__all__ = ["Parity", "plot_heat_capacity", "plot_parity", "save_figure"]

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
            (quantity, prediction.item.formula or prediction.item.source)
            for prediction in predictions
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
    note = "One Debye temperature per crystal, learned from heat capacities at 300 K: an approximation at low T."
    if banded:
        level = next(quantity["level"] for quantity, _ in curves if "low" in quantity)
        note += f"\nBands: {level:.0%} intervals of the Debye temperature."
    figure.supxlabel(note, fontsize=9, color="0.35")
    save_figure(figure, path)


def _curves(debye_temperatures: Sequence[float], temperature: torch.Tensor) -> torch.Tensor:
    """Cv in J/(mol atom K), shape (crystals, temperatures)."""
    theta = torch.tensor(debye_temperatures, dtype=torch.float64)
    return heat_capacity(theta[:, None], temperature[None, :])


def _with_ends(theta: Mapping[str, Any]) -> str:
    ends = f" [{theta['low']:.0f}, {theta['high']:.0f}]" if "low" in theta else ""
    return f"{theta['value']:.0f}{ends}"


def save_figure(figure: Figure, path: str) -> None:
    """Write a picture; see `cloud_hf.files.new_file`.

    Raises:
        CloudError: It cannot be written.
    """
    with new_file(path) as aside:
        try:
            figure.savefig(aside, dpi=150)
        except ValueError as error:  # no such format
            raise CloudError(f"the picture cannot be written ({error}).", source=path) from error


@dataclass(frozen=True)
class Parity:
    """Labels and predictions of a target.

    Attributes:
        name: Name of the target.
        unit: Its unit.
        parts: Labels and predictions in that unit, each of shape (n,), of `train`, `validation` and `test`.
    """

    name: str
    unit: str
    parts: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]


PART_STYLES: dict[str, dict[str, Any]] = {
    "train": {"color": "0.6", "zorder": 2},
    "validation": {"color": "#d1682a", "zorder": 3},
    "test": {"color": "#1f5fa8", "zorder": 4},
}
DENSE = 1500
"""From so many points on, colour shows how many lie on each other."""


def plot_parity(targets: Sequence[Parity], path: str) -> None:
    """Draw predictions over labels, one panel per target, with the MAE and number of rows of each part.

    The training rows lie in grey below the others. A part with many rows is drawn as a map of their density.

    Args:
        targets: Targets, each with at least one labelled row.
        path: Picture to write; its extension gives the format.

    Raises:
        CloudError: There is nothing to draw, or the picture cannot be written.
    """
    targets = [target for target in targets if any(len(labels) for labels, _ in target.parts.values())]
    if not targets:
        raise CloudError("There is nothing to plot: no row has a label.")
    columns = min(len(targets), 3)
    rows = -(-len(targets) // columns)
    figure = Figure(figsize=(6.4 * columns, 6.6 * rows), layout="compressed")
    FigureCanvasAgg(figure)
    for index, target in enumerate(targets):
        _draw_parity(figure, figure.add_subplot(rows, columns, index + 1), target)
    save_figure(figure, path)


def _draw_parity(figure: Figure, axes: Any, target: Parity) -> None:
    every = np.concatenate([values for pair in target.parts.values() for values in pair])
    lowest, highest = float(every.min()), float(every.max())
    margin = 0.04 * (highest - lowest) or 0.1 * abs(highest) or 1.0
    limits = (lowest - margin, highest + margin)
    axes.plot(limits, limits, color="0.2", linewidth=1.0, linestyle="--", zorder=5)
    words = []
    for part, (labels, predictions) in target.parts.items():
        mae = np.abs(predictions - labels).mean()
        words.append(f"{part}: MAE {mae:.3g} {target.unit}, n = {len(labels):,}")
        style = PART_STYLES[part]
        if part != "train" and len(labels) >= DENSE:
            cells = axes.hexbin(
                labels, predictions, gridsize=70, extent=(*limits, *limits), bins="log", mincnt=1, cmap="viridis",
                linewidths=0.1, zorder=style["zorder"],
            )  # fmt: skip
            figure.colorbar(cells, ax=axes, shrink=0.75, label=f"{part} rows per cell")
        else:
            size = float(np.clip(2500 / len(labels), 3 if part == "train" else 7, 32))
            opacity = 0.35 if part == "train" and len(labels) > DENSE else 0.75
            axes.scatter(labels, predictions, s=size, alpha=opacity, linewidths=0, rasterized=True, label=part, **style)
    axes.set(
        xlabel=f"Label: {target.name}, {target.unit}",
        ylabel=f"Prediction: {target.name}, {target.unit}",
        xlim=limits,
        ylim=limits,
        aspect="equal",
    )
    axes.set_title("\n".join([target.name, *words]), fontsize=10)
    axes.grid(alpha=0.25, zorder=0)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="upper left", fontsize=9, markerscale=1.5)
