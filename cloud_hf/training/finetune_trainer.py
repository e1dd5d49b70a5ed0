"""`FinetuneTrainer`: one training of a head on some rows, its predictions in the units of the labels."""

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DataCollatorWithPadding, EarlyStoppingCallback, EvalPrediction
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from cloud_hf.errors import CheckpointError, CloudError
from cloud_hf.training.arguments import CloudTrainingArguments
from cloud_hf.training.finetune_arguments import FinetuneArguments
from cloud_hf.training.finetune_heads import add_lora
from cloud_hf.training.finetune_rows import Rows
from cloud_hf.training.layers import FreezeEncoder, parameter_groups
from cloud_hf.training.metrics import regression_metrics
from cloud_hf.training.trainer import CloudTrainer

__all__ = ["FinetuneTrainer"]


class FinetuneTrainer(CloudTrainer):
    """`CloudTrainer` of a property or Debye head.

    Args:
        arguments: How to train: freezing, learning rates by layer, low-rank updates, early stopping.
        training: Arguments of the run; a copy is used.
        model: From `build_model`.
        tokenizer: Saved with the model.
        train: Rows to train on.
        validation: Rows to evaluate on, None without any.
    """

    def __init__(
        self,
        arguments: FinetuneArguments,
        training: CloudTrainingArguments,
        model: Any,
        tokenizer: Any,
        train: Rows,
        validation: Rows | None,
    ) -> None:
        self.arguments = arguments
        training = copy.copy(training)
        training.label_names = ["labels"]
        callbacks: list[Any] = []
        self._keeps_checkpoints = training.save_strategy != SaveStrategy.NO
        if arguments.early_stopping:
            _evaluate_for_stopping(training, keeps_checkpoints=self._keeps_checkpoints)
            callbacks.append(EarlyStoppingCallback(early_stopping_patience=arguments.early_stopping))
        self._lora = add_lora(model, arguments.lora_rank) if arguments.lora_rank else None
        if arguments.freeze_epochs:
            callbacks.append(FreezeEncoder(model, arguments.freeze_epochs))
        identity = {name: getattr(arguments, name) for name in ("layer_lr_decay", "freeze_epochs", "lora_rank")}
        super().__init__(
            model=model,
            args=training,
            data_collator=DataCollatorWithPadding(tokenizer),
            train_dataset=train.dataset(),
            eval_dataset=validation.dataset() if validation is not None else None,
            processing_class=tokenizer,
            compute_metrics=self._selection,
            callbacks=callbacks,
            identity=identity | {"training rows": train.digest},
        )

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Create the optimizer with a learning rate for each layer."""
        if self.arguments.layer_lr_decay == 1 or self.optimizer is not None:
            return super().create_optimizer(model)
        network: Any = self.model
        kind, settings = self.get_optimizer_cls_and_kwargs(self.args, network)
        if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)) or "params" in settings:
            raise CloudError(f"--layer-lr-decay does not go with --optim {self.args.optim}; use adamw_torch.")
        groups = parameter_groups(
            network,
            network.config.num_hidden_layers,
            self.args.learning_rate,
            self.arguments.layer_lr_decay,
            self.args.weight_decay,
            set(self.get_decay_parameter_names(network)),
        )
        self.optimizer = kind(groups, **settings)
        return self.optimizer

    def prediction_step(
        self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Any, Any, Any]:
        """Return loss, predictions and labels, the latter two of shape (batch, n_targets) in the labels' units."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
        predictions = outputs["logits"]
        if self.arguments.debye:
            predictions = torch.stack([outputs[quantity].view(-1) for quantity in self.arguments.debye], dim=1)
        labels = inputs["labels"].view(len(predictions), -1)
        return loss.detach().mean(), None if prediction_loss_only else predictions.float(), labels

    def _selection(self, output: EvalPrediction) -> dict[str, float]:
        """MAE:MAD of the labels that are there, averaged over the targets with their weights; what is selected by."""
        labels, predictions = (
            np.asarray(values, dtype=np.float64) for values in (output.label_ids, output.predictions)
        )
        if not np.isfinite(predictions).all():  # diverged
            return {"mae_mad": float("inf")}
        weights = self.arguments.weights or [1.0] * labels.shape[1]
        ratios = []
        for column in range(labels.shape[1]):
            present = ~np.isnan(labels[:, column])
            errors = regression_metrics(labels[present, column], predictions[present, column])
            ratios.append(np.nan if errors["mae"] is None else errors["mae"] / (errors["mad"] or 1.0))
        scored = ~np.isnan(ratios)
        if not scored.any():
            return {"mae_mad": float("inf")}
        return {"mae_mad": float(np.average(np.array(ratios)[scored], weights=np.array(weights)[scored]))}

    def fit(self) -> None:
        """Train, put the best weights back if early stopping looked for them, and merge low-rank updates."""
        self.train(resume_from_checkpoint=self.args.resume_from_checkpoint)
        if self._lora is not None:
            self._lora.merge_and_unload()
        if self.arguments.early_stopping and not self._keeps_checkpoints and self.is_world_process_zero():
            for folder in Path(self.args.output_dir or ".").glob("checkpoint-*"):
                shutil.rmtree(folder, ignore_errors=True)

    def predict_rows(self, rows: Rows) -> NDArray[np.float64]:
        """Predict, in the units of the labels.

        Returns:
            Shape (n, n_targets), in the order of `rows`.

        Raises:
            CheckpointError: Predictions are not finite.
        """
        by_length = np.argsort([-len(ids) for ids in rows.input_ids], kind="stable")
        output = self.predict(rows.take(by_length).dataset())
        sorted_predictions = np.asarray(output.predictions, dtype=np.float64).reshape(len(rows), -1)
        if not np.isfinite(sorted_predictions).all():
            raise CheckpointError("The training diverged: predictions are not finite. Lower --learning-rate.")
        predictions = np.empty_like(sorted_predictions)
        predictions[by_length] = sorted_predictions
        return predictions

    @property
    def selection(self) -> dict[str, Any] | None:
        """How early stopping chose the weights, None without it."""
        if not self.arguments.early_stopping:
            return None
        evaluations = [entry for entry in self.state.log_history if "eval_mae_mad" in entry]
        best = min(evaluations, key=lambda entry: entry["eval_mae_mad"], default={"epoch": None, "step": None})
        return {
            "by": "mae_mad of the validation rows",
            "evaluations": len(evaluations),
            "best_epoch": best["epoch"],
            "best_step": best["step"],
        }


def _evaluate_for_stopping(training: CloudTrainingArguments, keeps_checkpoints: bool) -> None:
    """Set the arguments that keeping the best weights depends on."""
    saves, evaluates = SaveStrategy(training.save_strategy).value, IntervalStrategy(training.eval_strategy).value
    if evaluates == "no":
        evaluates = saves if keeps_checkpoints else "epoch"
        training.eval_strategy = IntervalStrategy(evaluates)
        training.eval_steps = training.save_steps
    elif keeps_checkpoints and saves != evaluates:
        raise CloudError(
            f"--early-stopping keeps the weights of the best evaluation, so --save-strategy {saves} must be "
            f"--eval-strategy {evaluates}."
        )
    if not keeps_checkpoints:
        training.save_strategy = SaveStrategy(evaluates)
        training.save_steps = training.eval_steps or training.save_steps
        training.save_only_model = True
    training.save_total_limit = training.save_total_limit or 1
    training.load_best_model_at_end = True
    training.metric_for_best_model = "mae_mad"
    training.greater_is_better = False
