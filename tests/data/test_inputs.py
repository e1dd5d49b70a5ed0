"""Everything that a user names becomes items: in order, none lost, errors included."""

from __future__ import annotations

import gzip
import inspect
import io
import os
import re
import shutil
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from cloud_hf import encode, predict, screen, search
from cloud_hf.data import tables
from cloud_hf.data.inputs import Item, collect_items, encode_item, encode_items, iterate_items, table_items
from cloud_hf.data.kept_strings import Workers
from cloud_hf.data.names import name_rows
from cloud_hf.errors import CloudError, TableError
from cloud_hf.inference.evaluation import evaluate_table
from cloud_hf.inference.prediction import predict_items
from cloud_hf.scope import TIMEOUT, EncodedCrystal, ScopeEncoder, encode_batch
from cloud_hf.screening.known import KnownStrings
from cloud_hf.screening.prototypes import read_prototypes
from waiting import Hang

EXAMPLES = Path(__file__).parents[2] / "examples"
COPPER = "1 0 0 | 2i | Cu 1.0"
SALT = {"lattice": [5.64, 0, 0, 0, 5.64, 0, 0, 0, 5.64], "numbers": [11, 17], "frac_coords": [0, 0, 0, 0.5, 0.5, 0.5]}
POSCAR = "W\n3.165\n1 0 0\n0 1 0\n0 0 1\nW\n2\nDirect\n0 0 0\n0.5 0.5 0.5\n"


@pytest.fixture
def encoder() -> ScopeEncoder:
    return ScopeEncoder("composition", canonical=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Crystal files in two levels, with names of every accepted form, and a file that is none."""
    root = tmp_path / "crystals"
    (root / "deep" / "deeper").mkdir(parents=True)
    shutil.copyfile(EXAMPLES / "Cu.cif", root / "b.CIF")
    shutil.copyfile(EXAMPLES / "Si.cif", root / "deep" / "a.cif")
    for name in ("POSCAR", "poscar_2", "CONTCAR.relaxed", "w.vasp", "w.poscar", "deep/deeper/W.VASP"):
        (root / name).write_text(POSCAR)
    (root / "notes.txt").write_text("not a crystal")
    return root


SEVERAL: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "generator": lambda given: (one for one in given),
    "deque": deque,
    "keys": lambda given: dict.fromkeys(map(str, given)).keys(),
    "values": lambda given: dict(enumerate(given)).values(),
    "array": lambda given: np.array(given, dtype=object),
    "array of text": lambda given: np.array([str(one) for one in given]),
    "series": lambda given: pd.Series(given, index=[7] * len(given), dtype=object),
    "index": lambda given: pd.Index(given, dtype=object),
    "column of a data set": lambda given: Dataset.from_dict({"path": [str(one) for one in given]})["path"],
    "lines of a file": lambda given: io.StringIO("".join(f"{one}\n" for one in given)),
}


@pytest.mark.parametrize("kind", SEVERAL)
def test_several_inputs_are_as_many_rows_in_their_order(kind: str) -> None:
    paths = [EXAMPLES / f"{name}.cif" for name in ("Si", "Cu", "W")]
    table = encode(SEVERAL[kind](paths), progress=False)
    assert table["formula"].tolist() == ["Si", "Cu", "W"], table["error"].tolist()
    assert table["source"].tolist() == [str(path) for path in paths]


def test_one_crystal_of_arrays_needs_no_list() -> None:
    arrays = (np.diag([3.165] * 3), [74, 74], [[0, 0, 0], [0.5, 0.5, 0.5]])
    one = encode(arrays, progress=False)
    assert one["formula"].tolist() == ["W"], one["error"].tolist()
    assert one["scope"].tolist() == encode([arrays], progress=False)["scope"].tolist()
    assert encode(tuple([str(EXAMPLES / "W.cif")] * 3), progress=False)["scope"].tolist() == one["scope"].tolist() * 3


def test_texts_of_files_are_read_as_the_files() -> None:
    paths = [EXAMPLES / f"{name}.cif" for name in ("SiO2_quartz", "Al2O3_corundum")]
    texts = [path.read_text(encoding="utf-8") for path in paths]
    structure = Structure.from_file(paths[0])
    given = [*texts, f"# | {texts[0]}", POSCAR, structure.to_json(), "\n".join(texts), "three\nblind\nmice"]
    table = encode(given, progress=False)
    quartz, corundum = encode(paths, progress=False)["scope"]
    assert table["scope"].iloc[[0, 1, 2, 4, 5, 6]].tolist() == [quartz, corundum, quartz, quartz, quartz, corundum]
    assert table["formula"].iloc[3] == "W"
    assert table["source"].iloc[:5].tolist() == [f"input {place} (text)" for place in range(5)]
    assert "not a readable POSCAR" in table["error"].iloc[7]
    broken = "1 4 b O O O c O O O d O O O e O O O 0 |\nSr 1a Ti 1b\nO 3c\n"
    assert encode(broken, progress=False)["formula"].tolist() == ["SrTiO3"]


def test_a_table_in_memory_may_hold_objects() -> None:
    structure = Structure.from_file(EXAMPLES / "Si.cif")
    cells = [structure, AseAtomsAdaptor.get_atoms(structure), structure.as_dict(), EXAMPLES / "Si.cif", 3.5]
    table = encode(pd.DataFrame({"structure": cells}, index=[4] * len(cells)), progress=False)
    assert table["formula"].iloc[:4].tolist() == ["Si"] * 4, table["error"].tolist()
    assert "not a path, CIF text or JSON" in table["error"].iloc[4]


def test_any_column_of_a_table_may_hold_the_crystals(tmp_path: Path) -> None:
    table = pd.DataFrame({"where": ["a/Si.cif", "gone.cif"], "scope": [COPPER, COPPER], "id": ["one", "two"]})
    (tmp_path / "a").mkdir()
    shutil.copyfile(EXAMPLES / "Si.cif", tmp_path / "a" / "Si.cif")
    table.to_csv(tmp_path / "t.csv", index=False)
    for given in (tmp_path / "t.csv", table.assign(where=[tmp_path / "a" / "Si.cif", "gone.cif"])):
        found = encode(given, structure="where", progress=False)
        assert found["formula"].tolist()[:1] == ["Si"], found["error"].tolist()
        assert found["source"].tolist() == ["one", "two"]
        assert "no such file" in found["error"].iloc[1]
        assert "there is no column 'x'" in encode(given, structure="x", progress=False)["error"].iloc[0]
    table.drop(columns="scope").to_csv(tmp_path / "t.csv", index=False)
    (said,) = encode(tmp_path / "t.csv", progress=False)["error"]
    assert "'scope', structure, cif, atoms or optimade" in said
    table.drop(columns="scope").rename(columns={"where": "structure"}).to_csv(tmp_path / "t.csv", index=False)
    assert encode(tmp_path / "t.csv", progress=False)["formula"].iloc[0] == "Si"


def test_files_of_this_folder_are_named_as_they_are(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert {item.source for item in collect_items(["."])} >= {"b.CIF", "deep/a.cif"}


def test_a_folder_gives_every_crystal_file_below_it_once(folder: Path, encoder: ScopeEncoder) -> None:
    for name in ("poscar_2.json", "POSCAR.tar.gz"):
        (folder / name).write_text("what no POSCAR begins with")
    items = [encode_item(item, encoder) for item in collect_items([str(folder)])]
    names = {Path(item.source).relative_to(folder).as_posix() for item in items}
    assert names == {
        "b.CIF", "deep/a.cif", "POSCAR", "poscar_2", "CONTCAR.relaxed", "w.vasp", "w.poscar", "deep/deeper/W.VASP",
    }  # fmt: skip
    assert len(items) == len(names)
    assert [item.error for item in items] == [None] * len(items)
    assert {item.formula for item in items} == {"Cu", "Si", "W"}


def test_compressed_files_of_a_folder_are_read_as_they_are_without(folder: Path, encoder: ScopeEncoder) -> None:
    plain = [encode_item(item, encoder).scope for item in collect_items([str(folder)])]
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        (path.with_name(f"{path.name}.GZ")).write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    packed = collect_items([str(folder)])
    assert all(item.source.endswith(".GZ") for item in packed)
    assert [encode_item(item, encoder).scope for item in packed] == plain


@pytest.mark.parametrize("broken", [False, True])
def test_every_block_of_a_compressed_cif_has_an_item(tmp_path: Path, encoder: ScopeEncoder, broken: bool) -> None:
    path = tmp_path / "several.cif.gz"
    data = gzip.compress(b"".join((EXAMPLES / name).read_bytes() for name in ("Cu.cif", "Si.cif")))
    path.write_bytes(data[: len(data) // 2] if broken else data)
    found = list(encode_items(collect_items([str(path)]), encoder))
    if broken:
        assert [str(path) in str(item.error) for item in found] == [True]
    else:
        assert [item.formula for item in found] == ["Cu", "Si"]


def test_a_folder_is_listed_in_the_same_order_each_time(folder: Path) -> None:
    first = [item.source for item in collect_items([str(folder)])]
    assert first == sorted(first)
    assert first == [item.source for item in collect_items([str(folder)])]


def test_a_folder_without_crystals_is_one_error(tmp_path: Path, encoder: ScopeEncoder) -> None:
    (item,) = (encode_item(item, encoder) for item in collect_items([str(tmp_path)]))
    assert str(tmp_path) in item.source
    assert "no crystal files" in str(item.error)


def test_a_glob_is_sorted_and_may_recurse(folder: Path) -> None:
    flat = collect_items([str(folder / "*.vasp")])
    deep = collect_items([str(folder / "**" / "*.cif")])
    assert [Path(item.source).name for item in flat] == ["w.vasp"]
    assert [Path(item.source).name for item in deep] == ["a.cif"]
    assert [Path(item.source).name for item in collect_items([str(folder / "w*")])] == ["w.poscar", "w.vasp"]


def test_a_glob_without_matches_is_one_error(tmp_path: Path, encoder: ScopeEncoder) -> None:
    (item,) = (encode_item(item, encoder) for item in collect_items([str(tmp_path / "*.cif")]))
    assert "no file matches" in str(item.error)


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path, encoder: ScopeEncoder) -> None:
    path = tmp_path / "Cu[1].cif"
    shutil.copyfile(EXAMPLES / "Cu.cif", path)
    (item,) = collect_items([str(path)])
    assert encode_item(item, encoder).formula == "Cu"


def test_a_bad_match_of_a_glob_costs_only_its_own_row(tmp_path: Path, encoder: ScopeEncoder) -> None:
    shutil.copyfile(EXAMPLES / "Cu.cif", tmp_path / "a.cif")
    (tmp_path / "b.csv").write_text("x\n1\n")
    (tmp_path / "c").mkdir()
    shutil.copyfile(EXAMPLES / "Si.cif", tmp_path / "d.cif")
    items = [encode_item(item, encoder) for item in collect_items([str(tmp_path / "*")])]
    assert [Path(item.source).name for item in items if item.error is None] == ["a.cif", "d.cif"]
    assert len(items) == 4


def test_inputs_of_all_kinds_keep_their_order(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "strings.csv"
    table.write_text(f"id,scope\nfirst,{COPPER}\nsecond,{COPPER}\n")
    inputs = [COPPER, str(table), str(tmp_path / "absent.cif"), str(folder / "w.vasp"), str(tmp_path / "x*y"), COPPER]
    sources = [item.source for item in collect_items(inputs)]
    assert sources == [COPPER, "first", "second", *inputs[2:]]
    assert [item.source for item in collect_items(inputs[::-1])] == [*inputs[:1:-1], "first", "second", COPPER]


@pytest.mark.parametrize("text", ["absent.cif", "absent.csv", "absent", "*.none", "nowhere/", "| |", "|", "1 0 0 |"])
def test_every_input_gives_an_item(text: str, encoder: ScopeEncoder, tmp_path: Path) -> None:
    name = text if "|" in text else str(tmp_path / text)
    items = [encode_item(item, encoder) for item in collect_items([name])]
    assert [item.source.rstrip("/") for item in items] == [name.rstrip("/")]


def test_a_very_long_string_is_a_string_and_no_file_name(encoder: ScopeEncoder) -> None:
    text = "1 0 0 | " + " ".join(["2i"] * 200) + " | Cu 1.0"
    (item,) = collect_items([text])
    assert (item.scope, item.error) == (text, None)


def test_a_table_without_rows_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "empty.csv"
    path.write_text("scope\n")
    (item,) = collect_items([str(path)])
    assert str(path) in str(item.error)


class TestTables:
    @pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
    def test_one_item_a_row_in_order(self, tmp_path: Path, suffix: str) -> None:
        from cloud_hf.data.tables import write_table

        scopes = [COPPER, None, "garbage", COPPER, "0 0 0 | 1a | Na 1.0"]
        path = tmp_path / f"t{suffix}"
        write_table(pd.DataFrame({"scope": scopes, "y": range(5)}), path)
        items = collect_items([str(path)])
        assert [item.scope for item in items] == scopes
        assert [item.source for item in items] == [f"{path}:{row}" for row in range(5)]
        assert [item.error is None for item in items] == [True, False, True, True, True]

    @pytest.mark.parametrize("suffix", [".csv.gz", ".jsonl.gz", ".ndjson", ".JSONL.xz", ".csv.bz2"])
    def test_compressed_tables_are_tables(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"t{suffix}"
        frame = pd.DataFrame({"scope": [COPPER, COPPER]})
        if "csv" in suffix:
            frame.to_csv(path, index=False)
        else:
            frame.to_json(path, orient="records", lines=True, compression="xz" if "xz" in suffix else "infer")
        assert [item.scope for item in collect_items([str(path)])] == [COPPER, COPPER]
        assert len(tables.read_table(path)) == 2

    def test_structure_columns_win_over_strings(self, encoder: ScopeEncoder) -> None:
        table = pd.DataFrame([{"scope": COPPER, **SALT}])
        (item,) = (encode_item(item, encoder) for item in table_items(table, "t.parquet"))
        assert (item.formula, item.n_atoms) == ("NaCl", 2.0)
        assert item.scope != COPPER

    def test_the_number_of_atoms_of_a_structure_is_its_own(self, encoder: ScopeEncoder) -> None:
        (item,) = table_items(pd.DataFrame([SALT]), "t.parquet", n_atoms="99")
        assert encode_item(item, encoder).n_atoms == 2.0

    def test_a_bad_structure_is_a_row_between_good_ones(self, encoder: ScopeEncoder) -> None:
        bad: list[dict[str, object]] = [
            SALT | {"lattice": None},
            SALT | {"numbers": [11]},
            SALT | {"numbers": [11, 500]},
            SALT | {"lattice": [0.0] * 9},
            SALT | {"lattice": [float("nan")] * 9},
            SALT | {"frac_coords": [0, 0, 0, 0, 0, 0.001]},
            SALT | {"numbers": [], "frac_coords": []},
        ]
        rows = [dict(SALT), *bad, dict(SALT)]
        table = pd.DataFrame([{"id": f"row {index}", **row} for index, row in enumerate(rows)])
        items = [encode_item(item, encoder) for item in table_items(table, "t.parquet")]
        assert [item.source for item in items] == [f"row {index}" for index in range(len(rows))]
        assert [item.error is None for item in items] == [True, *[False] * len(bad), True]

    def test_an_id_names_the_row(self) -> None:
        table = pd.DataFrame({"id": ["mp-1", None, 7], "scope": [COPPER] * 3})
        assert [item.source for item in table_items(table, "t.csv")] == ["mp-1", "t.csv:1", "7"]

    def test_without_a_usable_column(self) -> None:
        with pytest.raises(TableError, match=r"t\.csv.*scope.*lattice.*formula, lattice"):
            list(table_items(pd.DataFrame({"formula": ["Cu"], "lattice": [1]}), "t.csv"))

    @pytest.mark.parametrize("index", ["id", "name", None])
    def test_an_index_named_id_is_the_column(self, tmp_path: Path, index: str | None) -> None:
        """As pandas writes a table that was indexed by it."""
        path = tmp_path / "t.parquet"
        frame = pd.DataFrame({"scope": [COPPER] * 3}, index=pd.Index(["mp-1", "mp-2", "mp-1"], name=index))
        frame.to_parquet(path)
        for items in (collect_items([str(path)]), list(table_items(tables.read_table(path), path))):
            named = [item.source for item in items]
            assert (named == ["mp-1", "mp-2", "mp-1"]) is (index == "id")

    @pytest.mark.parametrize("column", ["structure", "cif", "atoms", "optimade"])
    def test_a_column_of_a_usual_name_holds_crystals_where_no_strings_are(self, column: str) -> None:
        text = (EXAMPLES / "MgO.cif").read_text()
        (item,) = table_items(pd.DataFrame({column: [text]}), "t.csv")
        assert encode_item(item, ScopeEncoder()).formula == "MgO"
        (item,) = table_items(pd.DataFrame({column: [text], "scope": [COPPER]}), "t.csv")
        assert item.scope == COPPER


class TestAtoms:
    def test_a_number_holds_for_strings_and_tables(self, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        path.write_text(f"scope\n{COPPER}\n{COPPER}\n")
        assert [item.n_atoms for item in collect_items([COPPER, str(path)], "4")] == [4.0, 4.0, 4.0]

    def test_a_column_belongs_to_its_rows(self, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        path.write_text(f"scope,atoms\n{COPPER},3\n{COPPER},\n{COPPER},1.5\n")
        assert [item.n_atoms for item in collect_items([str(path)], "atoms")] == [3.0, None, 1.5]

    def test_without_it_nothing_is_assumed(self, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        path.write_text(f"scope,n_atoms\n{COPPER},3\n")
        assert [item.n_atoms for item in collect_items([COPPER, str(path)])] == [None, None]

    def test_a_column_for_a_bare_string_is_an_error_row(self) -> None:
        (item,) = collect_items([COPPER], "atoms")
        assert "atoms" in str(item.error)

    @pytest.mark.parametrize("text", ["scope\n{0}\n", "scope,atoms\n{0},many\n", "scope,atoms\n{0},inf\n"])
    def test_a_bad_column_is_an_error_row(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "t.csv"
        path.write_text(text.format(COPPER))
        (item,) = collect_items([str(path)], "atoms")
        assert "atoms" in str(item.error)


class TestEncodeItem:
    def test_what_the_encoder_says_is_filled_in(self, encoder: ScopeEncoder) -> None:
        (item,) = collect_items([str(EXAMPLES / "Cu.cif")])
        done = encode_item(item, encoder)
        assert (done.formula, done.space_group, done.space_group_symbol, done.n_atoms) == ("Cu", 225, "Fm-3m", 1.0)
        assert done.scope == encoder.encode(EXAMPLES / "Cu.cif")
        assert done.crystal is None

    def test_a_string_is_kept_and_its_space_group_recognised(self, encoder: ScopeEncoder) -> None:
        done = encode_item(Item(source=COPPER, scope=COPPER, n_atoms=2.0), encoder)
        assert (done.scope, done.space_group, done.n_atoms, done.error) == (COPPER, 2, 2.0, None)

    def test_an_error_stays(self, encoder: ScopeEncoder) -> None:
        item = Item(source="x", error=TableError("why"))
        assert encode_item(item, encoder) == item

    def test_it_never_raises(self) -> None:
        class Broken(ScopeEncoder):
            def describe(self, crystal: object) -> None:  # type: ignore[override]
                raise ZeroDivisionError("deep inside a library")

        done = encode_item(Item(source="a.cif", crystal="a.cif"), Broken())
        assert "ZeroDivisionError" in str(done.error)
        assert "a.cif" in str(done.error)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("O O O | 2i | Cu 1.0", "space group"),
        ("1 0 0 | 4a | Cu 1.0", "4a"),
        ("1 0 0 | 2i | Cu 0.3", "sum|add"),
        ("1 0 0 | 2i | Cu 0.5 Cu 0.5", "already"),
        ("1 0 0 | 2i | Zz 1.0", "Zz"),
        ("1 [UNK] 0 | 2i | Cu 1.0", "UNK|begin"),
        ("1 0 0 | 2i 2i | Cu Cu", "grammar"),
        ("foo | bar", "SCOPE"),
    ],
)
def test_a_string_that_no_crystal_has_is_an_error(text: str, reason: str, encoder: ScopeEncoder) -> None:
    (item,) = [encode_item(item, encoder) for item in collect_items([text])]
    assert item.error is not None
    assert re.search(reason, str(item.error)), item.error


@pytest.mark.parametrize("text", ["", "  ", "x" * 5000])
def test_an_input_that_is_no_name_is_an_error(text: str, encoder: ScopeEncoder) -> None:
    (item,) = [encode_item(item, encoder) for item in collect_items([text])]
    assert item.error is not None


def test_strings_are_canonicalised_for_a_canonical_encoder() -> None:
    salt = "1 6 a O D D a D O D b O O O c O O O d O O O e O O O 0 |"
    items = [
        encode_item(item, ScopeEncoder()) for item in collect_items([f"{salt} Cl 4a Na 4b", f"{salt} Na 4a Cl 4b"])
    ]
    assert {item.scope for item in items} == {f"{salt} Na 4a Cl 4b"}
    assert [(item.formula, item.n_atoms, item.space_group) for item in items] == [("NaCl", 2, 225)] * 2


@pytest.mark.parametrize("atoms", ["0", "nan", "inf", "-3"])
def test_a_number_of_atoms_below_one_is_refused(atoms: str) -> None:
    (item,) = collect_items([COPPER], atoms)
    assert item.error is not None


class TestSeveralBlocks:
    @pytest.fixture
    def cif(self, tmp_path: Path) -> Path:
        """Two crystals, and a block without atoms between them."""
        texts = [(EXAMPLES / name).read_text() for name in ("Cu.cif", "Si.cif")]
        path = tmp_path / "two.cif"
        path.write_text("\n".join([texts[0], "data_notes\n_audit_creation_method 'by hand'\n", texts[1]]))
        return path

    def test_each_block_with_atoms_is_a_row(self, cif: Path, encoder: ScopeEncoder) -> None:
        items = list(encode_items(iterate_items([str(cif)]), encoder))
        assert [item.formula for item in items] == ["Cu", "Si"]
        assert all(item.source.startswith(f"{cif}#") for item in items)
        assert len({item.source for item in items}) == 2

    @pytest.mark.parametrize("canonical", [True, False])
    def test_the_strings_are_those_of_the_files_alone(self, tmp_path: Path, canonical: bool) -> None:
        encoder = ScopeEncoder("composition", canonical)
        paths = sorted(EXAMPLES.glob("*.cif"))
        (tmp_path / "all.cif").write_text("\n".join(path.read_text() for path in paths))
        items = iterate_items([str(tmp_path)])
        alone = [encoder.encode(path) for path in paths]
        assert [item.scope for item in encode_items(items, encoder, 2, 60.0)] == alone

    def test_a_bad_block_costs_its_row(self, cif: Path, encoder: ScopeEncoder) -> None:
        text = cif.read_text()
        cif.write_text(text + "\ndata_bad\n_cell_length_a x\nloop_\n_atom_site_label\n_atom_site_fract_x\nNa1 0.0\n")
        items = list(encode_items(iterate_items([str(cif)]), encoder))
        assert [item.error is None for item in items] == [True, True, False]
        assert items[2].source == f"{cif}#bad"

    def test_one_block_keeps_the_name_of_the_file(self, tmp_path: Path, encoder: ScopeEncoder) -> None:
        path = tmp_path / "one.cif"
        path.write_text("data_notes\n_audit_creation_method x\n" + (EXAMPLES / "Cu.cif").read_text())
        (item,) = encode_items(iterate_items([str(path)]), encoder)
        assert (item.source, item.formula) == (str(path), "Cu")


class TestLazily:
    def test_a_table_is_read_piece_by_piece(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "t.csv"
        path.write_text("scope\n" + f"{COPPER}\n" * 100)
        lengths = []
        original = tables.read_chunks

        def noted(*arguments):
            for chunk in original(*arguments, rows=10):
                lengths.append(len(chunk))
                yield chunk

        monkeypatch.setattr("cloud_hf.data.inputs.read_chunks", noted)
        items = iterate_items([str(path)])
        assert [next(items).source for _ in range(11)] == [f"{path}:{row}" for row in range(11)]
        assert lengths == [10, 10]
        assert len(list(items)) == 89

    def test_a_folder_is_walked_as_its_items_are_asked_for(self, folder: Path) -> None:
        items = iterate_items([str(folder)])
        first = next(items)
        shutil.rmtree(folder / "deep")
        assert "deep" not in first.source
        errors = [item.error for item in (encode_item(item, ScopeEncoder()) for item in items) if item.error]
        assert len(errors) == 1
        assert "deep" in str(errors[0])

    def test_a_linked_folder_is_not_followed(self, folder: Path) -> None:
        (folder / "POSCAR_back").symlink_to(folder, target_is_directory=True)
        assert len(collect_items([str(folder)])) == 8


def repr_of(error: CloudError | None) -> tuple[object, ...]:
    return type(error), str(error), getattr(error, "source", None)


@pytest.mark.parametrize(("processes", "timeout"), [(1, None), (1, 60.0), (2, 60.0)])
def test_items_of_all_kinds_are_encoded_in_order(folder: Path, processes: int, timeout: float | None) -> None:
    inputs = [COPPER, "garbage | x", str(folder), "absent.cif", COPPER]
    encoder = ScopeEncoder("composition")
    expected = [encode_item(item, encoder) for item in collect_items(inputs)]
    found = list(encode_items(iterate_items(inputs), encoder, processes, timeout))
    assert [replace(item, error=None) for item in found] == [replace(item, error=None) for item in expected]
    assert [repr_of(item.error) for item in found] == [repr_of(item.error) for item in expected]
    assert [item.is_encoded for item in expected] == [False, False, *[True] * 8, False, False]


@pytest.mark.parametrize(
    "function",
    [encode, encode_batch, encode_items, evaluate_table, KnownStrings.and_of, name_rows, predict, predict_items,
     read_prototypes, screen, search, Workers],
)  # fmt: skip
def test_every_way_to_a_crystal_has_the_same_limit(function: Callable[..., Any]) -> None:
    assert inspect.signature(function).parameters["timeout"].default == TIMEOUT


def test_strings_need_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_hf.data.inputs.encode_pairs", None)
    assert [item.error for item in encode_items(iterate_items([COPPER, COPPER]), ScopeEncoder("composition"))] == [
        None,
        None,
    ]


def test_a_crystal_that_kills_or_hangs_costs_its_row_and_is_named(hang: Hang) -> None:
    items = [Item(name, crystal=name) for name in ("a.cif", "hang.cif", "b.cif", "die.cif", "c.cif")]
    encoder = Dangerous()
    encoder.hang = hang
    rows = list(encode_items(items, encoder, 2, 600.0))
    assert [row.scope for row in rows] == ["a.cif", None, "b.cif", None, "c.cif"]
    assert [row.source for row in rows] == [item.source for item in items]
    assert (
        str(rows[1].error)
        == "hang.cif: not encoded within the time limit of 600 s; raise `timeout`, or leave the crystal out."
    )
    assert str(rows[3].error).startswith("die.cif: the worker process died (exit status 3)")


class Dangerous(ScopeEncoder):
    """Encoder that hangs or dies of some crystals."""

    hang: Hang

    def describe(self, crystal: object) -> EncodedCrystal:
        if crystal == "hang.cif":
            self.hang()
        if crystal == "die.cif":
            os._exit(3)
        return EncodedCrystal(str(crystal), "X", 1, "P1", 1.0)
