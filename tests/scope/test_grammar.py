"""SCOPE strings as data: round trips, canonical forms, counts against pymatgen, and what is refused."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Composition, Structure

from cloud_hf.errors import GrammarError, ScopeError, UnknownWordError
from cloud_hf.models.tokenization_scope import grammar_of
from cloud_hf.scope import ScopeEncoder
from cloud_hf.scope._relabelings import relabelings, wyckoff_table
from cloud_hf.scope.canonical import ELEMENT_ORDER, ELEMENT_RANK, find_orbits
from cloud_hf.scope.generators import generator_words
from cloud_hf.scope.grammar import Scope, parse
from example_files import EACH_EXAMPLE

pytestmark = [
    pytest.mark.filterwarnings("ignore:Site labels are not unique"),
    pytest.mark.filterwarnings("ignore:Issues encountered while parsing CIF"),
    pytest.mark.filterwarnings("ignore:gcd is deprecated:FutureWarning"),
]

FAST = settings(max_examples=100)

Orbits = list[tuple[str, str]]


def generators(space_group: int) -> str:
    return " ".join(generator_words(space_group))


def write_sites(space_group: int, orbits: Orbits) -> str:
    return f"{generators(space_group)} | " + " ".join(f"{element} {word}" for element, word in orbits)


def write_full(space_group: int, orbits: Orbits, n_cells: int = 1) -> str:
    points = wyckoff_table(space_group).lattice_points
    sites = [pair for pair in orbits for _ in range(n_cells * int(pair[1][:-1]) // points)]
    words, elements = (" ".join(pair[i] for pair in sites) for i in (1, 0))
    return f"{generators(space_group)} | {words} | {elements}"


def write_composition(space_group: int, orbits: Orbits) -> str:
    amounts: Counter[str] = Counter()
    for element, word in orbits:
        amounts[element] += int(word[:-1])
    words = " ".join(dict.fromkeys(word for _, word in orbits))
    fractions = " ".join(f"{element} {round(n / amounts.total(), 2)}" for element, n in amounts.items())
    return f"{generators(space_group)} | {words} | {fractions}"


WRITERS = {"sites": write_sites, "full": write_full, "composition": write_composition}


def refusal(text: str) -> str | None:
    """The message of the typed error, or None where the text is a SCOPE string, which then comes back."""
    try:
        scope = parse(text)
    except ScopeError as error:
        return str(error)
    assert str(scope) == " ".join(text.replace("|", " | ").split())
    return None


def is_fixed(space_group: int, word: str) -> bool:
    table = wyckoff_table(space_group)
    return table.free[table.words.index(word)] == 0


@st.composite
def crystals(draw: st.DrawFn) -> tuple[int, Orbits]:
    """A space group and orbits that a crystal could have: every fixed position at most once."""
    space_group = draw(st.integers(1, 230))
    words = draw(st.lists(st.sampled_from(wyckoff_table(space_group).words), min_size=1, max_size=5))
    kept = [w for i, w in enumerate(words) if not (is_fixed(space_group, w) and w in words[:i])]
    return space_group, [(draw(st.sampled_from(ELEMENT_ORDER)), word) for word in kept]


@st.composite
def redescribed(draw: st.DrawFn) -> tuple[int, Orbits, Orbits]:
    """A crystal and the same orbits after another choice of origin and axes, in the same order."""
    space_group, orbits = draw(crystals())
    words = wyckoff_table(space_group).words
    new = draw(st.sampled_from(relabelings(space_group)))
    return space_group, orbits, [(element, words[new[words.index(word)]]) for element, word in orbits]


@FAST
@given(crystals(), st.sampled_from(sorted(WRITERS)))
def test_text_comes_back(crystal: tuple[int, Orbits], grammar: str) -> None:
    text = WRITERS[grammar](*crystal)
    scope = parse(text)
    assert str(scope) == text
    assert scope.grammar == grammar == grammar_of(text)
    assert scope.space_group == crystal[0]
    assert parse(text.replace(" | ", "|\t").replace(" ", "  ")) == scope
    assert hash(parse(text)) == hash(scope)


@FAST
@given(crystals())
def test_sites_hold_everything_exactly(crystal: tuple[int, Orbits]) -> None:
    space_group, orbits = crystal
    scope = parse(write_sites(space_group, orbits))
    amounts: Counter[str] = Counter()
    for element, word in orbits:
        amounts[element] += int(word[:-1])
    assert scope.orbits == tuple(orbits)
    assert scope.elements == tuple(amounts)
    assert scope.n_atoms_conventional == amounts.total()
    assert scope.n_atoms_primitive == amounts.total() / wyckoff_table(space_group).lattice_points
    assert scope.fractions == {element: n / amounts.total() for element, n in amounts.items()}
    assert scope.space_group_symbol == wyckoff_table(space_group).symbol
    assert Composition(scope.formula) == Composition(Composition(amounts).reduced_formula)


@FAST
@given(crystals(), st.integers(1, 3), st.randoms(use_true_random=False))
def test_full_agrees_with_sites_or_says_none(crystal: tuple[int, Orbits], n_cells: int, random: object) -> None:
    space_group, orbits = crystal
    sites = parse(write_sites(space_group, orbits))
    full = parse(write_full(space_group, orbits, n_cells))
    assert full.formula == sites.formula
    assert full.fractions == pytest.approx(sites.fractions)
    if any(is_fixed(space_group, word) for _, word in orbits):
        assert full.orbits is not None
    if full.orbits is None:
        assert full.n_atoms_primitive is full.n_atoms_conventional is None
    else:
        assert Counter(full.orbits) == Counter(orbits)
        assert full.n_atoms_primitive == sites.n_atoms_primitive
        assert full.canonical() == parse(write_full(space_group, list(sites.canonical().orbits or ())))


@FAST
@given(crystals())
def test_composition_holds_no_assignment(crystal: tuple[int, Orbits]) -> None:
    scope = parse(write_composition(*crystal))
    assert scope.orbits is scope.formula is scope.n_atoms_primitive is scope.n_atoms_conventional is None
    assert list(scope.fractions) == list(scope.elements)
    assert parse(str(scope), ordered=True) == scope  # written from fully occupied orbits


@FAST
@given(redescribed(), st.sampled_from(sorted(WRITERS)))
def test_canonical_form_is_idempotent_and_blind_to_relabelling(
    crystal: tuple[int, Orbits, Orbits], grammar: str
) -> None:
    space_group, orbits, renamed = crystal
    canonical = parse(WRITERS[grammar](space_group, orbits)).canonical()
    assert canonical.canonical() == canonical == parse(str(canonical))
    assert parse(WRITERS[grammar](space_group, renamed)).canonical() == canonical
    assert Counter(canonical.fractions) == Counter(parse(WRITERS[grammar](space_group, orbits)).fractions)


@FAST
@given(crystals(), st.randoms(use_true_random=False))
def test_canonical_form_of_assigned_sites_is_blind_to_their_order(crystal: tuple[int, Orbits], random: object) -> None:
    space_group, orbits = crystal
    shuffled = list(orbits)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for grammar in ("sites", "full"):
        write = WRITERS[grammar]
        assert parse(write(space_group, shuffled)).canonical() == parse(write(space_group, orbits)).canonical()


@FAST
@given(crystals())
def test_canonical_orbits_give_canonical_strings_in_every_grammar(crystal: tuple[int, Orbits]) -> None:
    """What an encoder writes from canonical orbits stays as it is."""
    space_group, orbits = crystal
    best = list(parse(write_sites(space_group, orbits)).canonical().orbits or ())
    for write in (write_sites, write_composition):
        assert str(parse(write(space_group, best)).canonical()) == write(space_group, best)


@FAST
@given(redescribed())
def test_canonical_composition_is_a_relabelling_of_the_same_set(crystal: tuple[int, Orbits, Orbits]) -> None:
    space_group, orbits, _ = crystal
    before = parse(write_composition(space_group, orbits))
    after = before.canonical()
    words = wyckoff_table(space_group).words
    images = [{words[new[words.index(w)]] for w in before.wyckoff} for new in relabelings(space_group)]
    assert set(after.wyckoff) in images
    assert list(after.elements) == sorted(before.elements, key=ELEMENT_RANK.__getitem__)


@FAST
@given(crystals(), st.sampled_from(sorted(WRITERS)), st.data())
def test_damaged_text_is_parsed_or_refused_with_a_typed_error(
    crystal: tuple[int, Orbits], grammar: str, data: st.DataObject
) -> None:
    words = WRITERS[grammar](*crystal).split()[:40]
    other = data.draw(st.sampled_from([*words, "0.5", "Cu", "4a", "[MASK]", "|", "Xx", "0.333", "ä", "7", "²a"]))
    place = data.draw(st.integers(0, len(words) - 1))
    words[place : place + data.draw(st.integers(0, 2))] = [other]
    message = refusal(" ".join(words))
    assert message is None or "Word " in message or "no '|'" in message


@FAST
@given(st.text(max_size=30))
def test_any_text_gives_a_typed_answer(text: str) -> None:
    assert refusal(text) != ""


@pytest.mark.parametrize("path", EACH_EXAMPLE)
def test_counts_of_the_examples_equal_pymatgen(path: Path) -> None:
    structure = Structure.from_file(path)
    found = find_orbits(structure)
    texts = [write_sites(found.space_group, list(found.orbits)), write_full(found.space_group, list(found.orbits), 2)]
    for text in [*texts, ScopeEncoder(grammar="full").encode(structure * (2, 1, 1))]:
        scope = parse(text)
        assert scope.formula == structure.reduced_formula
        assert scope.space_group_symbol == found.space_group_symbol
        expected = structure.composition.fractional_composition.as_dict()
        assert scope.fractions == pytest.approx({str(element): x for element, x in expected.items()})
        if scope.orbits is not None:
            assert (scope.n_atoms_primitive, scope.n_atoms_conventional) == (found.n_primitive, found.n_conventional)
            assert Counter(scope.canonical().orbits) == Counter(found.orbits)
    released = parse(ScopeEncoder(grammar="composition").encode(structure), ordered=True)
    assert set(released.elements) == {element.symbol for element in structure.composition}


GROUP_225 = generators(225)  # 15 words; fixed positions 4a, 4b, 8c, 24d; 24e, 32f, ... have free coordinates


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("", GrammarError, "no '|'"),
        ("Cu", GrammarError, "no '|'"),
        ("1 0 0 | ", GrammarError, "Word 4, '|': the part after it is empty"),
        ("| 1a | Cu 1.0", GrammarError, "Word 1, '|': the part before it is empty"),
        ("1 0 0 | | Cu 1.0", GrammarError, "Word 5, '|': the part before it is empty"),
        ("1 0 0 | 2i | Cu 1.0 | 2i", GrammarError, "Word 9, '|': a SCOPE string has two or three parts"),
        ("1 0 0 | [MASK] | Cu 1.0", GrammarError, "Word 5, '[MASK]': a masked string"),
        ("1 0 z | 2i | Cu 1.0", GrammarError, "Word 3, 'z': no space group"),
        ("1 0 0 0 | 2i | Cu 1.0", GrammarError, "Word 4, '0': no space group"),
        ("1 0 | 2i | Cu 1.0", GrammarError, "Word 3, '|': no space group has these generators"),
        ("1 0 0 | Cu 2i Zn", GrammarError, "Word 7, 'Zn': the Wyckoff word of this element is missing"),
        ("1 0 0 | 2i | Cu 0.5 Zn", GrammarError, "Word 9, 'Zn': the fraction of this element is missing"),
        ("1 0 0 | 2i | Qq 1.0", UnknownWordError, "Word 7, 'Qq': not the symbol"),
        ("1 0 0 | 2i Cu", UnknownWordError, "Word 5, '2i': not the symbol"),
        ("1 0 0 | X 2i", UnknownWordError, "Word 5, 'X': not the symbol"),
        ("1 0 0 | Cu Zn", UnknownWordError, "Word 6, 'Zn': not a Wyckoff word"),
        ("1 0 0 | 2i | Cu 1.5", UnknownWordError, "Word 8, '1.5': not a fraction"),
        ("1 0 0 | 2i | Cu 1", UnknownWordError, "Word 8, '1': not a fraction"),
        ("1 0 0 | 2i | Cu -0.5 Zn 0.5", UnknownWordError, "Word 8, '-0.5': not a fraction"),
        (f"{GROUP_225} | Na 4a Cl 4z", ScopeError, "'4z': space group 225 (Fm-3m) has no letter 'z'"),
        (f"{GROUP_225} | Na 4a Cl 8b", ScopeError, "'8b': in space group 225 (Fm-3m) this letter is '4b'"),
        (f"{GROUP_225} | Na 4a Cl 4a", ScopeError, "'4a': filled before"),
        (f"{GROUP_225} | 4a 4a | Na 0.5 Cl 0.5", ScopeError, "'4a': listed before"),
        (f"{GROUP_225} | 4a 4b | Na Cl Cl", ScopeError, "'Cl': one too many: 2 Wyckoff words, 3 elements"),
        (f"{GROUP_225} | 4a 4b 4b | Na Cl", ScopeError, "'4b': one too many: 3 Wyckoff words, 2 elements"),
        (f"{GROUP_225} | 4a 4a | Na Cl", ScopeError, "'Cl': at 4a, which has no free coordinates and already holds Na"),
        (f"{GROUP_225} | 4a 4b 4b | Na Cl Cl", ScopeError, "'Cl': sites at 4b for 2 primitive cells"),
        (f"{GROUP_225} | 8c 4a | Na Cl", ScopeError, "'Na': 1 sites at 8c where every primitive cell has 2"),
        (f"{GROUP_225} | 4a 4a 24e 24e 24e 24e 24e 24e | W W O O O O O O", ScopeError, "cannot be shared by 2"),
        ("1 0 0 | 2i | Cu 0.5 Cu 0.5", ScopeError, "Word 9, 'Cu': this element has a fraction already"),
        ("1 0 0 | 2i | Cu 0.5 Zn 0.4", ScopeError, "Word 7, 'Cu': the fractions from here on add up to 0.90"),
        ("1 0 0 | 2i | Cu 1.0 Zn 0.02", ScopeError, "add up to 1.02"),
        ("1 0 0 | 2i | Cu 0.99", ScopeError, "add up to 0.99"),
    ],
)
def test_invalid_text_is_refused_with_position_and_reason(text: str, kind: type[ScopeError], message: str) -> None:
    with pytest.raises(kind) as caught:
        parse(text)
    assert message in str(caught.value)
    assert f"{caught.value}".count("Word ") == (0 if "no '|'" in message else 1)


def test_what_is_no_text_is_refused() -> None:
    for value in (None, float("nan"), 3, b"1 0 0 | 2i | Cu 1.0"):
        with pytest.raises(GrammarError, match="is a text"):
            parse(value)  # type: ignore[arg-type]


def test_rounded_and_vanishing_fractions_are_accepted() -> None:
    thirds = parse("1 0 0 | 2i | Cu 0.33 Zn 0.33 Al 0.33")
    assert thirds.fractions == {"Cu": 0.33, "Zn": 0.33, "Al": 0.33}
    assert [str(e) for e in thirds.canonical().elements] == ["Al", "Zn", "Cu"]
    assert parse("1 0 0 | 2i | Cu 1.0 Zn 0.0").fractions["Zn"] == 0.0


def test_mixed_sites_are_refused_on_request_only() -> None:
    alloy = f"{GROUP_225} | 4a | Fe 0.5 Ni 0.5"
    assert str(parse(alloy)) == alloy
    for text in (alloy, f"{GROUP_225} | 4a 4b | Na 0.9 Cl 0.1"):
        with pytest.raises(ScopeError, match="fully occupied by one element each"):
            parse(text, ordered=True)
    free = f"{GROUP_225} | 4a 24e | Na 0.9 Cl 0.1"
    assert parse(free, ordered=True) == parse(free)


def test_words_move_with_their_elements() -> None:
    swapped = parse(f"{GROUP_225} | 4b 8c | O 0.33 Na 0.67")
    assert str(swapped.canonical()) == f"{GROUP_225} | 8c 4a | Na 0.67 O 0.33"


def test_a_supercell_is_reduced_where_the_text_allows() -> None:
    rock_salt = parse(f"{GROUP_225} | 4b 4b 4a 4a | Cl Cl Na Na")
    assert (rock_salt.n_atoms_primitive, rock_salt.n_atoms_conventional) == (2, 8)
    assert str(rock_salt.canonical()) == f"{GROUP_225} | 4a 4b | Na Cl"
    undecided = parse("0 0 0 | 1a 1a | Cu Cu")  # one cell with two atoms, or two with one
    assert undecided.orbits is undecided.n_atoms_primitive is undecided.n_atoms_conventional is None
    assert undecided.formula == "Cu"
    assert str(undecided.canonical()) == str(undecided)


@pytest.mark.parametrize("every", [10, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("published_scope_10k", "scope"),
        ("published_parity", "scope"),
        ("published_parity", "scope_full"),
        ("heat_capacity_train", "scope"),
        ("dielectric_fold0_train", "scope"),
    ],
)
def test_every_published_string_parses(shared: Path, table: str, column: str, every: int) -> None:
    import pandas as pd

    path = shared / "data" / f"{table}.parquet"
    if not path.is_file():
        pytest.skip(f"{path} is not there; set CLOUD_SHARED to the shared folder")
    frame = pd.read_parquet(path).iloc[::every]
    scopes = [parse(text) for text in frame[column]]
    assert [str(scope) for scope in scopes] == list(frame[column])
    for scope in scopes:
        canonical = scope.canonical()
        assert canonical.canonical() == canonical
        assert isinstance(canonical, Scope)
        parse(str(scope), ordered=True)  # no published crystal is disordered as far as fixed positions tell
    known = [n for n in zip(scopes, frame.get("formula", [None] * len(frame)), strict=True) if n[0].formula and n[1]]
    assert all(Composition(scope.formula) == Composition(formula) for scope, formula in known)
    if table == "heat_capacity_train":
        assert all(scope.formula is None and scope.n_atoms_primitive is None for scope in scopes)
    if column == "scope_full":
        n_sites = [s.n_atoms_primitive for s in scopes if s.n_atoms_primitive is not None]
        assert len(n_sites) > 0.9 * len(scopes)
        assert all((n % s.n_atoms_primitive) == 0 for s, n in zip(scopes, frame.nsites, strict=True) if s.orbits)


def calls_of_parse(text: str) -> int:
    """Number of functions that `parse` calls; seconds would say how busy the machine is."""
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        parse(text)
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_reading_costs_few_calls_a_word(write: Any) -> None:
    """Measured 40 calls and half a call for each word, which is 26,000 to 42,000 published strings in a second."""
    for n_orbits in (10, 200):
        text = write(1, [("Cu", "1a"), ("O", "1a")] * n_orbits)
        parse(text)  # fills the tables
        assert calls_of_parse(text) < 80 + len(text.split())


def test_the_configuration_which_travels_alone_knows_the_same_grammars() -> None:
    from huggingface_hub.errors import StrictDataclassClassValidationError

    from cloud_hf import CloudConfig
    from cloud_hf.scope.grammar import GRAMMARS

    assert [CloudConfig(grammar=grammar).grammar for grammar in GRAMMARS] == list(GRAMMARS)
    with pytest.raises(StrictDataclassClassValidationError, match=", ".join(GRAMMARS)):
        CloudConfig(grammar="other")
