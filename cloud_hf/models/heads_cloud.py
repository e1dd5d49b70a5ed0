"""Property heads: pooling, target scaling, losses, and the physics behind them. Flat: ships as Hub remote code.

Everything after the last linear layer is in float32, whatever the weights' dtype.

**The head protocol.** Every property class derives from `CloudPropertyModel` (`modeling_cloud.py`), so that stock
code (Trainer, peft, pipelines) finds what it looks for:

- `targets(config)`, a class method, returns names and units of the columns of `logits`; by default those of
  `config.target_names`. A class whose outputs are given by physics returns constants: `CloudForDebye` gives
  `(["debye_temperature"], ["K"])`. `head_settings` names what else in the config says what the outputs mean.
- `__init__(config, n_outputs)` of the base makes encoder and head. The model's own config then says in
  `target_names`, `target_units`, `num_labels`, `id2label`, `label2id` and `problem_type="regression"` what `targets`
  returned; the caller's config is not written into.
- The head is a `CloudHead` named `classifier`, the name by which peft finds what it must train and save; other modules
  with weights of a head belong in it. Checkpoints that call it `head` are read.
- `raw_outputs(input_ids, attention_mask, ...)` returns what the head gives, float32, shape (batch, n_outputs), the mean
  over the members of an ensemble; `forward` makes of it the loss and the physical quantities in a `ModelOutput` with
  `logits` of shape (batch, number of targets), in the units of the targets. Labels pass `matching_labels` first.
- `from_pretrained` refuses the checkpoint of another head class, and other targets than the checkpoint's, unless
  `ignore_mismatched_sizes=True` asks for a new head on the checkpoint's encoder.
- A class is registered with `AutoModelForSequenceClassification`, which chooses by `config.architectures`.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput

from .debye import (
    entropy_unchecked,
    heat_capacity_unchecked,
    helmholtz_energy_unchecked,
    internal_energy_unchecked,
)
from .einstein import entropy_unchecked as einstein_entropy
from .einstein import heat_capacity_unchecked as einstein_heat_capacity
from .einstein import helmholtz_energy_unchecked as einstein_helmholtz_energy
from .einstein import internal_energy_unchecked as einstein_internal_energy
from .errors import CheckpointError, CloudError

__all__ = [
    "CloudDebyeOutput",
    "CloudHead",
    "ThermalProperties",
    "at_position",
    "check_members",
    "debye_branches",
    "debye_temperature",
    "inverse_transform_targets",
    "masked_loss",
    "matching_labels",
    "per_row",
    "scalar_targets",
    "thermal_properties",
    "transform_targets",
]

OLDER_NAMES = {r"^head\.": "classifier.", r"^members\.(\d+)\.head\.": r"members.\1.classifier."}
"""Regular expressions of older names of weights, and what they are called now."""

LN_THETA_RANGE = (0.0, 9.5)
"""ln of 1 K and of 13,360 K (six times diamond's Debye temperature): keeps an untrained head finite."""

LN_TARGET_MAX = 80.0
"""Largest ln of a predicted target: keeps an untrained head finite in float32."""

SECOND_WEIGHT_SHIFT = -2.0
"""The second branch begins with sigmoid(-2), 12 % of the modes."""


@dataclass
class CloudDebyeOutput(ModelOutput):
    """What `CloudForDebye` returns.

    Attributes:
        loss: Loss on the targets per atom, in units of `config.target_scale`.
        logits: Debye temperature in K, shape (batch, 1).
        heat_capacity: Cv in J/(mol K) of `n_atoms` atoms, shape (batch,).
        internal_energy: U with the zero-point energy (9/8 N R theta of the Debye branch, 3/2 N R theta of an Einstein
            branch) in J/mol of `n_atoms` atoms, shape (batch,).
        entropy: S in J/(mol K) of `n_atoms` atoms, shape (batch,).
        free_energy: Helmholtz energy F = U - TS in J/mol of `n_atoms` atoms, shape (batch,).
        second_temperature: Characteristic temperature of the second branch in K, shape (batch,), if there is one.
        second_weight: Its share of the modes, 0 to 1, shape (batch,), if there is one.
        hidden_states: Of the encoder, if asked for.
        attentions: Of the encoder, if asked for.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    heat_capacity: Tensor | None = None
    internal_energy: Tensor | None = None
    entropy: Tensor | None = None
    free_energy: Tensor | None = None
    second_temperature: Tensor | None = None
    second_weight: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class CloudHead(nn.Module):
    """Pooled state to raw outputs: dropout, `head_layers` times (linear, SiLU), linear; given out in float32.

    The pooled state is that of [CLS]; with `pooling="cls_multiplicity"` the weighted mean of the states of elements and
    Wyckoff words follows it. Maps hidden states (batch, length, hidden_size) to (batch, n_outputs).
    """

    def __init__(self, config: Any, n_outputs: int) -> None:
        super().__init__()
        self.pools = config.pooling == "cls_multiplicity"
        self.dropout = nn.Dropout(config.head_dropout)
        width = config.hidden_size * (2 if self.pools else 1)
        layers: list[nn.Module] = []
        for _ in range(config.head_layers):
            layers += [nn.Linear(width, config.hidden_size), nn.SiLU()]
            width = config.hidden_size
        self.layers = nn.Sequential(*layers, nn.Linear(width, n_outputs))

    def forward(self, hidden_states: Tensor, weights: Tensor | None = None, first: Tensor | None = None) -> Tensor:
        """Return raw head outputs, shape (batch, n_outputs); arguments as for `pooled`."""
        return cast(Tensor, self.layers(self.dropout(self.pooled(hidden_states, weights, first))).float())

    def pooled(self, hidden_states: Tensor, weights: Tensor | None = None, first: Tensor | None = None) -> Tensor:
        """Return what the layers of the head read, shape (batch, hidden_size), or twice as wide where it pools.

        Args:
            hidden_states: Last hidden states of the encoder, shape (batch, length, hidden_size).
            first: Position of [CLS] in each row, shape (batch,); None: 0.
            weights: Weight of each token in the mean, shape (batch, length), each row of sum 1 (or 0: then the mean is
                0 as well); needed with `pooling="cls_multiplicity"`.
        """
        state = hidden_states[:, 0] if first is None else at_position(hidden_states, first)
        if not self.pools:
            return state
        if weights is None:
            raise CloudError("pooling 'cls_multiplicity' needs the weights of the tokens, CloudModel.orbits gives.")
        mean = (weights[..., None].to(hidden_states.dtype) * hidden_states).sum(1)
        return torch.cat([state, mean], dim=-1)


def at_position(states: Tensor, position: Tensor) -> Tensor:
    """Return the state at one position of each row: (batch, length, width) and (batch,) to (batch, width)."""
    return states.gather(1, position[:, None, None].expand(-1, 1, states.shape[-1])).squeeze(1)


def check_members(number: int, have: int, source: str | None = None) -> None:
    """Refuse a number of members of an ensemble that a checkpoint does not have.

    Raises:
        CheckpointError: The number is not a whole one from 1 to `have`.
    """
    if number not in range(1, have + 1):
        raise CheckpointError(
            f"members is {number!r}, but this checkpoint has {have}: give a number from 1 to {have}.", source=source
        )


def matching_labels(labels: Tensor, rows: int, names: list[str], like: Tensor) -> Tensor:
    """Return labels as (rows, n_targets) in the dtype and on the device of `like`.

    Args:
        labels: Shape (rows, n_targets), or (rows,) for a single target.
        rows: Rows of the batch.
        names: What the columns are.
        like: Any tensor of the wanted dtype and device.

    Raises:
        CloudError: Another shape, which would be broadcast into a wrong loss.
    """
    allowed = {(rows, len(names))} | ({(rows,)} if len(names) == 1 else set())
    if tuple(labels.shape) not in allowed:
        raise CloudError(
            f"labels have the shape {tuple(labels.shape)}, but the predictions have the shape {(rows, len(names))}: "
            f"one row per crystal, one column for each of {', '.join(names)}, NaN where a label is missing."
        )
    return labels.to(like).view(rows, len(names))


def per_row(values: Tensor, rows: int, name: str, like: Tensor) -> Tensor:
    """Return one number, or one for each row, as (1,) or (rows,) in the dtype and on the device of `like`.

    Raises:
        CloudError: Another number of values.
    """
    flat = values.to(like).reshape(-1)
    if flat.shape[0] not in (1, rows):
        raise CloudError(f"{name} has {flat.shape[0]} values for {rows} rows: give one number, or one for each row.")
    return flat


def _columns(transforms: list[str] | None, part: str, like: Tensor) -> Tensor:
    """Which targets have a transform with `part` in its name, shape (n_targets,)."""
    return torch.tensor([part in transform for transform in transforms or []], device=like.device)


def _uses(transforms: list[str] | None, part: str) -> bool:
    return any(part in transform for transform in transforms or [])


def _atoms(transforms: list[str], n_atoms: Tensor | None, like: Tensor) -> Tensor:
    """Divisor of each label, shape (batch, n_targets)."""
    if n_atoms is None:
        raise CloudError(
            f"target_transforms are {', '.join(transforms)}: pass n_atoms, the number of atoms that each row's labels "
            "and predictions stand for, shape (batch,)."
        )
    atoms = per_row(n_atoms, like.shape[0], "n_atoms", like)[:, None]
    return torch.where(_columns(transforms, "per_atom", like), atoms, 1.0)


def transform_targets(labels: Tensor, transforms: list[str] | None, n_atoms: Tensor | None = None) -> Tensor:
    """Turn labels into what mean and scale are taken of.

    Args:
        labels: Labels in physical units, shape (batch, n_targets); NaN where missing.
        transforms: `config.target_transforms`, one name per target; None: nothing changes.
        n_atoms: Atoms that each row's labels stand for, shape (batch,); needed for `per_atom` and `log_per_atom`.

    Returns:
        y, y / n_atoms, ln y or ln(y / n_atoms), shape (batch, n_targets).

    Raises:
        CloudError: `n_atoms` is needed and absent, or a logarithm of a label that is not positive is asked for.
    """
    if _uses(transforms, "per_atom"):
        labels = labels / _atoms(transforms or [], n_atoms, labels)
    if _uses(transforms, "log"):
        logarithmic = _columns(transforms, "log", labels)
        if not torch.compiler.is_compiling():
            bad = (labels <= 0) & logarithmic
            if bool(bad.any()):
                row, column = bad.nonzero()[0].tolist()
                raise CloudError(
                    f"Row {row}, target {column}: the label {labels[row, column].item():g} has no logarithm; the "
                    f"transform {(transforms or [])[column]!r} is for positive quantities, use 'standardise'."
                )
        labels = torch.where(logarithmic, torch.where(logarithmic, labels, 1.0).log(), labels)
    return labels


def inverse_transform_targets(values: Tensor, transforms: list[str] | None, n_atoms: Tensor | None = None) -> Tensor:
    """Turn transformed values back into physical units, the inverse of `transform_targets`; shapes as there."""
    if _uses(transforms, "log"):
        logarithmic = _columns(transforms, "log", values)
        exponent = torch.where(logarithmic, values, 0.0).clamp(max=LN_TARGET_MAX)
        values = torch.where(logarithmic, exponent.exp(), values)
    if _uses(transforms, "per_atom"):
        values = values * _atoms(transforms or [], n_atoms, values)
    return values


def scalar_targets(scaled: Tensor, config: Any, n_atoms: Tensor | None = None) -> Tensor:
    """Turn head outputs into targets in their units, shape (batch, n_targets).

    Args:
        scaled: Head outputs, shape (batch, n_targets).
        config: Has `target_mean`, `target_scale` and `target_transforms`.
        n_atoms: Atoms that the predictions stand for, shape (batch,); needed where a transform is per atom.
    """
    number = scaled.shape[1]
    mean = scaled.new_tensor(config.target_mean or [0.0] * number)
    scale = scaled.new_tensor(config.target_scale or [1.0] * number)
    return inverse_transform_targets(mean + scale * scaled, config.target_transforms, n_atoms)


def masked_loss(predicted: Tensor, labels: Tensor, kind: str = "l1", weights: list[float] | None = None) -> Tensor:
    """Weighted mean loss over the labels that are not NaN; zero, with a graph, if none is there.

    Args:
        predicted: Scaled predictions, shape (batch, n_targets).
        labels: Scaled labels, the same shape; NaN where missing.
        kind: `l1`, `huber` (quadratic up to a difference of 1) or `mse`.
        weights: One per target; None: all 1. The mean is over the weights, so that only their ratios count.
    """
    present = ~torch.isnan(labels)
    difference = torch.where(present, predicted - torch.nan_to_num(labels), 0.0)
    size = difference.abs()
    if kind == "mse":
        size = difference * difference
    elif kind == "huber":
        size = torch.where(size < 1, 0.5 * difference * difference, size - 0.5)
    share = present.to(size.dtype)
    if weights is not None:
        share = share * torch.tensor(weights, dtype=size.dtype, device=size.device)
    total = share.sum()
    return (size * share).sum() / torch.where(total > 0, total, 1.0)


def debye_temperature(raw: Tensor, link: str, shift: float, scale: float) -> Tensor:
    """Turn head outputs into temperatures in K, positive, of the same shape; see `CloudConfig.theta_link`."""
    linked = shift + scale * raw
    return linked.clamp(*LN_THETA_RANGE).exp() if link == "exp" else linked.clamp(min=1.0)


def debye_branches(raw: Tensor, config: Any) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Turn the head outputs of a Debye model, shape (batch, 1 or 3), into what describes its branches.

    Returns:
        Debye temperature in K, and of a second branch its characteristic temperature in K and its share of the modes,
        None without one; each of shape (batch,).
    """
    theta = debye_temperature(raw[:, 0], config.theta_link, config.theta_shift, config.theta_scale)
    if config.second_branch == "none":
        return theta, None, None
    second = debye_temperature(raw[:, 1], "exp", config.second_theta_shift, config.theta_scale)
    return theta, second, torch.sigmoid(raw[:, 2] + SECOND_WEIGHT_SHIFT)


class ThermalProperties(NamedTuple):
    """Of `n_atoms` atoms, each of shape (batch,).

    Attributes:
        heat_capacity: Cv, J/(mol K).
        internal_energy: U, J/mol, with the zero-point energy.
        entropy: S, J/(mol K).
        free_energy: Helmholtz energy F = U - TS, J/mol.
    """

    heat_capacity: Tensor
    internal_energy: Tensor
    entropy: Tensor
    free_energy: Tensor


_DEBYE = (heat_capacity_unchecked, internal_energy_unchecked, entropy_unchecked, helmholtz_energy_unchecked)
_EINSTEIN = (einstein_heat_capacity, einstein_internal_energy, einstein_entropy, einstein_helmholtz_energy)


def thermal_properties(
    theta: Tensor,
    temperature: Tensor,
    n_atoms: Tensor,
    second_branch: str = "none",
    second_theta: Tensor | None = None,
    second_weight: Tensor | None = None,
) -> ThermalProperties:
    """The Debye model's properties, or those of two branches, each a fixed share of the modes.

    Args:
        theta: Debye temperature, K, shape (batch,).
        temperature: T >= 0, K, shape (batch,) or (1,).
        n_atoms: Atoms, shape (batch,).
        second_branch: `none`, `einstein` or `debye`.
        second_theta: Characteristic temperature of the second branch, K, shape (batch,).
        second_weight: Its share w of the modes, 0 to 1, shape (batch,): Cv = (1 - w) Cv_1 + w Cv_2, and so on.
    """
    values = [quantity(theta, temperature, n_atoms) for quantity in _DEBYE]
    if second_theta is not None and second_weight is not None:
        others = _EINSTEIN if second_branch == "einstein" else _DEBYE
        second = [quantity(second_theta, temperature, n_atoms) for quantity in others]
        values = [one + second_weight * (two - one) for one, two in zip(values, second, strict=True)]
    return ThermalProperties(*values)
