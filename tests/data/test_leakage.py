"""The leakage report counts what is there, on tables whose overlaps are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cloud_hf.data.leakage import NAME_KINDS, leakage_markdown, leakage_report, own_split_columns

ROWS = [
    # table, sites, composition name, entry, composition, protostructure, group, fold, part
    ("one", "s1", "c1", "mp-1", "Na 1.0", "p", "c1", 0, "train"),
    ("one", "s2", "c2", None, "K 1.0", "p", "c2", 1, "validation"),
    ("one", "s3", "c3", None, "K 1.0", "q", "c3", 1, "train"),
    ("two", "s1", "c1", "mp-1", "Na 1.0", "p", "c1", 0, "train"),
    ("two", None, "c2", None, "K 1.0", None, "c2", 1, "validation"),
    ("two", "s4", "c3", None, "K 1.0", "q", "c3", 1, "train"),
    ("two", None, None, None, None, None, None, None, None),
]
COLUMNS = ["table", "sites", "names", "entry", "composition", "protostructure", "group", "fold", "part"]


@pytest.fixture
def rows() -> pd.DataFrame:
    table = pd.DataFrame(ROWS, columns=COLUMNS, dtype=object)
    table["names"] = [[] if name is None else [name] for name in table["names"]]
    table["error"] = [None] * 6 + ["unreadable"]
    table["fold"] = table["fold"].astype("Int64")
    return table


@pytest.fixture
def report(rows: pd.DataFrame) -> dict[str, Any]:
    own = {
        "one": {"split": pd.Series(["train", "train", "validation"], dtype=object)},
        "two": {"split": pd.Series(["validation", None, "train", "train"], dtype=object)},
    }
    settings = {"encoder": "sites", "seed": 0, "folds": 2, "validation": 0.1}
    return {"settings": settings, **leakage_report(rows, own, 2)}


def test_rows_are_counted_by_table(report: dict[str, Any]) -> None:
    assert report["tables"]["two"] == {
        "rows": 4, "failed": 1, "sites_strings": 2, "groups": 3, "train": 2, "validation": 1, "folds": [1, 2],
    }  # fmt: skip


def test_groups_with_more_than_one_string(report: dict[str, Any]) -> None:
    assert report["groups"] == {
        "groups": 3, "sites_strings": 4, "with_several_sites_strings": 1, "rows_in_those": 2,
        "joined_by_a_second_name": 0, "largest_rows": 2,
    }  # fmt: skip


def test_overlaps_between_train_and_validation(report: dict[str, Any]) -> None:
    assert {kind: report["parts"][kind]["on_several_sides"] for kind in NAME_KINDS} == {
        "sites": 0, "name": 0, "entry": 0, "composition": 1, "protostructure": 1,
    }  # fmt: skip
    assert report["parts"]["composition"]["validation_rows_seen"] == 2
    assert report["parts"]["protostructure"] == {
        "names": 2, "on_several_sides": 1, "validation_rows": 1, "validation_rows_seen": 1,
    }  # fmt: skip
    assert report["folds"]["protostructure"]["on_several_sides"] == 1


def test_a_leak_would_be_seen(rows: pd.DataFrame) -> None:
    rows.loc[0, "part"] = "validation"
    found = leakage_report(rows, {}, 2)
    assert found["parts"]["sites"]["on_several_sides"] == 1
    assert found["parts"]["entry"]["on_several_sides"] == 1


def test_overlaps_between_tables(report: dict[str, Any]) -> None:
    assert report["between_tables"]["sites"]["one"] == {"any other": 1, "two": 1}
    assert report["between_tables"]["name"]["one"] == {"any other": 3, "two": 3}
    assert report["between_tables"]["entry"]["two"] == {"any other": 1, "one": 1}


def test_a_row_with_two_names_counts_once(rows: pd.DataFrame) -> None:
    rows.at[0, "names"] = ["c1", "c2"]
    assert leakage_report(rows, {}, 2)["between_tables"]["name"]["one"] == {"any other": 3, "two": 3}


def test_own_splits_that_contradict_each_other(report: dict[str, Any]) -> None:
    own = report["own_splits"]
    assert own["pairs"] == {"one.split / two.split": {"train_and_held_out": 1, "held_out_and_train": 1}}
    assert own["groups_held_out_somewhere"] == 2
    assert own["of_these_trained_on_elsewhere"] == 2
    assert own["columns"]["one.split"]["groups_on_both_sides"] == 0


def test_the_document_holds_the_figures(report: dict[str, Any]) -> None:
    text = leakage_markdown(report)
    assert "3 groups hold 4 distinct `sites` strings" in text
    assert text.count("\n|--") == 5
    assert leakage_markdown(report) == text


def test_own_split_columns_are_recognised_by_their_words() -> None:
    table = pd.DataFrame(
        {"split": ["train", "Test", None], "megnet_split": ["val", "train", "x"], "split_at": [1, 2, 3], "a": "train"}
    )
    found = own_split_columns(table)
    assert list(found) == ["split", "megnet_split"]
    assert found["split"].tolist() == ["train", "validation", None]
    assert found["megnet_split"].tolist() == ["validation", "train", None]


def test_the_published_report_is_what_its_figures_say(root: Path) -> None:
    report = json.loads((root / "docs" / "results" / "split.json").read_text(encoding="utf-8"))
    assert leakage_markdown(report) == (root / "docs" / "split.md").read_text(encoding="utf-8")
    for kind in ("sites", "name", "entry"):
        assert report["parts"][kind]["on_several_sides"] == report["folds"][kind]["on_several_sides"] == 0
