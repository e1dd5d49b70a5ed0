"""Names of the crystals in a table: every row has some or says why not."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from cloud_hf import ScopeEncoder
from cloud_hf.data.names import name_rows, scope_columns
from cloud_hf.errors import CloudError, TableError

ROCK_SALT = "1 6 a O D D a D O D b O O O c O O O d O O O e O O O 0 | Mg 4a O 4b"
CUBE = [4.21, 0, 0, 0, 4.21, 0, 0, 0, 4.21]
MGO = {
    "lattice": CUBE,
    "numbers": [12] * 4 + [8] * 4,
    "frac_coords": [0, 0, 0, 0, 0.5, 0.5, 0.5, 0, 0.5, 0.5, 0.5, 0, 0.5, 0.5, 0.5, 0.5, 0, 0, 0, 0.5, 0, 0, 0, 0.5],
}
BAD = {"lattice": CUBE, "numbers": [12], "frac_coords": [0.0, 0.0]}
FLAT = {"lattice": [0.0] * 9, "numbers": [12], "frac_coords": [0.0, 0.0, 0.0]}


@pytest.fixture
def structures(tmp_path: Path) -> Path:
    path = tmp_path / "structures.parquet"
    pd.DataFrame([{"id": f"mp-{n}"} | row for n, row in enumerate([MGO, BAD, FLAT, MGO])]).to_parquet(path)
    return path


def test_every_row_has_a_name_or_a_reason(structures: Path, tmp_path: Path) -> None:
    found = name_rows(structures, ScopeEncoder(), tmp_path / "cache")
    assert found["id"].tolist() == ["mp-0", "mp-1", "mp-2", "mp-3"]
    assert found["entry"].tolist() == found["id"].tolist()
    assert found["sites"].tolist() == [ROCK_SALT, None, None, ROCK_SALT]
    assert found["names"].tolist()[0] == [ROCK_SALT.split(" | ")[0] + " | 4a 4b | Mg 0.5 O 0.5"]
    assert found["composition"].tolist() == ["Mg 0.5 O 0.5", None, None, "Mg 0.5 O 0.5"]
    assert found["protostructure"].tolist() == ["225: 4a | 4b", None, None, "225: 4a | 4b"]
    assert found["error"].notna().tolist() == [False, True, True, False]
    assert found["error"].tolist()[1].startswith("mp-1: lattice (9 numbers, Å)")
    assert found["names"].tolist()[1] == []


def test_a_string_beside_a_structure_is_another_name(structures: Path, tmp_path: Path) -> None:
    table = pd.read_parquet(structures)
    table["cloud_scope"] = [ROCK_SALT, ROCK_SALT, None, "1 0 0 | 2i | Cu 1.0"]
    table.to_parquet(structures)
    found = name_rows(structures, ScopeEncoder(), tmp_path / "cache")
    assert [len(row) for row in found["names"]] == [1, 1, 0, 2]
    assert found["error"].notna().tolist() == [False, False, True, False]


def test_strings_alone(tmp_path: Path) -> None:
    path = tmp_path / "strings.csv"
    pd.DataFrame({"scope": ["1 0 0 | 2i | Cu 1.0", "no string", None, ROCK_SALT]}).to_csv(path, index=False)
    found = name_rows(path, ScopeEncoder(), tmp_path / "cache")
    assert found["id"].tolist() == ["0", "1", "2", "3"]
    assert found["sites"].tolist() == [None, None, None, ROCK_SALT]
    assert found["error"].notna().tolist() == [False, True, True, False]
    assert not (tmp_path / "cache").exists()


def test_columns_of_strings_are_known_by_their_names() -> None:
    table = pd.DataFrame(columns=["scope_full", "microscope", "cloud_scope", "scope", "scopes"])
    assert scope_columns(table) == ["scope", "cloud_scope", "scope_full"]


def test_what_names_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("id,band_gap\na,1\n")
    with pytest.raises(TableError, match="scope"):
        name_rows(path, ScopeEncoder(), tmp_path)
    with pytest.raises(CloudError, match="sites"):
        name_rows(path, ScopeEncoder("composition"), tmp_path)
