"""Small crystals in every form that a corpus can be built from, and tables to compare."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("datatrove", reason="building a corpus needs the extra 'corpus'")

#: Prototypes: sites of A and of B, in fractions of a cubic cell of 4.5 Å.
PROTOTYPES = {
    "CsCl": ([(0, 0, 0)], [(0.5, 0.5, 0.5)]),
    "NaCl": (
        [(0, 0, 0), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)],
        [(0.5, 0.5, 0.5), (0, 0, 0.5), (0, 0.5, 0), (0.5, 0, 0)],
    ),
    "Cu3Au": ([(0, 0, 0)], [(0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]),
}
METALS = ("Li", "Na", "K", "Rb", "Cs", "Ag", "Tl", "Cu")
ANIONS = ("F", "Cl", "Br", "I", "N", "P")

Crystal = dict[str, Any]


def make_crystals() -> list[Crystal]:
    """144 crystals with different strings, as rows of a table."""
    from pymatgen.core import Element

    rows = []
    for name, (first, second) in PROTOTYPES.items():
        for a in METALS:
            for b in ANIONS:
                numbers = [Element(a).Z] * len(first) + [Element(b).Z] * len(second)
                coords = np.array([*first, *second], dtype=float).ravel().tolist()
                lattice = (4.5 * np.eye(3)).ravel().tolist()
                row = {"id": f"{name}-{a}{b}", "lattice": lattice, "numbers": numbers, "frac_coords": coords}
                rows.append(row)
    return rows


def cif(row: Crystal) -> str:
    """A P1 CIF with every digit."""
    from pymatgen.core import Element

    lattice = np.reshape(row["lattice"], (3, 3))
    pairs = (lattice[1], lattice[2]), (lattice[0], lattice[2]), (lattice[0], lattice[1])
    lengths = np.linalg.norm(lattice, axis=1)
    angles = [np.degrees(np.arctan2(np.linalg.norm(np.cross(u, v)), u @ v)) for u, v in pairs]
    lines = [f"data_{row['id']}", "_symmetry_space_group_name_H-M 'P 1'"]
    lines += [f"_cell_length_{axis} {length}" for axis, length in zip("abc", lengths, strict=True)]
    lines += [f"_cell_angle_{name} {angle}" for name, angle in zip(("alpha", "beta", "gamma"), angles, strict=True)]
    lines += ["loop_"]
    lines += [f"_atom_site_{name}" for name in ("label", "type_symbol", "fract_x", "fract_y", "fract_z")]
    coords = np.reshape(row["frac_coords"], (-1, 3))
    for number, (z, (x, y, w)) in enumerate(zip(row["numbers"], coords, strict=True)):
        symbol = Element.from_Z(int(z)).symbol
        lines.append(f"{symbol}{number} {symbol} {x} {y} {w}")
    return "\n".join(lines) + "\n"


def optimade(row: Crystal) -> dict[str, Any]:
    """An OPTIMADE structure."""
    from pymatgen.core import Element

    symbols = [Element.from_Z(int(z)).symbol for z in row["numbers"]]
    lattice = np.reshape(row["lattice"], (3, 3))
    return {
        "id": row["id"],
        "type": "structures",
        "attributes": {
            "lattice_vectors": lattice.tolist(),
            "cartesian_site_positions": (np.reshape(row["frac_coords"], (-1, 3)) @ lattice).tolist(),
            "species_at_sites": symbols,
            "species": [{"name": s, "chemical_symbols": [s], "concentration": [1.0]} for s in sorted(set(symbols))],
        },
    }


def write_folder(rows: list[Crystal], path: Path) -> Path:
    path.mkdir()
    for row in rows:
        (path / f"{row['id']}.cif").write_text(cif(row), encoding="utf-8")
    return path


def write_tar(rows: list[Crystal], path: Path, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for row in rows:
            data = cif(row).encode()
            member = tarfile.TarInfo(f"cifs/{row['id']}.cif")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def write_zip(rows: list[Crystal], path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for row in rows:
            archive.writestr(f"cifs/{row['id']}.cif", cif(row))
    return path


def write_jsonl(rows: list[Any], path: Path) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_parquet(rows: list[Crystal], path: Path) -> Path:
    pd.DataFrame(rows).to_parquet(path, row_group_size=50)
    return path


def write_dataset(rows: list[Crystal], path: Path) -> Path:
    from datasets import Dataset

    Dataset.from_list(rows).save_to_disk(str(path))
    return path


FORMS: dict[str, Callable[[list[Crystal], Path], Path]] = {
    "folder": lambda rows, path: write_folder(rows, path / "cifs"),
    "tar": lambda rows, path: write_tar(rows, path / "cifs.tar"),
    "tar.gz": lambda rows, path: write_tar(rows, path / "cifs.tar.gz", "w:gz"),
    "zip": lambda rows, path: write_zip(rows, path / "cifs.zip"),
    "jsonl": lambda rows, path: write_jsonl(rows, path / "rows.jsonl"),
    "optimade lines": lambda rows, path: write_jsonl([optimade(row) for row in rows], path / "structures.jsonl"),
    "parquet": lambda rows, path: write_parquet(rows, path / "rows.parquet"),
    "dataset": lambda rows, path: write_dataset(rows, path / "dataset"),
}


@pytest.fixture(scope="session")
def crystals() -> list[Crystal]:
    """144 crystals with different strings."""
    return make_crystals()


@pytest.fixture(scope="session")
def strings(crystals: list[Crystal]) -> dict[str, str]:
    """The canonical string of each crystal, by its id."""
    from cloud_hf import ScopeEncoder

    encoder = ScopeEncoder()
    return {row["id"]: encoder.encode(row) for row in crystals}


def tables(root: Path) -> dict[str, pd.DataFrame]:
    """Every table of a corpus, all of its rows in order."""
    return {
        kind: pd.concat([pd.read_parquet(path) for path in sorted((root / kind).glob("*.parquet"))], ignore_index=True)
        for kind in ("shards", "duplicates", "quarantine")
    }


def same_corpus(one: Path, two: Path) -> None:
    """Compare two corpora file by file."""
    names = [sorted(p.relative_to(root).as_posix() for p in root.rglob("*.parquet")) for root in (one, two)]
    assert names[0] == names[1]
    for name in names[0]:
        pd.testing.assert_frame_equal(pd.read_parquet(one / name), pd.read_parquet(two / name))
    assert (one / "corpus.json").read_text() == (two / "corpus.json").read_text()


def no_leftovers(root: Path) -> None:
    """No file of a write that was broken off, and none that is only needed on the way."""
    assert [path for path in root.rglob(".*") if path.is_file()] == []
    assert not (root / "work" / "encoded").exists()


@pytest.fixture(scope="session")
def mixed(crystals: list[Crystal], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Inputs of three forms that repeat each other and hold damaged crystals; tests must not change them."""
    path = tmp_path_factory.mktemp("mixed")
    folder = write_folder(crystals[:40], path / "a")
    (folder / "zz_broken.cif").write_text("no crystal at all", encoding="utf-8")
    table = write_parquet([*crystals[20:90], crystals[0] | {"id": "bad", "frac_coords": [0.0]}], path / "b.parquet")
    lines = write_jsonl(crystals[60:], path / "c.jsonl")
    with lines.open("a") as file:
        file.write('{"id": "cut", "lattice": [1, 0')
    return [str(folder), str(table), str(lines)]


@pytest.fixture(scope="session")
def corpus_folder(crystals: list[Crystal], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of 144 crystals in 15 shards; tests must not change it."""
    from cloud_hf.corpus import BuildSettings, build_corpus

    folder = tmp_path_factory.mktemp("corpora")
    table = write_jsonl([row | {"license": "CC-BY-4.0"} for row in crystals], folder / "toy.jsonl")
    build_corpus([str(table)], folder / "corpus", BuildSettings(rows=10), timeout=None)
    return folder / "corpus"
