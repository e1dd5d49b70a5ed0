"""The crystals of the reference data: the same strings, whatever form they come in."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow.parquet as parquet
import pytest
from pymatgen.core import Structure

from cloud_hf import ScopeEncoder
from cloud_hf.corpus import BuildSettings, build_corpus

from .conftest import FORMS, Crystal, cif, tables

COLUMNS = ["id", "lattice", "numbers", "frac_coords"]


def strings_of_form(form: str, rows: list[Crystal], folder: Path) -> dict[str, str]:
    """The string of every crystal, those of duplicates too, from a corpus that is built from one form of input."""
    folder.mkdir()
    report = build_corpus(
        [str(FORMS[form](rows, folder))], folder / "corpus", BuildSettings(("sites",)), processes=1, timeout=None
    )
    counts = report["rows"]
    assert counts["in"] == len(rows) == counts["out"] + counts["duplicates"] + counts["quarantined"]
    assert counts["quarantined"] == 0
    found = tables(folder / "corpus")
    known = dict(zip(found["shards"]["hash"], found["shards"]["sites"], strict=True))
    both = pd.concat([found["shards"][["id", "hash"]], found["duplicates"][["id", "hash"]]])
    return {name: known[digest] for name, digest in zip(both["id"], both["hash"], strict=True)}


def structures(shared: Path, most: int | None) -> list[Crystal]:
    """Rows of every table of structures, at most so many of each, with names of their own."""
    parts = []
    for path in sorted((shared / "data").glob("*.parquet")):
        if set(COLUMNS) <= set(parquet.read_schema(path).names):
            part = pd.read_parquet(path, columns=COLUMNS).drop_duplicates("id")
            part = part if most is None else part.sample(min(most, len(part)), random_state=0)
            parts.append(part.assign(id=path.stem + "." + part["id"].astype(str).str.replace(r"\W", "_", regex=True)))
    rows = pd.concat(parts)
    assert rows["id"].is_unique
    for name in COLUMNS[1:]:
        rows[name] = [value.tolist() for value in rows[name]]
    return rows.to_dict("records")


@pytest.mark.parametrize("most", [6, pytest.param(None, marks=pytest.mark.slow)], ids=["a few", "all"])
def test_forms_of_real_crystals_give_the_same_strings(most: int | None, shared: Path, tmp_path: Path) -> None:
    rows = structures(shared, most)
    assert len(rows) >= 50
    first = strings_of_form("parquet", rows, tmp_path / "parquet")
    for form in ("jsonl", "dataset"):
        assert strings_of_form(form, rows, tmp_path / form) == first

    # These two round: a CIF's 0.333349 is read as 1/3, as pymatgen reads it, and Cartesian positions have other last
    # digits. A crystal that lies at the edge of the symmetry tolerance may get another space group so.
    few = len(rows) / 10_000
    files = strings_of_form("tar", rows, tmp_path / "tar")
    assert files.keys() == first.keys()
    other = [row for row in rows if files[row["id"]] != first[row["id"]]]
    assert len(other) <= few
    for row in other:
        assert files[row["id"]] == ScopeEncoder("sites").encode(Structure.from_str(cif(row), fmt="cif"))
    lines = strings_of_form("optimade lines", rows, tmp_path / "lines")
    assert lines.keys() == first.keys()
    assert sum(lines[name] != scope for name, scope in first.items()) <= few
