"""`ScopeEncoder`: crystal in, SCOPE string out."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from pymatgen.core import Structure

from cloud_hf.errors import CloudError, DisorderedStructureError
from cloud_hf.scope.generators import generator_words
from cloud_hf.scope.readers import MAX_ATOMS, Crystal, crystal_name, read_crystal
from cloud_hf.scope.symmetry import SymmetrySites, find_symmetry

__all__ = ["ENCODER_GRAMMARS", "EncodedCrystal", "ScopeEncoder"]

ENCODER_GRAMMARS = ("composition", "full")


@dataclass(frozen=True, slots=True)
class EncodedCrystal:
    """A SCOPE string with what the crystal says beside it.

    Attributes:
        scope: The SCOPE string.
        formula: Reduced formula, e.g. `Al2O3`.
        space_group: Number in the International Tables.
        space_group_symbol: Short Hermann-Mauguin symbol.
        n_atoms: Atoms per primitive cell (partial occupancies add up, so it may be fractional).
    """

    scope: str
    formula: str
    space_group: int
    space_group_symbol: str
    n_atoms: float


class ScopeEncoder:
    """Write crystals as SCOPE strings (Symmetry-Consistent Ordered Parameter Encoding, arXiv 2506.17345).

    Args:
        grammar: `"composition"` writes `generators | Wyckoff set | composition`, the paper's grammar;
            `"full"` its longer variant with one Wyckoff word and one element per site of the given cell.
        canonical: Only `False` for now: sites and elements in the order of the input, as the paper's encoder.
        symprec: Distance tolerance of the symmetry search in Å.
        angle_tolerance: Angle tolerance of the symmetry search in degrees.
        max_atoms: Largest number of sites in the given cell.

    Raises:
        CloudError: An unknown grammar, or a tolerance that is not positive.
    """

    def __init__(
        self,
        grammar: str = "composition",
        canonical: bool = False,
        symprec: float = 0.01,
        angle_tolerance: float = 5.0,
        max_atoms: int = MAX_ATOMS,
    ) -> None:
        if grammar not in ENCODER_GRAMMARS:
            raise CloudError(f"grammar must be one of {', '.join(ENCODER_GRAMMARS)}, not {grammar!r}.")
        if canonical:
            raise CloudError(f"grammar {grammar!r} has no canonical order yet; use canonical=False.")
        if not (symprec > 0 and angle_tolerance > 0 and max_atoms > 0):
            raise CloudError("symprec (Å), angle_tolerance (degrees) and max_atoms must be positive.")
        self.grammar = grammar
        self.canonical = canonical
        self.symprec = symprec
        self.angle_tolerance = angle_tolerance
        self.max_atoms = max_atoms

    def __repr__(self) -> str:
        return (
            f"ScopeEncoder(grammar={self.grammar!r}, canonical={self.canonical}, symprec={self.symprec}, "
            f"angle_tolerance={self.angle_tolerance}, max_atoms={self.max_atoms})"
        )

    def encode(self, crystal: Crystal) -> str:
        """Return the SCOPE string of a crystal.

        Args:
            crystal: Path of a CIF or POSCAR file, or a pymatgen `Structure`.

        Returns:
            The string, e.g. `1 2 a E C C n O O O 0 | 3a 3b 6c 18f | Ba 0.1 Ti 0.1 B 0.2 O 0.6`.

        Raises:
            CrystalError: The crystal cannot be read or has no usable symmetry; the message names it.
        """
        return self.describe(crystal).scope

    def describe(self, crystal: Crystal) -> EncodedCrystal:
        """Return the SCOPE string together with formula, space group and atoms per primitive cell.

        Args:
            crystal: Path of a CIF or POSCAR file, or a pymatgen `Structure`.

        Raises:
            CrystalError: As for `encode`.
        """
        structure = read_crystal(crystal, self.max_atoms)
        name = crystal_name(crystal)
        if self.grammar == "full" and not structure.is_ordered:
            raise DisorderedStructureError(
                f"{name}: the grammar 'full' cannot write partially occupied sites; use grammar='composition', "
                "or order the crystal first (pymatgen's OrderDisorderedStructureTransformation)."
            )
        symmetry = find_symmetry(structure, self.symprec, self.angle_tolerance, name)
        write = _write_composition if self.grammar == "composition" else _write_full
        segments = (generator_words(symmetry.space_group), *write(structure, symmetry))
        n_atoms = structure.composition.num_atoms / symmetry.n_primitive_cells
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pymatgen warns of noble gases, which have no electronegativity
            formula = structure.reduced_formula
        return EncodedCrystal(
            scope=" | ".join(" ".join(words) for words in segments),
            formula=formula,
            space_group=symmetry.space_group,
            space_group_symbol=symmetry.space_group_symbol,
            n_atoms=round(n_atoms, 6),
        )


Segment = Iterable[str]


def _write_composition(structure: Structure, symmetry: SymmetrySites) -> tuple[Segment, Segment]:
    """Distinct Wyckoff words in order of first appearance; element and atomic fraction to two decimals."""
    composition = structure.composition
    fractions: list[str] = []
    for element in composition:
        # numpy rounds 0.075 to 0.08 and 0.125 to 0.12, as the paper's strings do; Python's round() does not
        fraction = np.round(composition.get_atomic_fraction(element), 2)
        fractions += [element.symbol, str(float(fraction))]
    return dict.fromkeys(symmetry.wyckoff), fractions


def _write_full(structure: Structure, symmetry: SymmetrySites) -> tuple[Segment, Segment]:
    """One Wyckoff word per site, then one element per site."""
    return symmetry.wyckoff, [site.specie.symbol for site in structure]
