"""The BERT encoder with chemistry inputs and packed rows. Flat: ships as Hub remote code.

Without either it is `BertModel`, with the same parameters.
"""

from typing import Any, cast

import torch
from torch import Tensor
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.bert.modeling_bert import BertModel
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs

from .embeddings_cloud import ChemistryEmbedding, OrbitReader
from .errors import CloudError
from .heads_cloud import at_position

__all__ = ["ChemistryBertModel", "first_positions"]

NEEDS_IDS = (
    "This model reads elements and sites off the token ids (element_descriptors, site_multiplicity or pooling): pass "
    "input_ids, beside inputs_embeds if those are given."
)


def first_positions(attention_mask: Tensor | None) -> Tensor | None:
    """Position of the first token, [CLS], in each row of a mask (batch, length), shape (batch,).

    It is 0 unless padding stands on the left. None where there is no such mask.
    """
    if attention_mask is None or attention_mask.ndim != 2:
        return None
    return (attention_mask > 0).long().argmax(1)


class ChemistryBertModel(BertModel):
    """`BertModel` that reads elements and sites off its ids where the configuration says so."""

    def __init__(self, config: Any, add_pooling_layer: bool = False) -> None:
        super().__init__(config, add_pooling_layer=add_pooling_layer)
        if config.reads_chemistry:
            self.orbits = OrbitReader(config)
            if config.element_descriptors or config.site_multiplicity:
                self.chemistry = ChemistryEmbedding(config)
            self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        sequence_ids: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> Any:
        """Encode token ids.

        Args:
            input_ids: Token ids, shape (batch, length).
            attention_mask: 1 for tokens, 0 for padding, shape (batch, length).
            token_type_ids: Zeros, shape (batch, length).
            position_ids: Positions, shape (batch, length); for packed strings from 0 again in each of them. None: from
                0 at the first token of the attention mask, so that padding may stand on either side.
            inputs_embeds: Word embeddings instead of ids, shape (batch, length, hidden_size). A model with chemistry
                inputs reads elements and sites off `input_ids` beside them.
            sequence_ids: Number of the string that each token of a packed row belongs to, shape (batch, length): tokens
                see those of their own string only. None: a row is one string.
            **kwargs: `output_attentions` and the like.

        Returns:
            `last_hidden_state` of shape (batch, length, hidden_size), and what was asked for.
        """
        chemistry = getattr(self, "chemistry", None)
        if chemistry is not None:
            if input_ids is None:
                raise CloudError(NEEDS_IDS)
            words = self.embeddings.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
            inputs_embeds = words + chemistry(self.orbits(input_ids), words.dtype)
            input_ids = None
        first = first_positions(attention_mask)
        if position_ids is None and first is not None and attention_mask is not None:
            position_ids = (torch.arange(attention_mask.shape[1], device=first.device) - first[:, None]).clamp(min=0)
        if sequence_ids is not None:
            attention_mask = self._packed_mask(sequence_ids, attention_mask)
        outputs: Any = super().forward(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        if self.pooler is None or first is None:
            return outputs
        pooled = self.pooler(at_position(outputs[0], first)[:, None])
        if isinstance(outputs, tuple):
            return (outputs[0], pooled, *outputs[2:])
        outputs.pooler_output = pooled
        return outputs

    def pooling_weights(self, input_ids: Tensor | None) -> Tensor | None:
        """Weight of each token in the pooled state, shape (batch, length), or None where [CLS] alone is read."""
        if self.config.pooling == "cls":
            return None
        if input_ids is None:
            raise CloudError(NEEDS_IDS)
        return cast(Tensor, self.orbits(input_ids).weights())

    def _packed_mask(self, sequence_ids: Tensor, attention_mask: Tensor | None) -> Any:
        """The mask of the attention that is in use; padding sees padding, so that no row is without any key."""
        if attention_mask is not None:
            sequence_ids = torch.where(attention_mask > 0, sequence_ids, -1)

        def same_string(batch: Any, head: Any, query: Any, key: Any) -> Any:
            return sequence_ids[batch, query] == sequence_ids[batch, key]

        shape = self.embeddings.word_embeddings.weight.new_empty(1).expand(*sequence_ids.shape, 1)
        return create_bidirectional_mask(
            config=self.config, inputs_embeds=shape, attention_mask=None, and_mask_function=same_string
        )
