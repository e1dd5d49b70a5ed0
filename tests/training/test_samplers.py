"""Length buckets: every row once, little padding, and an order that depends on the seed and the epoch only."""

from hypothesis import given
from hypothesis import strategies as st

from cloud_hf.training.samplers import LengthBucketSampler

LENGTHS = st.lists(st.integers(3, 60), min_size=1, max_size=300)


@given(LENGTHS, st.integers(1, 16), st.integers(0, 5), st.integers(0, 5))
def test_every_row_comes_once_an_epoch(lengths: list[int], batch_size: int, seed: int, epoch: int) -> None:
    sampler = LengthBucketSampler(lengths, batch_size, seed)
    sampler.set_epoch(epoch)
    assert sorted(sampler) == list(range(len(lengths)))
    assert len(sampler) == len(lengths)


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    lengths = [3 + (7 * row) % 50 for row in range(500)]

    def order(seed: int, epoch: int) -> list[int]:
        sampler = LengthBucketSampler(lengths, 16, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(1, 2) == order(1, 2)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_batches_hold_strings_of_similar_length() -> None:
    lengths = [3 + (7 * row) % 50 for row in range(3200)]
    order = list(LengthBucketSampler(lengths, 32))
    batches = [[lengths[row] for row in order[start : start + 32]] for start in range(0, len(order), 32)]
    padding = sum(max(batch) * len(batch) for batch in batches) / sum(lengths)
    assert padding < 1.1
    assert [max(batch) for batch in batches] != sorted(max(batch) for batch in batches)


def test_fillers_complete_the_epoch() -> None:
    sampler = LengthBucketSampler(list(range(1, 22)), 8, multiple_of=8)
    order = list(sampler)
    assert len(order) == len(sampler) == 24
    assert sorted(order[:21]) == list(range(21))
    assert order[21:] == [21] * 3
    assert list(LengthBucketSampler([3] * 16, 8, multiple_of=8)) == list(LengthBucketSampler([3] * 16, 8))
