"""CLOUD models: a BERT encoder over SCOPE strings with MLM, regression and Debye heads.

Flat: ships as Hub remote code. Parameter names of encoder and MLM head are those of `BertForMaskedLM`, so that the
published checkpoint fits.
"""

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import MaskedLMOutput, SequenceClassifierOutput
from transformers.models.bert.modeling_bert import BertModel, BertOnlyMLMHead, BertPreTrainedModel
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from .configuration_cloud import AUTO_MAP, CloudConfig
from .debye import heat_capacity_unchecked, internal_energy_unchecked
from .errors import CheckpointError

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

LN_THETA_RANGE = (0.0, 9.5)
"""ln of 1 K and of 13,360 K (six times diamond's Debye temperature): keeps an untrained head finite."""

ENCODER_WEIGHTS = r"(bert\.)?(encoder\.layer|embeddings\.(word|position|token_type)_embeddings|embeddings\.LayerNorm)\b"
"""Names of the weights that every encoder has."""


class CloudPreTrainedModel(BertPreTrainedModel):
    """Weight initialisation, loading and saving of every CLOUD model."""

    config: CloudConfig
    config_class = CloudConfig
    base_model_prefix = "bert"
    _keys_to_ignore_on_load_unexpected = [r"\bpooler\.", r"\bposition_ids$", r"^cls\."]  # noqa: RUF012

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

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """Save as `PreTrainedModel` does, with the whole `auto_map`, so that every Auto class finds its code."""
        self.config.auto_map = AUTO_MAP | (getattr(self.config, "auto_map", None) or {})
        super().save_pretrained(save_directory, *args, **kwargs)


class CloudModel(CloudPreTrainedModel, BertModel):
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
            **kwargs: `num_items_in_batch` from Trainer, `output_attentions` and the like for the encoder.

        Returns:
            `loss` (cross entropy in nats per masked token, if labels are given) and `logits` of shape
            (batch, length, vocab_size).
        """
        num_items = kwargs.pop("num_items_in_batch", None)
        outputs = self.bert(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            return_dict=True,
            **kwargs,
        )
        logits = self.cls(outputs.last_hidden_state)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, vocab_size=self.config.vocab_size, num_items_in_batch=num_items)
        return MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class CloudHead(nn.Module):
    """[CLS] state to raw outputs: dropout, `head_layers` times (linear, SiLU), linear; given out in float32.

    Maps hidden states of shape (batch, length, hidden_size) to (batch, n_outputs).
    """

    def __init__(self, config: CloudConfig, n_outputs: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.head_dropout)
        layers: list[nn.Module] = []
        for _ in range(config.head_layers):
            layers += [nn.Linear(config.hidden_size, config.hidden_size), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(config.hidden_size, n_outputs))

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return raw head outputs, shape (batch, n_outputs)."""
        return self.layers(self.dropout(hidden_states[:, 0])).float()


class CloudForPropertyRegression(CloudPreTrainedModel):
    """The encoder with one output per named target, in physical units.

    Names, units, mean and scale of the targets are in the config. `logits` are the predictions in those units.
    """

    accepts_loss_kwargs = False  # the loss is a mean, not a sum that Trainer has to divide

    def __init__(self, config: CloudConfig) -> None:
        super().__init__(config)
        if not config.target_names:
            raise ValueError("CloudForPropertyRegression needs config.target_names, e.g. ['band_gap'].")
        self.bert = CloudModel(config)
        self.head = CloudHead(config, len(config.target_names))
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
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
            labels: Labels in the units of `config.target_units`, shape (batch, n_targets) or (batch,) for one
                target; NaN where a label is missing.
            **kwargs: `output_attentions` and the like for the encoder.

        Returns:
            `loss` (L1 on the standardised targets, mean over the labels that are there) and `logits`, the
            predictions in the targets' units, shape (batch, n_targets).
        """
        outputs = self.bert(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            return_dict=True,
            **kwargs,
        )
        raw = self.head(outputs.last_hidden_state)
        n_targets = raw.shape[1]
        mean = raw.new_tensor(self.config.target_mean or [0.0] * n_targets)
        scale = raw.new_tensor(self.config.target_scale or [1.0] * n_targets)
        loss = None
        if labels is not None:
            standardised = (labels.to(raw.dtype).view(-1, n_targets) - mean) / scale
            loss = _masked_l1(raw, standardised)
        return SequenceClassifierOutput(
            loss=loss,
            logits=mean + scale * raw,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


@dataclass
class CloudDebyeOutput(ModelOutput):
    """What `CloudForDebye` returns.

    Attributes:
        loss: L1 loss on the target per atom, in units of `config.target_scale`.
        logits: Debye temperature in K, shape (batch, 1).
        heat_capacity: Cv in J/(mol K) of `n_atoms` atoms, shape (batch,).
        internal_energy: U with the zero-point energy in J/mol of `n_atoms` atoms, shape (batch,).
        hidden_states: Of the encoder, if asked for.
        attentions: Of the encoder, if asked for.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    heat_capacity: Tensor | None = None
    internal_energy: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class CloudForDebye(CloudPreTrainedModel):
    """CLOUD-DEBYE: the encoder predicts a Debye temperature, the Debye model the thermal properties.

    The network gives ln(theta / K) (or theta, `config.theta_link`); labels are heat capacities or internal energies
    (`config.debye_target`) at any temperature, and the gradient reaches the network through the Debye model.
    """

    accepts_loss_kwargs = False  # the loss is a mean, not a sum that Trainer has to divide

    def __init__(self, config: CloudConfig) -> None:
        config.target_names = config.target_names or ["debye_temperature"]
        config.target_units = config.target_units or ["K"]
        config.problem_type = "regression"
        config.id2label = dict(enumerate(config.target_names))
        config.label2id = {name: index for index, name in config.id2label.items()}
        super().__init__(config)
        self.bert = CloudModel(config)
        self.head = CloudHead(config, 1)
        self.post_init()

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
            labels: Cv in J/(mol K) or U in J/mol of `n_atoms` atoms, shape (batch,); NaN where missing.
            **kwargs: `output_attentions` and the like for the encoder.

        Returns:
            Debye temperature, heat capacity and internal energy, and the loss if labels are given.
        """
        outputs = self.bert(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            return_dict=True,
            **kwargs,
        )
        theta = self.debye_temperature(self.head(outputs.last_hidden_state)[:, 0])
        atoms = torch.ones_like(theta) if n_atoms is None else n_atoms.to(theta).view(-1)
        kelvin = torch.as_tensor(
            ROOM_TEMPERATURE if temperature is None else temperature, dtype=theta.dtype, device=theta.device
        ).view(-1)
        heat_capacity = heat_capacity_unchecked(theta, kelvin, atoms)
        internal_energy = internal_energy_unchecked(theta, kelvin, atoms)
        loss = None
        if labels is not None:
            predicted = heat_capacity if self.config.debye_target == "heat_capacity" else internal_energy
            scale = (self.config.target_scale or [1.0])[0]
            loss = _masked_l1(predicted / atoms / scale, labels.to(theta).view(-1) / atoms / scale)
        return CloudDebyeOutput(
            loss=loss,
            logits=theta[:, None],
            heat_capacity=heat_capacity,
            internal_energy=internal_energy,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def debye_temperature(self, raw: Tensor) -> Tensor:
        """Turn head outputs into Debye temperatures in K, positive, of the same shape."""
        linked = self.config.theta_shift + self.config.theta_scale * raw
        if self.config.theta_link == "exp":
            return linked.clamp(*LN_THETA_RANGE).exp()
        return linked.clamp(min=1.0)


def _masked_l1(predicted: Tensor, labels: Tensor) -> Tensor:
    """Mean absolute difference over the labels that are not NaN; zero, with a graph, if none is there."""
    present = ~torch.isnan(labels)
    difference = torch.where(present, predicted - torch.nan_to_num(labels), 0.0).abs()
    return difference.sum() / present.sum().clamp(min=1)
