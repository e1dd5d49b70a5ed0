"""No command writes its result over what it reads."""

from __future__ import annotations

from pathlib import Path

import pytest

TABLE = "scope,formula,y\n0 0 0 | Na 1a Cl 1a,NaCl,1\n"
CUBE = "Po\n1.0\n3.3 0 0\n0 3.3 0\n0 0 3.3\nPo\n1\nDirect\n0 0 0\n"


@pytest.mark.parametrize(
    "words",
    [
        "predict t.csv -o t.csv",
        "predict *.csv -o t.csv",
        "predict link.csv -o t.csv",
        "encode t.csv -o ./t.csv",
        "encode ./*.csv -o t.csv",
        "evaluate --data t.csv --label y --head band_gap --json t.csv",
        "calibrate --predictions t.csv --checkpoint . --json t.csv",
        "calibrate --predictions x.csv --data t.csv --checkpoint . --json t.csv",
        "likelihood --model . --inside t.csv:train --json t.csv",
        "search t.csv -o t.csv",
        "search POSCAR --in t.csv -o t.csv",
        "screen rock-salt --known t.csv --table t.csv",
        "screen rock-salt --phases t.csv --table t.csv",
        "split t.csv -o new --json t.csv",
        "split t.csv -o new --markdown t.csv",
    ],
)
def test_an_input_is_never_overwritten(cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text(TABLE)
    Path("link.csv").symlink_to("t.csv")
    Path("POSCAR").write_text(CUBE)
    found = cloud(*words.split())
    assert Path("t.csv").read_text() == TABLE
    assert (found.status, "is also an input; choose another name" in found.err) == (2, True), found.err


def test_the_input_of_another_run_may_be_overwritten(cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text(TABLE)
    Path("out.csv").write_text("of yesterday")
    assert cloud("encode", "t.csv", "POSCA[R]", "0 0 0 | Na 1a Cl 1a", "-o", "out.csv").status == 1
    assert len(Path("out.csv").read_text().splitlines()) == 4
