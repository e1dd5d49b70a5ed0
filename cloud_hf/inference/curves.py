"""What pictures show of a prediction, as numbers: Cv(T) with its band, and the phonon density of states in bins."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cloud_hf.inference.prediction import Prediction
from cloud_hf.models.conformal import width_at
from cloud_hf.models.debye import GAS_CONSTANT, heat_capacity
from cloud_hf.models.einstein import heat_capacity as einstein_heat_capacity
from cloud_hf.models.phonon_dos import DEBYE_TEMPERATURES, KELVIN_CM, PhononDOS

__all__ = [
    "DULONG_PETIT", "STEP", "HeatCapacityCurve", "binned_dos", "excited_share", "heat_capacity_curve",
    "highest_wavenumber",
]  # fmt: skip

DULONG_PETIT = 3 * GAS_CONSTANT
"""J/(mol atom K); the limit of Cv at high temperatures."""

STEP = 10.0
"""Width in 1/cm of the bins that are drawn."""


@dataclass(frozen=True)
class HeatCapacityCurve:
    """Cv in J/(mol atom K) at some temperatures.

    Attributes:
        values: As predicted.
        softest: Upper end of the interval, where all frequencies are as low as it allows; None without an interval.
        stiffest: Lower end of the interval; None likewise.
        level: Probability of the interval; None likewise.
    """

    values: Tensor
    softest: Tensor | None = None
    stiffest: Tensor | None = None
    level: float | None = None


def heat_capacity_curve(prediction: Prediction, temperature: Tensor, banded: bool = True) -> HeatCapacityCurve | None:
    """Return Cv(T) by the predicted phonon density of states, else by the Debye temperature; None where neither is.

    Args:
        prediction: Of a crystal.
        temperature: K.
        banded: Whether to compute the ends of the interval too.
    """
    quantities = {quantity["name"]: quantity for quantity in prediction.quantities}
    dos = prediction.phonon_dos
    theta = quantities.get("debye_temperature" if dos is None else DEBYE_TEMPERATURES[0], {})

    def curve(end: str) -> Tensor:
        if dos is None:
            return heat_capacity(theta[end], temperature)
        if end == "value":
            return dos.heat_capacity(temperature)
        # an interval is one factor on all frequencies: with them times f, Cv at T is that of the spectrum at T/f
        widths = torch.from_numpy(width_at(prediction.heat_capacity_widths, temperature.numpy()))
        return dos.heat_capacity(temperature / (theta[end] / theta["value"]) ** widths)

    if dos is None and not theta:
        return None
    if not banded or "high" not in theta:
        return HeatCapacityCurve(curve("value"))
    return HeatCapacityCurve(curve("value"), curve("low"), curve("high"), theta["level"])


def binned_dos(dos: PhononDOS) -> tuple[Tensor, Tensor]:
    """Return a density of states in bins of one width.

    Args:
        dos: Of one crystal.

    Returns:
        Edges of the bins, `STEP` wide, 1/cm, shape (n + 1,), and modes per atom and 1/cm in each, shape (n,).
    """
    edges = torch.arange(0.0, float(dos.edges[-1]) + STEP, STEP, dtype=torch.float64)
    return edges, 3 * dos.shares(edges) / STEP


def highest_wavenumber(edges: Tensor, density: Tensor) -> float:
    """Return where a picture of a density of states ends, 1/cm: 99.9 % of the modes lie below.

    Args:
        edges: From `binned_dos`.
        density: Likewise.
    """
    below = torch.cumsum(density, 0) * STEP < 3 * 0.999
    return float(edges[1:][below].amax(0)) if bool(below.any()) else float(edges[-1])


def excited_share(wavenumber: Tensor, temperature: float) -> Tensor:
    """Return the heat capacity of oscillators over its classical value, from 0 to 1, of the shape of `wavenumber`.

    Args:
        wavenumber: 1/cm.
        temperature: K.
    """
    return einstein_heat_capacity(KELVIN_CM * wavenumber, temperature) / DULONG_PETIT
