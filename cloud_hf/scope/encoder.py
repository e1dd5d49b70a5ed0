"""`ScopeEncoder`: crystal in, SCOPE string out."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np

from cloud_hf.crystals.cell import Cell
from cloud_hf.crystals.readers import MAX_ATOMS, Crystal, read_cell
from cloud_hf.errors import CloudError, DisorderedStructureError
from cloud_hf.parallel.batch import TIMEOUT, encode_batch
from cloud_hf.scope.backends import check_backend
from cloud_hf.scope.canonical import ELEMENT_ORDER, ELEMENT_RANK, KindOrbits, find_kind_orbits
from cloud_hf.scope.formula import reduced_formula
from cloud_hf.scope.generators import generator_words
from cloud_hf.scope.grammar import GRAMMARS
from cloud_hf.scope.symmetry import SymmetrySites, find_symmetry

__all__ = ["EncodedCrystal", "EncoderSettings", "ScopeEncoder"]


Words = Iterable[str]


@dataclass(frozen=True, slots=True)
class EncodedCrystal:
    """A SCOPE string with what the crystal says beside it.

    Attributes:
        scope: The SCOPE string.
        formula: Reduced formula, e.g. `Al2O3`.
        space_group: Number in the International Tables.
        space_group_symbol: Short Hermann-Mauguin symbol.
        n_atoms: Atoms per primitive cell (partial occupancies add up, so it may be fractional).
        note: What was taken on trust, or how the symmetry was found where the usual search failed; mostly empty.
    """

    scope: str
    formula: str
    space_group: int
    space_group_symbol: str
    n_atoms: float
    note: str = ""


class EncoderSettings(NamedTuple):
    """What strings depend on; as a text, a line that is stored with every dataset and checkpoint made with them.

    Attributes:
        grammar: Form of the strings.
        canonical: Whether they are in canonical order, else in that of the input.
        symmetry: Back-end of the symmetry search.
        version: Of the back-end.
        symprec: Distance tolerance of the search, Å.
        angle_tolerance: Angle tolerance of the search, degrees.
    """

    grammar: str
    canonical: bool
    symmetry: str
    version: str
    symprec: float
    angle_tolerance: float

    def __str__(self) -> str:
        order = "canonical" if self.canonical else "input order"
        tolerances = f"symprec {self.symprec:g}, angle_tolerance {self.angle_tolerance:g}"
        return f"{self.grammar}, {order}, {self.symmetry} {self.version}, {tolerances}"

    @classmethod
    def read(cls, line: str) -> "EncoderSettings":
        """Read what `str` wrote, and perhaps a note in brackets behind it.

        Raises:
            CloudError: It wrote no such line.
        """
        match = _SETTINGS.fullmatch(line)
        if match is None:
            raise CloudError(f"{line!r} is not a line of encoder settings.")
        grammar, order, symmetry, number, symprec, angle = match.groups()
        return cls(grammar, order == "canonical", symmetry, number, float(symprec), float(angle))


_NUMBER = r"(\d+(?:\.\d*)?(?:e[+-]?\d+)?)"
_SETTINGS = re.compile(
    rf"(\w+), (canonical|input order), (\w+) (\S+), symprec {_NUMBER}, angle_tolerance {_NUMBER}(?: \(.*\))?", re.ASCII
)


class ScopeEncoder:
    """Write crystals as SCOPE strings (Symmetry-Consistent Ordered Parameter Encoding, arXiv 2506.17345).

    A canonical string does not depend on how the crystal is described: order of the atoms, origin, rotation, cell.

    Args:
        grammar: `"sites"` writes `generators | element Wyckoff element Wyckoff ...`, one pair per orbit;
            `"composition"` the paper's `generators | Wyckoff set | element fraction ...`; `"full"` its longer
            variant with one Wyckoff word and one element per site.
        canonical: Letters, orbits and elements in their canonical order. `False` gives what the paper's released
            encoder gives, which follows the order of the input; `"sites"` is always canonical.
        symprec: Distance tolerance of the symmetry search in Å.
        angle_tolerance: Angle tolerance of the symmetry search in degrees (spglib only).
        symmetry: Back-end of the symmetry search, `"spglib"` or `"moyopy"` (faster, an extra). Near the tolerance
            they judge differently, so strings of both should not be mixed.
        max_atoms: Largest number of sites in the given cell.
        trust_sites: Take the sites of a crystal as they are, with a warning, where the formula of its source, hydrogen
            without positions, or the lack of any symmetry in a CIF speaks against them.

    Raises:
        CloudError: An unknown grammar or back-end, settings that exclude each other, a tolerance that is not positive.
    """

    def __init__(
        self,
        grammar: str = "sites",
        canonical: bool = True,
        symprec: float = 0.01,
        angle_tolerance: float = 5.0,
        symmetry: str = "spglib",
        max_atoms: int = MAX_ATOMS,
        trust_sites: bool = False,
    ) -> None:
        if grammar not in GRAMMARS:
            raise CloudError(f"grammar must be one of {', '.join(GRAMMARS)}, not {grammar!r}.")
        check_backend(symmetry)
        if grammar == "sites" and not canonical:
            raise CloudError("grammar 'sites' is always canonical; leave canonical=False to 'composition' and 'full'.")
        if symmetry != "spglib" and not canonical:
            raise CloudError("canonical=False is what the paper's encoder gives, which uses spglib.")
        if not (0 < symprec < np.inf and 0 < angle_tolerance < np.inf and max_atoms >= 1):
            raise CloudError("symprec (Å), angle_tolerance (degrees) and max_atoms must be positive.")
        self.grammar = grammar
        self.canonical = canonical
        self.symprec = symprec
        self.angle_tolerance = angle_tolerance
        self.symmetry = symmetry
        self.max_atoms = max_atoms
        self.trust_sites = trust_sites

    @classmethod
    def from_config(cls, config: Any, max_atoms: int = MAX_ATOMS, trust_sites: bool = False) -> "ScopeEncoder":
        """Return the encoder that wrote the strings which a checkpoint was trained on.

        Args:
            config: A `CloudConfig`.
            max_atoms: Largest number of sites in a cell.
            trust_sites: As for the class.
        """
        settings = config.grammar, config.canonical, config.symprec, config.angle_tolerance, config.symmetry
        return cls(*settings, max_atoms, trust_sites)

    @classmethod
    def from_settings(cls, settings: str) -> "ScopeEncoder":
        """Return the encoder that a line of `settings` describes, with the installed version of its back-end.

        Args:
            settings: What the property `settings` gave.

        Raises:
            CloudError: The line is not one of `settings`.
        """
        said = EncoderSettings.read(settings)
        return cls(said.grammar, said.canonical, said.symprec, said.angle_tolerance, said.symmetry)

    def __repr__(self) -> str:
        return (
            f"ScopeEncoder(grammar={self.grammar!r}, canonical={self.canonical}, symprec={self.symprec}, "
            f"angle_tolerance={self.angle_tolerance}, symmetry={self.symmetry!r}, max_atoms={self.max_atoms}, "
            f"trust_sites={self.trust_sites})"
        )

    @property
    def settings(self) -> str:
        """What the strings depend on, in one line: stored with every dataset and checkpoint made with them."""
        search = self.symmetry, version(self.symmetry), self.symprec, self.angle_tolerance
        return str(EncoderSettings(self.grammar, self.canonical, *search))

    def encode(self, crystal: Crystal) -> str:
        """Return the SCOPE string of a crystal.

        Args:
            crystal: Path of a CIF or POSCAR file, a pymatgen `Structure`, or anything else that `read_cell` takes.

        Returns:
            The string, e.g. `1 2 a E C C n O O O 0 | Ba 3a Ti 3b B 6c O 18f`.

        Raises:
            CrystalError: The crystal cannot be read or has no usable symmetry; the message names it.
        """
        cell = self._read(crystal)
        return self._scope(self.grammar, cell, self._search(cell), cell.amounts())

    def describe(self, crystal: Crystal) -> EncodedCrystal:
        """Return the SCOPE string together with formula, space group and atoms per primitive cell.

        Args:
            crystal: As for `encode`.

        Raises:
            CrystalError: As for `encode`.
        """
        return self.describe_cell(self._read(crystal))[0]

    def describe_cell(self, cell: Cell, grammars: Sequence[str] = ()) -> tuple[EncodedCrystal, tuple[str | None, ...]]:
        """Return what `describe` does for a cell that is read already, and its strings in several grammars.

        The symmetry is searched once for all of them.

        Args:
            cell: As `read_cell` returns it; ordered, unless the encoder's grammar is `"composition"`.
            grammars: Of the strings.

        Returns:
            The description, and a string for each grammar; None where it cannot write partially occupied sites.

        Raises:
            CrystalError: The cell has no usable symmetry; the message names it.
        """
        amounts, symmetry = cell.amounts(), self._search(cell)
        primitive_cells = (
            len(cell) / symmetry.n_primitive if isinstance(symmetry, KindOrbits) else symmetry.n_primitive_cells
        )
        scope = self._scope(self.grammar, cell, symmetry, amounts)
        described = EncodedCrystal(
            scope=scope,
            formula=reduced_formula(amounts),
            space_group=symmetry.space_group,
            space_group_symbol=symmetry.space_group_symbol,
            n_atoms=round(sum(amounts.values()) / primitive_cells, 6),
            note="; ".join(filter(None, (cell.note, symmetry.note))),
        )
        strings = (
            scope
            if grammar == self.grammar
            else self._scope(grammar, cell, symmetry, amounts)
            if cell.is_ordered or grammar == "composition"
            else None
            for grammar in grammars
        )
        return described, tuple(strings)

    def _read(self, crystal: Crystal) -> Cell:
        cell = read_cell(crystal, self.max_atoms, not self.canonical, self.trust_sites)
        if self.grammar != "composition" and not cell.is_ordered:
            raise DisorderedStructureError(
                f"the grammar {self.grammar!r} cannot write partially occupied sites; use "
                "grammar='composition', or order the crystal first (pymatgen's "
                "OrderDisorderedStructureTransformation).",
                source=cell.name,
            )
        return cell

    @staticmethod
    def _scope(grammar: str, cell: Cell, symmetry: KindOrbits | SymmetrySites, amounts: dict[str, float]) -> str:
        if isinstance(symmetry, KindOrbits):
            words = _canonical_words(grammar, symmetry, amounts)
        else:
            words = _released_words(grammar, symmetry, cell, amounts)
        return " | ".join([" ".join(segment) for segment in (generator_words(symmetry.space_group), *words)])

    def encode_batch(
        self,
        crystals: Iterable[Crystal],
        processes: int = 1,
        timeout: float | None = TIMEOUT,
        progress: bool = False,
    ) -> Iterator["EncodedCrystal | CloudError"]:
        """Encode crystals in worker processes; each gives one row, in the order of the inputs.

        Args:
            crystals: Each as for `encode`; may be a generator, which is read as the work proceeds.
            processes: Worker processes.
            timeout: Longest time for one crystal, s. `None` sets no limit.
            progress: Whether to show a bar on the terminal.

        Returns:
            An iterator over what `describe` returns, or the `CloudError` that it raises.

        Raises:
            CloudError: An argument that cannot work.
        """
        return encode_batch(self, crystals, processes, timeout, progress=progress)

    def _search(self, cell: Cell) -> KindOrbits | SymmetrySites:
        if not self.canonical:
            return find_symmetry(cell, self.symprec, self.angle_tolerance)
        if cell.is_ordered:
            kinds = [ELEMENT_RANK[content[0][0]] for content in cell.contents]
        else:  # kinds of sites in an order that does not depend on the description
            keys = [tuple(sorted((ELEMENT_RANK[e], round(x, 6)) for e, x in content)) for content in cell.contents]
            ranks = {key: rank for rank, key in enumerate(sorted(set(keys)))}
            kinds = [ranks[key] for key in keys]
        return find_kind_orbits(
            cell.lattice,
            kinds,
            cell.frac_coords,
            self.symprec,
            self.angle_tolerance,
            cell.name,
            backend=self.symmetry,
        )


def _fractions(amounts: dict[str, float]) -> list[str]:
    """Element and atomic fraction to two decimals, for each element in the given order."""
    total = sum(amounts.values())
    words: list[str] = []
    for element, amount in amounts.items():
        # this rounds 0.075 to 0.08 and 0.125 to 0.12, as numpy and the paper's strings do; round(x, 2) does not
        words += [element, str(round(amount / total * 100) / 100)]
    return words


def _released_words(
    grammar: str, symmetry: SymmetrySites, cell: Cell, amounts: dict[str, float]
) -> tuple[Words, Words]:
    """The paper's order: words as they first appear among the sites, elements as they first appear in the cell."""
    if grammar == "full":
        return symmetry.wyckoff, [content[0][0] for content in cell.contents]
    return dict.fromkeys(symmetry.wyckoff), _fractions(amounts)


def _canonical_words(grammar: str, symmetry: KindOrbits, amounts: dict[str, float]) -> tuple[Words, ...]:
    """Orbits in canonical order; elements by `ELEMENT_ORDER`."""
    words = [word for _, word in symmetry.orbits]
    if grammar == "composition":
        ordered = sorted(amounts, key=ELEMENT_RANK.__getitem__)
        return dict.fromkeys(words), _fractions({element: amounts[element] for element in ordered})
    elements = [ELEMENT_ORDER[kind] for kind, _ in symmetry.orbits]
    if grammar == "sites":
        return ([word for pair in zip(elements, words, strict=True) for word in pair],)
    copies = [int(word[:-1]) * symmetry.n_primitive // symmetry.n_conventional for word in words]
    return (
        [word for word, n in zip(words, copies, strict=True) for _ in range(n)],
        [element for element, n in zip(elements, copies, strict=True) for _ in range(n)],
    )
