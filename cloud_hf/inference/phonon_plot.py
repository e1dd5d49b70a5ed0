"""A picture of predicted phonon densities of states and the heat capacities that follow from them."""

from collections.abc import Sequence

import torch
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cloud_hf.errors import CloudError
from cloud_hf.files import save_figure
from cloud_hf.inference.curves import binned_dos, heat_capacity_curve, highest_wavenumber
from cloud_hf.inference.plotting import BAND_OPACITY, LABELLED_CURVES, crystal_names, heat_capacity_axes
from cloud_hf.inference.prediction import Prediction

__all__ = ["plot_phonon_dos"]


def plot_phonon_dos(predictions: Sequence[Prediction], path: str, highest: float = 1000.0) -> None:
    """Draw Cv(T), with its interval, and the phonon density of states of every crystal that has one.

    Args:
        predictions: From `predict_items`; failed ones are left out.
        path: Picture to write; its extension gives the format.
        highest: End of the temperature axis, K.

    Raises:
        CloudError: No prediction has a density of states, or the picture cannot be written.
    """
    temperature = torch.linspace(0.0, highest, 501, dtype=torch.float64)
    drawn = [
        (float(dos.zero_point_energy()), name, prediction, dos)
        for prediction, name in zip(predictions, crystal_names(predictions), strict=True)
        if (dos := prediction.phonon_dos) is not None
    ]
    if not drawn:
        raise CloudError("There is nothing to plot: no crystal has a predicted phonon density of states.")
    drawn.sort(key=lambda one: one[:2])
    labelled = len(drawn) <= LABELLED_CURVES

    figure = Figure(figsize=(13.0, 5.8), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    colours = colormaps["viridis"](torch.linspace(0.0, 0.94, len(drawn)).numpy())
    level, last = None, 0.0
    for (_, name, prediction, dos), colour in zip(drawn, colours, strict=True):
        label = name if labelled else None
        curve = heat_capacity_curve(prediction, temperature, banded=labelled)
        assert curve is not None  # noqa: S101  (there is a density of states)
        if curve.softest is not None:
            level = level or curve.level
            left.fill_between(temperature, curve.stiffest, curve.softest, color=colour, alpha=BAND_OPACITY, linewidth=0)
        left.plot(temperature, curve.values, color=colour, linewidth=1.6, label=label)
        edges, density = binned_dos(dos)
        right.stairs(density.numpy(), edges.numpy(), color=colour, linewidth=1.2, label=label)
        last = max(last, highest_wavenumber(edges, density))
    heat_capacity_axes(left, highest)
    left.set_title("Heat capacity from the predicted phonon density of states")
    right.set(
        xlabel="Wavenumber, 1/cm", ylabel="Modes per atom and 1/cm (3 in all)", xlim=(0, 1.05 * last),
        title="Predicted phonon density of states",
    )  # fmt: skip
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.grid(alpha=0.25)
    if level is not None:
        figure.supxlabel(f"Bands: {level:.0%} intervals, of a factor on all frequencies.", fontsize=9, color="0.35")
    if labelled:
        right.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=9)
    save_figure(figure, path)
