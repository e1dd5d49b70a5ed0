"""Write `cloud_hf/screening/prototypes.json`: textbook structures, each proved by encoding what was written.

Lattice constants and coordinates are those of the named compound as textbooks and structure databases list them; the
International Tables' second origin is used where there are two, and hexagonal axes for rhombohedral groups.

    python scripts/build_prototypes.py
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import spglib
from numpy.typing import NDArray
from pymatgen.core import Lattice, Structure

from cloud_hf.files import write_text
from cloud_hf.scope import ScopeEncoder

TARGET = Path(__file__).resolve().parents[1] / "cloud_hf" / "screening" / "prototypes.json"

Sites = dict[str, list[tuple[float, float, float]]]

THIRD, TWO_THIRDS = 1 / 3, 2 / 3


@dataclass(frozen=True)
class Recipe:
    """A structure type.

    Attributes:
        name: What the package calls it.
        formula: Reduced formula of the compound.
        group: Number of the space group.
        cell: a, b, c in Å as far as they differ; the angles are those of the crystal system.
        sites: Slot and element, e.g. `A Na`, and one coordinate triple for each of its orbits.
        shortest: Shortest distance between two atoms, Å, as known of the compound; the structure must have it.
    """

    name: str
    formula: str
    group: int
    cell: tuple[float, ...]
    sites: Sites
    shortest: float


def hall_number(group: int) -> int:
    """Hall number of the setting with the second origin or hexagonal axes, where there is a choice."""
    settings: Any = {hall: spglib.get_spacegroup_type(hall) for hall in range(1, 531)}
    numbers = [hall for hall, setting in settings.items() if setting.number == group]
    chosen = [hall for hall in numbers if settings[hall].choice in ("2", "H")]
    return int((chosen or numbers)[0])


def build(recipe: Recipe) -> tuple[Structure, list[str]]:
    """Return the conventional cell and the slot of each site."""
    a, b, c = {1: recipe.cell * 3, 2: (*recipe.cell[:1], *recipe.cell), 3: recipe.cell}[len(recipe.cell)]
    hexagonal = 143 <= recipe.group <= 194
    lattice = Lattice.from_parameters(a, b, c, 90, 90, 120 if hexagonal else 90)
    symmetry: Any = spglib.get_symmetry_from_database(hall_number(recipe.group))
    species, points, slots = [], [], []
    for label, orbits in recipe.sites.items():
        slot, element = label.split()
        for orbit in orbits:
            images: list[NDArray[np.float64]] = []
            for rotation, shift in zip(symmetry["rotations"], symmetry["translations"], strict=True):
                point = (rotation @ np.array(orbit) + shift) % 1
                if all(np.abs((point - other + 0.5) % 1 - 0.5).max() > 1e-4 for other in images):
                    images.append(point)
            points += images
            species += [element] * len(images)
            slots += [slot] * len(images)
    return Structure(lattice, species, points), slots


RECIPES = (
    Recipe("rock-salt", "NaCl", 225, (5.640,), {"A Na": [(0, 0, 0)], "X Cl": [(0.5, 0.5, 0.5)]}, 2.82),
    Recipe("caesium-chloride", "CsCl", 221, (4.123,), {"A Cs": [(0, 0, 0)], "X Cl": [(0.5, 0.5, 0.5)]}, 3.57),
    Recipe("zinc-blende", "ZnS", 216, (5.409,), {"A Zn": [(0, 0, 0)], "X S": [(0.25, 0.25, 0.25)]}, 2.34),
    Recipe("wurtzite", "ZnS", 186, (3.811, 6.234),
           {"A Zn": [(THIRD, TWO_THIRDS, 0)], "X S": [(THIRD, TWO_THIRDS, 0.375)]}, 2.34),
    Recipe("nickel-arsenide", "NiAs", 194, (3.619, 5.034),
           {"A Ni": [(0, 0, 0)], "X As": [(THIRD, TWO_THIRDS, 0.25)]}, 2.43),
    Recipe("tungsten-carbide", "WC", 187, (2.906, 2.837),
           {"A W": [(0, 0, 0)], "X C": [(THIRD, TWO_THIRDS, 0.5)]}, 2.20),
    Recipe("litharge", "PbO", 129, (3.975, 5.023),
           {"A Pb": [(0.25, 0.25, 0.2385)], "X O": [(0.75, 0.25, 0)]}, 2.32),
    Recipe("fluorite", "CaF2", 225, (5.463,), {"A Ca": [(0, 0, 0)], "X F": [(0.25, 0.25, 0.25)]}, 2.37),
    Recipe("antifluorite", "Li2O", 225, (4.619,), {"A Li": [(0.25, 0.25, 0.25)], "X O": [(0, 0, 0)]}, 2.00),
    Recipe("rutile", "TiO2", 136, (4.594, 2.959), {"A Ti": [(0, 0, 0)], "X O": [(0.3053, 0.3053, 0)]}, 1.95),
    Recipe("anatase", "TiO2", 141, (3.785, 9.514),
           {"A Ti": [(0, 0.25, 0.375)], "X O": [(0, 0.25, 0.1669)]}, 1.93),
    Recipe("pyrite", "FeS2", 205, (5.418,), {"A Fe": [(0, 0, 0)], "X S": [(0.3848, 0.3848, 0.3848)]}, 2.16),
    Recipe("marcasite", "FeS2", 58, (4.443, 5.424, 3.387), {"A Fe": [(0, 0, 0)], "X S": [(0.2, 0.378, 0)]}, 2.21),
    Recipe("cadmium-iodide", "CdI2", 164, (4.24, 6.84),
           {"A Cd": [(0, 0, 0)], "X I": [(THIRD, TWO_THIRDS, 0.2492)]}, 2.98),
    Recipe("molybdenite", "MoS2", 194, (3.160, 12.294),
           {"A Mo": [(THIRD, TWO_THIRDS, 0.25)], "X S": [(THIRD, TWO_THIRDS, 0.621)]}, 2.41),
    Recipe("cuprite", "Cu2O", 224, (4.27,), {"A Cu": [(0, 0, 0)], "X O": [(0.25, 0.25, 0.25)]}, 1.85),
    Recipe("aluminium-diboride", "AlB2", 191, (3.009, 3.262),
           {"A Al": [(0, 0, 0)], "X B": [(THIRD, TWO_THIRDS, 0.5)]}, 1.74),
    Recipe("laves-cubic", "MgCu2", 227, (7.034,), {"A Mg": [(0.125, 0.125, 0.125)], "X Cu": [(0.5, 0.5, 0.5)]}, 2.49),
    Recipe("laves-hexagonal", "MgZn2", 194, (5.221, 8.567),
           {"A Mg": [(THIRD, TWO_THIRDS, 0.062)], "X Zn": [(0, 0, 0), (0.8305, 0.661, 0.25)]}, 2.57),
    Recipe("rhenium-trioxide", "ReO3", 221, (3.748,), {"A Re": [(0, 0, 0)], "X O": [(0.5, 0, 0)]}, 1.87),
    Recipe("copper-gold", "Cu3Au", 221, (3.748,), {"A Cu": [(0, 0.5, 0.5)], "X Au": [(0, 0, 0)]}, 2.65),
    Recipe("skutterudite", "CoAs3", 204, (8.204,),
           {"A Co": [(0.25, 0.25, 0.25)], "X As": [(0, 0.3442, 0.1514)]}, 2.34),
    Recipe("bismuth-trifluoride", "BiF3", 225, (5.865,),
           {"A Bi": [(0, 0, 0)], "X F": [(0.5, 0.5, 0.5), (0.25, 0.25, 0.25)]}, 2.54),
    Recipe("corundum", "Al2O3", 167, (4.759, 12.991), {"A Al": [(0, 0, 0.3522)], "X O": [(0.3064, 0, 0.25)]}, 1.85),
    Recipe("bixbyite", "Y2O3", 206, (10.604,),
           {"A Y": [(0.25, 0.25, 0.25), (0.9674, 0, 0.25)], "X O": [(0.3907, 0.1520, 0.3804)]}, 2.24),
    Recipe("tetradymite", "Bi2Te3", 166, (4.386, 30.497),
           {"A Bi": [(0, 0, 0.400)], "X Te": [(0, 0, 0), (0, 0, 0.2097)]}, 3.06),
    Recipe("silicon-nitride", "Si3N4", 176, (7.607, 2.911),
           {"A Si": [(0.1744, 0.7691, 0.25)], "X N": [(THIRD, TWO_THIRDS, 0.25), (0.3299, 0.0303, 0.25)]}, 1.72),
    Recipe("chromium-silicide", "Cr3Si", 223, (4.556,), {"A Cr": [(0.25, 0, 0.5)], "X Si": [(0, 0, 0)]}, 2.28),
    Recipe("calcium-copper", "CaCu5", 191, (5.082, 4.086),
           {"A Ca": [(0, 0, 0)], "X Cu": [(THIRD, TWO_THIRDS, 0), (0.5, 0, 0.5)]}, 2.52),
    Recipe("half-heusler", "TiNiSn", 216, (5.921,),
           {"A Ti": [(0, 0, 0)], "B Ni": [(0.25, 0.25, 0.25)], "X Sn": [(0.5, 0.5, 0.5)]}, 2.56),
    Recipe("heusler", "MnAlCu2", 225, (5.949,),
           {"A Cu": [(0.25, 0.25, 0.25)], "B Mn": [(0, 0, 0)], "X Al": [(0.5, 0.5, 0.5)]}, 2.58),
    Recipe("matlockite", "PbClF", 129, (4.110, 7.246),
           {"A Pb": [(0.25, 0.25, 0.2058)], "B Cl": [(0.25, 0.25, 0.6497)], "X F": [(0.75, 0.25, 0)]}, 2.54),
    Recipe("chalcopyrite", "FeCuS2", 122, (5.289, 10.423),
           {"A Cu": [(0, 0, 0)], "B Fe": [(0, 0, 0.5)], "X S": [(0.257, 0.25, 0.125)]}, 2.26),
    Recipe("sodium-ferrite", "NaFeO2", 166, (3.022, 16.08),
           {"A Na": [(0, 0, 0.5)], "B Fe": [(0, 0, 0)], "X O": [(0, 0, 0.2334)]}, 2.03),
    Recipe("perovskite", "SrTiO3", 221, (3.905,),
           {"A Sr": [(0, 0, 0)], "B Ti": [(0.5, 0.5, 0.5)], "X O": [(0.5, 0.5, 0)]}, 1.95),
    Recipe("perovskite-orthorhombic", "CaTiO3", 62, (5.442, 7.640, 5.380),
           {"A Ca": [(0.0365, 0.25, 0.993)], "B Ti": [(0, 0, 0.5)],
            "X O": [(0.4838, 0.25, 0.0708), (0.2889, 0.0371, 0.7112)]}, 1.95),
    Recipe("post-perovskite", "MgSiO3", 63, (2.456, 8.042, 6.093),
           {"A Mg": [(0, 0.253, 0.25)], "B Si": [(0, 0, 0)], "X O": [(0, 0.923, 0.25), (0, 0.636, 0.437)]}, 1.64),
    Recipe("ilmenite", "TiFeO3", 148, (5.088, 14.086),
           {"A Fe": [(0, 0, 0.3553)], "B Ti": [(0, 0, 0.1464)], "X O": [(0.3174, 0.0233, 0.2451)]}, 1.87),
    Recipe("lithium-niobate", "LiNbO3", 161, (5.148, 13.863),
           {"A Li": [(0, 0, 0.2787)], "B Nb": [(0, 0, 0)], "X O": [(0.0492, 0.3446, 0.0647)]}, 1.88),
    Recipe("calcite", "CaCO3", 167, (4.990, 17.061),
           {"A Ca": [(0, 0, 0)], "B C": [(0, 0, 0.25)], "X O": [(0.2578, 0, 0.25)]}, 1.29),
    Recipe("spinel", "MgAl2O4", 227, (8.083,),
           {"A Mg": [(0.125, 0.125, 0.125)], "B Al": [(0.5, 0.5, 0.5)], "X O": [(0.2624, 0.2624, 0.2624)]}, 1.93),
    Recipe("olivine", "Mg2SiO4", 62, (10.20, 5.98, 4.755),
           {"A Mg": [(0, 0, 0), (0.2774, 0.25, 0.9915)], "B Si": [(0.094, 0.25, 0.4262)],
            "X O": [(0.0913, 0.25, 0.7657), (0.4474, 0.25, 0.2215), (0.1633, 0.0331, 0.2777)]}, 1.61),
    Recipe("triphylite", "LiFePO4", 62, (10.334, 6.010, 4.693),
           {"A Li": [(0, 0, 0)], "B Fe": [(0.2822, 0.25, 0.9747)], "C P": [(0.0949, 0.25, 0.4182)],
            "X O": [(0.0968, 0.25, 0.7428), (0.4573, 0.25, 0.2061), (0.1656, 0.0465, 0.2848)]}, 1.53),
    Recipe("potassium-nickel-fluoride", "K2NiF4", 139, (4.006, 13.076),
           {"A K": [(0, 0, 0.352)], "B Ni": [(0, 0, 0)], "X F": [(0, 0.5, 0), (0, 0, 0.151)]}, 1.97),
    Recipe("scheelite", "CaWO4", 88, (5.243, 11.374),
           {"A Ca": [(0, 0.25, 0.625)], "B W": [(0, 0.25, 0.125)], "X O": [(0.1507, 0.0086, 0.2106)]}, 1.78),
    Recipe("zircon", "ZrSiO4", 141, (6.607, 5.982),
           {"A Zr": [(0, 0.75, 0.125)], "B Si": [(0, 0.25, 0.375)], "X O": [(0, 0.0661, 0.1953)]}, 1.62),
    Recipe("pyrochlore", "Y2Ti2O7", 227, (10.09,),
           {"A Y": [(0.5, 0.5, 0.5)], "B Ti": [(0, 0, 0)],
            "X O": [(0.3285, 0.125, 0.125), (0.375, 0.375, 0.375)]}, 1.95),
    Recipe("elpasolite", "K2NaAlF6", 225, (8.122,),
           {"A K": [(0.25, 0.25, 0.25)], "B Na": [(0.5, 0.5, 0.5)], "C Al": [(0, 0, 0)], "X F": [(0.219, 0, 0)]}, 1.78),
    Recipe("hexachloroplatinate", "K2PtCl6", 225, (9.755,),
           {"A K": [(0.25, 0.25, 0.25)], "B Pt": [(0, 0, 0)], "X Cl": [(0.2369, 0, 0)]}, 2.31),
    Recipe("garnet", "Ca3Al2(SiO4)3", 230, (11.848,),
           {"A Ca": [(0.125, 0, 0.25)], "B Al": [(0, 0, 0)], "C Si": [(0.375, 0, 0.25)],
            "X O": [(0.0381, 0.0454, 0.6514)]}, 1.65),
    Recipe("max-phase", "Ti2AlC", 194, (3.051, 13.637),
           {"A Ti": [(THIRD, TWO_THIRDS, 0.084)], "B Al": [(THIRD, TWO_THIRDS, 0.75)], "X C": [(0, 0, 0)]}, 2.11),
    Recipe("thorium-chromium-silicide", "Th(CrSi)2", 139, (4.043, 10.577),
           {"A Th": [(0, 0, 0)], "B Cr": [(0, 0.5, 0.25)], "X Si": [(0, 0, 0.374)]}, 2.41),
    Recipe("kesterite", "ZnCu2SnS4", 82, (5.427, 10.871),
           {"A Cu": [(0, 0, 0), (0, 0.5, 0.25)], "B Zn": [(0, 0.5, 0.75)], "C Sn": [(0, 0, 0.5)],
            "X S": [(0.756, 0.757, 0.872)]}, 2.33),
)  # fmt: skip


def main() -> None:
    """Build every structure, check group, formula and shortest distance, and write the file."""
    lines = []
    encoder = ScopeEncoder()
    for recipe in RECIPES:
        structure, slots = build(recipe)
        encoded = encoder.describe(structure)
        distances = structure.distance_matrix
        shortest = float(distances[distances > 0].min())
        problems = [
            text
            for text, wrong in (
                (f"space group {encoded.space_group}", encoded.space_group != recipe.group),
                (f"formula {encoded.formula}", encoded.formula != recipe.formula),
                (f"shortest distance {shortest:.3f} A", abs(shortest - recipe.shortest) > 0.03),
            )
            if wrong
        ]
        if problems:
            raise SystemExit(f"{recipe.name}: {', '.join(problems)}")
        lattice = ", ".join(f"{value:.6g}" for value in structure.lattice.parameters)
        elements = {label.split()[0]: label.split()[1] for label in recipe.sites}
        named = ", ".join(f'"{slot}": "{element}"' for slot, element in elements.items())
        sites = ", ".join(
            f'["{slot}", {", ".join(f"{value:.6g}" for value in point % 1)}]'
            for slot, point in zip(slots, structure.frac_coords, strict=True)
        )
        lines.append(
            f'{{"name": "{recipe.name}", "formula": "{recipe.formula}", "scope": "{encoded.scope}", '
            f'"slots": {{{named}}},\n  "lattice": [{lattice}],\n  "sites": [{sites}]}}'
        )
    write_text("[\n" + ",\n".join(lines) + "\n]\n", TARGET)
    print(f"{len(lines)} prototypes -> {TARGET.name}, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
