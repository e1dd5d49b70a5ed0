"""Strings are encoded once, and again where what was kept is of something else, damaged, or lacks what time allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure

from cloud_hf import ScopeEncoder
from cloud_hf.crystals.cell import Cell
from cloud_hf.data import kept_strings
from cloud_hf.data.inputs import Item
from cloud_hf.data.kept_strings import KEPT_COLUMNS, Workers, encode_once, encode_table
from cloud_hf.data.tables import read_table
from waiting import Hang

ROCK_SALT = "1 6 a O D D a D O D b O O O c O O O d O O O e O O O 0 | Mg 4a O 4b"
CUBE = [4.21, 0, 0, 0, 4.21, 0, 0, 0, 4.21]
MGO = {
    "lattice": CUBE,
    "numbers": [12] * 4 + [8] * 4,
    "frac_coords": [0, 0, 0, 0, 0.5, 0.5, 0.5, 0, 0.5, 0.5, 0.5, 0, 0.5, 0.5, 0.5, 0.5, 0, 0, 0, 0.5, 0, 0, 0, 0.5],
}
BAD = {"lattice": CUBE, "numbers": [12], "frac_coords": [0.0, 0.0]}


@pytest.fixture
def structures(tmp_path: Path) -> Path:
    """A table of MgO, a row that is no crystal, and MgO again."""
    path = tmp_path / "structures.parquet"
    pd.DataFrame([{"id": f"mp-{n}"} | row for n, row in enumerate([MGO, BAD, MGO])]).to_parquet(path)
    return path


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sources of the items that are encoded from here on."""
    sources: list[str] = []
    encode = kept_strings.encode_items

    def counted(*args: Any) -> Iterator[Item]:
        for item in encode(*args):
            sources.append(item.source)
            yield item

    monkeypatch.setattr(kept_strings, "encode_items", counted)
    return sources


def strings_of(path: Path, *arguments: Any, **settings: Any) -> pd.DataFrame:
    return encode_table(read_table(path), path, path.parent / "kept", *arguments, **settings)


def test_every_row_has_a_string_or_a_reason_and_is_encoded_once(structures: Path, encoded: list[str]) -> None:
    first = strings_of(structures)
    assert first.dtypes.astype(str).to_dict() == KEPT_COLUMNS
    assert first["source"].tolist() == ["mp-0", "mp-1", "mp-2"]
    assert first["scope"].tolist() == [ROCK_SALT, None, ROCK_SALT]
    assert first["formula"].tolist() == ["MgO", None, "MgO"]
    assert first["space_group"].tolist() == [225, pd.NA, 225]
    assert first["n_atoms"].fillna(0).tolist() == [2, 0, 2]
    assert [reason is None for reason in first["reason"]] == [True, False, True]
    pd.testing.assert_frame_equal(strings_of(structures), first)
    assert len(encoded) == 3


def test_another_encoder_table_or_choice_of_rows_has_strings_of_its_own(structures: Path, encoded: list[str]) -> None:
    strings_of(structures)
    others = [
        {"symprec": 0.1}, {"angle_tolerance": 1.0}, {"max_atoms": 4}, {"trust_sites": True},
        {"grammar": "composition"}, {"grammar": "composition", "canonical": False},
    ]  # fmt: skip
    found = [strings_of(structures, encoder=ScopeEncoder(**other)) for other in others]
    assert len(encoded) == 3 * 7
    assert "4" in found[2]["reason"][0]
    assert found[4]["scope"][0].endswith("| 4a 4b | Mg 0.5 O 0.5")
    encoded.clear()
    assert strings_of(structures, rows=np.array([2, 0]))["source"].tolist() == ["mp-2", "mp-0"]
    pd.read_parquet(structures).iloc[:2].to_parquet(structures)
    assert strings_of(structures)["source"].tolist() == ["mp-0", "mp-1"]
    assert encoded == ["mp-2", "mp-0", "mp-0", "mp-1"]


def test_a_row_without_an_id_is_called_by_the_path_that_is_given(structures: Path, encoded: list[str]) -> None:
    pd.read_parquet(structures).drop(columns="id").to_parquet(structures)
    table = read_table(structures)
    for path in (structures, Path(f"{structures.parent}/../{structures.parent.name}/{structures.name}")):
        found = encode_table(table, path, structures.parent / "kept")
        assert found["source"].tolist() == [f"{path}:{row}" for row in range(3)]
    assert len(encoded) == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: pd.read_parquet(path).rename(columns={"reason": "error"}).to_parquet(path),
        lambda path: pd.read_parquet(path).assign(space_group="Fm-3m").to_parquet(path),
        lambda path: pd.read_parquet(path).iloc[1:].to_parquet(path),
    ],
    ids=["empty", "cut", "columns", "types", "rows"],
)
def test_a_damaged_file_is_written_anew(damage: Callable[[Path], object], structures: Path, encoded: list[str]) -> None:
    first = strings_of(structures)
    (kept,) = (structures.parent / "kept").iterdir()
    damage(kept)
    pd.testing.assert_frame_equal(strings_of(structures), first)
    assert len(encoded) == 6
    pd.testing.assert_frame_equal(strings_of(structures), first)
    assert len(encoded) == 6


def test_a_crystal_over_the_limit_has_another_chance_with_more_time(
    structures: Path, hang: Hang, encoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    describe = ScopeEncoder.describe

    def slow(self: ScopeEncoder, crystal: Cell) -> object:
        return hang() if crystal.name == "mp-0" else describe(self, crystal)

    with monkeypatch.context() as patch:
        patch.setattr(ScopeEncoder, "describe", slow)
        found = strings_of(structures, Workers(timeout=600.0))
    assert found["scope"].tolist() == [None, None, ROCK_SALT]
    assert "600 s" in found["reason"][0]
    encoded.clear()
    pd.testing.assert_frame_equal(strings_of(structures, Workers(timeout=500.0)), found)
    assert encoded == []
    again = strings_of(structures, Workers(timeout=700.0))
    assert again["scope"].tolist() == [ROCK_SALT, None, ROCK_SALT]
    assert encoded == ["mp-0"]  # and no row that has a string, or lacks one for another reason
    pd.testing.assert_frame_equal(strings_of(structures, Workers(timeout=None)), again)
    assert encoded == ["mp-0"]


def test_labels_that_come_with_the_items_are_kept_beside_the_strings(tmp_path: Path, encoded: list[str]) -> None:
    def strings(labels: list[float]) -> pd.DataFrame:
        def items() -> Iterator[Item]:
            for number, crystal in enumerate([MGO, BAD]):
                labels.append(number / 2)
                yield Item(f"row {number}", crystal=crystal)

        return encode_once(items(), tmp_path, "x", "content", total=2, labels=labels)

    first, unread = strings([]), []
    assert first["label"].tolist() == [0.0, 0.5]
    pd.testing.assert_frame_equal(strings(unread), first)
    assert (unread, len(encoded)) == ([], 2)


def test_strings_of_files_that_may_change_are_not_kept(tmp_path: Path) -> None:
    pd.DataFrame({"structure": ["x.cif"]}).to_csv(tmp_path / "rows.csv")
    for anion in ("Cl", "Br"):
        cell = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.6), ["Na", anion], [[0, 0, 0], [0.5, 0.5, 0.5]])
        cell.to(filename=str(tmp_path / "x.cif"))
        assert anion in strings_of(tmp_path / "rows.csv")["scope"][0]
