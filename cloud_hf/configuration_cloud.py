"""Configuration of the CLOUD models. Flat: ships as Hub remote code."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import BertConfig

__all__ = ["AUTO_MAP", "CloudConfig"]

AUTO_MAP: dict[str, Any] = {
    "AutoConfig": "configuration_cloud.CloudConfig",
    "AutoModel": "modeling_cloud.CloudModel",
    "AutoModelForMaskedLM": "modeling_cloud.CloudForMaskedLM",
    "AutoTokenizer": ["tokenization_scope.ScopeTokenizer", None],
}
"""What a process without the package loads from a checkpoint's folder (`trust_remote_code=True`)."""


class RegisteredPipelines(dict[str, Any]):
    """A checkpoint's custom pipelines where the package has registered them: named, but their code is not asked for.

    `pipeline` would otherwise refuse to run the package's own class without `trust_remote_code=True`.
    """

    def __contains__(self, task: object) -> bool:
        return False


@strict
class CloudConfig(BertConfig):
    r"""Configuration of a CLOUD model: a BERT encoder over SCOPE strings, and what its head predicts.

    Encoder fields are those of `BertConfig`; only their defaults differ. The encoder settings say how the strings
    that the model reads were made. Targets are in physical units: `prediction = mean + scale * head output`, in
    float32 whatever the weights' dtype.

    Args:
        grammar: Grammar of the strings that the model reads: `composition`, `full` or `sites`.
        canonical: Whether the strings are in canonical order.
        symprec: Distance tolerance of the symmetry search, Å.
        angle_tolerance: Angle tolerance of the symmetry search, degrees.
        symmetry: Back-end of the symmetry search, `spglib` or `moyopy`.
        encoder_settings: All of this with the versions, as `ScopeEncoder.settings` writes it; None if unknown.
        target_names: Names of the predicted quantities, one per output.
        target_units: Their units, as many as names.
        target_mean: Mean of each target over its training labels, in its unit.
        target_scale: Scale of each target, in its unit; positive. For a Debye model the scale of its labels per atom.
        head_layers: Number of (linear, SiLU) layers between the [CLS] state and the output layer.
        head_dropout: Dropout on the [CLS] state before the head.
        theta_link: `exp`: ln(theta / K) = theta_shift + theta_scale * output; `linear` (published
            fine-tunes): theta / K = theta_shift + theta_scale * output.
        theta_shift: See `theta_link`.
        theta_scale: See `theta_link`.
        debye_target: What `CloudForDebye` learns from: `heat_capacity` or `internal_energy`.
    """

    model_type = "cloud"

    vocab_size: int = 585
    hidden_size: int = 256
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    intermediate_size: int = 1024
    max_position_embeddings: int = 256
    type_vocab_size: int = 1
    pad_token_id: int | None = 1
    use_cache: bool = False

    grammar: str = "composition"
    canonical: bool = False
    symprec: float = 0.01
    angle_tolerance: float = 5.0
    symmetry: str = "spglib"
    encoder_settings: str | None = None

    target_names: list[str] | None = None
    target_units: list[str] | None = None
    target_mean: list[float] | None = None
    target_scale: list[float] | None = None
    head_layers: int = 1
    head_dropout: float = 0.1

    theta_link: str = "exp"
    theta_shift: float = 5.8
    theta_scale: float = 0.5
    debye_target: str = "heat_capacity"

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        names = self.target_names
        if names is not None:
            self.problem_type = "regression"
            self.id2label = dict(enumerate(names))
            self.label2id = {name: index for index, name in enumerate(names)}
        pipelines = getattr(self, "custom_pipelines", None)
        if pipelines and __name__.startswith("cloud_hf."):
            self.custom_pipelines = RegisteredPipelines(pipelines)

    def validate_architecture(self) -> None:
        """Refuse values that cannot work together (called on construction)."""
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}."
            )
        if self.num_hidden_layers < 1 or self.head_layers < 0:
            raise ValueError("num_hidden_layers must be at least 1 and head_layers at least 0.")
        _one_of("symmetry", self.symmetry, ("spglib", "moyopy"))
        _one_of("grammar", self.grammar, ("composition", "full", "sites"))
        _one_of("theta_link", self.theta_link, ("exp", "linear"))
        _one_of("debye_target", self.debye_target, ("heat_capacity", "internal_energy"))
        if not self.theta_scale > 0:
            raise ValueError(f"theta_scale must be positive, not {self.theta_scale}.")
        names = self.target_names or []
        if len(set(names)) != len(names):
            raise ValueError(f"target_names are not distinct: {names}.")
        for field in ("target_units", "target_mean", "target_scale"):
            values = getattr(self, field)
            if values is not None and len(values) != len(names):
                raise ValueError(f"{field} has {len(values)} entries for {len(names)} target_names.")
        if any(not scale > 0 for scale in self.target_scale or []):
            raise ValueError(f"target_scale must be positive, not {self.target_scale}.")


def _one_of(field: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{field} must be one of {', '.join(allowed)}, not {value!r}.")
