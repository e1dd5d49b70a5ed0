"""Inputs that are damaged or hostile: named in the quarantine, never fatal to the rest."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cloud_hf.corpus import BuildSettings, build_corpus
from cloud_hf.corpus import sources as sources_module
from cloud_hf.errors import CorpusError

from .conftest import Crystal, cif, tables, write_folder, write_jsonl, write_parquet, write_tar, write_zip


def build(path: Path, output: Path) -> tuple[dict[str, int], pd.DataFrame, pd.DataFrame]:
    """Counts, shards and quarantine."""
    report = build_corpus([str(path)], output, BuildSettings(rows=10), processes=1, timeout=None)
    rows = report["rows"]
    assert rows["in"] == rows["out"] + rows["duplicates"] + rows["quarantined"]
    found = tables(output)
    return rows, found["shards"], found["quarantine"]


def member(archive: tarfile.TarFile, name: str, data: bytes = b"", **fields: Any) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    archive.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_tar_members_that_point_outside_are_refused_by_name(mode: str, crystals: list[Crystal], tmp_path: Path) -> None:
    good = cif(crystals[0]).encode()
    outside = tmp_path / "outside.cif"
    with tarfile.open(tmp_path / "a.tar", mode) as archive:  # type: ignore[call-overload]
        member(archive, "../outside.cif", good)
        member(archive, str(outside), good)
        member(archive, "link.cif", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        member(archive, "pipe.cif", type=tarfile.FIFOTYPE)
        member(archive, "notes.txt", b"no crystal")
        member(archive, "folder/good.cif", good)
    rows, shards, quarantine = build(tmp_path / "a.tar", tmp_path / "corpus")
    assert rows == {"in": 5, "out": 1, "duplicates": 0, "quarantined": 4}
    assert shards["source"].tolist() == [f"{tmp_path / 'a.tar'}#folder/good.cif"]
    assert quarantine["reason"].str.extract(r"(outside|link|device)")[0].tolist() == [
        "outside", "outside", "link", "device",
    ]  # fmt: skip
    assert quarantine["source"].str.contains("#").all()
    assert not outside.exists()


def test_zip_members_that_point_outside_lie_or_are_damaged(crystals: list[Crystal], tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../outside.cif", cif(crystals[0]))
        archive.writestr("bomb.cif", b"0" * 60_000_000)
        archive.writestr("good.cif", cif(crystals[1]))
        link = zipfile.ZipInfo("link.cif")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("crc.cif", cif(crystals[2]), zipfile.ZIP_STORED)
    data = path.read_bytes()
    place = data.rindex(b"_cell_length_a 4.5", 0, data.rindex(b"PK\x01\x02"))
    path.write_bytes(data[:place] + b"_CELL" + data[place + 5 :])
    rows, shards, quarantine = build(path, tmp_path / "corpus")
    assert rows == {"in": 5, "out": 1, "duplicates": 0, "quarantined": 4}
    assert shards["id"].tolist() == ["good"]
    assert quarantine["reason"].str.extract(r"(outside|more than 50 MB|link|CRC)")[0].tolist() == [
        "outside", "more than 50 MB", "link", "CRC",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["a.tar", "a.tar.gz", "a.zip", "b.jsonl.gz", "c.parquet"])
def test_a_file_that_is_cut_says_so_and_keeps_what_came_before(
    kind: str, crystals: list[Crystal], tmp_path: Path
) -> None:
    path = tmp_path / kind
    {
        "a.tar": lambda: write_tar(crystals, path),
        "a.tar.gz": lambda: write_tar(crystals, path, "w:gz"),
        "a.zip": lambda: write_zip(crystals, path),
        "b.jsonl.gz": lambda: path.write_bytes(
            gzip.compress("".join(json.dumps(row) + "\n" for row in crystals).encode())
        ),
        "c.parquet": lambda: write_parquet(crystals, path),
    }[kind]()
    os.truncate(path, path.stat().st_size // 2)
    (tmp_path / "inputs").mkdir()
    path.rename(tmp_path / "inputs" / kind)
    write_jsonl(crystals[-1:], tmp_path / "inputs" / "z.jsonl")
    rows, shards, quarantine = build(tmp_path / "inputs", tmp_path / "corpus")
    assert rows["quarantined"] == 1
    assert kind in quarantine["source"].iloc[0]
    assert quarantine["reason"].str.contains("damaged|cannot be read|ends in the middle").all()
    assert shards["provider"].eq("inputs").all()
    assert crystals[-1]["id"] in set(shards["id"])
    if kind in ("a.tar", "a.tar.gz", "b.jsonl.gz"):
        assert 20 < len(shards) < 140


def test_a_damaged_page_costs_its_rows_alone(crystals: list[Crystal], tmp_path: Path) -> None:
    path = write_parquet(crystals, tmp_path / "rows.parquet")
    import pyarrow.parquet as parquet

    column = parquet.read_metadata(path).row_group(1).column(3)
    data = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(data)
    rows, shards, quarantine = build(path, tmp_path / "corpus")
    assert rows["in"] == 144
    assert set(shards["id"]) == {row["id"] for row in [*crystals[:50], *crystals[100:]]}
    assert quarantine["source"].tolist() == [f"{path}:{row}" for row in range(50, 100)]


def test_a_cif_of_two_gigabytes_is_not_read(crystals: list[Crystal], tmp_path: Path) -> None:
    folder = write_folder(crystals[:3], tmp_path / "cifs")
    with (folder / "a_huge.cif").open("wb") as file:
        file.write(b"data_huge\n" * 3)
        file.truncate(2 * 1024**3)  # without using the disk
    rows, _, quarantine = build(folder, tmp_path / "corpus")
    assert rows == {"in": 4, "out": 3, "duplicates": 0, "quarantined": 1}
    assert quarantine["error"].tolist() == ["CrystalTooLargeError"]
    assert quarantine["reason"].tolist() == [
        f"{folder}/a_huge.cif: the file has more than 50 MB; no crystal needs that."
    ]


def test_lines_that_are_no_crystals(crystals: list[Crystal], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources_module, "MAX_LINE_BYTES", 10_000)
    lines = [json.dumps(row) for row in crystals[:3]]
    bad = [
        "{",
        "[1, 2]",
        '"text"',
        "{}",
        '{"a": ' * 3000,
        "[" * 9_000,
        '{"structure": null}',
        '{"cif": "data_x"}',
        "x" * 35_000,
    ]
    bad += ['{"lattice": [NaN, 0, 0, 0, 1, 0, 0, 0, 1], "numbers": [1], "frac_coords": [0, 0, 0]}', "\x00\xff"]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n\n".join([*bad, *lines, lines[0][:-20]]), encoding="utf-8")
    rows, shards, quarantine = build(path, tmp_path / "corpus")
    assert rows == {"in": len(bad) + 4, "out": 3, "duplicates": 0, "quarantined": len(bad) + 1}
    assert shards["source"].tolist() == [f"{path}:{number}" for number in range(len(bad), len(bad) + 3)]
    assert quarantine["reason"].str.startswith(f"{path}:").all()
    assert "more than 0 MB" in quarantine["reason"].iloc[8]
    assert "cut" in quarantine["reason"].iloc[-1]


def test_every_block_of_a_cif_is_a_row(crystals: list[Crystal], tmp_path: Path) -> None:
    (tmp_path / "cifs").mkdir()
    text = "".join(map(cif, crystals[:4])) + "data_empty\n_cell_length_a 1\n"
    (tmp_path / "cifs" / "many.cif").write_text(text.replace("data_NaCl-LiI", "data_CsCl-LiF"), encoding="utf-8")
    rows, shards, _ = build(tmp_path / "cifs", tmp_path / "corpus")
    assert rows == {"in": 4, "out": 4, "duplicates": 0, "quarantined": 0}
    assert shards["id"].tolist() == [row["id"] for row in crystals[:4]]
    assert shards["source"].tolist() == [f"{tmp_path}/cifs/many.cif#{row['id']}" for row in crystals[:4]]


@pytest.mark.parametrize("form", ["folder", "tar", "tar.gz", "zip"])
def test_packed_cifs_are_read_or_named(form: str, crystals: list[Crystal], tmp_path: Path) -> None:
    folder = tmp_path / "cifs"
    folder.mkdir()
    texts = [cif(row).encode() for row in crystals[:5]]
    (folder / "a.cif.gz").write_bytes(gzip.compress(texts[0] + texts[1]))
    (folder / "b.cif.bz2").write_bytes(bz2.compress(texts[2]))
    (folder / "c.CIF.XZ").write_bytes(lzma.compress(texts[3]))
    (folder / "d.cif.gz").write_bytes(gzip.compress(texts[4])[:-20])
    (folder / "e.cif.gz").write_bytes(b"<html>")
    (folder / "f.cif.gz").write_bytes(gzip.compress(b"0" * 60_000_000))
    path = folder
    if form != "folder":
        kind = {"tar": "tar", "tar.gz": "gztar", "zip": "zip"}[form]
        path = Path(shutil.make_archive(str(tmp_path / "packed"), kind, folder))
    rows, shards, quarantine = build(path, tmp_path / "corpus")
    assert rows == {"in": 7, "out": 4, "duplicates": 0, "quarantined": 3}
    assert set(shards["id"]) == {*(row["id"] for row in crystals[:2]), "b", "c"}
    reasons = dict(zip(quarantine["source"].str[-8:], quarantine["reason"], strict=True))
    assert "more than 50 MB" in reasons["f.cif.gz"]
    assert all("cannot be read" in reasons[name] for name in ("d.cif.gz", "e.cif.gz"))


def test_an_archive_named_after_what_it_holds_is_an_archive(crystals: list[Crystal], tmp_path: Path) -> None:
    rows, _, _ = build(write_tar(crystals[:3], tmp_path / "POSCARs.tar"), tmp_path / "corpus")
    assert rows == {"in": 3, "out": 3, "duplicates": 0, "quarantined": 0}


def test_a_corpus_is_no_input(crystals: list[Crystal], tmp_path: Path) -> None:
    folder = write_folder(crystals[:3], tmp_path / "cifs")
    build(folder, folder / "corpus")
    rows, _, _ = build(folder, tmp_path / "again")
    assert rows == {"in": 3, "out": 3, "duplicates": 0, "quarantined": 0}
    with pytest.raises(CorpusError, match="is a corpus"):
        build(folder / "corpus", tmp_path / "other")


def test_a_table_without_structures_is_quarantined_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pd.DataFrame({"id": ["a", "b"], "energy": [1.0, 2.0]}).to_parquet(path)
    rows, _, quarantine = build(path, tmp_path / "corpus")
    assert rows == {"in": 2, "out": 0, "duplicates": 0, "quarantined": 2}
    assert quarantine["reason"].str.contains("no columns of structures").all()


def test_an_input_that_vanishes_after_the_plan_is_named(
    crystals: list[Crystal], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cloud_hf.corpus.plan import make_plan
    from cloud_hf.corpus.schema import Folders

    folder = write_folder(crystals[:3], tmp_path / "cifs")
    table = write_parquet(crystals[3:5], tmp_path / "rows.parquet")
    make_plan([str(folder), str(table)], Folders(tmp_path / "corpus"), BuildSettings(rows=10))
    (folder / f"{crystals[0]['id']}.cif").unlink()
    table.unlink()
    report = build_corpus([], tmp_path / "corpus", processes=1, timeout=None)
    assert report["rows"] == {"in": 5, "out": 2, "duplicates": 0, "quarantined": 3}
    assert tables(tmp_path / "corpus")["quarantine"]["reason"].str.contains("no such file|No such file").all()
