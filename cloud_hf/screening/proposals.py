"""Candidates that the masked language model proposes: elements of a prototype, and Wyckoff words, drawn one by one.

All words to be drawn are masked; then one slot after the other, in a random order, is drawn from what the model expects
there given all words drawn before, at a temperature. Orbits of a slot share their element, whose log-probability is the
mean over them. Every word of the vocabulary can be drawn, and the grammar decides what is a crystal: how many are is
reported, as are uniqueness and novelty (as in Xie et al., ICLR 2022, for strings in place of structures).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cloud_hf.errors import CloudError, ScopeError
from cloud_hf.inference.likelihood import StringLikelihood
from cloud_hf.scope import parse
from cloud_hf.screening.candidates import Candidate
from cloud_hf.screening.chemistry import Rules
from cloud_hf.screening.known import KnownStrings
from cloud_hf.screening.plan import Proposals
from cloud_hf.screening.prototypes import Prototype, prototype_of_scope

__all__ = ["Proposed", "Sampling", "propose"]

BATCH = 256


@dataclass(frozen=True)
class Sampling:
    """How candidates are drawn.

    Attributes:
        samples: Draws for each prototype.
        temperature: Divides the logarithms of the probabilities; above 1 draws are more varied.
        seed: Of the draws.
        sites: Whether Wyckoff words are drawn too; the space group and the number of orbits stay.
    """

    samples: int = 200
    temperature: float = 1.0
    seed: int = 0
    sites: bool = False

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        if self.samples < 1 or not 0 < self.temperature < 100:
            raise CloudError("draws need at least 1 sample and a temperature above 0 and below 100.")


@dataclass
class Proposed:
    """What became of the draws.

    Attributes:
        drawn: Strings.
        valid: Of these, strings that the grammar allows, with a different element in each slot.
        unique: Different crystals among the valid ones.
        novel: Of these, crystals that are not known.
        allowed: Of the different crystals, those that obey the rules of charge and electronegativity.
    """

    drawn: int = 0
    valid: int = 0
    unique: int = 0
    novel: int = 0
    allowed: int = 0

    def __str__(self) -> str:
        return (
            f"{self.drawn:,} strings drawn: {_share(self.valid, self.drawn)} valid, "
            f"{_share(self.unique, self.valid)} of these unique, {_share(self.novel, self.unique)} of these novel; "
            f"{self.allowed:,} obey the rules of charge and electronegativity"
        )

    def record(self) -> dict[str, int]:
        """Return the numbers as JSON can hold them."""
        return asdict(self)


def _share(some: int, total: int) -> str:
    return f"{some / total:.1%}" if total else "none"


def propose(
    prototypes: Sequence[Prototype],
    slots: Mapping[str, Sequence[str]],
    model: StringLikelihood,
    known: KnownStrings,
    sampling: Sampling | None = None,
    rules: Rules | None = None,
) -> tuple[Proposals, Proposed]:
    """Draw candidates from a masked language model.

    Args:
        prototypes: Whose slots are filled.
        slots: Elements of slots that are restricted to them, by name.
        model: The language model with its tokenizer.
        known: What counts as known.
        sampling: How to draw.
        rules: What a candidate must obey.

    Returns:
        The candidates, each crystal once, with their log-probabilities, and what became of the draws.
    """
    sampling, rules = sampling or Sampling(), rules or Rules()
    chance = np.random.default_rng(sampling.seed)
    proposed = Proposed()
    kinds: list[Prototype] = list(prototypes)
    places: dict[Any, int] = {}
    candidate_of: dict[str, Candidate] = {}
    for number, prototype in enumerate(prototypes):
        drawer = _Drawer(prototype, slots, model, sampling, chance)
        for text, elements, log_probability in drawer.draws():
            proposed.drawn += 1
            try:
                scope = parse(text).canonical()
            except ScopeError:
                continue
            if len({*elements}) < len(elements):
                continue
            proposed.valid += 1
            string = str(scope)
            if string in candidate_of:
                continue
            place, chosen = number, tuple(elements)
            if sampling.sites and prototype.string(elements) != string:
                kind = prototype_of_scope(scope, f"{prototype.name}*")
                place = places.setdefault((kind.space_group, kind.orbits), len(kinds))
                chosen = kind.elements
                if place == len(kinds):
                    kinds.append(kind)
            candidate_of[string] = Candidate(place, chosen, string, int(scope.n_atoms_primitive or 0), log_probability)
    proposed.unique = len(candidate_of)
    proposed.novel = int((~known.holds(list(candidate_of))).sum()) if candidate_of else 0
    allowed = [
        candidate
        for candidate in candidate_of.values()
        if rules.allow(candidate.elements, kinds[candidate.prototype].counts)
    ]
    proposed.allowed = len(allowed)
    return Proposals(kinds, allowed), proposed


class _Drawer:
    """Draws of one prototype."""

    def __init__(
        self,
        prototype: Prototype,
        slots: Mapping[str, Sequence[str]],
        model: StringLikelihood,
        sampling: Sampling,
        chance: np.random.Generator,
    ) -> None:
        self.model, self.sampling, self.chance = model, sampling, chance
        body = " ".join(f"{prototype.elements[slot]} {word}" for slot, word in prototype.orbits)
        self.head = prototype.scope.partition(" | ")[0]
        self.ids = np.array(model.tokenizer(f"{self.head} | {body}")["input_ids"])
        first = len(self.ids) - 1 - 2 * len(prototype.orbits)  # behind the words stands [SEP]
        self.slot_of = [slot for slot, _ in prototype.orbits]
        self.elements = [
            [first + 2 * orbit for orbit, slot in enumerate(self.slot_of) if slot == place]
            for place in range(len(prototype))
        ]
        self.sites = [first + 2 * orbit + 1 for orbit in range(len(prototype.orbits))] if sampling.sites else []
        self.first, self.n_orbits = first, len(prototype.orbits)
        self.allowed: list[list[int] | None] = [None] * len(prototype)
        for name, symbols in slots.items():
            place = prototype.slot(name)
            if place is not None:
                self.allowed[place] = model.tokenizer.convert_tokens_to_ids(list(symbols))
        special = set(model.tokenizer.all_special_ids)
        self.words = [number for number in range(len(model.tokenizer)) if number not in special]

    def draws(self) -> "list[tuple[str, list[str], float]]":
        """Return text, elements of the slots, and log-probability of each draw."""
        draws = []
        for start in range(0, self.sampling.samples, BATCH):
            draws += self._batch(min(BATCH, self.sampling.samples - start))
        return draws

    def _batch(self, size: int) -> "list[tuple[str, list[str], float]]":
        masked = [place for places in self.elements for place in places] + self.sites
        tokens = np.tile(self.ids, (size, 1))
        tokens[:, masked] = self.model.tokenizer.mask_token_id
        total = np.zeros(size)
        steps: list[tuple[list[int], list[int]]] = [
            (places, self.allowed[slot] or self.words) for slot, places in enumerate(self.elements)
        ]
        steps += [([place], self.words) for place in self.sites]
        for step in self.chance.permutation(len(steps)):
            places, words = steps[step]
            logarithms = self._logarithms(tokens, places)
            chosen = self._choose(logarithms, np.array(words))
            tokens[:, places] = chosen[:, None]
            total += logarithms[np.arange(size), chosen]
        names = [self.model.tokenizer.convert_ids_to_tokens(row.tolist()) for row in tokens]
        drawn = []
        for row, value in zip(names, total.tolist(), strict=True):
            body = " ".join(row[self.first : self.first + 2 * self.n_orbits])
            drawn.append((f"{self.head} | {body}", [row[places[0]] for places in self.elements], value))
        return drawn

    @torch.inference_mode()
    def _logarithms(self, tokens: NDArray[np.int64], places: Sequence[int]) -> NDArray[np.float64]:
        """Ln P of each word, the mean over some places, shape (draws, words)."""
        ids = torch.from_numpy(tokens)
        states = self.model.model.bert(ids, attention_mask=torch.ones_like(ids)).last_hidden_state[:, list(places)]
        logits = self.model.model.cls(states.reshape(-1, states.shape[-1])).float().log_softmax(dim=-1)
        return np.asarray(logits.reshape(len(tokens), len(places), -1).mean(dim=1).double().numpy())

    def _choose(self, logarithms: NDArray[np.float64], words: NDArray[np.int64]) -> NDArray[np.int64]:
        """Draw one of the words for each row (the Gumbel trick)."""
        values = logarithms[:, words] / self.sampling.temperature
        return np.asarray(words[np.argmax(values + self.chance.gumbel(size=values.shape), axis=1)])
