"""CIF text to a `Cell`: gemmi parses the text, and this room says what the items mean.

Nothing is guessed: every atom row is accounted for, the statements about the space group must agree with one another
and with the cell, and the formula that the file gives must be that of its sites. What contradicts itself is an error
that names both sides. The first data block that holds atoms counts; a broken one is an error, later blocks do not
stand in for it.
"""

import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from math import acos, cos, isfinite, radians, sin

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Element

from cloud_hf.crystals.cell import Cell, Content
from cloud_hf.crystals.cif_items import ATOM_TAGS, CELL_TAGS, UNKNOWN, Items, read_items, split_blocks
from cloud_hf.crystals.cif_sites import SAME_SITE, distinct_sites, same_sites
from cloud_hf.crystals.cif_species import row_element
from cloud_hf.crystals.cif_symmetry import LISTS, candidate_groups, symmetry_of
from cloud_hf.crystals.formulas import mismatch, parse_formula
from cloud_hf.crystals.objects import cell_from_structure, refuse_size
from cloud_hf.crystals.space_groups import Group
from cloud_hf.errors import (
    CloudError,
    CrystalReadError,
    CrystalTooLargeError,
    DegenerateLatticeError,
    EmptyCrystalError,
    UnknownElementError,
)

__all__ = ["cell_from_cif", "has_rows"]

_COORDS = tuple(f"_atom_site_fract_{axis}" for axis in "xyz")
_LABEL, _SYMBOL, _OCCUPANCY = "_atom_site_label", "_atom_site_type_symbol", "_atom_site_occupancy"
_ONE = frozenset({"1", "1.", "1.0", "1.00", "1.000", "1.0000", "1.00000"})
_UNCERTAINTY = re.compile(r"\(\d*\)$")

_IMAGES_PER_ATOM = 200
"""Symmetry makes at most 192 images of a site; a file that asks for more than this many per allowed site is absurd."""
_COMPARISONS = 3e7
"""Pairs of atoms that pymatgen's parser compares one by one, about 0.3 µs each."""
_THIRDS = np.array([1 / 3, 2 / 3])
_ROUNDED_AT = {4: 1.5e-4, 3: 1.5e-3, 2: 7.5e-3}
"""Fractions of a lattice vector, by the decimals of the coordinates: how far rounding may move an image of an atom."""


def cell_from_cif(text: str, name: str, max_atoms: int, exact_order: bool = False, trust_sites: bool = False) -> Cell:
    """Read the first data block of a CIF that holds atoms.

    Args:
        text: The file, lines ended by a newline character.
        name: What error messages call it.
        max_atoms: Largest number of sites in the cell.
        exact_order: Sites and species in the order of pymatgen's parser, at its speed, where it reads the same crystal.
        trust_sites: Take the sites as they are, with a note in the cell, where the formula or the lack of symmetry
            speaks against them.

    Returns:
        Every site of the cell once, with neutral elements.

    Raises:
        CrystalError: Not a CIF, no atoms, too many, no cell, or statements that contradict one another.
    """
    for block in split_blocks(text, name):
        try:
            return _cell_of_block(block, name, max_atoms, exact_order, trust_sites)
        except EmptyCrystalError:
            continue
    raise _no_rows(name)


def has_rows(block: str) -> bool:
    """Whether a block that names atom sites lists any; what cannot be parsed does, so that its reader says why."""
    try:
        return bool(_rows(read_items(block, ""), ""))
    except CloudError:
        return True


def _no_rows(name: str) -> EmptyCrystalError:
    return EmptyCrystalError("the _atom_site loop has no rows, so the CIF holds no atoms.", source=name)


def _cell_of_block(block: str, name: str, max_atoms: int, exact_order: bool, trust_sites: bool) -> Cell:
    cell = _cell_of_items(read_items(block, name), name, max_atoms, trust_sites)
    return _in_pymatgens_order(cell, block) if exact_order else cell


def _cell_of_items(items: Items, name: str, max_atoms: int, trust_sites: bool) -> Cell:
    rows = _rows(items, name)
    if not rows:
        raise _no_rows(name)
    lattice = _lattice(items, name)
    formula = parse_formula(items.get("_chemical_formula_sum", ["?"])[0])
    elements = _elements(items, rows, formula, name, trust_sites)
    coords = _coordinates(items, rows, name)
    occupancies = _occupancies(items, rows, name)
    _refuse_alternatives(items, rows, occupancies, name)
    attached = _attached(items, rows)
    present = [i for i, occupancy in enumerate(occupancies) if occupancy > 0]
    if len(present) < len(rows):
        rows, elements = [rows[i] for i in present], [elements[i] for i in present]
        occupancies, coords = [occupancies[i] for i in present], coords[present]
        if not present:
            raise EmptyCrystalError("every atom has the occupancy 0.", source=name)
    n_listed = max(len(values) for tag, values in items.items() if tag in LISTS) if LISTS & items.keys() else 1
    _refuse_images(len(rows), n_listed, name, max_atoms)
    candidates = candidate_groups(items, lattice, name, trust_sites)
    units = _units(items)
    cells: list[Cell] = []
    groups: list[Group] = []
    refusals: list[CloudError] = []
    for group in candidates.groups:
        _refuse_images(len(rows), len(group), name, max_atoms)
        try:
            cell = _expanded(lattice, coords, _tolerances(items, rows, group), elements, occupancies, group, name)
            refuse_size(len(cell), name, max_atoms)
        except CloudError as error:
            refusals.append(error)
            continue
        cells.append(cell)
        groups.append(group)
    if not cells:
        raise refusals[0]
    reasons = [_formula_mismatch(cell, formula, units) for cell in cells]
    chosen = symmetry_of(candidates, groups, cells, reasons, name)
    cell, reason = cells[chosen], reasons[chosen]
    doubts = [said for said in (attached, reason) if said]
    if doubts and not trust_sites:
        raise CrystalReadError(
            f"{'; '.join(doubts)}; mend the file, or take the sites as they are with `trust_sites=True`.",
            source=name, flag="trust_sites",
        )  # fmt: skip
    notes = [*filter(None, [candidates.note]), *doubts]
    if notes:
        note = "; ".join(notes)
        warnings.warn(f"{name}: {note}; the sites are taken as they are.", UserWarning, stacklevel=2)
        cell = replace(cell, note=note)
    return cell


# ------------------------------------------------------------------------------------------------ rows


def _rows(items: Items, name: str) -> list[int]:
    """Numbers of the rows of the atom loop that hold anything; rows of question marks are place holders."""
    columns = {tag: items[tag] for tag in ATOM_TAGS if tag in items}
    names = columns.get(_LABEL) or columns.get(_SYMBOL) or []
    for tag, values in columns.items():
        if len(values) != len(names):
            raise CrystalReadError(
                f"{tag} has {len(values)} values for {len(names)} atoms; the atoms stand in one loop.", source=name
            )
    if not names:
        return []
    if UNKNOWN.isdisjoint(names):
        return list(range(len(names)))
    kept = [columns[tag] for tag in (_LABEL, _SYMBOL, *_COORDS) if tag in columns]
    return [i for i in range(len(names)) if not all(column[i] in UNKNOWN for column in kept)]


def _elements(
    items: Items, rows: Sequence[int], formula: dict[str, tuple[float, float]] | None, name: str, trust_sites: bool
) -> list[str]:
    labels, symbols = items.get(_LABEL), items.get(_SYMBOL)
    known = None if formula is None else frozenset(formula)
    flags = items.get("_atom_site_calc_flag")
    elements, bearing = [], ""
    has_hydrogen = symbols is not None and not {"H", "D"}.isdisjoint(symbols)
    for i in rows:
        label = labels[i] if labels else ""
        if flags and flags[i].lower() == "dum":
            raise UnknownElementError(
                f"the site {label} is marked as a dummy (calc_flag dum); remove its row.", source=name
            )
        symbol = symbols[i] if symbols else ""
        read = row_element("D" if symbol == "T" and has_hydrogen else symbol, label, known)
        if not read.element:
            raise UnknownElementError(
                f"the atom {label or symbol}: {read.reason}; give its element as {_SYMBOL}, or remove the row.",
                source=name,
            )
        if read.has_hydrogen:
            bearing = label or read.element
        elements.append(read.element)
    if bearing and not trust_sites and (formula is None or "H" not in elements):
        raise CrystalReadError(
            f"the site {bearing!r} is named after a group with hydrogen, which no row holds; give the hydrogen "
            f"as a row of its own and the elements as {_SYMBOL}, or take the sites as they are with "
            "`trust_sites=True`.",
            source=name, flag="trust_sites",
        )  # fmt: skip
    return elements


def _number(text: str) -> float:
    """Read a number, with its uncertainty in brackets or as a fraction; NaN for anything else."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        text = _UNCERTAINTY.sub("", text)
        above, slash, below = text.partition("/")
        return float(above) / float(below) if slash else float(text)
    except (ValueError, ZeroDivisionError):
        return float("nan")


def _coordinates(items: Items, rows: Sequence[int], name: str) -> NDArray[np.float64]:
    """Return fractional coordinates, shape (n, 3)."""
    columns = []
    for tag in _COORDS:
        if tag not in items:
            raise CrystalReadError(f"the atoms have no {tag}; fractional coordinates are needed.", source=name)
        values = items[tag]
        try:
            numbers = list(map(float, values)) if len(rows) == len(values) else [_number(values[i]) for i in rows]
        except ValueError:
            numbers = [_number(values[i]) for i in rows]
        columns.append(numbers)
    coords = np.array(columns, dtype=float).T.copy()
    if not np.isfinite(coords).all():
        row, axis = np.argwhere(~np.isfinite(coords))[0].tolist()
        label = (items.get(_LABEL) or items[_SYMBOL])[rows[row]]
        raise CrystalReadError(
            f"{_COORDS[axis]} of {label} is {items[_COORDS[axis]][rows[row]]!r}, not a number; give its position, or "
            "remove its row.",
            source=name,
        )
    near = np.abs(coords[..., None] / _THIRDS - 1) <= 1e-4  # what is meant to be 1/3 or 2/3
    if near.any():
        coords[near[..., 0]], coords[near[..., 1]] = _THIRDS.tolist()
    return coords


def _tolerances(items: Items, rows: Sequence[int], group: Group) -> NDArray[np.float64]:
    """Return how far each atom may lie off a special position by the rounding of its coordinates, shape (n,)."""
    if len(group) == 1:
        return np.empty(0)
    columns = [items[tag] for tag in _COORDS]
    decimals = [max([_decimals(column[i]) for column in columns]) for i in rows]
    return np.array([_ROUNDED_AT.get(number, SAME_SITE) for number in decimals])


def _decimals(text: str) -> int:
    end = text.find("(")
    return len(text[:end] if end >= 0 else text) - text.find(".") - 1 if "." in text else 0


def _occupancies(items: Items, rows: Sequence[int], name: str) -> list[float]:
    """Occupancies, 1 where they are unknown or above 1 by rounding."""
    values = items.get(_OCCUPANCY)
    if values is None:
        return [1.0] * len(rows)
    if set(values) <= _ONE:
        return [1.0] * len(rows)
    occupancies = []
    for i in rows:
        number = 1.0 if values[i] in UNKNOWN else _number(values[i])
        if not 0 < number <= 1.01:
            label = (items.get(_LABEL) or items[_SYMBOL])[i]
            rule = "remove the row of an empty site" if number == 0 else "it must lie between 0 and 1"
            raise CrystalReadError(f"the occupancy of {label} is {values[i]}; {rule}.", source=name)
        occupancies.append(min(number, 1.0))
    return occupancies


def _refuse_alternatives(items: Items, rows: Sequence[int], occupancies: Sequence[float], name: str) -> None:
    """Alternatives of a disordered place exclude one another, so none of them is fully occupied."""
    groups = items.get("_atom_site_disorder_group")
    if groups is None:
        return
    assemblies = items.get("_atom_site_disorder_assembly") or ["."] * len(groups)
    full: dict[str, set[str]] = {}
    every: dict[str, set[str]] = {}
    for i, occupancy in zip(rows, occupancies, strict=True):
        if groups[i] in {".", "?", "0", ""}:
            continue
        every.setdefault(assemblies[i], set()).add(groups[i])
        if occupancy > 0.99:
            full.setdefault(assemblies[i], set()).add(groups[i])
    for assembly, groups_of in full.items():
        if len(every[assembly]) > 1 or any(group.startswith("-") for group in groups_of):
            raise CrystalReadError(
                f"the disorder groups {', '.join(sorted(every[assembly]))} are alternatives, but their atoms are fully "
                f"occupied; give their {_OCCUPANCY}, or remove the rows of all alternatives but one.",
                source=name,
            )


def _attached(items: Items, rows: Sequence[int]) -> str:
    """Say which hydrogen atoms the file counts without listing them; empty for none."""
    values = items.get("_atom_site_attached_hydrogens")
    if values is None:
        return ""
    for i in rows:
        if values[i] not in UNKNOWN and _number(values[i]) != 0:
            label = (items.get(_LABEL) or items[_SYMBOL])[i]
            return f"{values[i]} hydrogen atoms are attached to {label} without positions"
    return ""


def _lattice(items: Items, name: str) -> NDArray[np.float64]:
    """Return pymatgen's choice of axes, c along z and a in the plane of x and z; shape (3, 3), Å."""
    numbers = []
    for tag in CELL_TAGS:
        value = items.get(tag, ["?"])[0]
        number = _number(value)
        if not isfinite(number):
            raise CrystalReadError(f"{tag} is {value!r}; the six cell parameters are needed.", source=name)
        if number <= 0:
            raise DegenerateLatticeError(f"{tag} is {value}, so the cell has no volume.", source=name)
        numbers.append(number)
    a, b, c, *angles = numbers
    alpha, beta, gamma = map(radians, angles)
    scale = sin(alpha) * sin(beta)
    cosine = (cos(alpha) * cos(beta) - cos(gamma)) / scale if abs(scale) > 1e-9 else 2.0
    if not -1 < cosine < 1 or max(angles) >= 180:
        raise DegenerateLatticeError(
            f"the cell angles {angles[0]:g}, {angles[1]:g}, {angles[2]:g} degrees span no volume.", source=name
        )
    twist = acos(cosine)
    return np.array(
        [
            [a * sin(beta), 0.0, a * cos(beta)],
            [-b * sin(alpha) * cos(twist), b * sin(alpha) * sin(twist), b * cos(alpha)],
            [0.0, 0.0, c],
        ]
    )


# ------------------------------------------------------------------------------------------------ sites


def _refuse_images(n_rows: int, n_operations: int, name: str, max_atoms: int) -> None:
    """Stop before symmetry multiplies a file into gigabytes."""
    if n_rows * n_operations > max(_IMAGES_PER_ATOM * max_atoms, 20_000) or n_rows > 20 * max(max_atoms, 100):
        raise CrystalTooLargeError(
            f"{n_rows} atoms under {n_operations} symmetry operations make more sites than the limit "
            f"of {max_atoms}; check the list of operations, or raise `max_atoms`.",
            source=name,
            flag="max_atoms",
        )


def _expanded(
    lattice: NDArray[np.float64],
    coords: NDArray[np.float64],
    tolerances: NDArray[np.float64],
    elements: Sequence[str],
    occupancies: Sequence[float],
    group: Group,
    name: str,
) -> Cell:
    """Apply the operations; atoms on the same place share a site."""
    if np.abs(coords).max() > 1e6:
        raise DegenerateLatticeError("fractional coordinates beyond 1e6 have lost their digits.", source=name)
    distinct = distinct_sites(coords, group.operations, tolerances, is_full=min(occupancies) == 1.0)
    if distinct is None and len(group) > 1:
        distinct = distinct_sites(coords, group.operations, np.full(len(coords), SAME_SITE))
    if distinct is None:
        raise CrystalReadError(
            "an atom lies so near to a symmetry element, or to another atom, that its images cannot be told apart; "
            "give the coordinates with more digits.",
            source=name,
        )
    sites, atoms, orbits = distinct
    contents = _contents(elements, occupancies, orbits.tolist(), name)
    return Cell(lattice, sites, tuple([contents[atom] for atom in atoms.tolist()]), name)


def _contents(elements: Sequence[str], occupancies: Sequence[float], orbits: list[int], name: str) -> list[Content]:
    """Put together what shares a site."""
    if orbits == list(range(len(orbits))):
        single: dict[tuple[str, float], Content] = {}
        return [single.setdefault(pair, (pair,)) for pair in zip(elements, occupancies, strict=True)]
    shares: list[dict[str, float]] = [{} for _ in orbits]
    for element, occupancy, orbit in zip(elements, occupancies, orbits, strict=True):
        shares[orbit][element] = shares[orbit].get(element, 0.0) + occupancy
    for share in shares:
        if sum(share.values()) > 1.01:
            shown = ", ".join(f"{element} {occupancy:g}" for element, occupancy in share.items())
            raise CrystalReadError(
                f"atoms on one site have occupancies that add up to more than 1 ({shown}); remove the row that stands "
                "twice, or correct the occupancies.",
                source=name,
            )
    return [tuple(share.items()) for share in shares]


def _units(items: Items) -> float | None:
    number = _number(items.get("_cell_formula_units_z", ["?"])[0])
    return number if isfinite(number) and number > 0 else None


def _formula_mismatch(cell: Cell, formula: dict[str, tuple[float, float]] | None, units: float | None) -> str | None:
    if formula is None:
        return None
    amounts = cell.amounts()
    if mismatch(amounts, formula, units) is None:
        return None
    partial = {e for content in set(cell.contents) for e, x in content if len(content) > 1 or x < 0.99}
    return mismatch(amounts, formula, units, partial)


# ------------------------------------------------------------------------------------------------ pymatgen's order


def _in_pymatgens_order(cell: Cell, block: str) -> Cell:
    """Put sites and species into the order of pymatgen's parser; where that reads another crystal, into its rule's."""
    if len(cell) ** 2 * 48 < _COMPARISONS:
        from pymatgen.io.cif import CifParser  # half a second with what it imports, for old strings only

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pymatgen reports rounding of coordinates
            try:
                structure = CifParser.from_str(block).parse_structures(primitive=False, on_error="raise")[0]
                theirs = cell_from_structure(structure, len(cell), cell.name)
            except Exception:  # it raises almost anything; then there is no order to keep
                theirs = None
        if theirs is not None and np.allclose(theirs.lattice, cell.lattice, atol=1e-6):
            places = same_sites(theirs.frac_coords, cell.frac_coords)
            if places is not None and all(
                _same_content(content, cell.contents[place])
                for content, place in zip(theirs.contents, places.tolist(), strict=True)
            ):
                return replace(theirs, note=cell.note)
    negativity = [sum(_negativity(element) * x for element, x in content) for content in cell.contents]
    order = sorted(range(len(cell)), key=negativity.__getitem__)
    return replace(cell, frac_coords=cell.frac_coords[order], contents=tuple([cell.contents[i] for i in order]))


def _negativity(element: str) -> float:
    value = float(Element(element).X)
    return value if isfinite(value) else 0.0


def _same_content(one: Content, other: Content) -> bool:
    left, right = dict(one), dict(other)
    return left.keys() == right.keys() and all(abs(left[element] - right[element]) < 0.011 for element in left)
