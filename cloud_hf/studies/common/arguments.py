"""What every study can be told."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from cloud_hf.data.kept_strings import Workers
from cloud_hf.errors import StudyError
from cloud_hf.models.configuration_cloud import TARGET_TRANSFORMS
from cloud_hf.scope import TIMEOUT
from cloud_hf.training.arguments import in_range

__all__ = ["LabelStudyArguments", "StudyArguments", "TrainingStudyArguments", "one_table"]


@dataclass
class StudyArguments:
    """Data and results of a study."""

    data: list[str] = field(metadata={"help": "Tables or folders that the study reads."})
    out: str = field(metadata={"help": "Folder for results.json, report.md and pictures; a study goes on in its own."})
    seed: int = field(default=0, metadata={"help": "Seed of every random choice."})
    encode_processes: int = field(default=1, metadata={"help": "Processes that encode crystals."})
    encode_timeout: float = field(
        default=TIMEOUT, metadata={"help": "Longest time for encoding one crystal, s; its row fails."}
    )

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        in_range("encode_processes", self.encode_processes, 1, 1000)
        in_range("encode_timeout", self.encode_timeout, 0.001, 1e6)
        in_range("seed", self.seed, 0, 2**31)
        if not self.data or not all(self.data):
            raise StudyError("--data names no table or folder.")
        if not self.out:
            raise StudyError("--out names no folder.")

    @property
    def workers(self) -> Workers:
        """What encodes crystals."""
        return Workers(self.encode_processes, self.encode_timeout)


@dataclass
class TrainingStudyArguments(StudyArguments):
    """Data, results and training of a study."""

    model: str = field(
        default="default",
        metadata={
            "help": "Encoder to fine-tune: 'default', the masked language model inside the package, which has seen "
            "strings but no label; 'scratch', the same architecture with random weights; a folder; or a Hub id. The "
            "model that predicts by default has learned labels of many crystals, so that no study begins with it."
        },
    )
    num_train_epochs: float = field(default=30.0, metadata={"help": "Passes over the training rows."})
    max_steps: int = field(default=-1, metadata={"help": "Steps of every training instead of epochs."})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Strings per step."})
    learning_rate: float = field(default=5e-4, metadata={"help": "Peak learning rate of AdamW."})
    weight_decay: float = field(default=0.01, metadata={"help": "Weight decay of AdamW."})
    head_layers: int = field(default=1, metadata={"help": "(linear, SiLU) layers of the head."})
    head_dropout: float = field(default=0.0, metadata={"help": "Dropout before the head."})
    bf16: bool | None = field(
        default=None,
        metadata={
            "help": "Compute in bfloat16 where that is exact enough; not given: on accelerators, as many "
            "CPUs are slower with it."
        },
    )
    baselines: bool = field(
        default=True, metadata={"help": "Train trees on the same rows too (pip install 'cloud-hf[baselines]')."}
    )

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        super().__post_init__()
        if self.bf16 is None:
            self.bf16 = torch.accelerator.is_available()
        in_range("num_train_epochs", self.num_train_epochs, 1e-3, 1e6)
        in_range("per_device_train_batch_size", self.per_device_train_batch_size, 1, 1e6)
        in_range("learning_rate", self.learning_rate, 1e-9, 1)
        in_range("weight_decay", self.weight_decay, 0, 10)
        in_range("head_layers", self.head_layers, 0, 16)
        in_range("head_dropout", self.head_dropout, 0, 0.99)


@dataclass
class LabelStudyArguments(TrainingStudyArguments):
    """One table, the label that is learned from it, and how."""

    target: str = field(default="", metadata={"help": "Label column and its unit, e.g. 'band_gap:eV'."})
    transform: str = field(
        default="standardise",
        metadata={"help": f"What the head learns of the label: {', '.join(map(repr, TARGET_TRANSFORMS))}."},
    )
    debye: bool = field(
        default=False, metadata={"help": "The labels are heat capacities at 300 K, learned through the Debye model."}
    )
    per_cell: bool = field(default=False, metadata={"help": "The labels are of primitive cells, not per atom."})

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        super().__post_init__()
        one_table(self.data)
        if self.transform not in TARGET_TRANSFORMS:
            raise StudyError(f"--transform {self.transform}: choose from {', '.join(TARGET_TRANSFORMS)}.")


def one_table(data: Sequence[str]) -> Path:
    """Return the one table that `--data` names.

    Raises:
        StudyError: It names several.
    """
    if len(data) != 1:
        raise StudyError(f"The study reads one table, but --data names {len(data)}: {', '.join(data)}.")
    return Path(data[0])
