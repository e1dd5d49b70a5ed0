"""Curves of Cv(T) that follow from Debye temperatures, beside measured values and phonon densities of states."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from cloud_hf.models.debye import heat_capacity
from cloud_hf.studies.debye.phonons import phonon_heat_capacity

__all__ = ["CURVES", "measured_panel", "phonon_panel", "rows_at_quantiles"]

CURVES: dict[str, tuple[str, str]] = {
    "debye": ("#1f5fa8", "Debye head"),
    "inversion": ("#7a3fa0", "direct head, inverted"),
    "model": ("#1f5fa8", "model"),
    "trees": ("#d1682a", "trees"),
    "label": ("#3d8b40", "label's own"),
}
"""Colour and name of the curve of each Debye temperature."""


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
        title: Of the panel.
        thetas: Debye temperature of each arm in K.
        arms: Which to draw, of `CURVES`.
        wavenumber: 1/cm, shape (m,).
        density: In any unit, shape (m,).
        highest: End of the temperature axis, K.
    """
    kelvin = np.linspace(5, highest, 200)
    truth = [phonon_heat_capacity(wavenumber, density, one) for one in kelvin]
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
        quantiles: From 0 to 1.
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
