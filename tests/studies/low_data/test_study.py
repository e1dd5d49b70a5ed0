"""The study `low-data`: draws, intervals over draws, and the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cloud_hf.cli.main import main
from cloud_hf.errors import CloudError
from cloud_hf.files import save_figure
from cloud_hf.studies.common.scoring import paired
from cloud_hf.studies.low_data import study as low_data
from cloud_hf.studies.low_data.figures import curve_figure
from cloud_hf.studies.low_data.study import below_from, draw_rows, paired_over_draws, schedule, summary
from cloud_hf.training.few_labels import FEW_LABEL_MODELS


class TestDraws:
    def test_small_draws_have_enough_steps_and_large_ones_their_epochs(self) -> None:
        for n in (2, 50, 399, 400, 982):
            batch, epochs = schedule(n, epochs=30, steps=400, batch=64)
            assert epochs * -(-n // batch) >= 400
            assert epochs >= 30
            assert batch == (16 if n < 400 else 64)
        assert schedule(50, 1, 1, batch=8) == (8, 1)

    def test_draws_differ_and_are_the_same_again(self) -> None:
        train = np.arange(7, 107)
        draws = [draw_rows(train, 30, draw, seed).tolist() for draw in range(3) for seed in (0, 1)]
        assert all(len(set(rows)) == 30 and set(rows) <= set(train.tolist()) for rows in draws)
        assert len({tuple(rows) for rows in draws}) == 6
        assert draws[0] == draw_rows(train, 30, 0).tolist()


class TestIntervals:
    def test_one_draw_is_the_paired_bootstrap_over_rows(self) -> None:
        chance = np.random.default_rng(0)
        errors, others = chance.gamma(1, 5, (2, 200))
        one, two = paired_over_draws([errors], [others]), paired(errors, others)
        for key in ("difference", "low", "high"):
            assert one[key] == pytest.approx(two[key], abs=0.05)

    def test_draws_that_disagree_widen_the_interval(self) -> None:
        chance = np.random.default_rng(0)
        others = chance.gamma(1, 5, (4, 300))
        agreeing = others - 1 + 0.1 * chance.normal(size=others.shape)
        disagreeing = agreeing + np.array([[-2.0], [2.0], [-2.0], [2.0]])
        narrow, wide = (paired_over_draws(errors, others) for errors in (agreeing, disagreeing))
        assert narrow["difference"] == pytest.approx(wide["difference"])
        assert narrow["high"] < 0 < wide["high"]
        assert paired_over_draws(others, others) == {"difference": 0.0, "low": 0.0, "high": 0.0}

    def test_the_interval_covers_what_is_true(self) -> None:
        chance = np.random.default_rng(1)
        inside = 0
        for _ in range(60):
            gap = 0.5 + chance.normal(0, 0.5, (5, 1)) + chance.normal(0, 1, (1, 60)) + chance.normal(0, 1, (5, 60))
            found = paired_over_draws(gap, np.zeros_like(gap), resamples=400)
            inside += found["low"] < 0.5 < found["high"]
        assert inside >= 48  # 95 % of 60 are 57; few draws make it a little too narrow

    def test_below_is_below_from_there_on(self) -> None:
        def line(n: int, high: float) -> dict[str, Any]:
            return {"train_rows": n, "arms": {"model": {"to_trees": {"high": high}}, "trees": {}}}

        assert below_from([line(50, 1), line(100, -1), line(200, -2)], "model") == 100
        assert below_from([line(50, -1), line(100, 1), line(200, -2)], "model") == 200
        assert below_from([line(50, -1), line(100, 1)], "model") is None
        assert below_from([line(50, -1)], "trees") is None

    def test_the_summary_pairs_draws(self) -> None:
        settings = {"batch": 16, "epochs": 3.0}
        model = [{"absolute_error": errors, "seconds": 1.0, "settings": settings} for errors in ([1, 3], [2, 6])]
        trees = [{"absolute_error": errors} for errors in ([2, 4], [1, 5], [9, 9])]
        (line,) = summary({50: {"model": model, "trees": trees}})
        assert line["draws"] == 2  # the third is of the trees alone
        assert line["arms"]["model"]["mae"] == [2, 4]
        assert line["arms"]["model"]["draws_better_than_trees"] == 1
        assert line["arms"]["model"]["epochs"] == 3
        assert "to_trees" not in line["arms"]["trees"]


def test_the_curve_of_the_report_is_drawn_from_its_result_file(root: Path, tmp_path: Path) -> None:
    record = json.loads((root / "docs/studies/low-data/results.json").read_text())
    save_figure(curve_figure(record["results"]["sizes"], "MAE", "title"), str(tmp_path / "curve.png"))
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"


class TestRun:
    @pytest.mark.train
    def test_from_table_to_report_and_on_again(
        self, crystals: Callable[[int], pd.DataFrame], encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("sklearn")
        frame = crystals(60)
        frame.at[5, "numbers"] = [3, 300]
        frame.loc[7, "energy"] = np.nan
        frame.to_parquet(tmp_path / "rows.parquet")
        words = ["study", "low-data", "--data", str(tmp_path / "rows.parquet"), "--target", "energy:eV/atom"]
        words += ["--model", str(encoder), "--out", str(tmp_path / "out"), "--sizes", "12", "24", "--min-steps", "20"]
        words += ["--num-train-epochs", "2", "--learning-rate", "0.01", "--folds", "3"]
        assert main([*words, "--draws", "1"]) == 0
        trained: list[Any] = []
        original = low_data.fit_and_predict
        monkeypatch.setattr(low_data, "fit_and_predict", lambda *given: trained.append(given) or original(*given))
        assert main([*words, "--draws", "1"]) == 0
        assert not trained
        assert main([*words, "--draws", "2"]) == 0
        assert len(trained) == 2  # the second draw of both sizes
        results = json.loads((tmp_path / "out/results.json").read_text())["results"]
        assert results["table"]["rows"] == 60
        assert results["table"]["unlabelled"] == 1
        assert [one["row"] for one in results["table"]["failures"]] == [5]
        assert results["test_rows"] + results["train_rows"] == 58
        assert results["test_crystals_in_training"] == 0
        assert [(line["train_rows"], line["draws"]) for line in results["sizes"]] == [(12, 2), (24, 2)]
        for size in (12, 24):
            for draw in (0, 1):
                cells = [
                    json.loads((tmp_path / f"out/cells/{size}/draw_{draw}/{arm}.json").read_text())
                    for arm in ("model", "auto", "trees", "mean")
                ]
                assert cells[0]["rows"] == cells[1]["rows"] == cells[2]["rows"] == cells[3]["rows"]
                assert cells[1]["chosen"]["model"] in FEW_LABEL_MODELS
                assert len(cells[0]["rows"]) == size
        text = (tmp_path / "out/report.md").read_text()
        assert "few-label method" in text
        assert "by an inner validation of each draw" in " ".join(text.split())
        assert "trees" in text
        assert "row 5" in text
        assert str(tmp_path) not in text
        assert (tmp_path / "out/learning_curve.png").read_bytes()[:4] == b"\x89PNG"

    @pytest.mark.train
    def test_heat_capacities_and_a_model_without_pretraining(
        self, crystals: Callable[[int], pd.DataFrame], encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        crystals(30).to_parquet(tmp_path / "rows.parquet")
        models = []

        def fit(arguments: Any, target: Any, rows: Any, train: Any, tests: Any, seed: int) -> Any:
            models.append((arguments.model, seed))
            return type("Fit", (), {"predictions": {"test": rows.labels["cv"][tests["test"]] + 1.0}})

        monkeypatch.setattr(low_data, "fit_and_predict", fit)
        words = ["study", "low-data", "--data", str(tmp_path / "rows.parquet"), "--target", "cv:J/(mol cell K)"]
        words += ["--model", str(encoder), "--out", str(tmp_path / "out"), "--sizes", "0", "--draws", "2"]
        assert main([*words, "--debye", "--per-cell", "--scratch", "--no-baselines"]) == 0
        assert models == [(str(encoder), 0), ("scratch", 0), (str(encoder), 1), ("scratch", 1)]
        results = json.loads((tmp_path / "out/results.json").read_text())["results"]
        (line,) = results["sizes"]
        assert line["train_rows"] == results["train_rows"]  # 0: all
        assert line["arms"]["scratch"]["mae"] == pytest.approx([1, 1])
        text = (tmp_path / "out/report.md").read_text()
        assert "CLOUD-DEBYE 0.057" in text
        assert "No trees were trained" in text

    @pytest.mark.parametrize(
        ("words", "text"),
        [
            (["--target", "energy"], "unit"),
            (["--target", "gap:eV"], "no column 'gap'"),
            (["--target", "energy:eV/atom", "--sizes", "5000"], "give sizes up to"),
            (["--target", "energy:eV/atom", "--transform", "log"], "positive labels"),
            (["--target", "energy:eV/atom", "--fold", "7"], "fold must be"),
            (["--target", "energy:J/(mol K)", "--debye"], "per primitive cell or per atom"),
        ],
    )
    def test_what_cannot_work_is_refused(
        self, words: list[str], text: str, crystals: Callable[[int], pd.DataFrame], encoder: Path, tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        crystals(20).to_parquet(tmp_path / "rows.parquet")
        base = ["study", "low-data", "--data", str(tmp_path / "rows.parquet"), "--model", str(encoder)]
        assert main([*base, "--out", str(tmp_path / "out"), "--sizes", "10", *words]) == 2
        assert text in capsys.readouterr().err

    def test_values_that_cannot_work(self) -> None:
        for given in (
            {"draws": 0},
            {"sizes": []},
            {"sizes": [1]},
            {"arms": []},
            {"arms": ["forest"]},
            {"data": ["a.csv", "b.csv"]},
        ):
            with pytest.raises(CloudError):
                low_data.Arguments(**({"data": ["x.csv"], "out": "x", "target": "a:b"} | given))  # type: ignore[arg-type]
