"""What is drawn of a crystal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cloud_hf.app.scene import scene_of
from cloud_hf.crystals.cell import Cell
from cloud_hf.scope import read_cell


@pytest.mark.parametrize(
    ("name", "atoms", "bonds", "length"),
    [("NaCl", 27, 54, 2.82), ("C_diamond", 18, 16, 1.545), ("SrTiO3", 15, 30, None)],
)
def test_atoms_on_faces_are_drawn_on_both_sides(
    root: Path, name: str, atoms: int, bonds: int, length: float | None
) -> None:
    """Rock salt: 8 corners, 6 faces, 12 edges and the middle; a cube of 2 x 2 x 2 has 54 edges."""
    scene = scene_of(read_cell(root / "examples" / f"{name}.cif"))
    assert len(scene.fractions) == len(scene.symbols) == len(scene.labels) == atoms
    if length is not None:
        ends = scene.positions[scene.bonds]
        assert np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1) == pytest.approx(length, abs=0.01)
        assert len(scene.bonds) == bonds


def test_the_edges_are_those_of_the_cell(root: Path) -> None:
    cell = read_cell(root / "examples" / "SiO2_quartz.cif")
    lengths = sorted(float(np.linalg.norm(one - other)) for one, other in scene_of(cell).edges)
    assert lengths == pytest.approx(sorted(np.repeat(np.linalg.norm(cell.lattice, axis=1), 4)))


def test_whole_lattice_vectors_change_nothing(root: Path) -> None:
    cell = read_cell(root / "examples" / "SiO2_quartz.cif")
    moved = replace(cell, frac_coords=cell.frac_coords + np.array([1, -2, 3]))
    one, other = scene_of(cell), scene_of(moved)
    assert one.symbols == other.symbols
    assert np.allclose(one.fractions, other.fractions)


def test_a_shared_site_shows_its_larger_share() -> None:
    cell = Cell(3.0 * np.eye(3), np.array([[0.5, 0.5, 0.5]]), ((("Fe", 0.25), ("Ni", 0.75)),))
    scene = scene_of(cell)
    assert (scene.symbols, scene.labels) == (("Ni",), ("Fe 0.25, Ni 0.75",))
    assert scene.bonds.shape == (0, 2)
