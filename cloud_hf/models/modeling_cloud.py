"""CLOUD models: a BERT encoder over SCOPE strings with MLM, regression and Debye heads.

Flat: ships as Hub remote code. Parameter names of encoder and MLM head are those of `BertForMaskedLM`, so that the
published checkpoint fits.
"""

import os
import re
from dataclasses import fields
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.modeling_outputs import MaskedLMOutput, SequenceClassifierOutput
from transformers.models.bert.modeling_bert import BertOnlyMLMHead
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, logging
from transformers.utils.generic import can_return_tuple

from .configuration_cloud import DEBYE_NAMES, HEAD_FIELDS, CloudConfig
from .encoder_cloud import ChemistryBertModel, first_positions
from .errors import CheckpointError, CloudError
from .heads_cloud import (
    CloudDebyeOutput,
    CloudHead,
    check_members,
    debye_branches,
    debye_temperature,
    masked_loss,
    matching_labels,
    per_row,
    scalar_targets,
    thermal_properties,
    transform_targets,
)
from .pretrained_cloud import CloudPreTrainedModel, rename_older_weights

__all__ = [
    "CloudDebyeOutput",
    "CloudForDebye",
    "CloudForMaskedLM",
    "CloudForPropertyRegression",
    "CloudModel",
    "CloudPreTrainedModel",
    "CloudPropertyModel",
]

logger = logging.get_logger(__name__)

ROOM_TEMPERATURE = 300.0
"""K; the temperature of the paper's heat capacities, used when none is given."""

_HEAD_WEIGHTS = re.compile(r"(members\.\d+\.)?classifier\.")


class CloudModel(CloudPreTrainedModel, ChemistryBertModel):
    """The bare encoder.

    `forward(input_ids, attention_mask=None, ...)` takes ids of shape (batch, length) and returns
    `last_hidden_state` of shape (batch, length, hidden_size). The first token of the attention mask is [CLS], which the
    heads read. With `add_pooling_layer=True` there is BERT's pooler of it, which no CLOUD checkpoint holds.
    """

    def __init__(self, config: CloudConfig, add_pooling_layer: bool = False) -> None:
        super().__init__(config, add_pooling_layer=add_pooling_layer)


class CloudForMaskedLM(CloudPreTrainedModel):
    """The encoder with the masked-language-modelling head of pre-training."""

    _tied_weights_keys = {  # noqa: RUF012  (the base class's contract)
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }

    def __init__(self, config: CloudConfig) -> None:
        super().__init__(config)
        self.bert = CloudModel(config)
        self.cls = BertOnlyMLMHead(config)
        self.post_init()

    def get_output_embeddings(self) -> nn.Linear:
        """Return the output layer, whose weight is tied to the word embeddings."""
        return self.cls.predictions.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Replace the output layer (used when the vocabulary is resized)."""
        self.cls.predictions.decoder = new_embeddings
        self.cls.predictions.bias = new_embeddings.bias

    @can_return_tuple
    def forward(  # noqa: D417  (the encoder's inputs are described there)
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        sequence_ids: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> MaskedLMOutput:
        """Predict the masked words.

        Args:
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds: Of the encoder, see
                `CloudModel.forward`.
            labels: Ids to predict, -100 where nothing is asked, shape (batch, length).
            sequence_ids: Which string of a packed row each token belongs to, shape (batch, length); see `CloudModel`.
            **kwargs: `num_items_in_batch` from Trainer, `output_attentions` and the like for the encoder.

        Returns:
            `loss` (cross entropy in nats per masked token, if labels are given) and `logits` of shape
            (batch, length, vocab_size); in training with labels and `config.sparse_prediction`, only those of the
            positions with a label, in their order: (number of masked positions, vocab_size).
        """
        num_items = kwargs.pop("num_items_in_batch", None)
        outputs = self.bert(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, sequence_ids,
            return_dict=True, **kwargs,
        )  # fmt: skip
        states = outputs.last_hidden_state
        if labels is not None and self.training:
            if num_items is None:
                num_items = (labels != -100).sum().clamp(min=1)  # no label at all: loss 0, not NaN
            if self.config.sparse_prediction:
                asked = (labels != -100).flatten().nonzero().squeeze(1)
                states, labels = states.flatten(0, 1)[asked], labels.flatten()[asked]
        logits = self.cls(states)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, vocab_size=self.config.vocab_size, num_items_in_batch=num_items)
        return MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class CloudMember(nn.Module):
    """One more encoder with its head, whose raw outputs count as much as the model's own."""

    def __init__(self, config: CloudConfig, n_outputs: int) -> None:
        super().__init__()
        self.bert = CloudModel(config)
        self.classifier = CloudHead(config, n_outputs)


class CloudPropertyModel(CloudPreTrainedModel):
    """An encoder with a head, or the mean of several (`config.n_members`), before it is turned into properties.

    The base of every property class; see the head protocol in `heads_cloud.py`.
    """

    accepts_loss_kwargs = False  # the loss is a mean, not a sum that Trainer has to divide
    predicts = True
    head_settings: ClassVar[tuple[str, ...]] = ()
    """Fields of the config that say, beside the targets, what the outputs of the head mean."""

    def __init__(self, config: CloudConfig, n_outputs: int) -> None:
        super().__init__(config.for_targets(*self.targets(config)))
        self.n_outputs = n_outputs
        self.bert = CloudModel(self.config)
        self.classifier = CloudHead(self.config, n_outputs)
        if config.n_members > 1:
            self.members = nn.ModuleList(CloudMember(self.config, n_outputs) for _ in range(config.n_members - 1))
        self.register_load_state_dict_pre_hook(rename_older_weights)
        self.post_init()

    @classmethod
    def targets(cls, config: CloudConfig) -> tuple[list[str], list[str] | None]:
        """Return names and units of the columns of `logits`; None: no units are known.

        Raises:
            CloudError: The config names none, or what it says of them contradicts itself.
        """
        names = config.labels()
        if not names:
            raise CloudError(f"{cls.__name__} needs config.target_names, e.g. ['band_gap'], or num_labels.")
        return names, config.target_units

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str] | None,
        *model_args: Any,
        config: Any = None,
        ignore_mismatched_sizes: bool = False,
        output_loading_info: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Load a checkpoint with its head, or an encoder below a new head.

        The encoder may come from a pre-trained model. The head of another class, or one for other targets, has no
        meaning here: with `ignore_mismatched_sizes=True` it is replaced by a new one, whose weights are random, and
        nothing that the stored config says of the old one's targets is kept.

        Raises:
            CheckpointError: The checkpoint has another head and `ignore_mismatched_sizes` is not set.
        """
        stored = _stored_config(cls, pretrained_model_name_or_path, kwargs)
        reason = cls._another_head(stored, config, kwargs)
        if reason and not ignore_mismatched_sizes:
            raise CheckpointError(reason, source=str(pretrained_model_name_or_path))
        if reason and not isinstance(config, PreTrainedConfig):
            kwargs = dict.fromkeys(HEAD_FIELDS) | kwargs
        model, info = super().from_pretrained(
            pretrained_model_name_or_path, *model_args, config=config, output_loading_info=True,
            ignore_mismatched_sizes=ignore_mismatched_sizes, **kwargs,
        )  # fmt: skip
        weights = [name for name in model.state_dict() if _HEAD_WEIGHTS.match(name)]
        absent = {*info["missing_keys"], *(key[0] for key in info["mismatched_keys"])} & set(weights)
        if reason or 0 < len(absent) < len(weights):  # half of an old head is none
            model.renew_head()
            info["missing_keys"] = {*info["missing_keys"], *weights}
            logger.warning(f"{pretrained_model_name_or_path}: the head is new, with random weights. Train it.")
        return (model, info) if output_loading_info else model

    @classmethod
    def _another_head(cls, stored: dict[str, Any], config: Any, kwargs: dict[str, Any]) -> str | None:
        """Why a checkpoint's head is not the one that is asked for; None if it is, or if there is none."""
        names = stored.get("architectures") or []
        heads = [name for name in names if name.startswith("CloudFor") and name != CloudForMaskedLM.__name__]
        if not heads:
            return None
        new_head = "For a new head on its encoder, to be trained, pass ignore_mismatched_sizes=True"
        if not {*names} & {kind.__name__ for kind in (*cls.__mro__, *_subclasses(cls))}:
            right = heads[0]
            return f"a checkpoint of {right}, not of {cls.__name__}: load it with {right}. {new_head} and its targets."
        if not isinstance(config, PreTrainedConfig):
            known = {one.name for one in fields(cls.config_class)} | {"num_labels"}
            given = {key: value for key, value in kwargs.items() if key in known}
            config = cls.config_class.from_dict(dict(stored), **given)
        before = cls.config_class.from_dict(dict(stored))
        (old, _), (new, _) = cls.targets(before), cls.targets(config)
        if old != new:
            return f"its head predicts {', '.join(old)}, not {', '.join(new)}. {new_head}."
        for name in cls.head_settings:
            values = getattr(before, name), getattr(config, name)
            if values[0] != values[1]:
                return f"its head was trained with {name} {values[0]}, not {values[1]}. {new_head}."
        return None

    def renew_head(self) -> None:
        """Replace the head, in every member, by a new one with random weights."""
        for part in (self, *getattr(self, "members", [])):
            weight = next(part.classifier.parameters())
            part.classifier = CloudHead(self.config, self.n_outputs).to(weight).train(part.training)
            part.classifier.apply(self._init_weights)

    def keep_members(self, number: int) -> None:
        """Keep the first members of an ensemble alone: faster, and a little less exact.

        Args:
            number: How many of the `config.n_members` stay, at least 1.

        Raises:
            CheckpointError: There are not so many.
        """
        check_members(number, self.config.n_members, self.name_or_path or None)
        if number == self.config.n_members:
            return
        self.config.n_members = number
        if number == 1:
            del self.members
        else:
            self.members = self.members[: number - 1]

    def raw_outputs(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None = None,
        *args: Tensor | None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Tensor, Any]:
        """Return the mean raw output, shape (batch, n_outputs), and what the first encoder gives."""
        first = first_positions(attention_mask)
        outputs: Any = None
        raw: Any = 0.0
        part: Any
        for part in (self, *getattr(self, "members", [])):
            encoded = part.bert(input_ids, attention_mask, *args, return_dict=True, **kwargs)
            raw = raw + part.classifier(encoded.last_hidden_state, part.bert.pooling_weights(input_ids), first)
            outputs = encoded if outputs is None else outputs
        return (raw / self.config.n_members if self.config.n_members > 1 else raw), outputs


def _stored_config(cls: type[CloudPreTrainedModel], path: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """What `config.json` of a checkpoint says; empty where there is none, such as beside an adapter."""
    hub = ("cache_dir", "local_files_only", "proxies", "token", "revision", "subfolder")
    if path is None:
        return {}
    try:
        return cls.config_class.get_config_dict(path, **{key: kwargs[key] for key in hub if key in kwargs})[0]
    except OSError:  # loading itself tells what is wrong
        return {}


def _subclasses(cls: type[Any]) -> list[type[Any]]:
    return [heir for kind in cls.__subclasses__() for heir in (kind, *_subclasses(kind))]


class CloudForPropertyRegression(CloudPropertyModel):
    """The encoder with one output per named target, in physical units.

    Names, units, transforms, mean and scale of the targets are in the config. `logits` are the predictions in those
    units.
    """

    def __init__(self, config: CloudConfig) -> None:
        super().__init__(config, len(self.targets(config)[0]))

    @can_return_tuple
    def forward(  # noqa: D417  (the encoder's inputs are described there)
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        n_atoms: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SequenceClassifierOutput:
        """Predict the targets.

        Args:
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds: Of the encoder, see
                `CloudModel.forward`.
            n_atoms: Atoms that labels and predictions stand for, shape (batch,); needed if one of
                `config.target_transforms` is per atom.
            labels: Labels in the units of `config.target_units`, shape (batch, n_targets) or (batch,) for one
                target; NaN where a label is missing.
            **kwargs: `output_attentions` and the like for the encoder.

        Returns:
            `loss` (`config.regression_loss` of the transformed and scaled targets, mean over the labels that are there)
            and `logits`, the predictions in the targets' units, shape (batch, n_targets).

        Raises:
            CloudError: `n_atoms` is needed and absent, or a label that is not positive has the transform `log`.
        """
        raw, outputs = self.raw_outputs(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs
        )
        config, n_targets = self.config, raw.shape[1]
        mean = raw.new_tensor(config.target_mean or [0.0] * n_targets)
        scale = raw.new_tensor(config.target_scale or [1.0] * n_targets)
        loss = None
        if labels is not None:
            known = matching_labels(labels, raw.shape[0], self.targets(config)[0], raw)
            known = transform_targets(known, config.target_transforms, n_atoms)
            loss = masked_loss(raw, (known - mean) / scale, config.regression_loss, config.target_weights)
        return SequenceClassifierOutput(
            loss=loss,
            logits=scalar_targets(raw, config, n_atoms),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class CloudForDebye(CloudPropertyModel):
    """CLOUD-DEBYE: the encoder predicts a Debye temperature, the Debye model the thermal properties.

    The network gives ln(theta / K) (or theta, `config.theta_link`) and, with `config.second_branch`, a second
    temperature and the share of the modes that it stands for. Labels are heat capacities, internal energies or both
    (`config.debye_targets`) at any temperature, and the gradient reaches the network through the Debye model.
    """

    head_settings = ("second_branch", "theta_link")

    def __init__(self, config: CloudConfig) -> None:
        super().__init__(config, 1 if config.second_branch == "none" else 3)

    @classmethod
    def targets(cls, config: CloudConfig) -> tuple[list[str], list[str] | None]:
        """Return the Debye temperature and its unit.

        Raises:
            CloudError: The config names other targets.
        """
        if config.target_names not in (None, DEBYE_NAMES):
            raise CloudError(
                f"{cls.__name__} predicts {DEBYE_NAMES[0]}, not {', '.join(config.target_names or [])}: use "
                "CloudForPropertyRegression for other targets, or leave target_names out."
            )
        super().targets(config.for_targets(DEBYE_NAMES) if config.target_names is None else config)
        return DEBYE_NAMES, ["K"]

    @can_return_tuple
    def forward(  # noqa: D417  (the encoder's inputs are described there)
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        n_atoms: Tensor | None = None,
        temperature: Tensor | float | None = None,
        labels: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CloudDebyeOutput:
        """Predict the Debye temperature and the thermal properties that follow from it.

        Args:
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds: Of the encoder, see
                `CloudModel.forward`.
            n_atoms: Atoms per cell, shape (batch,); 1 if absent, so that quantities are per atom.
            temperature: K, a number or shape (batch,); 300 K if absent.
            labels: Cv in J/(mol K), U in J/mol (zero-point energy included) of `n_atoms` atoms, in the order of
                `config.debye_targets`, shape (batch, n_targets) or (batch,) for one; NaN where missing.
            **kwargs: `output_attentions` and the like for the encoder.

        Returns:
            Debye temperature and thermal properties, and the loss if labels are given.
        """
        raw, outputs = self.raw_outputs(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs
        )
        config = self.config
        theta, second_theta, second_weight = debye_branches(raw, config)
        rows = theta.shape[0]
        atoms = torch.ones_like(theta) if n_atoms is None else per_row(n_atoms, rows, "n_atoms", theta)
        kelvin = torch.as_tensor(ROOM_TEMPERATURE if temperature is None else temperature)
        kelvin = per_row(kelvin, rows, "temperature", theta)
        thermal = thermal_properties(theta, kelvin, atoms, config.second_branch, second_theta, second_weight)
        loss = None
        if labels is not None:
            targets = config.debye_targets
            predicted = torch.stack([getattr(thermal, target) for target in targets], dim=1)
            divisor = atoms[:, None] * theta.new_tensor(config.target_scale or [1.0] * len(targets))
            known = matching_labels(labels, rows, targets, theta)
            loss = masked_loss(predicted / divisor, known / divisor, config.regression_loss, config.target_weights)
        return CloudDebyeOutput(
            loss=loss,
            logits=theta[:, None],
            **thermal._asdict(),
            second_temperature=second_theta,
            second_weight=second_weight,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def debye_temperature(self, raw: Tensor) -> Tensor:
        """Turn head outputs into Debye temperatures in K, positive, of the same shape."""
        return debye_temperature(raw, self.config.theta_link, self.config.theta_shift, self.config.theta_scale)
