"""Reduce a table of known phases to those on a convex hull: `known_phases.parquet` and its record, for the package.

A phase above the hull of its own elements is on no hull of more elements, so it decides nothing and is left out.

    python scripts/build_known_phases.py known_phases.parquet
"""

import argparse
import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import linprog
from tqdm import tqdm

from cloud_hf.files import write_json
from cloud_hf.screening.hull import ENERGY, FORMULA, PHASES_FILE, KnownPhases, Phase, SystemHull

ROOM = Path(__file__).resolve().parents[1] / "cloud_hf" / "screening"

RECORD = {
    "vintage": "Materials Project 2018",
    "head": "megnet2018_e_form",
    "source": "formation energies of the Materials Project as in MatBench 0.1 (matbench_mp_e_form), the lowest of each "
    "formula; formulas of test rows are left out",
    "license": "CC-BY-4.0",
    "cite": [
        "A. Jain et al., APL Materials 1, 011002 (2013), doi:10.1063/1.4812323",
        "A. Dunn et al., npj Computational Materials 6, 138 (2020), doi:10.1038/s41524-020-00406-3",
    ],
}

LARGEST_HULL = 3
"""Elements of systems whose hulls are computed; in larger ones a linear programme for each phase is faster."""

TOLERANCE = 1e-5
"""eV/atom that a phase on the hull may lie above the mixture of the others."""


def on_hull(phase: Phase, phases: list[Phase]) -> bool:
    """Whether no mixture of the phases is lower."""
    elements = sorted(phase[1])
    columns = np.array([[other[1].get(element, 0.0) for element in elements] for other in phases]).T
    energies = np.array([other[2] for other in phases])
    found = linprog(energies, A_eq=columns, b_eq=[phase[1][element] for element in elements], method="highs")
    return bool(phase[2] <= found.fun + TOLERANCE)


def stable_phases(known: KnownPhases) -> list[Phase]:
    """Return the phases that are on the hull of their own elements."""
    kept: dict[frozenset[str], list[Phase]] = {}
    systems = sorted(known.systems().items(), key=lambda entry: (len(entry[0]), sorted(entry[0])))
    for elements, own in tqdm(systems, desc="hulls", unit="system", disable=None):
        below: list[Phase] = [(element, {element: 1.0}, 0.0) for element in elements]
        for size in range(2, len(elements)):
            below += [one for some in combinations(sorted(elements), size) for one in kept.get(frozenset(some), [])]
        phases = [*below, *own.values()]
        if len(elements) <= LARGEST_HULL:
            stable = SystemHull(sorted(elements), phases).stable
            kept[elements] = [phase for name, phase in own.items() if name in stable]
        else:
            kept[elements] = [phase for phase in own.values() if on_hull(phase, phases)]
    return [phase for own in kept.values() for phase in own]


def main() -> None:
    """Write the table and its record."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("table", help="columns formula and formation_energy_per_atom")
    parser.add_argument("-o", "--output", type=Path, default=ROOM)
    arguments = parser.parse_args()
    table = pd.read_parquet(arguments.table)
    known = KnownPhases(table[FORMULA].tolist(), table[ENERGY].to_numpy(), RECORD["vintage"], RECORD["head"])  # type: ignore[arg-type]
    phases = stable_phases(known)
    kept = pd.DataFrame([(name, round(energy, 4)) for name, _, energy in phases], columns=[FORMULA, ENERGY])
    kept = kept.sort_values(FORMULA, ignore_index=True)
    kept.to_parquet(arguments.output / PHASES_FILE, index=False, compression="zstd", compression_level=19)
    write_json({**RECORD, "phases_read": len(known), "phases_kept": len(kept)}, arguments.output / "known_phases.json")
    print(json.dumps({"read": len(known), "kept": len(kept), "bytes": (arguments.output / PHASES_FILE).stat().st_size}))


if __name__ == "__main__":
    main()
