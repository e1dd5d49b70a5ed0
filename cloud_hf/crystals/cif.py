"""CIF text to a `Cell`: gemmi reads the usual file, pymatgen's parser everything else, with the same result.

The fast route follows pymatgen's rules (coordinates near 1/3 and 2/3 are rounded, sites within 1e-4 are one site,
operations come from the first list or symbol that can be read) and gives up wherever it cannot be sure to agree.
The first data block that holds atoms counts; a broken one is an error, later blocks do not stand in for it.
"""

import re
import warnings
from collections.abc import Container, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import count
from math import acos, cos, isfinite, radians, sin
from typing import Any, TypeAlias

import gemmi
import numpy as np
from numpy.typing import NDArray
from pymatgen.io.cif import CifBlock, CifParser

from cloud_hf.crystals.cell import Cell, Content
from cloud_hf.crystals.cif_sites import Operations, distinct_sites, symmetry_images
from cloud_hf.crystals.objects import cell_from_structure, element_symbol, refuse_size
from cloud_hf.errors import (
    CloudError,
    CrystalReadError,
    CrystalTooLargeError,
    DegenerateLatticeError,
    EmptyCrystalError,
)

__all__ = ["cell_from_cif", "cif_blocks"]

Items: TypeAlias = Mapping[str, str | list[str]]
_CELL = tuple(f"_cell_length_{i}" for i in "abc") + tuple(f"_cell_angle_{i}" for i in ("alpha", "beta", "gamma"))
_COORDS = tuple(f"_atom_site_fract_{axis}" for axis in "xyz")
_LABEL, _SYMBOL, _OCCUPANCY = "_atom_site_label", "_atom_site_type_symbol", "_atom_site_occupancy"
_LISTS = ("_symmetry_equiv_pos_as_xyz", "_space_group_symop_operation_xyz")
_NAMES = (
    *(f"_symmetry_space_group_name_{kind}" for kind in ("H-M", "H_M", "hall", "h-m")),
    *(f"_space_group_name_{kind}" for kind in ("Hall", "H-M_alt")),
    *("_space_group_IT_number", "_symmetry_Int_Tables_number"),
)
_SYMMETRY = frozenset(name + end for name in _LISTS + _NAMES for end in ("", "_"))
_WANTED = frozenset((*_CELL, *_COORDS, _LABEL, _SYMBOL, _OCCUPANCY)) | _SYMMETRY

_UNUSUAL = ("_magn", "_atom_site_moment", "save_", "_eof", *"\x0b\x0c\x1c\x1d\x1e\x1f")
"""Words that make pymatgen's parser do something else than read atoms, and what only it takes for white space."""
_QUOTED_HASH = re.compile(r"['\"][^\n]*#")
_ATOM = re.compile(r"([A-Z][a-z]?)(?:\d+[A-Za-z']?|\d*[+-]|[+-]\d*)?")
_UNCERTAINTY = re.compile(r"\(\d+\)$")

_IMAGES_PER_ATOM = 200
"""Symmetry makes at most 192 images of a site; a file that asks for more than this many per allowed site is absurd."""
_COMPARISONS = 3e7
_THIRDS = np.array([1 / 3, 2 / 3])
_LONGEST_LINE = 65_536
"""Characters; pymatgen's tokenizer takes time with the square of the line."""


def cell_from_cif(text: str, name: str, max_atoms: int, exact_order: bool = False) -> Cell:
    """Read the first data block of a CIF that holds atoms.

    Args:
        text: The file, lines ended by a newline character.
        name: What error messages call it.
        max_atoms: Largest number of sites in the cell.
        exact_order: Sites and species in the order of pymatgen's parser, at its speed, where it reads the file.

    Returns:
        Every site of the cell once, with neutral elements.

    Raises:
        CrystalError: Not a CIF, no atoms, too many, no cell, or occupancies above one.
    """
    for block in _blocks(text, name):
        try:
            return _cell_of_block(block, name, max_atoms, exact_order)
        except EmptyCrystalError:
            continue
    raise _no_rows(name)


def cif_blocks(
    text: str, name: str, max_atoms: int, exact_order: bool = False
) -> Iterator[tuple[str, Cell | CloudError]]:
    """Read every data block of a CIF that holds atoms.

    Args:
        text: The file, lines ended by a newline character.
        name: What error messages call it.
        max_atoms: Largest number of sites in each cell.
        exact_order: As for `cell_from_cif`.

    Yields:
        `name` and the cell where one block lists atom sites; where several do, `name#block` and the cell, or what is
        wrong with that block. Blocks of the same name get `-2`, `-3` and so on; lists without rows are passed over.

    Raises:
        CrystalError: Not a CIF, or no block with atoms.
    """
    blocks = _blocks(text, name)
    names: dict[str, None] = {}
    found = False
    for block in blocks:
        full = name if len(blocks) == 1 else _unused(f"{name}#{_block_name(block)}", names)
        names[full] = None
        try:
            cell: Cell | CloudError = _cell_of_block(block, full, max_atoms, exact_order)
        except EmptyCrystalError:
            continue
        except CloudError as error:
            cell = error
        found = True
        yield full, cell
    if not found:
        raise _no_rows(name)


def _block_name(block: str) -> str:
    words = block.partition("\n")[0].split(maxsplit=1)
    return words[0][len("data_") :]


def _unused(name: str, taken: Container[str]) -> str:
    if name not in taken:
        return name
    return next(other for number in count(2) if (other := f"{name}-{number}") not in taken)


def _no_rows(name: str) -> EmptyCrystalError:
    return EmptyCrystalError(f"{name}: the _atom_site loop has no rows, so the CIF holds no atoms.")


def _cell_of_block(block: str, name: str, max_atoms: int, exact_order: bool) -> Cell:
    items = _items(block)
    if items is None:
        return _by_pymatgen(block, None, name, max_atoms)
    _refuse_flat(items, name)
    if exact_order:
        return _in_exact_order(block, items, name, max_atoms)
    return _by_gemmi(items, name, max_atoms) or _by_pymatgen(block, items, name, max_atoms)


def _blocks(text: str, name: str) -> list[str]:
    """Return the data blocks that name atom sites, without what stands before the first of them."""
    if text.count("data_") == 1 and "DATA_" not in text:
        start = text.find("data_")
        first = text.rfind("\n", 0, start) + 1
        blocks = [text[start:]] if not text[first:start].strip() else []
    else:
        parts = re.split(r"^\s*data_", f"\n{text}", flags=re.MULTILINE | re.IGNORECASE)[1:]
        blocks = [f"data_{part}" for part in parts]
    if not blocks:
        raise CrystalReadError(f"{name}: not a CIF (it has no data_ block).")
    held = [block for block in blocks if _LABEL in block and "powder_pattern" not in block.partition("\n")[0]]
    if not held:
        if "_atom_site" in text:
            raise CrystalReadError(f"{name}: the atoms of the CIF have no {_LABEL}; only core CIF is read.")
        raise EmptyCrystalError(f"{name}: the CIF has no _atom_site loop, so it holds no atoms.")
    return held


def _items(block: str) -> Items | None:
    """Return the items of a block that matter here, as pymatgen's parser would see them; `None` when unsure."""
    if any(word in block for word in _UNUSUAL) or block.count("loop_") != block.lower().count("loop_"):
        return None
    if "#" in block and _QUOTED_HASH.search(block):  # pymatgen takes a # in quotes for a comment
        return None
    try:
        parsed = gemmi.cif.read_string(block if block.isascii() else block.encode("ascii", "ignore").decode())
    except (ValueError, RuntimeError):
        return None
    items: dict[str, str | list[str]] = {}
    if len(parsed) != 1:
        return None
    item: Any
    for item in parsed[0]:
        if (pair := item.pair) is not None:
            if pair[0] in _WANTED:
                items[pair[0]] = pair[1]
        elif (loop := item.loop) is not None:
            tags = loop.tags
            if not _WANTED.isdisjoint(tags):
                values, width = loop.values, len(tags)
                for i, tag in enumerate(tags):
                    if tag in _WANTED:
                        items[tag] = values[i::width]
    return items


def _in_exact_order(block: str, items: Items, name: str, max_atoms: int) -> Cell:
    """Where pymatgen's parser fails (H and D on one site, an empty loop elsewhere) there is no order to keep."""
    try:
        return _by_pymatgen(block, items, name, max_atoms)
    except CrystalReadError:
        cell = _by_gemmi(items, name, max_atoms)
        if cell is None:
            raise
        return cell


def _refuse_flat(items: Items, name: str) -> None:
    """Name a cell length of zero, which pymatgen only reports as a file without structures."""
    for tag in _CELL[:3]:
        numbers = _numbers([value]) if isinstance(value := items.get(tag), str) else None
        if numbers is not None and numbers[0] <= 0:
            raise DegenerateLatticeError(f"{name}: {tag} is {value}, so the cell has no volume.")


# ------------------------------------------------------------------------------------------------ gemmi


def _by_gemmi(items: Items, name: str, max_atoms: int) -> Cell | None:
    """Return the cell where it is sure to be pymatgen's, else `None`."""
    labels = items.get(_LABEL)
    symbols = items.get(_SYMBOL, labels)
    if not isinstance(labels, list) or not labels or not isinstance(symbols, list):
        return None
    lattice = _lattice(items)
    operations = _operations(_symmetry_key(items))
    elements = [_element(symbol) for symbol in symbols]
    coords = _coordinates(items, len(labels))
    if lattice is None or operations is None or coords is None or None in elements or len(elements) != len(labels):
        return None
    if _OCCUPANCY in items:
        occupancies = _numbers(items[_OCCUPANCY])
        if occupancies is None or len(occupancies) != len(labels) or not all(1e-6 < o <= 1 for o in occupancies):
            return None
    else:
        occupancies = [1.0] * len(labels)
    _refuse_images(len(labels), len(operations[0]), name, max_atoms)
    found = distinct_sites(coords, operations)
    if found is None:
        return None
    sites, atoms, orbits = found
    refuse_size(len(sites), name, max_atoms)
    contents = _contents(elements, occupancies, orbits.tolist())
    return None if contents is None else Cell(lattice, sites, tuple([contents[atom] for atom in atoms.tolist()]), name)


def _contents(elements: list[Any], occupancies: list[float], orbits: list[int]) -> list[Content] | None:
    """Put together what shares a site; `None` where pymatgen would refuse it or read a group of atoms."""
    if orbits == list(range(len(orbits))):
        pairs = list(zip(elements, occupancies, strict=True))
        single: dict[tuple[Any, float], Content] = {pair: (pair,) for pair in pairs}
        return [single[pair] for pair in pairs]
    shares: list[dict[str, float]] = [{} for _ in orbits]
    for element, occupancy, orbit in zip(elements, occupancies, orbits, strict=True):
        shares[orbit][element] = shares[orbit].get(element, 0.0) + occupancy
    if any(sum(share.values()) > 1 or {"O", "H"} <= share.keys() for share in shares):
        return None  # O and H on one site are an OH group to pymatgen
    return [tuple(share.items()) for share in shares]


def _numbers(values: str | Sequence[str]) -> list[float] | None:
    """Return finite numbers, uncertainties in brackets dropped; `None` for anything else."""
    if isinstance(values, str):
        return None
    try:
        try:
            numbers = list(map(float, values))
        except ValueError:
            numbers = [float(_UNCERTAINTY.sub("", value)) for value in values]
    except ValueError:
        return None
    return numbers if all(map(isfinite, numbers)) else None


def _lattice(items: Items) -> NDArray[np.float64] | None:
    """Return pymatgen's choice of axes, c along z and a in the plane of x and z; shape (3, 3), Å."""
    parameters = [items.get(tag) for tag in _CELL]
    numbers = _numbers([value for value in parameters if isinstance(value, str)])
    if numbers is None or len(numbers) != 6:
        return None
    a, b, c, *angles = numbers
    if not (min(a, b, c) > 0.1 and all(1 < angle < 179 for angle in angles)):
        return None
    alpha, beta, gamma = map(radians, angles)
    cosine = (cos(alpha) * cos(beta) - cos(gamma)) / (sin(alpha) * sin(beta))
    if not -0.9999 < cosine < 0.9999:
        return None  # almost flat
    twist = acos(cosine)
    matrix = np.array(
        [
            [a * sin(beta), 0.0, a * cos(beta)],
            [-b * sin(alpha) * cos(twist), b * sin(alpha) * sin(twist), b * cos(alpha)],
            [0.0, 0.0, c],
        ]
    )
    volume = matrix[0, 0] * matrix[1, 1] * c
    return matrix if volume > 0.02 * max(a * b, b * c, c * a) else None  # pymatgen refuses cells thinner than 0.01 Å


@lru_cache(maxsize=4096)
def _element(symbol: str) -> str | None:
    match = _ATOM.fullmatch(_unquoted(symbol))
    return element_symbol(match[1]) if match else None


def _coordinates(items: Items, n_rows: int) -> NDArray[np.float64] | None:
    columns = [_numbers(items.get(tag, "")) for tag in _COORDS]
    if any(column is None or len(column) != n_rows for column in columns):
        return None
    coords = np.array(columns, dtype=float).T.copy()
    near = np.abs(coords[..., None] / _THIRDS - 1) <= 1e-4  # what is meant to be 1/3 or 2/3, pymatgen makes it
    if near.any():
        coords[near[..., 0]], coords[near[..., 1]] = _THIRDS.tolist()
    return coords if np.abs(coords).max() < 1e6 else None


def _symmetry_key(items: Items) -> tuple[tuple[str, str | tuple[str, ...]], ...]:
    """Return all items that speak of symmetry: where the first cannot be read, pymatgen's parser takes the next."""
    found = ((tag, items[tag]) for tag in sorted(_SYMMETRY & items.keys()))
    return tuple([(tag, value if isinstance(value, str) else tuple(value)) for tag, value in found])


@lru_cache(maxsize=512)
def _operations(key: tuple[tuple[str, str | tuple[str, ...]], ...]) -> Operations | None:
    """Let pymatgen's parser make the operations, once for each list or name; `None` if the identity is missing."""
    if sum(len(values) for _, values in key) > 20_000:
        return None
    data: dict[str, str | list[str]] = {
        tag: _unquoted(values) if isinstance(values, str) else [_unquoted(value).strip() for value in values]
        for tag, values in key
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = CifParser.from_str("data_operations\n_cell_length_a 1\n").get_symops(CifBlock(data, [], ""))
            affine = np.array([operation.affine_matrix for operation in found], dtype=float)
        except Exception:  # whatever is wrong with them, pymatgen's own route meets it again and says so
            return None
    if affine.ndim != 3 or not (np.abs(affine) < 100).all() or not (affine == np.eye(4)).all((1, 2)).any():
        return None
    return affine[:, :3, :3], affine[:, :3, 3]


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] in "'\"" and value[-1] == value[0] else value


def _refuse_images(n_rows: int, n_operations: int, name: str, max_atoms: int) -> None:
    """Stop before symmetry multiplies a file into gigabytes."""
    if n_rows * n_operations > max(_IMAGES_PER_ATOM * max_atoms, 20_000) or n_rows > 20 * max(max_atoms, 100):
        raise CrystalTooLargeError(
            f"{name}: {n_rows} atoms under {n_operations} symmetry operations make more sites than max_atoms "
            f"({max_atoms}) allows; check the list of operations, or raise max_atoms (--max-atoms)."
        )


# ------------------------------------------------------------------------------------------------ pymatgen


def _by_pymatgen(block: str, items: Items | None, name: str, max_atoms: int) -> Cell:
    """Read a block with pymatgen's parser, unless that would take minutes."""
    if max(map(len, block.splitlines())) > _LONGEST_LINE:
        raise CrystalReadError(f"{name}: a line has more than {_LONGEST_LINE} characters; a CIF's lines are short.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen reports rounding of coordinates; real defects become errors
        try:
            if items is None:
                items = CifBlock.from_str(block).data
            if items.get(_LABEL) == []:
                raise _no_rows(name)
            _refuse_slow(items, name, max_atoms)
            structure = CifParser.from_str(block).parse_structures(primitive=False, on_error="raise")[0]
            return cell_from_structure(structure, max_atoms, name)
        except CloudError:
            raise
        except Exception as error:  # pymatgen's parser raises almost anything on malformed text
            reason = " ".join(str(error).removeprefix("No structure parsed for section 1 in CIF.").split())
            reason = reason or type(error).__name__
            raise CrystalReadError(f"{name}: not a readable CIF ({reason[:200]}).") from error


def _refuse_slow(items: Items, name: str, max_atoms: int) -> None:
    """Estimate the comparisons of atoms that pymatgen makes one by one (about 0.3 µs each), and refuse too many."""
    n_rows = len(items.get(_LABEL, ()))
    operations = _operations(_symmetry_key(items))
    n_operations = 192 if operations is None else len(operations[0])
    for tag in ("_space_group_symop_magn_operation.xyz", "_space_group_symop_magn_centering.xyz"):
        n_operations *= max(1, len(items.get(tag, ()))) if tag in items else 1
    _refuse_images(n_rows, n_operations, name, max_atoms)
    n_sites = n_rows
    coords = _coordinates(items, n_rows) if n_rows else None
    if coords is not None and operations is not None:
        n_sites = len(np.unique(np.rint(symmetry_images(coords, operations) * 1000), axis=0))
        if n_sites > 8 * max_atoms:  # a site lies in up to eight boxes of this grid
            refuse_size(n_sites // 8, name, max_atoms)
    if n_rows * n_operations * max(n_rows, n_sites) > _COMPARISONS:
        raise CrystalTooLargeError(
            f"{name}: {n_rows} atoms under {n_operations} symmetry operations would take pymatgen's parser minutes; "
            f"give the crystal as a primitive cell of at most {max_atoms} atoms."
        )
