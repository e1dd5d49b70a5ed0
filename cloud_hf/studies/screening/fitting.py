"""One fine-tuning for all families, on every crystal that is in none of them; it goes on where it was stopped."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import set_seed
from transformers.trainer_utils import SaveStrategy

from cloud_hf.checkpoints.reading import loading
from cloud_hf.checkpoints.registration import AutoTokenizer
from cloud_hf.errors import StudyError
from cloud_hf.studies.common.arguments import TrainingStudyArguments
from cloud_hf.studies.common.crystals import Crystals
from cloud_hf.studies.common.fitting import encoder_folder, training_rows
from cloud_hf.studies.screening.rows import BULK, UNITS
from cloud_hf.training.arguments import CloudTrainingArguments
from cloud_hf.training.finetune_arguments import FinetuneArguments
from cloud_hf.training.finetune_heads import build_model, head_config, set_scales
from cloud_hf.training.finetune_rows import Rows, parse_targets
from cloud_hf.training.finetune_trainer import FinetuneTrainer

__all__ = ["fitted_predictions"]

SAVE_STEPS = 250


def fitted_predictions(
    arguments: TrainingStudyArguments, crystals: Crystals, others: Crystals, folder: Path
) -> NDArray[np.float64]:
    """Fine-tune one head for each quantity, and predict other crystals.

    Args:
        arguments: Which encoder, and how to train.
        crystals: What to learn from; a label that is missing is NaN.
        others: What to predict.
        folder: For the checkpoints of the run.

    Returns:
        Shape (len(others), len(crystals.labels)), columns in the order of the labels.

    Raises:
        StudyError: There is nothing to learn from.
        CheckpointError: The encoder cannot be used, or the training diverged.
    """
    names = list(crystals.labels)
    if not len(crystals):
        raise StudyError("no row is left to train on.")
    encoder = str(encoder_folder(arguments.model, arguments.seed))
    settings = FinetuneArguments(
        model=encoder, data="the rows of no family", target=[f"{name}:{UNITS[name]}" for name in names],
        transform=["log" if name == BULK else "standardise" for name in names], baselines=False,
        head_layers=arguments.head_layers, head_dropout=arguments.head_dropout,
    )  # fmt: skip
    targets = parse_targets(settings)
    config = head_config(settings, targets)
    with loading(encoder):
        tokenizer: Any = AutoTokenizer.from_pretrained(encoder)
    rows = _rows(crystals, tokenizer)
    set_seed(arguments.seed)
    set_scales(settings, config, targets, rows)
    training = CloudTrainingArguments(
        output_dir=str(folder), num_train_epochs=arguments.num_train_epochs, max_steps=arguments.max_steps,
        per_device_train_batch_size=arguments.per_device_train_batch_size, learning_rate=arguments.learning_rate,
        weight_decay=arguments.weight_decay, seed=arguments.seed, bf16=bool(arguments.bf16), logging_steps=50,
        save_strategy=SaveStrategy.STEPS, save_steps=SAVE_STEPS, save_total_limit=1, resume_from_checkpoint="true",
    )  # fmt: skip
    trainer = FinetuneTrainer(settings, training, build_model(settings, config), tokenizer, rows, None)
    trainer.fit()
    return trainer.predict_rows(_rows(others, tokenizer, len(names)))


def _rows(crystals: Crystals, tokenizer: Any, n_labels: int | None = None) -> Rows:
    labels = [*crystals.labels.values()] if n_labels is None else [np.full(len(crystals), np.nan)] * n_labels
    return training_rows(crystals, np.stack(labels, axis=1), tokenizer)
