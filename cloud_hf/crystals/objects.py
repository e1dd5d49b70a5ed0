"""Objects that describe a crystal, from pymatgen, ASE, OPTIMADE, JARVIS or plain arrays, to a `Cell`."""

import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Composition, DummySpecies, Element, Structure

from cloud_hf.crystals.cell import Cell, Content
from cloud_hf.crystals.formulas import mismatch, parse_formula
from cloud_hf.errors import (
    CloudError,
    CrystalReadError,
    CrystalTooLargeError,
    DegenerateLatticeError,
    EmptyCrystalError,
    UnknownElementError,
    one_line,
)

__all__ = [
    "cell_from_object",
    "cell_from_structure",
    "element_symbol",
    "is_crystal_object",
    "refuse_size",
    "site_rows",
]

Species = Iterable[tuple[Any, float]]
"""(element, occupancy) pairs as an object gives them: symbols, atomic numbers, ions."""

_SYMBOL = re.compile(r"([A-Z][a-z]?)(?:\d*\.?\d*[+-])?")
_SYMBOLS = tuple(Element.from_Z(number).symbol for number in range(1, 119))
_NEUTRAL = {symbol: symbol for symbol in _SYMBOLS} | {"D": "H", "T": "H"}
_VACANCIES = frozenset({"vacancy", "Vacancy", "Va"})


def cell_from_object(crystal: Any, max_atoms: int, trust_sites: bool = False) -> Cell:
    """Read a crystal from any of the objects that this package knows.

    Args:
        crystal: pymatgen `Structure` or its dict, ASE `Atoms`, an OPTIMADE structure (resource, entry of a
            response, or `attributes`; dict or object), a JARVIS `Atoms` or its dict, the tuple
            (lattice (3, 3) Å, atomic numbers or symbols (n,), fractional coordinates (n, 3)), a mapping with
            these three as `lattice`, `numbers` and `frac_coords`, or a `Cell`.
        max_atoms: Largest number of sites.
        trust_sites: Take the sites as they are, with a note in the cell, where the formula that an OPTIMADE structure
            gives, or hydrogen without a position, speaks against them.

    Returns:
        The cell, sites in the order of the object; numbers are converted, but not yet judged as a crystal.

    Raises:
        CrystalError: The object is of another type, incomplete, too large, or holds what is not an element.
    """
    reader = _reader_of(crystal, trust_sites)
    if reader is None:
        raise CrystalReadError(
            "A crystal is the path of a CIF or POSCAR file, a pymatgen Structure, ASE Atoms, an OPTIMADE, JARVIS or "
            f"pymatgen dict, or the tuple (lattice, numbers, frac_coords), not {_described(crystal)}."
        )
    try:
        return reader(crystal, max_atoms)
    except CloudError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else one_line(error)
        raise CrystalReadError(f"{type(crystal).__name__}: not a readable crystal ({reason}).") from error


def is_crystal_object(thing: Any) -> bool:
    """Whether `cell_from_object` knows the type of an object, or the keys of a dict; it may refuse its content."""
    return _reader_of(thing, trust_sites=False) is not None


def _described(thing: Any) -> str:
    """Say what was given instead of a crystal; a dict alone could be one, so its keys tell."""
    if not isinstance(thing, Mapping):
        return type(thing).__name__
    if isinstance(thing.get("data"), list):
        return "a response with a list under 'data': give its entries one by one"
    keys = [f"{key!r:.40}" for key in [*thing][:8]]
    return f"a dict with the keys {', '.join(keys)}" if keys else "an empty dict"


def _reader_of(crystal: Any, trust_sites: bool) -> Callable[[Any, int], Cell] | None:
    if isinstance(crystal, Cell):
        return _from_cell
    if isinstance(crystal, Structure):
        return cell_from_structure
    if isinstance(crystal, tuple):
        return _from_tuple if len(crystal) == 3 else None
    if isinstance(crystal, Mapping):
        return _reader_of_mapping(crystal, trust_sites)
    # told by name, so that nobody needs ASE, jarvis-tools or optimade installed
    families = {(base.__module__.partition(".")[0], base.__name__) for base in type(crystal).__mro__}
    if ("ase", "Atoms") in families:
        return _from_ase
    if ("jarvis", "Atoms") in families:
        return lambda atoms, max_atoms: _from_jarvis(atoms.to_dict(), max_atoms)
    if ("pymatgen", "IStructure") in families:
        return cell_from_structure
    if hasattr(getattr(crystal, "attributes", crystal), "cartesian_site_positions"):
        return partial(_from_optimade, trust_sites=trust_sites)
    return None


def _reader_of_mapping(crystal: Mapping[str, Any], trust_sites: bool) -> Callable[[Any, int], Cell] | None:
    inner = crystal.get("data")
    if isinstance(inner, Mapping):  # the response of an OPTIMADE server to the request for one structure
        return lambda response, max_atoms: _from_optimade(response["data"], max_atoms, trust_sites)
    if "attributes" in crystal or "cartesian_site_positions" in crystal:
        return partial(_from_optimade, trust_sites=trust_sites)
    if "lattice_mat" in crystal or isinstance(crystal.get("atoms"), Mapping):
        return _from_jarvis
    if "sites" in crystal and "lattice" in crystal:
        return _from_pymatgen_dict
    if {"lattice", "numbers", "frac_coords"} <= crystal.keys():
        return lambda row, max_atoms: _from_tuple(
            (np.reshape(row["lattice"], (3, 3)), row["numbers"], row["frac_coords"]), max_atoms
        )
    return None


# ------------------------------------------------------------------------------------------------ common parts


@lru_cache(maxsize=4096)
def element_symbol(species: Any) -> str | None:
    """Return the neutral element of a symbol, an ion, an isotope or an atomic number; `None` if there is none.

    `"Fe3+"` and `26` are Fe; D and T are H; X, Q, vacancies and 0 are none.
    """
    if isinstance(species, str):
        match = _SYMBOL.fullmatch(species.strip())
        return _NEUTRAL.get(match[1]) if match else None
    if isinstance(species, DummySpecies):
        return None
    number = getattr(species, "Z", species)
    return _SYMBOLS[int(number) - 1] if number == int(number) and 1 <= number <= 118 else None


def refuse_size(n_sites: int, name: str, max_atoms: int) -> None:
    """Raise what a cell without sites, or with more than `max_atoms`, deserves.

    Raises:
        EmptyCrystalError: There are no sites.
        CrystalTooLargeError: There are too many.
    """
    if n_sites == 0:
        raise EmptyCrystalError("the crystal has no atoms.", source=name)
    if n_sites > max_atoms:
        raise CrystalTooLargeError(
            f"the cell has {n_sites} sites, more than the limit of {max_atoms}; "
            "reduce it to its primitive cell, or raise `max_atoms`.",
            source=name,
            flag="max_atoms",
        )


def _content(species: Species, name: str) -> Content:
    """Merge the species of one site into neutral elements; vacancies and empty shares vanish."""
    shares: dict[str, float] = {}
    for kind, occupancy in species:
        if kind in _VACANCIES or occupancy == 0:
            continue
        element = element_symbol(kind)
        if element is None:
            _refuse_element(kind, name)
        shares[element] = shares.get(element, 0.0) + float(occupancy)
    return tuple(shares.items())


def _refuse_element(kind: Any, name: str) -> NoReturn:
    raise UnknownElementError(
        f"{kind} is not a chemical element; replace the dummy species or remove its sites.", source=name
    )


def _cell(lattice: Any, frac_coords: Any, sites: Sequence[Species], name: str) -> Cell:
    """Build a cell; sites that hold nothing at all (vacancies) are left out."""
    contents = [_content(site, name) for site in sites]
    coords = site_rows(frac_coords, name)
    if len(coords) != len(contents):
        raise CrystalReadError(f"{len(coords)} coordinates for {len(contents)} sites.", source=name)
    if not all(contents):
        coords = coords[[bool(content) for content in contents]]
        contents = [content for content in contents if content]
    return Cell(_matrix(lattice, name), coords, tuple(contents), name)


def site_rows(coordinates: Any, name: str) -> NDArray[np.float64]:
    """Return coordinates as float64 of shape (n, 3), from one row a site or from 3 n numbers in a row.

    Raises:
        CrystalReadError: An array of another shape, such as (3, n), whose numbers would be put together wrongly.
    """
    rows = np.array(coordinates, dtype=float)
    if rows.ndim > 1 and rows.size and rows.shape[1:] != (3,):
        raise CrystalReadError(
            f"the coordinates have the shape {rows.shape}, not (sites, 3): give three numbers for each site.",
            source=name,
        )
    return rows.reshape(-1, 3)


def _matrix(lattice: Any, name: str) -> NDArray[np.float64]:
    matrix = np.array(lattice, dtype=float)  # None, which OPTIMADE allows for a missing vector, becomes NaN
    if matrix.shape != (3, 3):
        raise CrystalReadError(
            f"three lattice vectors of three numbers (Å) are needed, not {matrix.shape}.", source=name
        )
    return matrix


def _fractional(lattice: Any, cartesian: Any, name: str) -> NDArray[np.float64]:
    matrix = _matrix(lattice, name)
    try:
        fractional: NDArray[np.float64] = site_rows(cartesian, name) @ np.linalg.inv(matrix)
        return fractional
    except np.linalg.LinAlgError as error:
        raise DegenerateLatticeError("the lattice vectors span no volume.", source=name) from error


def _refuse_open_directions(periodic: Iterable[Any], name: str, way_out: str) -> None:
    """Refuse what repeats in fewer than three directions: a slab, a wire, a molecule."""
    flags = [bool(flag) for flag in periodic]
    if not all(flags):
        raise CrystalReadError(
            f"the structure is periodic in {sum(flags)} of 3 directions, so it is no crystal; {way_out}.", source=name
        )


def _formula(symbols: Iterable[Any]) -> str:
    """Return what an error message calls a nameless crystal, e.g. `structure Na1 Cl1`."""
    amounts: dict[str, int] = {}
    for symbol in symbols:
        amounts[str(symbol)] = amounts.get(str(symbol), 0) + 1
    return " ".join(["structure", *(f"{symbol}{amount}" for symbol, amount in list(amounts.items())[:12])])


# ------------------------------------------------------------------------------------------------ one reader each


def _from_cell(cell: Cell, max_atoms: int) -> Cell:
    """A cell may have been written by hand, so it is read like any other object."""
    refuse_size(len(cell), cell.name, max_atoms)
    arrays = all(getattr(array, "dtype", None) == np.float64 for array in (cell.lattice, cell.frac_coords))
    arrays = arrays and cell.lattice.shape == (3, 3) and cell.frac_coords.shape == (len(cell), 3)
    if arrays and all(content and all(share[0] in _ELEMENTS for share in content) for content in cell.contents):
        return cell
    return _cell(cell.lattice, cell.frac_coords, cell.contents, cell.name)


_ELEMENTS = frozenset(_SYMBOLS)


def cell_from_structure(structure: Structure, max_atoms: int, name: str | None = None) -> Cell:
    """Read a pymatgen `Structure`; oxidation states are dropped, the order of species on a site is kept.

    Args:
        structure: An ordered or disordered structure.
        max_atoms: Largest number of sites.
        name: What error messages call it; its formula where nothing is given.

    Raises:
        CrystalError: No sites, too many, or a dummy species.
    """
    if name is None:
        name = f"structure {structure.formula}" if len(structure) else "structure"
    refuse_size(len(structure), name, max_atoms)
    _refuse_open_directions(structure.lattice.pbc, name, "if it repeats in all of them, give its lattice pbc=True")
    known: dict[int, Content] = {}
    compositions: dict[int, Composition] = {}  # kept alive, so that no id is used twice
    contents = []
    for site in structure:
        species = site.species
        content = known.get(id(species))
        if content is None:
            content = known[id(species)] = _content(species.items(), name)
            compositions[id(species)] = species
        contents.append(content)
    return Cell(np.array(structure.lattice.matrix), np.array(structure.frac_coords), tuple(contents), name)


def _from_pymatgen_dict(crystal: Mapping[str, Any], max_atoms: int) -> Cell:
    sites = crystal["sites"]
    name = _formula(species.get("element") for site in sites[:1000] for species in site["species"])
    refuse_size(len(sites), name, max_atoms)
    periodic = crystal["lattice"].get("pbc") or (True, True, True)
    _refuse_open_directions(periodic, name, "if it repeats in all of them, set pbc of its lattice to True")
    contents = [
        [(species["element"], float(species.get("occu", 1.0))) for species in site["species"]] for site in sites
    ]
    return _cell(crystal["lattice"]["matrix"], [site["abc"] for site in sites], contents, name)


def _from_tuple(crystal: tuple[Any, Any, Any], max_atoms: int) -> Cell:
    lattice, kinds, coords = crystal
    kinds = np.asarray(kinds).reshape(-1).tolist()
    refuse_size(len(kinds), "arrays", max_atoms)
    symbols = [element_symbol(kind) for kind in kinds]
    for symbol, kind in zip(symbols, kinds, strict=True):
        if symbol is None:
            _refuse_element(kind, "arrays")
    return _cell(lattice, coords, [((symbol, 1.0),) for symbol in symbols], _formula(symbols))


def _from_ase(atoms: Any, max_atoms: int) -> Cell:
    """Occupancies as ASE's CIF reader stores them: a table in `info`, its row numbers in an array.

    The table stays behind when elements of the atoms are changed; a row without the atom's element is out of date.
    """
    name = f"structure {atoms.get_chemical_formula()}"
    refuse_size(len(atoms), name, max_atoms)
    coords = _fractional(atoms.cell[:], atoms.positions, name)
    _refuse_open_directions(atoms.pbc, name, "if it repeats in all of them, set atoms.pbc = True")
    sites: list[Species] = [((number, 1.0),) for number in atoms.numbers.tolist()]
    if 0 in atoms.numbers:
        _refuse_element("X", name)
    table = atoms.info.get("occupancy")
    if table and "spacegroup_kinds" in atoms.arrays:
        rows = {str(row): tuple(shares.items()) for row, shares in table.items()}
        kinds = atoms.arrays["spacegroup_kinds"].tolist()
        for i, (kind, number) in enumerate(zip(kinds, atoms.numbers.tolist(), strict=True)):
            row = rows.get(str(kind), ())
            if any(element_symbol(symbol) == _SYMBOLS[number - 1] for symbol, _ in row):
                sites[i] = row
    return _cell(atoms.cell[:], coords, sites, name)


def _from_jarvis(crystal: Mapping[str, Any], max_atoms: int) -> Cell:
    """The dict of `jarvis.core.atoms.Atoms`, or an entry of a JARVIS data set that holds one under `atoms`."""
    atoms = crystal.get("atoms", crystal)
    elements = list(atoms["elements"])
    name = str(crystal["jid"]) if "jid" in crystal else _formula(elements)
    refuse_size(len(elements), name, max_atoms)
    lattice, coords = atoms["lattice_mat"], atoms["coords"]
    if atoms.get("cartesian", False) in (True, "True", "true"):
        coords = _fractional(lattice, coords, name)
    return _cell(lattice, coords, [((element, 1.0),) for element in elements], name)


def _from_optimade(resource: Any, max_atoms: int, trust_sites: bool = False) -> Cell:
    """A structure of the OPTIMADE specification 1.x: positions are Cartesian, `vacancy` is an empty share."""
    attributes = _field(resource, "attributes", resource)
    sites = list(_field(attributes, "species_at_sites") or [])
    name = str(_field(resource, "id", None) or _formula(sites))
    refuse_size(len(sites), name, max_atoms)
    notes: list[str] = []
    species: dict[str, Species] = {site: ((site, 1.0),) for site in sites}
    for kind in _field(attributes, "species", None) or []:
        species[_field(kind, "name")] = _optimade_species(kind, name, notes)
    lattice = _matrix(_field(attributes, "lattice_vectors"), name)
    if not np.isfinite(lattice).all():
        raise DegenerateLatticeError("a lattice vector is missing, so the structure is no crystal.", source=name)
    directions = _field(attributes, "dimension_types", None)
    if directions is None and (n_directions := _field(attributes, "nperiodic_dimensions", None)) is not None:
        directions = [i < n_directions for i in range(3)]
    if directions is not None:
        directions = [int(getattr(direction, "value", direction)) for direction in directions]
        _refuse_open_directions(directions, name, "if it repeats in all of them, set dimension_types to [1, 1, 1]")
    features = [
        str(getattr(feature, "value", feature)) for feature in _field(attributes, "structure_features", None) or []
    ]
    if "implicit_atoms" in features:
        notes.append("atoms without positions belong to the structure (implicit_atoms)")
    coords = _fractional(lattice, _field(attributes, "cartesian_site_positions"), name)
    n_sites = _field(attributes, "nsites", None)
    if n_sites is not None and n_sites != len(sites):
        notes.append(f"nsites is {n_sites}, and {len(sites)} sites are given")
    shares = _assembled([species[site] for site in sites], _field(attributes, "assemblies", None) or [], name)
    cell = _cell(lattice, coords, shares, name)
    notes += _optimade_contradictions(attributes, cell)
    if not notes:
        return cell
    note = "; ".join(notes)
    if not trust_sites:
        raise CrystalReadError(
            f"{note}; mend the structure, or take the sites as they are with `trust_sites=True`.",
            source=name, flag="trust_sites",
        )  # fmt: skip
    warnings.warn(f"{name}: {note}; the sites are taken as they are.", UserWarning, stacklevel=2)
    return replace(cell, note=note)


def _optimade_species(kind: Any, name: str, notes: list[str]) -> Species:
    """Symbols and concentrations of a species; what its sites lack is added to `notes`."""
    symbols = [getattr(symbol, "value", symbol) for symbol in _field(kind, "chemical_symbols")]
    shares = _field(kind, "concentration", None)
    if shares is None and len(symbols) > 1:
        raise CrystalReadError(
            f"the species {_field(kind, 'name')!r} mixes {', '.join(map(str, symbols))} without a concentration.",
            source=name,
        )
    attached = [str(getattr(symbol, "value", symbol)) for symbol in _field(kind, "attached", None) or []]
    if attached:
        numbers = _field(kind, "nattached", None) or ["?"] * len(attached)
        shown = ", ".join(f"{n} {symbol}" for symbol, n in zip(attached, numbers, strict=True))
        notes.append(f"{shown} without positions are attached to {_field(kind, 'name')}")
    return tuple(zip(symbols, map(float, shares or [1.0]), strict=True))


def _assembled(sites: list[Species], assemblies: Iterable[Any], name: str) -> list[Species]:
    """Sites of an assembly are there with the probability of their group."""
    sites = list(sites)
    for assembly in assemblies:
        groups, odds = _field(assembly, "sites_in_groups"), _field(assembly, "group_probabilities")
        for group, probability in zip(groups, odds, strict=True):
            for site in group:
                if not 0 <= site < len(sites):
                    raise CrystalReadError(f"an assembly names the site {site} of {len(sites)}.", source=name)
                sites[site] = tuple((symbol, share * float(probability)) for symbol, share in sites[site])
    return sites


def _optimade_contradictions(attributes: Any, cell: Cell) -> list[str]:
    """What the structure says about its composition and its sites do not hold."""
    reasons = []
    amounts = cell.amounts()
    elements = _field(attributes, "elements", None)
    n_elements = _field(attributes, "nelements", None)
    if elements and set(map(str, elements)) != amounts.keys() and "D" not in elements:
        reasons.append(f"the sites hold {', '.join(sorted(amounts))}, elements says {', '.join(map(str, elements))}")
    elif n_elements is not None and n_elements != len(amounts):
        reasons.append(
            f"the sites hold {len(amounts)} elements ({', '.join(sorted(amounts))}), nelements is {n_elements}"
        )
    text = _field(attributes, "chemical_formula_reduced", None) or _field(
        attributes, "chemical_formula_descriptive", None
    )
    formula = parse_formula(text) if isinstance(text, str) else None
    if formula is not None:
        partial = {e for content in set(cell.contents) for e, x in content if len(content) > 1 or x < 0.99}
        reason = mismatch(amounts, formula, disordered=partial)
        if reason is not None:
            reasons.append(reason)
    return reasons


_REQUIRED = object()


def _field(thing: Any, key: str, default: Any = _REQUIRED) -> Any:
    """Return a field of a dict or of an object."""
    value = thing.get(key, default) if isinstance(thing, Mapping) else getattr(thing, key, default)
    if value is _REQUIRED:
        raise KeyError(key)
    return value
