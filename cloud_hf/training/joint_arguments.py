"""What `cloud-hf joint` can be told, beside everything that `TrainingArguments` knows."""

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
