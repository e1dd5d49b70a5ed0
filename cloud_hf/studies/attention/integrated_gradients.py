"""Integrated gradients (Sundararajan et al., ICML 2017) of a head's output over the inputs of its encoder.

The path runs from the baseline, in which every word but [CLS], [SEP] and the separator is [MASK] or padding, to the
string. What moves along it is everything that the model reads off a word: the sum of word embedding and chemistry
inputs at its place, and its weight in the pooled mean. Position embeddings stay. So the ends of the path are what the
model gives for the two strings, and the attributions must add up to their difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.models.bert.modeling_bert import BertModel

from cloud_hf.studies.attention.shares import CLASSES, CONTENT, WordClasses, batches_by_length

__all__ = ["BASELINES", "CHANNELS", "Attributions", "Output", "attribute", "outputs_of"]

BASELINES = ("mask", "pad")

CHANNELS = ("words", "chemistry", "pooling")
"""Word embeddings; element descriptors and multiplicities; weights of the pooled mean."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Output:
    """What is attributed: one output of a head, linear in the head's raw output.

    Attributes:
        name: What it is called.
        unit: Its unit.
        column: Column of the raw outputs.
        scale: Units per raw output.
    """

    name: str
    unit: str
    column: int
    scale: float


@dataclass(frozen=True)
class Attributions:
    """Of n strings, by the C classes of `CLASSES`, in the unit of the output.

    Attributes:
        signed: Sum of the attributions of the words of a class, shape (n, C).
        absolute: Sum of their absolute values, shape (n, C).
        channels: Sum of absolute attributions of each of `CHANNELS`, shape (n, 3).
        change: Output of the string less that of the baseline, shape (n,).
        occluded: Change of the output when all words of a class are masked, shape (n, C); 0 for the others.
    """

    signed: Numbers
    absolute: Numbers
    channels: Numbers
    change: Numbers
    occluded: Numbers

    @property
    def error(self) -> float:
        """Mean of |sum of attributions - change| over the mean of |change|: 0 if complete."""
        return float(np.abs(self.signed.sum(axis=1) - self.change).mean() / max(np.abs(self.change).mean(), 1e-30))


def outputs_of(config: Any) -> list[Output]:
    """Return what a head gives before exponentials: ln of the Debye temperature, targets as they were learned."""
    if "CloudForDebye" in (config.architectures or []):
        if config.theta_link == "exp":
            return [Output("ln(Debye temperature / K)", "1", 0, config.theta_scale)]
        return [Output("Debye temperature", "K", 0, config.theta_scale)]
    names = config.target_names or []
    units = config.target_units or ["1"] * len(names)
    transforms = config.target_transforms or ["standardise"] * len(names)
    outputs = []
    for column, (name, unit, transform) in enumerate(zip(names, units, transforms, strict=True)):
        atom = " per atom" if "per_atom" in transform else ""
        scale = (config.target_scale or [1.0] * len(names))[column]
        is_log = transform.startswith("log")
        text = f"ln({name}{atom} / {unit})" if is_log else f"{name}{atom}"
        outputs.append(Output(text, "1" if is_log else unit, column, scale))
    return outputs


def attribute(
    model: Any, tokenizer: Any, scopes: Sequence[str], output: Output, steps: int, baseline: str = "mask",
    batch_size: int = 32,
) -> Attributions:  # fmt: skip
    """Attribute one output to the words of strings; for an ensemble the mean over its members.

    Args:
        model: `CloudForPropertyRegression` or `CloudForDebye`; set to evaluation mode, without gradients of weights.
        tokenizer: Its tokenizer.
        scopes: SCOPE strings of its grammar.
        output: One of `outputs_of(model.config)`.
        steps: Points of Gauss-Legendre quadrature along the path.
        baseline: `mask` or `pad`.
        batch_size: Strings at a time.
    """
    model.eval().requires_grad_(False)
    classes = WordClasses(tokenizer)
    members = [model, *getattr(model, "members", [])]
    n, kinds = len(scopes), len(CLASSES)
    signed, absolute, occluded = (np.zeros((n, kinds)) for _ in range(3))
    channels, change = np.zeros((n, len(CHANNELS))), np.zeros(n)
    filler = tokenizer.mask_token_id if baseline == "mask" else tokenizer.pad_token_id
    for rows, batch in batches_by_length(tokenizer, scopes, batch_size, "gradients"):
        ids, mask = batch["input_ids"], batch["attention_mask"]
        kind = classes(ids)
        of_class = classes.one_hot(ids)
        empty = torch.where((kind >= 0) & (kind < len(CONTENT)), filler, ids)
        parts = torch.zeros(len(CHANNELS), *ids.shape)
        for member in members:
            path = _Path(member.bert, member.classifier, ids, empty, mask, output)
            parts += path.integrate(steps) / len(members)
            change[rows] += ((path.at(1.0) - path.at(0.0)) / len(members)).numpy()
            for index in CONTENT:
                without = torch.where(kind == index, tokenizer.mask_token_id, ids)
                if not torch.equal(without, ids):
                    hidden = _Path(member.bert, member.classifier, ids, without, mask, output).at(0.0)
                    occluded[rows, index] += ((path.at(1.0) - hidden) / len(members)).numpy()
        total = parts.sum(0)
        signed[rows] = torch.einsum("bk,bkc->bc", total, of_class).numpy()
        absolute[rows] = torch.einsum("bk,bkc->bc", total.abs(), of_class).numpy()
        channels[rows] = parts.abs().sum(2).T.numpy()
    return Attributions(signed, absolute, channels, change, occluded)


class _Path:
    """The straight line between what an encoder and its head read of two id sequences of one shape."""

    def __init__(self, encoder: Any, head: Any, ids: Tensor, start: Tensor, mask: Tensor, output: Output) -> None:
        self.encoder, self.head, self.mask, self.output = encoder, head, mask, output
        self.start, self.end = self._inputs(start), self._inputs(ids)

    def _inputs(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Word embeddings, chemistry inputs, and weights of the pooled mean."""
        embedded = self.encoder.embeddings.word_embeddings(ids)
        chemistry = getattr(self.encoder, "chemistry", None)
        added = torch.zeros_like(embedded) if chemistry is None else embedded * 0 + chemistry(self.encoder.orbits(ids))
        return embedded, added, self.encoder.pooling_weights(ids)

    def _output(self, embeddings: Tensor, weights: Tensor | None) -> Tensor:
        # the sum is given, so that the chemistry inputs are not added again
        states: Any = BertModel.forward(self.encoder, inputs_embeds=embeddings, attention_mask=self.mask)
        raw: Tensor = self.head(states.last_hidden_state, weights)
        return raw[:, self.output.column] * self.output.scale

    def _point(self, share: float) -> tuple[Tensor, Tensor | None]:
        (embedded, added, weights), (last_embedded, last_added, last_weights) = self.start, self.end
        embeddings = (1 - share) * (embedded + added) + share * (last_embedded + last_added)
        if weights is None or last_weights is None:
            return embeddings, None
        return embeddings, (1 - share) * weights + share * last_weights

    @torch.no_grad()
    def at(self, share: float) -> Tensor:
        """Output at a point of the path, shape (batch,)."""
        return self._output(*self._point(share))

    def integrate(self, steps: int) -> Tensor:
        """Attributions by channel and token, shape (channels, batch, length)."""
        nodes, widths = np.polynomial.legendre.leggauss(steps)
        embeddings, weights = self._point(0.0)
        of_embeddings = torch.zeros_like(embeddings)
        of_weights = torch.zeros(self.mask.shape)
        for node, width in zip((nodes + 1) / 2, widths / 2, strict=True):
            embeddings, weights = self._point(float(node))
            inputs = [embeddings.requires_grad_(True)]
            if weights is not None:
                inputs.append(weights.requires_grad_(True))
            slopes = torch.autograd.grad(self._output(embeddings, weights).sum(), inputs)
            of_embeddings += float(width) * slopes[0]
            if weights is not None:
                of_weights += float(width) * slopes[1]
        (embedded, added, first), (last_embedded, last_added, last) = self.start, self.end
        moved = torch.zeros_like(of_weights) if first is None or last is None else last - first
        return torch.stack([
            (of_embeddings * (last_embedded - embedded)).sum(-1), (of_embeddings * (last_added - added)).sum(-1),
            of_weights * moved,
        ])  # fmt: skip
