"""Crystals in, tables and vectors out: `cloud_hf.predict` and `cloud_hf.embed`."""

import logging
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from cloud_hf.data.inputs import Item, encode_items, iterate_items
from cloud_hf.errors import CloudError
from cloud_hf.inference.prediction import (
    check_batch_size,
    checked_temperature,
    load_predictor,
    load_predictors,
    predict_encoded,
)
from cloud_hf.inference.prediction_rows import prediction_columns, prediction_row
from cloud_hf.models.encoder_cloud import first_positions
from cloud_hf.scope import TIMEOUT

logger = logging.getLogger(__name__)

__all__ = ["embed", "predict", "vectors_of"]

EMBEDDING_HEAD = "formation_energy_per_atom"
"""The bundled checkpoint with this head has learned most properties, so its encoder gives the vectors."""


def predict(
    inputs: Any,
    temperature: float = 300.0,
    *,
    model: str = "default",
    head: str | None = None,
    members: int | None = None,
    n_atoms: str | None = None,
    structure: str | None = None,
    batch_size: int = 256,
    processes: int = 1,
    timeout: float | None = TIMEOUT,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Predict the properties of crystals.

    Args:
        inputs: One or several (a list, an iterator, a column of a table, ...) of: paths of crystal files, folders,
            globs, archives or tables, SCOPE strings, texts of CIF or POSCAR files, a `DataFrame` of crystals, pymatgen
            `Structure`, ASE `Atoms`, or anything else that `cloud_hf.scope.read_cell` takes.
        temperature: K, for heat capacities.
        model: `default` (all checkpoints inside the package), a checkpoint folder or a Hub id.
        head: Only this property, which may be an auxiliary target; None: all that are not auxiliary.
        members: Run only the first members of the checkpoint's ensemble, which is faster; None: all.
        n_atoms: Atoms per primitive cell of bare strings that do not tell it: a number, or a column of the table.
        structure: Column of tables that holds the crystals: paths, absolute or relative to the table's folder, texts
            of CIF or POSCAR files, dicts, or SCOPE strings; None: the column that is named after what it holds.
        batch_size: Strings per forward pass.
        processes: Worker processes that read and encode crystals.
        timeout: Longest time for one crystal, s; None sets no limit. A crystal that takes longer is a failed row.
        progress: Whether to show a bar; None: on a terminal.

    Returns:
        A row for each crystal, in order. `NAME (UNIT)` is a property, `NAME_low (UNIT)` and `NAME_high (UNIT)` are the
        ends of its 90 % interval; `out_of_distribution` flags unusual strings, and `error` says why a row is empty.

    Raises:
        CheckpointError: No such model or head.
        CloudError: An argument that cannot work. What is wrong with a crystal is in its row.
    """
    temperature = checked_temperature(temperature)
    check_batch_size(batch_size)
    predictor = load_predictors(model, head, members=members)
    items = encode_items(iterate_items(inputs, n_atoms, structure), predictor.encoder, processes, timeout)
    bar = tqdm(items, desc="predict", unit="crystal", disable=None if progress is None else not progress)
    columns, kelvin = prediction_columns(predictor), temperature if predictor.has_temperature else None
    predictions = predict_encoded(predictor, bar, temperature, batch_size)
    rows = [prediction_row(prediction, kelvin) for prediction in predictions]
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)


def embed(
    inputs: Any,
    *,
    model: str = "default",
    head: str | None = None,
    batch_size: int = 256,
    processes: int = 1,
    timeout: float | None = TIMEOUT,
    progress: bool | None = None,
) -> NDArray[np.float32]:
    """Return vectors of crystals for models of one's own: what the checkpoint's heads read.

    Args:
        inputs: As for `predict`.
        model: `default` (inside the package), a checkpoint folder or a Hub id.
        head: Takes the bundled checkpoint with this head; None: the one of most properties.
        batch_size: Strings per forward pass.
        processes: Worker processes that read and encode crystals.
        timeout: Longest time for one crystal, s; None sets no limit.
        progress: Whether to show a bar; None: on a terminal.

    Returns:
        Shape (crystals, width), in order: the state of [CLS], and behind it the mean over the orbits weighted by their
        multiplicity if the checkpoint pools it (then the width is twice the hidden size). A crystal that cannot be read
        has a row of NaN, and a warning says why.

    Raises:
        CheckpointError: No such model or head.
        CloudError: An argument that cannot work.
    """
    vectors, failed = vectors_of(inputs, model, head, batch_size, processes, timeout, progress)
    for item in failed.values():
        logger.warning("%s", item.message)
    return vectors


def vectors_of(
    inputs: Any,
    model: str = "default",
    head: str | None = None,
    batch_size: int = 256,
    processes: int = 1,
    timeout: float | None = TIMEOUT,
    progress: bool | None = None,
) -> tuple[NDArray[np.float32], dict[int, Item]]:
    """Return what `embed` does, and by their place the inputs that have no vector, each with its error."""
    check_batch_size(batch_size)
    pipeline = load_predictor(model, head or (EMBEDDING_HEAD if model == "default" else None))
    items = encode_items(iterate_items(inputs), pipeline.encoder, processes, timeout)
    bar = tqdm(items, desc="embed", unit="crystal", disable=None if progress is None else not progress)
    vectors: list[NDArray[np.float32] | None] = []
    failed: dict[int, Item] = {}
    batch: list[tuple[int, Item]] = []
    for item in bar:
        vectors.append(None)
        if item.error is not None:
            failed[len(vectors) - 1] = item
            continue
        batch.append((len(vectors) - 1, item))
        if len(batch) == batch_size:
            _fill(vectors, failed, batch, pipeline)
    _fill(vectors, failed, batch, pipeline)
    classifier: Any = pipeline.model.classifier
    width = pipeline.model.config.hidden_size * (2 if classifier.pools else 1)
    table = np.full((len(vectors), width), np.nan, dtype=np.float32)
    for place, vector in enumerate(vectors):
        if vector is not None:
            table[place] = vector
    return table, dict(sorted(failed.items()))


@torch.inference_mode()
def _fill(
    vectors: list[NDArray[np.float32] | None], failed: dict[int, Item], batch: list[tuple[int, Item]], pipeline: Any
) -> None:
    """Put the vectors of a batch of (place, item) into their places, and empty the batch."""
    if not batch:
        return
    network = pipeline.model
    try:
        features = pipeline.collate([item for _, item in batch])
    except CloudError as error:  # a string that the model cannot read: the others still have their vectors
        if len(batch) == 1:
            failed[batch[0][0]] = batch[0][1].failed(error)
        else:
            for one in batch:
                _fill(vectors, failed, [one], pipeline)
    else:
        ids, mask = (features[name].to(network.device) for name in ("input_ids", "attention_mask"))
        encoded = network.bert(ids, mask, return_dict=True)
        weights = network.bert.pooling_weights(ids)
        pooled = network.classifier.pooled(encoded.last_hidden_state, weights, first_positions(mask))
        for (place, _), vector in zip(batch, pooled.float().cpu().numpy(), strict=True):
            vectors[place] = vector
    batch.clear()
