"""Configuration of the CLOUD models. Flat: ships as Hub remote code."""

import math
from copy import deepcopy
from dataclasses import field, fields
from itertools import pairwise
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.utils import logging

from .chemistry_tables import VOCAB_SIZE
from .errors import CloudError
from .saving_cloud import PushedWithCard

__all__ = [
    "AUTO_MAP",
    "DEBYE_TARGETS",
    "MODELS_WITH_HEADS",
    "PUBLISHED_STRINGS",
    "TARGET_TRANSFORMS",
    "TASK",
    "CloudConfig",
]

MODELS_WITH_HEADS = ("CloudForPropertyRegression", "CloudForDebye", "CloudForCrystalProperties")
"""Names of the classes that predict properties."""

AUTO_MAP: dict[str, Any] = {
    "AutoConfig": "configuration_cloud.CloudConfig",
    "AutoModel": "modeling_cloud.CloudModel",
    "AutoModelForMaskedLM": "modeling_cloud.CloudForMaskedLM",
    "AutoModelForSequenceClassification": "modeling_cloud.CloudForPropertyRegression",
    "AutoTokenizer": ["tokenization_scope.ScopeTokenizer", None],
}
"""What a process without the package loads from a checkpoint's folder (`trust_remote_code=True`); a Debye model names
its own class instead of the regression."""

TASK = "crystal-property"
"""The task of the pipeline, as `pipeline` knows it."""

CUSTOM_PIPELINES: dict[str, Any] = {
    TASK: {
        "impl": "pipeline_cloud.CrystalPropertyPipeline",
        "pt": ["AutoModelForSequenceClassification"],
        "type": "text",
    }
}
"""What the config of a property model says of the pipeline whose code lies beside it."""

LOADED_TASK = f"{TASK}-remote-code" if __name__.startswith("cloud_hf.") else TASK
"""The name of that code once the config is loaded. Where the package is, `crystal-property` is its own registered
class, for which transformers does not ask for trust, so the code beside the weights goes by another name."""

TARGET_TRANSFORMS = ("standardise", "log", "per_atom", "log_per_atom")
"""What may happen to a target before mean and scale: nothing, ln, division by the number of atoms, both."""

DEBYE_TARGETS = ("heat_capacity", "internal_energy")
"""What a Debye model may learn from, J/(mol K) and J/mol."""

VIBRATIONS = ("dos", "heat_capacity", "internal_energy", "debye_temperature")
"""What a phonon density of states may be learned from."""

PUBLISHED_SIZE = 30522
"""Word embeddings of the published checkpoint, whose words beyond the 564 used ones are not ours."""

PUBLISHED_STRINGS: dict[str, Any] = {
    "grammar": "composition", "canonical": False, "symprec": 0.01, "angle_tolerance": 5.0,
    "symmetry": "spglib",
}  # fmt: skip
"""The strings that the published weights were trained on, in the order of the input."""

PUBLISHED_SHAPE = {"vocab_size": 30_522, "max_position_embeddings": 64, "type_vocab_size": 1}
"""By this the published checkpoint, whose config is that of a BERT, is told from others."""

BERT_PADDING = 0
"""The `pad_token_id` of a `BertConfig` that names none."""

logger = logging.get_logger(__name__)


HEAD_FIELDS = (
    "target_names", "target_units", "target_transforms", "target_mean", "target_scale", "target_weights",
    "auxiliary_targets", "id2label", "label2id", "problem_type",
)  # fmt: skip
"""What belongs to one head and means nothing to another: a new head begins without them."""

DEBYE_NAMES = ["debye_temperature"]
"""What the one output of a Debye model is."""

NO_LABELS = ["LABEL_0", "LABEL_1"]
"""What transformers calls the labels of a config that says nothing about them."""


@strict
class CloudConfig(PushedWithCard, PreTrainedConfig):
    r"""Configuration of a CLOUD model: a BERT encoder over SCOPE strings, and what its head predicts.

    Encoder fields are those of `BertConfig`, some with other defaults. They are written down here, as that class takes
    the import of every model of transformers, half a second on each start. The encoder settings say how the strings
    that the model reads were made. Targets are in physical units: with `y = mean + scale * head output`, the prediction
    is y, exp(y), n_atoms y or n_atoms exp(y), as `target_transforms` says, in float32 whatever the weights' dtype.

    `target_names`, `num_labels`, `id2label`, `label2id` and `problem_type` (always `regression`) say one thing: names
    become labels, labels or `num_labels` given instead of names become names (`LABEL_0`, ...), and what contradicts is
    refused. Fields given to `from_pretrained` are put into the stored ones before these are checked; other target names
    than the stored ones mean another head, so that what else the stored config says of targets does not apply
    (`HEAD_FIELDS`).

    Args:
        grammar: Grammar of the strings that the model reads: `composition`, `full` or `sites`.
        canonical: Whether the strings are in canonical order.
        symprec: Distance tolerance of the symmetry search, Å.
        angle_tolerance: Angle tolerance of the symmetry search, degrees.
        symmetry: Back-end of the symmetry search, `spglib` or `moyopy`.
        encoder_settings: All of this with the versions, as `ScopeEncoder.settings` writes it; None if unknown.
        element_descriptors: Add a projection of 12 element properties to each element's word embedding.
        site_multiplicity: Add Fourier features of an orbit's share of the atoms to its element and Wyckoff word.
        pooling: What the property heads read: `cls`, the [CLS] state, or `cls_multiplicity`, beside it the mean of the
            states of elements and Wyckoff words, weighted by their share of the atoms.
        sparse_prediction: In training, run the masked-language-modelling head on masked positions only; `logits` then
            have the shape (number of masked positions, vocab_size). `cloud-hf pretrain` trains with it and saves
            without. Evaluation always gives all logits.
        target_names: Names of the predicted quantities, one per output.
        target_units: Their units, as many as names.
        target_transforms: `standardise` (mean and scale alone), `log` (of the natural logarithm), `per_atom` (of the
            label per atom) or `log_per_atom`, one per name; None: `standardise`.
        target_mean: Mean of each transformed target over its training labels, in its unit, per atom or ln of these.
        target_scale: Scale of each transformed target; positive. For a Debye model the scale of each of
            `debye_targets` per atom.
        target_weights: Weight of each target in the loss (of each of `debye_targets` for a Debye model); None: all 1.
        auxiliary_targets: Those of `target_names` that help the others in training and are shown only where they are
            asked for by name; None: no target is hidden.
        regression_loss: `l1`, `huber` (quadratic up to 1 scale) or `mse`, of the transformed and scaled targets.
        head_layers: Number of (linear, SiLU) layers between the pooled state and the output layer.
        head_dropout: Dropout on the pooled state before the head.
        n_members: Encoders with a head whose raw outputs are averaged: an ensemble in one checkpoint, which
            `cloud_hf.checkpoints.members.join_members` makes.
        theta_link: `exp`: ln(theta / K) = theta_shift + theta_scale * output; `linear` (published
            fine-tunes): theta / K = theta_shift + theta_scale * output.
        theta_shift: See `theta_link`.
        theta_scale: See `theta_link`.
        debye_targets: What `CloudForDebye` learns from, one label column each: `heat_capacity`, `internal_energy` or
            both. The key `debye_target` of older checkpoints is read as a list of one.
        second_branch: Vibrations beside the Debye model's: `none`, `einstein` or `debye`, a second branch with a
            learned share of the modes and a characteristic temperature of its own.
        second_theta_shift: ln(theta_2 / K) = second_theta_shift + theta_scale * output, whatever the `theta_link`.
        dos_edges: Edges of the bins of the phonon density of states, 1/cm, ascending from 0 or above; None:
            `phonon_dos.DOS_EDGES` where `CloudForCrystalProperties` needs them, whose acoustic cut-offs are
            ln(theta / K) = theta_shift + theta_scale * output.
        vibration_scales: Errors of vibrational labels that weigh as much as one `target_scale` of a scalar target, in
            place of those of `heads_phonon.VIBRATION_SCALES`.
    """

    model_type = "cloud"
    _auto_class = "AutoConfig"  # as `register_for_auto_class` sets it, which imports every model of transformers

    vocab_size: int = 585
    hidden_size: int = 256
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    intermediate_size: int = 1024
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    max_position_embeddings: int = 256
    type_vocab_size: int = 1
    initializer_range: float | int = 0.02
    layer_norm_eps: float | int = 1e-12
    pad_token_id: int | None = 1
    use_cache: bool = False
    classifier_dropout: float | int | None = None
    is_decoder: bool = False
    add_cross_attention: bool = False
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    tie_word_embeddings: bool = True

    grammar: str = "composition"
    canonical: bool = False
    symprec: float | int = 0.01
    angle_tolerance: float | int = 5.0
    symmetry: str = "spglib"
    encoder_settings: str | None = None

    element_descriptors: bool = False
    site_multiplicity: bool = False
    pooling: str = "cls"
    sparse_prediction: bool = False

    target_names: list[str] | None = None
    target_units: list[str] | None = None
    target_transforms: list[str] | None = None
    target_mean: list[float | int] | None = None
    target_scale: list[float | int] | None = None
    target_weights: list[float | int] | None = None
    auxiliary_targets: list[str] | None = None
    regression_loss: str = "l1"
    head_layers: int = 1
    head_dropout: float | int = 0.1
    n_members: int = 1

    theta_link: str = "exp"
    theta_shift: float | int = 5.8
    theta_scale: float | int = 0.5
    debye_targets: list[str] = field(default_factory=lambda: ["heat_capacity"])
    second_branch: str = "none"
    second_theta_shift: float | int = 7.3

    dos_edges: list[float | int] | None = None
    vibration_scales: dict[str, float | int] | None = None

    @classmethod
    def get_config_dict(cls, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read a config; one of the published checkpoint, of model type `bert`, becomes CLOUD's.

        The published config says `pad_token_id` 0, which is [CLS] in its vocabulary; [PAD] is 1.
        """
        fields, kwargs = super().get_config_dict(*args, **kwargs)
        if fields.get("model_type") == "bert":
            padding = fields.get("pad_token_id", BERT_PADDING)
            differs = any(fields.get(name) != value for name, value in PUBLISHED_SHAPE.items())
            if padding != 1 and differs:
                logger.warning(
                    f"{args[0] if args else 'This'} is a BERT checkpoint, but not of the published CLOUD's shape. It "
                    f"is read as a CLOUD model, which pads with id 1, [PAD] in the SCOPE vocabulary, not with id "
                    f"{padding}. Unless it was trained on SCOPE strings, its outputs mean nothing."
                )
            fields = PUBLISHED_STRINGS | fields | {"model_type": cls.model_type, "pad_token_id": 1}
        return fields, kwargs

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Make a config of stored fields and what overrides them, checked together; see the class."""
        known = {one.name for one in fields(cls)} - {"dtype"} | {"num_labels"}
        changes = {name: kwargs.pop(name) for name in [*kwargs] if name in known}
        return super().from_dict(_changed(config_dict, changes), **kwargs)

    def __post_init__(self, **kwargs: Any) -> None:
        older = kwargs.pop("debye_target", None)
        if older is not None:
            self.debye_targets = [older]
        if self.target_names is None and self.id2label is None and kwargs.get("num_labels") is not None:
            self.target_names = [f"LABEL_{index}" for index in range(kwargs["num_labels"])]
        if self.id2label is None and self.label2id:
            self.id2label = {int(index): label for label, index in self.label2id.items()}
        number = kwargs.pop("num_labels", None)
        stated = self.id2label is not None
        super().__post_init__(**kwargs)
        names = self.labels() if stated or self.target_names else None
        if names and number not in (None, len(names)):
            raise CloudError(f"num_labels is {number}, but the config names {len(names)} labels: {', '.join(names)}.")
        if names:
            self.target_names = names
            self._label(names)
        if getattr(self, "custom_pipelines", None):
            self.name_pipeline(LOADED_TASK)
        if self.architectures is None:  # AutoModelForSequenceClassification looks for its class in there
            self.architectures = []

    def name_pipeline(self, task: str | None) -> None:
        """Name the pipeline that lies beside the weights: `TASK` in a folder, `LOADED_TASK` once loaded; None: none."""
        if task is not None:
            self.custom_pipelines = {task: deepcopy(CUSTOM_PIPELINES[TASK])}
        elif hasattr(self, "custom_pipelines"):
            del self.custom_pipelines

    def labels(self) -> list[str]:
        """Names of the predicted quantities, from `target_names` or, without them, from `id2label`; empty if none.

        Raises:
            CloudError: `target_names` and `id2label` contradict each other, or `problem_type` is no regression.
        """
        labels, names = _ordered(self.id2label), self.target_names
        if names is None:
            names = [] if labels == NO_LABELS else labels
        elif labels not in (names, NO_LABELS, []):
            raise CloudError(
                f"target_names are {', '.join(names)}, but num_labels is {len(labels)} and id2label names "
                f"{', '.join(labels)}: give target_names alone."
            )
        if names and self.problem_type not in (None, "regression"):
            raise CloudError(
                f"problem_type {self.problem_type!r}: CLOUD's heads predict numbers (problem_type 'regression')."
            )
        return list(names)

    def for_targets(self, names: list[str], units: list[str] | None = None) -> "CloudConfig":
        """Return a config whose labels are `names`: this one where it says so already, else a copy."""
        stated = self.target_names == names and (units is None or self.target_units is not None)
        if stated and self.problem_type == "regression" and _ordered(self.id2label) == names:
            return self
        config = deepcopy(self)
        config.target_names = list(names)
        config.target_units = self.target_units if units is None or self.target_units else list(units)
        if not set(self.auxiliary_targets or ()) <= set(names):
            config.auxiliary_targets = None
        config._label(names)
        return config

    def _label(self, names: list[str]) -> None:
        self.problem_type = "regression"
        self.id2label = dict(enumerate(names))
        self.label2id = {name: index for index, name in enumerate(names)}

    @property
    def reads_chemistry(self) -> bool:
        """Whether the model looks up elements and multiplicities of its words."""
        return self.element_descriptors or self.site_multiplicity or self.pooling != "cls"

    def validate_architecture(self) -> None:
        """Refuse values that cannot work together (called on construction)."""
        if self.hidden_size % self.num_attention_heads:
            raise CloudError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}."
            )
        if self.num_hidden_layers < 1 or self.n_members < 1 or self.head_layers < 0:
            raise CloudError("num_hidden_layers and n_members must be at least 1 and head_layers at least 0.")
        _one_of("symmetry", self.symmetry, ("spglib", "moyopy"))
        _one_of("grammar", self.grammar, ("sites", "composition", "full"))
        _one_of("pooling", self.pooling, ("cls", "cls_multiplicity"))
        _one_of("regression_loss", self.regression_loss, ("l1", "huber", "mse"))
        _one_of("theta_link", self.theta_link, ("exp", "linear"))
        _one_of("second_branch", self.second_branch, ("none", "einstein", "debye"))
        if not self.theta_scale > 0:
            raise CloudError(f"theta_scale must be positive, not {self.theta_scale}.")
        if self.reads_chemistry and (self.vocab_size < VOCAB_SIZE or self.vocab_size == PUBLISHED_SIZE):
            raise CloudError(
                f"element_descriptors, site_multiplicity and pooling 'cls_multiplicity' need the {VOCAB_SIZE} words of "
                f"this package's vocabulary, not vocab_size {self.vocab_size}: leave them off for published weights."
            )
        self._validate_targets()
        self._validate_vibrations()

    def _validate_vibrations(self) -> None:
        edges = self.dos_edges
        if edges is not None and not (len(edges) > 1 and edges[0] >= 0 and all(a < b for a, b in pairwise(edges))):
            raise CloudError(f"dos_edges must ascend from 0 or above, not {edges}.")
        for label, scale in (self.vibration_scales or {}).items():
            _one_of("vibration_scales", label, VIBRATIONS)
            if not scale > 0:
                raise CloudError(f"vibration_scales must be positive, not {scale} for {label!r}.")

    def _validate_targets(self) -> None:
        debye = self.debye_targets
        for target in debye:
            _one_of("debye_targets", target, DEBYE_TARGETS)
        if len(set(debye)) != len(debye) or not debye:
            raise CloudError(f"debye_targets must be distinct and at least one, not {debye}.")
        names = self.target_names or []
        if len(set(names)) != len(names):
            raise CloudError(f"target_names are not distinct: {names}.")
        for name in ("target_units", "target_transforms", "target_mean", "target_scale", "target_weights"):
            values = getattr(self, name)
            if values is None:
                continue
            if name in ("target_scale", "target_weights") and names in ([], DEBYE_NAMES):
                if len(values) != len(debye):  # the one output of a Debye model serves all its labels
                    raise CloudError(f"{name} has {len(values)} entries for {len(debye)} debye_targets.")
            elif len(values) != len(names):
                raise CloudError(f"{name} has {len(values)} entries for {len(names)} target_names.")
        auxiliary = self.auxiliary_targets or []
        unknown = [name for name in auxiliary if name not in names]
        if unknown or len(set(auxiliary)) != len(auxiliary):
            raise CloudError(
                f"auxiliary_targets must be distinct and among target_names ({', '.join(names) or 'none'}), not "
                f"{auxiliary}."
            )
        for transform in self.target_transforms or []:
            _one_of("target_transforms", transform, TARGET_TRANSFORMS)
        if any(not scale > 0 for scale in self.target_scale or []):
            raise CloudError(f"target_scale must be positive, not {self.target_scale}.")
        weights = self.target_weights
        if weights is not None and not (all(weight >= 0 for weight in weights) and 0 < sum(weights) < math.inf):
            raise CloudError(f"target_weights must not be negative and not all 0, not {weights}.")


def _changed(stored: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Stored fields with others in their place, without what the stored config says of a head that is replaced."""
    usable, names = dict(stored), stored.get("target_names")
    wanted = changes.get("target_names", names)
    labels = changes.get("id2label") or {index: label for label, index in (changes.get("label2id") or {}).items()}
    if "target_names" not in changes and labels:
        wanted = _ordered(labels)
    elif "target_names" not in changes and changes.get("num_labels") not in (None, len(names or [])):
        wanted = None
    if wanted != names or (wanted is None and names is not None):
        usable = {name: value for name, value in usable.items() if name not in HEAD_FIELDS}
    debye = changes.get("debye_targets")
    if debye is not None and debye != stored.get("debye_targets", ["heat_capacity"]) and wanted in (None, DEBYE_NAMES):
        usable = {name: value for name, value in usable.items() if name not in ("target_scale", "target_weights")}
    return usable | changes


def _ordered(id2label: dict[Any, str] | None) -> list[str]:
    """Labels in the order of their numbers, which are strings in a file."""
    return [str(label) for _, label in sorted((int(index), label) for index, label in (id2label or {}).items())]


def _one_of(field: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise CloudError(f"{field} must be one of {', '.join(allowed)}, not {value!r}.")
