"""Runs of `cloud-hf finetune`: who is scored by whom, what is left behind, how a run is gone on with or repeated."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

GAP = ["--target", "gap:eV"]


@pytest.fixture(scope="module")
def rows(strings: list[str]) -> pd.DataFrame:
    """Every string twice, a gap that the second element decides, a split column and fold numbers by string."""
    chance = np.random.default_rng(5)
    gap = np.array([1.0 + len(text) % 7 + 0.1 * chance.normal() for text in strings])
    kinds = np.resize(["train", "train", "train", "validation", "test"], len(strings))
    table = pd.DataFrame({"scope": strings, "gap": gap, "split": kinds, "fold": np.arange(len(strings)) % 3})
    return pd.concat([table, table], ignore_index=True)


@pytest.fixture(scope="module")
def table(rows: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    rows.to_csv(path, index=False)
    return path


def read(folder: Path, name: str) -> dict:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_what_a_run_leaves(finetune, drawn, table: Path, rows: pd.DataFrame, tmp_path: Path) -> None:
    found = finetune("--data", table, *GAP, "--split", "split")
    assert found.status == 0, found.err
    out = tmp_path / "out"
    metrics, predictions = read(out, "metrics.json"), pd.read_csv(out / "predictions.csv")
    assert list(metrics) == ["train", "validation", "test"]
    assert sorted(predictions["row"]) == list(range(len(rows)))
    assert (predictions["part"] == rows["split"].iloc[predictions["row"]].to_numpy()).all()
    train_mean = rows.loc[rows["split"] == "train", "gap"].mean()
    for part, of_part in predictions.groupby("part"):
        error = of_part["gap predicted (eV)"] - of_part["gap (eV)"]
        np.testing.assert_allclose(of_part["gap error (eV)"], error)
        row = metrics[part]["gap"]
        assert row["mae"] == pytest.approx(error.abs().mean())
        assert row["n"] == len(of_part)
        assert row["unit"] == "eV"
        assert row["baselines"]["mean"]["mae"] == pytest.approx((of_part["gap (eV)"] - train_mean).abs().mean())
    assert (out / "parity.png").read_bytes()[:4] == b"\x89PNG"
    assert not list(out.glob("checkpoint-*"))
    assert not (out / "skipped.csv").exists()


def test_the_predictions_are_the_model_s(finetune, cloud, table: Path, tmp_path: Path) -> None:
    assert finetune("--data", table, *GAP).status == 0
    assert cloud("predict", table, "--model", tmp_path / "out", "-o", tmp_path / "p.csv").status == 0
    written = pd.read_csv(tmp_path / "out" / "predictions.csv").sort_values("row")
    np.testing.assert_allclose(
        written["gap predicted (eV)"], pd.read_csv(tmp_path / "p.csv")["gap (eV)"], rtol=2e-5, atol=2e-5
    )


def test_the_printed_line_repeats_the_run(finetune, cloud, table: Path, tmp_path: Path) -> None:
    own = ["--transform", "log", "--loss", "huber", "--layer-lr-decay", "0.8", "--freeze-epochs", "0.5"]
    found = finetune("--data", table, *GAP, *own, "--lr-scheduler-type", "linear", "--weight-decay", "0.1")
    assert found.status == 0, found.err
    (line,) = [line for line in found.out.splitlines() if line.startswith("Again: ")]
    before = weights(tmp_path / "out")
    words = shlex.split(line.removeprefix("Again: "))
    assert words[:2] == ["cloud-hf", "finetune"]
    assert "--seed" in words
    words[words.index("--output-dir") + 1] = str(tmp_path / "again")
    assert cloud(*words[1:]).status == 0
    assert same(before, weights(tmp_path / "again"))
    assert read(tmp_path / "out", "run.json")["command"] == line.removeprefix("Again: ")


class TestTrees:
    @pytest.mark.train
    def test_they_stand_beside_the_model(self, finetune, table: Path, tmp_path: Path) -> None:
        pytest.importorskip("sklearn")
        from cloud_hf.baselines import tree_predictions

        found = finetune("--data", table, *GAP, "--split", "split", "--baselines", "true")
        assert found.status == 0, found.err
        assert "MAE of trees" in found.out
        written = pd.read_csv(tmp_path / "out" / "predictions.csv").sort_values("row")
        train, test = (np.flatnonzero(written["part"] == part) for part in ("train", "test"))
        expected = tree_predictions(written["scope"].tolist(), written["gap (eV)"].to_numpy(), train, test, "value")
        np.testing.assert_allclose(written["gap trees (eV)"].to_numpy()[test], expected)
        error = np.abs(expected - written["gap (eV)"].to_numpy()[test]).mean()
        metrics = read(tmp_path / "out", "metrics.json")
        assert metrics["test"]["gap"]["baselines"]["trees"]["mae"] == pytest.approx(error)
        assert "trees" not in metrics["train"]["gap"]["baselines"]
        choice = read(tmp_path / "out", "run.json")["trees"]["gap"]
        assert choice["errors"][choice["model"]] <= choice["errors"]["average"]
        assert f"Trees of gap: {choice['model'].replace('_', ' ')} (inner validation, MAE" in found.out

    def test_without_scikit_learn_they_are_left_out(self, finetune, table, tmp_path: Path, monkeypatch) -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "sklearn"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "sklearn", None)
        monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
        assert finetune("--data", table, *GAP, "--baselines", "true").status == 0
        assert set(read(tmp_path / "out", "metrics.json")["validation"]["gap"]["baselines"]) == {"mean"}


class TestFolds:
    def test_every_row_is_scored_by_a_model_that_has_not_seen_it(self, finetune, table, rows, tmp_path: Path) -> None:
        found = finetune("--data", table, *GAP, "--folds", 3)
        assert found.status == 0, found.err
        out = tmp_path / "out"
        pooled = pd.read_csv(out / "predictions.csv")
        assert sorted(pooled["row"]) == list(range(len(rows)))
        maes = []
        for fold in range(3):
            one = pd.read_csv(out / f"fold_{fold}" / "predictions.csv")
            assert set(one["part"]) == {"train", "test"}
            parts = {part: set(found["scope"]) for part, found in one.groupby("part")}
            assert not parts["train"] & parts["test"]
            assert set(one.loc[one["part"] == "test", "row"]) == set(pooled.loc[pooled["fold"] == fold, "row"])
            maes.append(read(out / f"fold_{fold}", "metrics.json")["test"]["gap"]["mae"])
            assert AutoModelForSequenceClassification.from_pretrained(out / f"fold_{fold}").config.target_units == [
                "eV"
            ]
        row = read(out, "metrics.json")["test"]["gap"]
        assert row["folds"]["mae"] == pytest.approx(maes)
        assert row["folds"]["mae_mean"] == pytest.approx(np.mean(maes))
        assert row["folds"]["mae_std"] == pytest.approx(np.std(maes, ddof=1))
        assert row["mae"] == pytest.approx(pooled["gap error (eV)"].abs().mean())
        assert row["n"] == len(rows)

    @pytest.mark.train
    def test_fold_numbers_of_a_column(self, finetune, table: Path, rows: pd.DataFrame, tmp_path: Path) -> None:
        assert finetune("--data", table, *GAP, "--split", "fold").status == 0
        pooled = pd.read_csv(tmp_path / "out" / "predictions.csv")
        assert (pooled["fold"] == rows["fold"].iloc[pooled["row"]].to_numpy()).all()

    @pytest.mark.train
    def test_a_model_of_all_rows_beside_the_errors_of_the_folds(
        self, finetune, cloud, table: Path, rows: pd.DataFrame, tmp_path: Path
    ) -> None:
        run = ["--data", table, *GAP, "--eval-strategy", "no"]
        assert finetune(*run, "--folds", 2).status == 0
        out = tmp_path / "out"
        errors = read(out, "metrics.json")["test"]
        trained = (out / "fold_0" / "model.safetensors").stat().st_mtime_ns
        found = finetune(*run, "--folds", 2, "--refit", "true")
        assert found.status == 0, found.err
        assert read(out, "metrics.json") == {"folds": errors}
        assert (out / "fold_0" / "model.safetensors").stat().st_mtime_ns == trained
        assert finetune(*run, "--validation-fraction", 0, out="whole").status == 0
        assert same(weights(out), weights(tmp_path / "whole"))
        assert len(pd.read_csv(out / "predictions.csv")) == len(rows)
        assert "MAE, out-of-fold rows" in cloud("info", "--model", out).out
        assert "trained on all rows" in (out / "README.md").read_text()
        predicted = cloud("predict", rows["scope"][0], "--model", out, "-o", tmp_path / "p.csv")
        assert predicted.status == 0, predicted.err
        assert "gap (eV)" in pd.read_csv(tmp_path / "p.csv").columns

    @pytest.mark.train
    def test_the_model_of_all_rows_is_trained_to_the_end(self, finetune, table: Path, tmp_path: Path) -> None:
        flags = ["--early-stopping", 1, "--max-steps", -1, "--num-train-epochs", 3]
        found = finetune("--data", table, *GAP, "--folds", 2, "--refit", "true", *flags)
        assert found.status == 0, found.err
        assert "without early stopping" in found.out
        assert finetune("--data", table, *GAP, *flags[2:], "--validation-fraction", 0, out="whole").status == 0
        assert same(weights(tmp_path / "out"), weights(tmp_path / "whole"))

    @pytest.mark.parametrize("flags", [[], ["--split", "split"]])
    def test_without_folds_there_is_nothing_to_refit(self, finetune, table: Path, flags: list[str]) -> None:
        found = finetune("--data", table, *GAP, "--refit", "true", *flags)
        assert found.status == 2
        assert "--refit" in found.err

    @pytest.mark.train
    def test_finished_folds_are_not_trained_again(self, finetune, table: Path, tmp_path: Path) -> None:
        run = ["--data", table, *GAP, "--folds", 3]
        assert finetune(*run, out="whole").status == 0
        assert finetune(*run).status == 0
        out = tmp_path / "out"
        kept = (out / "fold_1" / "model.safetensors").stat().st_mtime_ns
        for name in ("fold_0/metrics.json", "fold_2/metrics.json", "metrics.json"):
            (out / name).unlink()
        found = finetune(*run)
        assert found.status == 0, found.err
        assert (out / "fold_1" / "model.safetensors").stat().st_mtime_ns == kept
        assert read(out, "metrics.json") == read(tmp_path / "whole", "metrics.json")
        for fold in range(3):
            assert same(weights(out / f"fold_{fold}"), weights(tmp_path / "whole" / f"fold_{fold}"))

    def test_folds_of_other_settings_are_refused(self, finetune, table: Path, rows, tmp_path: Path) -> None:
        run = ["--data", table, *GAP, "--folds", 2]
        assert finetune(*run).status == 0
        before = (tmp_path / "out" / "fold_0" / "model.safetensors").read_bytes()
        found = finetune(*run, "--learning-rate", "1e-5")
        assert found.status == 2
        assert "learning_rate was 0.003, is 1e-05" in found.err
        rows.assign(gap=rows["gap"] + 1).to_csv(tmp_path / "other.csv", index=False)
        found = finetune("--data", tmp_path / "other.csv", *run[2:])
        assert found.status == 2
        assert "rows was" in found.err
        assert (tmp_path / "out" / "fold_0" / "model.safetensors").read_bytes() == before

    def test_fewer_strings_than_folds(self, finetune, table: Path, tmp_path: Path) -> None:
        found = finetune("--data", table, *GAP, "--folds", 500)
        assert found.status == 2
        assert "500 folds" in found.err
        assert not (tmp_path / "out").exists()


class TestSeeds:
    def test_mean_and_spread(self, finetune, table: Path, rows: pd.DataFrame, tmp_path: Path) -> None:
        found = finetune("--data", table, *GAP, "--seeds", 3)
        assert found.status == 0, found.err
        out = tmp_path / "out"
        single = [read(out / f"seed_{seed}", "metrics.json")["validation"]["gap"] for seed in (1, 2, 3)]
        row = read(out, "metrics.json")["validation"]["gap"]
        assert row["seeds"]["mae"] == [one["mae"] for one in single]
        assert len(set(row["seeds"]["mae"])) == 3
        assert row["mae"] == pytest.approx(np.mean(row["seeds"]["mae"]))
        assert row["seeds"]["mae_std"] == pytest.approx(np.std(row["seeds"]["mae"], ddof=1))
        assert len({one["n"] for one in single} | {row["n"]}) == 1  # all seeds are scored on the same rows
        each = [pd.read_csv(out / f"seed_{seed}" / "predictions.csv").sort_values("row") for seed in (1, 2, 3)]
        every = np.stack([frame["gap predicted (eV)"] for frame in each])
        pooled = pd.read_csv(out / "predictions.csv").sort_values("row")
        np.testing.assert_allclose(pooled["gap predicted (eV)"], every.mean(axis=0))
        np.testing.assert_allclose(pooled["gap seeds (eV)"], every.std(axis=0, ddof=1))
        assert same(weights(out), weights(out / "seed_1"))
        assert AutoTokenizer.from_pretrained(out)(rows["scope"][0])["input_ids"]
        assert finetune("--data", table, *GAP, out="single").status == 0
        assert same(weights(out), weights(tmp_path / "single"))

    @pytest.mark.train
    def test_more_seeds_keep_the_finished_ones(self, finetune, table: Path, tmp_path: Path) -> None:
        assert finetune("--data", table, *GAP, "--folds", 2, "--seeds", 2).status == 0
        kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("model.safetensors")}
        assert len(kept) == 4
        assert finetune("--data", table, *GAP, "--folds", 2, "--seeds", 3).status == 0
        assert {path: path.stat().st_mtime_ns for path in kept} == kept
        row = read(tmp_path / "out", "metrics.json")["test"]["gap"]
        assert len(row["seeds"]["mae"]) == 3
        assert len(row["folds"]["mae"]) == 2


class TestEarlyStopping:
    FLAGS = ("--early-stopping", "2", "--max-steps", "-1", "--num-train-epochs", "30", "--learning-rate", "3e-2")

    def test_the_best_weights_are_kept(self, finetune, table: Path, tmp_path: Path) -> None:
        found = finetune("--data", table, *GAP, *self.FLAGS, "--save-strategy", "epoch", "--save-total-limit", 100)
        assert found.status == 0, found.err
        out = tmp_path / "out"
        selection = read(out, "run.json")["selection"]
        assert selection["evaluations"] < 30
        states = sorted(out.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
        log = [entry for entry in read(states[-1], "trainer_state.json")["log_history"] if "eval_mae_mad" in entry]
        best = min(log, key=lambda entry: entry["eval_mae_mad"])
        assert selection["best_step"] == best["step"] < log[-1]["step"]
        assert same(weights(out), weights(out / f"checkpoint-{best['step']}"))
        row = read(out, "metrics.json")["validation"]["gap"]
        assert row["mae_mad"] == pytest.approx(best["eval_mae_mad"], rel=1e-5)
        assert "flatters" in found.out

    def test_no_checkpoint_is_left_that_was_not_asked_for(self, finetune, table: Path, tmp_path: Path) -> None:
        assert finetune("--data", table, *GAP, *self.FLAGS, "--num-train-epochs", 3).status == 0
        assert not list((tmp_path / "out").glob("checkpoint-*"))
        assert not [path for path in (tmp_path / "out").rglob("*") if path.suffix in (".bin", ".pt", ".pth")]

    @pytest.mark.train
    def test_with_folds_it_looks_at_neither_test_nor_training_rows(self, finetune, table, rows, tmp_path: Path) -> None:
        found = finetune("--data", table, *GAP, *self.FLAGS, "--folds", 2, "--num-train-epochs", 3)
        assert found.status == 0, found.err
        assert "took no part" in found.out
        for fold in range(2):
            one = pd.read_csv(tmp_path / "out" / f"fold_{fold}" / "predictions.csv")
            assert sorted(one["row"]) == list(range(len(rows)))
            parts = {part: set(found["scope"]) for part, found in one.groupby("part")}
            assert set(parts) == {"train", "validation", "test"}
            assert sum(len(strings) for strings in parts.values()) == len(set.union(*parts.values()))
        assert list(read(tmp_path / "out", "metrics.json")) == ["test"]

    def test_validation_labels_never_train(self, finetune, table: Path, rows: pd.DataFrame, tmp_path: Path) -> None:
        """Other labels on the validation and test rows leave the weights of every step as they are."""
        other = rows.assign(gap=rows["gap"].where(rows["split"] == "train", 9 - rows["gap"]))
        other.to_csv(tmp_path / "other.csv", index=False)
        flags = [*GAP, "--split", "split", "--eval-strategy", "epoch"]
        assert finetune("--data", table, *flags, out="one").status == 0
        assert finetune("--data", tmp_path / "other.csv", *flags, out="two").status == 0
        assert same(weights(tmp_path / "one"), weights(tmp_path / "two"))

    def test_without_validation_rows_it_is_refused(self, finetune, table: Path) -> None:
        found = finetune("--data", table, *GAP, "--early-stopping", 2, "--validation-fraction", 0)
        assert found.status == 2
        assert "validation" in found.err


class TestResume:
    def test_it_ends_as_the_uninterrupted_run(self, finetune, table: Path, tmp_path: Path) -> None:
        run = ["--data", table, *GAP, "--save-strategy", "steps", "--save-steps", 2, "--layer-lr-decay", "0.8"]
        assert finetune(*run).status == 0
        whole = weights(tmp_path / "out")
        for name in ("checkpoint-4", "checkpoint-6"):
            for path in (tmp_path / "out" / name).iterdir():
                path.unlink()
            (tmp_path / "out" / name).rmdir()
        found = finetune(*run, "--resume-from-checkpoint", "true")
        assert found.status == 0, found.err
        assert same(whole, weights(tmp_path / "out"))

    def test_another_configuration_is_refused(self, finetune, table: Path, tmp_path: Path) -> None:
        run = ["--data", table, *GAP, "--save-strategy", "steps", "--save-steps", 2]
        assert finetune(*run).status == 0
        before = (tmp_path / "out" / "model.safetensors").read_bytes()
        for other in (["--layer-lr-decay", "0.5"], ["--loss", "mse"]):
            found = finetune(*run, *other, "--resume-from-checkpoint", "true")
            assert found.status == 2
            assert "other settings" in found.err
            assert (tmp_path / "out" / "model.safetensors").read_bytes() == before


def test_no_space_leaves_the_earlier_result_whole(finetune, table: Path, tmp_path: Path) -> None:
    """A file-size limit stands for a full disk: the weights cannot be written, those of the run before stay."""
    resource = pytest.importorskip("resource")
    assert finetune("--data", table, *GAP).status == 0
    out = tmp_path / "out"
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))
    try:
        found = finetune("--data", table, *GAP, "--seed", 8)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert found.status == 2
    assert "cannot be written" in found.err
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before


@pytest.mark.slow
def test_two_processes_keep_the_same_best_weights(pretrained: Path, table: Path, tmp_path: Path) -> None:
    """Every process predicts its share of the rows: with the weights that are saved, also after early stopping."""
    flags = [
        "--early-stopping", "2", "--learning-rate", "3e-2", "--num-train-epochs", "30", "--freeze-epochs", "1",
        "--layer-lr-decay", "0.8", "--per-device-train-batch-size", "8", "--per-device-eval-batch-size", "8",
        "--baselines", "false", "--use-cpu", "true", "--ddp-backend", "gloo", "--disable-tqdm", "true",
    ]  # fmt: skip
    run = ["finetune", "--model", pretrained, "--data", table, *GAP, "--output-dir", tmp_path / "out", *flags]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", "-m", "cloud_hf"]
    done = subprocess.run([*torchrun, *map(str, run)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Again: ") == 1
    selection = read(tmp_path / "out", "run.json")["selection"]
    assert selection["evaluations"] > selection["best_epoch"]
    written = pd.read_csv(tmp_path / "out" / "predictions.csv")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    inputs = AutoTokenizer.from_pretrained(tmp_path / "out")(
        written["scope"].tolist(), padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        expected = model(**inputs).logits[:, 0]
    np.testing.assert_allclose(written["gap predicted (eV)"], expected, rtol=1e-4, atol=1e-4)
