"""What a corpus shares with labelled tables, and a list of rows that training leaves out."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from cloud_hf.cli.main import main
from cloud_hf.corpus import open_corpus
from cloud_hf.training.corpus_rows import excluded_hashes
from cloud_hf.training.corpus_shards import select_rows

from .conftest import Crystal, tables


@pytest.fixture
def labelled(crystals: list[Crystal], strings: dict[str, str], tmp_path: Path) -> Path:
    """Two crystals of the corpus, one as a paper's string; a new compound of a known type; a crystal of a new type."""
    rows = [
        {"id": "a", "scope": strings["NaCl-NaCl"], "split": "train", "y": 1.0},
        {"id": "b", "scope": strings["CsCl-CsBr"], "split": "test", "y": 2.0},
        {"id": "c", "scope": strings["NaCl-LiF"].replace("Li", "Fr"), "split": "test", "y": 3.0},
        {"id": "d", "scope": "1 0 0 | Cu 2i", "split": "test", "y": 4.0},
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "labelled.csv", index=False)
    return tmp_path / "labelled.csv"


def test_the_report_counts_both_sides(labelled: Path, corpus_folder: Path, tmp_path: Path) -> None:
    assert main(["corpus", "leakage", str(corpus_folder), str(labelled), "-o", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "leakage.json").read_text())
    table = found["tables"]["labelled"]
    assert table["rows"] == 4
    assert table["sites"] == table["name"] == {"rows_of_table": 2, "rows_of_corpus": 2}
    assert table["protostructure"] == {"rows_of_table": 3, "rows_of_corpus": 96}
    assert table["entry"] == {"rows_of_table": 0, "rows_of_corpus": 0}
    assert found["excluded"] == 2
    assert "2 of 144 rows" in (tmp_path / "out" / "leakage.md").read_text()
    excluded = pd.read_parquet(tmp_path / "out" / "exclude.parquet")
    rows = tables(corpus_folder)["shards"].set_index("hash")
    assert sorted(rows.loc[excluded["hash"], "id"]) == ["CsCl-CsBr", "NaCl-NaCl"]
    assert dict(zip(excluded["row"], rows.loc[excluded["hash"], "id"], strict=True)) == {
        "b": "CsCl-CsBr",
        "a": "NaCl-NaCl",
    }


def test_training_leaves_out_what_is_on_the_list(labelled: Path, corpus_folder: Path, tmp_path: Path) -> None:
    argv = ["corpus", "leakage", str(corpus_folder), str(labelled), "-o", str(tmp_path / "out")]
    assert main([*argv, "--where", "split=test", "--by", "sites"]) == 0
    hashes = excluded_hashes([str(tmp_path / "out" / "exclude.parquet")])
    rows = tables(corpus_folder)["shards"].set_index("hash")
    assert rows.loc[sorted(hashes), "id"].tolist() == ["CsCl-CsBr"]
    chosen = select_rows(open_corpus(corpus_folder), "sites", exclude=hashes)
    assert (chosen.excluded, sum(map(len, chosen.positions))) == (1, 143)
    assert main([*argv, "--by", "protostructure"]) == 0
    assert len(excluded_hashes([str(tmp_path / "out" / "exclude.parquet")])) == 96


def test_a_table_of_the_corpus_itself_is_found_whole(
    crystals: list[Crystal], corpus_folder: Path, tmp_path: Path
) -> None:
    pd.DataFrame(crystals[:30]).to_parquet(tmp_path / "structures.parquet")
    argv = ["corpus", "leakage", str(corpus_folder), str(tmp_path / "structures.parquet"), "-o", str(tmp_path)]
    assert main([*argv, "--by", "sites"]) == 0
    assert len(pd.read_parquet(tmp_path / "exclude.parquet")) == 30


def test_rows_that_cannot_be_compared_are_named(
    labelled: Path, corpus_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.read_csv(labelled)
    table.loc[4] = ["e", "no string", "train", 5.0]
    table.to_csv(labelled, index=False)
    argv = ["corpus", "leakage", str(corpus_folder), str(labelled), "-o", str(tmp_path / "out")]
    assert main(argv) == 1
    found = capsys.readouterr()
    assert "2 of 144 rows" in found.out
    assert f"cloud-hf: {labelled}:4: " in found.err
    assert "1 of 5 rows failed" in found.err
    assert main([*argv, "--where", "split=test"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--where", "fold=1"], "must name a column"),
        (["--where", "split=none"], "no row has one of these values"),
    ],
)
def test_what_cannot_be_compared(
    words: list[str],
    message: str,
    labelled: Path,
    corpus_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["corpus", "leakage", str(corpus_folder), str(labelled), "-o", str(tmp_path / "out"), *words]) == 2
    assert message in capsys.readouterr().err
