"""Joint training: one encoder with every head, scalar targets and the phonon density of states."""

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from transformers import set_seed
from transformers.utils import SAFE_WEIGHTS_NAME, logging

from cloud_hf.checkpoints.cards import write_card
from cloud_hf.checkpoints.reading import ENCODER, loading, read_config, refuse_missing_weights
from cloud_hf.checkpoints.records import record_training_data
from cloud_hf.checkpoints.registration import AutoTokenizer
from cloud_hf.data.tables import read_table, write_table
from cloud_hf.errors import TableError
from cloud_hf.files import read_json, write_json
from cloud_hf.metrics import regression_metrics
from cloud_hf.models.configuration_cloud import CloudConfig
from cloud_hf.models.heads_phonon import area_between
from cloud_hf.models.modeling_properties import CloudForCrystalProperties
from cloud_hf.models.phonon_dos import PhononDOS
from cloud_hf.training.arguments import CloudTrainingArguments, check_output_dir
from cloud_hf.training.frequency_factors import frequency_factors
from cloud_hf.training.joint_arguments import JointArguments
from cloud_hf.training.joint_recipe import JointRecipe, read_joint_recipe
from cloud_hf.training.joint_rows import JointCollator, JointRows
from cloud_hf.training.joint_table import DOS_COLUMN, build_joint_table, check_folds, heat_capacity_column
from cloud_hf.training.metrics import METRICS_FILE
from cloud_hf.training.trainer import CloudTrainer

__all__ = ["build_model", "joint_config", "predict_joint", "score_joint", "train_joint"]

logger = logging.get_logger(__name__)

TABLE_FILE, COUNTS_FILE, PREDICTIONS_FILE = "joint.parquet", "joint.json", "predictions.parquet"

ACOUSTIC_SHIFT, ACOUSTIC_SCALE = 5.2, 0.5
"""ln of the acoustic cut-off's temperature in K that training begins with, exp(5.2) = 181 K, and its scale."""

LEAST_SHARE = 1e-5
"""Of the modes in a bin that training begins with: empty bins stay within reach."""


def train_joint(arguments: JointArguments, training: CloudTrainingArguments) -> str:
    """Build the joint table (once), train, save the model and its errors in `training.output_dir`.

    The table lies beside the output folder, so that folds and members share it. A run that stopped goes on exactly with
    `--resume-from-checkpoint true`.

    Returns:
        The errors on the rows kept back, as text.

    Raises:
        CloudError: A recipe, table, split or checkpoint that cannot be used; the message says why.
    """
    check_output_dir(training)
    set_seed(training.seed)
    folder = Path(training.output_dir or ".")
    recipe = read_joint_recipe(Path(arguments.recipe)).weighted(arguments.weights)
    table = _table(arguments, recipe, folder.parent)
    train, held_out = _sides(arguments, table)
    with loading(arguments.model):
        tokenizer: Any = AutoTokenizer.from_pretrained(arguments.model)
    rows = JointRows(train, recipe, tokenizer, arguments.repeat_vibrations, arguments.repeat_elements)
    config = joint_config(arguments, recipe, train)
    model = build_model(arguments.model, config, rows)
    training.remove_unused_columns = False
    training.label_names = ["labels"]
    trainer = CloudTrainer(
        model=model,
        args=training,
        data_collator=JointCollator(tokenizer.pad_token_id),
        train_dataset=rows,
        processing_class=tokenizer,
        identity={"training rows": rows.digest},
    )
    trainer.train(resume_from_checkpoint=training.resume_from_checkpoint)
    trainer.save_result()
    if not trainer.is_world_process_zero():
        return ""
    metrics: dict[str, Any] = {}
    if len(held_out):
        kept = JointRows(held_out, recipe, tokenizer)
        predictions = predict_joint(model, kept, training.per_device_eval_batch_size, tokenizer.pad_token_id)
        write_table(pd.concat([held_out.reset_index(drop=True), predictions], axis=1), folder / PREDICTIONS_FILE)
        metrics = {"validation": score_joint(held_out, predictions, recipe)}
        write_json(metrics, folder / METRICS_FILE, indent=2)
    licences = arguments.data_license, arguments.license
    names = sorted({f"{source.table}.parquet" for source in recipe.sources})
    record_training_data(folder, "fine-tuning", names, len(train), *licences, model=arguments.model)
    write_card(folder)
    scores = metrics.get("validation", {}).items()
    return "\n".join(f"{name}: {score['mae']:.4g} {score['unit']} ({score['n']} rows)" for name, score in scores)


def _table(arguments: JointArguments, recipe: JointRecipe, folder: Path) -> pd.DataFrame:
    """The joint table of an earlier run with the same recipe, but for weights in the loss, and split, or a new one."""
    of_rows = json.loads(json.dumps(asdict(recipe), default=dict))
    for target in of_rows["targets"].values():
        del target["weight"]
    told = {
        "recipe": of_rows,
        "data": arguments.data,
        "split": arguments.split,
    }
    kept = folder / COUNTS_FILE
    if kept.is_file() and (folder / TABLE_FILE).is_file():
        if read_json(kept, remedy="Remove it to go on.").get("told") == told:
            return read_table(folder / TABLE_FILE)
        logger.warning(f"{folder / TABLE_FILE}: was built of another recipe, data or split; it is built again.")
    table, counts = build_joint_table(recipe, Path(arguments.data), Path(arguments.split))
    write_table(table, folder / TABLE_FILE)
    write_json({"told": told, "counts": counts}, kept)
    return table


def _sides(arguments: JointArguments, table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows to train on and rows kept back, no crystal on both."""
    check_folds(table, "the joint table")
    if arguments.all_rows:
        return table, table.iloc[:0]
    kept_back = table["part"] == "validation" if arguments.fold is None else table["fold"] == arguments.fold
    if kept_back.all() or not kept_back.any():
        raise TableError(
            f"{'--fold' if arguments.fold is not None else 'the validation part'} leaves no row on one side."
        )
    return table[~kept_back], table[kept_back]


def joint_config(arguments: JointArguments, recipe: JointRecipe, train: pd.DataFrame) -> CloudConfig:
    """Say in the encoder's config what the new head predicts, with scales from the training rows.

    Raises:
        TableError: A target without training labels, or a label without a logarithm where one is needed.
    """
    config = read_config(arguments.model)
    means, deviations = [], []
    for name, target in recipe.targets.items():
        values = train[name].dropna().to_numpy(float)
        if not len(values):
            raise TableError(f"No training row has a label of {name!r}.")
        if target.transform.startswith("log"):
            if (values <= 0).any():
                raise TableError(
                    f"{values.min():g} has no logarithm; give it the transform 'standardise'.", source=name
                )
            values = np.log(values)
        means.append(float(values.mean()))
        deviations.append(float(values.std()) or 1.0)
    config.n_members, config.auxiliary_targets = 1, None
    if arguments.dropout is not None:
        config.hidden_dropout_prob = arguments.dropout
    config.head_layers, config.head_dropout = arguments.head_layers, arguments.head_dropout
    config.target_names = list(recipe.targets)
    config.target_units = [target.unit for target in recipe.targets.values()]
    config.target_transforms = [target.transform for target in recipe.targets.values()]
    config.target_weights = [target.weight for target in recipe.targets.values()]
    config.target_mean, config.target_scale = means, deviations
    config.id2label = dict(enumerate(config.target_names))
    config.label2id = {name: index for index, name in config.id2label.items()}
    config.problem_type = "regression"
    config.regression_loss = "l1"
    config.theta_link, config.theta_shift, config.theta_scale = "exp", ACOUSTIC_SHIFT, ACOUSTIC_SCALE
    config.dos_edges = list(recipe.vibrations.edges)
    config.vibration_scales = dict(recipe.vibrations.scales) or None
    config.validate_architecture()
    return config


def build_model(checkpoint: str, config: CloudConfig, rows: JointRows | None = None) -> CloudForCrystalProperties:
    """Load the encoder below a new head that begins with what the checkpoint's head knows.

    Outputs of targets that the checkpoint has by name, a density of states with the same bins, and hidden layers of the
    same shape go on as they are; a new density of states begins, with `rows`, at its mean over them.

    Raises:
        CheckpointError: Weights of the encoder are missing or of another shape.
    """
    before = read_config(checkpoint)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with loading(checkpoint):
            model, loaded = CloudForCrystalProperties.from_pretrained(
                checkpoint, config=config, output_loading_info=True, ignore_mismatched_sizes=True
            )
            old = _head_weights(checkpoint)
    finally:
        logging.set_verbosity(verbosity)
    refuse_missing_weights(checkpoint, loaded, ENCODER)
    spectrum_goes_on = _keep_known_outputs(model, old, before)
    present = None if rows is None or spectrum_goes_on else ~np.isnan(rows.dos[:, 0])
    if rows is not None and present is not None and present.any():
        last: Any = model.classifier.layers[-1]
        start = len(config.target_names or [])
        mean = torch.from_numpy(rows.dos[present].mean(0)).clamp(min=LEAST_SHARE).log()
        with torch.no_grad():
            last.bias[start : start + len(mean)] = mean - mean.mean()
            last.weight[start : start + len(mean)] *= 0.1
    return cast(CloudForCrystalProperties, model)


@torch.no_grad()
def _keep_known_outputs(model: CloudForCrystalProperties, old: dict[str, torch.Tensor], before: CloudConfig) -> bool:
    """Copy what a head with the same hidden layers knows: these, outputs of targets by name, the density of states.

    Returns:
        Whether the density of states was copied.
    """
    layers: Any = model.classifier.layers
    new, config = layers.state_dict(), model.config
    last = f"{len(layers) - 1}."
    # of the last layer only the inputs must agree
    shapes = [{name: weight.shape[name.startswith(last) :] for name, weight in head.items()} for head in (new, old)]
    if shapes[0] != shapes[1]:
        return False
    weight, bias = new[f"{last}weight"], new[f"{last}bias"]
    for name in set(old) - {f"{last}weight", f"{last}bias"}:
        new[name].copy_(old[name])
    known = before.target_names or []
    for place, target in enumerate(config.target_names or []):
        if target not in known:
            continue
        row = known.index(target)
        weight[place], bias[place] = old[f"{last}weight"][row], old[f"{last}bias"][row]
        if _transform_of(before, target) == _transform_of(config, target):  # the same predictions on the new scale
            ratio = _scale_of(before, row)[1] / _scale_of(config, place)[1]
            weight[place] *= ratio
            shift = _scale_of(before, row)[0] - _scale_of(config, place)[0]
            bias[place] = ratio * bias[place] + shift / _scale_of(config, place)[1]
    spectral = "CloudForCrystalProperties" in (before.architectures or []) and before.dos_edges == config.dos_edges
    if spectral:
        weight[len(config.target_names or []) :] = old[f"{last}weight"][len(known) :]
        bias[len(config.target_names or []) :] = old[f"{last}bias"][len(known) :]
    return spectral


def _transform_of(config: CloudConfig, target: str) -> str:
    names, transforms = config.target_names or [], config.target_transforms
    return transforms[names.index(target)] if transforms else "standardise"


def _scale_of(config: CloudConfig, place: int) -> tuple[float, float]:
    """Mean and deviation that an output is scaled with."""
    if not config.target_mean or not config.target_scale:
        return 0.0, 1.0
    return config.target_mean[place], config.target_scale[place]


def _head_weights(checkpoint: str) -> dict[str, torch.Tensor]:
    """Weights of the layers of the checkpoint's own head by number and kind, such as `0.bias`; none if it has none."""
    path = Path(checkpoint) / SAFE_WEIGHTS_NAME
    weights = load_file(path) if path.is_file() else {}
    renamed = {re.sub(r"^(classifier|head)\.layers\.", "", name): weight for name, weight in weights.items()}
    return {name: weight for name, weight in renamed.items() if name not in weights}


@torch.no_grad()
def predict_joint(model: Any, rows: JointRows, batch_size: int, pad_token_id: int) -> pd.DataFrame:
    """Predict everything that rows may have labels of.

    Returns:
        In the order of the rows `predicted_NAME` of every target, of heat capacities at the recipe's temperatures, of
        the low-temperature Debye temperature, and, NaN where the density of states is not known, `dos_area`, the mean
        distance of the modes in 1/cm, and `frequency_factor_NAME`, as `frequency_factors` gives them.
    """
    model.eval()
    collate = JointCollator(pad_token_id)
    order = np.argsort([len(ids) for ids in rows.input_ids], kind="stable")
    names = [f"predicted_{name}" for name in model.config.target_names]
    predicted = pd.DataFrame(index=range(len(rows.input_ids)), dtype=float)
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        batch = collate([rows[place] for place in places])
        outputs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        dos = model.phonon_dos(outputs)
        predicted.loc[places, names] = outputs.logits.double().numpy()
        for kelvin in rows.temperatures.tolist():
            column = f"predicted_{heat_capacity_column(kelvin)}"
            predicted.loc[places, column] = dos.heat_capacity(kelvin).double().numpy()
        predicted.loc[places, "predicted_debye_temperature"] = dos.low_temperature_debye_temperature().double().numpy()
        predicted.loc[places, "dos_area"] = area_between(dos, batch["dos_labels"]).double().numpy()
        if with_dos := [row for row, place in enumerate(places) if not np.isnan(rows.dos[place, 0])]:
            spectra = PhononDOS(dos.edges, *(part[with_dos] for part in dos[1:]))
            cv = dict(
                zip(rows.temperatures.tolist(), torch.from_numpy(rows.heat_capacity[places[with_dos]]).T, strict=True)
            )
            factors = frequency_factors(spectra, batch["dos_labels"][with_dos], cv, rows.temperatures.tolist())
            for name, values in factors.items():
                predicted.loc[places[with_dos], f"frequency_factor_{name}"] = values.numpy()
    return predicted


def score_joint(table: pd.DataFrame, predictions: pd.DataFrame, recipe: JointRecipe) -> dict[str, Any]:
    """Errors of everything that rows have labels of, each with its `unit`, as `regression_metrics` gives them.

    Those of the density of states are areas between cumulative ones; its `mad` is the area to their mean.
    """
    units = {name: target.unit for name, target in recipe.targets.items()}
    units |= {heat_capacity_column(kelvin): "J/(mol atom K)" for kelvin in recipe.temperatures}
    units |= {"debye_temperature": "K"}
    scores: dict[str, Any] = {}
    for name, unit in units.items():
        labels, values = table[name].to_numpy(float), predictions[f"predicted_{name}"].to_numpy(float)
        present = ~np.isnan(labels)
        if present.any():
            scores[name] = {"unit": unit, **regression_metrics(labels[present], values[present])}
    area = predictions["dos_area"].to_numpy(float)
    known = ~np.isnan(area)
    if known.any():
        cumulative = np.cumsum([*table[DOS_COLUMN].to_numpy()[known]], axis=1)
        gap = np.pad(np.abs(cumulative - cumulative.mean(0)), ((0, 0), (1, 0)))
        mad = float(((gap[:, 1:] + gap[:, :-1]) / 2 @ np.diff(recipe.vibrations.edges)).mean())
        scores[DOS_COLUMN] = {
            "unit": "1/cm between cumulative shares",
            "mae": float(area[known].mean()),
            "mae_mad": float(area[known].mean()) / mad if mad > 0 else None,
            "rmse": float(np.sqrt((area[known] ** 2).mean())),
            "r2": None,
            "median_absolute_error": float(np.median(area[known])),
            "mad": mad,
            "n": int(known.sum()),
        }
    return scores
