"""The head of a fine-tuned model: its config, its scales from the training labels, and low-rank updates."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import nn
from transformers.utils import logging

from cloud_hf.checkpoints.reading import ENCODER, loading, read_config, refuse_missing_weights
from cloud_hf.errors import CloudError, TableError
from cloud_hf.models.configuration_cloud import CloudConfig
from cloud_hf.models.debye import GAS_CONSTANT, effective_debye_temperature
from cloud_hf.models.modeling_cloud import CloudForDebye, CloudForPropertyRegression
from cloud_hf.training.finetune_arguments import PER_ATOM, FinetuneArguments
from cloud_hf.training.finetune_rows import Rows, Target

__all__ = ["add_lora", "build_model", "head_config", "set_scales"]

logger = logging.get_logger(__name__)


def head_config(arguments: FinetuneArguments, targets: list[Target]) -> CloudConfig:
    """Read the checkpoint's config and say in it what the new head predicts."""
    config = read_config(arguments.checkpoint)
    if config.target_names:
        logger.warning(
            f"{arguments.checkpoint} is fine-tuned already ({', '.join(config.target_names)}): figures on rows that it "
            "was trained on are too good, whatever the split here."
        )
    config.n_members = 1  # training goes on from the first encoder of an ensemble
    config.auxiliary_targets = None
    config.head_layers = arguments.head_layers if arguments.method == "finetune" else 0
    config.head_dropout = arguments.head_dropout
    config.pooling = arguments.pooling or config.pooling
    config.regression_loss = arguments.loss
    config.target_mean = config.target_scale = config.target_transforms = config.target_weights = None
    if arguments.debye:
        config.debye_targets = list(arguments.debye)
        config.second_branch = arguments.second_branch
        config.target_names, config.target_units = ["debye_temperature"], ["K"]
    else:
        config.target_names = [target.name for target in targets]
        config.target_units = [target.unit for target in targets]
        config.target_transforms = None if set(arguments.transforms) == {"standardise"} else arguments.transforms
    config.target_weights = arguments.weights
    config.id2label = dict(enumerate(config.target_names))
    config.label2id = {name: index for index, name in config.id2label.items()}
    config.problem_type = "regression"
    return config


def set_scales(arguments: FinetuneArguments, config: CloudConfig, targets: list[Target], train: Rows) -> None:
    """Set mean and scale of the transformed targets from the training labels.

    Raises:
        TableError: A target without training labels, or heat capacities that no Debye temperature has.
    """
    for column, target in enumerate(targets):
        if np.isnan(train.labels[:, column]).all():
            raise TableError(f"no training row has a label of {target.name!r}.", source=arguments.data)
    per_atom = train.labels / train.n_atoms[:, None]
    if arguments.debye:
        config.theta_link = "exp"
        config.theta_shift, config.theta_scale = _ln_theta_scale(per_atom, arguments, train.temperature)
        config.target_mean = [0.0]
        config.target_scale = [_scale(per_atom[:, column], target) for column, target in enumerate(targets)]
    else:
        means, scales = [], []
        for column, (target, transform) in enumerate(zip(targets, arguments.transforms, strict=True)):
            values = (per_atom if transform in PER_ATOM else train.labels)[:, column]
            values = np.log(values) if transform.startswith("log") else values
            means.append(float(np.nanmean(values)))
            scales.append(_scale(values, target))
        config.target_mean, config.target_scale = means, scales
    config.validate_architecture()


def _scale(values: NDArray[np.float64], target: Target | None = None) -> float:
    """Standard deviation, or 1 where all values are equal."""
    present = values[~np.isnan(values)]
    deviation = float(present.std())
    if np.ptp(present) > 0 and deviation > 0:
        return deviation
    if target is not None:
        logger.warning(f"All {len(present)} training labels of {target.name!r} are equal: there is nothing to learn.")
    return 1.0


def _ln_theta_scale(
    per_atom: NDArray[np.float64], arguments: FinetuneArguments, temperature: NDArray[np.float64]
) -> tuple[float, float]:
    """Mean and standard deviation of ln(theta / K) that the labels stand for; defaults for internal energies."""
    if "heat_capacity" not in (arguments.debye or ()):
        return CloudConfig.theta_shift, CloudConfig.theta_scale
    theta = effective_debye_temperature(per_atom[:, (arguments.debye or []).index("heat_capacity")], temperature)
    ln_theta = np.log(theta[~np.isnan(theta)])
    if not len(ln_theta):
        raise TableError(
            f"no heat capacity lies between 0 and the Dulong-Petit limit of {3 * GAS_CONSTANT:.2f} "
            "J/(mol atom K); if the labels are per cell, name the column of atoms per cell with --n-atoms.",
            source=arguments.data,
        )
    return float(ln_theta.mean()), _scale(ln_theta)


def build_model(arguments: FinetuneArguments, config: CloudConfig) -> CloudForDebye | CloudForPropertyRegression:
    """Load the encoder's weights below a new head, or the checkpoint's own head where it has the same form.

    Raises:
        CheckpointError: Weights of the encoder are missing or of another shape.
    """
    kind: Any = CloudForDebye if arguments.debye else CloudForPropertyRegression
    with loading(arguments.checkpoint), _without_report():
        model, loaded = kind.from_pretrained(
            arguments.checkpoint, config=config, output_loading_info=True, ignore_mismatched_sizes=True
        )
    remedy = "Nothing was trained. Give the folder that `cloud-hf pretrain` wrote."
    refuse_missing_weights(arguments.checkpoint, loaded, ENCODER, remedy)
    return cast(CloudForDebye | CloudForPropertyRegression, model)


@contextmanager
def _without_report() -> Iterator[None]:
    """Keep transformers from listing a new head and an unused old one as missing and unexpected weights."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def add_lora(model: nn.Module, rank: int) -> Any:
    """Put trainable low-rank updates on the encoder's linear layers; the encoder itself stays as it is.

    Args:
        model: A model with an encoder `bert`; changed in place.
        rank: Rank of the updates; their scale is 2.

    Returns:
        peft's wrapper, whose `merge_and_unload` turns `model` back into plain layers with the updates added.

    Raises:
        CloudError: peft is not installed.
    """
    try:
        from peft import LoraConfig
        from peft.tuners.lora import LoraModel
    except ImportError as error:
        raise CloudError("--lora-rank needs peft: pip install 'cloud-hf[lora]'.") from error
    layers = [
        name
        for name, module in model.named_modules()
        if name.startswith("bert.encoder.") and isinstance(module, nn.Linear)
    ]
    settings = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=layers)
    wrapper = LoraModel(model, settings, "default")
    for name, parameter in model.named_parameters():
        if not name.startswith("bert."):
            parameter.requires_grad_(True)
    return wrapper
