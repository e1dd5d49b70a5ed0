"""Learning rates that fall from the head down to the embeddings, and an encoder that waits for its head."""

import re
from collections.abc import Collection
from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

__all__ = ["FreezeEncoder", "layer_depth", "parameter_groups"]

_LAYER = re.compile(r"bert\.encoder\.layer\.(\d+)\.")


def layer_depth(name: str, num_hidden_layers: int) -> int:
    """Say how many layers lie below a parameter.

    Args:
        name: Name of the parameter in a model with an encoder `bert`.
        num_hidden_layers: Layers of the encoder.

    Returns:
        0 for embeddings, 1 to `num_hidden_layers` for the layers of the encoder, one more for everything above.
    """
    name = name.removeprefix("module.")
    layer = _LAYER.match(name)
    if layer:
        return int(layer.group(1)) + 1
    return 0 if name.startswith("bert.") else num_hidden_layers + 1


def parameter_groups(
    model: nn.Module,
    num_hidden_layers: int,
    learning_rate: float,
    layer_lr_decay: float,
    weight_decay: float,
    decayed: Collection[str],
) -> list[dict[str, Any]]:
    """Sort the trainable parameters by layer and weight decay.

    Args:
        model: A model with an encoder `bert`.
        num_hidden_layers: Layers of the encoder.
        learning_rate: Of the head.
        layer_lr_decay: Learning rate of a layer over that of the layer above.
        weight_decay: Of the parameters named in `decayed`; 0 for the others.
        decayed: Names of parameters with weight decay.

    Returns:
        Groups for a torch optimizer, each with `params`, `lr`, `weight_decay`; every trainable parameter is in one.
    """
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((layer_depth(name, num_hidden_layers), name in decayed), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": learning_rate * layer_lr_decay ** (num_hidden_layers + 1 - depth),
            "weight_decay": weight_decay if is_decayed else 0.0,
        }
        for (depth, is_decayed), parameters in sorted(groups.items(), key=lambda entry: entry[0])
    ]


class FreezeEncoder(TrainerCallback):
    """Keep the encoder as it is for the first epochs, while the head learns to read it.

    Args:
        model: A model with an encoder `bert`; what is trainable in it now becomes so again.
        epochs: How long, in epochs.
    """

    def __init__(self, model: nn.Module, epochs: float) -> None:
        self.epochs = epochs
        self.parameters = [
            parameter
            for name, parameter in model.named_parameters()
            if name.startswith("bert.") and parameter.requires_grad
        ]

    def _waits(self, state: TrainerState) -> bool:
        return (state.epoch or 0.0) < self.epochs - 1e-9

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Spare the encoder's gradients where one process trains."""
        if args.world_size == 1:
            for parameter in self.parameters:
                parameter.requires_grad_(not self._waits(state))

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Drop them where several processes, which agreed on the parameters at the beginning, do."""
        if args.world_size > 1 and self._waits(state):
            for parameter in self.parameters:
                parameter.grad = None
