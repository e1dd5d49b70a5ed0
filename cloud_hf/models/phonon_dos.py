"""Phonon densities of states and the thermodynamics of the harmonic crystal that follows from them.

A crystal with N atoms in its primitive cell has 3N phonon branches. Three of them are acoustic, so that 1/N of the
modes is acoustic and the rest optical. Here the acoustic modes are Debye branches of equal share (one for each
polarisation), each with a cut-off of its own: a density of states 3 nu^2 / nu_D^3 up to nu_D, which gives Cv ~ T^3 as
T -> 0. The optical modes are a histogram, uniform within each bin, whose Einstein functions are summed at the two
Gauss-Legendre points of every bin; so they count as uniform up to the third moment. Elements with one atom in the cell
have acoustic modes only.

With n(nu) modes an atom, three in all, and h nu / k T = x (Born & Huang 1954, ch. 4; Ashcroft & Mermin, ch. 23):

    Cv = R sum n(nu) x^2 e^x / (e^x - 1)^2                  S = R sum n(nu) [x / (e^x - 1) - ln(1 - e^-x)]
    U  = R T sum n(nu) [x/2 + x / (e^x - 1)]                F = U - TS = R T sum n(nu) ln(2 sinh(x/2))

All are sums of the Debye and Einstein functions of `cloud_hf.models.debye` and `cloud_hf.models.einstein` over one set
of modes, so that dU/dT = Cv, dF/dT = -S and F = U - TS hold for every T >= 0, and so do their accuracy and their
derivatives. Wavenumbers are in 1/cm, temperatures in K, energies in J/mol. Flat: ships as Hub remote code.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .debye import (
    _SMALLEST_SHARE,
    GAS_CONSTANT,
    LARGEST_SHARE,
    debye_temperature_from_heat_capacity,
    entropy_unchecked,
    heat_capacity_unchecked,
    helmholtz_energy_unchecked,
    internal_energy_unchecked,
)
from .einstein import entropy_unchecked as einstein_entropy
from .einstein import heat_capacity_unchecked as einstein_heat_capacity
from .einstein import helmholtz_energy_unchecked as einstein_helmholtz_energy
from .einstein import internal_energy_unchecked as einstein_internal_energy
from .errors import PhononDOSError

__all__ = [
    "DEBYE_TEMPERATURES", "DOS_EDGES", "KELVIN_CM", "THERMAL_UNITS", "PhononDOS", "phonon_dos", "share_of_modes",
]  # fmt: skip

KELVIN_CM = 1.438776877
"""hc/k in K cm: a wavenumber in 1/cm times this is a temperature in K (CODATA 2018)."""

DOS_EDGES: tuple[float, ...] = (
    *(20.0 * k for k in range(75)),
    *(round(1500.0 * 2.8 ** (k / 10), 1) for k in range(11)),
)
"""Edges of 85 bins in 1/cm: 75 of 20 up to 1500, then 10 in geometric steps up to 4200, the stretching of H2."""

THERMAL_UNITS = {
    "heat_capacity": "J/(mol {} K)",
    "entropy": "J/(mol {} K)",
    "thermal_energy": "J/(mol {})",
    "thermal_helmholtz_energy": "J/(mol {})",
    "zero_point_energy": "J/(mol {})",
}
"""What follows from a phonon density of states, with the name of what a mole is of: heat capacity Cv, entropy S,
U - U(0) and F - U(0) at a temperature, and the zero-point energy U(0)."""

DEBYE_TEMPERATURES = ("debye_temperature_of_heat_capacity", "debye_temperature_of_low_temperatures")
"""In K: that of Cv at 300 K, and that of the acoustic modes alone, which handbooks give."""

_GAUSS = 1 / (2 * math.sqrt(3))  # distance of the Gauss-Legendre points from the middle of a bin, in widths

_FUNCTIONS = {
    "heat_capacity": (heat_capacity_unchecked, einstein_heat_capacity),
    "internal_energy": (internal_energy_unchecked, einstein_internal_energy),
    "entropy": (entropy_unchecked, einstein_entropy),
    "helmholtz_energy": (helmholtz_energy_unchecked, einstein_helmholtz_energy),
}


class PhononDOS(NamedTuple):
    """The phonon density of states of a batch of crystals, as shares of all their modes.

    A tuple of tensors, which torch may differentiate, vectorise and compile; `phonon_dos` makes one with checks, the
    methods look at no data. Batches have any shape (...); temperatures and numbers of atoms broadcast with it.

    Attributes:
        edges: Of the bins, 1/cm, ascending, shape (n_bins + 1,).
        optical: Share of all modes in each bin, 0 or more, shape (..., n_bins); with `acoustic_share` its sum is 1.
        acoustic_share: Share of the acoustic modes, 1/N, shape (...).
        acoustic_cutoff: Debye cut-off of each acoustic branch, 1/cm, above 0, shape (..., n_branches).
    """

    edges: Tensor
    optical: Tensor
    acoustic_share: Tensor
    acoustic_cutoff: Tensor

    def heat_capacity(self, temperature: Tensor | float, n_atoms: Tensor | float = 1) -> Tensor:
        """Heat capacity at constant volume.

        Args:
            temperature: T >= 0 in K, of a shape that broadcasts with the batch.
            n_atoms: Atoms that the result stands for, likewise; 1: per atom.

        Returns:
            Cv in J/(mol K), of the broadcast shape: 0 at T = 0, below 3 R n_atoms everywhere.
        """
        return self._thermal("heat_capacity", temperature, n_atoms)

    def internal_energy(self, temperature: Tensor | float, n_atoms: Tensor | float = 1) -> Tensor:
        """Internal energy U in J/mol, zero-point energy included; arguments and shape as for `heat_capacity`."""
        return self._thermal("internal_energy", temperature, n_atoms)

    def entropy(self, temperature: Tensor | float, n_atoms: Tensor | float = 1) -> Tensor:
        """Entropy S in J/(mol K); arguments and shape as for `heat_capacity`."""
        return self._thermal("entropy", temperature, n_atoms)

    def helmholtz_energy(self, temperature: Tensor | float, n_atoms: Tensor | float = 1) -> Tensor:
        """Helmholtz energy F = U - TS in J/mol; arguments and shape as for `heat_capacity`."""
        return self._thermal("helmholtz_energy", temperature, n_atoms)

    def zero_point_energy(self, n_atoms: Tensor | float = 1) -> Tensor:
        """U(0) = 3 R n_atoms <theta> / 2 with theta = h nu / k, in J/mol, of the shape of the batch."""
        return 1.5 * GAS_CONSTANT * n_atoms * self._moment(1)

    def cumulative(self, wavenumber: Tensor) -> Tensor:
        """Share of the modes below each wavenumber.

        Args:
            wavenumber: 1/cm, 0 or more, shape (m,).

        Returns:
            Shares from 0 to 1 that ascend with the wavenumber, shape (..., m).
        """
        wavenumber = wavenumber.to(self.optical)
        low, high = self.edges[:-1].to(wavenumber), self.edges[1:].to(wavenumber)
        below = ((wavenumber[:, None] - low) / (high - low)).clamp(0, 1)
        acoustic = (wavenumber[:, None] / self.acoustic_cutoff[..., None, :]).clamp(max=1) ** 3
        return self.optical @ below.T + self.acoustic_share[..., None] * acoustic.mean(-1)

    def shares(self, edges: Tensor | None = None) -> Tensor:
        """Share of the modes, acoustic and optical, in each bin.

        Args:
            edges: 1/cm, ascending, shape (m + 1,); None: those of the optical bins.

        Returns:
            Shape (..., m).
        """
        return self.cumulative(self.edges if edges is None else edges).diff(dim=-1)

    def debye_temperature_from_heat_capacity(self, temperature: float = 300.0) -> Tensor:
        """The theta in K whose Debye model has this crystal's Cv at T > 0; of the batch's shape, without gradient.

        So close to the Dulong-Petit limit that Cv tells little of theta (`debye.LARGEST_SHARE`), it is that of the
        second moment, which governs Cv there. NaN where the density of states is not finite or Cv vanishes.
        """
        with torch.no_grad():
            wide = PhononDOS(*(part.double() for part in self))
            share = wide.heat_capacity(temperature) / (3 * GAS_CONSTANT)
            inside = (share > _SMALLEST_SHARE) & (share <= LARGEST_SHARE)  # a row outside must not stop the others
            cv = 3 * GAS_CONSTANT * torch.where(inside, share, 0.5)
            theta = debye_temperature_from_heat_capacity(cv, temperature)
            hot = torch.where(share > LARGEST_SHARE, wide.moment_debye_temperature(2), torch.nan)
            return torch.where(inside, theta, hot).to(self.optical)

    def low_temperature_debye_temperature(self) -> Tensor:
        """The theta in K of Cv = 12 pi^4 / 5 R (T / theta)^3 an atom as T -> 0, of the batch's shape.

        theta^-3 = 1/N <theta_b^-3> over the acoustic branches (Ashcroft & Mermin, ch. 23): what low-temperature
        calorimetry and the speeds of sound give. Infinite without acoustic modes.
        """
        cutoff = KELVIN_CM * self.acoustic_cutoff
        lowest = cutoff.amin(-1, keepdim=True)  # sums of theta^-3 stay in the range of float32
        mean = ((lowest / cutoff) ** 3).mean(-1)
        return lowest.squeeze(-1) / (self.acoustic_share * mean) ** (1 / 3)

    def moment_debye_temperature(self, order: float = 2.0) -> Tensor:
        """The theta in K whose Debye model has the same moment of the density of states, of the batch's shape.

        theta = [(n + 3)/3 <theta^n>]^(1/n), for n = 0 exp(1/3 + <ln theta>) (Grimvall, Thermophysical Properties of
        Materials, 1999, ch. 6). n = 2 governs Cv, n = 0 the entropy at high temperatures, n = 1 the zero-point energy.

        Args:
            order: n, above -3.

        Raises:
            PhononDOSError: n is not above -3, where the moment of any acoustic branch diverges.
        """
        if not order > -3:
            raise PhononDOSError(f"The moment of order {order:g} diverges; give an order above -3.")
        if order == 0:
            return torch.exp(1 / 3 + self._moment(0))
        return ((order + 3) / 3 * self._moment(order)) ** (1 / order)

    def _nodes(self) -> Tensor:
        """Two Einstein temperatures of each optical bin, K, shape (2, n_bins)."""
        middle, width = (self.edges[1:] + self.edges[:-1]) / 2, self.edges.diff()
        return KELVIN_CM * torch.stack([middle - _GAUSS * width, middle + _GAUSS * width])

    def _moment(self, order: float) -> Tensor:
        """<theta^n> over all modes, in K^n; <ln theta> for n = 0."""
        cutoff, nodes = KELVIN_CM * self.acoustic_cutoff, self._nodes().to(self.optical)
        if order == 0:
            acoustic, optical = cutoff.log() - 1 / 3, nodes.log()
        else:
            acoustic, optical = 3 / (order + 3) * cutoff**order, nodes**order
        return (self.optical * optical.mean(0)).sum(-1) + self.acoustic_share * acoustic.mean(-1)

    def _thermal(self, name: str, temperature: Tensor | float, n_atoms: Tensor | float) -> Tensor:
        of_branch, of_mode = _FUNCTIONS[name]
        kelvin = torch.as_tensor(temperature, dtype=self.optical.dtype, device=self.optical.device)[..., None]
        acoustic = of_branch(KELVIN_CM * self.acoustic_cutoff, kelvin).mean(-1)
        low, high = self._nodes().to(self.optical)
        optical = (self.optical * (of_mode(low, kelvin) + of_mode(high, kelvin))).sum(-1) / 2
        return n_atoms * (optical + self.acoustic_share * acoustic)


def phonon_dos(optical: Any, acoustic_cutoff: Any, n_atoms_primitive: Any, edges: Any = DOS_EDGES) -> PhononDOS:
    """Make a phonon density of states of physical quantities, refused where there is none.

    Floating tensors keep their dtype, half precision becomes float32, all else float64; the batch has the shape that
    the arguments broadcast to.

    Args:
        optical: Optical density of states, as weights of any scale in each bin, shape (..., n_bins); they are
            normalised to the optical share 1 - 1/N, and not read where N = 1.
        acoustic_cutoff: Debye cut-off of each acoustic branch, 1/cm, shape (..., n_branches).
        n_atoms_primitive: N, atoms in the primitive cell, shape (...).
        edges: Of the bins, 1/cm, shape (n_bins + 1,).

    Raises:
        PhononDOSError: Edges that do not ascend from 0 or above, weights that are negative, not finite or all 0 where
            there are optical modes, cut-offs that are not positive, numbers of atoms below 1, shapes that do not fit.

    >>> dos = phonon_dos([0.0], [[238.4] * 3], 1, edges=[0, 1000])  # a Debye solid with the cut-off of copper
    >>> dos.low_temperature_debye_temperature(), dos.heat_capacity(298.15)
    (tensor([343.0044], dtype=torch.float64), tensor([23.3677], dtype=torch.float64))
    """
    weights, cutoff, atoms, bounds = (
        _real(name, value)
        for name, value in (
            ("optical", optical),
            ("acoustic_cutoff", acoustic_cutoff),
            ("n_atoms_primitive", n_atoms_primitive),
            ("edges", edges),
        )
    )
    if bounds.ndim != 1 or len(bounds) < 2 or bool((bounds.diff() <= 0).any()) or bool(bounds[0] < 0):
        raise PhononDOSError("The edges of the bins must ascend from 0 or above, shape (n_bins + 1,).")
    if weights.shape[-1:] != (len(bounds) - 1,) or cutoff.ndim < 1 or not cutoff.shape[-1]:
        raise PhononDOSError(
            f"optical must have the shape (..., {len(bounds) - 1}) and acoustic_cutoff (..., n_branches), not "
            f"{tuple(weights.shape)} and {tuple(cutoff.shape)}."
        )
    if bool((cutoff <= 0).any()) or bool((atoms < 1).any()):
        raise PhononDOSError(
            "Cut-offs of acoustic branches must be above 0 1/cm, atoms in the primitive cell 1 or more."
        )
    dtype = torch.promote_types(torch.promote_types(weights.dtype, cutoff.dtype), atoms.dtype)
    floating = [value.dtype for value in (optical, acoustic_cutoff) if isinstance(value, Tensor)]
    if floating and all(kind.is_floating_point for kind in floating):
        dtype = torch.promote_types(floating[0], torch.promote_types(floating[-1], torch.float32))
    try:
        # not torch.broadcast_shapes, which imports torch's symbolic shapes and sympy
        shape = np.broadcast_shapes(weights.shape[:-1], cutoff.shape[:-1], atoms.shape)
    except ValueError as error:
        raise PhononDOSError(
            f"The batches of optical, acoustic_cutoff and n_atoms_primitive do not fit: {error}"
        ) from error
    share = (1 / atoms.to(dtype)).expand(shape)
    weights = weights.to(dtype).expand(*shape, weights.shape[-1])
    total = weights.sum(-1)
    if bool((weights < 0).any()) or bool(((total <= 0) & (share < 1)).any()):
        raise PhononDOSError(
            "The optical density of states has negative weights, or none at all where the primitive cell has several "
            "atoms; it cannot be normalised."
        )
    scale = torch.where(share < 1, (1 - share) / torch.where(total > 0, total, 1.0), 0.0)
    cutoff = cutoff.to(dtype).expand(*shape, cutoff.shape[-1])
    return PhononDOS(bounds.to(dtype), weights * scale[..., None], share, cutoff)


def share_of_modes(dos: Any, source: str | None = None) -> Tensor:
    """Normalise tabulated densities of states to shares of the modes.

    Args:
        dos: Weight of each bin, in any unit that is the same in all bins, shape (..., n_bins).
        source: What an error message calls the table.

    Returns:
        Shares of sum 1, float64 unless a floating tensor is given, same shape.

    Raises:
        PhononDOSError: Weights that are negative or not finite, or a row of zeros, which cannot be normalised; `row`
            names the first one.
    """
    weights = _real("dos", dos, source)
    rows = weights.reshape(-1, weights.shape[-1]) if weights.ndim else weights.reshape(1, 1)
    for reason, bad in (
        ("has negative weights; leave imaginary modes out before", (rows < 0).any(-1)),
        ("is zero in every bin and cannot be normalised", rows.sum(-1) <= 0),
    ):
        if bool(bad.any()):
            row = int(bad.nonzero()[0])
            raise PhononDOSError(f"The phonon density of states {reason}.", source=source, row=row)
    return weights / weights.sum(-1, keepdim=True)


def _real(name: str, value: Any, source: str | None = None) -> Tensor:
    """A floating tensor with finite values; what is no tensor becomes float64."""
    try:
        tensor = value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
        if tensor.is_complex():
            raise TypeError("complex numbers")
    except (TypeError, ValueError, RuntimeError) as error:
        raise PhononDOSError(f"{name} is no array of real numbers ({error}).", source=source) from error
    tensor = tensor if tensor.is_floating_point() else tensor.double()
    bad = ~torch.isfinite(tensor)
    if bool(bad.any()):
        row = int(bad.reshape(len(tensor), -1).any(-1).nonzero()[0]) if tensor.ndim > 1 else None
        raise PhononDOSError(f"{name} holds a value that is not finite.", source=source, row=row)
    return tensor
