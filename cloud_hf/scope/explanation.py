"""What each word of a SCOPE string means, for people who read one for the first time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import gemmi
from pymatgen.core import Element
from pymatgen.symmetry.groups import SYMM_DATA

from cloud_hf.scope._relabelings import wyckoff_table
from cloud_hf.scope.generators import PUBLISHED_GENERATORS, generator_words
from cloud_hf.scope.grammar import Scope, parse

__all__ = ["Phrase", "Word", "explain"]

_ROTATIONS = {
    1: "no rotation", -1: "inversion", 2: "2-fold rotation", 3: "3-fold rotation", 4: "4-fold rotation",
    6: "6-fold rotation", -2: "mirror", -3: "3-fold rotoinversion", -4: "4-fold rotoinversion",
    -6: "6-fold rotoinversion",
}  # fmt: skip
_AXES = "abc"


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a string.

    Attributes:
        text: As in the string.
        meaning: In a few words, e.g. `shift of 1/2 along b`.
    """

    text: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words of a string that say one thing together.

    Attributes:
        kind: `symmetry` (generators of the space group), `separator`, `orbit` (an element and its Wyckoff position),
            `position` (a Wyckoff position alone) or `element` (an element alone, or with its atomic fraction).
        words: At least one, in the order of the string.
        meaning: What they say together, a sentence without its full stop.
    """

    kind: str
    words: tuple[Word, ...]
    meaning: str


def explain(scope: str | Scope) -> list[Phrase]:
    """Say what each word of a SCOPE string means.

    Args:
        scope: A string of any of the three grammars, or one that was parsed.

    Returns:
        Phrases whose words, in their order, are the words of the string.

    Raises:
        ScopeError: Not a string that a crystal can have; the message names the first wrong word.

    >>> explain("1 0 0 | Cu 1a")[-1].meaning
    'Copper on Wyckoff position 1a of P-1: 1 site in the conventional cell, 1 in the primitive cell, no free coordinate'
    """
    scope = parse(scope) if isinstance(scope, str) else scope
    bar = Phrase("separator", (Word("|", "end of this part"),), "The next part of the string begins")
    phrases = [*_generators(scope), bar]
    positions = [Word(word, "multiplicity in the conventional cell, and Wyckoff letter") for word in scope.wyckoff]
    elements = [Word(symbol, _name(symbol)) for symbol in scope.occupants]
    if scope.grammar == "sites":
        for element, position in zip(elements, positions, strict=True):
            where = _position(scope, position.text)
            meaning = f"{_name(element.text).capitalize()} on Wyckoff position {where}"
            phrases.append(Phrase("orbit", (element, position), meaning))
        return phrases
    phrases += [Phrase("position", (word,), f"Wyckoff position {_position(scope, word.text)}") for word in positions]
    phrases.append(bar)
    if scope.rounded_fractions is None:
        return phrases + [
            Phrase("element", (element,), f"{_name(element.text).capitalize()} on site {place}")
            for place, element in enumerate(elements, start=1)
        ]
    for element, fraction in zip(elements, scope.rounded_fractions, strict=True):
        words = element, Word(str(fraction), "atomic fraction, two decimals")
        name = _name(element.text).capitalize()
        phrases.append(Phrase("element", words, f"{name}, {fraction:.0%} of the atoms to two decimals"))
    return phrases


def _name(symbol: str) -> str:
    return "a species that is no element" if symbol == "X" else str(Element(symbol).long_name).lower()


def _position(scope: Scope, word: str) -> str:
    """A Wyckoff position with its multiplicities and free coordinates."""
    table = wyckoff_table(scope.space_group)
    place = table.words.index(word)
    number, free = table.multiplicities[place], table.free[place]
    primitive = number // table.lattice_points
    return (
        f"{word} of {table.symbol}: {_counted(number, 'site')} in the conventional cell, {primitive} in the primitive "
        f"cell, {_counted(free, 'free coordinate')}"
    )


def _counted(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'s' * (number > 1)}"


def _generators(scope: Scope) -> Iterator[Phrase]:
    """The phrases of the first part."""
    inversion, number, *rest = generator_words(scope.space_group)
    has_centre = inversion == "1"
    centre = "an inversion centre at the origin" if has_centre else "no inversion centre at the origin"
    count = int(number)
    yield Phrase("symmetry", (Word(inversion, centre),), f"The symmetry has {centre}")
    follow = f"{_counted(count, 'generator').capitalize()} follow{'' if count > 1 else 's'}"
    yield Phrase("symmetry", (Word(number, "number of generators"),), follow)
    is_label = scope.space_group in PUBLISHED_GENERATORS
    for place in range(count):
        letters = rest[4 * place : 4 * place + 4]
        triplet, rotation = _operation(letters)
        words = (Word(letters[0], f"{rotation}: {_operation([letters[0], *'OOO'])[0]}"), *_shifts(letters[1:]))
        meaning = f"Generator {place + 1} of {count}: {rotation}, (x, y, z) to ({triplet})"
        if is_label:
            meaning += "; in this group the generators are a label, not the symmetry operations"
        yield Phrase("symmetry", words, meaning)
    origin, *shift = rest[4 * count :]
    symbol = wyckoff_table(scope.space_group).symbol
    words = (Word(origin, "shift of the origin" if shift else "no shift of the origin"), *_shifts(shift))
    along = f"The origin is shifted by ({', '.join(_fraction(letter) for letter in shift)})" if shift else "No shift"
    meaning = f"{along}; the generators give space group {symbol} (No. {scope.space_group})"
    yield Phrase("symmetry", words, meaning)


def _shifts(letters: Sequence[str]) -> list[Word]:
    values = [(_fraction(letter), axis) for letter, axis in zip(letters, _AXES, strict=False)]
    texts = [f"no shift along {axis}" if value == "0" else f"shift of {value} along {axis}" for value, axis in values]
    return [Word(letter, text) for letter, text in zip(letters, texts, strict=True)]


def _fraction(letter: str) -> str:
    return str(SYMM_DATA["translations"][letter])


def _operation(letters: Sequence[str]) -> tuple[str, str]:
    """A generator as a triplet such as `-x, y+1/2, -z`, and the kind of its rotation."""
    rotation, *shift = letters
    operation = gemmi.Op()
    operation.rot = [[int(x) * gemmi.Op.DEN for x in row] for row in SYMM_DATA["generator_matrices"][rotation]]
    operation.tran = [int(Fraction(_fraction(letter)) * gemmi.Op.DEN) for letter in shift]
    return operation.triplet().replace(",", ", "), _ROTATIONS[operation.rot_type()]
