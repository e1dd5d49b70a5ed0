"""Write the known crystals of the package, or only their vectors, which the bundled weights give.

python scripts/build_known_crystals.py                    # after every change of the bundled weights: the vectors
python scripts/build_known_crystals.py --data FOLDER      # the crystals and values too, from the tables in FOLDER
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cloud_hf.checkpoints.bundled import bundled_model
from cloud_hf.data.inputs import encode_items, table_items
from cloud_hf.files import new_file, write_json
from cloud_hf.inference.api import EMBEDDING_HEAD
from cloud_hf.inference.fast_model import FastPredictor
from cloud_hf.inference.prediction import load_predictors
from cloud_hf.scope import ScopeEncoder
from cloud_hf.screening.known_crystals import (
    CRYSTALS_FILE,
    RECORD_FILE,
    VECTORS_FILE,
    CompactVectors,
    known_crystals,
    vectors_of,
    weights_digest,
)

ROOM = Path(__file__).resolve().parents[1] / "cloud_hf" / "screening"

KEPT = 96
"""Dimensions of the vectors."""

NEAR_HULL = 0.001
"""eV/atom; crystals up to this far above the convex hull of their release are taken."""

IMAGINARY = 0.005
"""Crystals with a larger share of imaginary phonon modes have no heat capacity here."""

MOST_WORDS = 126
"""Longer strings are beyond the 128 positions of the bundled models."""

SAME_ENERGY = 0.005
"""eV/atom; MatBench has no ids, so its moduli are taken where its energy is that of the crystal."""

CAPACITY = "heat_capacity_per_atom_300K (J/(mol atom K))"

DIGITS = {
    "formation_energy_per_atom (eV/atom)": 3,
    "mpts52_formation_energy (eV/atom)": 3,
    "megnet2018_e_form (eV/atom)": 3,
    "energy_above_hull (eV/atom)": 3,
    "band_gap (eV)": 2,
    "megnet2018_gap_pbe (eV)": 2,
    "bulk_modulus (GPa)": 1,
    "shear_modulus (GPa)": 1,
    CAPACITY: 2,
}
"""Values and their decimals, named as the heads that learn them: each release of energies is a column."""

RECORD: dict[str, Any] = {
    "license": "CC-BY-4.0",
    "rule": f"crystals of the Materials Project up to {NEAR_HULL} eV/atom above the convex hull of their release, "
    f"crystals of PhononDB with at most {IMAGINARY:.1%} of imaginary modes, and the elements; of those with the same "
    f"string the lowest in energy; without the test rows of benchmarks and strings of more than {MOST_WORDS} words",
    "values": {
        "formation_energy_per_atom, band_gap": "Materials Project of 2021 (MP-20), PBE",
        "mpts52_formation_energy": "Materials Project of 2022 (MPTS-52), PBE",
        "megnet2018_e_form, megnet2018_gap_pbe": "Materials Project of 2018 (MEGNet), PBE",
        "energy_above_hull": "of the release of formation_energy_per_atom or mpts52_formation_energy",
        "bulk_modulus, shear_modulus": "Materials Project (MatCalc, MatBench), PBE, Voigt-Reuss-Hill",
        "heat_capacity_per_atom_300K": "harmonic, at constant volume, from force constants of PhononDB (PBEsol); of "
        "elements that are not in it measured at 298 K",
    },
    "cite": [
        "A. Jain et al., APL Materials 1, 011002 (2013), doi:10.1063/1.4812323",
        "C. Chen et al., Chem. Mater. 31, 3564 (2019), doi:10.1021/acs.chemmater.9b01294",
        "A. Dunn et al., npj Computational Materials 6, 138 (2020), doi:10.1038/s41524-020-00406-3",
        "A. Togo, J. Phys. Soc. Jpn. 92, 012001 (2023), doi:10.7566/JPSJ.92.012001",
    ],
}


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, help="folder of materials_project.parquet, phonons.parquet and others")
    parser.add_argument("--processes", type=int, default=1, help="worker processes that encode")
    arguments = parser.parse_args()
    if arguments.data:
        write_crystals(arguments.data, arguments.processes)
    write_vectors()


def write_crystals(data: Path, processes: int) -> None:
    """Choose crystals, encode them, join their values and write the table with its record."""
    project, elements = (pd.read_parquet(data / f"{name}.parquet") for name in ("materials_project", "elements"))
    phonons = pd.read_parquet(data / "phonons.parquet")
    phonons = phonons[phonons["imaginary_share"] <= IMAGINARY]
    chosen = project[(project["e_above_hull"] <= NEAR_HULL) | project["id"].isin(phonons["id"])]
    parts = [encoded(table, processes) for table in (chosen, phonons, elements)]
    table = pd.concat(parts).drop_duplicates("id").merge(values_of(data, project), on="id", how="left")
    computed = table["id"].map(phonons.set_index("id")["cv_300K_per_atom"])
    measured = table["scope"].map(dict(zip(parts[2]["scope"], elements["cv_298K"], strict=True)))
    table[CAPACITY] = computed.fillna(measured)
    order = ["energy_above_hull (eV/atom)", "megnet2018_e_form (eV/atom)", "id"]
    table = table.sort_values(order).drop_duplicates("scope").dropna(subset=list(DIGITS), how="all")
    table = table[table["scope"].str.count(" ") < MOST_WORDS]
    table = table.sort_values("scope", ignore_index=True)[["id", "formula", "space_group", "scope", *DIGITS]]
    table = table.round(DIGITS).astype(dict.fromkeys(DIGITS, np.float32))
    write_table(table)


def write_table(table: pd.DataFrame) -> None:
    """Write the table and its record."""
    with new_file(ROOM / CRYSTALS_FILE) as aside:
        table.to_parquet(aside, index=False, compression="zstd", compression_level=19)
    counts = {name: int(number) for name, number in table[list(DIGITS)].notna().sum().items()}
    write_json({"crystals": len(table), "with": counts, **RECORD}, ROOM / RECORD_FILE)
    print(f"{len(table)} crystals, {(ROOM / CRYSTALS_FILE).stat().st_size} bytes; {counts}")


def encoded(table: pd.DataFrame, processes: int) -> pd.DataFrame:
    """Return id, formula, space group and string of each row, in order."""
    items = list(encode_items(table_items(table.reset_index(drop=True), "table"), ScopeEncoder(), processes))
    for item in items:
        if item.error is not None:
            raise item.error
    return pd.DataFrame(
        {
            "id": table["id"].to_numpy(),
            "formula": [item.formula for item in items],
            "space_group": [item.space_group_symbol for item in items],
            "scope": [item.scope for item in items],
        }
    )


def values_of(data: Path, project: pd.DataFrame) -> pd.DataFrame:
    """Return the values of crystals of the Materials Project, by id."""
    table = project[["id", "formation_energy_per_atom", "band_gap", "e_above_hull"]].copy()
    table.columns = ["id", "formation_energy_per_atom (eV/atom)", "band_gap (eV)", "energy_above_hull (eV/atom)"]
    later = project["label_source"] == "mpts52_csv"
    table["mpts52_formation_energy (eV/atom)"] = project["formation_energy_per_atom"].where(later)
    table["formation_energy_per_atom (eV/atom)"] = project["formation_energy_per_atom"].where(~later)
    table["megnet2018_e_form (eV/atom)"] = project["megnet2018_e_form"]
    table["megnet2018_gap_pbe (eV)"] = project["megnet2018_gap_pbe"]
    labels = pd.read_parquet(data / "matbench_labels.parquet").set_index("id").reindex(table["id"])
    energies = labels["formation_energy_per_atom"].to_numpy() - project["megnet2018_e_form"].to_numpy()
    binaries = pd.read_parquet(data / "elastic_binaries.parquet").drop_duplicates("id").set_index("id")
    for name in ("bulk_modulus", "shear_modulus"):
        from_binaries = binaries[f"{name}_vrh"].reindex(table["id"]).to_numpy()
        joined = np.where(np.abs(energies) < SAME_ENERGY, labels[f"{name}_vrh"].to_numpy(), np.nan)
        table[f"{name} (GPa)"] = np.where(np.isnan(from_binaries), joined, from_binaries)
    return table


def write_vectors() -> None:
    """Write the vectors of the table for the weights that ship now."""
    folder = bundled_model(EMBEDDING_HEAD)
    digest = weights_digest(folder)
    (predictor,) = load_predictors(folder, likelihood=None, members=1).pipelines
    if digest is None or not isinstance(predictor, FastPredictor):
        raise TypeError(f"{folder} is no checkpoint that the fast encoder runs")
    vectors = vectors_of(predictor, known_crystals()["scope"].tolist())
    CompactVectors.of(vectors, KEPT, digest).save(ROOM / VECTORS_FILE)
    print(f"{len(vectors)} vectors, {(ROOM / VECTORS_FILE).stat().st_size} bytes, of weights {digest[:12]}")


if __name__ == "__main__":
    main()
