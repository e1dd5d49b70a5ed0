"""Join fine-tuned models into one whose raw outputs are their mean: an ensemble in a single checkpoint."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, TypeVar

from cloud_hf.errors import CheckpointError
from cloud_hf.models.modeling_cloud import CloudForDebye, CloudForPropertyRegression
from cloud_hf.models.modeling_properties import CloudForCrystalProperties

__all__ = ["join_members"]

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
    if len(models) < 2:
        raise CheckpointError(f"An ensemble needs at least two models, not {len(models)}.")
    first = models[0]
    settings = [{key: value for key, value in model.config.to_dict().items() if key not in FREE} for model in models]
    for place, (model, other) in enumerate(zip(models, settings, strict=True)):
        different = sorted(key for key in settings[0] | other if settings[0].get(key) != other.get(key))
        if type(model) is not type(first) or different or model.config.n_members != 1:
            reason = ", ".join(different) or f"{type(model).__name__} with {model.config.n_members} members"
            raise CheckpointError(
                f"Model {place} of {len(models)} cannot join the first: {reason} differ. Fine-tune all of them on the "
                "same rows with the same settings."
            )
    config = deepcopy(first.config)
    config.n_members = len(models)
    joined: Any = type(first)(config)
    weights = dict(first.state_dict())
    for place, model in enumerate(models[1:]):
        weights |= {f"members.{place}.{name}": value for name, value in model.state_dict().items()}
    joined.to(first.dtype).load_state_dict(weights)
    ensemble: Model = joined.eval()
    return ensemble
