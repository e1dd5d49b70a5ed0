"""A labelled table to the rows of a fine-tuning run: strings, ids, labels, groups; what is left out is listed."""

import hashlib
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset
from numpy.typing import NDArray
from tqdm import tqdm

from cloud_hf.data.assignment import group_rows
from cloud_hf.data.inputs import Item, encode_items, table_items
from cloud_hf.data.splits import read_split_column
from cloud_hf.data.tables import is_missing, numeric_column, read_table, recorded_settings
from cloud_hf.errors import CheckpointError, CloudError, ScopeTooLongError, TableError, about
from cloud_hf.models.configuration_cloud import CloudConfig
from cloud_hf.scope import ScopeEncoder
from cloud_hf.training.finetune_arguments import FinetuneArguments

__all__ = ["Rows", "Target", "parse_targets", "read_rows"]

LISTED = 10
"""This many failed rows are named in an error message."""


@dataclass(frozen=True)
class Target:
    """A label column: its name and the unit of its numbers."""

    name: str
    unit: str


@dataclass(frozen=True)
class Rows:
    """The labelled rows of a table, n in number.

    Attributes:
        position: Row of the table, from 0, shape (n,).
        source: The row's `id`, or `file:row`.
        scope: SCOPE string.
        input_ids: Its token ids.
        group: Rows of the same group share a string or an id and belong on one side of a split.
        identifier: The row's `id`, None without one.
        labels: In the targets' units, NaN where missing, shape (n, n_targets).
        n_atoms: Atoms of the cell that the labels are for, 1 for labels per atom, shape (n,).
        temperature: K, shape (n,).
        split: Part or fold from the split column, shape (n,); None without one.
    """

    position: NDArray[np.int64]
    source: list[str]
    scope: list[str]
    input_ids: list[list[int]]
    group: list[str]
    identifier: list[str | None]
    labels: NDArray[np.float64]
    n_atoms: NDArray[np.float64]
    temperature: NDArray[np.float64]
    split: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.scope)

    def take(self, rows: NDArray[np.int64]) -> "Rows":
        """Return some of the rows, in the order given."""
        chosen: dict[str, Any] = {}
        for entry in fields(self):
            values = getattr(self, entry.name)
            chosen[entry.name] = [values[row] for row in rows] if isinstance(values, list) else values
            if isinstance(values, np.ndarray):
                chosen[entry.name] = values[rows]
        return Rows(**chosen)

    def dataset(self) -> Dataset:
        """Return the columns that the models read, labels of shape (n, n_targets) in float32."""
        return Dataset.from_dict(
            {
                "input_ids": self.input_ids,
                "labels": self.labels.astype(np.float32).tolist(),
                "n_atoms": self.n_atoms.astype(np.float32).tolist(),
                "temperature": self.temperature.astype(np.float32).tolist(),
            }
        )

    @property
    def digest(self) -> str:
        """Hash of strings, labels and splits, by which a resumed run knows its data."""
        digest = hashlib.sha256("\n".join(self.scope + self.group).encode())
        for array in (self.labels, self.n_atoms, self.temperature):
            digest.update(np.ascontiguousarray(array).tobytes())
        digest.update(b"" if self.split is None else "\n".join(map(str, self.split)).encode())
        return digest.hexdigest()[:16]


def parse_targets(arguments: FinetuneArguments) -> list[Target]:
    """Read `--target` and check it against `--debye`.

    Raises:
        TableError: A target without a unit or twice, or not one target for each Debye quantity.
    """
    targets = []
    for text in arguments.target:
        name, separator, unit = text.partition(":")
        if not (name and separator and unit.strip()):
            raise TableError(f"--target {text!r} has no unit; write 'column:unit', e.g. 'band_gap:eV'.")
        targets.append(Target(name, unit.strip()))
    names = [target.name for target in targets]
    if len(set(names)) != len(names):
        raise TableError(f"--target names a column twice: {', '.join(names)}.")
    if arguments.debye is None:
        return targets
    if len(arguments.debye) != len(names) or len(set(arguments.debye)) != len(arguments.debye):
        raise TableError(
            f"A Debye head learns each quantity from one target, in the same order: --debye {' '.join(arguments.debye)}"
            f" does not fit --target {', '.join(names)}."
        )
    for target, quantity in zip(targets, arguments.debye, strict=True):
        if not (target.unit.startswith("J") and "mol" in target.unit):
            unit = "J/(mol cell K) or J/(mol atom K)" if quantity == "heat_capacity" else "J/(mol cell) or J/(mol atom)"
            raise TableError(
                f"--target '{target.name}:{target.unit}': the Debye model gives {quantity} in {unit}; convert the "
                "labels and name the unit."
            )
    return targets


def read_rows(
    arguments: FinetuneArguments, config: CloudConfig, targets: list[Target], tokenizer: Any
) -> tuple[Rows, pd.DataFrame]:
    """Read, encode and tokenize the table.

    Args:
        arguments: Where the table and its columns are.
        config: Of the checkpoint; gets the encoder settings that the strings were made with.
        targets: From `parse_targets`.
        tokenizer: Of the checkpoint.

    Returns:
        The labelled rows, and the rows left out with columns `row`, `source` and `reason`.

    Raises:
        TableError: A column is missing or holds what it must not, no row has a label, or rows have no usable string
            and `skip_failed` is off.
    """
    table = read_table(arguments.data)
    labels = np.stack([numeric_column(table, target.name, arguments.data).to_numpy() for target in targets], axis=1)
    labelled = np.flatnonzero(~np.isnan(labels).all(axis=1))
    if not len(labelled):
        names = ", ".join(target.name for target in targets)
        raise TableError(f"no row has a label in {names}.", source=arguments.data)
    atoms = _atoms(table, arguments, labelled)
    kelvin = _temperature(table, arguments, labelled)
    split = _split(table, arguments, labelled)
    _refuse_transform(arguments, targets, labels, labelled)

    _refuse_vocabulary(tokenizer, config, arguments.checkpoint)
    items, ids = _strings(table.iloc[labelled], arguments, config, tokenizer)
    failed = [item for item in items if item.error is not None]
    if failed and not arguments.skip_failed:
        listed = "".join(f"\n  {item.error}" for item in failed[:LISTED])
        more = f"\n  and {len(failed) - LISTED} more" if len(failed) > LISTED else ""
        raise TableError(
            f"{len(failed)} of {len(items)} labelled rows have no usable string (--skip-failed true "
            f"leaves them out):{listed}{more}",
            source=arguments.data,
        )
    usable = np.array([index for index, item in enumerate(items) if item.error is None], dtype=np.int64)
    if not len(usable):
        raise TableError(f"all {len(items)} labelled rows failed; first: {failed[0].error}", source=arguments.data)
    position = labelled[usable]
    scopes = [str(items[index].scope) for index in usable]
    column = table["id"].tolist() if "id" in table.columns else [None] * len(table)
    identifiers = [None if is_missing(column[row]) else str(column[row]) for row in position]
    rows = Rows(
        position=position,
        source=[items[index].source for index in usable],
        scope=scopes,
        input_ids=[ids[index] for index in usable],
        group=[str(group) for group in group_rows([[scope] for scope in scopes], identifiers)],
        identifier=identifiers,
        labels=labels[position],
        n_atoms=atoms[position],
        temperature=kelvin[position],
        split=None if split is None else split[usable],
    )
    reasons = {int(row): (item.source, item.message) for row, item in zip(labelled, items, strict=True) if item.error}
    for row in set(range(len(table))) - set(labelled.tolist()):
        reasons[row] = (str(column[row]) if not is_missing(column[row]) else f"{arguments.data}:{row}", "no label")
    left_out = [(row, *reasons[row]) for row in sorted(reasons)]
    return rows, pd.DataFrame(left_out, columns=["row", "source", "reason"])


def _atoms(table: pd.DataFrame, arguments: FinetuneArguments, labelled: NDArray[np.int64]) -> NDArray[np.float64]:
    if arguments.n_atoms is None:
        return np.ones(len(table))
    atoms = numeric_column(table, arguments.n_atoms, arguments.data).to_numpy()
    if not (atoms[labelled] >= 1).all():
        raise TableError(
            f"column {arguments.n_atoms!r} must hold at least 1 atom per cell in every row.", source=arguments.data
        )
    return atoms


def _temperature(table: pd.DataFrame, arguments: FinetuneArguments, labelled: NDArray[np.int64]) -> NDArray[np.float64]:
    if arguments.fixed_temperature is not None:
        return np.full(len(table), arguments.fixed_temperature)
    kelvin = numeric_column(table, arguments.temperature, arguments.data).to_numpy()
    lowest = 1 if "heat_capacity" in (arguments.debye or ()) else 0
    if not (kelvin[labelled] >= lowest).all():
        raise TableError(
            f"column {arguments.temperature!r} must hold at least {lowest} K in every labelled row.",
            source=arguments.data,
        )
    return kelvin


def _split(table: pd.DataFrame, arguments: FinetuneArguments, labelled: NDArray[np.int64]) -> NDArray[Any] | None:
    if arguments.split is None:
        return None
    if arguments.split not in table.columns:
        columns = ", ".join(map(str, table.columns))
        raise TableError(
            f"there is no column {arguments.split!r} to split by; it has {columns}.", source=arguments.data
        )
    return read_split_column(table[arguments.split].iloc[labelled].tolist(), arguments.split, arguments.data, labelled)


def _refuse_transform(
    arguments: FinetuneArguments, targets: list[Target], labels: NDArray[np.float64], labelled: NDArray[np.int64]
) -> None:
    for column, (target, transform) in enumerate(zip(targets, arguments.transforms, strict=True)):
        if transform.startswith("log"):
            bad = np.flatnonzero(labels[:, column] <= 0)
            if len(bad):
                raise TableError(
                    f"--transform {transform} needs positive labels, but {target.name!r} is "
                    f"{labels[bad[0], column]:g} ({len(bad)} such rows).",
                    source=arguments.data,
                    row=int(labelled[bad[0]]),
                )


def _refuse_vocabulary(tokenizer: Any, config: CloudConfig, model: str) -> None:
    vocabulary_size = len(tokenizer)
    if vocabulary_size > config.vocab_size:
        raise CheckpointError(
            f"the tokenizer has {vocabulary_size} words, the model embeddings for {config.vocab_size}; the vocabulary "
            "is not the one that the weights were trained with.",
            source=model,
        )


def _strings(
    table: pd.DataFrame, arguments: FinetuneArguments, config: CloudConfig, tokenizer: Any
) -> tuple[list[Item], list[list[int]]]:
    """Every row as an item with its string or its error, and the token ids, empty where there is an error."""
    encoder = ScopeEncoder.from_config(config)
    items = table_items(table, arguments.data, column=arguments.structure)
    encoded, ids = [], []
    made = encode_items(items, encoder, arguments.encode_processes, arguments.encode_timeout)
    for item in tqdm(made, total=len(table), desc="encode", unit="crystal", disable=None):
        token_ids: list[int] = []
        if item.error is None:
            try:
                token_ids = tokenizer(item.scope)["input_ids"]
            except CloudError as error:
                item = Item(item.source).failed(about(error, repr(item.scope)))
        if len(token_ids) > config.max_position_embeddings:
            reason = f"{len(token_ids)} tokens are more than the model's {config.max_position_embeddings} positions."
            item = Item(item.source).failed(ScopeTooLongError(reason))
        encoded.append(item)
        ids.append(token_ids)
    origins = {item.is_encoded for item in encoded if item.error is None}
    recorded = {encoder.settings} if origins == {True} else recorded_settings(table)
    if len(recorded) == 1 and len(origins) == 1:  # of strings from here and from elsewhere nothing is known
        config.encoder_settings = recorded.pop()
    return encoded, ids
