"""Make one model of several: an ensemble in one checkpoint, or the mean of the weights of one training's stages."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, TypeVar

import torch

from cloud_hf.errors import CheckpointError
from cloud_hf.models.modeling_cloud import CloudForDebye, CloudForPropertyRegression
from cloud_hf.models.modeling_properties import CloudForCrystalProperties

__all__ = ["average_weights", "join_members"]

Model = TypeVar("Model", CloudForCrystalProperties, CloudForDebye, CloudForPropertyRegression)

FREE = frozenset(
    {"n_members", "hidden_dropout_prob", "attention_probs_dropout_prob", "head_dropout", "_name_or_path"}
    | {"architectures", "auto_map", "custom_pipelines", "dtype", "transformers_version"}  # what saving writes
)
"""Settings in which the joined models may differ: predictions do not depend on them."""


def join_members(models: Sequence[Model]) -> Model:
    """Return one model whose raw outputs (ln(Debye temperature), scaled targets) are the mean of those given.

    Args:
        models: Two or more of one class, fine-tuned on the same training rows with the same architecture; their weights
            are copied. `model.config.n_members` tells how many there are; fine-tuning goes on from the first alone.

    Raises:
        CheckpointError: Fewer than two, or models of different classes or settings.
    """
    _check_alike(models, FREE)
    first = models[0]
    config = deepcopy(first.config)
    config.n_members = len(models)
    joined: Any = type(first)(config)
    weights = dict(first.state_dict())
    for place, model in enumerate(models[1:]):
        weights |= {f"members.{place}.{name}": value for name, value in model.state_dict().items()}
    joined.to(first.dtype).load_state_dict(weights)
    ensemble: Model = joined.eval()
    return ensemble


def average_weights(models: Sequence[Model]) -> Model:
    """Return the last of the models with the mean of the weights of all: as fast as one, unlike an ensemble.

    It is for stages of one training. Where each starts from a high learning rate, they end in different places of one
    basin, and their mean predicts about as well as the best of them on every head (Izmailov et al., UAI 2018). Models
    that learned apart from each other have no such mean; these `join_members` joins.

    Args:
        models: Two or more of one class, fine-tuned on the same training rows with the same architecture; weights of
            the targets in the loss may differ. Their weights stay as they are.

    Raises:
        CheckpointError: Fewer than two, or models of different classes or settings.
    """
    _check_alike(models, FREE | {"target_weights"})
    weights = [model.state_dict() for model in models]
    mean = {name: torch.stack([each[name].double() for each in weights]).mean(0) for name in weights[-1]}
    averaged: Any = deepcopy(models[-1])
    averaged.load_state_dict(mean)
    model: Model = averaged.eval()
    return model


def _check_alike(models: Sequence[Any], free: frozenset[str]) -> None:
    """Raise where models cannot be made into one, since they are too few or differ in more than some settings."""
    if len(models) < 2:
        raise CheckpointError(f"One model is made of at least two, not of {len(models)}.")
    first = models[0]
    settings = [{key: value for key, value in model.config.to_dict().items() if key not in free} for model in models]
    for place, (model, other) in enumerate(zip(models, settings, strict=True)):
        different = sorted(key for key in settings[0] | other if settings[0].get(key) != other.get(key))
        if type(model) is not type(first) or different or model.config.n_members != 1:
            reason = ", ".join(different) or f"{type(model).__name__} with {model.config.n_members} members"
            raise CheckpointError(
                f"Model {place} of {len(models)} cannot join the first: {reason} differ. Fine-tune all of them on the "
                "same rows with the same settings."
            )
