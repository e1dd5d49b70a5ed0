"""Models of few labels: what the inner validation chooses, what is saved, and what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from cloud_hf.debye import heat_capacity
from cloud_hf.errors import CloudError
from cloud_hf.training.few_labels import FEW_LABEL_MODELS, few_label_predictions, fit_linear
from cloud_hf.training.finetune_arguments import FinetuneArguments

pytest.importorskip("sklearn")

METALS = ("Li", "Na", "K", "Rb", "Cs", "Mg", "Ca", "Sr", "Ba", "Al", "Ga", "In", "Cu", "Ag", "Au", "Ti", "V", "Cr")
SCOPES = [f"1 0 0 | {metal} {word} O 2i" for metal in METALS for word in ("1a", "1b", "1c")]
ROWS = np.arange(len(SCOPES))
TRAIN, TEST = ROWS[ROWS % 4 != 3], ROWS[ROWS % 4 == 3]


class TestChoice:
    @pytest.fixture(scope="class")
    def vectors(self) -> np.ndarray:
        return np.random.default_rng(0).normal(3.0, 2.0, (len(SCOPES), 6))

    def test_a_linear_head_is_exact_where_labels_are_linear(self, vectors: np.ndarray) -> None:
        weight = np.array([1.0, -2.0, 0.5, 0.0, 0.0, 3.0])
        fit = fit_linear(vectors[TRAIN], vectors[TRAIN] @ weight + 7.0)
        assert fit.predict(vectors[TEST]) == pytest.approx(vectors[TEST] @ weight + 7.0, rel=0.02, abs=0.1)
        assert fit.penalty == pytest.approx(0.1)

    def test_what_the_vectors_say_is_learned_from_them(self, vectors: np.ndarray) -> None:
        labels = np.where(np.isin(ROWS, TEST), np.nan, vectors @ np.arange(6.0))  # those of test rows are not looked at
        found, choice = few_label_predictions(vectors, SCOPES, labels, TRAIN, TEST)
        assert choice.model in ("linear_head", "gaussian_process")
        assert choice.errors.keys() == FEW_LABEL_MODELS.keys()
        assert choice.errors[choice.model] < 0.5 * choice.errors["gaussian_process_and_trees"]
        assert choice.errors["linear_head"] < 0.1 * choice.errors["trees"]
        assert choice.rows == len(TRAIN)
        assert found == pytest.approx(vectors[TEST] @ np.arange(6.0), abs=0.5)

    def test_what_the_composition_says_is_not(self, vectors: np.ndarray) -> None:
        labels = np.array([100.0 + METALS.index(scope.split()[4]) for scope in SCOPES])
        atoms = np.full(len(SCOPES), 3.0)
        cells = heat_capacity(4 * labels, 300.0, atoms).numpy()
        found, choice = few_label_predictions(vectors, SCOPES, cells, TRAIN, TEST, "heat_capacity", atoms)
        assert choice.model != "linear_head"
        assert np.abs(found - cells[TEST]).mean() < np.abs(cells[TRAIN].mean() - cells[TEST]).mean() / 2

    def test_few_crystals_choose_nothing(self, vectors: np.ndarray) -> None:
        _, choice = few_label_predictions(vectors, SCOPES, vectors[:, 0], ROWS[:9], TEST)
        assert (choice.model, choice.errors, choice.rows) == ("gaussian_process_and_trees", {}, 0)

    def test_one_label_is_too_few(self, vectors: np.ndarray) -> None:
        with pytest.raises(CloudError, match="2 labels or more"):
            fit_linear(vectors[:1], np.ones(1))


@pytest.fixture
def table(strings: list[str], tmp_path: Path) -> Path:
    chance = np.random.default_rng(5)
    frame = pd.DataFrame({"scope": strings, "gap": [1.0 + len(text) % 7 for text in strings]})
    frame["cv"] = heat_capacity(300 + 400 * chance.random(len(strings)), 300.0).numpy()
    frame["part"] = np.resize(["train", "train", "train", "test"], len(strings))
    frame.to_csv(tmp_path / "rows.csv", index=False)
    return tmp_path / "rows.csv"


def same_encoder(one: Path, two: Path) -> bool:
    before, after = (load_file(path / "model.safetensors") for path in (one, two))
    names = [name for name in before if name.startswith("bert.")]
    return bool(names) and all(torch.equal(before[name], after[name]) for name in names)


class TestRuns:
    def test_the_linear_head_is_an_ordinary_checkpoint(
        self, finetune: Any, cloud: Any, pretrained: Path, table: Path, tmp_path: Path
    ) -> None:
        words = ["--data", table, "--target", "gap:eV", "--transform", "log", "--split", "part", "--method", "features"]
        found = finetune(*words)
        assert found.status == 0, found.err
        out = tmp_path / "out"
        assert same_encoder(pretrained, out)
        assert cloud("predict", table, "--model", out, "-o", tmp_path / "p.csv").status == 0
        written = pd.read_csv(out / "predictions.csv").sort_values("row")
        predicted = pd.read_csv(tmp_path / "p.csv")["gap (eV)"]
        # the vectors of the tiny encoder differ little, so the weights are large and magnify its rounding
        np.testing.assert_allclose(written["gap predicted (eV)"], predicted, rtol=2e-3)
        train = written[written["part"] == "train"]
        assert (train["gap error (eV)"]).abs().mean() < (train["gap (eV)"] - train["gap (eV)"].mean()).abs().mean()
        assert "gap auto (eV)" not in written

    def test_auto_says_what_it_chose_and_what_is_not_saved(
        self, finetune: Any, pretrained: Path, table: Path, tmp_path: Path
    ) -> None:
        words = ["--data", table, "--target", "cv:J/(mol atom K)", "--debye", "heat_capacity", "--split", "part"]
        found = finetune(*words, "--method", "auto", "--baselines", "true")
        assert found.status == 0, found.err
        out = tmp_path / "out"
        choice = json.loads((out / "run.json").read_text())["auto"]["cv"]
        assert choice["errors"].keys() == FEW_LABEL_MODELS.keys()
        assert f"Auto of cv: {choice['model'].replace('_', ' ')} (inner validation, MAE" in found.out
        assert "are not saved" in found.out
        assert "MAE of auto" in found.out
        assert same_encoder(pretrained, out)
        test = pd.read_csv(out / "predictions.csv").query("part == 'test'")
        error = (test["cv auto (J/(mol atom K))"] - test["cv (J/(mol atom K))"]).abs().mean()
        metrics = json.loads((out / "metrics.json").read_text())["test"]["cv"]
        assert metrics["baselines"]["auto"]["mae"] == pytest.approx(error)
        assert metrics["mae"] == pytest.approx(test["cv error (J/(mol atom K))"].abs().mean())
        assert not {path.suffix for path in out.rglob("*")} & {".pkl", ".joblib", ".bin", ".pt", ".npy", ".npz"}

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"head_layers": 2}, "--head-layers belongs to --method finetune"),
            ({"early_stopping": 3}, "--early-stopping"),
            ({"lora_rank": 4}, "--lora-rank"),
            ({"debye": ["internal_energy"]}, "one heat capacity only"),
            ({"debye": ["heat_capacity"], "temperature": "kelvin"}, "of one --temperature"),
            ({"method": "auto", "baselines": False}, "--method auto compares with trees"),
        ],
    )
    def test_what_cannot_work_is_refused(self, given: dict[str, Any], message: str) -> None:
        arguments = {"model": "default", "data": "x.csv", "target": ["gap:eV"], "method": "features"} | given
        with pytest.raises(CloudError, match=message):
            FinetuneArguments(**arguments)
