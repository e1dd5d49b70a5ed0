"""A table of binary crystals with energies of the known phases' vintage, and a second one with labels by id."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Composition, Element

from cloud_hf.screening.hull import KnownPhases


@pytest.fixture(scope="session")
def tables(crystals: Callable[[int], pd.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """`crystals.parquet` with `energy` (eV/atom) in every second row, `labels.csv` with `energy`, `gap` and `bulk`."""
    folder = tmp_path_factory.mktemp("screening")
    phases = KnownPhases.bundled().energies
    table = crystals(180).reset_index(drop=True)
    formulas = [Composition({Element.from_Z(z): 1 for z in numbers}).reduced_formula for numbers in table["numbers"]]
    # rock salt is the phase of its formula, the others lie above it
    height = table["prototype"].map({"rocksalt": 0.0, "zincblende": 0.1, "CsCl": 0.2})
    energy = np.array([phases.get(name, np.nan) for name in formulas]) + height
    labels = pd.DataFrame(
        {"id": table["id"], "energy": energy, "gap": -energy.clip(upper=0) / 2, "bulk": 50 + 10 * energy}
    )
    table["energy"] = energy.where(np.arange(len(table)) % 2 == 0)
    table.drop(columns=["theta", "cv", "prototype"]).to_parquet(folder / "crystals.parquet")
    labels.sample(frac=1, random_state=0).to_csv(folder / "labels.csv", index=False)
    return [folder / "crystals.parquet", folder / "labels.csv"]
