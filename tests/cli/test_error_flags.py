"""What the command says of an error names its own flags, in tables too; Python's names are in Python's errors."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow.parquet as parquet
import pytest

from cloud_hf import encode
from cloud_hf.data.tables import read_table
from cloud_hf.errors import EncodingTimeoutError
from cloud_hf.scope import ScopeEncoder

LIMIT = "more than the limit of 1000"


@pytest.fixture
def large(bad_files: dict[str, Path]) -> Path:
    """A crystal with more sites than the encoder takes."""
    return bad_files["5,000 atoms"]


def test_python(large: Path) -> None:
    (message,) = encode(large)["error"]
    assert LIMIT in message
    assert message.endswith("or raise `max_atoms`.")


@pytest.mark.parametrize("command", ["encode", "predict"])
def test_rows(cloud, large: Path, command: str, tmp_path: Path) -> None:
    found = cloud(command, large, "1 0 0 | 2i | Cu", "-o", tmp_path / "t.csv")
    assert found.status == 1
    error = read_table(tmp_path / "t.csv")["error"][0]
    assert LIMIT in error
    assert error.endswith("or raise --max-atoms.")
    assert f"cloud-hf: {error}" in found.err
    assert "1 CrystalTooLargeError: more than the limit; give the primitive cell, or raise --max-atoms" in found.err
    assert "`max_atoms`" in encode(large)["error"][0]  # which a command before does not change


def test_an_argument_that_the_command_cannot_run_without(cloud) -> None:
    found = cloud("predict", "1 0 0 | 2i | Cu", "--n-atoms", "two", "--head", "heat_capacity")
    assert found.status == 1
    assert "--n-atoms 'two': a bare string has no columns" in found.err
    assert "n_atoms" not in found.err


def test_the_error_that_ends_a_command(cloud, large: Path) -> None:
    found = cloud("screen", large, "--want", "band_gap>1")
    assert found.status == 2
    assert LIMIT in found.err
    assert "--max-atoms" not in found.err  # this command has no such flag
    found = cloud("screen", "--want", "band_gap>1", "--limit", 10)
    assert found.status == 2
    assert "raise --limit to " in found.err


def test_a_corpus(cloud, large: Path, tmp_path: Path) -> None:
    found = cloud("corpus", "build", large.parent, "-o", tmp_path / "corpus", "--timeout", 0)
    assert found.status == 1
    tables = [parquet.read_table(path).to_pandas() for path in (tmp_path / "corpus" / "quarantine").glob("*.parquet")]
    reasons = pd.concat(tables).set_index("error")["reason"]
    assert reasons["CrystalTooLargeError"].endswith("or raise --max-atoms.")
    assert "or raise --max-atoms" in found.err


@pytest.mark.parametrize("flag", ["--timeout", "--encode-timeout"])
def test_each_command_has_its_own_spelling(
    cloud, examples: list[Path], flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(self: ScopeEncoder, crystal: object) -> None:
        raise EncodingTimeoutError("slow; raise `timeout`.", flag="timeout")

    monkeypatch.setattr(ScopeEncoder, "describe", late)
    if flag == "--timeout":
        found = cloud("encode", examples[0], flag, 0)
    else:
        table = tmp_path / "t.csv"
        pd.DataFrame({"path": [str(path) for path in examples], "gap": 1.0}).to_csv(table)
        argv = ["--structure", "path", "--target", "gap:eV", "--output-dir", tmp_path / "out", "--use-cpu", "true"]
        found = cloud("finetune", "--model", "default", "--data", table, *argv)
    assert f"slow; raise {flag}.\n" in found.err
