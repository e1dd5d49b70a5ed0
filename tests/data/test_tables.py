"""Tables in and out: what is written is read back, and a failed write leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cloud_hf.crystals.rows import cell_from_row
from cloud_hf.data.tables import (
    TABLE_SUFFIXES,
    has_structures,
    is_missing,
    numeric_column,
    read_chunks,
    read_table,
    write_table,
)
from cloud_hf.errors import CrystalReadError, TableError

CUBE = [5.64, 0, 0, 0, 5.64, 0, 0, 0, 5.64]


@pytest.fixture
def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "scope": ["1 0 0 | 2i | Cu 1.0", "0 0 0 | 1a | Na 0.5 Cl 0.5", "1 0 0 | 1a | O 1.0"],
            "label": [0.12345678901234567, np.nan, 6.02e23],
            "n_atoms": [1, 2, 46],
        }
    )


@pytest.mark.parametrize("suffix", TABLE_SUFFIXES)
class TestRoundTrip:
    def test_values_order_and_columns_survive(self, table: pd.DataFrame, tmp_path: Path, suffix: str) -> None:
        write_table(table, tmp_path / f"t{suffix}")
        back = read_table(tmp_path / f"t{suffix}")
        assert list(back.columns) == list(table.columns)
        assert back["scope"].tolist() == table["scope"].tolist()
        assert back["n_atoms"].tolist() == [1, 2, 46]
        np.testing.assert_allclose(back["label"], table["label"], rtol=1e-9)

    def test_text_that_looks_like_a_missing_value_survives(self, tmp_path: Path, suffix: str) -> None:
        words = ["Na", "nan", "NaN", "NA", "N/A", "null", "None", "Nb", "inf"]
        write_table(pd.DataFrame({"formula": words}), tmp_path / f"t{suffix}")
        assert read_table(tmp_path / f"t{suffix}")["formula"].tolist() == words

    def test_an_empty_cell_is_missing(self, tmp_path: Path, suffix: str) -> None:
        write_table(pd.DataFrame({"a": ["Na", None], "b": [1.0, None]}), tmp_path / f"t{suffix}")
        back = read_table(tmp_path / f"t{suffix}")
        assert [is_missing(value) for value in back["a"]] == [False, True]
        assert [is_missing(value) for value in back["b"]] == [False, True]

    def test_upper_case_extension_and_new_folders(self, table: pd.DataFrame, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / "new" / "folder" / f"T{suffix.upper()}"
        write_table(table, path)
        assert read_table(path)["scope"].tolist() == table["scope"].tolist()

    def test_the_index_is_not_written(self, table: pd.DataFrame, tmp_path: Path, suffix: str) -> None:
        write_table(table.iloc[[2, 0]], tmp_path / f"t{suffix}")
        back = read_table(tmp_path / f"t{suffix}")
        assert list(back.columns) == list(table.columns)
        assert back["n_atoms"].tolist() == [46, 1]

    def test_small_numbers_keep_their_digits(self, tmp_path: Path, suffix: str) -> None:
        values = [1.2345678901234e-12, -0.1 - 0.2, 1 / 3]
        write_table(pd.DataFrame({"v": values}), tmp_path / f"t{suffix}")
        np.testing.assert_allclose(read_table(tmp_path / f"t{suffix}")["v"], values, rtol=1e-14)


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_structure_columns_survive(tmp_path: Path, suffix: str) -> None:
    row = {"lattice": CUBE, "numbers": [11, 17], "frac_coords": [0, 0, 0, 0.5, 0.5, 0.5]}
    write_table(pd.DataFrame([row, row]), tmp_path / f"t{suffix}")
    back = read_table(tmp_path / f"t{suffix}")
    assert has_structures(back)
    for record in back.to_dict("records"):
        assert cell_from_row(record, "row").amounts() == {"Na": 1.0, "Cl": 1.0}


class TestReading:
    def test_missing_file_names_the_path(self, tmp_path: Path) -> None:
        with pytest.raises(TableError, match=r"absent\.csv.*no such file"):
            read_table(tmp_path / "absent.csv")

    def test_a_folder_is_not_a_table(self, tmp_path: Path) -> None:
        (tmp_path / "folder.csv").mkdir()
        with pytest.raises(TableError, match=r"folder\.csv"):
            read_table(tmp_path / "folder.csv")

    @pytest.mark.parametrize("name", ["table.xlsx", "table"])
    def test_another_format_lists_the_known_ones(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("scope\n")
        with pytest.raises(TableError, match=r"\.csv, \.jsonl, \.parquet"):
            read_table(tmp_path / name)

    def test_truncated_parquet(self, table: pd.DataFrame, tmp_path: Path) -> None:
        path = tmp_path / "t.parquet"
        write_table(table, path)
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(TableError, match="parquet"):
            read_table(path)

    @pytest.mark.parametrize(
        ("name", "text"),
        [("t.parquet", "scope\nx\n"), ("t.jsonl", '{"scope": "a"}\n{"sco'), ("t.csv", ""), ("t.csv", 'a,b\n"x,1\n')],
    )
    def test_damaged_text(self, tmp_path: Path, name: str, text: str) -> None:
        (tmp_path / name).write_text(text)
        with pytest.raises(TableError, match=r"cannot be read as a \w+ table"):
            read_table(tmp_path / name)


class TestWriting:
    def test_unknown_extension(self, table: pd.DataFrame, tmp_path: Path) -> None:
        with pytest.raises(TableError, match="extension"):
            write_table(table, tmp_path / "t.xls")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("writer broke")])
    def test_a_failing_writer_leaves_the_old_file(
        self, table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        path = tmp_path / "t.csv"
        write_table(table, path)
        before = path.read_bytes()

        def half_a_file(_: pd.DataFrame, target: Path, **__: object) -> None:
            Path(target).write_text("scope\nhalf")
            raise error

        monkeypatch.setattr(pd.DataFrame, "to_csv", half_a_file)
        with pytest.raises((TableError, RuntimeError), match=r"No space left|writer broke"):
            write_table(table.iloc[:1], path)
        assert path.read_bytes() == before
        assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]

    def test_a_full_disk_is_a_table_error(
        self, table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(pd.DataFrame, "to_csv", full)
        with pytest.raises(TableError, match=r"t\.csv.*No space left on device"):
            write_table(table, tmp_path / "t.csv")

    def test_a_file_where_a_folder_is_needed(self, table: pd.DataFrame, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(TableError, match=r"t\.csv"):
            write_table(table, tmp_path / "file" / "t.csv")

    def test_a_folder_of_that_name(self, table: pd.DataFrame, tmp_path: Path) -> None:
        (tmp_path / "t.csv").mkdir()
        with pytest.raises(TableError, match=r"t\.csv"):
            write_table(table, tmp_path / "t.csv")
        assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


class TestNumericColumn:
    def test_numbers_and_numeric_text_become_floats(self) -> None:
        table = pd.DataFrame({"i": [1, 2], "t": ["1.5", "-2e3"]})
        assert numeric_column(table, "i", "p").dtype == np.float64
        assert numeric_column(table, "t", "p").tolist() == [1.5, -2000.0]

    @pytest.mark.parametrize("kind", ["float64", "Int64", "Float64", "object"])
    def test_empty_cells_are_nan(self, kind: str) -> None:
        values = numeric_column(pd.DataFrame({"y": pd.Series([1, None, 3], dtype=kind)}), "y", "p")
        np.testing.assert_array_equal(values, [1.0, np.nan, 3.0])

    def test_the_index_and_length_are_kept(self) -> None:
        table = pd.DataFrame({"y": [1.0, np.nan]}, index=[7, 3])
        assert numeric_column(table, "y", "p").index.tolist() == [7, 3]

    def test_missing_column_lists_what_is_there(self) -> None:
        with pytest.raises(TableError, match=r"file\.csv.*'cv'.*scope, label"):
            numeric_column(pd.DataFrame({"scope": [], "label": []}), "cv", "file.csv")

    @pytest.mark.parametrize("bad", ["12 J", "Na", "nan J", " ", "1,5"])
    def test_text_names_the_first_bad_row(self, bad: str) -> None:
        with pytest.raises(TableError, match="row 2"):
            numeric_column(pd.DataFrame({"y": ["1", None, bad, "x"]}), "y", "p")

    @pytest.mark.parametrize("bad", [np.inf, -np.inf])
    def test_infinity(self, bad: float) -> None:
        with pytest.raises(TableError, match=r"row 1.*inf"):
            numeric_column(pd.DataFrame({"y": [1.0, bad]}), "y", "p")


class TestCellFromRow:
    def test_coordinates_are_row_major(self) -> None:
        lattice = [3, 0, 0, 0.5, 4, 0, 0.1, 0.2, 5]
        made = cell_from_row({"lattice": lattice, "numbers": [8], "frac_coords": [0.1, 0.2, 0.3]}, "r")
        np.testing.assert_allclose(made.lattice.ravel(), lattice)
        np.testing.assert_allclose(made.frac_coords, [[0.1, 0.2, 0.3]])
        assert made.contents == ((("O", 1.0),),)

    @pytest.mark.parametrize(
        "change",
        [
            {"lattice": CUBE[:8]},
            {"lattice": None},
            {"numbers": None},
            {"lattice": "5 0 0"},
            {"numbers": [0, 17]},
            {"numbers": [11, 200]},
            {"numbers": ["Na", "Cl"]},
            {"numbers": [11, float("nan")]},
            {"numbers": [11]},
            {"numbers": [11, 17, 17]},
            {"frac_coords": [0, 0, 0, 0.5, 0.5]},
            {"frac_coords": None},
        ],
        ids=lambda change: " ".join(f"{name}={value}" for name, value in change.items()),
    )
    def test_what_is_no_crystal_names_the_row(self, change: dict[str, object]) -> None:
        row = {"lattice": CUBE, "numbers": [11, 17], "frac_coords": [0, 0, 0, 0.5, 0.5, 0.5]} | change
        with pytest.raises(CrystalReadError, match="mp-22862"):
            cell_from_row(row, "mp-22862")

    def test_a_fraction_is_no_atomic_number(self) -> None:
        with pytest.raises(CrystalReadError, match="mp-1"):
            cell_from_row({"lattice": CUBE, "numbers": [11.7], "frac_coords": [0, 0, 0]}, "mp-1")

    def test_a_missing_column(self) -> None:
        with pytest.raises(CrystalReadError, match="mp-1"):
            cell_from_row({"lattice": CUBE, "numbers": [11]}, "mp-1")


@pytest.mark.parametrize(("value", "expected"), [(None, True), (float("nan"), True), ("", False), ("nan", False)])
def test_is_missing(value: object, expected: bool) -> None:
    assert is_missing(value) is expected


def test_has_structures_needs_all_columns() -> None:
    assert has_structures(pd.DataFrame(columns=["id", "lattice", "numbers", "frac_coords"]))
    assert not has_structures(pd.DataFrame(columns=["lattice", "numbers"]))


class TestChunks:
    @pytest.mark.parametrize("suffix", TABLE_SUFFIXES)
    @pytest.mark.parametrize("rows", [1, 4, 7, 100])
    def test_the_pieces_are_the_table(self, tmp_path: Path, suffix: str, rows: int) -> None:
        path = tmp_path / f"t{suffix}"
        write_table(pd.DataFrame({"id": [f"0{n}" for n in range(10)], "v": np.arange(10) / 7}), path)
        pieces = list(read_chunks(path, rows))
        assert max(map(len, pieces)) <= rows
        pd.testing.assert_frame_equal(pd.concat(pieces), read_table(path), check_index_type=False)

    def test_parquet_is_numbered_by_place_whatever_index_was_stored(self, tmp_path: Path) -> None:
        pd.DataFrame({"v": range(6)}, index=[5, 3, 9, 1, 7, 2]).to_parquet(tmp_path / "t.parquet")
        assert pd.concat(read_chunks(tmp_path / "t.parquet", 4)).index.tolist() == list(range(6))

    @pytest.mark.parametrize(
        ("name", "line"), [("t.csv", "1,2,3,4\n"), ("t.jsonl", '{"a": \n')], ids=["a long line", "half a line"]
    )
    def test_damage_costs_only_the_rows_after_it(self, tmp_path: Path, name: str, line: str) -> None:
        path = tmp_path / name
        write_table(pd.DataFrame({"a": range(20), "b": 1}), path)
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join([*lines[:16], line, *lines[16:]]))
        pieces = read_chunks(path, 5)
        assert [len(next(pieces)) for _ in range(3)] == [5, 5, 5]
        with pytest.raises(TableError, match=r"from row 15 on.*cannot be read"):
            list(pieces)

    def test_a_damaged_parquet_file(self, tmp_path: Path) -> None:
        (tmp_path / "t.parquet").write_bytes(b"PAR1 nothing")
        with pytest.raises(TableError, match=r"t\.parquet: cannot be read"):
            list(read_chunks(tmp_path / "t.parquet"))

    def test_only_a_piece_is_in_memory(self, tmp_path: Path) -> None:
        """The end of a table may be out of order while its beginning is read."""
        path = tmp_path / "t.csv"
        path.write_text("scope\n" + "1 0 0 | 2i | Cu 1.0\n" * 50_000 + '"open\n')
        assert len(next(iter(read_chunks(path, 10)))) == 10


@pytest.mark.parametrize("body", ["MgO, periclase,7.8\nNaCl,8.8\n", "NaCl,8.8\nMgO, periclase,7.8\n"])
def test_a_csv_row_with_a_comma_too_many_is_refused(tmp_path: Path, body: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"name,band_gap\n{body}")
    for read in (read_table, lambda path: list(read_chunks(path, 1))):
        with pytest.raises(TableError, match="fields"):
            read(path)
    path.write_text('name,band_gap\n"MgO, periclase",7.8\n')
    assert read_table(path)["band_gap"].tolist() == [7.8]
    path.write_text("name,band_gap\nMgO,7.8,\nNaCl,8.8,\n")
    assert read_table(path)["band_gap"].tolist() == [7.8, 8.8]
