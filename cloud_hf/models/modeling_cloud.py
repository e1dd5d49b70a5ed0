"""CLOUD models: a BERT encoder over SCOPE strings with MLM, regression and Debye heads.

Flat: ships as Hub remote code. Parameter names of encoder and MLM head are those of `BertForMaskedLM`, so that the
published checkpoint fits.
"""

import os
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.dynamic_module_utils import custom_object_save
from transformers.modeling_outputs import MaskedLMOutput, SequenceClassifierOutput
from transformers.models.bert.modeling_bert import BertOnlyMLMHead, BertPreTrainedModel
from transformers.utils.generic import can_return_tuple

from .configuration_cloud import AUTO_MAP, LOADED_TASK, TASK, CloudConfig
from .embeddings_cloud import ChemistryEmbedding, OrbitReader
from .encoder_cloud import ChemistryBertModel
from .errors import CheckpointError
from .heads_cloud import (
    SECOND_WEIGHT_SHIFT,
    CloudDebyeOutput,
    CloudHead,
    debye_temperature,
    inverse_transform_targets,
    masked_loss,
    thermal_properties,
    transform_targets,
)
from .pipeline_cloud import CrystalPropertyPipeline
from .saving_cloud import PushedWithCard

__all__ = [
    "CloudDebyeOutput",
    "CloudForDebye",
    "CloudForMaskedLM",
    "CloudForPropertyRegression",
    "CloudModel",
    "CloudPreTrainedModel",
]

ROOM_TEMPERATURE = 300.0
"""K; the temperature of the paper's heat capacities, used when none is given."""

ENCODER_WEIGHTS = (
    r"(members\.\d+\.)?(bert\.)?"
    r"(encoder\.layer|embeddings\.(word|position|token_type)_embeddings|embeddings\.LayerNorm)\b"
)
"""Names of the weights that every encoder has."""


class CloudPreTrainedModel(PushedWithCard, BertPreTrainedModel):
    """Weight initialisation, loading and saving of every CLOUD model."""

    config: CloudConfig
    config_class = CloudConfig
    base_model_prefix = "bert"
    _keys_to_ignore_on_load_unexpected = [r"\bpooler\.", r"\bposition_ids$", r"^cls\.", r"^members\."]  # noqa: RUF012

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """Load as `PreTrainedModel` does, but never an encoder whose weights are not all there.

        A head that the checkpoint lacks is new, as for fine-tuning, and transformers warns of it.

        Raises:
            CheckpointError: The checkpoint lacks encoder weights, which would be random.
        """
        loaded: Any = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        missing = sorted(name for name in loaded[1]["missing_keys"] if re.match(ENCODER_WEIGHTS, name))
        if missing:
            raise CheckpointError(
                f"{args[0] if args else cls.__name__}: {len(missing)} encoder weights are missing, e.g. {missing[0]}; "
                "they would be random. Give a complete checkpoint."
            )
        return loaded if output_loading_info else loaded[0]

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ChemistryEmbedding | OrbitReader):
            module.initialise()

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], is_main_process: bool = True, **kwargs: Any
    ) -> None:
        """Save as `PreTrainedModel` does, with the code of every Auto class and of the pipeline.

        With the package a model card and the records of the weights go along.

        Args:
            save_directory: Folder; made if it is not there.
            is_main_process: Whether this process writes what all processes share.
            **kwargs: See `PreTrainedModel.save_pretrained` and `PushedWithCard.save_pretrained`.
        """
        config, folder = self.config, Path(save_directory)
        here = __name__.rpartition(".")[0]
        kind = next(kind for kind in type(self).__mro__ if kind.__module__.rpartition(".")[0] == here)
        predicts = issubclass(kind, CloudPropertyModel)
        config.auto_map = (getattr(config, "auto_map", None) or {}) | AUTO_MAP
        if predicts:
            config.auto_map["AutoModelForSequenceClassification"] = (
                f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}"
            )
        config.name_pipeline(TASK if predicts else None)
        super().save_pretrained(save_directory, is_main_process=is_main_process, **kwargs)
        if is_main_process and folder.is_dir():
            if kind.__name__ not in config.architectures:  # of a user's subclass, which Auto classes do not know
                config.architectures = [*config.architectures, kind.__name__]
                config.save_pretrained(folder)
            for code in (kind, CrystalPropertyPipeline):
                custom_object_save(code, folder)
            _complete(folder, self)
        config.name_pipeline(LOADED_TASK if predicts else None)


def _complete(folder: Path, model: CloudPreTrainedModel) -> None:
    """Add what only the package can write."""
    try:
        from cloud_hf.checkpoints.hub import complete
    except ImportError:
        return
    complete(folder, model)


class CloudModel(CloudPreTrainedModel, ChemistryBertModel):
    """The bare encoder.

    `forward(input_ids, attention_mask=None, ...)` takes ids of shape (batch, length) and returns
    `last_hidden_state` of shape (batch, length, hidden_size); position 0 is [CLS], which the heads read.
    """

    def __init__(self, config: CloudConfig) -> None:
        super().__init__(config, add_pooling_layer=False)


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
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        sequence_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> MaskedLMOutput:
        """Predict the masked words.

        Args:
            input_ids: Token ids, shape (batch, length).
            attention_mask: 1 for tokens, 0 for padding, shape (batch, length).
            token_type_ids: Zeros, shape (batch, length).
            position_ids: Positions, shape (batch, length).
            inputs_embeds: Embeddings instead of ids, shape (batch, length, hidden_size).
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
        if labels is not None and self.training and self.config.sparse_prediction:
            asked = (labels != -100).flatten().nonzero().squeeze(1)
            states, labels = states.flatten(0, 1)[asked], labels.flatten()[asked]
            num_items = max(labels.shape[0], 1) if num_items is None else num_items  # no label at all: loss 0, not NaN
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
        self.head = CloudHead(config, n_outputs)


class CloudPropertyModel(CloudPreTrainedModel):
    """An encoder with a head, or the mean of several (`config.n_members`), before it is turned into properties."""

    def __init__(self, config: CloudConfig, n_outputs: int) -> None:
        super().__init__(config)
        self.bert = CloudModel(config)
        self.head = CloudHead(config, n_outputs)
        if config.n_members > 1:
            self.members = nn.ModuleList(CloudMember(config, n_outputs) for _ in range(config.n_members - 1))
        self.post_init()

    def raw_outputs(self, input_ids: Tensor | None, *args: Tensor | None, **kwargs: Any) -> tuple[Tensor, Any]:
        """Return the mean raw output, shape (batch, n_outputs), and what the first encoder gives."""
        outputs = self.bert(input_ids, *args, return_dict=True, **kwargs)
        raw: Tensor = self.head(outputs.last_hidden_state, self.bert.pooling_weights(input_ids))
        if self.config.n_members > 1:
            member: Any
            for member in self.members:
                states = member.bert(input_ids, *args, return_dict=True, **kwargs).last_hidden_state
                raw = raw + member.head(states, member.bert.pooling_weights(input_ids))
            raw = raw / self.config.n_members
        return raw, outputs


class CloudForPropertyRegression(CloudPropertyModel):
    """The encoder with one output per named target, in physical units.

    Names, units, transforms, mean and scale of the targets are in the config. `logits` are the predictions in those
    units.
    """

    accepts_loss_kwargs = False  # the loss is a mean, not a sum that Trainer has to divide

    def __init__(self, config: CloudConfig) -> None:
        if not config.target_names:
            raise ValueError("CloudForPropertyRegression needs config.target_names, e.g. ['band_gap'].")
        super().__init__(config, len(config.target_names))

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        n_atoms: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Predict the targets.

        Args:
            input_ids: Token ids, shape (batch, length).
            attention_mask: 1 for tokens, 0 for padding, shape (batch, length).
            token_type_ids: Zeros, shape (batch, length).
            position_ids: Positions, shape (batch, length).
            inputs_embeds: Embeddings instead of ids, shape (batch, length, hidden_size).
            n_atoms: Atoms that labels and predictions stand for, shape (batch,); needed if one of
                `config.target_transforms` is per atom.
            labels: Labels in the units of `config.target_units`, shape (batch, n_targets) or (batch,) for one
                target; NaN where a label is missing.
            **kwargs: `output_attentions` and the like for the encoder.

        Returns:
            `loss` (`config.regression_loss` of the transformed and scaled targets, mean over the labels that are there)
            and `logits`, the predictions in the targets' units, shape (batch, n_targets).

        Raises:
            ValueError: `n_atoms` is needed and absent, or a label that is not positive has the transform `log`.
        """
        raw, outputs = self.raw_outputs(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs
        )
        config, n_targets = self.config, raw.shape[1]
        mean = raw.new_tensor(config.target_mean or [0.0] * n_targets)
        scale = raw.new_tensor(config.target_scale or [1.0] * n_targets)
        loss = None
        if labels is not None:
            known = transform_targets(labels.to(raw.dtype).view(-1, n_targets), config.target_transforms, n_atoms)
            loss = masked_loss(raw, (known - mean) / scale, config.regression_loss, config.target_weights)
        return SequenceClassifierOutput(
            loss=loss,
            logits=inverse_transform_targets(mean + scale * raw, config.target_transforms, n_atoms),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class CloudForDebye(CloudPropertyModel):
    """CLOUD-DEBYE: the encoder predicts a Debye temperature, the Debye model the thermal properties.

    The network gives ln(theta / K) (or theta, `config.theta_link`) and, with `config.second_branch`, a second
    temperature and the share of the modes that it stands for. Labels are heat capacities, internal energies or both
    (`config.debye_targets`) at any temperature, and the gradient reaches the network through the Debye model.
    """

    accepts_loss_kwargs = False  # the loss is a mean, not a sum that Trainer has to divide

    def __init__(self, config: CloudConfig) -> None:
        config.target_names = config.target_names or ["debye_temperature"]
        config.target_units = config.target_units or ["K"]
        config.problem_type = "regression"
        config.id2label = dict(enumerate(config.target_names))
        config.label2id = {name: index for index, name in config.id2label.items()}
        super().__init__(config, 1 if config.second_branch == "none" else 3)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        n_atoms: Tensor | None = None,
        temperature: Tensor | float | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> CloudDebyeOutput:
        """Predict the Debye temperature and the thermal properties that follow from it.

        Args:
            input_ids: Token ids, shape (batch, length).
            attention_mask: 1 for tokens, 0 for padding, shape (batch, length).
            token_type_ids: Zeros, shape (batch, length).
            position_ids: Positions, shape (batch, length).
            inputs_embeds: Embeddings instead of ids, shape (batch, length, hidden_size).
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
        theta = self.debye_temperature(raw[:, 0])
        second_theta = second_weight = None
        if config.second_branch != "none":
            second_theta = debye_temperature(raw[:, 1], "exp", config.second_theta_shift, config.theta_scale)
            second_weight = torch.sigmoid(raw[:, 2] + SECOND_WEIGHT_SHIFT)
        atoms = torch.ones_like(theta) if n_atoms is None else n_atoms.to(theta).view(-1)
        kelvin = torch.as_tensor(
            ROOM_TEMPERATURE if temperature is None else temperature, dtype=theta.dtype, device=theta.device
        ).view(-1)
        thermal = thermal_properties(theta, kelvin, atoms, config.second_branch, second_theta, second_weight)
        loss = None
        if labels is not None:
            targets = config.debye_targets
            predicted = torch.stack([getattr(thermal, target) for target in targets], dim=1)
            divisor = atoms[:, None] * theta.new_tensor(config.target_scale or [1.0] * len(targets))
            known = labels.to(theta).view(-1, len(targets))
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
