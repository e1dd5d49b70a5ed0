"""SCOPE strings as data: `parse(text)` gives a typed object, `str()` of it gives the text back.

Three grammars, told apart by their form; every word stands between single spaces:

- `composition`: `generators | Wyckoff words | element fraction element fraction ...` (arXiv 2506.17345). A set of
  occupied positions and rounded atomic fractions; who sits where, how often a position is filled and how many atoms
  there are is not written. Besides the elements it knows `X`, a species that is none.
- `full`: `generators | Wyckoff word of every site | element of every site`, for the sites of any cell.
- `sites`: `generators | element Wyckoff element Wyckoff ...`, one pair per orbit.

Errors count words from 1, separators `|` included, as `text.split()` does. `[MASK]` belongs to models, not here.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from math import gcd

from cloud_hf.errors import GrammarError, ScopeError, UnknownWordError
from cloud_hf.scope._relabelings import LETTERS, relabelings, wyckoff_table
from cloud_hf.scope.canonical import ELEMENT_RANK, canonical_orbits
from cloud_hf.scope.formula import reduced_formula
from cloud_hf.scope.generators import generator_words, space_group_of

__all__ = ["CANONICAL_FIRST", "GRAMMARS", "Scope", "parse"]

GRAMMARS = ("sites", "composition", "full")

CANONICAL_FIRST = ("sites", "full", "composition")
"""From the grammar that says most of a crystal to the one that says least."""
"""Forms of a SCOPE string, the default first."""

Pair = tuple[str, str]

# "X" is what OPTIMADE and pymatgen call a species that is no element; 1 of 10,000 published strings holds it
_COMPOSITION_RANK = {"X": -1} | ELEMENT_RANK
_FRACTIONS = {str(percent / 100): percent / 100 for percent in range(101)}
_ROUNDING = 0.005 + 1e-9  # half a unit of the second decimal


@dataclass(frozen=True)
class Scope:
    """A SCOPE string as data. `parse` makes it and checks it; the constructor itself checks nothing.

    Attributes:
        grammar: `"composition"`, `"full"` or `"sites"`, as `cloud_hf.models.tokenization_scope.grammar_of` tells.
        space_group: Number in the International Tables, 1 to 230.
        wyckoff: Wyckoff words as written: one per orbit (sites), per site (full), or the distinct ones (composition).
        occupants: Elements as written: one per orbit, per site, or per fraction.
        rounded_fractions: Atomic fractions as written, two decimals; None unless the grammar is `composition`.
    """

    grammar: str
    space_group: int
    wyckoff: tuple[str, ...]
    occupants: tuple[str, ...]
    rounded_fractions: tuple[float, ...] | None = None

    def __str__(self) -> str:
        if self.grammar == "sites":
            pairs = zip(self.occupants, self.wyckoff, strict=True)
            parts = [" ".join(f"{element} {word}" for element, word in pairs)]
        else:
            last = self.occupants
            if self.rounded_fractions is not None:
                last = tuple(f"{e} {x}" for e, x in zip(self.occupants, self.rounded_fractions, strict=True))
            parts = [" ".join(self.wyckoff), " ".join(last)]
        return " | ".join([" ".join(generator_words(self.space_group)), *parts])

    @property
    def space_group_symbol(self) -> str:
        """Short Hermann-Mauguin symbol, e.g. `Fm-3m`."""
        return wyckoff_table(self.space_group).symbol

    @property
    def elements(self) -> tuple[str, ...]:
        """The elements, each once, in order of first appearance."""
        return tuple(dict.fromkeys(self.occupants))

    @cached_property
    def orbits(self) -> tuple[Pair, ...] | None:
        """(element, Wyckoff word) of every orbit, repeats kept; None where the text does not fix them.

        `full` fixes them if a position without free coordinates is filled (by one orbit only, which counts the
        primitive cells in the given cell) or if the numbers of sites have no common divisor; 93 % of the
        published strings do. `composition` never does.
        """
        if self.grammar == "sites":
            return tuple(zip(self.occupants, self.wyckoff, strict=True))
        cells = self._n_cells
        if cells is None:
            return None
        return tuple(pair for pair, count in self._orbits_in_cell.items() for _ in range(count // cells))

    @property
    def fractions(self) -> dict[str, float]:
        """Atomic fraction of each element: exact, or to two decimals where the grammar is `composition`."""
        if self.rounded_fractions is not None:
            return dict(zip(self.occupants, self.rounded_fractions, strict=True))
        total = sum(self._amounts.values())
        return {element: amount / total for element, amount in self._amounts.items()}

    @cached_property
    def formula(self) -> str | None:
        """Reduced formula as pymatgen writes it, e.g. `Al2O3`; None for `composition`."""
        if self.rounded_fractions is not None:
            return None
        return reduced_formula({element: float(amount) for element, amount in self._amounts.items()})

    @property
    def n_atoms_conventional(self) -> int | None:
        """Atoms per conventional cell; None where the orbits are not fixed."""
        return None if self.orbits is None else sum(int(word[:-1]) for _, word in self.orbits)

    @property
    def n_atoms_primitive(self) -> int | None:
        """Atoms per primitive cell; None where the orbits are not fixed."""
        conventional = self.n_atoms_conventional
        return None if conventional is None else conventional // wyckoff_table(self.space_group).lattice_points

    def canonical(self) -> "Scope":
        """Return the same crystal with canonical letters and order, as far as its grammar tells.

        - `sites`: `canonical_orbits`, letters jointly with the assignment; one string per crystal.
        - `full`: the same, orbit after orbit, for the primitive cell if the text fixes the orbits, otherwise for
          the given cell.
        - `composition`: elements in `ELEMENT_ORDER`. The assignment is lost, but the words follow the elements, so
          their order is kept (with as many words as elements each word moves with its element) and of all
          relabellings the one with the smallest row of letters is taken. Every such row describes the same set of
          positions, a string written from canonical orbits stays as it is, and nothing is guessed; two descriptions
          that list the same positions in different orders stay apart.
        """
        if self.rounded_fractions is not None:
            return self._canonical_composition(self.rounded_fractions)
        orbits = self.orbits
        if orbits is None:
            orbits = tuple(pair for pair, count in self._orbits_in_cell.items() for _ in range(count))
        pairs = canonical_orbits(self.space_group, orbits)
        if self.grammar == "full":
            sizes = _positions(self.space_group)
            pairs = tuple(pair for pair in pairs for _ in range(sizes[pair[1]][0]))
        return Scope(self.grammar, self.space_group, tuple(w for _, w in pairs), tuple(e for e, _ in pairs))

    def _canonical_composition(self, fractions: tuple[float, ...]) -> "Scope":
        order = sorted(range(len(self.occupants)), key=lambda i: _COMPOSITION_RANK[self.occupants[i]])
        kept = len(self.wyckoff) != len(order)
        listed = self.wyckoff if kept else tuple(self.wyckoff[i] for i in order)
        words = wyckoff_table(self.space_group).words
        letters = [words.index(word) for word in listed]
        smallest = min([new[letter] for letter in letters] for new in relabelings(self.space_group))
        return Scope(
            self.grammar,
            self.space_group,
            tuple(words[letter] for letter in smallest),
            tuple(self.occupants[i] for i in order),
            tuple(fractions[i] for i in order),
        )

    @cached_property
    def _amounts(self) -> dict[str, int]:
        """Atoms of each element in the conventional cell (sites) or in the given cell (full)."""
        amounts = dict.fromkeys(self.occupants, 0)
        for element, word in zip(self.occupants, self.wyckoff, strict=True):
            amounts[element] += int(word[:-1]) if self.grammar == "sites" else 1
        return amounts

    @cached_property
    def _orbits_in_cell(self) -> dict[Pair, int]:
        """For `full`: orbits of each (element, word), times the primitive cells in the given cell."""
        if self.rounded_fractions is not None:
            return {}
        sizes = _positions(self.space_group)
        sites = Counter(zip(self.occupants, self.wyckoff, strict=True))
        return {pair: count // sizes[pair[1]][0] for pair, count in sites.items()}

    @property
    def _n_cells(self) -> int | None:
        """For `full`: primitive cells in the given cell, None if several numbers are possible."""
        positions = _positions(self.space_group)
        for (_, word), count in self._orbits_in_cell.items():
            if positions[word][1]:
                return count
        return 1 if gcd(*self._orbits_in_cell.values()) == 1 else None


@cache
def _positions(space_group: int) -> dict[str, tuple[int, bool]]:
    """Return sites per primitive cell, and whether it has no free coordinate, of each Wyckoff word."""
    table = wyckoff_table(space_group)
    sizes = [multiplicity // table.lattice_points for multiplicity in table.multiplicities]
    return {word: (size, not free) for word, size, free in zip(table.words, sizes, table.free, strict=True)}


def parse(text: str, *, ordered: bool = False) -> Scope:
    """Read a SCOPE string of any grammar and check everything that follows from its words.

    Args:
        text: A SCOPE string; other white space than single spaces is normalised.
        ordered: Also refuse a `composition` that needs mixed or partly empty sites. Only positions without free
            coordinates can prove that. Crystals with partial occupancy are written in this grammar, hence not the
            default.

    Returns:
        The string as data; `str()` of it is `" ".join(text.split())`.

    Raises:
        GrammarError: No SCOPE string by its form, or generators of no space group.
        UnknownWordError: Something else where an element, a Wyckoff word or a fraction belongs.
        ScopeError: Known words that no crystal can have: a letter or multiplicity that the space group lacks, a
            position without free coordinates filled twice, a composition that contradicts itself or the sites.
            Every message gives the number of the word, the word and the reason.
    """
    if not isinstance(text, str):
        raise GrammarError(f"A SCOPE string is a text, not {type(text).__name__} ({text!r:.40}).")
    words = text.replace("|", " | ").split()
    bars = [index for index, word in enumerate(words) if word == "|"]
    _check_form(words, bars)
    space_group = space_group_of(text)
    if space_group is None:
        raise _unknown_generators(words, bars[0])
    if len(bars) == 1:
        start = bars[0] + 1
        elements, wyckoff = words[start::2], words[start + 1 :: 2]
        _check_elements(words, start, 2, ELEMENT_RANK)
        if len(elements) != len(wyckoff):
            raise _error(GrammarError, words, len(words) - 1, "the Wyckoff word of this element is missing")
        _check_wyckoff(words, start + 1, len(words), 2, space_group, once=False)
        return Scope("sites", space_group, tuple(wyckoff), tuple(elements))
    first, second = bars[0] + 1, bars[1] + 1
    wyckoff, last = words[first : bars[1]], words[second:]
    if all(map(str.isalpha, last)):
        _check_elements(words, second, 1, ELEMENT_RANK)
        _check_wyckoff(words, first, bars[1], 1, space_group, once=None)
        scope = Scope("full", space_group, tuple(wyckoff), tuple(last))
        _check_full(words, first, second, scope)
        return scope
    _check_elements(words, second, 2, _COMPOSITION_RANK)
    fractions = _read_fractions(words, second)
    _check_wyckoff(words, first, bars[1], 1, space_group, once=True)
    scope = Scope("composition", space_group, tuple(wyckoff), tuple(last[::2]), fractions)
    _check_composition(words, second, scope, ordered)
    return scope


def _error(kind: type[ScopeError], words: Sequence[str], index: int, reason: str) -> ScopeError:
    text = " ".join(words)
    shown = text if len(text) <= 120 else text[:117] + "..."
    return kind(f"Word {index + 1}, {words[index]!r}: {reason}. In the SCOPE string {shown!r}.")


def _check_form(words: list[str], bars: list[int]) -> None:
    if "[MASK]" in words:
        raise _error(GrammarError, words, words.index("[MASK]"), "a masked string does not describe a crystal")
    if not bars:
        raise GrammarError(f"{' '.join(words[:20])!r} is not a SCOPE string: it has no '|' after the generators.")
    if len(bars) > 2:
        raise _error(GrammarError, words, bars[2], "a SCOPE string has two or three parts, this begins a fourth")
    for start, end in zip([-1, *bars], [*bars, len(words)], strict=True):
        if end == start + 1:
            side = "before" if end < len(words) else "after"
            raise _error(GrammarError, words, min(end, len(words) - 1), f"the part {side} it is empty")


def _unknown_generators(words: list[str], n_generators: int) -> ScopeError:
    segments = [generator_words(number) for number in range(1, 231)]
    for index in range(n_generators):
        segments = [known for known in segments if known[index : index + 1] == (words[index],)]
        if not segments:
            return _error(GrammarError, words, index, "no space group has generators that begin like this")
    return _error(GrammarError, words, n_generators, "no space group has these generators, words are missing before it")


def _check_elements(words: list[str], start: int, step: int, known: dict[str, int]) -> None:
    for index in range(start, len(words), step):
        if words[index] not in known:
            raise _error(UnknownWordError, words, index, "not the symbol of a chemical element, which belongs here")


def _check_wyckoff(words: list[str], start: int, end: int, step: int, space_group: int, once: bool | None) -> None:
    """Check Wyckoff words. `once`: each may be listed once (True), once if fixed (False), any number (None)."""
    positions = _positions(space_group)
    seen = set()
    for index in range(start, end, step):
        word = words[index]
        if word not in positions:
            raise _unknown_position(words, index, space_group)
        if word in seen and once:
            raise _error(ScopeError, words, index, "listed before; this grammar names each occupied position once")
        if word in seen and once is False and positions[word][1]:
            reason = f"filled before, and a position of space group {space_group} without free coordinates holds one"
            raise _error(ScopeError, words, index, f"{reason} orbit only")
        seen.add(word)


def _unknown_position(words: list[str], index: int, space_group: int) -> ScopeError:
    number, letter = words[index][:-1], words[index][-1]
    table = wyckoff_table(space_group)
    if not (number.isdecimal() and letter in LETTERS):
        reason = "not a Wyckoff word (multiplicity in the conventional cell and letter, e.g. '4a'), which belongs here"
        return _error(UnknownWordError, words, index, reason)
    group = f"space group {space_group} ({table.symbol})"
    if letter not in table.letters:
        reason = f"{group} has no letter {letter!r}, its letters end with {table.letters[-1]!r}"
        return _error(ScopeError, words, index, reason)
    return _error(ScopeError, words, index, f"in {group} this letter is {table.words[table.letters.index(letter)]!r}")


def _check_full(words: list[str], first: int, second: int, scope: Scope) -> None:
    """Refuse sites that no whole number of primitive cells can hold."""
    n_words, n_elements = len(scope.wyckoff), len(scope.occupants)
    if n_words != n_elements:
        index = first + n_elements if n_words > n_elements else second + n_words
        raise _error(ScopeError, words, index, f"one too many: {n_words} Wyckoff words, {n_elements} elements")
    positions = _positions(scope.space_group)
    sites = Counter(zip(scope.occupants, scope.wyckoff, strict=True))
    where = {pair: second + i for i, pair in reversed([*enumerate(zip(scope.occupants, scope.wyckoff, strict=True))])}
    holder: dict[str, str] = {}
    cells = 0
    for (element, word), count in sites.items():
        size, fixed = positions[word]
        if count % size:
            reason = f"{count} sites at {word} where every primitive cell has {size} or a multiple of it"
            raise _error(ScopeError, words, where[element, word], reason)
        if not fixed:
            continue
        if holder.setdefault(word, element) != element:
            reason = f"at {word}, which has no free coordinates and already holds {holder[word]}"
            raise _error(ScopeError, words, where[element, word], reason)
        if cells not in (0, count // size):
            reason = f"sites at {word} for {count // size} primitive cells, those before for {cells}"
            raise _error(ScopeError, words, where[element, word], reason)
        cells = count // size
    for (element, word), count in sites.items():
        if cells and count // positions[word][0] % cells:
            reason = f"{count} sites at {word} cannot be shared by {cells} primitive cells"
            raise _error(ScopeError, words, where[element, word], reason)


def _read_fractions(words: list[str], start: int) -> tuple[float, ...]:
    fractions = []
    for index in range(start + 1, len(words), 2):
        fraction = _FRACTIONS.get(words[index])
        if fraction is None:
            reason = "not a fraction from 0.0 to 1.0 as the grammar writes it (0.5, 0.25, 1.0), which belongs here"
            raise _error(UnknownWordError, words, index, reason)
        fractions.append(fraction)
    if (len(words) - start) % 2:
        raise _error(GrammarError, words, len(words) - 1, "the fraction of this element is missing")
    return tuple(fractions)


def _check_composition(words: list[str], start: int, scope: Scope, ordered: bool) -> None:
    """Refuse fractions that no composition rounds to: each is off by at most 0.005, and their true sum is 1."""
    seen: set[str] = set()
    for i, element in enumerate(scope.occupants):
        if element in seen:
            raise _error(ScopeError, words, start + 2 * i, "this element has a fraction already")
        seen.add(element)
    fractions = scope.rounded_fractions or ()
    low = [max(fraction - _ROUNDING, 0.0) for fraction in fractions]
    high = [min(fraction + _ROUNDING, 1.0) for fraction in fractions]
    if not sum(low) <= 1 + 1e-9 or not sum(high) >= 1 - 1e-9:
        reason = f"the fractions from here on add up to {sum(fractions):.2f}, which rounding does not explain"
        raise _error(ScopeError, words, start, reason)
    positions = _positions(scope.space_group)
    if not ordered or not all(positions[word][1] for word in scope.wyckoff):
        return
    sizes = [positions[word][0] for word in scope.wyckoff]
    total = sum(sizes)
    reached = {(0,) * len(high)}  # atoms of each element after some of the positions
    for size in sizes:
        grown = {(*atoms[:i], atoms[i] + size, *atoms[i + 1 :]) for atoms in reached for i in range(len(atoms))}
        reached = {atoms for atoms in grown if all(n <= x * total for n, x in zip(atoms, high, strict=True))}
    if not any(all(n and n >= x * total for n, x in zip(atoms, low, strict=True)) for atoms in reached):
        reason = "fully occupied by one element each, the positions before it cannot give these fractions"
        raise _error(ScopeError, words, start, reason)
