"""Fine-tuning of a regression or Debye head on a table of labelled crystals."""

import copy
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from transformers import set_seed
from transformers.trainer_utils import IntervalStrategy
from transformers.utils import logging

from cloud_hf.checkpoints.cards import write_card
from cloud_hf.checkpoints.reading import loading
from cloud_hf.checkpoints.records import record_training_data
from cloud_hf.checkpoints.registration import AutoTokenizer
from cloud_hf.data.tables import read_table, write_table
from cloud_hf.errors import CheckpointError, CloudError
from cloud_hf.files import new_file, read_json, refuse_other_settings, write_json
from cloud_hf.models.configuration_cloud import CloudConfig
from cloud_hf.training.arguments import CloudTrainingArguments, check_output_dir
from cloud_hf.training.few_labels import frozen_vectors
from cloud_hf.training.finetune_arguments import FinetuneArguments
from cloud_hf.training.finetune_baselines import few_label_baseline, fit_linear_head, tree_baseline
from cloud_hf.training.finetune_heads import build_model, head_config, set_scales
from cloud_hf.training.finetune_plan import Division, divide
from cloud_hf.training.finetune_report import (
    HARMLESS,
    average_metrics,
    choice_lines,
    command_line,
    error_table,
    frame_metrics,
    given_arguments,
    parity_parts,
    prediction_frame,
    several_frames,
    spread,
)  # fmt: skip
from cloud_hf.training.finetune_rows import Rows, Target, parse_targets, read_rows
from cloud_hf.training.finetune_trainer import FinetuneTrainer
from cloud_hf.training.metrics import METRICS_FILE
from cloud_hf.training.parity import Parity, plot_parity

__all__ = ["PARITY_FILE", "PREDICTIONS_FILE", "RUN_FILE", "SKIPPED_FILE", "finetune"]

logger = logging.get_logger(__name__)

PREDICTIONS_FILE = "predictions.csv"
PARITY_FILE = "parity.png"
SKIPPED_FILE = "skipped.csv"
RUN_FILE = "run.json"
"""Settings, seed and data of a run, and the command that repeats it."""


NOT_DECISIVE = ("data", "seeds", "baselines", "data_license", "license", "encode_processes", "encode_timeout", "refit")
"""Arguments that do not change what a run ends with; the rows themselves stand for their table."""


@dataclass(frozen=True)
class _Job:
    """All that the runs of one fine-tuning share."""

    arguments: FinetuneArguments
    training: CloudTrainingArguments
    config: CloudConfig
    targets: list[Target]
    tokenizer: Any
    rows: Rows

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the result of a run, beside its seed and fold."""
        plain = CloudTrainingArguments(output_dir="", use_cpu=self.training.use_cpu)
        given = given_arguments(self.training, plain)
        arguments = {key: value for key, value in asdict(self.arguments).items() if key not in NOT_DECISIVE}
        decisive = arguments | {key: value for key, value in given.items() if key not in HARMLESS}
        decisive |= {"rows": self.rows.digest, "first_seed": self.training.seed}
        return cast(dict[str, Any], json.loads(json.dumps(decisive, default=str)))


def finetune(arguments: FinetuneArguments, training: CloudTrainingArguments) -> str:
    """Fine-tune, save model, tokenizer, errors and predictions in `training.output_dir`, and return a table of errors.

    Rows with the same string, or the same id, are on one side of a split that is made here; validation and test rows
    are never trained on. The weights are those after the last step, or with `early_stopping` those of the best
    evaluation on the validation rows. Several folds or seeds have folders of their own, below the errors of all; with
    `refit` a model of all rows lies beside these errors, which are then the part `folds`.

    Raises:
        CloudError: A table, label, string or checkpoint that cannot be used; the message says which.
    """
    check_output_dir(training)
    set_seed(training.seed)
    folder = Path(training.output_dir or ".")
    targets = parse_targets(arguments)
    config = head_config(arguments, targets)
    with loading(arguments.checkpoint):
        tokenizer = AutoTokenizer.from_pretrained(arguments.checkpoint)
    rows, skipped = read_rows(arguments, config, targets, tokenizer)
    job = _Job(arguments, training, config, targets, tokenizer, rows)
    divisions = divide(arguments, rows, training.seed)
    if arguments.refit and divisions[0].fold is None:
        raise CloudError(f"--refit follows folds, and column {arguments.split!r} gives parts; leave it out.")
    trainer: FinetuneTrainer | None
    if len(divisions) * arguments.seeds == 1:
        frame, choices, trainer = _run(job, divisions[0], training.seed, folder)
        metrics = frame_metrics(frame, targets)
    elif training.push_to_hub:
        raise CloudError("--push-to-hub takes one model, and --folds, --split by folds and --seeds train several.")
    else:
        frame, metrics, choices, trainer = _run_all(job, divisions, folder)
        if arguments.refit:
            metrics, trainer = {"folds": metrics["test"]}, _refit(job, folder)
    saves = trainer is None or bool(trainer.is_world_process_zero())
    if saves:
        if len(skipped):
            write_table(skipped, folder / SKIPPED_FILE)
        _write_results(job, folder, frame, metrics, choices | {"skipped_rows": len(skipped)})
    if trainer is not None and (arguments.refit or len(divisions) * arguments.seeds == 1):
        trainer.publish()
    return _report(job, metrics, choices, skipped, folder, len(divisions)) if saves else ""


def _run_all(
    job: _Job, divisions: Sequence[Division], folder: Path
) -> tuple[pd.DataFrame, Any, Any, FinetuneTrainer | None]:
    """Train every fold with every seed; runs that are finished in `folder` already are read instead."""
    arguments = job.arguments
    choices: dict[str, dict[str, Any]] = {"selection": {}, "trees": {}, "auto": {}}
    trainer: FinetuneTrainer | None = None
    frames: dict[tuple[int | None, int], pd.DataFrame] = {}
    folders = {
        (division.fold, seed): folder / "/".join(_names(division.fold, seed, arguments.seeds))
        for division in divisions
        for seed in range(job.training.seed, job.training.seed + arguments.seeds)
    }
    finished = {key: path for key, path in folders.items() if (path / METRICS_FILE).is_file()}
    for path in finished.values():
        _refuse_other_settings(job, path)
    for division in divisions:
        for seed in range(job.training.seed, job.training.seed + arguments.seeds):
            key = (division.fold, seed)
            name = str(folders[key].relative_to(folder))
            if key in finished:
                logger.warning(f"{folders[key]}: finished already with the same settings; not trained again.")
                frames[key] = read_table(folders[key] / PREDICTIONS_FILE)
                of_run = read_json(folders[key] / RUN_FILE, error=CheckpointError)
                for what, chosen in choices.items():
                    chosen[name] = of_run.get(what)
                continue
            frames[key], of_run, trainer = _run(job, division, seed, folders[key])
            for what, chosen in choices.items():
                chosen[name] = of_run[what]
            if trainer.is_world_process_zero():
                metrics_of_run = frame_metrics(frames[key], job.targets)
                _write_results(job, folders[key], frames[key], metrics_of_run, of_run, seed, division.fold)
    if divisions[0].fold is not None:  # every row is scored by the model that has not seen it
        frames = {key: frame[frame["part"] == "test"] for key, frame in frames.items()}
    by_seed: dict[int, list[pd.DataFrame]] = {}
    by_fold: dict[int | None, list[pd.DataFrame]] = {}
    for (fold, seed), frame in frames.items():
        by_seed.setdefault(seed, []).append(frame)
        by_fold.setdefault(fold, []).append(frame)
    pooled = [
        pd.concat(frames_of_seed, ignore_index=True).sort_values("row", kind="stable")
        for frames_of_seed in by_seed.values()
    ]
    metrics = frame_metrics(pooled[0], job.targets)
    if arguments.seeds > 1:
        metrics = average_metrics([frame_metrics(frame, job.targets) for frame in pooled], "seeds")
    if len(by_fold) > 1:
        each = [
            average_metrics([frame_metrics(f, job.targets) for f in frames_of_fold], "seeds")
            for frames_of_fold in by_fold.values()
        ]
        for target in job.targets:
            metrics["test"][target.name]["folds"] = spread(fold["test"][target.name]["mae"] for fold in each)
    elif trainer is None or trainer.is_world_process_zero():
        _copy_model(folders[(divisions[0].fold, job.training.seed)], folder)
    return several_frames(pooled, job.targets), metrics, choices, trainer


def _refit(job: _Job, folder: Path) -> FinetuneTrainer:
    """Train on all rows, for as long as the settings say: there is nothing left to stop by."""
    training = copy.copy(job.training)
    training.eval_strategy, training.load_best_model_at_end = IntervalStrategy.NO, False
    whole = replace(job, arguments=replace(job.arguments, early_stopping=None), training=training)
    return _run(whole, Division(None, {"train": np.arange(len(job.rows))}), training.seed, folder)[2]


def _names(fold: int | None, seed: int, seeds: int) -> list[str]:
    return [f"fold_{fold}"] * (fold is not None) + [f"seed_{seed}"] * (seeds > 1)


def _refuse_other_settings(job: _Job, folder: Path) -> None:
    """Runs of one fine-tuning must not differ in more than seed and fold."""
    try:
        before = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{RUN_FILE} is missing or damaged; remove the folder to train anew.", source=str(folder)
        ) from error
    remedy = "Give the same settings to go on, or another --output-dir."
    refuse_other_settings(folder, before, job.settings, remedy=remedy, error=CheckpointError)


def _run(
    job: _Job, division: Division, seed: int, folder: Path
) -> tuple[pd.DataFrame, dict[str, Any], FinetuneTrainer]:
    """Train once and save the model; return all predictions, how weights and trees were chosen, and the trainer."""
    arguments, rows, parts = job.arguments, job.rows, division.parts
    set_seed(seed)
    training = copy.copy(job.training)
    training.output_dir, training.seed = str(folder), seed
    config = copy.deepcopy(job.config)
    train = rows.take(parts["train"])
    set_scales(arguments, config, job.targets, train)
    validation = rows.take(parts["validation"]) if "validation" in parts else None
    trainer = FinetuneTrainer(arguments, training, build_model(arguments, config), job.tokenizer, train, validation)
    vectors: NDArray[np.float64] = np.zeros((len(rows), 0))
    if arguments.method == "finetune":
        trainer.fit()
    else:
        vectors = frozen_vectors(trainer.model, job.tokenizer, rows.input_ids)
        fit_linear_head(arguments, trainer.model, vectors[parts["train"]], train)
    predictions = {part: trainer.predict_rows(rows.take(numbers)) for part, numbers in parts.items()}
    saves = bool(trainer.is_world_process_zero())
    trainer.save_result()
    if saves:
        (folder / METRICS_FILE).unlink(missing_ok=True)  # those of older weights
    beside: dict[str, dict[str, NDArray[np.float64]]] = {}
    choices: dict[str, Any] = {"selection": trainer.selection, "trees": {}, "auto": {}}
    if saves and arguments.baselines:
        beside["trees"], choices["trees"] = tree_baseline(arguments, rows, job.targets, parts)
    if saves and arguments.method == "auto":
        given = arguments, rows, job.targets, parts, vectors, choices["trees"], seed
        beside["auto"], choices["auto"] = few_label_baseline(*given)
    return prediction_frame(rows, job.targets, parts, predictions, beside, division.fold), choices, trainer


def _write_results(
    job: _Job,
    folder: Path,
    frame: pd.DataFrame,
    metrics: dict[str, Any],
    run: dict[str, Any],
    seed: int | None = None,
    fold: int | None = None,
) -> None:
    """Write everything beside the weights; `METRICS_FILE` last, which says that the run is finished."""
    write_table(frame, folder / PREDICTIONS_FILE)
    panels = [Parity(target.name, target.unit, parity_parts(frame, target)) for target in job.targets]
    plot_parity(panels, str(folder / PARITY_FILE))
    run |= {"seed": job.training.seed if seed is None else seed, "fold": fold, "settings": job.settings}
    run["command"] = command_line(job.arguments, job.training)
    write_json(run, folder / RUN_FILE, indent=2)
    write_json(metrics, folder / METRICS_FILE, indent=2)
    if (folder / "config.json").is_file():
        _describe(job, folder)


def _describe(job: _Job, folder: Path) -> None:
    """Record what the weights were trained on, and write the model card."""
    arguments = job.arguments
    licences = arguments.data_license, arguments.license
    record_training_data(folder, "fine-tuning", [arguments.data], len(job.rows), *licences, model=arguments.checkpoint)
    write_card(folder)


def _copy_model(source: Path, folder: Path) -> None:
    """Put the model of the first seed where a single run would have put it, file by file."""
    results = {PREDICTIONS_FILE, PARITY_FILE, RUN_FILE, METRICS_FILE, "README.md"}
    for path in sorted(source.iterdir()):
        if path.is_file() and path.name not in results:
            with new_file(folder / path.name, error=CheckpointError) as aside:
                shutil.copyfile(path, aside)


def _report(
    job: _Job, metrics: dict[str, Any], choices: dict[str, Any], skipped: pd.DataFrame, folder: Path, divisions: int
) -> str:
    lines = [error_table(metrics), ""]
    if divisions * job.arguments.seeds == 1:
        choices = {what: {"": chosen} for what, chosen in choices.items()}
    lines += choice_lines(choices["trees"], "Trees", job.targets)
    lines += choice_lines(choices["auto"], "Auto", job.targets)
    if job.arguments.method == "auto":
        lines.append(
            "The folder predicts with the linear head. Gaussian processes and trees are not saved: where auto chose "
            f"them, their predictions stand in {PREDICTIONS_FILE} alone, as 'NAME auto (UNIT)'."
        )
    if job.arguments.early_stopping:
        chosen = "The weights are those of the best evaluation on the validation rows"
        if "validation" in metrics:
            chosen += ", so the validation figure flatters"
        honest = (
            "the test rows took no part in it."
            if {"test", "folds"} & metrics.keys()
            else "--folds or a test part gives an honest one."
        )
        lines.append(f"{chosen}; {honest}")
    if divisions > 1:
        lines.append(f"Each row is scored by a model that has not seen it; the {divisions} models: {folder}/fold_*.")
    if job.arguments.refit:
        until = " for all epochs, without early stopping" if job.arguments.early_stopping else ""
        lines.append(f"The model in {folder} was trained on all rows{until}; no row is left to score it on.")
    if job.arguments.seeds > 1:
        lines.append("Errors are means over the seeds, +- their standard deviation.")
    unlabelled = int((skipped["reason"] == "no label").sum())
    if len(skipped):
        failed = len(skipped) - unlabelled
        lines.append(f"Left out: {unlabelled} rows without a label, {failed} without a usable string ({SKIPPED_FILE}).")
    lines.append(f"{folder}: {METRICS_FILE}, {PREDICTIONS_FILE}, {PARITY_FILE}")
    lines.append(f"Again: {command_line(job.arguments, job.training)}")
    return "\n".join(lines)
