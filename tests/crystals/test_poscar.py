"""POSCAR texts mean what VASP reads; what does not belong together, or is not named, is an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cloud_hf import errors
from cloud_hf.crystals.poscar import cell_from_poscar
from cloud_hf.crystals.readers import read_cell, read_text

LATTICE = "5 0 0\n0 6 0\n0 0 7\n"
COORDS = "0 0 0\n.5 .5 .5\n.25 .25 .25\n"


def poscar(
    title: str = "salt", scale: str = "1.0", names: str = "Na Cl", counts: str = "2 1", mode: str = "Direct",
    coords: str = COORDS,
) -> str:  # fmt: skip
    names = f"{names}\n" if names else ""
    return f"{title}\n{scale}\n{LATTICE}{names}{counts}\n{mode}\n{coords}"


PLAIN = cell_from_poscar(poscar(), "POSCAR", 9)


def test_a_plain_file() -> None:
    np.testing.assert_allclose(PLAIN.lattice, np.diag([5.0, 6.0, 7.0]))
    np.testing.assert_allclose(PLAIN.frac_coords, [[0, 0, 0], [0.5] * 3, [0.25] * 3])
    assert [content[0] for content in PLAIN.contents] == [("Na", 1.0), ("Na", 1.0), ("Cl", 1.0)]


@pytest.mark.parametrize(
    "text",
    [
        poscar(title=""),
        poscar(scale="-210"),
        poscar(scale="1 1 1"),
        poscar(scale="1.0D0"),
        poscar(scale="1.0 scale"),
        poscar(names="Na_pv Cl/0a1b2c"),
        poscar(names="Na Cl ! names", counts="2 1 ! atoms"),
        poscar(names="Na Na Cl", counts="1 1 1"),
        poscar(names="", coords="0 0 0 Na\n.5 .5 .5 Na\n.25 .25 .25 Cl\n"),
        poscar(coords="0 0 0 Na\n.5 .5 .5 Na\n.25 .25 .25 Cl\n"),
        poscar(mode="Cartesian", coords="0 0 0\n2.5 3 3.5\n1.25 1.5 1.75\n"),
        poscar(mode="kartesisch", coords="0 0 0\n2.5D0 3 3.5\n1.25 1.5 1.75\n"),
        poscar(mode="Selective dynamics\nDirect", coords="0 0 0 T T F\n.5 .5 .5 T T T\n.25 .25 .25 F F F\n"),
        poscar(coords=COORDS + "\n0.01 0 0\n0 0 0\n0 0 0\n"),
    ],
    ids=range(14),
)
def test_other_ways_to_write_it(text: str) -> None:
    cell = cell_from_poscar(text, "POSCAR", 9)
    np.testing.assert_allclose(cell.lattice, PLAIN.lattice, atol=1e-9)
    np.testing.assert_allclose(cell.frac_coords, PLAIN.frac_coords, atol=1e-9)
    assert cell.contents == PLAIN.contents


def test_coordinates_in_units_of_the_scale_and_single_molecules_are_cartesian() -> None:
    """A scale of 5 Å, and molecules whose atoms do lie within 1 Å."""
    cell = cell_from_poscar(poscar(scale="5", mode="C", coords="0 0 0\n0.5 0.5 0.5\n0.25 0.25 0.3\n"), "POSCAR", 9)
    np.testing.assert_allclose(cell.frac_coords[1], [0.5 / 5, 0.5 / 6, 0.5 / 7])
    for names, counts, coords in (
        ("H", "2", "0 0 0\n0 0 0.74\n"),
        ("O H", "1 1", "0 0 0\n.5 .5 .6\n"),
        ("W", "1", ".5 .5 .5\n"),
    ):
        assert len(cell_from_poscar(poscar(names=names, counts=counts, mode="C", coords=coords), "POSCAR", 9))


def test_three_scale_factors_are_of_x_y_and_z() -> None:
    cell = cell_from_poscar(poscar(scale="2 1 3", mode="Cart", coords="0 0 0\n2.5 3 3.5\n1.25 1.5 1.75\n"), "POSCAR", 9)
    np.testing.assert_allclose(cell.lattice, np.diag([10.0, 6.0, 21.0]))
    np.testing.assert_allclose(cell.frac_coords, PLAIN.frac_coords, atol=1e-9)


@pytest.mark.parametrize(
    ("text", "error", "reason"),
    [
        (poscar(names="Na Cl K"), errors.CrystalReadError, "3 elements .* 2 numbers"),
        (poscar(names="Na"), errors.CrystalReadError, "1 elements .* 2 numbers"),
        (poscar(names=""), errors.CrystalReadError, "elements are not named"),
        (poscar(names="Na Xx"), errors.UnknownElementError, "'Xx'"),
        (poscar(counts="2 2"), errors.CrystalReadError, "4 atoms are announced, and 3"),
        (poscar(counts="1 1"), errors.CrystalReadError, "more atoms have coordinates than the 2"),
        (poscar(counts="2 x"), errors.CrystalReadError, "2 elements"),
        (poscar(scale="1 2"), errors.CrystalReadError, "scale"),
        (poscar(scale="0"), errors.CrystalReadError, "scale"),
        (poscar(scale="1 -1 1"), errors.CrystalReadError, "scale"),
        (poscar(coords="0 0 0\n.5 . .5\n0 0 .5\n"), errors.CrystalReadError, "'.'"),
        (poscar(coords="0 0 0 Na\n.5 .5 .5 Cl\n.25 .25 .25 Cl\n"), errors.CrystalReadError, "others than those"),
        (poscar(counts="5000 1"), errors.CrystalTooLargeError, "5001"),
        (poscar(mode="Cartesian"), errors.CrystalReadError, "all 3 atoms would lie within 1 Å; .* called Direct"),
        (poscar(mode="K", scale="-210"), errors.CrystalReadError, "within 1 Å"),
        (poscar(mode="C", counts="1 1", coords="0 0 0\n.5 .5 .5\n"), errors.CrystalReadError, "within 1 Å"),
        ("salt\n1\n", errors.CrystalReadError, "fewer than eight lines"),
    ],
)
def test_what_does_not_belong_together_is_refused(text: str, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=rf"^my\.vasp: .*{reason}"):
        cell_from_poscar(text, "my.vasp", 9)


@pytest.mark.parametrize("change", [lambda t: t, lambda t: "\ufeff" + t, lambda t: t.replace("\n", "\r\n") + "\x1a"])
@pytest.mark.parametrize("text", [poscar(), poscar(title=""), poscar(names=""), poscar(names="Na Cl K")])
def test_a_text_is_read_as_its_file(tmp_path: Path, text: str, change: object) -> None:
    path = tmp_path / "POSCAR"
    path.write_bytes(change(text).encode())  # type: ignore[operator]
    outcomes = []
    for read in (lambda: read_cell(path), lambda: read_text(path.read_bytes().decode(), str(path))):
        try:
            cell = read()
            outcomes.append((cell.lattice.tolist(), cell.frac_coords.tolist(), cell.contents))
        except errors.CloudError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]
