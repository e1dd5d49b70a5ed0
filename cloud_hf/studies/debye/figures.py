"""Pictures of the study `debye`, and what its arms are called."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import ArrayLike, NDArray

from cloud_hf.models.debye import heat_capacity
from cloud_hf.scope import parse
from cloud_hf.studies.common.published import CLOUD_DEBYE
from cloud_hf.studies.common.report import ARM_STYLES, new_figure
from cloud_hf.studies.debye.phonons import phonon_heat_capacity
from cloud_hf.studies.debye.rows import DebyeRows
from cloud_hf.studies.debye.scores import Predictions

__all__ = [
    "NAMES", "THETAS", "crystals_figure", "errors_figure", "measured_figure", "measured_panel", "phonon_panel",
    "rows_at_quantiles", "temperatures_figure",
]  # fmt: skip

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
CURVES: dict[str, tuple[str, str]] = {
    "debye": ("#1f5fa8", "Debye head"),
    "inversion": ("#7a3fa0", "direct head, inverted"),
    "model": ("#1f5fa8", "model"),
    "trees": ("#d1682a", "trees"),
    "label": ("#3d8b40", "label's own"),
}
"""Colour and name of the curve of each Debye temperature."""
QUANTILES = (0.05, 0.5, 0.75, 0.95)
"""Crystals that are drawn: at these quantiles of the Debye head's error over all temperatures."""


def errors_figure(heads: Mapping[str, Any]) -> Figure:
    """Draw MAE:MAD at 300 K of every arm beside the published ones; `heads` is from `compared`."""
    published = [(f"{name}, published", ratio, "published") for name, ratio in CLOUD_DEBYE.items()]
    styles = {"debye": "model", "per_atom": "direct", "per_cell": "direct", "trees": "trees", "mean": "mean"}
    points = [(NAMES[arm], errors["mae_mad"], styles[arm]) for arm, errors in heads["arms"].items()]
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


def temperatures_figure(elsewhere: Mapping[str, Any]) -> Figure:
    """Draw the errors of Cv and U(T) - U(0) over the temperature; `elsewhere` is of the results."""
    figure = new_figure(8.0, 4.2)
    markers = {"debye": "o", "inversion": "s", "trees": "^", "label": "D"}
    for axes, quantity, title in zip(
        figure.subplots(1, 2), ("heat_capacity", "internal_energy"), ("Cv(T)", "U(T) - U(0)"), strict=True
    ):
        kelvin = [float(text) for text in elsewhere[quantity]]
        scores = [*elsewhere[quantity].values()]
        for place, arm in enumerate(scores[0]["arms"]):
            values = [entry["arms"][arm]["mae"] for entry in scores]
            axes.plot(kelvin, values, color=CURVES[arm][0], marker=markers[arm], label=THETAS[arm],
                      markersize=9 - place, linewidth=3.0 - 0.6 * place)  # fmt: skip
        axes.plot(kelvin, [next(iter(entry["arms"].values()))["mad"] for entry in scores], color="0.5", linestyle=":",
                  label="mean of these rows")  # fmt: skip
        axes.set(
            xscale="log", yscale="log", xlabel="T, K", ylabel=f"MAE, {scores[0]['unit']}",
            title=f"{title}, {elsewhere['n']:,} held-out rows",
        )  # fmt: skip
        axes.set_xticks(kelvin, labels=[f"{value:g}" for value in kelvin])
        axes.set_xticks([], minor=True)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.grid(alpha=0.25)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def crystals_figure(rows: DebyeRows, predictions: Predictions, elsewhere: Mapping[str, Any]) -> Figure:
    """Draw Cv(T) of held-out crystals at `QUANTILES` of the error; `elsewhere` as for `temperatures_figure`."""
    test = predictions.rows
    usable = rows.match[test] < elsewhere["match_below"]
    errors = _summed_errors(rows, predictions, [float(kelvin) for kelvin in elsewhere["heat_capacity"]])
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


def measured_panel(axes: Axes, entry: Mapping[Any, Any], arms: Sequence[str]) -> None:
    """Draw Cv(T) of a measured compound.

    Args:
        axes: Empty axes.
        entry: `name`, `from` (where the Debye temperatures are from), `atoms` (per formula unit), `temperature` (K) and
            `measured` (J/(mol formula unit K)) of the same length, and the Debye temperature of each arm in K or None.
        arms: Which to draw, of `CURVES`.
    """
    kelvin = np.linspace(1, max(entry["temperature"]) * 1.15, 200)
    _curves(axes, entry, arms, kelvin, entry["atoms"])
    axes.plot(entry["temperature"], entry["measured"], "o", color="black", markersize=4, label="measured")
    axes.set_title(f"{entry['name']}, {entry['from']}", fontsize=9)
    axes.set_ylabel("Cv, J/(mol formula unit K)")
    _finish(axes)


def phonon_panel(
    axes: Axes, title: str, thetas: Mapping[Any, Any], arms: Sequence[str], wavenumber: ArrayLike, density: ArrayLike,
    highest: float = 1000.0,
) -> None:  # fmt: skip
    """Draw Cv(T) per atom of a crystal with a phonon density of states.

    Args:
        axes: Empty axes.
        title: Title of the panel.
        thetas: Debye temperature of each arm in K.
        arms: Which to draw, of `CURVES`.
        wavenumber: 1/cm, shape (m,).
        density: Density of states in any unit, shape (m,).
        highest: End of the temperature axis, K.
    """
    kelvin = np.linspace(5, highest, 200)
    truth = [phonon_heat_capacity(wavenumber, density, temperature) for temperature in kelvin]
    axes.plot(kelvin, truth, color="black", linestyle="--", zorder=3, label="phonon density of states")
    _curves(axes, thetas, arms, kelvin, 1)
    axes.set_title(title, fontsize=9)
    axes.set_ylabel("Cv, J/(mol atom K)")
    _finish(axes)


def rows_at_quantiles(errors: ArrayLike, usable: ArrayLike, quantiles: Sequence[float]) -> list[int]:
    """Return the rows at some quantiles of the error among the usable ones, without choosing by hand.

    Args:
        errors: Shape (n,).
        usable: Whether a row may be taken, shape (n,).
        quantiles: Numbers from 0 to 1.
    """
    rows = np.flatnonzero(np.asarray(usable))
    order = rows[np.argsort(np.asarray(errors, dtype=float)[rows], kind="stable")]
    return [int(order[min(int(quantile * len(order)), len(order) - 1)]) for quantile in quantiles] if len(order) else []


def _curves(axes: Axes, thetas: Mapping[Any, Any], arms: Sequence[str], kelvin: Any, atoms: float) -> None:
    for place, arm in enumerate(arms):
        if thetas[arm] is not None:
            colour, name = CURVES[arm]
            theta = float(thetas[arm])
            values = heat_capacity(theta, kelvin, atoms).numpy()
            width = 2.4 - 0.7 * min(place, 2)  # curves that lie on each other are all seen
            axes.plot(kelvin, values, color=colour, linewidth=width, label=f"{name}, {theta:.0f} K")


def _finish(axes: Axes) -> None:
    axes.set_xlabel("T, K")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=7, loc="lower right")
