"""The split by string: nothing on both sides, nothing lost, the order of the rows without effect."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_hf.data.splits import split_by_string

STRINGS = st.lists(st.sampled_from([f"string {index}" for index in range(25)]), max_size=80)
FRACTIONS = st.floats(0, 0.99)
SEEDS = st.integers(0, 1000)


@settings(deadline=None, max_examples=60)
@given(strings=STRINGS, fraction=FRACTIONS, seed=SEEDS)
def test_no_string_on_both_sides_and_no_row_lost(strings: list[str], fraction: float, seed: int) -> None:
    train, validation = split_by_string(strings, fraction, seed)
    assert sorted([*train, *validation]) == list(range(len(strings)))
    assert (np.diff(train) > 0).all()
    assert (np.diff(validation) > 0).all()
    assert not {strings[row] for row in train} & {strings[row] for row in validation}


@settings(deadline=None, max_examples=60)
@given(strings=STRINGS, fraction=FRACTIONS, seed=SEEDS, chance=st.randoms(use_true_random=False))
def test_the_order_and_number_of_rows_do_not_matter(strings: list[str], fraction: float, seed: int, chance) -> None:
    shuffled = strings + strings[:7]
    chance.shuffle(shuffled)
    before = {strings[row] for row in split_by_string(strings, fraction, seed)[1]}
    after = {shuffled[row] for row in split_by_string(shuffled, fraction, seed)[1]}
    assert before == after


@settings(deadline=None, max_examples=60)
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
