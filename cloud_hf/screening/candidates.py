"""Prototypes times elements: a stream of candidates, each crystal once, from any place of the stream on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from cloud_hf.errors import CloudError
from cloud_hf.screening.chemistry import Rules
from cloud_hf.screening.elements import group_elements
from cloud_hf.screening.prototypes import Prototype, slot_maps

__all__ = ["DEFAULT_LIMIT", "Candidate", "Counts", "Product"]

DEFAULT_LIMIT = 2_000_000
"""Products of prototypes and elements that are looked at without being asked twice."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A hypothetical crystal.

    Attributes:
        prototype: Place of its prototype in the list.
        elements: One for each slot.
        scope: Canonical SCOPE string.
        n_atoms: Atoms per primitive cell.
        log_probability: Of the elements as a language model proposed them, nats; None if it did not.
    """

    prototype: int
    elements: tuple[str, ...]
    scope: str
    n_atoms: int
    log_probability: float | None = None


@dataclass
class Counts:
    """What became of the products.

    Attributes:
        products: Looked at.
        repeated: Some element stands in two slots.
        duplicates: The same crystal as an earlier one.
        forbidden: Against the rules of charge and electronegativity.
        candidates: The others.
    """

    products: int = 0
    repeated: int = 0
    duplicates: int = 0
    forbidden: int = 0
    candidates: int = 0

    def add(self, other: "Counts") -> None:
        """Add the counts of another piece."""
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def __str__(self) -> str:
        return (
            f"{self.products:,} products: {self.repeated:,} with an element in two slots, {self.forbidden:,} against "
            f"the rules of charge and electronegativity, {self.duplicates:,} duplicates, {self.candidates:,} candidates"
        )


@dataclass(frozen=True)
class Product:
    """All ways to fill the slots of prototypes.

    Args:
        prototypes: The prototypes.
        pools: For each prototype the elements of each slot.
        rules: What a candidate must obey.
    """

    prototypes: Sequence[Prototype]
    pools: Sequence[tuple[tuple[str, ...], ...]]
    rules: Rules = field(default_factory=Rules)

    @classmethod
    def of(
        cls,
        prototypes: Sequence[Prototype],
        slots: Mapping[str, Sequence[str]],
        rules: Rules | None = None,
        limit: int | None = DEFAULT_LIMIT,
    ) -> "Product":
        """Choose the elements of each slot.

        Args:
            prototypes: The prototypes.
            slots: Elements of slots by their names; other slots take all stable elements.
            rules: What a candidate must obey; None: `Rules()`.
            limit: Most products; None: any number.

        Raises:
            CloudError: A slot that no prototype has, no product at all, or more of them than `limit`.
        """
        for name in slots:
            if all(prototype.slot(name) is None for prototype in prototypes):
                there = sorted({slot for prototype in prototypes for slot in (*prototype.slots, *prototype.elements)})
                raise CloudError(f"no prototype has a slot {name!r}; there are {', '.join(there)}.")
        pools = []
        for prototype in prototypes:
            pool = [group_elements("all")] * len(prototype)
            for name, elements in slots.items():
                place = prototype.slot(name)
                if place is not None:
                    pool[place] = tuple(elements)
            pools.append(tuple(pool))
        product = cls(prototypes, pools, rules or Rules())
        if all(len({*first}) < 1 for first in pools) or not len(product):
            raise CloudError("no product of prototypes and elements is left.")
        if limit is not None and len(product) > limit:
            raise CloudError(
                f"{len(product):,} products of prototypes and elements are more than the limit of {limit:,}; name "
                f"fewer prototypes or elements, or raise `limit` to {len(product)}.",
                flag="limit",
            )
        return product

    def __len__(self) -> int:
        """Products, those that are no candidates included."""
        return sum(prod(map(len, pool)) for pool in self.pools)

    def candidates(self, start: int = 0, stop: int | None = None, counts: Counts | None = None) -> Iterator[Candidate]:
        """Yield the candidates of a range of products, each crystal at its first product only.

        Args:
            start: First product.
            stop: Behind the last product; None: all.
            counts: Counts what became of the products.
        """
        counts = Counts() if counts is None else counts
        stop = len(self) if stop is None else min(stop, len(self))
        first = 0
        for place, (prototype, pool) in enumerate(zip(self.prototypes, self.pools, strict=True)):
            size = prod(map(len, pool))
            begin, end = max(start - first, 0), min(stop - first, size)
            if begin < end:
                twins = self._twins(place)
                n_atoms, numbers = prototype.n_atoms, prototype.counts
                for index in range(begin, end):
                    counts.products += 1
                    elements = _digits(index, pool)
                    if len({*elements}) < len(elements):
                        counts.repeated += 1
                    elif not self.rules.allow(elements, numbers):
                        counts.forbidden += 1
                    elif any(twin.holds(elements, index) for twin in twins):
                        counts.duplicates += 1
                    else:
                        counts.candidates += 1
                        yield Candidate(place, elements, prototype.string(elements), n_atoms)
            first += size

    def _twins(self, place: int) -> list["_Twin"]:
        """Earlier products of the same crystals: in earlier prototypes, and in this one with slots exchanged."""
        prototype = self.prototypes[place]
        identity = tuple(range(len(prototype)))
        twins = []
        for other in range(place + 1):
            for order in slot_maps(prototype, self.prototypes[other]):
                if other < place or order != identity:
                    twins.append(_Twin(order, self.pools[other], other < place))
        return twins


class _Twin:
    """Another product that gives the same crystal."""

    def __init__(self, order: tuple[int, ...], pool: tuple[tuple[str, ...], ...], always: bool) -> None:
        self.inverse = [order.index(slot) for slot in range(len(order))]
        self.places = [{element: place for place, element in enumerate(elements)} for elements in pool]
        self.sizes = [len(elements) for elements in pool]
        self.always = always

    def holds(self, elements: tuple[str, ...], index: int) -> bool:
        """Whether the twin of a product is among the products, and before it."""
        number = 0
        for slot, (places, size) in enumerate(zip(self.places, self.sizes, strict=True)):
            place = places.get(elements[self.inverse[slot]])
            if place is None:
                return False
            number = number * size + place
        return self.always or number < index


def _digits(index: int, pool: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """The product with a number; the last slot changes fastest."""
    chosen = []
    for elements in reversed(pool):
        index, place = divmod(index, len(elements))
        chosen.append(elements[place])
    return tuple(reversed(chosen))
