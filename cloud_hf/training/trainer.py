"""`CloudTrainer`: the HF `Trainer` with length buckets that resume exactly and results without pickles."""

from pathlib import Path
from typing import Any, cast

from transformers import Trainer

from cloud_hf.data.samplers import LengthBucketSampler

__all__ = ["CloudTrainer"]


class CloudTrainer(Trainer):
    """`Trainer` for short strings; `train_sampling_strategy="group_by_length"` uses `LengthBucketSampler`."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        dataset: Any = train_dataset if train_dataset is not None else self.train_dataset
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        batch_size = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return LengthBucketSampler(
            [len(ids) for ids in dataset["input_ids"]], batch_size, self.args.data_seed or self.args.seed
        )

    def save_result(self) -> None:
        """Save model and tokenizer in the output folder, without the pickle of the training arguments."""
        model, tokenizer = self.accelerator.unwrap_model(self.model), cast(Any, self.processing_class)
        if tokenizer is not None:
            tokenizer.encoder_settings = model.config.encoder_settings
        self.save_model()
        if self.is_world_process_zero():
            Path(self.args.output_dir or ".", "training_args.bin").unlink(missing_ok=True)
