"""`CloudForCrystalProperties`: scalar targets and the phonon density of states from one forward pass.

Flat: ships as Hub remote code.
"""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple

from .configuration_cloud import CloudConfig
from .errors import CloudError
from .heads_cloud import matching_labels, per_row, scalar_targets, transform_targets
from .heads_phonon import (
    ACOUSTIC_BRANCHES,
    VIBRATION_SCALES,
    CloudPropertiesOutput,
    VibrationalLabels,
    dos_from_raw,
    primitive_atoms,
    vibrational_loss,
)
from .modeling_cloud import ROOM_TEMPERATURE, CloudPropertyModel
from .phonon_dos import DOS_EDGES, PhononDOS

__all__ = ["CloudForCrystalProperties"]


class CloudForCrystalProperties(CloudPropertyModel):
    """One encoder with every head: named scalar targets, and the phonon density of states.

    The last layer gives one output for each of `config.target_names`, then one for each optical bin of
    `config.dos_edges`, then three for the acoustic branches. All thermal properties follow from the density of states,
    `phonon_dos(outputs)`, at any temperature. With `config.n_members` each member has all heads, and raw outputs are
    averaged: densities of states by their normalised geometric mean.
    """

    head_settings = ("dos_edges",)

    def __init__(self, config: CloudConfig) -> None:
        edges = list(config.dos_edges or DOS_EDGES)
        if config.dos_edges is None:
            config = deepcopy(config)
            config.dos_edges = edges
        super().__init__(config, len(self.targets(config)[0]) + len(edges) - 1 + ACOUSTIC_BRANCHES)

    @can_return_tuple
    def forward(  # noqa: D417  (the encoder's inputs are described there)
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        n_atoms: Tensor | None = None,
        n_atoms_primitive: Tensor | None = None,
        temperature: Tensor | float | None = None,
        labels: Tensor | None = None,
        dos_labels: Tensor | None = None,
        heat_capacity_labels: Tensor | None = None,
        internal_energy_labels: Tensor | None = None,
        label_temperature: Tensor | None = None,
        debye_temperature_labels: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CloudPropertiesOutput:
        """Predict all targets and the density of states.

        A label that is missing is NaN, a kind of labels that is missing None; all that are there are learned from.

        Args:
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds: Of the encoder, see
                `CloudModel.forward`.
            n_atoms: Atoms that labels and predictions stand for, shape (batch,); 1 if absent: per atom.
            n_atoms_primitive: Atoms in the primitive cell, shape (batch,); if absent it is read off `sites` strings.
            temperature: K, a number or shape (batch,); 300 K if absent.
            labels: Scalar targets in their units, shape (batch, n_targets).
            dos_labels: Share of the modes in each bin of `config.dos_edges`, shape (batch, n_bins).
            heat_capacity_labels: Cv in J/(mol K) of `n_atoms` atoms at `label_temperature`, shape (batch, n).
            internal_energy_labels: U in J/mol of them, zero-point energy included, shape (batch, n).
            label_temperature: K, shape (batch, n); needed with the two before.
            debye_temperature_labels: Debye temperature of low temperatures (handbooks), K, shape (batch,).
            **kwargs: `output_attentions` and the like for the encoder.

        Returns:
            Predictions, and the loss if there are labels: of each row the sum over its labels of the absolute error in
            units of `target_scale` times `target_weights`, or of `config.vibration_scales`.

        Raises:
            CloudError: Atoms in the primitive cell are neither given nor in the strings, labels come without their
                temperatures, or a label that is not positive has the transform `log`.
        """
        raw, outputs = self.raw_outputs(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs
        )
        config, n_targets = self.config, len(self.config.target_names or [])
        dos = dos_from_raw(raw[:, n_targets:], self._primitive(input_ids, n_atoms_primitive), config)
        scaled = raw[:, :n_targets]
        mean = scaled.new_tensor(config.target_mean or [0.0] * n_targets)
        scale = scaled.new_tensor(config.target_scale or [1.0] * n_targets)
        size = raw.shape[0]
        atoms = torch.ones_like(scaled[:, 0]) if n_atoms is None else per_row(n_atoms, size, "n_atoms", scaled)
        kelvin = torch.as_tensor(ROOM_TEMPERATURE if temperature is None else temperature)
        kelvin = per_row(kelvin, size, "temperature", raw)
        if label_temperature is None and (heat_capacity_labels is not None or internal_energy_labels is not None):
            raise CloudError("heat_capacity_labels and internal_energy_labels need label_temperature, of their shape.")
        known = VibrationalLabels(
            _like(dos_labels, raw),
            _like(heat_capacity_labels, raw, atoms),
            _like(internal_energy_labels, raw, atoms),
            _like(label_temperature, raw),
            _like(debye_temperature_labels, raw),
        )
        given = (labels, dos_labels, heat_capacity_labels, internal_energy_labels, debye_temperature_labels)
        loss = None
        if any(one is not None for one in given):
            rows = vibrational_loss(dos, known, VIBRATION_SCALES | (config.vibration_scales or {}))
            if labels is not None:
                targets = matching_labels(labels, size, config.target_names or [], scaled)
                targets = transform_targets(targets, config.target_transforms, atoms)
                rows = rows + _scalar_loss(scaled, (targets - mean) / scale, config)
            loss = rows.mean()
        return CloudPropertiesOutput(
            loss=loss,
            logits=scalar_targets(scaled, config, atoms),
            optical_dos=dos.optical,
            acoustic_cutoff=dos.acoustic_cutoff,
            acoustic_share=dos.acoustic_share,
            heat_capacity=dos.heat_capacity(kelvin, atoms),
            internal_energy=dos.internal_energy(kelvin, atoms),
            entropy=dos.entropy(kelvin, atoms),
            free_energy=dos.helmholtz_energy(kelvin, atoms),
            zero_point_energy=dos.zero_point_energy(atoms),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def phonon_dos(self, outputs: CloudPropertiesOutput) -> PhononDOS:
        """Return the density of states of a batch, which gives every thermal property at any temperature."""
        parts: Any = outputs
        optical: Tensor = parts.optical_dos
        edges = torch.tensor(self.config.dos_edges, dtype=optical.dtype, device=optical.device)
        return PhononDOS(edges, optical, parts.acoustic_share, parts.acoustic_cutoff)

    def _primitive(self, input_ids: Tensor | None, given: Tensor | None) -> Tensor:
        """Atoms in the primitive cell, shape (batch,)."""
        if given is not None:
            return given.view(-1)
        orbits: Any = getattr(self.bert, "orbits", None)
        if input_ids is None or orbits is None or self.config.grammar != "sites":
            raise CloudError(
                "Three of the 3N phonon branches are acoustic: pass n_atoms_primitive, shape (batch,). It is read off "
                "input_ids only by models of 'sites' strings with chemistry inputs (element_descriptors, "
                "site_multiplicity or pooling)."
            )
        return primitive_atoms(input_ids, orbits.multiplicity_of)


def _like(labels: Tensor | None, raw: Tensor, atoms: Tensor | None = None) -> Tensor | None:
    """Labels of the dtype of the outputs, per atom if they stand for several."""
    if labels is None:
        return None
    labels = labels.to(raw)
    return labels if atoms is None else labels / atoms[:, None]


def _scalar_loss(scaled: Tensor, known: Tensor, config: Any) -> Tensor:
    """Weighted loss over the labels of each row that are not NaN, shape (batch,)."""
    present = ~known.isnan()
    size = torch.where(present, scaled - known.nan_to_num(), 0.0).abs()
    if config.regression_loss == "mse":
        size = size * size
    elif config.regression_loss == "huber":
        size = torch.where(size < 1, 0.5 * size * size, size - 0.5)
    return size @ scaled.new_tensor(config.target_weights or [1.0] * scaled.shape[1])
