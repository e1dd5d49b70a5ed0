"""`CloudTrainer`: the HF `Trainer` with length buckets, checkpoints that are whole, and runs that resume exactly."""

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
from safetensors import SafetensorError
from torch.utils.data import SequentialSampler
from transformers import TrainerCallback
from transformers.trainer_utils import rotate_checkpoints
from transformers.utils import logging

from cloud_hf.checkpoints.cards import CARD_FILE, is_generated
from cloud_hf.errors import CheckpointError, first_line
from cloud_hf.files import replace_path
from cloud_hf.training.arguments import transformers_checks
from cloud_hf.training.checkpointing import check_same_run, newest_checkpoint, run_settings, write_run
from cloud_hf.training.corpus_shards import CorpusRows, ShardSampler
from cloud_hf.training.publishing import PublishingTrainer
from cloud_hf.training.samplers import LengthBucketSampler

logger = logging.get_logger(__name__)

__all__ = ["CloudTrainer"]

ASIDE = ".incomplete"
"""Folder inside the output folder in which checkpoints and results are written before they are renamed."""


class _Epochs(TrainerCallback):
    """Tell the sampler and the collator the epoch, on which order and masks depend.

    Accelerate tells samplers too, but does not reach one below the wrappers of a resumed run with several processes.
    """

    def __init__(self, collator: Any) -> None:
        self.collator = collator

    def on_epoch_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **kwargs: Any) -> None:
        epoch = int(state.epoch or 0)
        if hasattr(self.collator, "epoch"):
            self.collator.epoch = epoch
        wrapper = getattr(train_dataloader, "batch_sampler", None)
        while wrapper is not None:
            sampler: Any = getattr(wrapper, "sampler", None)
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)
            wrapper = getattr(wrapper, "batch_sampler", None)


@contextmanager
def _matmul_precision(precision: str, device: str) -> Iterator[None]:
    """Set the precision of float32 matrix products; below 'highest' attention on a CPU is made of such products too.

    torch's fused attention on CPUs calls the reduced products for blocks so small that it takes four times as long.
    """
    before = torch.get_float32_matmul_precision(), torch.backends.cuda.flash_sdp_enabled()
    torch.set_float32_matmul_precision(precision)
    if device == "cpu" and precision != "highest":
        torch.backends.cuda.enable_flash_sdp(False)  # of every device, whatever its name says
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cuda.enable_flash_sdp(before[1])


class CloudTrainer(PublishingTrainer):
    """`Trainer` for short strings; `train_sampling_strategy="group_by_length"` uses `LengthBucketSampler`.

    A checkpoint is written aside and renamed, so that whatever ends a run leaves whole checkpoints only; it holds the
    settings of the run, and a run with others is not resumed from it.

    Args:
        *args: For `Trainer`.
        identity: What decides the result of the run beside training arguments and model config, by name.
        **kwargs: For `Trainer`.
    """

    def __init__(self, *args: Any, identity: dict[str, Any] | None = None, **kwargs: Any) -> None:
        with transformers_checks():
            super().__init__(*args, **kwargs)
        self.add_callback(_Epochs(self.data_collator))
        self._identity = identity or {}
        self._aside: Path | None = None
        self._flops_per_token: int | None = None

    @property
    def _folder(self) -> Path:
        return Path(self.args.output_dir or ".")

    def create_optimizer_and_scheduler(self, num_training_steps: int) -> None:
        """Create both, by what the training arguments say."""
        with transformers_checks():
            super().create_optimizer_and_scheduler(num_training_steps)

    # ---- data

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        dataset: Any = train_dataset if train_dataset is not None else self.train_dataset
        if isinstance(dataset, CorpusRows):
            return ShardSampler(
                dataset,
                self.args.train_batch_size,
                self.args.world_size,
                self.args.seed if self.args.data_seed is None else self.args.data_seed,
                by_length=self.args.train_sampling_strategy == "group_by_length",
            )
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        lengths = getattr(dataset, "lengths", None)
        if lengths is None:
            lengths = [len(ids) for ids in dataset["input_ids"]]
        together = self.args.train_batch_size * self.args.world_size
        has_filler = len(getattr(dataset, "filler", ())) > 0
        return LengthBucketSampler(
            lengths,
            together * self.args.gradient_accumulation_steps,
            self.args.seed if self.args.data_seed is None else self.args.data_seed,
            multiple_of=together if has_filler and self.args.world_size > 1 else 1,
        )

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        return SequentialSampler(eval_dataset) if self.args.world_size <= 1 else None

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Count the operations of a training step as `Trainer` does, but walk through the parameters only once."""
        ids = inputs.get("input_ids")
        if ids is None:
            return super().floating_point_ops(inputs)
        if self._flops_per_token is None:
            self._flops_per_token = super().floating_point_ops({"input_ids": ids.new_empty(1)})
        return cast(int, self._flops_per_token * ids.numel())

    # ---- exactness

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """Train; see `Trainer.train`.

        Args:
            resume_from_checkpoint: Folder of a checkpoint; True (or "true"): the newest whole one in the output folder,
                and a new run, with a warning, if there is none.
            **kwargs: For `Trainer.train`.

        Raises:
            CheckpointError: The checkpoint is not whole or of a run with other settings, or one cannot be written.
        """
        folder = self._checkpoint_to_resume(resume_from_checkpoint)
        if folder is not None:
            check_same_run(folder, self._settings())
        with _matmul_precision(getattr(self.args, "matmul_precision", "highest"), self.args.device.type):
            return super().train(resume_from_checkpoint=str(folder) if folder else None, **kwargs)

    def _checkpoint_to_resume(self, wanted: str | bool | None) -> Path | None:
        if wanted is None or str(wanted).lower() in ("false", ""):
            return None
        if str(wanted).lower() != "true":
            return Path(str(wanted))
        newest: list[Path | None] = [newest_checkpoint(self._folder) if self.is_world_process_zero() else None]
        if dist.is_available() and dist.is_initialized():
            dist.broadcast_object_list(newest)
        if newest[0] is None:
            logger.warning(f"There is no whole checkpoint in {self._folder}: the run starts from the beginning.")
        return newest[0]

    def _settings(self) -> dict[str, Any]:
        return run_settings(self.args, self.accelerator.unwrap_model(self.model).config, self._identity)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate; see `Trainer.evaluate`. The random state of training stays as it was."""
        python, numpy_state = random.getstate(), np.random.get_state()
        devices = [self.args.device] if self.args.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            metrics = super().evaluate(*args, **kwargs)
        random.setstate(python)
        np.random.set_state(numpy_state)
        return metrics

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        """Wrap the model, with word embeddings and MLM head in one group of FSDP: they share weight and bias.

        Accelerate puts embedding and output layer in a group of their own, which tears the shared bias from the head.
        It asks the model for them, and no setting keeps it from that; so for this call the model has neither.
        """
        model: Any = self.model
        hidden = ("get_input_embeddings", "get_output_embeddings") if self.is_fsdp_enabled else ()
        for name in hidden:
            setattr(model, name, lambda: None)
        try:
            return super()._prepare_for_training(*args, **kwargs)
        finally:
            for name in hidden:
                delattr(model, name)

    # ---- what is written

    def _get_output_dir(self, trial: Any) -> str:
        return super()._get_output_dir(trial) if self._aside is None else str(self._aside)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint aside, with the settings of the run as its last file, then rename it."""
        folder = Path(super()._get_output_dir(trial))
        name = f"checkpoint-{self.state.global_step}"
        with self._written_aside(folder, f"the checkpoint of step {self.state.global_step}"):
            super()._save_checkpoint(model, trial)
            self._wait()
            written = folder / ASIDE / name
            is_best = self.state.best_model_checkpoint == str(written)
            if is_best:  # in every process, for each of them may load it in the end
                self.state.best_model_checkpoint = str(folder / name)
            if self.args.should_save:
                if is_best:
                    self.state.save_to_json(str(written / "trainer_state.json"))
                write_run(written, self._settings())
            self._wait()
            if self.is_local_process_zero():
                _take_name(written, folder / name)
            self._wait()
        if self.args.push_to_hub:
            super()._push_from_checkpoint(str(folder / name))
        if self.args.should_save:
            rotate_checkpoints(
                output_dir=str(folder),
                save_total_limit=self.args.save_total_limit,
                best_model_checkpoint=self.state.best_model_checkpoint,
                use_mtime=True,
            )

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self._aside is None:
            super()._push_from_checkpoint(checkpoint_folder)

    @contextmanager
    def _written_aside(self, folder: Path, what: str) -> Iterator[None]:
        """Have `_get_output_dir` name an empty folder beside the checkpoints; it is removed in the end."""
        aside = folder / ASIDE
        if self.is_local_process_zero():
            shutil.rmtree(aside, ignore_errors=True)
        self._wait()
        self._aside = aside
        try:
            yield
        except (OSError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(
                f"{what} cannot be written ({first_line(error)}). What was saved before is whole. Make room, then go "
                "on with --resume-from-checkpoint true.",
                source=str(folder),
            ) from error
        finally:
            self._aside = None
            if self.is_local_process_zero():
                shutil.rmtree(aside, ignore_errors=True)

    def save_result(self) -> None:
        """Save model and tokenizer in the output folder: aside first, then file by file renamed.

        A card that a user wrote stays. `publish` pushes the folder, once the errors lie beside the weights.

        Raises:
            CheckpointError: It cannot be written.
        """
        model, tokenizer = self.accelerator.unwrap_model(self.model), cast(Any, self.processing_class)
        if tokenizer is not None:
            tokenizer.encoder_settings = model.config.encoder_settings
        if self.is_fsdp_enabled:  # gathers the shards in one safetensors file
            self.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
        with self._written_aside(self._folder, "the result"):
            self.save_model(str(self._folder / ASIDE), _internal_call=True)
            self._wait()
            if self.args.should_save:
                card = self._folder / CARD_FILE
                keep = card.is_file() and not is_generated(card.read_text(encoding="utf-8"))
                for path in sorted((self._folder / ASIDE).iterdir()):
                    if not (keep and path.name == CARD_FILE):
                        _take_name(path, self._folder / path.name)
            self._wait()

    def _wait(self) -> None:
        self.accelerator.wait_for_everyone()


def _take_name(written: Path, target: Path) -> None:
    """Rename a file or folder, unless another node has done it already."""
    if written.exists():
        replace_path(written, target)
