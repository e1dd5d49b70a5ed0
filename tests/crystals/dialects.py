"""Textbook crystals, and the dialects in which databases and programs write them as CIF.

Written for this project: structures after the International Tables and the handbook crystals in `examples/`. A dialect
turns a crystal into text, or gives `None` where it has no way of its own to write it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import gemmi
import numpy as np
import spglib
from pymatgen.core import Lattice, Structure

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.cif"))


@dataclass(frozen=True)
class Described:
    """A crystal in one tabulated setting: cell (rows, Å) and asymmetric unit."""

    name: str
    setting: gemmi.SpaceGroup
    lattice: np.ndarray
    elements: tuple[str, ...]
    coords: np.ndarray

    @property
    def symbol(self) -> str:
        """Hermann-Mauguin symbol without the choice of origin or axes."""
        return str(self.setting.hm)

    @property
    def choice(self) -> str:
        """`1`, `2`, `H`, `R` or nothing."""
        return self.setting.ext if self.setting.ext.isalnum() else ""


TEXTBOOK: dict[str, tuple[int | str, Lattice, list[str], list[list[float]]]] = {
    "CsCl": (221, Lattice.cubic(4.123), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
    "ZnS sphalerite": (216, Lattice.cubic(5.409), ["Zn", "S"], [[0, 0, 0], [0.25, 0.25, 0.25]]),
    "CaF2 fluorite": (225, Lattice.cubic(5.463), ["Ca", "F"], [[0, 0, 0], [0.25, 0.25, 0.25]]),
    "FeS2 pyrite": (205, Lattice.cubic(5.418), ["Fe", "S"], [[0, 0, 0], [0.3848, 0.3848, 0.3848]]),
    "Bi": (166, Lattice.hexagonal(4.546, 11.862), ["Bi"], [[0, 0, 0.23389]]),
    "LiNbO3": (161, Lattice.hexagonal(5.148, 13.863), ["Li", "Nb", "O"],
               [[0, 0, 0.2787], [0, 0, 0], [0.0476, 0.3433, 0.0633]]),
    "Mg(OH)2 brucite": (164, Lattice.hexagonal(3.148, 4.779), ["Mg", "O", "H"],
                        [[0, 0, 0], [1 / 3, 2 / 3, 0.2203], [1 / 3, 2 / 3, 0.4303]]),
    "I2": (64, Lattice.orthorhombic(7.136, 4.686, 9.784), ["I"], [[0, 0.1541, 0.1174]]),
    "FeS2 marcasite": (58, Lattice.orthorhombic(4.436, 5.414, 3.381), ["Fe", "S"], [[0, 0, 0], [0.2, 0.378, 0]]),
    "BaSO4 barite": (62, Lattice.orthorhombic(8.881, 5.454, 7.157), ["Ba", "S", "O", "O", "O"],
                     [[0.1845, 0.25, 0.1585], [0.4372, 0.25, 0.1910], [0.5870, 0.25, 0.1060],
                      [0.3176, 0.25, 0.0498], [0.4194, 0.0305, 0.3118]]),
    "As2O3 claudetite": (14, Lattice.monoclinic(5.25, 12.90, 4.53, 93.88), ["As", "As", "O", "O", "O"],
                         [[0.259, 0.102, 0.041], [0.363, 0.352, 0.007], [0.45, 0.219, 0.031],
                          [0.62, 0.409, 0.163], [0.949, 0.161, 0.130]]),
    "CaMgSi2O6 diopside": (15, Lattice.monoclinic(9.746, 8.899, 5.251, 105.63), ["Ca", "Mg", "Si", "O", "O", "O"],
                           [[0, 0.3015, 0.25], [0, 0.9082, 0.25], [0.2862, 0.0933, 0.2293], [0.1156, 0.0873, 0.1422],
                            [0.3611, 0.2500, 0.3180], [0.3505, 0.0176, 0.9953]]),
    "PbO litharge": (129, Lattice.tetragonal(3.976, 5.023), ["Pb", "O"], [[0.5, 0, 0.2385], [0, 0, 0]]),
    "CuFeS2 chalcopyrite": (122, Lattice.tetragonal(5.289, 10.423), ["Cu", "Fe", "S"],
                            [[0, 0, 0], [0, 0, 0.5], [0.2574, 0.25, 0.125]]),
    "Al2SiO5 kyanite": (2, Lattice.from_parameters(7.126, 7.852, 5.572, 89.99, 101.11, 106.03), ["Al", "Al", "Si", "O"],
                        [[0.3254, 0.7040, 0.4582], [0.2974, 0.6989, 0.9505], [0.2962, 0.0649, 0.7066],
                         [0.1095, 0.1468, 0.1288]]),
}  # fmt: skip
"""Space group, cell, elements and coordinates, as in the standard setting that pymatgen generates from the number."""

ORIGINS: dict[str, tuple[str, Lattice, list[str], list[list[float]]]] = {
    "MgAl2O4 spinel": ("F d -3 m:2", Lattice.cubic(8.0806), ["Mg", "Al", "O"],
                       [[0.125, 0.125, 0.125], [0.5, 0.5, 0.5], [0.2624, 0.2624, 0.2624]]),
    "TiO2 anatase": ("I 41/a m d:1", Lattice.tetragonal(3.784, 9.515), ["Ti", "O"], [[0, 0, 0], [0, 0, 0.208]]),
    "ZrSiO4 zircon": ("I 41/a m d:2", Lattice.tetragonal(6.607, 5.982), ["Zr", "Si", "O"],
                      [[0, 0.75, 0.125], [0, 0.25, 0.375], [0, 0.0661, 0.1953]]),
    "CaWO4 scheelite": ("I 41/a:2", Lattice.tetragonal(5.243, 11.374), ["Ca", "W", "O"],
                        [[0, 0.25, 0.625], [0, 0.25, 0.125], [0.1507, 0.0086, 0.2106]]),
}  # fmt: skip
"""Crystals of groups with two origins, in gemmi's name of the setting."""


def _group_keys(operations: Sequence[gemmi.Op]) -> set[tuple[int, ...]]:
    return {(*np.ravel(o.rot).tolist(), *(t % gemmi.Op.DEN for t in o.tran)) for o in operations}


def _affine(operation: gemmi.Op) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(operation.rot) / gemmi.Op.DEN
    matrix[:3, 3] = np.array(operation.tran) / gemmi.Op.DEN
    return matrix


def _keys_of(matrices: Sequence[np.ndarray]) -> set[tuple[int, ...]]:
    found = set()
    for matrix in matrices:
        rotation = np.rint(matrix[:3, :3] * gemmi.Op.DEN).astype(int)
        shift = np.rint(matrix[:3, 3] * gemmi.Op.DEN).astype(int) % gemmi.Op.DEN
        found.add((*rotation.ravel().tolist(), *shift.tolist()))
    return found


@cache
def _to_setting(old: str, new: str) -> np.ndarray | None:
    """Matrix M (4, 4) with x_new = M x_old between two settings, proved on their operations."""
    one, other = (next(s for s in gemmi.spacegroup_table() if s.xhm() == name) for name in (old, new))
    first, second = _affine(one.basisop), _affine(other.basisop)
    want = _group_keys(list(other.operations()))
    larger = len(list(other.operations())) / len(list(one.operations()))  # the cell, by its centring
    for matrix in (np.linalg.inv(second) @ first, second @ np.linalg.inv(first)):
        if not np.isclose(np.linalg.det(matrix[:3, :3]) * larger, 1):
            continue
        moved = [matrix @ _affine(operation) @ np.linalg.inv(matrix) for operation in one.operations()]
        keys = _keys_of(moved)
        if keys <= want or want <= keys:
            return matrix
    return None


def in_setting(crystal: Described, name: str) -> Described | None:
    """Describe a crystal in another setting of its space group (gemmi's extended symbol)."""
    matrix = _to_setting(crystal.setting.xhm(), name)
    if matrix is None:
        return None
    setting = next(s for s in gemmi.spacegroup_table() if s.xhm() == name)
    coords = crystal.coords @ matrix[:3, :3].T + matrix[:3, 3]
    lattice = np.linalg.inv(matrix[:3, :3]).T @ crystal.lattice
    return replace(crystal, setting=setting, lattice=lattice, coords=coords % 1.0)


def expanded(crystal: Described) -> Structure:
    """All sites of the cell, by an independent way: pymatgen on explicit operations."""
    from pymatgen.core.operations import SymmOp

    operations = [SymmOp(_affine(operation)) for operation in crystal.setting.operations()]
    sites: list[tuple[str, np.ndarray]] = []
    for element, x in zip(crystal.elements, crystal.coords, strict=True):
        own: list[np.ndarray] = []
        for operation in operations:
            image = operation.operate(x) % 1.0
            steps = [image - other for other in own]
            if all(np.abs(step - np.rint(step)).max() > 1e-3 for step in steps):
                own.append(image)
        sites += [(element, image) for image in own]
    return Structure(crystal.lattice, [element for element, _ in sites], [image for _, image in sites])


def _of_structure(name: str, structure: Structure) -> Described:
    """A structure in the setting that spglib's standard cell has."""
    cell = (structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers)
    found = spglib.get_symmetry_dataset(cell, symprec=1e-3)
    kind = spglib.get_spacegroup_type(found.hall_number)
    setting = next(s for s in gemmi.spacegroup_table() if s.hall == kind.hall_symbol)
    standard = spglib.get_symmetry_dataset((found.std_lattice, found.std_positions, found.std_types), symprec=1e-3)
    firsts = sorted(set(standard.crystallographic_orbits.tolist()))
    symbols = [Structure(np.eye(3) * 5, [int(found.std_types[i])], [[0, 0, 0]])[0].specie.symbol for i in firsts]
    return Described(name, setting, found.std_lattice, tuple(symbols), found.std_positions[firsts])


@cache
def crystals() -> tuple[Described, ...]:
    """All crystals of the table, one of each structure type."""
    others = {*TEXTBOOK, *ORIGINS}
    examples = [path for path in EXAMPLES if path.stem.replace("_", " ") not in others]
    found = [_of_structure(path.stem, Structure.from_file(path)) for path in examples]
    for name, (group, lattice, elements, coords) in TEXTBOOK.items():
        found.append(_of_structure(name, Structure.from_spacegroup(group, lattice, elements, coords)))
    for name, (symbol, lattice, elements, coords) in ORIGINS.items():
        setting = next(s for s in gemmi.spacegroup_table() if s.xhm() == symbol)
        found.append(Described(name, setting, lattice.matrix, tuple(elements), np.array(coords)))
    kinds: dict[tuple[str, bytes], Described] = {}
    for crystal in found:
        kinds.setdefault((crystal.setting.xhm(), crystal.coords.round(2).tobytes()), crystal)
    return tuple(kinds.values())


# ------------------------------------------------------------------------------------------------ parts of a CIF


def cell_lines(crystal: Described, pattern: str = "{} {:.6f}") -> str:
    a, b, c, *angles = Lattice(crystal.lattice).parameters
    tags = [f"_cell_length_{x}" for x in "abc"] + [f"_cell_angle_{x}" for x in ("alpha", "beta", "gamma")]
    return "\n".join(pattern.format(tag, value) for tag, value in zip(tags, (a, b, c, *angles), strict=True)) + "\n"


def operation_lines(crystal: Described, tag: str = "_symmetry_equiv_pos_as_xyz", quote: str = "'") -> str:
    rows = "".join(f"{quote}{operation.triplet()}{quote}\n" for operation in crystal.setting.operations())
    return f"loop_\n{tag}\n{rows}"


def atom_lines(
    crystal: Described,
    labels: Callable[[int, str], str] = lambda i, element: f"{element}{i + 1}",
    types: Callable[[int, str], str] | None = lambda _, element: element,
    pattern: str = "{:.6f}",
    extra: tuple[tuple[str, str], ...] = (),
) -> str:
    """The loop of atoms; `extra` columns have the same value in every row."""
    tags = ["_atom_site_label"] + (["_atom_site_type_symbol"] if types else [])
    tags += [f"_atom_site_fract_{axis}" for axis in "xyz"] + [tag for tag, _ in extra]
    rows = []
    for i, (element, x) in enumerate(zip(crystal.elements, crystal.coords, strict=True)):
        words = [labels(i, element)] + ([types(i, element)] if types else [])
        rows.append(" ".join([*words, *(pattern.format(value) for value in x), *(value for _, value in extra)]))
    return "loop_\n" + "\n".join(tags + rows) + "\n"


def formula_lines(crystal: Described) -> str:
    """Sum formula and formula units per cell."""
    composition = expanded(crystal).composition
    reduced, units = composition.get_reduced_composition_and_factor()
    words = " ".join(f"{element.symbol}{'' if n == 1 else f'{n:g}'}" for element, n in sorted(reduced.items()))
    return f"_chemical_formula_sum '{words}'\n_cell_formula_units_Z {units:g}\n"


def named(crystal: Described, name: str, tag: str = "_symmetry_space_group_name_H-M") -> str:
    return f"data_x\n{cell_lines(crystal)}{tag} {name}\n{atom_lines(crystal)}"


# ------------------------------------------------------------------------------------------------ dialects


Dialect = Callable[[Described], "str | None"]
MUST: dict[str, Dialect] = {}
"""Dialects that say everything: the crystal has to come out."""
MAY: dict[str, Dialect] = {}
"""Dialects that leave something open for some crystals: the crystal, or an error."""


def dialect(table: dict[str, Dialect]) -> Callable[[Dialect], Dialect]:
    def add(function: Dialect) -> Dialect:
        table[function.__name__] = function
        return function

    return add


def _xhm(crystal: Described) -> str:
    return f"'{crystal.symbol} :{crystal.choice}'" if crystal.choice else f"'{crystal.symbol}'"


def _full(crystal: Described) -> str | None:
    kinds = (spglib.get_spacegroup_type(number) for number in range(1, 531))
    return next((kind.international_full for kind in kinds if kind.hall_symbol == crystal.setting.hall), None)


@dialect(MUST)
def operations_old_tag(crystal: Described) -> str:
    return f"data_x\n{cell_lines(crystal)}{operation_lines(crystal)}{atom_lines(crystal)}"


@dialect(MUST)
def operations_numbered_and_bare(crystal: Described) -> str:
    rows = "".join(f"{i + 1} {o.triplet().replace(' ', '')}\n" for i, o in enumerate(crystal.setting.operations()))
    head = "loop_\n_space_group_symop_id\n_space_group_symop_operation_xyz\n"
    return f"data_x\n{cell_lines(crystal)}{head}{rows}{atom_lines(crystal)}"


@dialect(MUST)
def operations_in_capitals_with_translations_first(crystal: Described) -> str:
    rows = []
    for operation in crystal.setting.operations():
        parts = []
        for part in operation.triplet().upper().split(","):
            cut = max(part.rfind("+1"), part.rfind("+2"), part.rfind("+3"), part.rfind("+5"))
            axis, shift = (part[:cut], part[cut + 1 :]) if cut > 0 else (part, "")
            parts.append(shift + (axis if axis.startswith("-") or not shift else f"+{axis}"))
        rows.append(f"'{', '.join(parts)}'\n")
    head = "loop_\n_symmetry_equiv_pos_as_xyz\n"
    return f"data_x\n{cell_lines(crystal)}{head}{''.join(rows)}{atom_lines(crystal)}"


@dialect(MUST)
def operations_from_another_origin(crystal: Described) -> str:
    """A setting without a name: the origin lies anywhere."""
    shift = np.eye(4)
    shift[:3, 3] = (1 / 8, 1 / 12, 1 / 3)
    moved = replace(crystal, coords=crystal.coords + shift[:3, 3])
    rows = []
    for operation in crystal.setting.operations():
        matrix = shift @ _affine(operation) @ np.linalg.inv(shift)
        words = []
        for row in matrix[:3]:
            signs = {1: "+", -1: "-"}
            axes = "".join(f"{signs[int(v)]}{axis}" for v, axis in zip(np.rint(row[:3]), "xyz", strict=True) if v)
            words.append(f"{axes.removeprefix('+')}{row[3] % 1.0:+.5f}")
        rows.append(f"'{','.join(words)}'\n")
    return f"data_x\n{cell_lines(moved)}loop_\n_symmetry_equiv_pos_as_xyz\n{''.join(rows)}{atom_lines(moved)}"


@dialect(MUST)
def hall_old_tag(crystal: Described) -> str:
    return named(crystal, f"\n;{crystal.setting.hall}\n;", "_symmetry_space_group_name_Hall")


@dialect(MUST)
def hall_new_tag(crystal: Described) -> str:
    quote = "'" if "'" not in crystal.setting.hall else '"'
    hall = crystal.setting.hall
    if '"' in hall and quote == '"':
        return named(crystal, f"\n;\n{hall}\n;", "_space_group_name_Hall")
    return named(crystal, f"{quote}{hall}{quote}", "_space_group_name_Hall")


@dialect(MUST)
def symbol_with_choice(crystal: Described) -> str:
    return named(crystal, _xhm(crystal))


@dialect(MUST)
def symbol_with_choice_new_tag(crystal: Described) -> str:
    return named(crystal, _xhm(crystal).replace(" :", ":"), "_space_group_name_H-M_alt")


@dialect(MUST)
def symbol_of_the_icsd(crystal: Described) -> str:
    """The letters S, Z, H, R behind the symbol; charges in type symbols, `Z` and the formula given."""
    letter = {"1": " S", "2": " Z", "H": " H", "R": " R", "": ""}[crystal.choice]
    atoms = atom_lines(crystal, types=lambda _, element: f"{element}0+", extra=(("_atom_site_occupancy", "1."),))
    name = f"_symmetry_space_group_name_H-M '{crystal.symbol}{letter}'\n"
    number = f"_symmetry_Int_Tables_number {crystal.setting.number}\n"
    return f"data_1-ICSD\n{formula_lines(crystal)}{cell_lines(crystal)}{name}{number}{atoms}"


@dialect(MUST)
def symbol_unquoted(crystal: Described) -> str:
    return named(crystal, _xhm(crystal).strip("'"))


@dialect(MUST)
def symbol_in_capitals(crystal: Described) -> str:
    return named(crystal, _xhm(crystal).upper())


@dialect(MUST)
def symbol_with_typographic_minus(crystal: Described) -> str:
    return named(crystal, _xhm(crystal).replace("-", "\u2212"))


@dialect(MUST)
def symbol_with_origin_in_words(crystal: Described) -> str:
    words = {
        "1": " (origin choice 1)",
        "2": " (origin choice 2)",
        "H": " (hexagonal axes)",
        "R": " (rhombohedral axes)",
    }
    return named(crystal, f"'{crystal.symbol}{words.get(crystal.choice, '')}'")


@dialect(MUST)
def symbol_of_shelx(crystal: Described) -> str:
    """Screw axes as 2(1), no blanks."""
    parts = crystal.symbol.split()
    parts = [f"{p[0]}({p[1]}){p[2:]}" if p[0] in "2346" and p[1:2].isdigit() else p for p in parts]
    suffix = f":{crystal.choice}" if crystal.choice else ""
    return named(crystal, f"'{''.join(parts)}{suffix}'")


@dialect(MUST)
def symbol_with_underscores(crystal: Described) -> str:
    parts = [f"{p[0]}_{p[1]}{p[2:]}" if p[0] in "2346" and p[1:2].isdigit() else p for p in crystal.symbol.split()]
    suffix = f" :{crystal.choice}" if crystal.choice else ""
    return named(crystal, f"'{' '.join(parts)}{suffix}'")


@dialect(MUST)
def other_origin(crystal: Described) -> str | None:
    if crystal.choice not in ("1", "2"):
        return None
    other = in_setting(crystal, f"{crystal.symbol}:{'2' if crystal.choice == '1' else '1'}")
    return None if other is None else named(other, _xhm(other))


@dialect(MUST)
def rhombohedral_axes(crystal: Described) -> str | None:
    other = in_setting(crystal, f"{crystal.symbol}:R") if crystal.choice == "H" else None
    return None if other is None else named(other, f"'{other.symbol} :R'")


@dialect(MUST)
def rhombohedral_axes_by_the_cell(crystal: Described) -> str | None:
    """Only the cell tells which axes are meant."""
    other = in_setting(crystal, f"{crystal.symbol}:R") if crystal.choice == "H" else None
    return None if other is None else named(other, f"'{other.symbol}'")


@dialect(MUST)
def other_axes(crystal: Described) -> str | None:
    """Another unique axis or a permutation of the axes, by its symbol."""
    number = crystal.setting.number
    if not 3 <= number <= 74:
        return None
    names = [s.xhm() for s in gemmi.spacegroup_table() if s.number == number and s.hm != crystal.symbol]
    others = [other for name in names if (other := in_setting(crystal, name)) is not None]
    others = [other for other in others if np.linalg.det(other.lattice) != 0]
    return named(others[-1], _xhm(others[-1])) if others else None


@dialect(MUST)
def old_names(crystal: Described) -> str | None:
    """Cubic symbols without the minus, as until 1992."""
    if crystal.setting.number < 195 or "-3" not in crystal.symbol:
        return None
    suffix = f" :{crystal.choice}" if crystal.choice else ""
    return named(crystal, f"'{crystal.symbol.replace('-3', '3')}{suffix}'")


@dialect(MUST)
def tags_in_capitals(crystal: Described) -> str:
    text = named(crystal, _xhm(crystal))
    return "\n".join(
        line.upper() if line.startswith(("_", "loop_")) and " " not in line else line for line in text.split("\n")
    )


@dialect(MUST)
def tags_in_lower_case(crystal: Described) -> str:
    text = named(crystal, _xhm(crystal), "_space_group_name_H-M_alt")
    return "\n".join(f"{line.split(' ')[0].lower()} {line.partition(' ')[2]}" for line in text.split("\n"))


@dialect(MUST)
def dotted_names(crystal: Described) -> str:
    """The names of the newer dictionaries: `_cell.length_a`."""
    operations = operation_lines(crystal, "_space_group_symop.operation_xyz")
    text = f"data_x\n{cell_lines(crystal)}{operations}{atom_lines(crystal)}"
    return text.replace("_cell_", "_cell.").replace("_atom_site_", "_atom_site.")


@dialect(MUST)
def of_the_amcsd(crystal: Described) -> str:
    """Labels without numbers, no type symbols, operations, the formula."""
    atoms = atom_lines(crystal, labels=lambda i, element: element, types=None, pattern="{:.5f}")
    return (
        f"data_global\n_chemical_formula_sum '{_sum(crystal)}'\n{cell_lines(crystal)}{operation_lines(crystal)}{atoms}"
    )


def _sum(crystal: Described) -> str:
    return formula_lines(crystal).split("'")[1]


@dialect(MUST)
def of_the_cod(crystal: Described) -> str:
    """Every statement about the space group at once, uncertainties, comments."""
    extra = (("_atom_site_occupancy", "1.00000"), ("_atom_site_calc_flag", "d"))
    atoms = atom_lines(crystal, pattern="{:.6f}(12)", extra=extra)
    hall = f"_symmetry_space_group_name_Hall\n;\n{crystal.setting.hall}\n;\n"
    return (
        f"#------\n# $Date$\n#------\ndata_1000000\nloop_\n_publ_author_name\n'A, B.'\n{formula_lines(crystal)}"
        f"_symmetry_cell_setting unknown\n{hall}_symmetry_space_group_name_H-M {_xhm(crystal)}\n"
        f"_symmetry_Int_Tables_number {crystal.setting.number}\n{cell_lines(crystal, '{} {:.6f}(3)')}"
        f"{operation_lines(crystal)}{atoms}#END\n"
    )


@dialect(MUST)
def of_vesta(crystal: Described) -> str:
    atoms = atom_lines(crystal, extra=(("_atom_site_adp_type", "Biso"), ("_atom_site_occupancy", "1.0")))
    head = "\n#=====\n# CRYSTAL DATA\n#-----\ndata_VESTA_phase_1\n\n_chemical_name_common ''\n"
    number = f"_space_group_IT_number {crystal.setting.number}\n"
    operations = operation_lines(crystal, "_space_group_symop_operation_xyz", "   '")
    operations = operations.replace("   '\n", "'\n")
    name = f"_space_group_name_H-M_alt '{crystal.symbol}'\n"
    return f"{head}{cell_lines(crystal)}{name}{number}\n{operations}\n{atoms}"


@dialect(MUST)
def of_findsym(crystal: Described) -> str:
    extra = (("_atom_site_occupancy", "1.00000"), ("_atom_site_fract_symmform", "Dx,Dy,Dz"))
    rows = "".join(f"{i + 1} {o.triplet()}\n" for i, o in enumerate(crystal.setting.operations()))
    return (
        f"# CIF file created by FINDSYM, version 7.1.3\n\ndata_findsym-output\n_audit_creation_method FINDSYM\n"
        f"{cell_lines(crystal)}\n_symmetry_space_group_name_H-M {_xhm(crystal)}\n"
        f"_symmetry_Int_Tables_number {crystal.setting.number}\n\nloop_\n_space_group_symop_id\n"
        f"_space_group_symop_operation_xyz\n{rows}\n{atom_lines(crystal, extra=extra)}\n# end of cif\n"
    )


@dialect(MUST)
def of_materials_studio(crystal: Described) -> str:
    """Every atom of the cell, in P 1."""
    sites = expanded(crystal)
    whole = replace(crystal, elements=tuple(s.specie.symbol for s in sites), coords=sites.frac_coords)
    extra = (
        ("_atom_site_U_iso_or_equiv", "0.00000"),
        ("_atom_site_adp_type", "Uiso"),
        ("_atom_site_occupancy", "1.00"),
    )
    return (
        "data_x\n_audit_creation_method 'Materials Studio'\n_symmetry_space_group_name_H-M 'P1'\n"
        "_symmetry_Int_Tables_number 1\n_symmetry_cell_setting triclinic\nloop_\n_symmetry_equiv_pos_as_xyz\n  x,y,z\n"
        f"{cell_lines(whole)}{atom_lines(whole, extra=extra)}"
    )


@dialect(MUST)
def of_shelx_with_crlf(crystal: Described) -> str:
    """Unknown items as ? and ., Windows line ends, a mark at the end of the file."""
    extra = (("_atom_site_occupancy", "."), ("_atom_site_disorder_group", "."), ("_atom_site_disorder_assembly", "?"))
    text = (
        f"\ufeffdata_shelx\n_chemical_formula_sum ?\n_space_group_name_Hall ?\n_symmetry_equiv_pos_as_xyz ?\n"
        f"_space_group_name_H-M_alt {_xhm(crystal)}\n{cell_lines(crystal, '{} {:.6f}(10)')}"
        f"{atom_lines(crystal, labels=lambda i, element: f'{element.upper()}({i + 1})', extra=extra)}"
    )
    return text.replace("\n", "\r\n") + "\x1a"


@dialect(MUST)
def of_a_journal(crystal: Described) -> str:
    """A text field that quotes another file, an empty block before and one of unknown atoms behind."""
    quoted = "_publ_section_comment\n;\ndata_old\n_cell_length_a 2.87\nloop_\n_atom_site_label\nFe1\n;\n"
    behind = (
        "\ndata_none\nloop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n? ? ? ?\n"
    )
    body = operations_old_tag(crystal).removeprefix("data_x\n")
    return f"data_global\n_journal_year 1999\n{quoted}data_x\n{quoted}{body}{behind}"


@dialect(MUST)
def magnetic(crystal: Described) -> str:
    """Operations with time reversal, and moments that say nothing about the sites."""
    rows = "".join(f"{i + 1} {o.triplet()},+1\n" for i, o in enumerate(crystal.setting.operations().sym_ops))
    centrings = [
        ",".join(f"{axis}+{t}/{gemmi.Op.DEN}" if t else axis for axis, t in zip("xyz", tran, strict=True)) + ",+1"
        for tran in crystal.setting.operations().cen_ops
    ]
    centred = "".join(f"{i + 1} {text}\n" for i, text in enumerate(centrings))
    operation, centring = "_space_group_symop_magn_operation", "_space_group_symop_magn_centering"
    moment = "_atom_site_moment"
    return (
        f"data_x\n{cell_lines(crystal)}loop_\n{operation}.id\n{operation}.xyz\n{rows}"
        f"loop_\n{centring}.id\n{centring}.xyz\n{centred}{atom_lines(crystal)}"
        f"loop_\n{moment}.label\n{moment}.crystalaxis_x\n{moment}.crystalaxis_y\n{moment}.crystalaxis_z\n"
        f"{crystal.elements[0]}1 0 0 1.7\n"
    )


@dialect(MUST)
def deuterated(crystal: Described) -> str | None:
    if "H" not in crystal.elements:
        return None
    atoms = atom_lines(crystal, types=lambda _, element: "D" if element == "H" else element)
    return f"data_x\n{cell_lines(crystal)}{operation_lines(crystal)}{atoms}"


@dialect(MAY)
def symbol_without_choice(crystal: Described) -> str:
    return named(crystal, f"'{crystal.symbol}'")


@dialect(MAY)
def symbol_without_choice_but_formula(crystal: Described) -> str:
    return f"{named(crystal, repr(crystal.symbol))}{formula_lines(crystal)}"


@dialect(MAY)
def symbol_without_blanks(crystal: Described) -> str:
    return named(crystal, f"'{crystal.setting.short_name()}'")


@dialect(MAY)
def full_symbol(crystal: Described) -> str | None:
    full = _full(crystal)
    suffix = f" :{crystal.choice}" if crystal.choice else ""
    return None if full is None else named(crystal, f"'{full}{suffix}'")


@dialect(MAY)
def number_alone(crystal: Described) -> str:
    return f"data_x\n{cell_lines(crystal)}_space_group_IT_number {crystal.setting.number}\n{atom_lines(crystal)}"


@dialect(MAY)
def labels_in_capitals(crystal: Described) -> str:
    atoms = atom_lines(crystal, labels=lambda i, element: f"{element.upper()}{i + 1}", types=None)
    return f"data_x\n{cell_lines(crystal)}{operation_lines(crystal)}{atoms}"


@dialect(MAY)
def labels_with_letters(crystal: Described) -> str:
    """Site names as in feldspars and zeolites: `Oa`, `OB`, `Si1a`."""
    atoms = atom_lines(crystal, labels=lambda i, element: f"{element}{'ab'[i % 2]}", types=None)
    return f"data_x\n_chemical_formula_sum '{_sum(crystal)}'\n{cell_lines(crystal)}{operation_lines(crystal)}{atoms}"


@dialect(MAY)
def site_names(crystal: Described) -> str:
    """Names of sites in place of elements."""
    names = ("M1", "T1", "A", "X1", "Wat", "Vac", "OH1", "NH3")
    atoms = atom_lines(crystal, labels=lambda i, _: names[i % len(names)], types=None)
    return f"data_x\n{cell_lines(crystal)}{operation_lines(crystal)}{atoms}"


@dialect(MAY)
def identity_listed_beside_the_symbol(crystal: Described) -> str:
    list_ = "loop_\n_symmetry_equiv_pos_as_xyz\n'x,y,z'\n"
    return f"{named(crystal, _xhm(crystal))}{list_}"


@dialect(MAY)
def another_number_beside_the_symbol(crystal: Described) -> str:
    other = 99 if crystal.setting.number != 99 else 100
    return f"{named(crystal, _xhm(crystal))}_symmetry_Int_Tables_number {other}\n"


@dialect(MAY)
def no_symmetry_stated(crystal: Described) -> str:
    return f"data_x\n{cell_lines(crystal)}{atom_lines(crystal)}"


@dialect(MAY)
def formula_of_something_else(crystal: Described) -> str:
    return f"{operations_old_tag(crystal)}_chemical_formula_sum '{_sum(crystal)} He'\n"


@dialect(MAY)
def three_decimals(crystal: Described) -> str:
    """Rounded coordinates must not double atoms on special positions."""
    text = f"data_x\n{cell_lines(crystal)}{operation_lines(crystal)}{atom_lines(crystal, pattern='{:.3f}')}"
    return text + formula_lines(crystal)
