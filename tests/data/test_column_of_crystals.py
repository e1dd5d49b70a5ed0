"""One column of crystals: each form gives the string of the file, each mistake an item with its reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pymatgen.core import Structure
from pymatgen.io.vasp import Poscar

from cloud_hf import ScopeEncoder
from cloud_hf.data.inputs import Item, encode_item, table_items
from cloud_hf.data.tables import read_table
from cloud_hf.errors import TableError

NAMES = ("MgO", "Al2O3_corundum", "CaTiO3_perovskite")


@pytest.fixture(scope="module")
def crystals(examples: list[Path]) -> list[Path]:
    return [path for path in examples if path.stem in NAMES]


def strings(table: pd.DataFrame, path: Path, encoder: ScopeEncoder) -> list[str | None]:
    return [encode_item(item, encoder).scope for item in table_items(table, path, column="cell")]


def without_properties(value: Any) -> Any:
    """Parquet has no empty structs."""
    if isinstance(value, dict):
        return {key: without_properties(entry) for key, entry in value.items() if key != "properties"}
    return [without_properties(entry) for entry in value] if isinstance(value, list) else value


@pytest.mark.parametrize("form", ["absolute", "relative", "cif", "windows cif", "poscar", "json", "nested"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("canonical", [True, False])
def test_every_form_gives_the_string_of_the_file(crystals, tmp_path, form: str, suffix: str, canonical: bool) -> None:
    if form == "nested" and suffix == ".csv":
        pytest.skip("a CSV cell is text")
    encoder = ScopeEncoder(canonical=True) if canonical else ScopeEncoder("composition", canonical=False)
    structures = [Structure.from_file(path) for path in crystals]
    for path in crystals:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    cells = {
        "absolute": [str(path) for path in crystals],
        "relative": [path.name for path in crystals],
        "cif": [path.read_text() for path in crystals],
        "windows cif": [path.read_text().replace("\n", "\r\n") for path in crystals],
        "poscar": [Poscar(structure).get_str() for structure in structures],
        "json": [json.dumps(structure.as_dict()) for structure in structures],
        "nested": [without_properties(json.loads(json.dumps(structure.as_dict()))) for structure in structures],
    }[form]
    path = tmp_path / f"t{suffix}"
    frame = pd.DataFrame({"cell": cells})
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    elif suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path)
    expected = [encoder.encode(path) for path in crystals]
    found = strings(read_table(path), path, encoder)
    if form == "poscar" and not canonical:  # a POSCAR groups its sites by element, so the order is its own
        assert None not in found
    else:
        assert found == expected


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (None, "is empty"),
        ("  ", "is empty"),
        (3.5, "3.5"),
        ("absent.cif", "no such file"),
        ("{not json", "damaged JSON"),
        ('{"a": 1}', "not"),
        ("data_x\n_cell_length_a 3\n", "t.csv:0"),
        ("two\nlines", "not a readable POSCAR"),
    ],
)
def test_a_cell_that_is_no_crystal(cell: object, reason: str, tmp_path: Path) -> None:
    table = pd.DataFrame({"cell": pd.Series([cell], dtype=object)})
    (item,) = [encode_item(item, ScopeEncoder()) for item in table_items(table, tmp_path / "t.csv", column="cell")]
    assert item.scope is None
    assert reason in str(item.error)
    assert str(item.error).startswith(f"{tmp_path / 't.csv'}:0: ")


def test_strings_among_the_crystals(crystals: list[Path], tmp_path: Path) -> None:
    scope = ScopeEncoder().encode(crystals[0])
    table = pd.DataFrame({"cell": [scope, str(crystals[0]), None], "n": [1, 1, 1]})
    items = list(table_items(table, tmp_path / "t.csv", column="cell"))
    assert [encode_item(item, ScopeEncoder()).scope for item in items] == [scope, scope, None]


def test_the_id_names_the_row(crystals: list[Path], tmp_path: Path) -> None:
    table = pd.DataFrame({"id": ["mp-1", None], "cell": [str(crystals[0]), "absent.cif"]})
    first, second = table_items(table, tmp_path / "t.csv", column="cell")
    assert first.source == "mp-1"
    assert second.source.endswith("t.csv:1")


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"'cell'.*it has scope"):
        list(table_items(pd.DataFrame({"scope": ["x"]}), tmp_path / "t.csv", column="cell"))


def test_rows_of_one_crystal_have_one_key_and_those_of_files_name_them(crystals, tmp_path) -> None:
    first, second, third = (path.read_text() for path in crystals)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for path in crystals:
            (tmp_path / folder / path.name).write_bytes(path.read_bytes())

    def items(folder: str, *cells: Any) -> list[Item]:
        table = pd.DataFrame({"id": range(len(cells)), "cell": cells})
        return list(table_items(table, tmp_path / folder / "t.csv", column="cell"))

    texts = items("a", first, second, third, first)
    assert [item.file for item in texts] == [None] * 4
    assert [item.key for item in items("b", third, first)] == [texts[2].key, texts[0].key]
    assert len({item.key for item in texts}) == 3
    names = items("a", *(path.name for path in crystals))
    assert [item.file for item in names] == [tmp_path / "a" / path.name for path in crystals]
    assert {item.key for item in names}.isdisjoint(item.key for item in items("b", *(path.name for path in crystals)))
    (string,) = items("a", "1 0 0 | Cu 1a")
    assert (string.file, string.key) == (None, "1 0 0 | Cu 1a")
    dicts = items("a", *({"id": number, "lattice": [1.0]} for number in (1, 2)), {"id": 1, "lattice": [2.0]})
    assert dicts[0].key == dicts[1].key != dicts[2].key
