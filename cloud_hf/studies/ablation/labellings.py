"""The equivalent ways to write one crystal as a `sites` string: Wyckoff letters relabelled, orbits in any order."""

import random
from functools import lru_cache

from cloud_hf.scope import parse
from cloud_hf.scope._relabelings import relabelings, wyckoff_table
from cloud_hf.scope.canonical import ELEMENT_RANK
from cloud_hf.scope.grammar import Scope

__all__ = ["equivalent_strings", "random_description"]


def equivalent_strings(scope: str, most: int = 16) -> list[str]:
    """Return the distinct strings that the relabellings of the space group make of a `sites` string, orbits sorted.

    Args:
        scope: A canonical `sites` string; it comes first.
        most: Where there are more, this many are drawn, always the same ones.
    """
    crystal = parse(scope)
    every = list(dict.fromkeys(_relabelled(crystal, new) for new in relabelings(crystal.space_group)))
    others = [text for text in every if text != scope]
    if len(others) >= most:
        others = random.Random(scope).sample(others, most - 1)
    return [scope, *others]


def random_description(scope: str, seed: int) -> str:
    """Return one equivalent string: letters relabelled and orbits in any order, as an arbitrary cell gives them."""
    chance = random.Random(f"{seed} {scope}")
    crystal = parse(scope)
    pairs = _pairs(crystal, chance.choice(relabelings(crystal.space_group)))
    chance.shuffle(pairs)
    return _written(crystal, pairs)


def _pairs(crystal: Scope, new: tuple[int, ...]) -> list[tuple[str, int]]:
    place = _places(crystal.space_group)
    return [(element, new[place[word]]) for element, word in crystal.orbits or ()]


@lru_cache(maxsize=256)
def _places(space_group: int) -> dict[str, int]:
    return {word: index for index, word in enumerate(wyckoff_table(space_group).words)}


def _relabelled(crystal: Scope, new: tuple[int, ...]) -> str:
    return _written(crystal, sorted(_pairs(crystal, new), key=lambda pair: (ELEMENT_RANK[pair[0]], pair[1])))


def _written(crystal: Scope, pairs: list[tuple[str, int]]) -> str:
    positions = wyckoff_table(crystal.space_group).words
    elements, letters = tuple(e for e, _ in pairs), tuple(positions[letter] for _, letter in pairs)
    return str(Scope("sites", crystal.space_group, letters, elements))
