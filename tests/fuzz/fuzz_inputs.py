"""Inputs of the fuzz run: input `i` of a seed is always the same one, whatever ran before it."""

from __future__ import annotations

import functools
import json
import random
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Composition, DummySpecies, Element, Lattice, Species, Structure
from pymatgen.io.cif import CifWriter
from pymatgen.io.vasp import Poscar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from crystals import random_crystals

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

KINDS = ("structure", "cif", "perturbed", "bytes", "cif", "string", "poscar", "object", "truth", "structure")
"""One round of kinds: input `i` is of kind `i` modulo the length."""

HUGE = (
    "1e308",
    "-1e308",
    "1e400",
    "9" * 400,
    "nan",
    "inf",
    "-0.0",
    "0",
    "1e-320",
    "5e-324",
    "²",
    "1(2",
    "?",
    ".",
    "''",
)
WORDS = (
    "loop_", "data_", "data_x", "save_", "global_", "stop_", "_atom_site_label", "_atom_site_occupancy", ";", "#", "'",
    "_symmetry_equiv_pos_as_xyz", "x,y,z", "1/0*x,y,z", "-x,-y,1/2+z", "_cell_length_a", "Fm-3m", "P1", "R-3m:H", "D",
    "Xx", "Na1+", "0.5", "_atom_site_fract_x", "_symmetry_Int_Tables_number", "231", "-5", "\x00", "\ufeff", "é",
)  # fmt: skip


@dataclass(frozen=True)
class File:
    """A file to be read: what it is called, which tells its format, and what it holds."""

    name: str
    data: bytes


@dataclass(frozen=True)
class Truth:
    """A crystal and a format in which it is written; both must have the same string."""

    structure: Structure
    writer: str


def rng_of(seed: int, index: int) -> random.Random:
    """Return the random numbers of one input."""
    return random.Random(f"{seed}:{index}")


def kind_of(index: int) -> str:
    """Return the kind of an input."""
    return KINDS[index % len(KINDS)]


def make(seed: int, index: int) -> tuple[str, Any]:
    """Return kind and input: a `Structure`, a `File`, a SCOPE string, or an object."""
    rng = rng_of(seed, index)
    kind = kind_of(index)
    return kind, MAKERS[kind](rng)


# ------------------------------------------------------------------------------------------------- structures


@functools.cache
def prototypes() -> tuple[Structure, ...]:
    """Real crystals, ordered and not, up to about 100 sites."""
    found = [Structure.from_file(path) for path in sorted(EXAMPLES.glob("*.cif"))]
    cube, sites = Lattice.cubic(4.0), [[0, 0, 0], [0.5, 0.5, 0.5]]
    found.append(Structure(cube, [{"Cu": 0.75, "Zn": 0.25}, {"O": 0.5}], sites))
    found.append(Structure(cube, [Species("Fe", 3), Species("D", -1)], sites))
    found.append(Structure(Lattice.from_parameters(4, 5, 6, 80, 95, 103), ["K", "Nb", "O"], np.eye(3) * 0.45))
    return tuple(found)


def _species(rng: random.Random) -> Any:
    choice = rng.random()
    element = Element.from_Z(rng.randint(1, 118)).symbol
    if choice < 0.6:
        return element
    if choice < 0.7:
        return Species(element, rng.choice([-4, -1, 0, 1, 2, 2.5, 9]))
    if choice < 0.75:
        return rng.choice(["D", "T", "D+", Species("D", 1), "H"])
    if choice < 0.8:
        return DummySpecies(rng.choice(["X", "Xx", "Qa", "Zx"]), rng.choice([0, 1, None]))
    parts = rng.sample([Element.from_Z(z).symbol for z in range(1, 119)], rng.randint(1, 4))
    amounts = [rng.choice([0.0, 1e-9, 1e-3, 0.25, 1 / 3, 0.5, 1.0, rng.random()]) for _ in parts]
    total = max(1.0, sum(amounts))  # pymatgen itself refuses sites that hold more than one atom
    return Composition({part: amount / total for part, amount in zip(parts, amounts, strict=True)})


def _lattice(rng: random.Random) -> Lattice:
    scale = rng.choice([4.0, 4.0, 8.0, 20.0, 1e-12, 1e-3, 0.5, 1e3, 1e8, 1e200])
    matrix = np.array([[rng.gauss(0, 1) for _ in range(3)] for _ in range(3)]) * scale
    match rng.randrange(10):
        case 0:
            matrix[2] = matrix[0] * rng.choice([1, -2, 0]) + matrix[1] * rng.choice([0, 1])  # flat
        case 1:
            matrix[2] = matrix[0] + matrix[1] + 1e-7 * matrix[2]  # nearly flat
        case 2:
            matrix[rng.randrange(3)] *= rng.choice([0.0, 1e-8, 1e8])  # a needle or a plate
        case 3:
            matrix = np.diag([scale] * 3) * rng.choice([1, -1])  # a cube, left-handed or not
        case 4:
            matrix[rng.randrange(3), rng.randrange(3)] = rng.choice([np.nan, np.inf, -np.inf])
        case 5:
            matrix = np.diag([scale, scale, scale * rng.choice([1.0, 1.0001, 1.633])])
    return Lattice(matrix)


def _structure(rng: random.Random) -> Structure:
    n = rng.choice([1, 1, 2, 2, 3, 4, 5, 8, 13, 30, rng.randint(1, 200)])
    grid = rng.choice([0, 0, 2, 4, 6, 12])
    coords = [[rng.randrange(grid) / grid if grid else rng.uniform(-2, 2) for _ in range(3)] for _ in range(n)]
    if rng.random() < 0.1:
        coords[rng.randrange(n)][rng.randrange(3)] = rng.choice([np.nan, np.inf, 1e300, -1e17, 1e-300])
    if rng.random() < 0.1:
        coords[-1] = [value + rng.choice([0.0, 1e-9, 1e-3, 1.0]) for value in coords[0]]
    pool = [_species(rng) for _ in range(rng.randint(1, 4))]
    lattice = Lattice.cubic(4.0 * n ** (1 / 3)) if rng.random() < 0.3 else _lattice(rng)
    return Structure(lattice, [rng.choice(pool) for _ in range(n)], coords)


def _perturbed(rng: random.Random) -> Structure:
    """A real crystal with a little or a lot of damage; most of these can be encoded."""
    structure = rng.choice(prototypes()).copy()
    size = rng.choice([0.0, 1e-6, 1e-4, 5e-3, 0.01, 0.05, 0.5])
    noise = np.array([[rng.gauss(0, size) for _ in range(3)] for _ in structure])
    matrix = structure.lattice.matrix * rng.choice([1.0, -1.0, 0.7, 1.5]) + rng.choice([0, size]) * np.eye(3)
    species = [site.species for site in structure]
    if rng.random() < 0.3:
        species[rng.randrange(len(species))] = Composition({"Og": 0.5, "Fe": rng.choice([0.1, 0.5])})
    structure = Structure(Lattice(matrix), species, structure.cart_coords + noise, coords_are_cartesian=True)
    if len(structure) < 30 and rng.random() < 0.4:
        structure.make_supercell(
            rng.choice([[2, 1, 1], [[0, 1, 1], [1, 0, 1], [1, 1, 0]], [1, 1, 3], [[1, 7, 0], [0, 1, 0], [0, -9, 1]]])
        )
    return structure


# ------------------------------------------------------------------------------------------------------ files


@functools.cache
def cifs() -> tuple[bytes, ...]:
    """Well-formed CIFs: those of the repository, symmetrised and disordered ones, and several blocks in one."""
    files = [path.read_bytes() for path in sorted(EXAMPLES.glob("*.cif"))]
    small = [structure for structure in prototypes() if len(structure) <= 30]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # site labels that repeat
        files += [str(CifWriter(structure)).encode() for structure in small]
        files += [str(CifWriter(s, symprec=0.01)).encode() for s in small if s.is_ordered]
    files += [files[0] + files[1], files[2].replace(b"\n", b"\r\n")]
    return tuple(files)


@functools.cache
def poscars() -> tuple[bytes, ...]:
    """Well-formed POSCARs, direct and Cartesian."""
    small = [structure for structure in prototypes() if structure.is_ordered and len(structure) <= 30]
    return tuple(Poscar(s).get_str(direct=direct).encode() for s in small for direct in (True, False))


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Damage a file in one to eight places: bits, bytes, words, lines, its end."""
    text = bytearray(data)
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3, 8])):
        if not text:
            break
        at = rng.randrange(len(text))
        to = min(len(text), at + rng.choice([1, 2, 5, 20, 200]))
        lines = bytes(text).split(b"\n")
        line = rng.randrange(len(lines))
        words = lines[line].split() or [b""]
        word = rng.randrange(len(words))
        match rng.randrange(12):
            case 0:
                text[at] ^= 1 << rng.randrange(8)
            case 1:
                del text[at:to]
            case 2:
                text[at:at] = text[at:to] * rng.choice([1, 2, 50])
            case 3:
                text[at:to] = rng.randbytes(to - at)
            case 4:
                del text[at:]
            case 5 | 6:
                words[word] = rng.choice(HUGE + WORDS).encode()
                lines[line] = b" ".join(words)
                text = bytearray(b"\n".join(lines))
            case 7:
                other = rng.randrange(len(lines))
                lines[line], lines[other] = lines[other], lines[line]
                text = bytearray(b"\n".join(lines))
            case 8:
                lines[line:line] = [lines[line]] * rng.choice([1, 3, 100])
                text = bytearray(b"\n".join(lines))
            case 9:
                del lines[line]
                text = bytearray(b"\n".join(lines))
            case 10:
                text[at:at] = rng.choice([b"9", b"A", b" ", b"_", b"'", b"\xff"]) * rng.choice([300, 5000, 100_000])
            case 11:
                words[word] = words[word] + rng.choice(HUGE).encode()
                lines[line] = b" ".join(words)
                text = bytearray(b"\n".join(lines))
    return bytes(text)


def _cif(rng: random.Random) -> File:
    return File(rng.choice(["a.cif", "a.cif", "a.cif", "a.mcif"]), mutate(rng.choice(cifs()), rng))


def _poscar(rng: random.Random) -> File:
    return File(rng.choice(["POSCAR", "a.vasp"]), mutate(rng.choice(poscars()), rng))


def _bytes(rng: random.Random) -> File:
    """Noise under every name: bytes, words of the format, and another format's file."""
    name = rng.choice(["a.cif", "POSCAR", "a.vasp", "a.mcif", "a.json", "a.txt", "a.xyz", "a", "CONTCAR"])
    data = rng.choice(
        [
            rng.randbytes(rng.choice([0, 1, 10, 1000, 20_000])),
            b"data_x\n" + rng.randbytes(500) + b"_atom_site",
            "\n".join(rng.choice(WORDS + HUGE) for _ in range(rng.randrange(300))).encode(),
            ("data_a\n" + " ".join(rng.choice(WORDS + HUGE) for _ in range(300)) + " _atom_site").encode("utf-16"),
            mutate(rng.choice(cifs() + poscars()), rng),
            json.dumps(rng.choice(prototypes()).as_dict()).encode(),
        ]
    )
    return File(name, data)


# ---------------------------------------------------------------------------------------- strings and objects

SCOPES = (
    "0 7 a O D D a D O D b O D D c D D O d O O O e F B F h B B B 1 Z Z Z | 8a | Si 1.0",
    "1 2 a E C C n O O O 0 | 3a 3b 6c 18f | Ba 0.1 Ti 0.1 B 0.2 O 0.6",
    "1 0 0 | 1a 1b | Na Cl",
    "0 7 a O D D a D O D b O D D c D D O d O O O e F B F h B B B 1 Z Z Z | Na 4a Cl 4b",
)


def _string(rng: random.Random) -> str:
    if rng.random() < 0.1:
        return "".join(
            chr(rng.choice([rng.randrange(32, 127), rng.randrange(1, 0xD800)])) for _ in range(rng.randrange(80))
        )
    words = rng.choice(SCOPES).split(" ")
    for _ in range(rng.choice([0, 1, 1, 2, 5])):
        at = rng.randrange(len(words))
        match rng.randrange(5):
            case 0:
                words[at] = rng.choice(
                    ["|", "", "[MASK]", "[PAD]", "3z", "99A", "²a", "Xx", "1.01", "0..1", "٣a", *HUGE[:4]]
                )
            case 1:
                words.insert(at, rng.choice(words))
            case 2:
                words[at : at + rng.randrange(4)] = ["O"]
            case 3:
                words = words * rng.choice([1, 2, 40])
            case 4:
                rng.shuffle(words)
    return rng.choice([" ", " ", " ", "  ", "\t", "\u3000"]).join(words)


def _object(rng: random.Random) -> Any:
    """Dictionaries of structures with parts lost or wrong, and things that are no crystal."""
    base = rng.choice(prototypes()[:8])
    optimade = {
        "lattice_vectors": base.lattice.matrix.tolist(),
        "cartesian_site_positions": base.cart_coords.tolist(),
        "species_at_sites": [site.species_string for site in base],
        "species": [
            {"name": s, "chemical_symbols": [s], "concentration": [1.0]} for s in {x.species_string for x in base}
        ],
        "nsites": len(base),
    }
    jarvis = {
        "lattice_mat": base.lattice.matrix.tolist(),
        "coords": base.frac_coords.tolist(),
        "elements": [site.species_string for site in base],
        "cartesian": False,
    }
    arrays = {
        "lattice": base.lattice.matrix,
        "numbers": [site.specie.Z for site in base],
        "frac_coords": base.frac_coords,
    }
    wrong: list[Any] = [None, 3, "", {}, [], b"x", float("nan"), (1, 2, 3), {"a": 1}, [[1]], "NaCl", -1e308, object]
    value = rng.choice(
        [
            optimade,
            jarvis,
            base.as_dict(),
            {"id": "x", "attributes": optimade},
            arrays,
            tuple(arrays.values()),
            rng.choice(wrong),
        ]
    )
    for _ in range(rng.choice([0, 1, 1, 3])):
        value = _damaged(value, rng, wrong)
    return value


def _damaged(value: Any, rng: random.Random, wrong: list[Any]) -> Any:
    """Return a copy with one part, however deep, lost or replaced."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        if rng.random() < 0.2:
            return {k: v for k, v in value.items() if k != key}
        return value | {key: _damaged(value[key], rng, wrong)}
    if isinstance(value, list | tuple) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        new = [] if rng.random() < 0.2 else [_damaged(value[at], rng, wrong)]
        return type(value)([*value[:at], *new, *value[at + 1 :]])
    return rng.choice(wrong)


def _truth(rng: random.Random) -> Truth:
    name = rng.choice(sorted(random_crystals.WRITERS))
    while True:
        structure = random_crystals.random_structure(rng, is_ordered=name.startswith("ordered") or rng.random() < 0.5)
        if structure is not None:
            return Truth(structure, name)


MAKERS: dict[str, Callable[[random.Random], Any]] = {
    "structure": _structure,
    "perturbed": _perturbed,
    "cif": _cif,
    "poscar": _poscar,
    "bytes": _bytes,
    "string": _string,
    "object": _object,
    "truth": _truth,
}
