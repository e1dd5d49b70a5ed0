"""`cloud_hf.predict`, `encode` and `embed`: a row for every input, and the same answers as the command line's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ase.io import read
from pymatgen.core import Structure

import cloud_hf
from cloud_hf.cli.main import main
from cloud_hf.errors import CloudError, DebyeInputError

ROOT = Path(__file__).parents[2]
MGO = ROOT / "examples" / "MgO.cif"
STRING = "1 4 b O O O c O O O d O O O e O O O 0 | Sr 1a Ti 1b O 3c"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    broken = tmp_path_factory.mktemp("broken") / "broken.cif"
    broken.write_text("data_x\n_cell_length_a 4\n")
    return [str(MGO), MGO, Structure.from_file(MGO), read(MGO), STRING, str(broken)]


def test_encode_gives_every_input_a_row(inputs: list[object]) -> None:
    table = cloud_hf.encode(inputs, progress=False)
    assert table["scope"].iloc[:4].nunique() == 1
    assert table["scope"].iloc[4] == STRING
    assert table["error"].isna().tolist() == [True] * 5 + [False]
    assert "broken.cif" in table["error"].iloc[5]
    assert table["source"].iloc[2] == "input 2 (structure Mg4 O4)"


def test_one_input_needs_no_list() -> None:
    one = cloud_hf.encode(Structure.from_file(MGO), progress=False)
    assert one["scope"].tolist() == cloud_hf.encode(MGO, progress=False)["scope"].tolist()


def test_a_table_in_memory_keeps_its_rows() -> None:
    table = pd.DataFrame({"scope": [STRING, "nonsense |"], "id": ["a", "b"]})
    rows = cloud_hf.encode(table, progress=False)
    assert rows["source"].tolist() == ["a", "b"]
    assert rows["error"].isna().tolist() == [True, False]


def test_predict_gives_units_intervals_and_errors(inputs: list[object]) -> None:
    table = cloud_hf.predict(inputs, head="band_gap", progress=False)
    assert len(table) == len(inputs)
    assert {"band_gap (eV)", "band_gap_low (eV)", "band_gap_high (eV)"} <= set(table.columns)
    good = table.iloc[:5]
    assert (good["band_gap_low (eV)"] <= good["band_gap (eV)"]).all()
    assert (good["band_gap (eV)"] <= good["band_gap_high (eV)"]).all()
    assert good["band_gap (eV)"].iloc[:4].nunique() == 1
    assert np.isnan(table["band_gap (eV)"].iloc[5])
    assert "broken.cif" in table["error"].iloc[5]


def test_predict_is_what_the_command_writes(verbosity: None, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    assert main(["predict", str(MGO), "--head", "heat_capacity", "--temperature", "500", "-o", str(out)]) == 0
    written = pd.read_csv(out)
    table = cloud_hf.predict(str(MGO), temperature=500, head="heat_capacity", progress=False)
    assert list(written.columns) == list(table.columns)
    for column in written.select_dtypes("float"):
        np.testing.assert_allclose(written[column], table[column].astype(float), rtol=1e-5)


@pytest.mark.parametrize("kelvin", [-1.0, np.nan, np.inf, 2e6, [100.0, 300.0], np.array([100.0, 300.0]), "300 K", None])
def test_a_temperature_that_cannot_be_is_refused_before_any_crystal_is_read(kelvin: Any) -> None:
    def crystals() -> Iterator[str]:
        raise AssertionError("a crystal is read")
        yield STRING

    with pytest.raises(DebyeInputError, match="temperature"):
        cloud_hf.predict(crystals(), temperature=kelvin, head="heat_capacity", progress=False)


def test_a_temperature_may_be_any_one_number() -> None:
    columns = ["temperature (K)", "heat_capacity_per_atom (J/(mol atom K))"]
    rows = [
        cloud_hf.predict(STRING, kelvin, head="heat_capacity", progress=False)[columns].iloc[0].tolist()
        for kelvin in (300, np.float32(300), "300")
    ]
    assert rows[0] == rows[1] == rows[2]


@pytest.mark.parametrize("given", [{"batch_size": 0}, {"batch_size": -1}, {"batch_size": 2.5}, {"members": 1.5}])
def test_a_number_that_cannot_be_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(CloudError, match=f"{next(iter(given))} .*not {next(iter(given.values()))}|members is 1.5"):
        cloud_hf.predict([STRING, STRING], head="band_gap", progress=False, **given)
    if "batch_size" in given:
        with pytest.raises(CloudError, match="batch_size"):
            cloud_hf.embed([STRING, STRING], progress=False, **given)


def test_embed_gives_one_vector_for_one_crystal(inputs: list[object], caplog: pytest.LogCaptureFixture) -> None:
    vectors = cloud_hf.embed(inputs, batch_size=2, progress=False)
    config = cloud_hf.CloudConfig.from_pretrained(cloud_hf.bundled_model("band_gap"))
    assert vectors.dtype == np.float32
    assert vectors.shape == (6, 2 * config.hidden_size)
    np.testing.assert_allclose(vectors[1:4], np.repeat(vectors[:1], 3, axis=0), atol=1e-5)
    assert np.abs(vectors[4] - vectors[0]).max() > 0.1
    assert np.isnan(vectors[5]).all()
    assert "broken.cif" in caplog.text


def test_embed_keeps_the_others_where_a_string_is_too_long(caplog: pytest.LogCaptureFixture) -> None:
    vectors = cloud_hf.embed([STRING, "1 0 0 | " + "Cu 2i " * 80, STRING], progress=False)
    assert np.isnan(vectors).all(axis=1).tolist() == [False, True, False]
    assert "token" in caplog.text


def test_the_head_reads_the_vectors() -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = cloud_hf.bundled_model("band_gap")
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    model.keep_members(1)  # vectors are those of the first
    tokens = AutoTokenizer.from_pretrained(folder)([STRING], return_tensors="pt")
    vector = torch.from_numpy(cloud_hf.embed(STRING, progress=False))
    with torch.no_grad():
        raw, _ = model.raw_outputs(tokens["input_ids"], tokens["attention_mask"])
        torch.testing.assert_close(model.classifier.layers(vector), raw, rtol=1e-4, atol=1e-4)


def test_nothing_gives_nothing() -> None:
    assert len(cloud_hf.encode([], progress=False)) == 0
    assert cloud_hf.embed([], progress=False).shape[0] == 0
