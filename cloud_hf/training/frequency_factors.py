"""Factors on all frequencies with which a predicted phonon density of states gives what is known of a crystal.

They are the errors that the bands of thermal quantities are calibrated on (`cloud_hf.inference.calibrate`).
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from cloud_hf.models.phonon_dos import PhononDOS

__all__ = ["LARGEST_LN_FACTOR", "frequency_factors"]

LARGEST_LN_FACTOR = 3.0
"""Where no factor from e^-3 to e^3 gives the known value, the nearer of these stands for it."""

HALVINGS = 40

OF_TEMPERATURE: dict[str, Callable[[PhononDOS, Tensor, Tensor], Tensor]] = {
    "heat_capacity": lambda dos, kelvin, factor: dos.heat_capacity(kelvin / factor),
    "entropy": lambda dos, kelvin, factor: dos.entropy(kelvin / factor),
    "thermal_energy": lambda dos, kelvin, factor: (
        factor * (dos.internal_energy(kelvin / factor) - dos.zero_point_energy())
    ),
    "thermal_helmholtz_energy": lambda dos, kelvin, factor: (
        factor * (dos.zero_point_energy() - dos.helmholtz_energy(kelvin / factor))
    ),
}
"""Each at T after all frequencies are multiplied by a factor, with the sign with which it falls as that grows."""


@torch.no_grad()
def frequency_factors(
    dos: PhononDOS, shares: Tensor, heat_capacities: Mapping[float, Tensor], temperatures: Sequence[float]
) -> dict[str, Tensor]:
    """Compare predicted densities of states with known ones, quantity by quantity.

    Args:
        dos: Predicted, of a batch.
        shares: Known share of the modes in each of its bins, shape (batch, n_bins), without NaN.
        heat_capacities: Temperature in K to known Cv in J/(mol atom K), shape (batch,); where that is NaN, or missing,
            it is that of the known shares.
        temperatures: K, above 0.

    Returns:
        Factors of shape (batch,), float64, by quantity and temperature (`entropy_300K`), and of the zero-point energy.
    """
    wide = PhononDOS(*(part.double() for part in dos))
    nothing = torch.zeros_like(wide.acoustic_share)
    known = PhononDOS(wide.edges, shares.double(), nothing, torch.ones_like(wide.acoustic_cutoff))
    one = torch.ones_like(nothing)
    factors = {"zero_point_energy": known.zero_point_energy() / wide.zero_point_energy()}
    for temperature in temperatures:
        kelvin = torch.full_like(nothing, temperature)
        for name, value in OF_TEMPERATURE.items():
            wanted = value(known, kelvin, one)
            if name == "heat_capacity" and temperature in heat_capacities:
                measured = heat_capacities[temperature].double()
                wanted = torch.where(measured.isnan(), wanted, measured)
            low, high = -LARGEST_LN_FACTOR * one, LARGEST_LN_FACTOR * one
            for _ in range(HALVINGS):
                middle = (low + high) / 2
                soft = value(wide, kelvin, middle.exp()) > wanted
                low, high = torch.where(soft, middle, low), torch.where(soft, high, middle)
            factors[f"{name}_{temperature:g}K"] = ((low + high) / 2).exp()
    return factors
