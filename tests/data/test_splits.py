"""The split by string: nothing on both sides, nothing lost, the order of the rows without effect."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_hf.data.splits import folds_by_string, read_split_column, split_by_string
from cloud_hf.errors import TableError

STRINGS = st.lists(st.sampled_from([f"string {index}" for index in range(25)]), max_size=80)
FRACTIONS = st.floats(0, 0.99)
SEEDS = st.integers(0, 1000)


@settings(max_examples=60)
@given(strings=STRINGS, fraction=FRACTIONS, seed=SEEDS)
def test_no_string_on_both_sides_and_no_row_lost(strings: list[str], fraction: float, seed: int) -> None:
    train, validation = split_by_string(strings, fraction, seed)
    assert sorted([*train, *validation]) == list(range(len(strings)))
    assert (np.diff(train) > 0).all()
    assert (np.diff(validation) > 0).all()
    assert not {strings[row] for row in train} & {strings[row] for row in validation}


@settings(max_examples=60)
@given(strings=STRINGS, fraction=FRACTIONS, seed=SEEDS, chance=st.randoms(use_true_random=False))
def test_the_order_and_number_of_rows_do_not_matter(strings: list[str], fraction: float, seed: int, chance) -> None:
    shuffled = strings + strings[:7]
    chance.shuffle(shuffled)
    before = {strings[row] for row in split_by_string(strings, fraction, seed)[1]}
    after = {shuffled[row] for row in split_by_string(shuffled, fraction, seed)[1]}
    assert before == after


@settings(max_examples=60)
@given(strings=STRINGS, fraction=FRACTIONS, seed=SEEDS)
def test_the_fraction_counts_distinct_strings(strings: list[str], fraction: float, seed: int) -> None:
    kept_back = {strings[row] for row in split_by_string(strings, fraction, seed)[1]}
    assert abs(len(kept_back) - fraction * len(set(strings))) <= 0.5


def test_the_seed_chooses() -> None:
    strings = [str(index) for index in range(100)]
    splits = [split_by_string(strings, 0.3, seed)[1].tolist() for seed in (0, 1, 0)]
    assert splits[0] == splits[2]
    assert splits[0] != splits[1]


def test_no_fraction_keeps_nothing_back() -> None:
    train, validation = split_by_string(["a", "b", "a"], 0.0, 0)
    assert train.tolist() == [0, 1, 2]
    assert validation.tolist() == []


@pytest.mark.parametrize("fraction", [1.0, -0.1, 2.0, float("nan")])
def test_a_fraction_outside_0_to_1_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction"):
        split_by_string(["a", "b"], fraction, 0)


@settings(max_examples=60)
@given(strings=STRINGS, folds=st.integers(2, 6), seed=SEEDS, chance=st.randoms(use_true_random=False))
def test_folds_keep_strings_together_and_are_of_one_size(strings: list[str], folds: int, seed: int, chance) -> None:
    distinct = set(strings)
    if len(distinct) < folds:
        with pytest.raises(TableError, match=f"{len(distinct)} distinct strings"):
            folds_by_string(strings, folds, seed)
        return
    found = folds_by_string(strings, folds, seed)
    of_string = {
        string: {int(found[row]) for row in range(len(strings)) if strings[row] == string} for string in strings
    }
    assert all(len(one) == 1 for one in of_string.values())
    sizes = [sum(one == {fold} for one in of_string.values()) for fold in range(folds)]
    assert max(sizes) - min(sizes) <= 1
    shuffled = strings[:]
    chance.shuffle(shuffled)
    again = folds_by_string(shuffled, folds, seed)
    assert {string: {int(fold)} for string, fold in zip(shuffled, again, strict=True)} == of_string


class TestSplitColumn:
    def test_names_of_parts(self) -> None:
        found = read_split_column(["train", " Val", "TEST", "valid", "validation", "training", "dev"], "s", "t.csv")
        assert found.tolist() == ["train", "validation", "test", "validation", "validation", "train", "validation"]

    @pytest.mark.parametrize("values", [[0, 1, 1], ["0", "1", "1"], [0.0, 1.0, 1.0]])
    def test_fold_numbers(self, values: list) -> None:
        assert read_split_column(values, "s", "t.csv").tolist() == [0, 1, 1]

    @pytest.mark.parametrize(
        ("values", "reason"),
        [
            (["train", "holdout"], "'holdout'"),
            (["train", None], "None"),
            ([0, float("nan")], "nan"),
            ([0.5, 1], "0.5"),
            (["validation", "test"], "no row to train on"),
            ([3, 3, 3], "one fold"),
            ([-1, 0], "-1"),
        ],
    )
    def test_values_that_say_nothing(self, values: list, reason: str) -> None:
        with pytest.raises(TableError, match=reason):
            read_split_column(values, "s", "t.csv")
