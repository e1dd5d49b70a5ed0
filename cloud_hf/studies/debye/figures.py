"""The pictures of the study `debye`, and what its arms are called."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import NDArray

from cloud_hf.models.debye import heat_capacity
from cloud_hf.scope import parse
from cloud_hf.studies.common.published import CLOUD_DEBYE
from cloud_hf.studies.common.report import ARM_STYLES, new_figure
from cloud_hf.studies.debye.panels import CURVES, measured_panel, phonon_panel, rows_at_quantiles
from cloud_hf.studies.debye.phonons import phonon_heat_capacity
from cloud_hf.studies.debye.rows import DebyeRows
from cloud_hf.studies.debye.scores import Predictions

__all__ = ["NAMES", "THETAS", "crystals_figure", "errors_figure", "measured_figure", "temperatures_figure"]

Numbers = NDArray[np.float64]

NAMES = {
    "debye": "Debye head (extensive, physics)",
    "per_atom": "direct head, per atom (extensive)",
    "per_cell": "direct head, per cell",
    "trees": "trees on ln theta (extensive, physics)",
    "mean": "mean per atom of the training labels",
}
THETAS = {
    "debye": "Debye head",
    "inversion": "direct head per atom, inverted afterwards",
    "trees": "trees on ln theta",
    "label": "the label's own theta",
}
QUANTILES = (0.05, 0.5, 0.75, 0.95)
"""Crystals that are drawn: at these quantiles of the Debye head's error over all temperatures."""


def errors_figure(heads: Mapping[str, Any]) -> Figure:
    """Draw MAE:MAD at 300 K of every arm beside the published ones; `heads` is from `compared`."""
    published = [(f"{name}, published", ratio, "published") for name, ratio in CLOUD_DEBYE.items()]
    styles = {"debye": "model", "per_atom": "direct", "per_cell": "direct", "trees": "trees", "mean": "mean"}
    points = [(NAMES[arm], found["mae_mad"], styles[arm]) for arm, found in heads["arms"].items()]
    points = sorted((point for point in points + published if point[1]), key=lambda point: -point[1])
    figure = new_figure(7.6, 3.8)
    axes = figure.add_subplot()
    for place, (_, ratio, style) in enumerate(points):
        chosen = ARM_STYLES[style]
        axes.plot(ratio, place, marker=chosen["marker"], color=chosen["color"], markersize=8, linestyle="none")
        axes.annotate(
            f"{ratio:.3g}", (ratio, place), xytext=(9, 0), textcoords="offset points", va="center", fontsize=9
        )
    axes.set_yticks(range(len(points)), labels=[name for name, _, _ in points])
    axes.set(
        xscale="log", xlabel="MAE / MAD of Cv at 300 K (1: no better than a constant)",
    )  # fmt: skip
    axes.set_xticks([0.03, 0.05, 0.1, 0.2, 0.5, 1.0], labels=["0.03", "0.05", "0.1", "0.2", "0.5", "1"])
    axes.set_xticks([], minor=True)
    low = min(ratio for _, ratio, _ in points)
    axes.set_xlim(min(0.03, 0.8 * low), 1.6)
    axes.margins(y=0.08)
    axes.grid(axis="x", alpha=0.25)
    figure.suptitle(f"Heat capacity at 300 K, {heads['n']:,} held-out rows; published: the paper's own", fontsize=10)
    return figure


def temperatures_figure(found: Mapping[str, Any]) -> Figure:
    """Draw the errors of Cv and U(T) - U(0) over the temperature; `found` is `other_temperatures` of the results."""
    figure = new_figure(8.0, 4.2)
    markers = {"debye": "o", "inversion": "s", "trees": "^", "label": "D"}
    for axes, quantity, title in zip(
        figure.subplots(1, 2), ("heat_capacity", "internal_energy"), ("Cv(T)", "U(T) - U(0)"), strict=True
    ):
        kelvin = [float(one) for one in found[quantity]]
        scores = [*found[quantity].values()]
        for place, arm in enumerate(scores[0]["arms"]):
            values = [one["arms"][arm]["mae"] for one in scores]
            axes.plot(kelvin, values, color=CURVES[arm][0], marker=markers[arm], label=THETAS[arm],
                      markersize=9 - place, linewidth=3.0 - 0.6 * place)  # fmt: skip
        axes.plot(kelvin, [next(iter(one["arms"].values()))["mad"] for one in scores], color="0.5", linestyle=":",
                  label="mean of these rows")  # fmt: skip
        axes.set(
            xscale="log", yscale="log", xlabel="T, K", ylabel=f"MAE, {scores[0]['unit']}",
            title=f"{title}, {found['n']:,} held-out rows",
        )  # fmt: skip
        axes.set_xticks(kelvin, labels=[f"{one:g}" for one in kelvin])
        axes.set_xticks([], minor=True)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.grid(alpha=0.25)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def crystals_figure(rows: DebyeRows, predictions: Predictions, found: Mapping[str, Any]) -> Figure:
    """Draw Cv(T) of held-out crystals at `QUANTILES` of the error; `found` as for `temperatures_figure`."""
    test = predictions.rows
    usable = rows.match[test] < found["match_below"]
    errors = _summed_errors(rows, predictions, [float(kelvin) for kelvin in found["heat_capacity"]])
    arms = [arm for arm in ("debye", "trees", "label") if arm in predictions.thetas]
    figure = new_figure(7.2, 5.2)
    for axes, place, quantile in zip(
        figure.subplots(2, 2).flat, rows_at_quantiles(errors, usable, QUANTILES), QUANTILES, strict=False
    ):
        row = int(test[place])
        density = rows.densities[row]
        if density is not None:
            formula = parse(rows.crystals.scopes[row]).formula or rows.crystals.ids[row]
            title = f"{formula} ({rows.crystals.ids[row]}), error quantile {quantile:g}"
            phonon_panel(axes, title, {arm: predictions.thetas[arm][place] for arm in arms}, arms, *density)
    return figure


def _summed_errors(rows: DebyeRows, predictions: Predictions, temperatures: Sequence[float]) -> Numbers:
    """|Cv of the Debye head - Cv of the density of states|, summed over temperatures; 0 without a density of states."""
    errors = np.zeros(len(predictions.rows))
    for kelvin in temperatures:
        model = heat_capacity(predictions.thetas["debye"], kelvin).numpy()
        for place, row in enumerate(predictions.rows):
            density = rows.densities[row]
            if density is not None:
                wavenumber, heights = density
                errors[place] += abs(model[place] - phonon_heat_capacity(wavenumber, heights, kelvin))
    return errors


def measured_figure(compounds: Sequence[Mapping[str, Any]], arms: Sequence[str]) -> Figure:
    """Draw Cv(T) of measured compounds; `compounds` is of the results, `arms` are those with Debye temperatures."""
    figure = new_figure(6.6, 2.5 * -(-len(compounds) // 2))
    for axes, entry in zip(figure.subplots(-(-len(compounds) // 2), 2, squeeze=False).flat, compounds, strict=False):
        measured_panel(axes, entry, arms)
    return figure
