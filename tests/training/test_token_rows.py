"""Rows of tokens: what is in them, and that packing loses, repeats and cuts nothing."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset, concatenate_datasets
from hypothesis import given
from hypothesis import strategies as st

from cloud_hf.errors import ScopeTooLongError
from cloud_hf.training.token_rows import TokenRows, pack

IDS = [[0, 7, 8, 2], [0, 9, 2], [0, 10, 11, 12, 2]]
FILLER = [0, 2]


def listed(rows: TokenRows) -> list[list[int]]:
    return [rows[index]["input_ids"].tolist() for index in range(len(rows))]


def test_rows_are_those_of_the_dataset() -> None:
    rows = TokenRows(Dataset.from_dict({"input_ids": IDS}), FILLER)
    assert listed(rows) == IDS
    assert rows.lengths.tolist() == [4, 3, 5]


def test_selected_and_concatenated_datasets_are_read() -> None:
    whole = Dataset.from_dict({"input_ids": IDS})
    joined = concatenate_datasets([whole.select([2, 0]), Dataset.from_dict({"input_ids": [[0, 2]]})])
    assert listed(TokenRows(joined, FILLER)) == [IDS[2], IDS[0], [0, 2]]
    assert listed(TokenRows(whole.select([2, 0]), FILLER)) == [IDS[2], IDS[0]]


def test_the_row_after_the_last_is_the_filler_and_others_are_errors() -> None:
    rows = TokenRows(Dataset.from_dict({"input_ids": IDS}), FILLER)
    assert rows[3]["input_ids"].tolist() == FILLER
    for index in (4, -1):
        with pytest.raises(IndexError):
            rows[index]


def test_packed_rows_say_where_their_strings_end() -> None:
    rows = TokenRows(Dataset.from_dict({"input_ids": IDS}), FILLER, [np.array([2, 1]), np.array([0])])
    assert len(rows) == 2
    assert rows.lengths.tolist() == [8, 4]
    assert rows[0]["input_ids"].tolist() == IDS[2] + IDS[1]
    assert rows[0]["lengths"].tolist() == [5, 3]


@given(st.lists(st.integers(2, 50), max_size=200), st.integers(50, 90), st.integers(0, 3))
def test_packing_places_every_string_once_within_the_width(lengths: list[int], width: int, seed: int) -> None:
    array = np.array(lengths, dtype=np.int64)
    rows = pack(array, width, seed)
    assert sorted(index for row in rows for index in row.tolist()) == list(range(len(lengths)))
    assert all(array[row].sum() <= width for row in rows)
    again = pack(array, width, seed)
    assert [row.tolist() for row in rows] == [row.tolist() for row in again]
    # at most one row is not more than half full: otherwise two would have become one
    assert -(-int(array.sum()) // width) <= len(rows) < 2 * array.sum() / width + 1


def test_packing_wastes_little_and_mixes() -> None:
    lengths = np.random.default_rng(0).integers(10, 50, 2000)
    rows = pack(lengths, 256, 0)
    assert lengths.sum() / (256 * len(rows)) > 0.98
    assert [row.tolist() for row in rows] != [row.tolist() for row in pack(lengths, 256, 1)]


def test_a_string_that_fits_in_no_row_is_refused() -> None:
    with pytest.raises(ScopeTooLongError, match=r"60 tokens.*--packing-length"):
        pack(np.array([10, 60]), 50)
