"""What `cloud-hf pretrain` and `cloud-hf finetune` can be told, beside everything that `TrainingArguments` knows."""

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import TrainingArguments

from cloud_hf.errors import CloudError, one_line
from cloud_hf.scope.grammar import GRAMMARS
from cloud_hf.training.collators import MASKINGS

__all__ = ["CloudTrainingArguments", "PretrainArguments", "check_output_dir", "in_range", "transformers_checks"]

MATMUL_PRECISIONS = ("highest", "high", "medium")
"""What `torch.set_float32_matmul_precision` knows."""


@dataclass
class CloudTrainingArguments(TrainingArguments):
    """`TrainingArguments` with defaults that suit short strings and small models."""

    output_dir: str | None = field(default="runs/cloud", metadata={"help": "Folder for checkpoints and the result."})
    per_device_train_batch_size: int = field(default=64, metadata={"help": "Strings per step and process."})
    per_device_eval_batch_size: int = field(default=256, metadata={"help": "Strings per evaluation step."})
    learning_rate: float = field(default=5e-4, metadata={"help": "Peak learning rate of AdamW."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Learning-rate schedule."})
    warmup_steps: float = field(default=0.05, metadata={"help": "Warm-up steps; a number below 1 is a share."})
    weight_decay: float = field(default=0.01, metadata={"help": "Weight decay of AdamW."})
    train_sampling_strategy: str = field(
        default="group_by_length", metadata={"help": "Batches of strings of similar length waste less on padding."}
    )
    logging_steps: float = field(default=100, metadata={"help": "Steps from log entry to log entry."})
    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Leave steps whose loss is not finite out of the logged loss."}
    )
    save_strategy: str = field(
        default="no", metadata={"help": "When to write checkpoints besides the result: 'no', 'steps' or 'epoch'."}
    )
    resume_from_checkpoint: str | None = field(
        default=None,
        metadata={
            "help": "Go on from a checkpoint, as if the run had not stopped: a folder, or 'true' for the newest whole "
            "one in the output folder (none there: a new run). Its settings must be those of this run."
        },
    )
    report_to: str = field(default="none", metadata={"help": "Experiment tracker."})
    matmul_precision: str = field(
        default="highest",
        metadata={
            "help": "Precision inside float32 matrix products; with 'medium' processors that have bfloat16 products "
            "(AMX) train about a third faster.",
            "choices": list(MATMUL_PRECISIONS),
        },
    )

    def __post_init__(self) -> None:
        """Use the CPU where there is nothing else: without being told so, several processes would not join there."""
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        super().__post_init__()
        in_range("seed", self.seed, 0, 2**32 - 1)
        in_range("learning_rate", self.learning_rate, 0, math.inf)
        for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"):
            in_range(name, getattr(self, name), 1, math.inf)


@dataclass
class PretrainArguments:
    """Data and model of an MLM pre-training run."""

    data: list[str] = field(
        default_factory=list, metadata={"help": "Tables with a column 'scope' (.csv, .jsonl, .parquet)."}
    )
    corpus: str | None = field(
        default=None,
        metadata={"help": "Instead of --data: folder or Hub id of what `cloud-hf corpus build` made; it is streamed."},
    )
    exclude: list[str] = field(
        default_factory=list,
        metadata={"help": "Tables with a column 'hash': rows of the corpus to leave out (`cloud-hf corpus leakage`)."},
    )
    model: str | None = field(default=None, metadata={"help": "Checkpoint to continue from; none: a new model."})
    hidden_size: int = field(default=256, metadata={"help": "Width of a new model."})
    num_hidden_layers: int = field(default=4, metadata={"help": "Layers of a new model."})
    num_attention_heads: int = field(default=4, metadata={"help": "Attention heads of a new model."})
    dropout: float = field(default=0.1, metadata={"help": "Dropout of a new model."})
    max_position_embeddings: int = field(default=256, metadata={"help": "Longest string of a new model, in tokens."})
    element_descriptors: bool = field(
        default=False, metadata={"help": "A new model also reads 12 properties of each element."}
    )
    site_multiplicity: bool = field(
        default=False, metadata={"help": "A new model also reads the share of the atoms that each orbit has."}
    )
    pooling: str = field(
        default="cls",
        metadata={
            "help": "What property heads on a new model read: 'cls', or 'cls_multiplicity', beside it the mean of the "
            "element states, weighted by multiplicity.",
            "choices": ["cls", "cls_multiplicity"],
        },
    )
    mlm_probability: float = field(default=0.15, metadata={"help": "Share of masked words."})
    masking: str = field(
        default="token",
        metadata={
            "help": "'token': words at random; 'segment': some strings lose all generators, all Wyckoff words or all "
            "elements instead, so that the model learns each part from the others.",
            "choices": list(MASKINGS),
        },
    )
    segment_probability: float = field(
        default=0.3, metadata={"help": "Share of the strings that lose a whole part, with --masking segment."}
    )
    packing: bool = field(
        default=False,
        metadata={
            "help": "Put several strings in a row instead of padding; strings do not see each other. The batch size "
            "then counts rows."
        },
    )
    packing_length: int = field(default=256, metadata={"help": "Tokens of a packed row."})
    pad_to_multiple_of: int = field(
        default=1, metadata={"help": "Round the width of a batch up; 8 suits GPUs, more means fewer shapes to compile."}
    )
    grammar: str | None = field(
        default=None,
        metadata={
            "help": "Grammar that heads on this encoder will read; needed where the strings mix grammars.",
            "choices": list(GRAMMARS),
        },
    )
    validation_fraction: float = field(default=0.02, metadata={"help": "Share of distinct strings kept back."})
    data_license: str | None = field(default=None, metadata={"help": "Licence of the strings, for the model card."})
    license: str | None = field(default=None, metadata={"help": "Licence of the weights, for the model card."})

    def __post_init__(self) -> None:
        """Refuse values that cannot be trained with."""
        in_range("mlm_probability", self.mlm_probability, 0.01, 0.99)
        in_range("validation_fraction", self.validation_fraction, 0, 0.99)
        in_range("dropout", self.dropout, 0, 0.99)
        in_range("segment_probability", self.segment_probability, 0, 1)
        in_range("pad_to_multiple_of", self.pad_to_multiple_of, 1, 1e4)
        in_range("packing_length", self.packing_length, 8, 1e5)
        for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings"):
            in_range(name, getattr(self, name), 1, 1e6)
        if self.hidden_size % self.num_attention_heads:
            raise CloudError(
                f"--hidden-size {self.hidden_size} must be a multiple of --num-attention-heads "
                f"{self.num_attention_heads}."
            )

    def check_source(self) -> None:
        """Refuse arguments that do not say, or say twice, what to train on.

        Raises:
            CloudError: Both or none of `data` and `corpus`, or an exclusion list without a corpus.
        """
        if bool(self.data) == bool(self.corpus):
            raise CloudError("Give what to train on: either --data TABLE ... or --corpus FOLDER.")
        if self.exclude and not self.corpus:
            raise CloudError("--exclude leaves out rows of a --corpus; tables are split with `cloud-hf split`.")


def in_range(name: str, value: float, lowest: float, highest: float) -> None:
    """Refuse a value outside its range, by the name of its flag."""
    if not lowest <= value <= highest:
        flag = name.replace("_", "-")
        raise CloudError(f"--{flag} must be from {lowest:g} to {highest:g}, not {value:g}.")


@contextmanager
def transformers_checks() -> Iterator[None]:
    """Arguments that transformers refuses inside are a user's mistake, which ends in one line."""
    try:
        yield
    except CloudError:
        raise
    except ValueError as error:
        raise CloudError(one_line(error, None)) from error


def check_output_dir(training: CloudTrainingArguments) -> None:
    """Refuse a folder that cannot be written before anything is computed; folders made for the try are removed.

    Raises:
        CloudError: The path is a file, or the folder cannot be made or written.
    """
    if training.process_index:
        return
    folder = Path(training.output_dir or ".")
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        reason = "it is a file" if folder.is_file() else error.strerror
        raise CloudError(f"--output-dir {folder}: cannot be written ({reason}); give another folder.") from error
    finally:
        for path in made:
            with suppress(OSError):  # not made, or another process writes there already
                path.rmdir()
