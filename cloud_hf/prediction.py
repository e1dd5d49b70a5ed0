"""Load a predictor and run it over many items; every item gives a row."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from tqdm import tqdm
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

from cloud_hf.bundled import DEFAULT_HEAD, bundled_model
from cloud_hf.checkpoints import loading, read_config
from cloud_hf.data.inputs import Item, encode_item, named
from cloud_hf.errors import CheckpointError
from cloud_hf.pipeline_cloud import CrystalPropertyPipeline, Quantity
from cloud_hf.scope import ScopeEncoder

logger = logging.get_logger(__name__)

__all__ = ["Prediction", "heads_of", "load_predictor", "model_path", "predict_items"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """An item with its predicted quantities, empty if it failed (then `item.error` says why)."""

    item: Item
    quantities: tuple[Quantity, ...] = ()


def load_predictor(model: str = "default", head: str | None = None) -> CrystalPropertyPipeline:
    """Load a checkpoint as a `crystal-property` pipeline.

    Args:
        model: `default` (the checkpoint inside the package), a folder or a Hub id.
        head: Name of the head that must be there, e.g. `heat_capacity`; None: the checkpoint's own.

    Raises:
        CheckpointError: No such checkpoint, one of another model type, or one without this head.
    """
    path = model_path(model, head)
    config = read_config(path)
    available = heads_of(config)
    if not available:
        raise CheckpointError(
            f"{path}: {', '.join(config.architectures or ['a checkpoint'])} has no property head; "
            "train one with `cloud-hf finetune`."
        )
    if head is not None and head not in available:
        raise CheckpointError(f"{path}: there is no head {head!r}; it has {', '.join(available)}.")
    with loading(path):
        network, loaded = AutoModelForSequenceClassification.from_pretrained(path, output_loading_info=True)
        tokenizer = AutoTokenizer.from_pretrained(path)
    if loaded["missing_keys"]:
        missing = sorted(loaded["missing_keys"])
        raise CheckpointError(f"{path}: {len(missing)} weights are missing, e.g. {missing[0]}.")
    installed = ScopeEncoder.from_config(config).settings
    if config.encoder_settings not in (None, installed):
        logger.warning(
            f"{path} was trained on strings made with: {config.encoder_settings}. Crystals are encoded here with: "
            f"{installed}. Near the symmetry tolerance their strings may differ."
        )
    return CrystalPropertyPipeline(network, tokenizer=tokenizer, task="crystal-property")


def model_path(model: str = "default", head: str | None = None) -> str:
    """Return the folder or Hub id that `--model` and `--head` stand for.

    Raises:
        CheckpointError: No bundled checkpoint has this head.
    """
    return bundled_model(head or DEFAULT_HEAD) if model == "default" else model


def heads_of(config: Any) -> list[str]:
    """Return the names of the quantities that a checkpoint was trained for."""
    architectures = config.architectures or []
    if "CloudForDebye" in architectures:
        return list(config.debye_targets)
    return list(config.target_names or []) if "CloudForPropertyRegression" in architectures else []


def predict_items(
    predictor: CrystalPropertyPipeline,
    items: Sequence[Item],
    temperature: float = 300.0,
    batch_size: int = 256,
) -> list[Prediction]:
    """Encode and predict items in their order; an item that fails keeps its place, with its error.

    Args:
        predictor: From `load_predictor`; its `encoder` is used for files and structures.
        items: From `collect_items`.
        temperature: K, for Debye heads.
        batch_size: Strings per forward pass; strings of similar length go together.
    """
    predictions: list[Prediction] = []
    features: list[tuple[int, dict[str, torch.Tensor]]] = []
    for item in tqdm(items, desc="encode", unit="crystal", disable=None):
        encoded = encode_item(item, predictor.encoder)
        if encoded.error is None:
            try:
                feature = predictor.preprocess({"scope": encoded.scope, "n_atoms": encoded.n_atoms})
                features.append((len(predictions), feature))
            except ValueError as error:  # a string that the model cannot read, or a number of atoms below 1
                encoded = replace(encoded, error=named(encoded, error))
        predictions.append(Prediction(encoded))
    features.sort(key=lambda feature: feature[1]["input_ids"].shape[1])
    batches = [features[start : start + batch_size] for start in range(0, len(features), batch_size)]
    for batch in tqdm(batches, desc="predict", unit="batch", disable=None):
        outputs = predictor.forward(_collate(predictor, [feature for _, feature in batch]), temperature=temperature)
        for row, (index, _) in enumerate(batch):
            quantities = predictor.postprocess({name: value[row : row + 1] for name, value in outputs.items()})
            predictions[index] = _checked(replace(predictions[index], quantities=tuple(quantities)))
    return predictions


def _collate(predictor: CrystalPropertyPipeline, features: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    ids = [{"input_ids": feature["input_ids"][0].tolist()} for feature in features]
    tokenizer: Any = predictor.tokenizer
    padded = tokenizer.pad(ids, return_tensors="pt")
    return {**padded, "n_atoms": torch.cat([feature["n_atoms"] for feature in features])}


def _checked(prediction: Prediction) -> Prediction:
    """A prediction that is not finite is a failed row, not a number."""
    if all(math.isfinite(quantity["value"]) for quantity in prediction.quantities):
        return prediction
    item = prediction.item
    return Prediction(replace(item, error=f"{item.source}: the model's prediction is not a finite number."))
