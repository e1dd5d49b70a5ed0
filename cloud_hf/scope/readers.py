"""Files and objects to a pymatgen `Structure` that is fit for the symmetry search."""

import re
import warnings
from os import PathLike
from pathlib import Path

import numpy as np
from pymatgen.core import DummySpecies, Element, Structure
from pymatgen.io.cif import CifParser
from pymatgen.io.vasp import Poscar

from cloud_hf.errors import (
    CrystalReadError,
    CrystalTooLargeError,
    DegenerateLatticeError,
    EmptyCrystalError,
    OverlappingAtomsError,
    UnknownElementError,
)

__all__ = ["CRYSTAL_PATTERNS", "Crystal", "check_crystal", "crystal_name", "read_crystal"]

Crystal = str | PathLike[str] | Structure
"""A crystal: the path of a CIF or POSCAR file, or a pymatgen `Structure`."""

CRYSTAL_PATTERNS = ("*.cif", "*.mcif", "*.vasp", "*.poscar", "POSCAR*", "CONTCAR*")
"""File names that are read as crystals when a folder is given (matched without regard to case)."""

MAX_ATOMS = 1000
"""Sites in a cell; the symmetry search takes seconds at this size, and its cost grows with the square."""

MIN_VOLUME_PER_ATOM = 0.1
"""Å³; the densest crystals under megabar pressure stay above 1 Å³ per atom."""

MIN_DISTANCE = 0.3
"""Å; the shortest bond there is, H-H, has 0.74 Å."""


def read_crystal(crystal: Crystal, max_atoms: int = MAX_ATOMS) -> Structure:
    """Read a crystal and check that a symmetry search on it makes sense.

    Args:
        crystal: Path of a CIF or POSCAR file, or a `Structure`. The first data block of a CIF counts.
        max_atoms: Largest number of sites in the cell.

    Returns:
        A structure with neutral elements (oxidation states dropped, D and T read as H).

    Raises:
        CrystalError: One of its subclasses says what is wrong and names the file or the formula.
    """
    if isinstance(crystal, Structure):
        structure = crystal
    elif isinstance(crystal, str | PathLike):
        structure = _read_file(Path(crystal))
    else:
        raise CrystalReadError(
            f"A crystal is the path of a CIF or POSCAR file or a pymatgen Structure, not {type(crystal).__name__}."
        )
    return check_crystal(structure, crystal_name(crystal), max_atoms)


def crystal_name(crystal: Crystal) -> str:
    """Return what error messages call a crystal: its path, or its formula."""
    if isinstance(crystal, Structure):
        return f"structure {crystal.formula}" if len(crystal) else "structure"
    return str(crystal)


def _read_file(path: Path) -> Structure:
    if not path.is_file():
        raise CrystalReadError(f"{path}: {'is a folder, not a file' if path.is_dir() else 'there is no such file'}.")
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise CrystalReadError(f"{path}: cannot be read ({error.strerror}).") from error
    if not text.strip():
        raise CrystalReadError(f"{path}: the file is empty.")
    name = path.name.lower()
    is_cif = name.endswith((".cif", ".mcif"))
    if is_cif and not re.search(r"^\s*data_", text, re.MULTILINE | re.IGNORECASE):
        raise CrystalReadError(f"{path}: not a CIF (it has no data_ block).")
    if is_cif and "_atom_site" not in text:
        raise EmptyCrystalError(f"{path}: the CIF has no _atom_site loop, so it holds no atoms.")
    if is_cif:
        _refuse_flat_cell(path, text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen reports rounding of coordinates; real defects are checked below
        try:
            if is_cif:
                return CifParser.from_str(text).parse_structures(primitive=False)[0]
            if name.endswith((".vasp", ".poscar")) or name.startswith(("poscar", "contcar")):
                return Poscar.from_str(text).structure
            return Structure.from_file(path)
        except ZeroDivisionError as error:  # what pymatgen makes of an _atom_site loop without rows
            raise EmptyCrystalError(f"{path}: the _atom_site loop has no rows, so the CIF holds no atoms.") from error
        except Exception as error:  # third-party parsers raise almost anything on malformed text
            reason = " ".join(str(error).split()) or type(error).__name__
            raise CrystalReadError(f"{path}: not a readable crystal file ({reason[:200]}).") from error


def _refuse_flat_cell(path: Path, text: str) -> None:
    """Name a cell length of zero, which pymatgen only reports as a file without structures."""
    for name, value in re.findall(r"^\s*(_cell_length_[abc])\s+([-+.\d]+)", text, re.MULTILINE | re.IGNORECASE):
        try:
            length = float(value)
        except ValueError:
            continue  # pymatgen's parser says what is wrong with it
        if length <= 0:
            raise DegenerateLatticeError(f"{path}: {name} is {value}, so the cell has no volume.")


def check_crystal(structure: Structure, name: str, max_atoms: int) -> Structure:
    """Return `structure` with neutral elements, or raise the `CrystalError` that says why it is unusable."""
    if len(structure) == 0:
        raise EmptyCrystalError(f"{name}: the crystal has no atoms.")
    if len(structure) > max_atoms:
        raise CrystalTooLargeError(
            f"{name}: the cell has {len(structure)} sites, more than the limit of {max_atoms}; "
            "reduce it to its primitive cell, or raise max_atoms (--max-atoms)."
        )
    if not np.isfinite(structure.lattice.matrix).all() or not np.isfinite(structure.frac_coords).all():
        raise DegenerateLatticeError(f"{name}: lattice vectors or coordinates are not finite numbers.")
    volume = abs(float(np.linalg.det(structure.lattice.matrix)))
    if volume < MIN_VOLUME_PER_ATOM * max(1.0, structure.composition.num_atoms):
        raise DegenerateLatticeError(
            f"{name}: the cell volume is {volume:.3g} Å³ for {len(structure)} sites; check the lattice parameters."
        )
    structure = _neutral_elements(structure, name)
    _refuse_overlaps(structure, name)
    return structure


def _neutral_elements(structure: Structure, name: str) -> Structure:
    """Replace ions and isotopes by their element; refuse dummy species."""
    species = {specie for site in structure for specie in site.species}
    for specie in species:
        if isinstance(specie, DummySpecies) or not 1 <= specie.Z <= 118:
            raise UnknownElementError(
                f"{name}: {specie} is not a chemical element; replace the dummy species or remove its sites."
            )
    if all(type(specie) is Element and specie in _ELEMENTS for specie in species):
        return structure
    contents: list[dict[Element, float]] = []
    for site in structure:
        content: dict[Element, float] = {}
        for specie, occupancy in site.species.items():
            element = Element.from_Z(specie.Z)
            content[element] = content.get(element, 0.0) + occupancy
        contents.append(content)
    return Structure(structure.lattice, contents, structure.frac_coords)


_ELEMENTS = frozenset(Element.from_Z(z) for z in range(1, 119))


def _refuse_overlaps(structure: Structure, name: str) -> None:
    """Split positions of a disordered crystal may be close; two fully occupied sites may not."""
    first, second, _, distances = structure.get_neighbor_list(MIN_DISTANCE, exclude_self=True)
    for i, j, distance in zip(first, second, distances, strict=True):
        if min(structure[i].species.num_atoms, structure[j].species.num_atoms) > 0.99:
            raise OverlappingAtomsError(
                f"{name}: sites {i} ({structure[i].species_string}) and {j} ({structure[j].species_string}) are "
                f"{distance:.3f} Å apart; remove the duplicate or mark the sites as partially occupied."
            )
