"""Fine-tuning of a regression or Debye head on a table of labelled crystals."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from tabulate import tabulate
from tqdm import tqdm
from transformers import AutoTokenizer, DataCollatorWithPadding, set_seed

from cloud_hf.checkpoints import loading, read_config
from cloud_hf.configuration_cloud import CloudConfig
from cloud_hf.data.inputs import encode_item, table_items
from cloud_hf.data.splits import split_by_string
from cloud_hf.data.tables import has_structures, numeric_column, read_table, recorded_settings
from cloud_hf.debye import GAS_CONSTANT, debye_temperature_from_heat_capacity
from cloud_hf.errors import CheckpointError, GrammarError, TableError
from cloud_hf.modeling_cloud import CloudForDebye, CloudForPropertyRegression
from cloud_hf.scope import ScopeEncoder
from cloud_hf.tokenization_scope import grammar_of
from cloud_hf.training.arguments import CloudTrainingArguments
from cloud_hf.training.finetune_arguments import FinetuneArguments
from cloud_hf.training.metrics import METRICS_FILE, regression_metrics
from cloud_hf.training.trainer import CloudTrainer

__all__ = ["finetune"]


@dataclass
class _Rows:
    """Strings of length n with labels (n, n_targets) and, for extensive Debye labels, atoms per cell (n,)."""

    scopes: list[str]
    labels: NDArray[np.float64]
    n_atoms: NDArray[np.float64] | None

    def take(self, rows: NDArray[np.int64]) -> "_Rows":
        return _Rows(
            [self.scopes[row] for row in rows], self.labels[rows], None if self.n_atoms is None else self.n_atoms[rows]
        )


def finetune(own: FinetuneArguments, training: CloudTrainingArguments) -> str:
    """Fine-tune, save model, tokenizer and `metrics.json` in `training.output_dir`, and return a table of errors.

    Rows with the same string are either all trained on or all kept back. The weights are those after the last
    step: nothing is selected on the validation rows.

    Raises:
        CloudError: A table, label, string or checkpoint that cannot be used; the message says which.
    """
    set_seed(training.seed)
    names, units = _targets(own)
    config = _config(own, names)
    with loading(own.model):
        tokenizer = AutoTokenizer.from_pretrained(own.model)
    rows = _read_rows(own, config, names)
    train_rows, validation_rows = split_by_string(rows.scopes, own.validation_fraction, training.seed)
    if not len(train_rows):
        raise TableError(f"{own.data}: no row is left to train on; lower --validation_fraction.")
    train, validation = rows.take(train_rows), rows.take(validation_rows)
    model = _build_model(own, config, units, train)

    training.label_names = ["labels"]
    trainer = CloudTrainer(
        model=model,
        args=training,
        data_collator=DataCollatorWithPadding(tokenizer),
        train_dataset=_tokenize(train, tokenizer, own),
        eval_dataset=_tokenize(validation, tokenizer, own) if validation.scopes else None,
        processing_class=tokenizer,
    )
    trainer.train(resume_from_checkpoint=training.resume_from_checkpoint)
    trainer.save_result()
    folder = Path(training.output_dir or ".")

    parts = {"train": train, "validation": validation}
    metrics = {
        part: _errors(trainer, _tokenize(part_rows, tokenizer, own), names, units, own)
        for part, part_rows in parts.items()
        if part_rows.scopes
    }
    if trainer.is_world_process_zero():
        (folder / METRICS_FILE).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    return _report(metrics)


def _targets(own: FinetuneArguments) -> tuple[list[str], list[str]]:
    names, units = [], []
    for target in own.target:
        name, separator, unit = target.partition(":")
        if not (name and separator and unit):
            raise TableError(f"--target {target!r} has no unit; write 'column:unit', e.g. 'band_gap:eV'.")
        names.append(name)
        units.append(unit)
    if len(set(names)) != len(names):
        raise TableError(f"--target names a column twice: {', '.join(names)}.")
    if own.debye and len(names) != 1:
        raise TableError(f"A Debye head learns from one target, not {len(names)}: {', '.join(names)}.")
    return names, units


def _config(own: FinetuneArguments, names: list[str]) -> CloudConfig:
    config = read_config(own.model)
    config.head_layers = own.head_layers
    config.head_dropout = own.head_dropout
    if own.debye:
        config.debye_targets = [own.debye]
        config.target_names, config.target_units = ["debye_temperature"], ["K"]
    else:
        config.target_names = names
    config.id2label = dict(enumerate(config.target_names))
    config.label2id = {name: index for index, name in config.id2label.items()}
    config.problem_type = "regression"
    return config


def _read_rows(own: FinetuneArguments, config: CloudConfig, names: list[str]) -> _Rows:
    table = read_table(own.data)
    labels = np.stack([numeric_column(table, name, own.data).to_numpy() for name in names], axis=1)
    encoder = ScopeEncoder.from_config(config)
    recorded = {encoder.settings} if has_structures(table) else recorded_settings(table)
    config.encoder_settings = recorded.pop() if len(recorded) == 1 else config.encoder_settings
    items = [
        encode_item(item, encoder)
        for item in tqdm(table_items(table, own.data), total=len(table), desc="encode", unit="crystal", disable=None)
    ]
    failed = [item for item in items if item.error is not None]
    if failed:
        raise TableError(f"{own.data}: {len(failed)} of {len(items)} rows have no string; first: {failed[0].error}")
    scopes = [item.scope or "" for item in items]
    for scope in scopes:
        if grammar_of(scope) != config.grammar:
            raise GrammarError(f"{own.data}: {scope!r} is not in the grammar {config.grammar!r} of {own.model}.")
    labelled = ~np.isnan(labels).all(axis=1)
    if not labelled.any():
        raise TableError(f"{own.data}: no row has a label in {', '.join(names)}.")
    rows = _Rows(scopes, labels, numeric_column(table, own.n_atoms, own.data).to_numpy() if own.n_atoms else None)
    if rows.n_atoms is not None and not (rows.n_atoms[labelled] >= 1).all():
        raise TableError(f"{own.data}: column {own.n_atoms!r} must hold at least 1 atom per cell in every row.")
    return rows.take(np.flatnonzero(labelled))


def _build_model(
    own: FinetuneArguments, config: CloudConfig, units: list[str], train: _Rows
) -> CloudForDebye | CloudForPropertyRegression:
    """Set the head's scales from the training labels and load the encoder's weights; only the head may be new."""
    if own.debye:
        per_atom = train.labels[:, 0] / (1.0 if train.n_atoms is None else train.n_atoms)
        config.theta_link = "exp"
        config.theta_shift, config.theta_scale = _ln_theta_scale(per_atom, own)
        config.target_mean, config.target_scale = [0.0], [_positive(float(np.nanstd(per_atom)))]
        kind: Any = CloudForDebye
    else:
        config.target_units = units
        config.target_mean = [float(mean) for mean in np.nanmean(train.labels, axis=0)]
        config.target_scale = [_positive(scale) for scale in np.nanstd(train.labels, axis=0)]
        kind = CloudForPropertyRegression
    config.validate_architecture()
    with loading(own.model):
        model, loaded = kind.from_pretrained(own.model, config=config, output_loading_info=True)
    missing = [name for name in loaded["missing_keys"] if not name.startswith("head.")]
    if missing:
        raise CheckpointError(
            f"{own.model}: {len(missing)} encoder weights are missing, e.g. {missing[0]}; nothing was trained. "
            "Give the folder that `cloud-hf pretrain` wrote."
        )
    return model


def _positive(scale: float) -> float:
    return float(scale) if scale > 0 else 1.0


def _ln_theta_scale(per_atom: NDArray[np.float64], own: FinetuneArguments) -> tuple[float, float]:
    """Mean and standard deviation of ln(theta / K) that the labels stand for; defaults for internal energies."""
    if own.debye != "heat_capacity":
        return CloudConfig.theta_shift, CloudConfig.theta_scale
    limit = 3 * GAS_CONSTANT
    usable = per_atom[(per_atom > 0.001 * limit) & (per_atom < 0.999 * limit)]
    if not len(usable):
        raise TableError(
            f"{own.data}: no heat capacity lies between 0 and the Dulong-Petit limit of {limit:.2f} J/(mol atom K); "
            "if the labels are per cell, name the column of atoms per cell with --n_atoms."
        )
    ln_theta = debye_temperature_from_heat_capacity(usable, own.temperature).log().numpy()
    return float(ln_theta.mean()), _positive(ln_theta.std())


def _tokenize(rows: _Rows, tokenizer: Any, own: FinetuneArguments) -> Dataset:
    ids = tokenizer(rows.scopes)["input_ids"]
    columns: dict[str, Any] = {"input_ids": ids}
    columns["labels"] = (rows.labels[:, 0] if own.debye else rows.labels).astype(np.float32).tolist()
    if own.debye:
        columns["temperature"] = [own.temperature] * len(ids)
        if rows.n_atoms is not None:
            columns["n_atoms"] = rows.n_atoms.astype(np.float32).tolist()
    return Dataset.from_dict(columns)


def _errors(
    trainer: CloudTrainer, dataset: Dataset, names: list[str], units: list[str], own: FinetuneArguments
) -> dict[str, Any]:
    # Trainer may evaluate in an order of its own (by length), so the labels are taken from its output
    output = trainer.predict(dataset)
    labels = np.asarray(output.label_ids, dtype=np.float64).reshape(-1, len(names))
    if own.debye:  # (Debye temperature, heat capacity, internal energy)
        predictions = np.asarray(output.predictions[1 if own.debye == "heat_capacity" else 2])[:, None]
    else:
        predictions = np.asarray(output.predictions)
    if not np.isfinite(predictions).all():
        raise CheckpointError("The training diverged: predictions are not finite. Lower --learning_rate.")
    errors = {}
    for column, (name, unit) in enumerate(zip(names, units, strict=True)):
        present = ~np.isnan(labels[:, column])
        found = regression_metrics(labels[present, column], predictions[present, column])
        errors[name] = {"unit": unit, **found}
    return errors


def _report(metrics: dict[str, Any]) -> str:
    """MAE of the model beside the mean predictor's (whose MAE is the MAD of the rows)."""
    lines = [
        [part, name, row["n"], row["mae"], row["mad"], row["mae_mad"], row["median_absolute_error"], row["unit"]]
        for part, targets in metrics.items()
        for name, row in targets.items()
    ]
    headers = ["rows", "target", "n", "MAE", "MAE of the mean", "MAE:MAD", "median error", "unit"]
    return tabulate(lines, headers=headers, floatfmt=".4g")
