"""`cloud-hf split`: files, report, exit status, and the same answer for the same crystals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

GROUP = "1 6 a O D D a D O D b O O O c O O O d O O O e O O O 0 | "
METALS = ("Li", "Na", "K", "Rb", "Cs", "Mg", "Ca", "Sr", "Ba", "Al", "Ga", "In")


@pytest.fixture
def tables(tmp_path: Path) -> list[Path]:
    """Sites strings, and the paper's strings of half of the same crystals in another order."""
    sites = [f"{GROUP}{metal} 4a O 4b" for metal in METALS] + [f"{GROUP}O 4a {metal} 4b" for metal in METALS]
    paper = [f"{GROUP}4b 4a | O 0.5 {metal} 0.5" for metal in METALS[::2]]
    pd.DataFrame({"id": range(24), "scope": sites, "split": ["train", "val"] * 12}).to_csv(
        tmp_path / "sites.csv", index=False
    )
    pd.DataFrame({"scope": paper, "split": "test"}).to_json(tmp_path / "paper.jsonl", orient="records", lines=True)
    return [tmp_path / "sites.csv", tmp_path / "paper.jsonl"]


def test_crystals_keep_their_side_across_tables(cloud: Callable[..., Any], tables: list[Path], tmp_path: Path) -> None:
    done = cloud("split", *tables, "--output", tmp_path / "out", "--validation", 0.3, "--seed", 4)
    assert done.status == 0, done.err
    sites, paper = (pd.read_parquet(tmp_path / "out" / f"{name}.split.parquet") for name in ("sites", "paper"))
    assert sites.columns.tolist() == ["row", "id", "scope", "group", "fold", "part", "error"]
    assert len(sites) == 24
    assert len(paper) == 6
    for column in ("group", "fold", "part"):
        assert sites[column].tolist()[:12] == sites[column].tolist()[12:]  # O at the origin is the same crystal
        assert sites[column].tolist()[:12:2] == paper[column].tolist()
    assert set(sites["fold"]) <= set(range(5))
    assert {"train", "validation"} == set(sites["part"])
    report = json.loads((tmp_path / "out" / "leakage.json").read_text())
    assert report["parts"]["name"]["on_several_sides"] == 0
    assert report["groups"]["groups"] == 12
    assert report["own_splits"]["of_these_trained_on_elsewhere"] > 0
    assert "12 groups" in (tmp_path / "out" / "leakage.md").read_text()
    assert "12 groups" in done.out


def test_the_order_of_tables_and_the_work_folder_do_not_matter(
    cloud: Callable[..., Any], tables: list[Path], tmp_path: Path
) -> None:
    written = []
    for number, order in enumerate((tables, tables[::-1])):
        folder = tmp_path / str(number)
        assert (
            cloud("split", *order, "-o", folder, "--json", folder / "x.json", "--markdown", folder / "x.md").status == 0
        )
        names = ("x.json", "x.md", "sites.split.parquet", "paper.split.parquet")
        written.append([(folder / name).read_bytes() for name in names])
    assert written[0] == written[1]


def test_a_table_alone_has_the_same_sides(cloud: Callable[..., Any], tables: list[Path], tmp_path: Path) -> None:
    assert cloud("split", *tables, "-o", tmp_path / "both").status == 0
    assert cloud("split", tables[1], "-o", tmp_path / "one").status == 0
    both, one = (pd.read_parquet(tmp_path / name / "paper.split.parquet") for name in ("both", "one"))
    assert one.equals(both)


def test_a_row_that_cannot_be_named_is_reported(cloud: Callable[..., Any], tables: list[Path], tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("scope\nno string\n1 0 0 | 2i | Cu 1.0\n")
    done = cloud("split", tmp_path / "bad.csv", "-o", tmp_path / "out")
    assert done.status == 1
    assert "1 of 2 rows failed" in done.err
    found = pd.read_parquet(tmp_path / "out" / "bad.split.parquet")
    assert found["fold"].isna().tolist() == [True, False]
    assert found["part"].isna().tolist() == [True, False]
    assert found["error"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--folds", 1], "folds"), (["--validation", 1], "validation"), (["--json", "."], "folder")],
)
def test_what_cannot_work_is_refused_before_the_work(
    cloud: Callable[..., Any], tables: list[Path], tmp_path: Path, arguments: list, message: str
) -> None:
    done = cloud("split", *tables, "-o", tmp_path / "out", *arguments)
    assert done.status == 2
    assert message in done.err
    assert not (tmp_path / "out").exists()


def test_two_tables_of_one_name_are_refused(cloud: Callable[..., Any], tables: list[Path], tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "sites.csv").write_bytes(tables[0].read_bytes())
    done = cloud("split", tables[0], tmp_path / "more" / "sites.csv", "-o", tmp_path / "out")
    assert done.status == 2
    assert "rename" in done.err
