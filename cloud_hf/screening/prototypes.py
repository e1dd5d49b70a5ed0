"""Prototypes: crystals whose elements stand for others of the same place.

The atoms of one element of a prototype form a slot. A slot of a textbook prototype of this package has the name that
textbooks give it, A, B, C for cations and X for the anion; the slots of other crystals are named in the same way, by
rising electronegativity. Every slot also answers to the symbol of its element.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from itertools import permutations
from math import gcd
from pathlib import Path
from typing import Any

from pymatgen.core import Lattice, Structure

from cloud_hf.corpus.schema import CORPUS_FILE
from cloud_hf.corpus.shards import open_corpus
from cloud_hf.data.inputs import Item, encode_items, iterate_items
from cloud_hf.errors import CloudError
from cloud_hf.scope import TIMEOUT, Scope, ScopeEncoder, parse
from cloud_hf.scope._relabelings import wyckoff_table
from cloud_hf.scope.canonical import ELEMENT_ORDER, ELEMENT_RANK, canonical_orbits
from cloud_hf.scope.formula import reduced_formula
from cloud_hf.scope.generators import generator_words

__all__ = ["Prototype", "bundled_prototypes", "prototype_of_scope", "read_prototypes", "slot_maps"]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVW"

MOST_EXCHANGED = 6
"""Slots up to which all exchanges are tried (720); no crystal of more elements is in the databases a second time."""


@dataclass(frozen=True)
class Prototype:
    """A crystal whose elements may be replaced.

    Attributes:
        name: What rows call it.
        formula: Reduced formula of the crystal that it is taken from.
        space_group: Number in the International Tables.
        orbits: Place of the slot, and Wyckoff word, of every orbit.
        slots: Names of the slots.
        elements: Element of the original crystal in each slot.
        structure: The original crystal, if it is known.
    """

    name: str
    formula: str
    space_group: int
    orbits: tuple[tuple[int, str], ...]
    slots: tuple[str, ...]
    elements: tuple[str, ...]
    structure: Structure | None = field(default=None, compare=False, repr=False)

    def __len__(self) -> int:
        """Slots."""
        return len(self.slots)

    @property
    def counts(self) -> tuple[int, ...]:
        """Atoms of each slot per formula unit of all slots."""
        atoms = self.atoms
        divisor = gcd(*atoms)
        return tuple(number // divisor for number in atoms)

    @property
    def atoms(self) -> tuple[int, ...]:
        """Atoms of each slot in the conventional cell."""
        numbers = [0] * len(self.slots)
        for slot, word in self.orbits:
            numbers[slot] += int(word[:-1])
        return tuple(numbers)

    @property
    def n_atoms(self) -> int:
        """Atoms per primitive cell."""
        return sum(self.atoms) // wyckoff_table(self.space_group).lattice_points

    @property
    def scope(self) -> str:
        """Canonical string of the original crystal."""
        return self.string(self.elements)

    def slot(self, name: str) -> int | None:
        """Place of a slot by its name or by the symbol of its element, None if there is none."""
        if name in self.slots:
            return self.slots.index(name)
        return self.elements.index(name) if name in self.elements else None

    def string(self, elements: Sequence[str]) -> str:
        """Return the canonical SCOPE string (grammar `sites`) with other elements.

        Args:
            elements: One for each slot, all different.
        """
        pairs = canonical_orbits(self.space_group, [(elements[slot], word) for slot, word in self.orbits])
        words = " ".join([f"{element} {word}" for element, word in pairs])
        return f"{_generators(self.space_group)} | {words}"

    def amounts(self, elements: Sequence[str]) -> dict[str, int]:
        """Return how many atoms of each element a formula unit has."""
        return dict(zip(elements, self.counts, strict=True))

    def compound(self, elements: Sequence[str]) -> str:
        """Return the reduced formula with other elements."""
        return reduced_formula({symbol: float(number) for symbol, number in self.amounts(elements).items()})


@cache
def _generators(space_group: int) -> str:
    return " ".join(generator_words(space_group))


@cache
def bundled_prototypes() -> dict[str, Prototype]:
    """Return the prototypes inside the package by name."""
    rows = json.loads((files(__package__) / "prototypes.json").read_text(encoding="utf-8"))
    prototype_of = {}
    for row in rows:
        elements = dict(row["slots"])
        sites = row["sites"]
        structure = Structure(
            Lattice.from_parameters(*row["lattice"]),
            [elements[site[0]] for site in sites],
            [site[1:] for site in sites],
        )
        prototype_of[row["name"]] = prototype_of_scope(
            parse(row["scope"]), row["name"], structure, list(elements.items())
        )
    return prototype_of


def prototype_of_scope(
    scope: Scope, name: str, structure: Structure | None = None, slots: Sequence[tuple[str, str]] | None = None
) -> Prototype:
    """Make a prototype of a `sites` string; `slots` are names and elements, by default by electronegativity."""
    if slots is None:
        elements = sorted(scope.elements, key=ELEMENT_RANK.__getitem__)
        names = [*LETTERS[: len(elements) - 1], "X"] if len(elements) > 1 else ["X"]
        slots = list(zip(names, elements, strict=True))
    symbols = tuple(symbol for _, symbol in slots)
    orbits = scope.orbits or ()
    return Prototype(
        name=name,
        formula=str(scope.formula),
        space_group=scope.space_group,
        orbits=tuple((symbols.index(element), word) for element, word in orbits),
        slots=tuple(slot for slot, _ in slots),
        elements=symbols,
        structure=structure,
    )


def read_prototypes(
    inputs: Iterable[Any] | None = None, processes: int = 1, timeout: float | None = TIMEOUT
) -> list[Prototype]:
    """Return the prototypes that a user names; those that differ only in their elements are one.

    Args:
        inputs: Names of bundled prototypes, and what `cloud_hf.data.inputs.iterate_items` takes: crystal files, SCOPE
            strings, tables, structures; or folders of corpora. None: all bundled ones.
        processes: Worker processes that read crystals.
        timeout: Longest time for one crystal, s; None sets no limit.

    Raises:
        CloudError: There is none, an unknown name, or a crystal that cannot be a prototype: it cannot be read, has
            disorder, or a string that does not tell who sits where.
    """
    bundled = bundled_prototypes()
    if inputs is None:
        return list(bundled.values())
    given = [inputs] if isinstance(inputs, str | Path) or not isinstance(inputs, Iterable) else list(inputs)
    prototypes: list[Prototype] = []
    for given_input in given:
        if isinstance(given_input, str) and given_input in bundled:
            prototypes.append(bundled[given_input])
        elif isinstance(given_input, str | Path) and (Path(given_input) / CORPUS_FILE).is_file():
            prototypes += _of_corpus(str(given_input))
        else:
            prototypes += _of_input(given_input, bundled, processes, timeout)
    distinct: dict[Any, Prototype] = {}
    for prototype in prototypes:
        distinct.setdefault(_shape(prototype), prototype)
    if not distinct:
        raise CloudError("there is no prototype.")
    return list(distinct.values())


def _of_input(given: Any, bundled: Mapping[str, Prototype], processes: int, timeout: float | None) -> list[Prototype]:
    if isinstance(given, str) and "|" not in given and not Path(given).exists() and not set("*?[") & {*given}:
        raise CloudError(
            f"{given!r} is neither a file nor one of the prototypes of this package: {', '.join(bundled)}."
        )
    return [
        _of_item(item)
        for item in encode_items(iterate_items([given]), ScopeEncoder(), processes, timeout, keep_cells=True)
    ]


def _of_item(item: Item) -> Prototype:
    if item.error is not None:
        raise item.error
    scope, cell = parse(str(item.scope)), item.crystal
    if cell is None:  # a string
        return prototype_of_scope(scope, str(scope.formula))
    structure = Structure(Lattice(cell.lattice), [content[0][0] for content in cell.contents], cell.frac_coords)
    return prototype_of_scope(scope, Path(item.source).stem or str(item.formula), structure)


def _of_corpus(folder: str) -> list[Prototype]:
    corpus = open_corpus(folder)
    if "sites" not in corpus.grammars:
        raise CloudError("holds no strings of the grammar 'sites', which prototypes are read from.", source=folder)
    prototype_of_shape: dict[Any, Prototype] = {}
    for number in range(len(corpus.files)):
        for table in corpus.shard(number, ["sites"]):
            for text in table.column("sites").to_pylist():
                if text:
                    scope = parse(text)
                    prototype = prototype_of_scope(scope, str(scope.formula))
                    prototype_of_shape.setdefault(_shape(prototype), prototype)
    return list(prototype_of_shape.values())


def _shape(prototype: Prototype) -> Any:
    """What prototypes that differ in elements and names of slots only have in common; textbook ones stay apart."""
    if bundled_prototypes().get(prototype.name) == prototype:
        return prototype.name
    slots = range(len(prototype))
    orders: Iterable[tuple[int, ...]] = permutations(slots) if len(prototype) <= MOST_EXCHANGED else [tuple(slots)]
    return prototype.space_group, min(
        canonical_orbits(prototype.space_group, _dummies(prototype, order)) for order in orders
    )


def _dummies(prototype: Prototype, order: Sequence[int]) -> list[tuple[str, str]]:
    """Orbits in which the first elements of the table stand for the slots."""
    return [(ELEMENT_ORDER[order[slot]], word) for slot, word in prototype.orbits]


def slot_maps(one: Prototype, other: Prototype) -> list[tuple[int, ...]]:
    """Return every way in which the slots of two prototypes can be exchanged without changing the crystals.

    Args:
        one: Its slots are mapped.
        other: To the slots of this one.

    Returns:
        Maps m: elements e of `one` give the string that the elements f of `other` give with f[m[i]] = e[i].
    """
    if one.space_group != other.space_group or len(one) != len(other):
        return []
    sizes = [sorted(int(word[:-1]) for _, word in each.orbits) for each in (one, other)]
    if sizes[0] != sizes[1]:
        return []
    slots = range(len(one))
    orders: Iterable[tuple[int, ...]] = permutations(slots) if len(one) <= MOST_EXCHANGED else [tuple(slots)]
    target = canonical_orbits(other.space_group, _dummies(other, range(len(other))))
    return [order for order in orders if canonical_orbits(one.space_group, _dummies(one, order)) == target]
