"""`cloud-hf predict` on many strings: flat, in pieces, and the best of them."""

from __future__ import annotations

import random
from itertools import count, islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cloud_hf.cli.output import MOST_ROWS, SHOWN_ROWS, open_rows
from cloud_hf.cli.ranking import Best
from cloud_hf.data.inputs import Item, encode_items
from cloud_hf.data.tables import read_table
from cloud_hf.inference.prediction import Prediction, load_predictor, predict_encoded

THETA = "debye_temperature_of_heat_capacity (K)"
PER_ATOM = "heat_capacity_per_atom (J/(mol atom K))"
PER_CELL = "heat_capacity_per_cell (J/(mol primitive cell K))"
STRINGS = [f"1 0 0 | 2i | Cu {n / 100} Au {round(1 - n / 100, 2)}" for n in range(10, 60)]

QUICK = ("--head", "heat_capacity", "--members", 1)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Fifty strings, with atoms in all but the first ten rows, and two rows that fail."""
    rows = [{"scope": scope, "atoms": 3 if row >= 10 else None} for row, scope in enumerate(STRINGS)]
    path = tmp_path / "strings.csv"
    pd.DataFrame([*rows[:20], {"scope": "garbage"}, *rows[20:], {"scope": None}]).to_csv(path, index=False)
    return path


@pytest.fixture
def predict(cloud, tmp_path: Path):
    """Run `predict` and return what it said and the table that it wrote."""

    def run(*argv: object):
        found = cloud("predict", *argv, "-o", tmp_path / "out.parquet")
        return found, read_table(tmp_path / "out.parquet")

    return run


class TestTop:
    @pytest.mark.parametrize(
        ("by", "lowest"),
        [
            (None, False), ("heat_capacity_per_cell", True), pytest.param(None, True, marks=pytest.mark.slow),
            *(
                pytest.param(by, lowest, marks=pytest.mark.slow)
                for by in ("heat_capacity_per_atom", PER_ATOM) for lowest in (False, True)
            ),
        ],
    )  # fmt: skip
    def test_the_best_rows_of_all_best_first(self, predict, table: Path, by: str | None, lowest: bool) -> None:
        argv = [table, "--n-atoms", "atoms", *QUICK]
        _, everything = predict(*argv)
        found, top = predict(*argv, "--top", 7, *(["--by", by] if by else []), *(["--lowest"] if lowest else []))
        column = PER_ATOM if by is None else PER_CELL if "cell" in by else PER_ATOM
        ranked = everything.dropna(subset=column).sort_values(column, ascending=lowest, kind="stable")
        assert top["source"].tolist() == ranked["source"].tolist()[:7]
        np.testing.assert_array_equal(top[column], ranked[column][:7])
        assert list(top.columns) == list(everything.columns)
        assert found.status == 1
        assert "2 of 52 rows failed" in found.err
        assert f"Of 52 rows 7 kept, those with the {'lowest' if lowest else 'highest'}" in found.out

    def test_more_than_there_are(self, predict, table: Path) -> None:
        _, top = predict(table, *QUICK, "--top", 1000)
        assert len(top) == 50
        assert top[PER_ATOM].is_monotonic_decreasing

    def test_only_failed_rows_leave_none(self, predict) -> None:
        found, top = predict("garbage | x", "--top", 3)
        assert found.status == 1
        assert len(top) == 0

    def test_on_the_terminal(self, cloud, table: Path) -> None:
        found = cloud("predict", table, "--head", "band_gap", "--members", 1, "--top", 3)
        assert len([line for line in found.out.splitlines() if "1 0 0 |" in line]) == 3

    @pytest.mark.parametrize(
        ("argv", "word"),
        [
            (("--top", 0), "--top"), (("--top", 3, "--by", "gap"), "debye_temperature"), (("--by", THETA), "--top"),
            (("--lowest",), "--top"),
        ],
    )  # fmt: skip
    def test_what_makes_no_sense_is_status_2(self, cloud, argv: tuple[object, ...], word: str, tmp_path: Path) -> None:
        found = cloud("predict", STRINGS[0], *argv, "-o", tmp_path / "out.csv")
        assert found.status == 2
        assert word in found.err
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("seed", range(5))
    def test_any_numbers(self, seed: int) -> None:
        values = [random.Random(seed * 100 + n).randrange(20) for n in range(50)]
        for k, lowest in ((1, False), (7, True), (50, False), (80, True)):
            best = Best(k, "x", lowest)
            for row, value in enumerate(values):
                best.add(Prediction(Item(str(row)), ({"name": "x", "value": value, "unit": "1"},)))
                best.add(Prediction(Item("no x"), ({"name": "y", "value": 1e9, "unit": "1"},)))
            expected = sorted(range(50), key=lambda row: (values[row] if lowest else -values[row], row))
            assert [int(prediction.item.source) for prediction in best.predictions()] == expected[:k]


class TestStream:
    def test_the_pieces_do_not_change_a_value(self) -> None:
        predictor = load_predictor(members=1)
        items = list(encode_items((Item(scope, scope=scope) for scope in [*STRINGS[:9], "garbage"]), predictor.encoder))
        whole = list(predict_encoded(predictor, items))
        for chunk_size in (1, 4, 10):
            pieces = list(predict_encoded(predictor, items, chunk_size=chunk_size))
            assert [piece.item for piece in pieces] == [prediction.item for prediction in whole]
            for piece, prediction in zip(pieces, whole, strict=True):
                values = [quantity["value"] for quantity in prediction.quantities]
                assert [quantity["value"] for quantity in piece.quantities] == pytest.approx(values, rel=1e-5, abs=1e-5)

    def test_endless_items_come_as_they_are_asked_for(self) -> None:
        predictor = load_predictor(members=1)
        read = []

        def endless():
            for number in count():
                read.append(number)
                yield Item(str(number), scope=STRINGS[number % len(STRINGS)])

        found = predict_encoded(predictor, encode_items(endless(), predictor.encoder), chunk_size=20)
        assert [prediction.item.source for prediction in islice(found, 30)] == [str(number) for number in range(30)]
        assert len(read) == 40

    def test_an_interrupt_leaves_what_was_there(self, cloud, table: Path, tmp_path: Path, monkeypatch) -> None:
        import cloud_hf.inference.prediction as module

        def interrupted(*arguments: object):
            yield from islice(predict_encoded(*arguments), 5)  # type: ignore[arg-type]
            raise KeyboardInterrupt

        (tmp_path / "out.csv").write_text("old")
        monkeypatch.setattr(module, "predict_encoded", interrupted)
        assert cloud("predict", table, *QUICK, "-o", tmp_path / "out.csv").status == 130
        assert (tmp_path / "out.csv").read_text() == "old"
        assert {path.name for path in tmp_path.iterdir()} == {"out.csv", table.name}

    def test_the_terminal_shows_the_first_rows(self, cloud, table: Path, tmp_path: Path) -> None:
        found = cloud("predict", table, *QUICK, "-o", tmp_path / "out.csv")
        assert f"... and {52 - SHOWN_ROWS} more rows" in found.out
        assert "more rows" not in cloud("predict", table, *QUICK).out

    def test_without_a_file_the_terminal_has_an_end_too(self) -> None:
        with open_rows({"source": "object", "error": "object"}) as rows:
            for number in range(MOST_ROWS + 5):
                rows.add({"source": str(number)})
        assert (rows.n_rows, len(rows.shown)) == (MOST_ROWS + 5, MOST_ROWS)

    @pytest.mark.parametrize("processes", [1, 2])
    def test_crystals_in_processes(self, predict, examples: list[Path], processes: int) -> None:
        _, expected = predict(*examples, *QUICK, "--timeout", 0)
        found, table = predict(*examples, *QUICK, "--processes", processes)
        assert found.status == 0
        pd.testing.assert_frame_equal(table, expected)


def test_bfloat16_stays_near_float32(predict, examples: list[Path]) -> None:
    _, exact = predict(*STRINGS[:4], *examples, "--head", "heat_capacity")
    _, fast = predict(*STRINGS[:4], *examples, "--head", "heat_capacity", "--dtype", "bfloat16")
    assert fast[THETA].dtype == np.float64
    np.testing.assert_allclose(fast[THETA], exact[THETA], rtol=0.02)
    np.testing.assert_allclose(fast[PER_ATOM], exact[PER_ATOM], rtol=0.02)
    assert (fast[THETA] != exact[THETA]).any()


def test_evaluate_in_processes(cloud, tmp_path: Path) -> None:
    crystal = {"lattice": [5.64, 0, 0, 0, 5.64, 0, 0, 0, 5.64], "frac_coords": [0, 0, 0, 0.5, 0.5, 0.5]}
    rows = [{**crystal, "numbers": [11, z], "y": 20.0 + z} for z in (9, 17, 35, 300)]
    pd.DataFrame(rows).to_parquet(tmp_path / "t.parquet")
    argv = ["evaluate", "--data", tmp_path / "t.parquet", "--label", "y", *QUICK]
    one, two = cloud(*argv), cloud(*argv, "--processes", 2, "--timeout", 600)
    assert one.status == two.status == 1
    assert one.out == two.out
    assert "1 of 4 rows failed" in two.err
