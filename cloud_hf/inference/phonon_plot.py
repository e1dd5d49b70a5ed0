"""A picture of predicted phonon densities of states and the heat capacities that follow from them."""

from collections.abc import Sequence

import torch
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cloud_hf.errors import CloudError
from cloud_hf.files import save_figure
from cloud_hf.inference.plotting import BAND_OPACITY, LABELLED_CURVES, heat_capacity_axes
from cloud_hf.inference.prediction import Prediction
from cloud_hf.models.phonon_dos import DEBYE_TEMPERATURES

__all__ = ["STEP", "highest_wavenumber", "plot_phonon_dos"]

STEP = 10.0
"""Width in 1/cm of the bins that are drawn."""


def plot_phonon_dos(predictions: Sequence[Prediction], path: str, highest: float = 1000.0) -> None:
    """Draw Cv(T), with its interval, and the phonon density of states of every crystal that has one.

    Args:
        predictions: From `predict_items`; failed ones are left out.
        path: Picture to write; its extension gives the format.
        highest: End of the temperature axis, K.

    Raises:
        CloudError: No prediction has a density of states, or the picture cannot be written.
    """
    curves = [
        (prediction.phonon_dos, prediction.item.formula or prediction.item.source, *_factor(prediction))
        for prediction in predictions
        if prediction.phonon_dos is not None
    ]
    if not curves:
        raise CloudError("There is nothing to plot: no crystal has a predicted phonon density of states.")
    curves.sort(key=lambda curve: (float(curve[0].zero_point_energy()), curve[1]))
    labelled = len(curves) <= LABELLED_CURVES
    temperature = torch.linspace(0.0, highest, 501, dtype=torch.float64)
    edges = torch.arange(0.0, float(curves[0][0].edges[-1]) + STEP, STEP, dtype=torch.float64)
    densities = [3 * dos.shares(edges) / STEP for dos, *_ in curves]

    figure = Figure(figsize=(13.0, 5.8), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    colours = colormaps["viridis"](torch.linspace(0.0, 0.94, len(curves)).numpy())
    banded = labelled and any(factor is not None for _, _, factor, _ in curves)
    for (dos, name, factor, _), density, colour in zip(curves, densities, colours, strict=True):
        label = name if labelled else None
        if banded and factor is not None:  # with all frequencies times f, Cv at T is that of the spectrum at T/f
            soft, stiff = dos.heat_capacity(temperature * factor), dos.heat_capacity(temperature / factor)
            left.fill_between(temperature, stiff, soft, color=colour, alpha=BAND_OPACITY, linewidth=0)
        left.plot(temperature, dos.heat_capacity(temperature), color=colour, linewidth=1.6, label=label)
        right.stairs(density.numpy(), edges.numpy(), color=colour, linewidth=1.2, label=label)
    heat_capacity_axes(left, highest)
    left.set_title("Heat capacity from the predicted phonon density of states")
    last = max(highest_wavenumber(edges, density) for density in densities)
    right.set(
        xlabel="Wavenumber, 1/cm", ylabel="Modes per atom and 1/cm (3 in all)", xlim=(0, 1.05 * last),
        title="Predicted phonon density of states",
    )  # fmt: skip
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.grid(alpha=0.25)
    if banded:
        level = next(level for _, _, factor, level in curves if factor is not None)
        figure.supxlabel(f"Bands: {level:.0%} intervals, of a factor on all frequencies.", fontsize=9, color="0.35")
    if labelled:
        right.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=9)
    save_figure(figure, path)


def highest_wavenumber(edges: torch.Tensor, density: torch.Tensor) -> float:
    """Return where a picture of a density of states ends, 1/cm: 99.9 % of the modes lie below.

    Args:
        edges: Of the bins, `STEP` wide, 1/cm, shape (n + 1,).
        density: Modes per atom and 1/cm, shape (n,).
    """
    below = torch.cumsum(density, 0) * STEP < 3 * 0.999
    return float(edges[1:][below].amax(0)) if bool(below.any()) else float(edges[-1])


def _factor(prediction: Prediction) -> tuple[float | None, float | None]:
    """By what all frequencies may be divided and multiplied, and with what probability; None without an interval."""
    for quantity in prediction.quantities:
        if quantity["name"] == DEBYE_TEMPERATURES[0] and "high" in quantity:
            return quantity["high"] / quantity["value"], quantity["level"]
    return None, None
