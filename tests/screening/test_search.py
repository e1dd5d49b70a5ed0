"""The nearest crystals of a collection."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cloud_hf
from cloud_hf.cli.main import main
from cloud_hf.errors import CloudError
from cloud_hf.screening.prototypes import bundled_prototypes
from cloud_hf.screening.search import Collection, nearest, shared_words

SALTS = [
    bundled_prototypes()["rock-salt"].string(pair) for pair in (("Na", "Cl"), ("Mg", "O"), ("Ca", "O"), ("Li", "F"))
]


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 1000))
def test_the_nearest_are_those_of_a_full_comparison(rows: int, k: int, seed: int) -> None:
    chance = np.random.default_rng(seed)
    table, queries = (chance.standard_normal((n, 5)).astype(np.float32) for n in (rows, 3))
    cosines = (queries @ table.T) / np.outer(np.linalg.norm(queries, axis=1), np.linalg.norm(table, axis=1))
    places, found = nearest(queries, table, k)
    assert found == pytest.approx(-np.sort(-cosines, axis=1)[:, :k], abs=1e-5)
    assert np.take_along_axis(cosines, places, 1) == pytest.approx(found, abs=1e-5)


def test_pieces_of_the_table_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    table = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    whole = nearest(table[:5], table, 7)
    monkeypatch.setattr("cloud_hf.screening.search.BLOCK", 8)
    pieces = nearest(table[:5], table, 7)
    assert (whole[0] == pieces[0]).all()
    assert whole[0][:, 0].tolist() == [0, 1, 2, 3, 4]


def test_an_index_finds_what_a_full_comparison_finds(tmp_path: Path) -> None:
    pytest.importorskip("usearch", reason="the extra 'search' is not installed")
    table = np.random.default_rng(0).standard_normal((400, 8)).astype(np.float32)
    table[3] = np.nan
    queries = np.random.default_rng(1).standard_normal((20, 8)).astype(np.float32)
    exact = nearest(queries, table, 5)
    for _ in range(2):  # built, then read
        places, cosines = nearest(queries, table, 5, tmp_path / "one.usearch")
        assert (places == exact[0]).mean() > 0.98
        assert cosines == pytest.approx(exact[1], abs=0.05)
    with pytest.raises(CloudError, match="other crystals"):
        nearest(queries, table[::-1], 5, tmp_path / "one.usearch")
    (tmp_path / "two.usearch").write_bytes(b"no index")
    with pytest.raises(CloudError, match="cannot be read as an index"):
        nearest(queries, table, 5, tmp_path / "two.usearch")


def test_a_row_that_is_not_a_number_is_never_found() -> None:
    table = np.array([[np.nan, 1], [1, 0], [0, 1]], dtype=np.float32)
    places, _ = nearest(np.array([[1, 0]], dtype=np.float32), table, 5)
    assert places.tolist() == [[1, 2]]


def test_shared_words() -> None:
    assert shared_words(SALTS[0], SALTS[0]) == "space group, Na 4a, Cl 4b"
    assert shared_words(SALTS[1], SALTS[2]) == "space group, O 4b"
    assert shared_words(SALTS[0], bundled_prototypes()["caesium-chloride"].string(("Na", "Cl"))) == "Na, Cl"


@pytest.mark.usefixtures("tiny_weights")
class TestSearch:
    @pytest.fixture
    def table(self, tmp_path: Path) -> Path:
        path = tmp_path / "salts.csv"
        pd.DataFrame({"id": ["a", "b", "c", "d"], "scope": SALTS, "gap": [5.0, 4.4, 3.6, 8.8]}).to_csv(
            path, index=False
        )
        return path

    def test_a_crystal_finds_itself_with_its_label(self, table: Path, tmp_path: Path) -> None:
        kept = tmp_path / "vectors.safetensors"
        found = cloud_hf.search([SALTS[2], "0 0 | nonsense"], table, 2, head="band_gap", vectors=kept, progress=False)
        assert found["rank"].tolist()[:2] == [1, 2]
        first = found.iloc[0]
        assert (first["source"], first["gap"], first["shared"]) == ("c", 3.6, "space group, Ca 4a, O 4b")
        assert first["similarity"] == pytest.approx(1, abs=1e-5)
        assert isinstance(found.iloc[2]["error"], str)
        again = cloud_hf.search([SALTS[2]], table, 2, head="band_gap", vectors=kept, progress=False)
        assert again["source"].tolist() == found["source"].tolist()[:2]
        with pytest.raises(CloudError, match="other crystals"):
            cloud_hf.search([SALTS[2]], SALTS[:2], 2, head="band_gap", vectors=kept, progress=False)

    def test_the_command(self, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        output = tmp_path / "near.csv"
        argv = [SALTS[0], "--in", table, "-k", "3", "--head", "band_gap", "-o", output]
        assert main(["search", *map(str, argv)]) == 0
        assert "space group" in capsys.readouterr().out
        assert pd.read_csv(output)["source"].tolist()[0] == "a"

    @pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.ndjson", "t.parquet"])
    def test_a_table_of_any_form_keeps_its_labels(self, name: str, tmp_path: Path) -> None:
        table = pd.DataFrame({"id": ["a", "b", "c"], "scope": [*SALTS[:2], "nonsense"], "gap": [8.5, 7.8, 0.0]})
        if "json" in name:
            table.to_json(tmp_path / name, orient="records", lines=True)
        else:
            getattr(table, f"to_{name.split('.')[1]}")(tmp_path / name, index=False)
        read = Collection.read(tmp_path / name)
        assert read.sources == ["a", "b"]
        assert read.labels["gap"].tolist() == [8.5, 7.8]

    def test_a_crystal_that_hangs_costs_its_own_row(self, hanging_table: Path) -> None:
        assert Collection.read(hanging_table, timeout=600.0).sources == ["good"]
        found = cloud_hf.search(str(hanging_table), SALTS, 1, head="band_gap", timeout=600.0, progress=False)
        assert found["error"].isna().tolist() == [True, False]
        assert "600 s" in found["error"][1]

    def test_a_string_that_the_model_cannot_read_is_near_to_nothing(self) -> None:
        long = f"0 0 0 | {'Si 1a ' * 600}".strip()
        table = pd.DataFrame({"scope": [long, SALTS[1]], "id": ["disorder", "salt"]})
        found = cloud_hf.search(table, SALTS, 2, head="band_gap", progress=False)
        assert found["query"].tolist() == ["disorder", "salt", "salt"]
        assert found["error"].isna().tolist() == [False, True, True]
        assert found["error"][0].startswith("disorder: A SCOPE string of")
        assert found["source"].tolist()[1] == SALTS[1]
        assert cloud_hf.search(long, SALTS, 2, head="band_gap", progress=False)["rank"].isna().all()

    def test_the_texts_of_the_crystals_are_no_labels(self) -> None:
        cif = (Path(__file__).parents[2] / "examples" / "MgO.cif").read_text(encoding="utf-8")
        for column in ("cif", "structure"):
            assert list(Collection.read(pd.DataFrame({column: [cif], "gap": [7.8]})).labels) == ["gap"]

    def test_what_is_left_out_of_the_collection_is_said(self, caplog: pytest.LogCaptureFixture) -> None:
        assert len(Collection.read([*SALTS, "gone.cif", "0 | nonsense"])) == len(SALTS)
        (said,) = caplog.messages
        assert "2 of 6 crystals are left out, the first: gone.cif: there is no such file" in said

    @pytest.mark.parametrize("k", [0, -1, 2.5])
    def test_a_number_of_neighbours_that_cannot_be(self, k: float) -> None:
        with pytest.raises(CloudError, match="whole number of neighbours"):
            cloud_hf.search(SALTS[0], SALTS, k, progress=False)

    def test_nothing_to_search_in(self) -> None:
        with pytest.raises(CloudError, match="no crystal"):
            cloud_hf.search(SALTS[:1], ["0 | nonsense"])
