"""Head outputs to phonon densities of states, and the loss on what is known of them. Flat: ships as Hub remote code.

Everything is in float32, whatever the weights' dtype.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.utils import ModelOutput

from .heads_cloud import debye_temperature
from .phonon_dos import KELVIN_CM, PhononDOS

__all__ = [
    "ACOUSTIC_BRANCHES",
    "VIBRATION_SCALES",
    "CloudPropertiesOutput",
    "VibrationalLabels",
    "area_between",
    "dos_from_raw",
    "primitive_atoms",
    "vibrational_loss",
]

ACOUSTIC_BRANCHES = 3
"""One of each polarisation."""

VIBRATION_SCALES: dict[str, float] = {
    "dos": 60.0,  # 1/cm, mean area between cumulative densities of states
    "heat_capacity": 1.5,  # J/(mol atom K)
    "internal_energy": 300.0,  # J/(mol atom)
    "debye_temperature": 0.2,  # of ln theta
}
"""The error of each vibrational label that weighs as much as a scalar target's that is off by its `target_scale`."""

BRANCH_FACTOR = 1.5
"""A handbook's Debye temperature is that of all acoustic branches together. Where no density of states is known, a
branch whose cut-off is off that of three equal ones by more than this factor is penalised: else nothing would keep one
branch of diamond, of which only this and Cv at one temperature are known, from 5000 1/cm."""

DEBYE_SPREAD = 0.04
"""By how much a Debye temperature may be off that of a handbook at no cost: handbooks differ by a few percent, and
where one is a little too high no spectrum of acoustic branches has the measured Cv at room temperature too."""

_IDENTITY_ID, _THIRDS = 40, (18, 20)
"""Ids of the generator `a`, the identity, and of the shifts `C` and `E` by one and two thirds."""


@dataclass
class CloudPropertiesOutput(ModelOutput):
    """What `CloudForCrystalProperties` returns.

    Attributes:
        loss: Sum of the losses on all labels of a row, mean over the rows.
        logits: Scalar targets in their units, shape (batch, n_targets).
        optical_dos: Share of all 3N modes in each bin of `config.dos_edges`, shape (batch, n_bins); with
            `acoustic_share` its sum is 1.
        acoustic_cutoff: Debye cut-off of each acoustic branch, 1/cm, shape (batch, 3).
        acoustic_share: Share of the acoustic modes, 1/N, shape (batch,).
        heat_capacity: Cv in J/(mol K) of `n_atoms` atoms, shape (batch,).
        internal_energy: U with the zero-point energy in J/mol of `n_atoms` atoms, shape (batch,).
        entropy: S in J/(mol K) of `n_atoms` atoms, shape (batch,).
        free_energy: Helmholtz energy F = U - TS in J/mol of `n_atoms` atoms, shape (batch,).
        zero_point_energy: U(0) in J/mol of `n_atoms` atoms, shape (batch,).
        hidden_states: Of the first encoder, if asked for.
        attentions: Of the first encoder, if asked for.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    optical_dos: Tensor | None = None
    acoustic_cutoff: Tensor | None = None
    acoustic_share: Tensor | None = None
    heat_capacity: Tensor | None = None
    internal_energy: Tensor | None = None
    entropy: Tensor | None = None
    free_energy: Tensor | None = None
    zero_point_energy: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class VibrationalLabels:
    """What is known of a batch of spectra, per atom; NaN where a label is missing, None where all of a kind are.

    Attributes:
        dos: Share of the modes in each bin, shape (batch, n_bins).
        heat_capacity: Cv in J/(mol atom K), shape (batch, n).
        internal_energy: U in J/(mol atom), zero-point energy included, shape (batch, n).
        temperature: K, at which the columns of both were taken, shape (batch, n).
        debye_temperature: K, that of low temperatures (handbooks), shape (batch,).
    """

    dos: Tensor | None = None
    heat_capacity: Tensor | None = None
    internal_energy: Tensor | None = None
    temperature: Tensor | None = None
    debye_temperature: Tensor | None = None


def dos_from_raw(raw: Tensor, n_atoms_primitive: Tensor, config: Any) -> PhononDOS:
    """Make a density of states of head outputs.

    The optical bins are a softmax times 1 - 1/N, the cut-offs of the acoustic branches have the temperatures
    exp(theta_shift + theta_scale * output).

    Args:
        raw: Shape (batch, n_bins + 3), logits of the bins first.
        n_atoms_primitive: N, shape (batch,), 1 or more.
        config: Has `dos_edges`, `theta_shift` and `theta_scale`.
    """
    edges = torch.tensor(config.dos_edges, dtype=raw.dtype, device=raw.device)
    share = 1 / n_atoms_primitive.to(raw)
    optical = raw[:, :-ACOUSTIC_BRANCHES].softmax(-1) * (1 - share)[:, None]
    cutoff = debye_temperature(raw[:, -ACOUSTIC_BRANCHES:], "exp", config.theta_shift, config.theta_scale)
    return PhononDOS(edges, optical, share, cutoff / KELVIN_CM)


def primitive_atoms(input_ids: Tensor, multiplicity_of: Tensor) -> Tensor:
    """Count the atoms in the primitive cell of `sites` strings.

    Args:
        input_ids: Token ids, shape (batch, length).
        multiplicity_of: Multiplicity in the conventional cell that each id stands for, 0 where none.

    Returns:
        Atoms of the conventional cell over the lattice points that the centring generators make, shape (batch,).
    """
    following = torch.nn.functional.pad(input_ids[:, 1:], (0, 1))
    thirds = (following == _THIRDS[0]) | (following == _THIRDS[1])
    points = torch.where(input_ids == _IDENTITY_ID, torch.where(thirds, 3, 2), 1).prod(1)
    return (multiplicity_of[input_ids].sum(1) / points).clamp(min=1)


def area_between(dos: PhononDOS, shares: Tensor) -> Tensor:
    """Mean distance of the modes of two densities of states: the area between their cumulative ones, in 1/cm.

    Args:
        dos: Of a batch.
        shares: Share of the modes in each of its bins, shape (batch, n_bins).

    Returns:
        By the trapezoidal rule over the edges, shape (batch,).
    """
    known = torch.nn.functional.pad(shares.cumsum(-1), (1, 0))
    gap = (dos.cumulative(dos.edges) - known).abs()
    return ((gap[:, 1:] + gap[:, :-1]) / 2 * dos.edges.diff()).sum(-1)


def vibrational_loss(dos: PhononDOS, labels: VibrationalLabels, scales: dict[str, float]) -> Tensor:
    """Absolute errors of all labels that are there, each over its scale, summed over a row; shape (batch,).

    A Debye temperature within `DEBYE_SPREAD` of its label has no error. With the error of a Debye temperature goes how
    far the acoustic branches are apart beyond `BRANCH_FACTOR`, unless the density of states is known.

    Args:
        dos: Of the batch.
        labels: What is known of it.
        scales: As `VIBRATION_SCALES`.
    """
    total = torch.zeros_like(dos.acoustic_share)
    if labels.dos is not None:
        present = ~labels.dos.isnan().any(-1)
        area = area_between(dos, torch.where(present[:, None], labels.dos, dos.shares().detach()))
        total = total + torch.where(present, area, 0.0) / scales["dos"]
    for name in ("heat_capacity", "internal_energy"):
        known = getattr(labels, name)
        if known is None or labels.temperature is None:
            continue
        present = ~(known.isnan() | labels.temperature.isnan())
        kelvin = torch.where(present, labels.temperature, 300.0)
        computed = getattr(dos, name)(kelvin.T).T  # temperatures broadcast with the batch, which comes last
        total = total + torch.where(present, computed - known.nan_to_num(), 0.0).abs().sum(-1) / scales[name]
    if labels.debye_temperature is not None:
        present = ~labels.debye_temperature.isnan()
        known = torch.where(present, labels.debye_temperature, 300.0)
        error = dos.low_temperature_debye_temperature().log() - known.log()
        alike = known * dos.acoustic_share ** (1 / 3)  # of three equal branches, which are 1/N of the modes
        beyond = (dos.acoustic_cutoff * KELVIN_CM).log() - alike.log()[:, None]
        beyond = (beyond.abs() - math.log(BRANCH_FACTOR)).clamp(min=0).mean(-1)
        if labels.dos is not None:
            beyond = torch.where(labels.dos.isnan().any(-1), beyond, 0.0)
        error = (error.abs() - math.log1p(DEBYE_SPREAD)).clamp(min=0)
        total = total + torch.where(present, error + beyond, 0.0) / scales["debye_temperature"]
    return total
