"""What `cloud-hf finetune` can be told, beside everything that `TrainingArguments` knows."""

from dataclasses import dataclass, field

from cloud_hf.errors import CloudError
from cloud_hf.training.arguments import in_range

__all__ = ["FinetuneArguments"]


@dataclass
class FinetuneArguments:
    """Data, target and head of a fine-tuning run."""

    model: str = field(metadata={"help": "Pre-trained checkpoint (folder or Hub id)."})
    data: str = field(metadata={"help": "Table with structure columns or a column 'scope', and the labels."})
    target: list[str] = field(
        metadata={"help": "Label columns with units, 'column:unit', e.g. 'band_gap:eV'. Several give several outputs."}
    )
    debye: str | None = field(
        default=None,
        metadata={
            "help": "Learn a Debye temperature from the target: 'heat_capacity' or 'internal_energy'.",
            "choices": ["heat_capacity", "internal_energy"],
        },
    )
    n_atoms: str | None = field(
        default=None, metadata={"help": "Column with atoms per cell of extensive Debye labels; none: labels per atom."}
    )
    temperature: float = field(default=300.0, metadata={"help": "Temperature of the Debye labels, K."})
    head_layers: int = field(default=1, metadata={"help": "(linear, SiLU) layers of the head."})
    head_dropout: float = field(default=0.1, metadata={"help": "Dropout before the head."})
    validation_fraction: float = field(default=0.2, metadata={"help": "Share of distinct strings kept back."})

    def __post_init__(self) -> None:
        """Refuse values that cannot be trained with."""
        in_range("head_layers", self.head_layers, 0, 16)
        in_range("head_dropout", self.head_dropout, 0, 0.99)
        in_range("validation_fraction", self.validation_fraction, 0, 0.99)
        in_range("temperature", self.temperature, 1 if self.debye == "heat_capacity" else 0, 1e6)
        if self.debye is None and self.n_atoms is not None:
            raise CloudError("--n_atoms belongs to the extensive labels of a Debye head; add --debye or leave it out.")
