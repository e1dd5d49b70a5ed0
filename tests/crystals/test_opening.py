"""One way from whatever holds a crystal to the crystal: the same content gives the same, by every route."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cloud_hf.crystals import frames, opening
from cloud_hf.crystals.sources import Raw
from cloud_hf.data.inputs import Item, encode_items, iterate_items, table_items
from cloud_hf.errors import SeveralCrystalsError
from cloud_hf.scope import ScopeEncoder

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("Cu", "Si", "MgO")
TUNGSTEN = "W\n3.165\n1 0 0\n0 1 0\n0 0 1\nW\n2\nDirect\n0 0 0\n0.5 0.5 0.5\n"


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    return {name: (EXAMPLES / f"{name}.cif").read_text() for name in NAMES}


def encoded(*inputs: object, grammar: str = "composition", timeout: float | None = None) -> list[Item]:
    """In this process unless there is a limit in seconds: a worker for each call costs more than its crystals."""
    return list(encode_items(iterate_items(map(str, inputs)), ScopeEncoder(grammar), timeout=timeout))


def formulas(items: list[Item]) -> list[str | None]:
    return [item.formula or item.message for item in items]


# ------------------------------------------------------------------------------------------------ the same content


def as_file(name: str, data: bytes, folder: Path) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def as_member_of_tar(name: str, data: bytes, folder: Path, mode: str = "w") -> Path:
    path = folder / "crystals.tar"
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        member = tarfile.TarInfo(name)
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return path


def as_member_of_zip(name: str, data: bytes, folder: Path) -> Path:
    path = folder / "crystals.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, data)
    return path


def in_a_column(suffix: str) -> Callable[[str, bytes, Path], Path]:
    def write(name: str, data: bytes, folder: Path) -> Path:
        path = folder / f"table{suffix}"
        frame = pd.DataFrame({"id": ["x"], "structure": [data.decode("utf-8", errors="replace")]})
        if suffix == ".csv":
            frame.to_csv(path, index=False)
        elif suffix == ".jsonl":
            frame.to_json(path, orient="records", lines=True)
        else:
            frame.to_parquet(path)
        return path

    return write


ROUTES: dict[str, Callable[[str, bytes, Path], Path]] = {
    "folder": lambda name, data, folder: as_file(name, data, folder).parent,
    "gzip": lambda name, data, folder: as_file(f"{name}.gz", gzip.compress(data), folder),
    "bzip2": lambda name, data, folder: as_file(f"{name}.bz2", bz2.compress(data), folder),
    "tar": as_member_of_tar,
    "packed member of tar": lambda name, data, folder: as_member_of_tar(f"{name}.gz", gzip.compress(data), folder),
    "tar.gz": lambda name, data, folder: as_member_of_tar(name, data, folder, "w:gz"),
    "zip": as_member_of_zip,
    "csv": in_a_column(".csv"),
    "jsonl": in_a_column(".jsonl"),
    "parquet": in_a_column(".parquet"),
}

CONTENTS = {
    "cif": ("a.cif", None),
    "poscar": ("a.vasp", TUNGSTEN),
    "windows": ("a.vasp", TUNGSTEN.replace("\n", "\r\n")),
    "no elements": ("a.vasp", TUNGSTEN.replace("W\n2\n", "2\n").replace("W\n", "unknown\n", 1)),
    "no cell": ("a.cif", "data_x\nloop_\n_atom_site_label\n_atom_site_fract_x\nNa1 0.0\n"),
    "no atoms": ("a.cif", "data_x\n_cell_length_a 3\n_cell_length_b 3\n"),
    "cut": ("a.vasp", "W\n3.165\n1 0 0\n0 1 0\n"),
    "endless number": ("a.vasp", TUNGSTEN.replace("3.165", "1" * 70)),
}


def content_of(content: str, texts: dict[str, str]) -> tuple[str, bytes]:
    """Name and bytes of a file of `CONTENTS`."""
    name, text = CONTENTS[content]
    return name, (text or texts["MgO"]).encode()


@pytest.fixture(scope="module")
def files_alone(texts: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Item]:
    """What a worker makes of each of `CONTENTS` as a file, which is compared with every route in this process."""
    found = {}
    for content in CONTENTS:
        (found[content],) = encoded(as_file(*content_of(content, texts), tmp_path_factory.mktemp("alone")), timeout=60)
    return found


@pytest.mark.parametrize("route", ROUTES)
def test_the_same_content_gives_the_same_by_every_route(
    route: str, texts: dict[str, str], files_alone: dict[str, Item], tmp_path: Path
) -> None:
    for number, (content, file) in enumerate(files_alone.items()):
        (tmp_path / f"other{number}").mkdir()
        (other,) = encoded(ROUTES[route](*content_of(content, texts), tmp_path / f"other{number}"))
        if (file.error is None) != (content in ("cif", "poscar", "windows")):
            pytest.fail(f"{content}: {file.message}")
        assert (file.scope, type(file.error)) == (other.scope, type(other.error)), (content, other.message)
        if file.error is not None and other.error is not None:
            assert file.error.reason == other.error.reason
            assert (file.error.source, other.error.source) == (file.source, other.source)


@pytest.mark.parametrize("form", ["pymatgen", "optimade", "jarvis", "arrays"])
def test_a_line_of_json_and_the_object_give_the_same(form: str, tmp_path: Path) -> None:
    from pymatgen.core import Structure

    structure = Structure.from_file(EXAMPLES / "MgO.cif")
    symbols = [site.specie.symbol for site in structure]
    row: dict[str, Any] = {
        "pymatgen": structure.as_dict(),
        "optimade": {
            "id": "x",
            "type": "structures",
            "attributes": {
                "lattice_vectors": structure.lattice.matrix.tolist(),
                "cartesian_site_positions": structure.cart_coords.tolist(),
                "species_at_sites": symbols,
                "species": [{"name": s, "chemical_symbols": [s], "concentration": [1.0]} for s in sorted(set(symbols))],
            },
        },
        "jarvis": {
            "lattice_mat": structure.lattice.matrix.tolist(),
            "coords": structure.frac_coords.tolist(),
            "elements": symbols,
            "cartesian": False,
        },
        "arrays": {
            "lattice": structure.lattice.matrix.ravel().tolist(),
            "numbers": list(structure.atomic_numbers),
            "frac_coords": structure.frac_coords.ravel().tolist(),
        },
    }[form]
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    items = encoded(path, grammar="sites")
    assert [item.scope for item in items] == [ScopeEncoder().encode(row)]


# ------------------------------------------------------------------------------------------------ many in one file


def xyz(*formulas: str, edge: float = 4.0) -> str:
    head = f'Lattice="{edge} 0 0 0 {edge} 0 0 0 {edge}" Properties=species:S:1:pos:R:3 pbc="T T T"'
    return "".join(f"1\n{head}\n{symbol} 0 0 0\n" for symbol in formulas)


def test_every_structure_of_a_file_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pieces it is read in; a bad one costs its own row."""
    ase = pytest.importorskip("ase")
    from ase.db import connect
    from ase.io import write

    symbols = ["Cu", "Ag", "Au", "Ni", "Pd", "Pt", "Na"]
    images = [ase.Atoms(symbol, cell=[4, 4, 4], pbc=True) for symbol in symbols]
    (tmp_path / "m.xyz").write_text(xyz(*symbols[:3], "Qq", *symbols[4:]))
    write(tmp_path / "m.traj", images)
    with connect(tmp_path / "m.db") as database:
        for atoms in images:
            database.write(atoms)
    for piece in (200, 3, 1):
        monkeypatch.setattr(frames, "PIECE", piece)
        for name in ("m.xyz", "m.traj", "m.db"):
            items = encoded(tmp_path / name)
            assert [item.source for item in items] == [f"{tmp_path / name}#{number}" for number in range(7)]
            failed = [number for number, item in enumerate(items) if item.error]
            assert failed == ([3] if name == "m.xyz" else [])
            assert [i.formula for i in items if i.formula] == [s for n, s in enumerate(symbols) if n not in failed]


def test_a_file_of_structures_that_holds_one_keeps_its_name(tmp_path: Path) -> None:
    pytest.importorskip("ase")
    (tmp_path / "one.extxyz").write_text(xyz("Cu"))
    (tmp_path / "cut.extxyz").write_text(xyz("Cu", "Ag") + "Au 0 0 0\n")
    (tmp_path / "none.xyz").write_text("\n")
    items = encoded(
        *(tmp_path / name for name in ("one.extxyz", "cut.extxyz", "none.xyz", "absent.xyz", "absent.traj"))
    )
    assert [Path(item.source).name for item in items] == [
        "one.extxyz", "cut.extxyz#0", "cut.extxyz#1", "cut.extxyz#2", "none.xyz", "absent.xyz", "absent.traj",
    ]  # fmt: skip
    assert [item.formula for item in items] == ["Cu", "Cu", "Ag", None, None, None, None]
    reasons = ("no number of atoms", "no structures", "o such file", "no such file")
    assert all(reason in str(item.message) for reason, item in zip(reasons, items[3:], strict=True))


def test_any_file_that_ase_reads_as_several_is_several_rows(tmp_path: Path) -> None:
    ase = pytest.importorskip("ase")
    from ase.io import write

    images = [ase.Atoms(symbol, cell=[4, 4, 4], pbc=True) for symbol in ("Cu", "Ag")]
    (tmp_path / "XDATCAR").write_text(
        "Cu\n1.0\n4 0 0\n0 4 0\n0 0 4\nCu\n1\nDirect configuration=     1\n0 0 0\n"
        "Direct configuration=     2\n0.1 0 0\n"
    )
    write(tmp_path / "two.json", images)
    for name, found in (("XDATCAR", ["Cu", "Cu"]), ("two.json", ["Cu", "Ag"])):
        path = tmp_path / name
        items = encoded(path)
        assert [(item.source, item.formula) for item in items] == [(f"{path}#{i}", f) for i, f in enumerate(found)]
        assert [source for source, _ in opening.read_cells(path)] == [item.source for item in items]
    with pytest.raises(SeveralCrystalsError, match="2 structures"):
        ScopeEncoder().encode(tmp_path / "two.json")


def test_blocks_without_atoms_are_passed_over(texts: dict[str, str], tmp_path: Path) -> None:
    empty = "data_none\n_cell_length_a 5\nloop_\n_atom_site_label\n_atom_site_fract_x\n? ?\n"
    one = as_file("one.cif", (texts["Cu"] + empty).encode(), tmp_path)
    two = as_file("two.cif", (texts["Cu"] + empty + texts["Si"]).encode(), tmp_path)
    items = encoded(one, two)
    assert formulas(items) == ["Cu", "Cu", "Si"]
    assert [item.source.partition("#")[0] for item in items] == [str(one), str(two), str(two)]


@pytest.mark.parametrize("form", ["text", "path"])
def test_a_row_of_a_table_is_one_crystal(form: str, texts: dict[str, str], tmp_path: Path) -> None:
    """A label beside it could belong to either, so several are an error that names them."""
    text = "\n".join(texts.values())
    as_file("three.cif", text.encode(), tmp_path)
    table = pd.DataFrame({"structure": [texts["Cu"], text if form == "text" else "three.cif", "Cu"]})
    items = list(encode_items(table_items(table, tmp_path / "t.csv", column="structure"), ScopeEncoder()))
    assert items[0].formula == "Cu"
    assert "holds several crystals" in str(items[1].message)
    assert "no such file" in str(items[2].message)


def test_an_archive_without_crystals_is_one_error(tmp_path: Path) -> None:
    (item,) = encoded(as_member_of_zip("notes.txt", b"no crystal", tmp_path))
    assert "no crystal files" in str(item.message)


@pytest.mark.parametrize("form", ["folder", "zip", "tar"])
def test_what_macos_lays_beside_files_is_no_crystal(form: str, texts: dict[str, str], tmp_path: Path) -> None:
    data = {"dir/a.cif": next(iter(texts.values())).encode()}
    data |= dict.fromkeys(("__MACOSX/dir/._a.cif", "dir/._a.cif", "dir/._POSCAR.GZ"), b"\x00\x05\x16\x07")
    if form == "zip":
        with zipfile.ZipFile(path := tmp_path / "a.zip", "w") as archive:
            for name, content in data.items():
                archive.writestr(name, content)
    else:
        for name, content in data.items():
            (tmp_path / "all" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "all" / name).write_bytes(content)
        path = tmp_path / "all"
        if form == "tar":
            with tarfile.open(tmp_path / "a.tar", "w") as archive:
                archive.add(path, "")
            path = tmp_path / "a.tar"
    (item,) = encoded(path)
    assert item.error is None
    assert item.source.endswith("a.cif")


# ------------------------------------------------------------------------------------------------ limits


def write_route(route: str, texts: list[str], folder: Path) -> Path:
    """Three crystals by one route."""
    if route == "files":
        for number, text in enumerate(texts):
            (folder / f"{number}.cif").write_text(text)
        return folder
    if route == "blocks":
        return as_file("all.cif", "\n".join(texts).encode(), folder)
    if route == "structures of a file":
        return as_file("all.extxyz", xyz("Cu", "Si").replace("Si", "HANGS").encode() + xyz("Mg").encode(), folder)
    if route in ("csv", "jsonl", "parquet"):
        path = folder / f"t.{route}"
        frame = pd.DataFrame({"cif": texts})
        if route == "csv":
            frame.to_csv(path, index=False)
        elif route == "jsonl":
            frame.to_json(path, orient="records", lines=True)
        else:
            frame.to_parquet(path)
        return path
    if route == "zip":
        with zipfile.ZipFile(folder / "a.zip", "w") as archive:
            for number, text in enumerate(texts):
                archive.writestr(f"{number}.cif", text)
        return folder / "a.zip"
    with tarfile.open(folder / "a.tar", "w") as tar:
        for number, text in enumerate(texts):
            member = tarfile.TarInfo(f"{number}.cif")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return folder / "a.tar"


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("route", ["files", "blocks", "csv", "jsonl", "parquet", "tar", "zip", "structures of a file"])
def test_a_crystal_that_hangs_while_it_is_parsed_costs_its_own_row(
    route: str, processes: int, texts: dict[str, str], hanging_parser: None, tmp_path: Path
) -> None:
    if route == "structures of a file":
        pytest.importorskip("ase")
    three = [texts["Cu"], texts["Si"] + "# HANGS\n", texts["MgO"]]
    items = iterate_items([str(write_route(route, three, tmp_path))])
    rows = list(encode_items(items, ScopeEncoder(), processes, timeout=600.0))
    assert [type(row.error).__name__ for row in rows] == ["NoneType", "EncodingTimeoutError", "NoneType"]
    assert rows[1].error is not None
    assert (rows[1].error.source, rows[1].error.flag) == (rows[1].source, "timeout")
    assert rows[0].formula == "Cu"


def test_nothing_is_parsed_before_the_workers(
    texts: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Naming what there is looks into no crystal."""

    def refuse(*_: Any) -> None:
        raise AssertionError("parsed in the parent")

    monkeypatch.setattr(opening, "_cell_of", refuse)
    for route in ("files", "blocks", "csv", "tar", "zip"):
        (tmp_path / route).mkdir()
        path = write_route(route, list(texts.values()), tmp_path / route)
        items = list(iterate_items([str(path)]))
        assert len(items) == (1 if route == "blocks" else 3)
        assert all(isinstance(item.crystal, Raw) for item in items)
