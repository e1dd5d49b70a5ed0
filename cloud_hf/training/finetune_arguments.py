"""What `cloud-hf finetune` can be told, beside everything that `TrainingArguments` knows."""

import math
from dataclasses import dataclass, field, fields

from cloud_hf.checkpoints.bundled import bundled_model
from cloud_hf.errors import CloudError
from cloud_hf.scope import TIMEOUT
from cloud_hf.training.arguments import in_range

__all__ = ["DEBYE_QUANTITIES", "LOSSES", "METHODS", "PER_ATOM", "TRANSFORMS", "FinetuneArguments"]

DEBYE_QUANTITIES = ("heat_capacity", "internal_energy")
TRANSFORMS = ("standardise", "log", "per_atom", "log_per_atom")
PER_ATOM = ("per_atom", "log_per_atom")
LOSSES = ("l1", "huber", "mse")
METHODS = ("finetune", "features", "auto")


@dataclass
class FinetuneArguments:
    """Data, targets, head and evaluation of a fine-tuning run."""

    model: str = field(
        metadata={"help": "Pre-trained checkpoint: a folder, a Hub id, or 'default' for the one inside the package."}
    )
    data: str = field(
        metadata={"help": "Table with crystals or a column 'scope', and the labels (.csv, .jsonl, .parquet)."}
    )
    target: list[str] = field(
        metadata={"help": "Label columns with units, 'column:unit', e.g. 'band_gap:eV'. Several give several outputs."}
    )
    structure: str | None = field(
        default=None,
        metadata={
            "help": "Column of crystals: paths of CIF or POSCAR files (relative to the table), CIF text, pymatgen "
            "JSON, or SCOPE strings. Without it: the columns lattice, numbers and frac_coords, or a column 'scope'."
        },
    )
    skip_failed: bool = field(
        default=False, metadata={"help": "Leave rows without a usable string out, instead of stopping at them."}
    )
    encode_processes: int = field(default=1, metadata={"help": "Processes that encode the crystals."})
    encode_timeout: float = field(
        default=TIMEOUT, metadata={"help": "Longest time for encoding one crystal, s; its row fails."}
    )
    debye: list[str] | None = field(
        default=None,
        metadata={
            "help": "Learn a Debye temperature from the targets: which quantity each of them is, in the same order.",
            "choices": list(DEBYE_QUANTITIES),
        },
    )
    second_branch: str = field(
        default="none",
        metadata={
            "help": "Vibrations beside the Debye model's, for light atoms in stiff groups.",
            "choices": ["none", "einstein", "debye"],
        },
    )
    pooling: str | None = field(
        default=None,
        metadata={
            "help": "What the head reads: the [CLS] state, or beside it the mean over the sites; none: as the "
            "checkpoint says.",
            "choices": ["cls", "cls_multiplicity"],
        },
    )
    n_atoms: str | None = field(
        default=None,
        metadata={"help": "Column with atoms per cell of labels per cell (Debye, per_atom); none: labels per atom."},
    )
    temperature: str = field(
        default="300.0", metadata={"help": "Temperature of the Debye labels, K: a number or the name of a column."}
    )
    transform: list[str] | None = field(
        default=None,
        metadata={
            "help": "What the head learns of each target (one for all, or one a target): the standardised value, its "
            "logarithm, or these per atom of the cell (needs --n-atoms).",
            "choices": list(TRANSFORMS),
        },
    )
    method: str = field(
        default="finetune",
        metadata={
            "help": "finetune: train encoder and head; features: leave the encoder as it is, and fit a linear head to "
            "its vectors (seconds, for few labels); auto: the same, and beside it the best of linear head, Gaussian "
            "process, trees and means of them, chosen by an inner validation (needs scikit-learn).",
            "choices": list(METHODS),
        },
    )
    loss: str = field(
        default="l1", metadata={"help": "Loss on the standardised, transformed targets.", "choices": list(LOSSES)}
    )
    target_weights: list[float] | None = field(
        default=None, metadata={"help": "Weight of each target in the loss; none: 1."}
    )
    head_layers: int = field(default=1, metadata={"help": "(linear, SiLU) layers of the head."})
    head_dropout: float = field(default=0.1, metadata={"help": "Dropout before the head."})
    layer_lr_decay: float = field(
        default=1.0,
        metadata={
            "help": "Learning rate of each layer over that of the layer above it: the head has --learning-rate, the "
            "last layer of the encoder this share of it, and so on down to the embeddings."
        },
    )
    freeze_epochs: float = field(
        default=0.0, metadata={"help": "Epochs at the beginning in which the head alone is trained."}
    )
    lora_rank: int | None = field(
        default=None,
        metadata={
            "help": "Train low-rank updates of the encoder's linear layers instead of the layers (pip install "
            "'cloud-hf[lora]'); they are merged into the weights that are saved."
        },
    )
    validation_fraction: float = field(
        default=0.2,
        metadata={
            "help": "Share of distinct strings kept back from training. With --folds or --split it is taken from the "
            "training rows, and only for --early-stopping."
        },
    )
    split: str | None = field(
        default=None,
        metadata={"help": "Column that says train, validation or test of each row, or gives the number of its fold."},
    )
    folds: int | None = field(
        default=None,
        metadata={"help": "Number of folds; a model for each, scored on strings that it has not seen."},
    )
    refit: bool = field(
        default=False,
        metadata={
            "help": "After the folds, train once more on all rows, with --seed, for the epochs as given (no early "
            "stopping), and save this model in the output folder, with the folds' errors."
        },
    )
    early_stopping: int | None = field(
        default=None,
        metadata={
            "help": "Stop after this many evaluations on the validation rows without a better one, and keep the "
            "weights of the best (one evaluation an epoch unless --eval-strategy says otherwise)."
        },
    )
    seeds: int = field(
        default=1, metadata={"help": "Repeat with this many seeds, from --seed on, and give mean and spread."}
    )
    baselines: bool = field(
        default=True, metadata={"help": "Score trees on composition and symmetry too (needs scikit-learn)."}
    )
    data_license: str | None = field(
        default=None, metadata={"help": "Licence of the labelled data, for the model card."}
    )
    license: str | None = field(default=None, metadata={"help": "Licence of the weights, for the model card."})

    def __post_init__(self) -> None:
        """Refuse values that cannot be trained with."""
        in_range("head_layers", self.head_layers, 0, 16)
        in_range("head_dropout", self.head_dropout, 0, 0.99)
        in_range("validation_fraction", self.validation_fraction, 0, 0.99)
        in_range("layer_lr_decay", self.layer_lr_decay, 0.01, 1)
        in_range("freeze_epochs", self.freeze_epochs, 0, 1e6)
        in_range("seeds", self.seeds, 1, 1000)
        in_range("encode_processes", self.encode_processes, 1, 1000)
        in_range("encode_timeout", self.encode_timeout, 0.001, 1e6)
        for name, lowest in (("lora_rank", 1), ("early_stopping", 1), ("folds", 2)):
            value = getattr(self, name)
            if value is not None:
                in_range(name, value, lowest, 1e6)
        self.temperature = str(self.temperature)
        kelvin = self.fixed_temperature
        if kelvin is not None:
            in_range("temperature", kelvin, 1 if "heat_capacity" in (self.debye or ()) else 0, 1e6)
        if self.method != "finetune":
            self._refuse_training()
        if self.split is not None and self.folds is not None:
            raise CloudError("--split and --folds both decide who is scored on what; give one of them.")
        if self.refit and self.split is None and self.folds is None:
            raise CloudError("--refit follows folds; add --folds, or --split with a column of folds.")
        if self.debye and self.transform:
            raise CloudError("--transform does not go with --debye, whose head learns a Debye temperature.")
        if self.second_branch != "none" and not self.debye:
            raise CloudError("--second-branch is a part of the Debye model; add --debye.")
        for name in ("transform", "target_weights"):
            values = getattr(self, name)
            if values is not None and len(values) not in (1, len(self.target)):
                flag = name.replace("_", "-")
                raise CloudError(f"--{flag} has {len(values)} values for {len(self.target)} targets; give one or all.")
        if any(not 0 < weight < math.inf for weight in self.target_weights or ()):
            raise CloudError("--target-weights must be positive numbers.")
        per_atom = any(transform in PER_ATOM for transform in self.transforms)
        if per_atom and self.n_atoms is None:
            raise CloudError("--transform per_atom needs the atoms per cell: name their column with --n-atoms.")
        if self.n_atoms is not None and not (per_atom or self.debye):
            raise CloudError("--n-atoms belongs to labels per cell; add --debye or --transform per_atom.")

    def _refuse_training(self) -> None:
        """A linear head on vectors is fitted in one step; what says how to train means nothing to it."""
        standard = {entry.name: entry.default for entry in fields(self)}
        for name in ("head_layers", "layer_lr_decay", "freeze_epochs", "lora_rank", "early_stopping", "loss",
                     "target_weights", "second_branch"):  # fmt: skip
            if getattr(self, name) != standard[name]:
                flag = name.replace("_", "-")
                raise CloudError(f"--{flag} belongs to --method finetune; --method {self.method} trains no encoder.")
        if self.debye and tuple(self.debye) != ("heat_capacity",):
            raise CloudError(f"--method {self.method} learns a Debye temperature from one heat capacity only.")
        if self.debye and self.fixed_temperature is None:
            raise CloudError(f"--method {self.method} needs heat capacities of one --temperature, a number.")
        if self.method == "auto" and not self.baselines:
            raise CloudError("--method auto compares with trees; leave --no-baselines out.")

    @property
    def checkpoint(self) -> str:
        """Folder or Hub id that `model` stands for."""
        return bundled_model() if self.model == "default" else self.model

    @property
    def fixed_temperature(self) -> float | None:
        """Temperature of all labels in K, None if a column gives it."""
        try:
            return float(self.temperature)
        except ValueError:
            return None

    @property
    def transforms(self) -> list[str]:
        """Transform of each target."""
        given = self.transform or ["standardise"]
        return given * len(self.target) if len(given) == 1 else given

    @property
    def weights(self) -> list[float] | None:
        """Weight of each target in the loss, None if all are equal."""
        given = self.target_weights
        return given * len(self.target) if given and len(given) == 1 else given
