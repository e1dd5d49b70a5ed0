"""Names and lists of symmetry operations, in every spelling, to the settings of the tables."""

from __future__ import annotations

import gemmi
import numpy as np
import pytest

from cloud_hf.crystals.space_groups import group_of_hall, group_of_operations, settings_of_name, settings_of_number
from cloud_hf.errors import CrystalReadError

NAMES = {
    "P 21/c": {"P 1 21/c 1", "P 21/c 1 1"}, "P21/c": {"P 1 21/c 1", "P 21/c 1 1"}, "P 1 21/c 1": {"P 1 21/c 1"},
    "R -3 c H": {"R -3 c :H"}, "R -3 c :R": {"R -3 c :R"}, "R-3cR": {"R -3 c :R"}, "R -3 c": {"R -3 c :H", "R -3 c :R"},
    "H -3 c": {"R -3 c :H"}, "R -3 m HR": {"R -3 m :H"}, "$R\\bar{3}c$": {"R -3 c :H", "R -3 c :R"},
    "F d -3 m S": {"F d -3 m :1"}, "F d -3 m Z": {"F d -3 m :2"}, "Fd-3m:2": {"F d -3 m :2"},
    "F d -3 m (origin choice 2)": {"F d -3 m :2"}, "F d -3 m": {"F d -3 m :1", "F d -3 m :2"},
    "P6(3)/mmc": {"P 63/m m c"}, "P 6_3/m m c": {"P 63/m m c"}, "P2~1~2~1~2~1~": {"P 21 21 21"},
    "F 4/m -3 2/m": {"F m -3 m"}, "P 21/n 21/m 21/a": {"P n m a"}, "F m 3 m": {"F m -3 m"}, "P a 3": {"P a -3"},
    "C m c a": {"C m c a"}, "C m c e": {"C m c a"}, "F m \u22123 m": {"F m -3 m"}, "F m 3\u0305 m": {"F m -3 m"},
    "FM-3M": {"F m -3 m"}, "F m -3 m (225)": {"F m -3 m"}, "P b n m": {"P b n m"}, "P 1": {"P 1"}, "P -1": {"P -1"},
    "C -1": {"C -1"}, "P 1\u0305": {"P -1"},
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_symbols(name: str) -> None:
    assert {setting.name for setting in settings_of_name(name)} == NAMES[name]


@pytest.mark.parametrize("name", ["", "?", "Q 7", "225", "F m -3 x", "P 21/q"])
def test_what_is_no_symbol(name: str) -> None:
    assert settings_of_name(name) == ()


def test_every_setting_is_found_by_its_own_name_and_hall_symbol() -> None:
    for table in gemmi.spacegroup_table():
        assert table.hall in {setting.hall for setting in settings_of_name(table.xhm())}, table.xhm()
        group = group_of_hall(table.hall)
        assert group is not None
        assert group.number == table.number
        assert len(group) == len(list(table.operations()))


@pytest.mark.parametrize("number", [1, 2, 14, 62, 88, 167, 194, 216, 227, 230])
def test_a_list_of_operations_tells_its_number(number: int) -> None:
    for setting in settings_of_number(number):
        texts = [operation.triplet() for operation in gemmi.symops_from_hall(setting.hall)]
        group, is_closed = group_of_operations(texts)
        assert is_closed
        assert group.number == number
        assert group.same_as(setting.group)
        if len(texts) > 2:
            assert not group_of_operations(texts[:-1])[1]


@pytest.mark.parametrize("number", [14, 62, 167, 227])
def test_a_list_without_a_tabulated_setting_tells_its_number(number: int) -> None:
    shift = np.array([0.1, 0.2, 0.3])
    texts = []
    for operation in gemmi.symops_from_hall(settings_of_number(number)[0].hall):
        rotation = np.array(operation.rot) / gemmi.Op.DEN
        moved = np.array(operation.tran) / gemmi.Op.DEN + shift - rotation @ shift
        parts = ["".join(f"{v:+.0f}{axis}" for v, axis in zip(row, "xyz", strict=True) if v) for row in rotation]
        texts.append(",".join(f"{part}{t % 1.0:+.4f}" for part, t in zip(parts, moved, strict=True)))
    group, is_closed = group_of_operations(texts)
    assert is_closed
    assert group.number == number


@pytest.mark.parametrize(
    ("text", "row", "shift"),
    [
        ("x,y,z", [1, 0, 0], 0.0), ("X , Y, Z", [1, 0, 0], 0.0), ("1/2+x,y,z", [1, 0, 0], 0.5),
        ("x-y,x,z", [1, -1, 0], 0.0),
        ("-x+.5,-y,z", [-1, 0, 0], 0.5), ("x+0.333,y,z", [1, 0, 0], 1 / 3), ("\u2212x,\u2212y,z", [-1, 0, 0], 0.0),
        ("x+1/2,y,z,-1", [1, 0, 0], 0.5),
    ],
)  # fmt: skip
def test_operations(text: str, row: list[int], shift: float) -> None:
    group, _ = group_of_operations(["x,y,z", text] if text != "x,y,z" else [text])
    np.testing.assert_allclose(group.rotations[-1][0], row)
    assert group.translations[-1][0] == pytest.approx(shift, abs=1e-12)


@pytest.mark.parametrize(
    "text", ["", "x,y", "x,y,z,w", "x-?,y,z", "x,y,q", "x x,y,z", "2x,y,z", "x,x,z", "1/0*x,y,z", "x,,z"]
)
def test_what_is_no_operation_is_named(text: str) -> None:
    with pytest.raises(CrystalReadError) as caught:
        group_of_operations(["x,y,z", text])
    assert f"the symmetry operation {text} cannot be read" in caught.value.reason
