"""`cloud-hf likelihood --distil`: a property checkpoint flags crystals by what a masked language model taught it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from cloud_hf.checkpoints.reading import read_config
from cloud_hf.data.tables import read_table
from cloud_hf.inference.fast_model import load_fast
from cloud_hf.inference.likelihood_head import HEAD_FOLDER
from cloud_hf.scope.pairing import sites_scope

SALT = "1 6 a O D D a D O D b O O O c O O O d O O O e O O O 0 | Na 4a Cl 4b"
ELEMENTS = ("Na", "K", "Mg", "Ca", "Fe", "Cu", "Al", "Ti", "O", "S", "Cl", "F")
STRINGS = [
    str(sites_scope(f"1 0 0 | {one} 1a {two} 1b {two} 2i").canonical())
    for one in ELEMENTS for two in ELEMENTS if one != two
]  # fmt: skip


def test_the_command_stores_it_and_predict_flags_with_it(cloud, several_heads: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(several_heads / "crystal_properties", tmp_path / "checkpoint"))
    for name, scopes in (
        ("learn", STRINGS[:80]),
        ("inside", STRINGS[80:]),
        ("outside", [SALT.replace("Na", metal) for metal in ("Na", "K", "Rb", "Cs")]),
    ):
        pd.DataFrame({"scope": scopes, "part": "train"}).to_parquet(tmp_path / f"{name}.parquet")
    found = cloud(
        "likelihood", "--model", several_heads / "likelihood", "--distil", folder, "--learn",
        f"{tmp_path / 'learn.parquet'}:train", "--inside", tmp_path / "inside.parquet", "--outside",
        tmp_path / "outside.parquet", "--json", tmp_path / "figures.json",
    )  # fmt: skip
    assert found.status == 0, found.err
    figures = pd.read_json(tmp_path / "figures.json", typ="series")
    assert 0 <= figures["auroc"] <= 1
    assert figures["distilled_from"] == "likelihood"
    assert sorted(path.name for path in (folder / HEAD_FOLDER).iterdir()) == ["head.safetensors", "likelihood.json"]
    cloud("predict", *STRINGS[80:], "--model", folder, "-o", tmp_path / "out.parquet")
    table, alone = read_table(tmp_path / "out.parquet"), load_fast(str(folder), read_config(str(folder)))
    assert alone is not None
    assert alone.likelihood is not None
    np.testing.assert_allclose(table["log_likelihood"], alone.likelihood(STRINGS[80:]), rtol=1e-4, atol=1e-5)
    flags = table["log_likelihood"] < figures["threshold"]
    assert (table["out_of_distribution"] == flags).all()
    cloud("predict", SALT, "--model", folder, "--likelihood", "none", "-o", tmp_path / "none.parquet")
    assert "log_likelihood" not in read_table(tmp_path / "none.parquet")
