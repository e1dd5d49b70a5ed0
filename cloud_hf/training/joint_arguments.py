"""What `cloud-hf joint` can be told, beside everything that `TrainingArguments` knows."""

import math
from dataclasses import dataclass, field

from cloud_hf.errors import CloudError
from cloud_hf.training.arguments import in_range

__all__ = ["JointArguments"]


@dataclass
class JointArguments:
    """Train one model of all heads on the labels of many tables, each crystal with those that it has."""

    recipe: str = field(metadata={"help": "YAML file: which column of which table is a label of what."})
    data: str = field(metadata={"help": "Folder of the tables."})
    split: str = field(metadata={"help": "Folder that `cloud-hf split` wrote of all of them."})
    model: str = field(metadata={"help": "Checkpoint whose encoder, and heads of the same name, training begins with."})
    fold: int | None = field(
        default=None, metadata={"help": "Fold to keep back and to be scored on, instead of the validation part."}
    )
    all_rows: bool = field(default=False, metadata={"help": "Train on all rows; nothing is scored."})
    repeat_vibrations: int = field(
        default=1, metadata={"help": "How often rows with vibrational labels come in an epoch."}
    )
    repeat_elements: int = field(
        default=1,
        metadata={"help": "How often crystals of a single element come in an epoch."},
    )
    target_weights: list[str] = field(
        default_factory=list,
        metadata={"help": "Weights in the loss in place of the recipe's, by target, e.g. band_gap=2 bulk_modulus=0.5."},
    )
    dropout: float | None = field(
        default=None, metadata={"help": "Dropout of the encoder; not given: that of the checkpoint."}
    )
    head_layers: int = field(default=1, metadata={"help": "Hidden layers of the head."})
    head_dropout: float = field(default=0.0, metadata={"help": "Dropout before the head."})
    data_license: str | None = field(default=None, metadata={"help": "Licence of the labels, for the model card."})
    license: str | None = field(default=None, metadata={"help": "Licence of the weights, for the model card."})

    def __post_init__(self) -> None:
        """Refuse values that cannot be trained with."""
        in_range("repeat_vibrations", self.repeat_vibrations, 1, 100)
        in_range("repeat_elements", self.repeat_elements, 1, 100)
        in_range("head_dropout", self.head_dropout, 0, 0.99)
        if self.dropout is not None:
            in_range("dropout", self.dropout, 0, 0.99)
        if self.all_rows and self.fold is not None:
            raise CloudError("Give either --fold or --all-rows: a fold is kept back.")
        _ = self.weights

    @property
    def weights(self) -> dict[str, float]:
        """Weights in the loss by target, of those that do not keep the recipe's.

        Raises:
            CloudError: An entry is not NAME=WEIGHT with a weight from 0 on, or a name comes twice.
        """
        weights: dict[str, float] = {}
        for entry in self.target_weights:
            name, _, text = entry.rpartition("=")
            try:
                weight = float(text)
            except ValueError:
                weight = math.nan
            if not name or name in weights or not 0 <= weight < math.inf:
                raise CloudError(f"--target-weights takes NAME=WEIGHT, each name once, e.g. band_gap=2; not {entry!r}.")
            weights[name] = weight
        return weights
