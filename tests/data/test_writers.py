"""Tables written piece by piece: the same rows as at once, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow.parquet as parquet
import pytest

from cloud_hf.data.tables import TABLE_SUFFIXES, read_chunks, read_table
from cloud_hf.data.writers import open_writer
from cloud_hf.errors import TableError

COLUMNS = {"scope": "object", "space_group": "Int64", "value": "float64", "error": "object"}
ROWS = [
    {"scope": 'a "quoted", text', "space_group": 225, "value": 1 / 3},
    {"error": "why\nnot"},
    {"scope": "Na", "space_group": 1, "value": 1e-300, "error": None},
    {"scope": "NaN", "value": -0.1 - 0.2},
    {"scope": "é", "space_group": 2},
]


@pytest.mark.parametrize("suffix", TABLE_SUFFIXES)
class TestPieces:
    @pytest.mark.parametrize("chunk_rows", [1, 2, 5, 100])
    def test_what_is_written_is_read_back_whatever_the_pieces(
        self, tmp_path: Path, suffix: str, chunk_rows: int
    ) -> None:
        path = tmp_path / f"t{suffix}"
        with open_writer(path, COLUMNS, chunk_rows) as writer:
            for row in ROWS:
                writer.write(row)
        assert writer.n_rows == len(ROWS)
        for back in (read_table(path), pd.concat(read_chunks(path, 2))):
            assert list(back.columns) == list(COLUMNS)
            assert back.index.tolist() == list(range(len(ROWS)))
            for name in COLUMNS:
                values = [None if pd.isna(value) else value for value in back[name]]
                assert values == [row.get(name) for row in ROWS], name

    def test_no_rows_are_an_empty_table(self, tmp_path: Path, suffix: str) -> None:
        with open_writer(tmp_path / f"t{suffix}", COLUMNS):
            pass
        assert len(read_table(tmp_path / f"t{suffix}")) == 0
        assert [len(chunk) for chunk in read_chunks(tmp_path / f"t{suffix}")] == [0]

    def test_an_error_leaves_what_was_there(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"t{suffix}"
        path.write_text("old")

        def interrupted() -> None:
            with open_writer(path, COLUMNS, 1) as writer:
                writer.write(ROWS[0])
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert path.read_text() == "old"
        assert [entry.name for entry in tmp_path.iterdir()] == [path.name]

    def test_pieces_are_on_the_disk_before_the_end_and_have_no_name_yet(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"t{suffix}"
        with open_writer(path, COLUMNS, 10) as writer:
            for _ in range(5000):
                writer.write(ROWS[0])
            assert not path.exists()
            assert sum(entry.stat().st_size for entry in tmp_path.iterdir()) > 10_000
        assert len(read_table(path)) == 5000


def test_parquet_has_a_row_group_a_piece(tmp_path: Path) -> None:
    with open_writer(tmp_path / "t.parquet", COLUMNS, 2) as writer:
        for row in ROWS:
            writer.write(row)
    assert parquet.ParquetFile(tmp_path / "t.parquet").num_row_groups == 3


def test_another_extension_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="extension"), open_writer(tmp_path / "t.xlsx", COLUMNS):
        pass
