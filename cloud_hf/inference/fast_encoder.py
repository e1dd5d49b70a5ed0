"""The encoder for prediction alone: the arithmetic of `CloudModel` and its head, and nothing else.

It gives what the model's own classes give, to rounding, and is faster on a processor: queries, keys and values are one
product, strings go through in pieces that stay in the cache, and the last layer is worked out only for the tokens that
the head reads. It needs neither transformers' model classes, whose import takes seconds, nor gradients.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention

from cloud_hf.errors import CloudError
from cloud_hf.models.embeddings_cloud import ChemistryEmbedding, OrbitReader
from cloud_hf.models.heads_cloud import CloudHead

__all__ = ["FastEncoder", "FastMember", "supports"]

MOST_TOKENS = 2048
"""Tokens that go through the layers together: their states of the widest layer fill a few MB."""

FEWEST_TOKENS = 256
"""Tokens from which on strings of one length go alone, without padding or mask; fewer cost more than the padding."""

Weights = Mapping[str, Tensor]


def supports(config: Any) -> bool:
    """Whether `FastEncoder` implements the encoder of this configuration."""
    return bool(config.hidden_act == "gelu" and not config.is_decoder and not config.add_cross_attention)


@dataclass(frozen=True)
class Piece:
    """Some strings of a batch.

    Attributes:
        rows: Which rows of the batch they are.
        ids: Token ids, shape (n, length).
        mask: Which tokens are no padding, shape (n, 1, 1, length); None if all are.
        read: Positions of the tokens that the head reads, [CLS] first, shape (n, m); short rows are filled with 0.
        weights: Weight of each of these in the head's mean, shape (n, m); None if the head reads [CLS] alone.
        orbits: What the tokens say of elements and sites; None for a model that does not read them.
    """

    rows: slice
    ids: Tensor
    mask: Tensor | None
    read: Tensor
    weights: Tensor | None
    orbits: Any


class _Layer:
    """Weights of one layer, those of query, key and value in one matrix."""

    def __init__(self, weights: Weights, name: str, config: Any) -> None:
        def both(part: str) -> tuple[Tensor, Tensor]:
            return weights[f"{name}.{part}.weight"], weights[f"{name}.{part}.bias"]

        parts = [both(f"attention.self.{part}") for part in ("query", "key", "value")]
        self.attended = torch.cat([weight for weight, _ in parts]), torch.cat([bias for _, bias in parts])
        self.mixed, self.mixed_norm = both("attention.output.dense"), both("attention.output.LayerNorm")
        self.wide, self.narrow = both("intermediate.dense"), both("output.dense")
        self.norm, self.eps = both("output.LayerNorm"), config.layer_norm_eps
        self.heads = config.num_attention_heads

    def __call__(self, states: Tensor, mask: Tensor | None, read: Tensor | None = None) -> Tensor:
        """Return the next states of all tokens, or of those at the positions `read`, shape (n, m)."""
        n, length, width = states.shape
        weight, bias = self.attended
        if read is None:
            parts = linear(states, weight, bias).view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            query, key, value = parts[0], parts[1], parts[2]
        else:
            parts = linear(states, weight[width:], bias[width:]).view(n, length, 2, self.heads, -1)
            key, value = parts.permute(2, 0, 3, 1, 4)
            states = states.gather(1, read[..., None].expand(-1, -1, width))
            query = linear(states, weight[:width], bias[:width]).view(n, read.shape[1], self.heads, -1).transpose(1, 2)
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=mask)
        mixed = linear(mixed.transpose(1, 2).reshape(states.shape), *self.mixed)
        states = layer_norm(states + mixed, (width,), *self.mixed_norm, self.eps)
        changed = linear(gelu(linear(states, *self.wide)), *self.narrow)
        return layer_norm(states + changed, (width,), *self.norm, self.eps)


class FastMember:
    """One encoder with its head.

    Args:
        config: Of the model.
        weights: Of one member, named as in `CloudForPropertyRegression`.
    """

    def __init__(self, config: Any, weights: Weights) -> None:
        name = "bert.embeddings"
        self.words = weights[f"{name}.word_embeddings.weight"]
        self.places = weights[f"{name}.position_embeddings.weight"] + weights[f"{name}.token_type_embeddings.weight"][0]
        self.norm = weights[f"{name}.LayerNorm.weight"], weights[f"{name}.LayerNorm.bias"], config.layer_norm_eps
        self.chemistry: ChemistryEmbedding | None = None
        if config.element_descriptors or config.site_multiplicity:
            self.chemistry = ChemistryEmbedding(config).to(self.words.dtype)
            self.chemistry.load_state_dict(_below(weights, "bert.chemistry."))
        self.layers = [_Layer(weights, f"bert.encoder.layer.{n}", config) for n in range(config.num_hidden_layers)]
        last = weights["classifier.layers." + str(2 * config.head_layers) + ".bias"]
        self.classifier = CloudHead(config, len(last)).to(self.words.dtype).eval()
        self.classifier.load_state_dict(_below(weights, "classifier."))

    def pooled(self, piece: Piece) -> Tensor:
        """Return what the layers of the head read, shape (n, width of the head)."""
        states = self.words[piece.ids]
        if self.chemistry is not None:
            states = states + self.chemistry(piece.orbits, states.dtype)
        states = states + self.places[: piece.ids.shape[1]]
        states = layer_norm(states, states.shape[-1:], *self.norm)
        for layer in self.layers[:-1]:
            states = layer(states, piece.mask)
        return self.classifier.pooled(self.layers[-1](states, piece.mask, piece.read), piece.weights)


def _below(weights: Weights, prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


class FastEncoder:
    """The members of a checkpoint.

    Args:
        config: Of the model.
        members: Weights of each member.
    """

    def __init__(self, config: Any, members: Sequence[Weights]) -> None:
        self.members = [FastMember(config, weights) for weights in members]
        self.orbits = OrbitReader(config) if config.reads_chemistry else None
        self.pools = config.pooling == "cls_multiplicity"

    @property
    def multiplicities(self) -> Tensor:
        """Multiplicity of each word, for a model that reads elements and sites."""
        if self.orbits is None:
            raise CloudError("This model does not read elements and sites off its words.")
        return self.orbits.multiplicity_of

    @torch.inference_mode()
    def __call__(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Run all members.

        Args:
            input_ids: Shape (batch, length), padded on the right; rows of similar length should lie together.
            attention_mask: 1 for tokens, 0 for padding, the same shape.

        Returns:
            The mean raw output of the heads, float32, shape (batch, n_outputs), and what the head of the first member
            reads, shape (batch, width).
        """
        answers = []
        for piece in self._pieces(input_ids, attention_mask):
            states = [member.pooled(piece) for member in self.members]
            raw = [member.classifier.layers(state).float() for member, state in zip(self.members, states, strict=True)]
            answers.append((sum(raw[1:], raw[0]) / len(raw), states[0]))
        return torch.cat([raw for raw, _ in answers]), torch.cat([state for _, state in answers])

    @torch.inference_mode()
    def states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Run the first member alone and return what its head reads, shape (batch, width); arguments as above."""
        return torch.cat([self.members[0].pooled(piece) for piece in self._pieces(input_ids, attention_mask)])

    def _pieces(self, input_ids: Tensor, attention_mask: Tensor) -> Iterator[Piece]:
        lengths = attention_mask.sum(1)
        ends, longest = [0], 0
        for row, length in enumerate(lengths.tolist()):
            n = row - ends[-1]
            is_full = n > 0 and max(longest, length) * (n + 1) > MOST_TOKENS
            if is_full or (length != longest and longest * n >= FEWEST_TOKENS):
                ends.append(row)
                longest = 0
            longest = max(longest, length)
        for start, end in pairwise([*ends, len(input_ids)]):
            rows, width = slice(start, end), int(lengths[start:end].max())
            ids, mask = input_ids[rows, :width], attention_mask[rows, :width] > 0
            orbits = None if self.orbits is None else self.orbits(ids)
            read, weights = torch.zeros(len(ids), 1, dtype=torch.long), None
            if self.pools and orbits is not None:
                shares = orbits.weights()
                counted = shares > 0
                most = int(counted.sum(1).max())
                places = counted.float().topk(most, dim=1, sorted=False).indices
                read = torch.cat([read, places], 1)
                weights = torch.cat([torch.zeros(len(ids), 1), shares.gather(1, places)], 1)
            yield Piece(rows, ids, None if bool(mask.all()) else mask[:, None, None], read, weights, orbits)
