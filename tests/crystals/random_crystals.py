"""Random crystals of every space group, and the formats in which gemmi, pymatgen and ASE write them."""

from __future__ import annotations

import importlib.util
import random
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import spglib
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter
from pymatgen.io.vasp import Poscar

from crystals import dialects

ELEMENTS = ("Na", "Cl", "O", "Fe", "Ti", "Co", "C", "N", "H", "Ho", "Si", "S", "Cs", "Nb", "Pb", "Y", "U", "Os")
NEAREST = 0.9
"""Å; crystals with closer atoms are not made."""


@cache
def _operations(number: int) -> tuple[np.ndarray, np.ndarray]:
    hall = next(h for h in range(1, 531) if spglib.get_spacegroup_type(h).number == number)
    found = spglib.get_symmetry_from_database(hall)
    return found["rotations"], found["translations"]


def _lattice(number: int, rng: random.Random) -> Lattice:
    a, b, c = (rng.uniform(4.0, 9.0) for _ in range(3))
    if number >= 195:
        return Lattice.cubic(a)
    if number >= 143:
        return Lattice.hexagonal(a, c)
    if number >= 75:
        return Lattice.tetragonal(a, c)
    if number >= 16:
        return Lattice.orthorhombic(a, b, c)
    if number >= 3:
        return Lattice.monoclinic(a, b, c, rng.uniform(95, 115))
    return Lattice.from_parameters(a, b, c, rng.uniform(75, 88), rng.uniform(93, 105), rng.uniform(93, 110))


def random_structure(rng: random.Random, is_ordered: bool = True) -> Structure | None:
    """A crystal of one to three atoms in the asymmetric unit; `None` where atoms come too close or are too many."""
    number = rng.randint(1, 230)
    rotations, translations = _operations(number)
    lattice = _lattice(number, rng)
    species: list[Any] = []
    coords: list[np.ndarray] = []
    for element in rng.sample(ELEMENTS, rng.randint(1, 3)):
        special = rng.random() < 0.7
        x = np.array([rng.choice([0, 0.25, 0.5, 0.75]) if special else round(rng.uniform(0, 1), 4) for _ in range(3)])
        images = (x @ rotations.transpose(0, 2, 1) + translations) % 1.0
        steps = images[:, None] - images[None]
        steps -= np.rint(steps)
        first = np.abs(steps).max(axis=2) < 1e-5
        images = images[[i for i in range(len(images)) if not first[i, :i].any()]]
        occupants: Any = element
        if not is_ordered and rng.random() < 0.7:
            other = rng.choice([e for e in ELEMENTS if e != element])
            occupants = rng.choice([{element: 0.5}, {element: 0.25, other: 0.75}, {element: 0.3, other: 0.2}])
        species += [occupants] * len(images)
        coords += list(images)
    if len(coords) > 60:
        return None
    volume = 14.0 * len(coords)
    lattice = lattice.scale(max(volume, lattice.volume))
    structure = Structure(lattice, species, coords)
    if len(structure.get_neighbor_list(NEAREST, exclude_self=True)[0]):
        return None
    return structure


# ------------------------------------------------------------------------------------------------ writers

Writer = Callable[[Structure, Path], Path]
WRITERS: dict[str, Writer] = {}
"""Name of a format and a function that writes a file of it; those whose name begins with `ordered` lose occupancies."""


def writer(function: Writer) -> Writer:
    if "_ase_" not in function.__name__ or importlib.util.find_spec("ase") is not None:  # an optional extra
        WRITERS[function.__name__] = function
    return function


def _saved(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


@writer
def pymatgen_cif(structure: Structure, folder: Path) -> Path:
    return _saved(folder / "a.cif", str(CifWriter(structure)))


@writer
def pymatgen_cif_with_symmetry(structure: Structure, folder: Path) -> Path:
    return _saved(folder / "a.cif", str(CifWriter(structure, symprec=0.01)))


@writer
def pymatgen_json(structure: Structure, folder: Path) -> Path:
    return _saved(folder / "a.json", structure.to(fmt="json"))


@writer
def gemmi_cif(structure: Structure, folder: Path) -> Path:
    """Every atom, in P 1."""
    small = gemmi.SmallStructure()
    small.name = "x"
    small.spacegroup_hm = "P 1"
    small.cell = gemmi.UnitCell(*structure.lattice.parameters)
    number = 0
    for site in structure:
        for element, occupancy in site.species.items():
            one = gemmi.SmallStructure.Site()
            number += 1
            one.label, one.type_symbol = f"{element.symbol}{number}", element.symbol
            one.element = gemmi.Element(element.symbol)
            one.fract = gemmi.Fractional(*site.frac_coords)
            one.occ = occupancy
            small.add_site(one)
    small.determine_and_set_spacegroup("h")
    return _saved(folder / "a.cif", small.make_cif_block().as_string())


@writer
def ordered_pymatgen_poscar(structure: Structure, folder: Path) -> Path:
    return _saved(folder / "POSCAR", Poscar(structure).get_str(significant_figures=10))


@writer
def ordered_pymatgen_poscar_cartesian(structure: Structure, folder: Path) -> Path:
    return _saved(folder / "a.vasp", Poscar(structure).get_str(direct=False, significant_figures=10))


def _ase(structure: Structure, folder: Path, name: str, kind: str, **options: Any) -> Path:
    import ase
    from ase.io import write

    atoms = ase.Atoms(
        [site.specie.symbol for site in structure],
        cell=structure.lattice.matrix, scaled_positions=structure.frac_coords, pbc=True,
    )  # fmt: skip
    write(str(folder / name), atoms, format=kind, **options)
    return folder / name


@writer
def ordered_ase_cif(structure: Structure, folder: Path) -> Path:
    return _ase(structure, folder, "a.cif", "cif")


@writer
def ordered_ase_poscar(structure: Structure, folder: Path) -> Path:
    return _ase(structure, folder, "POSCAR", "vasp", direct=True)


@writer
def ordered_ase_poscar_cartesian_sorted(structure: Structure, folder: Path) -> Path:
    return _ase(structure, folder, "CONTCAR", "vasp", sort=True)


@writer
def ordered_ase_extxyz(structure: Structure, folder: Path) -> Path:
    return _ase(structure, folder, "a.extxyz", "extxyz")


@writer
def ordered_ase_xsf(structure: Structure, folder: Path) -> Path:
    return _ase(structure, folder, "a.xsf", "xsf")


def _dialect_writer(name: str) -> Writer:
    def write(structure: Structure, folder: Path) -> Path:
        text = dialects.MUST[name](dialects._of_structure(name, structure))
        return _saved(folder / "a.mcif", text or str(CifWriter(structure)))

    return write


for _name in dialects.MUST:
    WRITERS[f"ordered_{_name}"] = _dialect_writer(_name)


def written(name: str, structure: Structure, folder: Path) -> Path:
    """Write a crystal; the warnings of the writers say nothing about it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return WRITERS[name](structure, folder)
