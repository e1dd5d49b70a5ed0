"""What is wanted, as the command line and Python say it."""

from __future__ import annotations

import pytest

from cloud_hf.errors import CloudError
from cloud_hf.screening.wants import Want, parse_wants

NAMES = ["band_gap", "bulk_modulus", "energy_above_hull"]


def test_wants_are_read() -> None:
    found = parse_wants(["band_gap=1.1:1.7", "bulk_modulus>=100", "energy_above_hull<=0.1"], NAMES)
    assert found == [Want("band_gap", 1.1, 1.7), Want("bulk_modulus", 100.0), Want("energy_above_hull", high=0.1)]
    assert [str(want) for want in found] == ["band_gap=1.1:1.7", "bulk_modulus>=100", "energy_above_hull<=0.1"]
    assert [want.direction for want in found] == [0, 1, -1]


def test_wants_of_one_quantity_hold_together() -> None:
    assert parse_wants(["band_gap>=1", "band_gap<=2", "band_gap>=0.5"], NAMES) == [Want("band_gap", 1.0, 2.0)]


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ([], "say what is wanted"),
        (["gap"], "NAME>=NUMBER"),
        (["bandgap>=1"], "Did you mean band_gap"),
        (["colour>=1"], "no head gives 'colour'; there is band_gap, bulk_modulus"),
        (["band_gap=1"], "a window"),
        (["band_gap>=x"], "no number"),
        (["band_gap=2:1"], "both at least 2 and at most 1"),
        (["band_gap>=2", "band_gap<=1"], "both at least 2 and at most 1"),
        (["band_gap>=nan"], "no limit"),
        (["band_gap=:"], "no limit"),
    ],
)
def test_wants_that_cannot_be_read(texts: list[str], reason: str) -> None:
    with pytest.raises(CloudError, match=reason):
        parse_wants(texts, NAMES)
