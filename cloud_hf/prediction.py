"""Load a predictor and run it over many items; every item gives a row."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from tqdm import tqdm
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

from cloud_hf.bundled import DEFAULT_HEAD, bundled_model
from cloud_hf.checkpoints import loading, read_config
from cloud_hf.data.inputs import Item, encode_items, named
from cloud_hf.data.tables import CHUNK_ROWS
from cloud_hf.errors import CheckpointError
from cloud_hf.pipeline_cloud import CrystalPropertyPipeline, Quantity
from cloud_hf.scope import ScopeEncoder

logger = logging.get_logger(__name__)

__all__ = ["Prediction", "heads_of", "load_predictor", "model_path", "predict_encoded", "predict_items"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """An item with its predicted quantities, empty if it failed (then `item.error` says why)."""

    item: Item
    quantities: tuple[Quantity, ...] = ()


def load_predictor(model: str = "default", head: str | None = None, dtype: str = "float32") -> CrystalPropertyPipeline:
    """Load a checkpoint as a `crystal-property` pipeline.

    A warning tells if the checkpoint, its tokenizer and the encoder here do not go together.

    Args:
        model: `default` (the checkpoint inside the package), a folder or a Hub id.
        head: Name of the head that must be there, e.g. `heat_capacity`; None: the checkpoint's own.
        dtype: Of the weights, `float32` or `bfloat16` (faster where the processor knows it, about 1 % less exact); the
            predictions themselves and the Debye model are in float32.

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
        network, loaded = AutoModelForSequenceClassification.from_pretrained(
            path, dtype=getattr(torch, dtype), output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(path)
    if loaded["missing_keys"]:
        missing = sorted(loaded["missing_keys"])
        raise CheckpointError(f"{path}: {len(missing)} weights are missing, e.g. {missing[0]}.")
    _warn_of_other_settings(path, config, tokenizer)
    return CrystalPropertyPipeline(network, tokenizer=tokenizer, task="crystal-property")


def _warn_of_other_settings(path: str, config: Any, tokenizer: Any) -> None:
    """Compare what made the strings of model and tokenizer, and what would make them here."""
    trained, tokenized = config.encoder_settings, getattr(tokenizer, "encoder_settings", None)
    if None not in (trained, tokenized) and trained != tokenized:
        logger.warning(
            f"{path}: the model was trained on strings made with: {trained}, but its tokenizer belongs to strings made "
            f"with: {tokenized}. Do not mix the files of two checkpoints."
        )
    installed = ScopeEncoder.from_config(config).settings
    if (trained or tokenized) not in (None, installed):
        logger.warning(
            f"{path} was trained on strings made with: {trained or tokenized}. Crystals are encoded here with: "
            f"{installed}. Near the symmetry tolerance their strings may differ."
        )


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
    processes: int = 1,
    timeout: float | None = None,
) -> list[Prediction]:
    """Encode and predict items in their order; an item that fails keeps its place, with its error.

    Args:
        predictor: From `load_predictor`; its `encoder` is used for files and structures.
        items: From `collect_items`.
        temperature: K, for Debye heads.
        batch_size: Strings per forward pass; strings of similar length go together.
        processes: Worker processes that encode crystals.
        timeout: Longest time for encoding one crystal, s. `None` sets no limit.
    """
    encoded = encode_items(items, predictor.encoder, processes, timeout)
    shown = tqdm(encoded, total=len(items), desc="predict", unit="crystal", disable=None)
    return list(predict_encoded(predictor, shown, temperature, batch_size))


def predict_encoded(
    predictor: CrystalPropertyPipeline,
    items: Iterable[Item],
    temperature: float = 300.0,
    batch_size: int = 256,
    chunk_size: int = CHUNK_ROWS,
) -> Iterator[Prediction]:
    """Predict items that `encode_items` gives, as they come and in their order.

    Args:
        predictor: From `load_predictor`.
        items: May be endless; `chunk_size` of them are in memory at a time.
        temperature: K, for Debye heads.
        batch_size: Strings per forward pass.
        chunk_size: Items that are sorted by length together, so that a batch holds strings of similar length.

    Yields:
        One prediction an item.
    """
    items = iter(items)
    while chunk := list(islice(items, chunk_size)):
        yield from _predict_chunk(predictor, chunk, temperature, batch_size)


def _predict_chunk(
    predictor: CrystalPropertyPipeline, items: Sequence[Item], temperature: float, batch_size: int
) -> list[Prediction]:
    predictions = [Prediction(item) for item in items]
    places = [place for place, item in enumerate(items) if item.error is None]
    places.sort(key=lambda place: len((items[place].scope or "").split()))
    for start in range(0, len(places), batch_size):
        batch = places[start : start + batch_size]
        try:
            features = predictor.collate([items[place] for place in batch])
        except ValueError:  # a string that the model cannot read, or a number of atoms below 1: find it
            batch = [place for place in batch if _is_readable(predictor, predictions, place)]
            if not batch:
                continue
            features = predictor.collate([items[place] for place in batch])
        found = predictor.quantities(predictor.forward(features, temperature=temperature))
        for place, quantities in zip(batch, found, strict=True):
            predictions[place] = _checked(Prediction(items[place], tuple(quantities)))
    return predictions


def _is_readable(predictor: CrystalPropertyPipeline, predictions: list[Prediction], place: int) -> bool:
    item = predictions[place].item
    try:
        predictor.collate([item])
    except ValueError as error:
        predictions[place] = Prediction(replace(item, error=named(item, error)))
        return False
    return True


def _checked(prediction: Prediction) -> Prediction:
    """A prediction that is not finite is a failed row, not a number."""
    if all(math.isfinite(quantity["value"]) for quantity in prediction.quantities):
        return prediction
    item = prediction.item
    return Prediction(replace(item, error=f"{item.source}: the model's prediction is not a finite number."))
