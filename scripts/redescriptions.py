"""The same crystal in other words: re-descriptions on plain arrays, and what encoders make of them.

`KINDS` holds one function per way to describe a crystal differently; `RedescriptionJob` encodes a crystal and all its
re-descriptions; `summarise` counts what kept its string. Used by the sections of `benchmark_scope.py`.
"""

import os
import warnings
import zlib
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from pymatgen.core import Structure
from pymatgen.io.cif import CifParser, CifWriter

os.environ.setdefault("SPGLIB_WARNING", "OFF")  # its C code prints to the terminal when it retries a tolerance
import spglib

from cloud_hf.errors import CloudError
from cloud_hf.scope import ScopeEncoder
from cloud_hf.scope.generators import space_group_of

__all__ = [
    "ANGLE_TOLERANCE",
    "ENCODERS",
    "KINDS",
    "NOISE",
    "SYMPREC",
    "Arrays",
    "RedescriptionJob",
    "SharedSearch",
    "load_arrays",
    "standard_cell",
    "summarise",
]

SYMPREC = 0.01
"""Å; the encoders' default."""

ANGLE_TOLERANCE = 5.0
"""Degrees; the encoders' default."""

NEARBY = (0.005, SYMPREC, 0.02)
"""Å; a crystal whose space group differs between these lies near the tolerance."""

ENCODERS: dict[str, dict[str, Any]] = {
    "sites": {"grammar": "sites"},
    "composition": {"grammar": "composition"},
    "paper": {"grammar": "composition", "canonical": False},
}
"""Settings of the encoders that are compared; `paper` is what the released encoder gives."""


class Arrays(NamedTuple):
    """An ordered crystal as every encoder takes it.

    Attributes:
        lattice: Lattice vectors as rows, shape (3, 3), Å.
        numbers: Atomic numbers, shape (n,).
        frac_coords: Fractional coordinates, shape (n, 3).
    """

    lattice: NDArray[np.float64]
    numbers: NDArray[np.int64]
    frac_coords: NDArray[np.float64]


def load_arrays(table: Path) -> list[tuple[str, Arrays]]:
    """Return (id, crystal) for every row of a Parquet table with the columns of the shared data."""
    rows = pd.read_parquet(table, columns=["id", "lattice", "numbers", "frac_coords"])
    return [
        (str(name), Arrays(lattice.reshape(3, 3), numbers.astype(np.int64), coords.reshape(-1, 3)))
        for name, lattice, numbers, coords in rows.to_numpy()
    ]


def standard_cell(cell: Arrays, primitive: bool, idealise: bool) -> Arrays:
    """Return spglib's standard cell at the encoders' tolerance, atoms where they are or on their ideal positions."""
    standardised = spglib.standardize_cell(
        _spglib_cell(cell),
        to_primitive=primitive,
        no_idealize=not idealise,
        symprec=SYMPREC,
        angle_tolerance=ANGLE_TOLERANCE,
    )
    if standardised is None:
        raise ValueError("spglib finds no standard cell")
    lattice, coords, numbers = standardised
    return Arrays(np.asarray(lattice), np.asarray(numbers, dtype=np.int64), np.asarray(coords))


def _spglib_cell(cell: Arrays) -> Any:
    return cell.lattice, cell.frac_coords, cell.numbers


def _rebased(cell: Arrays, basis: ArrayLike) -> Arrays:
    """Describe the crystal in the cell whose vectors are integer combinations (rows of `basis`) of the old ones."""
    rows = np.asarray(basis, dtype=float)
    return cell._replace(lattice=rows @ cell.lattice, frac_coords=cell.frac_coords @ np.linalg.inv(rows) % 1)


def _atom_order(cell: Arrays, rng: Generator) -> Arrays:
    order = rng.permutation(len(cell.numbers))
    return cell._replace(numbers=cell.numbers[order], frac_coords=cell.frac_coords[order])


def _origin(cell: Arrays, rng: Generator) -> Arrays:
    return cell._replace(frac_coords=(cell.frac_coords + rng.random(3)) % 1)


def _rotation(cell: Arrays, rng: Generator) -> Arrays:
    matrix, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return cell._replace(lattice=cell.lattice @ (matrix * np.sign(np.linalg.det(matrix))).T)


def _unimodular(cell: Arrays, rng: Generator) -> Arrays:
    """Three random shears (one vector added to or taken from another), then a random order of the axes."""
    basis = np.eye(3)
    for _ in range(3):
        to, other = rng.choice(3, size=2, replace=False)
        basis[to] += rng.choice((-1, 1)) * basis[other]
    basis = basis[rng.permutation(3)]
    return _rebased(cell, basis * np.sign(np.linalg.det(basis)))


def _supercell(*repeats: int) -> Callable[[Arrays, Generator], Arrays]:
    shifts = np.array(list(product(*map(range, repeats))))

    def repeated(cell: Arrays, rng: Generator) -> Arrays:
        coords = (cell.frac_coords[:, None, :] + shifts) / repeats
        lattice = cell.lattice * np.array(repeats)[:, None]
        return Arrays(lattice, np.repeat(cell.numbers, len(shifts)), coords.reshape(-1, 3))

    return repeated


def _standard(primitive: bool, idealise: bool) -> Callable[[Arrays, Generator], Arrays]:
    return lambda cell, rng: standard_cell(cell, primitive, idealise)


def _niggli(cell: Arrays, rng: Generator) -> Arrays:
    reduced = spglib.niggli_reduce(cell.lattice)
    if reduced is None:
        raise ValueError("spglib finds no Niggli cell")
    return _rebased(cell, np.rint(reduced @ np.linalg.inv(cell.lattice)))


def _cif(cell: Arrays, rng: Generator) -> Arrays:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rounding of coordinates is what a round trip does
        text = str(CifWriter(Structure(cell.lattice, cell.numbers.tolist(), cell.frac_coords)))
        structure = CifParser.from_str(text).parse_structures(primitive=False)[0]
    return Arrays(structure.lattice.matrix, np.array(structure.atomic_numbers), structure.frac_coords)


def _noise(cell: Arrays, rng: Generator) -> Arrays:
    steps = rng.normal(size=cell.frac_coords.shape)
    steps *= 1e-4 / np.linalg.norm(steps, axis=1, keepdims=True)
    return cell._replace(frac_coords=cell.frac_coords + steps @ np.linalg.inv(cell.lattice))


NOISE = "noise, 1e-4 Å per atom"
KINDS: dict[str, Callable[[Arrays, Generator], Arrays]] = {
    "atom order": _atom_order,
    "origin": _origin,
    "rotation": _rotation,
    "unimodular cell": _unimodular,
    "supercell 2x1x1": _supercell(2, 1, 1),
    "supercell 2x2x2": _supercell(2, 2, 2),
    "primitive standard cell": _standard(primitive=True, idealise=False),
    "conventional standard cell": _standard(primitive=False, idealise=False),
    "primitive standard cell, idealised": _standard(primitive=True, idealise=True),
    "conventional standard cell, idealised": _standard(primitive=False, idealise=True),
    "Niggli cell": _niggli,
    "CIF round trip": _cif,
    NOISE: _noise,
}
"""Every way to say it again; `NOISE` moves the atoms and is counted apart. The idealised standard cells move them too
(up to the tolerance), but they are what spglib and pymatgen give by default, so they count."""


class SharedSearch:
    """Inside this context, the same question to spglib twice in a row is asked once, and the answer is kept.

    Canonical encoders of several grammars search the same cell in the same order of sites.

    Attributes:
        cell: What spglib was last asked about: lattice, coordinates, types of the sites.
        dataset: Its answer.
    """

    cell: Any = None
    dataset: Any = None
    _key: Any = None

    def __enter__(self) -> "SharedSearch":
        self._search = spglib.get_symmetry_dataset
        spglib.get_symmetry_dataset = self
        return self

    def __exit__(self, *error: object) -> None:
        spglib.get_symmetry_dataset = self._search

    def __call__(self, cell: Any, *args: Any, **kwargs: Any) -> Any:
        """Stand in for `spglib.get_symmetry_dataset`."""
        key = (*(np.asarray(part).tobytes() for part in cell), args, tuple(sorted(kwargs.items())))
        if key != self._key:
            self.dataset = self._search(cell, *args, **kwargs)
            self.cell, self._key = cell, key
        return self.dataset


class RedescriptionJob:
    """Encode a crystal and its re-descriptions; has the form of an encoder, so that `encode_batch` runs it.

    Args:
        idealised: Start from the crystal on the ideal positions of its primitive standard cell.
    """

    def __init__(self, idealised: bool) -> None:
        self.idealised = idealised
        self.encoders = {name: ScopeEncoder(**settings) for name, settings in ENCODERS.items()}

    def describe(self, crystal: tuple[str, Arrays]) -> Any:
        """Return id, reason of a refusal, and per kind and encoder the two space groups and whether the string stayed.

        Args:
            crystal: Id and arrays. The random choices follow from the id.
        """
        name, cell = crystal
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        row: dict[str, Any] = {"id": name, "kinds": {}, "unmade": {}}
        with SharedSearch():
            try:
                cell = standard_cell(cell, primitive=True, idealise=True) if self.idealised else cell
                reference = {key: encoder.encode(cell) for key, encoder in self.encoders.items()}
            except (CloudError, ValueError, spglib.SpglibError) as error:
                return row | {"refused": f"{type(error).__name__}: {error}"}
            for kind, redescribe in KINDS.items():
                try:
                    other = redescribe(cell, rng)
                except (ValueError, spglib.SpglibError) as error:
                    row["unmade"][kind] = f"{type(error).__name__}: {error}"
                    continue
                row["kinds"][kind] = {key: self._compare(key, other, text) for key, text in reference.items()}
        if any(not comparison["sites"][0] or not comparison["composition"][0] for comparison in row["kinds"].values()):
            row["nearby"] = {str(tolerance): _space_group(cell, tolerance) for tolerance in NEARBY}
        return row

    def _compare(self, key: str, other: Arrays, reference: str) -> tuple[bool, int | None, int | None]:
        try:
            text = self.encoders[key].encode(other)
        except CloudError:
            return False, space_group_of(reference), None
        return text == reference, space_group_of(reference), space_group_of(text)


def _space_group(cell: Arrays, symprec: float) -> int | None:
    try:
        dataset = spglib.get_symmetry_dataset(_spglib_cell(cell), symprec, ANGLE_TOLERANCE)
    except spglib.SpglibError:
        return None
    return None if dataset is None else int(dataset.number)


def summarise(rows: Iterable[Any]) -> dict[str, Any]:
    """Count, per kind and encoder, how many re-descriptions kept the string, and list those that did not.

    Args:
        rows: What `RedescriptionJob.describe` gave, or the `CloudError` in its place.

    Returns:
        `n` crystals, `refused` and `unmade` with reasons, `kinds` (kind → N and share kept per encoder),
        `all_kinds` (the same over all kinds but the noise), `changed` (one entry per crystal and kind).
    """
    outcomes = list(rows)
    refused = [str(row["refused"] if isinstance(row, dict) else row) for row in outcomes if not _is_whole(row)]
    whole = [row for row in outcomes if _is_whole(row)]
    kinds = {kind: _share(row["kinds"][kind] for row in whole if kind in row["kinds"]) for kind in KINDS}
    return {
        "n": len(whole),
        "refused": refused,
        "unmade": [{"id": row["id"], **row["unmade"]} for row in whole if row["unmade"]],
        "kinds": kinds,
        "all_kinds": _share(row["kinds"][kind] for row in whole for kind in row["kinds"] if kind != NOISE),
        "changed": [
            {"id": row["id"], "kind": kind, **changed, "at_tolerances": row["nearby"]}
            for row in whole
            for kind, results in row["kinds"].items()
            if (changed := _changed(results))
        ],
    }


def _changed(results: dict[str, Any]) -> dict[str, Any]:
    """Return the canonical grammars whose string changed, with the space groups before and after."""
    grammars = [key for key, (kept, *_) in results.items() if not kept and key != "paper"]
    return {"grammars": grammars, "space_groups": list(results[grammars[0]][1:])} if grammars else {}


def _is_whole(row: Any) -> bool:
    return isinstance(row, dict) and "refused" not in row


def _share(results: Iterable[dict[str, Any]]) -> dict[str, float | int | None]:
    listed = list(results)
    kept = {key: sum(result[key][0] for result in listed) for key in ENCODERS}
    return {"n": len(listed)} | {key: count / len(listed) if listed else None for key, count in kept.items()}
