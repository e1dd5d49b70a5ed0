"""Files and objects to a `Cell`, or to a pymatgen `Structure`, that is fit for the symmetry search."""

import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from math import hypot, isfinite
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Element, Lattice, Structure

from cloud_hf.crystals.cell import Cell
from cloud_hf.crystals.cif import cell_from_cif
from cloud_hf.crystals.files import check_content, read_content
from cloud_hf.crystals.objects import cell_from_object, cell_from_structure, refuse_size
from cloud_hf.crystals.poscar import cell_from_poscar
from cloud_hf.errors import (
    CloudError,
    CrystalReadError,
    CrystalTooLargeError,
    DegenerateLatticeError,
    OverlappingAtomsError,
    SeveralCrystalsError,
    about,
    one_line,
)

__all__ = [
    "CRYSTAL_PATTERNS",
    "MAX_ATOMS",
    "Crystal",
    "check_cell",
    "crystal_name",
    "kind_of_name",
    "read_cell",
    "read_crystal",
    "read_text",
]

Crystal = str | PathLike[str] | Structure | Cell | Any
"""A crystal: the path of a file, or one of the objects that `cloud_hf.crystals.objects` reads."""

CRYSTAL_PATTERNS = ("*.cif", "*.mcif", "*.vasp", "*.poscar", "POSCAR*", "CONTCAR*")
"""File names that are read as crystals when a folder is given: `kind_of_name` in words, for messages."""

MAX_ATOMS = 1000
"""Sites in a cell; the symmetry search takes seconds at this size, and its cost grows with the square."""

MIN_VOLUME_PER_ATOM = 0.1
"""Å³; the densest crystals under megabar pressure stay above 1 Å³ per atom."""

MIN_DISTANCE = 0.5
"""Å, as in pymatgen; the shortest bond there is, H-H, has 0.74 Å."""

MAX_EDGE = 10_000.0
"""Å; the longest periods of known crystals, of polytypes, are near 1000 Å."""

MAX_COORDINATE = 1e6
"""Fractional coordinates are taken modulo 1, which needs their digits behind the point."""

_FEW_SITES = 60
"""Up to here comparing all pairs is faster than a search tree."""


def read_cell(
    crystal: Crystal, max_atoms: int = MAX_ATOMS, exact_order: bool = False, trust_sites: bool = False
) -> Cell:
    """Read a crystal and check that a symmetry search on it makes sense.

    Args:
        crystal: Path of a CIF (the first data block that holds atoms counts), of a POSCAR, or of any other file
            that pymatgen or ASE reads; a pymatgen `Structure` or its dict, ASE `Atoms`, an OPTIMADE structure, a
            JARVIS dict, the tuple (lattice (3, 3) Å, numbers or symbols (n,), fractional coordinates (n, 3)), or
            a `Cell`.
        max_atoms: Largest number of sites in the cell.
        exact_order: Sites and species of a CIF in the order of pymatgen's parser, which the paper's strings depend
            on; the default reads them in the order of the file, with gemmi, many times faster.
        trust_sites: Take the sites as they are, with a warning and a note in the cell, where the formula that the
            source gives, hydrogen without a position, or the lack of any symmetry in a CIF speaks against them.

    Returns:
        A cell with neutral elements (charges dropped, D and T read as H).

    Raises:
        CrystalError: One of its subclasses says what is wrong and names the file or the formula.
    """
    if isinstance(crystal, str | PathLike):
        path = os.fspath(crystal)
        cell = _cell_of(*read_content(path), max_atoms, exact_order, trust_sites)
    else:
        cell = cell_from_object(crystal, max_atoms, trust_sites)
    return check_cell(cell, max_atoms)


def read_text(
    text: str | bytes,
    name: str = "text",
    max_atoms: int = MAX_ATOMS,
    exact_order: bool = False,
    trust_sites: bool = False,
    kind: str | None = None,
) -> Cell:
    """Read the text of a CIF or POSCAR file, with the result of `read_cell` for a file that holds it.

    Args:
        text: The whole text, its first line and its line ends as in the file.
        name: What error messages call it.
        max_atoms: As for `read_cell`.
        exact_order: As for `read_cell`.
        trust_sites: As for `read_cell`.
        kind: `"cif"` or `"poscar"`; by default a text with a data block is a CIF and any other a POSCAR.

    Raises:
        CrystalError: As for `read_cell`.
    """
    data = text.encode("utf-8", errors="replace") if isinstance(text, str) else text
    check_content(data, name)
    suffix = f".{kind or kind_of_text(data)}"
    return check_cell(_cell_of(data, name, suffix, max_atoms, exact_order, trust_sites), max_atoms)


def kind_of_text(data: str | bytes) -> str:
    """Return `"cif"` for a text with a data block or CIF items, `"poscar"` for any other."""
    text = data if isinstance(data, str) else _text(data)
    return "cif" if _CIF_LINE.search(text) else "poscar"


_CIF_LINE = re.compile(r"^[ \t]*(data_|_cell[_.]length_a\b)", re.IGNORECASE | re.MULTILINE)


def read_crystal(crystal: Crystal, max_atoms: int = MAX_ATOMS) -> Structure:
    """Read a crystal as `read_cell` does, sites and species in the order of pymatgen's readers.

    Args:
        crystal: What `read_cell` takes.
        max_atoms: Largest number of sites in the cell.

    Returns:
        A structure with neutral elements; the one that was given, if its elements are neutral already.

    Raises:
        CrystalError: As for `read_cell`.
    """
    cell = read_cell(crystal, max_atoms, exact_order=True)
    if isinstance(crystal, Structure) and _is_neutral(crystal):
        return crystal
    species: list[Any] = [
        content[0][0] if content[0][1] == 1 and len(content) == 1 else dict(content) for content in cell.contents
    ]
    return Structure(cell.lattice, species, cell.frac_coords)


def _is_neutral(structure: Structure) -> bool:
    kinds = {
        kind for composition in {id(site.species): site.species for site in structure}.values() for kind in composition
    }
    return all(type(kind) is Element and kind.symbol not in ("D", "T") for kind in kinds)


def crystal_name(crystal: Crystal) -> str:
    """Return what error messages call a crystal: its path, its name, its formula, or its type."""
    if isinstance(crystal, Structure):
        return f"structure {crystal.formula}" if len(crystal) else "structure"
    if isinstance(crystal, Cell):
        return crystal.name
    if isinstance(crystal, str | PathLike):
        return str(crystal)
    try:
        return cell_from_object(crystal, MAX_ATOMS).name
    except CloudError:
        return type(crystal).__name__


# ------------------------------------------------------------------------------------------------ files


_CIF, _POSCAR = (".cif", ".mcif"), (".vasp", ".poscar")

_NO_POSCAR = (
    ".json", ".jsonl", ".ndjson", ".csv", ".parquet", ".xyz", ".extxyz", ".traj", ".db", ".cssr", ".xsf", ".xml",
    ".yaml", ".yml", ".h5", ".tar", ".tgz", ".tbz2", ".txz", ".zip", ".py", ".ipynb", ".md", ".png", ".pdf", ".svg",
)  # fmt: skip
"""Suffixes that say what a file is, whatever stands before them: `POSCARs.tar` and `poscar_Si.json` are no POSCARs."""


def kind_of_name(name: str) -> str | None:
    """Return `"cif"` or `"poscar"` for the name of such a file, None for any other.

    Args:
        name: In lower case, without folder and without the suffix of its compression.
    """
    if name.endswith(_CIF):
        return "cif"
    if name.endswith(_POSCAR) or (name.startswith(("poscar", "contcar")) and not name.endswith(_NO_POSCAR)):
        return "poscar"
    return None


def _cell_of(data: bytes, path: str, name: str, max_atoms: int, exact_order: bool, trust_sites: bool = False) -> Cell:
    kind = kind_of_name(name)
    if kind == "cif":
        return cell_from_cif(_text(data), path, max_atoms, exact_order, trust_sites)
    if kind == "poscar":
        return cell_from_poscar(_text(data), path, max_atoms)
    return _read_other(path, name, data, max_atoms, trust_sites)


def _text(data: bytes) -> str:
    """Return the text of a file: no byte order mark, lines ended by a newline, no end-of-file mark of DOS."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    text = data.decode(encoding, errors="replace").removeprefix("\ufeff").rstrip("\x1a\x00")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _read_other(path: str, name: str, data: bytes, max_atoms: int, trust_sites: bool = False) -> Cell:
    """Let pymatgen, then ASE, find out by themselves what a file is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if name.endswith(".json"):  # pymatgen's `from_file` takes `poscar_Si.json` for a POSCAR
                return cell_from_structure(Structure.from_str(_text(data), fmt="json"), max_atoms, path)
            return cell_from_structure(Structure.from_file(path), max_atoms, path)
        except CloudError:
            raise
        except Exception as error:  # third-party parsers raise almost anything on malformed text
            reason = one_line(error)
        if path.lower().endswith(("xyz", "xyz.gz")) and _first_number(path) > max_atoms:
            raise CrystalTooLargeError(
                f"announces more atoms than the limit of {max_atoms}; raise `max_atoms`.",
                source=str(path),
                flag="max_atoms",
            )
        try:
            from ase.io import read
        except ImportError as error:
            raise CrystalReadError(
                f"not a crystal file that pymatgen reads ({reason}); with ASE installed "
                "(pip install 'cloud-hf[ase]') its formats are tried too.",
                source=str(path),
            ) from error
        try:
            images = read(path, index=":")
            if len(images) > 1:
                raise SeveralCrystalsError(f"holds {len(images)} structures; read_cells and cloud-hf encode read each.")
            cell = cell_from_object(images[0], max_atoms, trust_sites)
        except CloudError as error:
            about(error, path)
            raise
        except Exception as error:
            raise CrystalReadError(
                f"neither pymatgen ({reason}) nor ASE ({one_line(error)}) reads it.", source=str(path)
            ) from error
    return replace(cell, name=path)


def _first_number(path: str) -> int:
    """The atom count in the first line of an XYZ file, 0 if there is none; ASE makes room for it before reading."""
    with Path(path).open("rb") as file:
        word = file.readline(100).strip()
    return int(word) if word.isdigit() else 0


# ------------------------------------------------------------------------------------------------ checks


def check_cell(cell: Cell, max_atoms: int = MAX_ATOMS) -> Cell:
    """Return `cell` if a symmetry search on it makes sense; occupancies up to 1.01 count as 1.

    Raises:
        CrystalError: No atoms, too many, no volume, numbers that are not finite, occupancies outside (0, 1], or
            two fully occupied sites less than 0.5 Å apart; the message names the cell.
    """
    refuse_size(len(cell), cell.name, max_atoms)
    a, b, c = cell.lattice.tolist()
    farthest = np.abs(cell.frac_coords).max()
    if not (isfinite(farthest) and all(map(isfinite, (*a, *b, *c)))):
        raise DegenerateLatticeError("lattice vectors or coordinates are not finite numbers.", source=cell.name)
    if farthest > MAX_COORDINATE:
        raise DegenerateLatticeError(
            f"fractional coordinates beyond {MAX_COORDINATE:g} have lost their digits.", source=cell.name
        )
    if max(hypot(*a), hypot(*b), hypot(*c)) > MAX_EDGE:
        raise DegenerateLatticeError(f"a cell edge is longer than {MAX_EDGE:g} Å; check the lattice.", source=cell.name)
    normals = (_cross(b, c), _cross(c, a), _cross(a, b))
    volume = abs(sum(x * y for x, y in zip(a, normals[0], strict=True)))
    total = {content: sum([share for _, share in content]) for content in set(cell.contents)}
    if max(total.values()) > 1.01 or not all(share > 0 for content in total for _, share in content):
        raise CrystalReadError("the occupancies of a site must be positive and add up to 1 at most.", source=cell.name)
    if max(total.values()) > 1 + 1e-8:  # by rounding
        full = {content: tuple([(e, x / max(1.0, sum_)) for e, x in content]) for content, sum_ in total.items()}
        cell = replace(cell, contents=tuple([full[content] for content in cell.contents]))
        total = {full[content]: min(1.0, sum_) for content, sum_ in total.items()}
    if not volume >= MIN_VOLUME_PER_ATOM * max(1.0, sum([total[content] for content in cell.contents])):
        raise DegenerateLatticeError(
            f"the cell volume is {volume:.3g} Å³ for {len(cell)} sites; check the lattice parameters.", source=cell.name
        )
    heights = [volume / hypot(*normal) for normal in normals]
    for i, j, distance in _close_pairs(cell, heights):
        if min(total[cell.contents[i]], total[cell.contents[j]]) > 0.99:
            raise OverlappingAtomsError(
                f"sites {i} ({_content_text(cell, i)}) and {j} ({_content_text(cell, j)}) are "
                f"{distance:.3f} Å apart; remove the duplicate or mark the sites as partially occupied.",
                source=cell.name,
            )
    return cell


def _cross(a: list[float], b: list[float]) -> tuple[float, float, float]:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _content_text(cell: Cell, site: int) -> str:
    content = cell.contents[site]
    return content[0][0] if cell.is_ordered else ", ".join(f"{element}:{share:.3g}" for element, share in content)


@lru_cache(maxsize=64)
def _all_pairs(n_sites: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return np.triu_indices(n_sites, 1)


def _close_pairs(cell: Cell, heights: list[float]) -> Iterator[tuple[int, int, float]]:
    """Yield pairs of sites less than `MIN_DISTANCE` apart, with their distance in Å.

    Two points that close differ by less than `MIN_DISTANCE` / height in each fractional coordinate, where `heights`
    (Å) are the distances of opposite faces. In a cell higher than twice that, one image of the neighbour at most
    can be meant, the one nearest in fractional coordinates.
    """
    if min(heights) <= 2 * MIN_DISTANCE:
        cell, heights = _reduced(cell)
    if len(cell) <= _FEW_SITES:
        first, second = _all_pairs(len(cell))
    else:
        wrapped = cell.frac_coords - np.floor(cell.frac_coords)
        wrapped[wrapped >= 1.0] = 0.0
        from scipy.spatial import cKDTree  # takes a second, which small cells need not wait for

        tree = cKDTree(wrapped * heights, boxsize=heights)
        first, second = tree.query_pairs(MIN_DISTANCE, p=np.inf, output_type="ndarray").T
    steps = cell.frac_coords.take(first, 0)
    steps -= cell.frac_coords.take(second, 0)
    steps -= np.rint(steps)
    steps = steps @ cell.lattice
    squares = np.einsum("ij,ij->i", steps, steps)
    for pair in (squares < MIN_DISTANCE**2).nonzero()[0].tolist():
        yield int(first[pair]), int(second[pair]), float(squares[pair]) ** 0.5


def _reduced(cell: Cell) -> tuple[Cell, list[float]]:
    """Describe a thin cell, where many images may count, by the reduced one of its lattice, with its heights in Å."""
    try:
        lattice = Lattice(cell.lattice).get_lll_reduced_lattice()
    except np.linalg.LinAlgError as error:
        raise DegenerateLatticeError(
            "the lattice vectors lie in a plane; check the lattice.", source=cell.name
        ) from error
    if min(lattice.abc) < MIN_DISTANCE:
        raise OverlappingAtomsError(
            f"an atom is {min(lattice.abc):.3f} Å from its own image; check the lattice parameters.", source=cell.name
        )
    heights = [1.0 / length for length in lattice.reciprocal_lattice_crystallographic.abc]
    if min(heights) < MIN_DISTANCE:
        raise DegenerateLatticeError(
            f"lattice planes are {min(heights):.3g} Å apart; check the lattice.", source=cell.name
        )
    coords = (cell.frac_coords - np.floor(cell.frac_coords)) @ cell.lattice @ np.linalg.inv(lattice.matrix)
    return Cell(lattice.matrix, coords, cell.contents, cell.name), heights
