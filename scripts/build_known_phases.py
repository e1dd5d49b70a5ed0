"""Write `known_phases.parquet` and its record for the package: what a convex hull needs of a table of known phases.

A phase of positive formation energy lies above its elements, so it is on no hull and is left out.

    python scripts/build_known_phases.py known_phases.parquet
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from cloud_hf.files import new_file, write_json
from cloud_hf.screening.hull import ENERGY, FORMULA, PHASES_FILE, RECORD_FILE

ROOM = Path(__file__).resolve().parents[1] / "cloud_hf" / "screening"

RECORD = {
    "vintage": "Materials Project 2018",
    "head": "megnet2018_e_form",
    "source": "formation energies of the Materials Project as in MatBench 0.1 (matbench_mp_e_form), the lowest of each "
    "formula; formulas of test rows are left out, and those of positive energy",
    "license": "CC-BY-4.0",
    "cite": [
        "A. Jain et al., APL Materials 1, 011002 (2013), doi:10.1063/1.4812323",
        "A. Dunn et al., npj Computational Materials 6, 138 (2020), doi:10.1038/s41524-020-00406-3",
    ],
}


def main() -> None:
    """Write the table and its record."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("table", help="columns formula and formation_energy_per_atom")
    arguments = parser.parse_args()
    table = pd.read_parquet(arguments.table, columns=[FORMULA, ENERGY])
    kept = table[table[ENERGY] < 0].sort_values(FORMULA, ignore_index=True)
    kept[ENERGY] = kept[ENERGY].round(4).astype(np.float32)
    with new_file(ROOM / PHASES_FILE) as aside:
        kept.to_parquet(aside, index=False, compression="zstd", compression_level=19)
    write_json({**RECORD, "phases_read": len(table), "phases_kept": len(kept)}, ROOM / RECORD_FILE)
    print(f"{len(kept)} of {len(table)} phases, {(ROOM / PHASES_FILE).stat().st_size} bytes")


if __name__ == "__main__":
    main()
