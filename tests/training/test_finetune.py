"""Fine-tuning through the command: it learns, it says how well beside the mean predictor, it refuses bad input."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from cloud_hf import CloudForDebye, CloudForPropertyRegression
from cloud_hf.models.debye import heat_capacity

DEBYE = ["--debye", "heat_capacity", "--target", "cv:J/(mol cell K)", "--n-atoms", "n_atoms"]


@pytest.fixture(scope="module")
def debye_rows(strings: list[str]) -> pd.DataFrame:
    """Every string twice, with the heat capacity of a made-up Debye temperature that the composition decides."""
    chance = np.random.default_rng(0)
    first = [text.split("|")[2].split()[0] for text in strings]
    theta_of = {name: 150.0 + 110.0 * index for index, name in enumerate(sorted(set(first)))}
    theta = np.array([theta_of[name] for name in first])
    atoms = chance.integers(1, 20, len(strings))
    cv = heat_capacity(torch.tensor(theta), 300.0, torch.tensor(atoms, dtype=torch.float64)).numpy()
    table = pd.DataFrame({"scope": strings, "cv": cv, "n_atoms": atoms, "theta": theta})
    return pd.concat([table, table], ignore_index=True)


@pytest.fixture(scope="module")
def debye_table(debye_rows: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labels") / "debye.parquet"
    debye_rows.to_parquet(path)
    return path


@pytest.fixture(scope="module")
def debye_run(run_finetune, debye_table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; tests must not change it."""
    return run_finetune(tmp_path_factory.mktemp("debye") / "out", "--data", debye_table, *DEBYE)


@pytest.fixture(scope="module")
def whole_run(run_finetune, debye_table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that kept no rows back; tests must not change it."""
    flags = ["--data", debye_table, *DEBYE, "--validation-fraction", 0]
    return run_finetune(tmp_path_factory.mktemp("whole") / "out", *flags)


def metrics_of(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


class TestDebye:
    @pytest.mark.train
    def test_it_lowers_its_error_below_the_mean_predictor(self, finetune, debye_table: Path, tmp_path: Path) -> None:
        data = ["--data", debye_table, *DEBYE, "--max-steps", 60]
        assert finetune(*data, "--learning-rate", 0, out="untrained").status == 0
        found = finetune(*data, out="trained")
        assert found.status == 0
        before, after = (metrics_of(tmp_path / name)["train"]["cv"] for name in ("untrained", "trained"))
        assert after["mad"] == before["mad"]
        assert after["mae"] < 0.7 * before["mae"]
        assert after["mae"] < after["mad"]
        assert "MAE of the mean" in found.out

    def test_what_it_writes(self, debye_run: Path) -> None:
        names = {path.name for path in debye_run.iterdir()}
        assert {"model.safetensors", "config.json", "tokenizer_config.json", "vocab.txt", "metrics.json"} <= names
        assert not [name for name in names if re.search(r"\.(bin|pt|pth|pkl)$", name)]
        model, loaded = AutoModelForSequenceClassification.from_pretrained(debye_run, output_loading_info=True)
        assert isinstance(model, CloudForDebye)
        assert not loaded["missing_keys"]
        assert model.config.target_names == ["debye_temperature"]
        assert model.config.target_units == ["K"]
        assert model.config.theta_link == "exp"

    def test_the_mean_predictor_is_that_of_the_rows(self, debye_run: Path, debye_rows, strings) -> None:
        metrics = metrics_of(debye_run)
        assert set(metrics) == {"train", "validation"}
        assert metrics["train"]["cv"]["n"] + metrics["validation"]["cv"]["n"] == len(debye_rows)
        assert metrics["validation"]["cv"]["n"] == 2 * round(0.25 * len(strings))  # both rows of each string
        assert metrics["train"]["cv"]["unit"] == "J/(mol cell K)"
        for row in (part["cv"] for part in metrics.values()):
            assert row["mad"] > 0
            assert row["mae_mad"] == pytest.approx(row["mae"] / row["mad"])

    def test_without_a_split_all_rows_train(self, whole_run: Path, debye_rows) -> None:
        metrics = metrics_of(whole_run)
        assert set(metrics) == {"train"}
        cv = debye_rows["cv"]
        assert metrics["train"]["cv"]["n"] == len(debye_rows)
        assert metrics["train"]["cv"]["mad"] == pytest.approx((cv - cv.mean()).abs().mean(), rel=1e-5)

    def test_the_saved_model_has_the_reported_error(self, whole_run: Path, cloud, debye_table, tmp_path) -> None:
        assert cloud(
            "evaluate", "--model", whole_run, "--head", "heat_capacity", "--data", debye_table, "--label", "cv",
            "--n-atoms", "n_atoms", "--json", tmp_path / "e.json",
        ).status == 0  # fmt: skip
        reported, found = metrics_of(whole_run)["train"]["cv"], json.loads((tmp_path / "e.json").read_text())
        for name in ("mae", "rmse", "r2", "median_absolute_error", "mae_mad"):
            assert found[name] == pytest.approx(reported[name], rel=1e-3, abs=1e-5)

    def test_labels_per_atom_need_no_column(self, finetune, debye_rows, tmp_path: Path) -> None:
        table = pd.DataFrame({"scope": debye_rows["scope"], "cv": debye_rows["cv"] / debye_rows["n_atoms"]})
        table.to_csv(tmp_path / "t.csv", index=False)
        target = ["--debye", "heat_capacity", "--target", "cv:J/(mol atom K)"]
        assert finetune("--data", tmp_path / "t.csv", *target).status == 0
        assert metrics_of(tmp_path / "out")["train"]["cv"]["unit"] == "J/(mol atom K)"

    def test_labels_per_cell_without_the_column_are_recognised(self, finetune, debye_rows, tmp_path: Path) -> None:
        table = debye_rows[debye_rows["n_atoms"] > 2]
        table.to_csv(tmp_path / "t.csv", index=False)
        found = finetune("--data", tmp_path / "t.csv", "--debye", "heat_capacity", "--target", "cv:J/(mol cell K)")
        assert found.status == 2
        assert "--n-atoms" in found.err

    def test_two_targets_are_too_many(self, finetune, debye_table: Path) -> None:
        found = finetune("--data", debye_table, "--debye", "heat_capacity", "--target", "cv:J", "theta:K")
        assert found.status == 2
        assert "one target" in found.err

    @pytest.mark.parametrize("bad", [0, -3, 0.5, np.nan])
    def test_less_than_one_atom_is_refused(self, finetune, debye_rows, tmp_path: Path, bad: float) -> None:
        table = debye_rows.astype({"n_atoms": float})
        table.loc[3, "n_atoms"] = bad
        table.to_parquet(tmp_path / "t.parquet")
        found = finetune("--data", tmp_path / "t.parquet", *DEBYE)
        assert found.status == 2
        assert "column 'n_atoms' must hold at least 1 atom" in found.err


class TestRegression:
    @pytest.fixture(scope="class")
    def rows(self, strings: list[str]) -> pd.DataFrame:
        """Two targets, each with gaps, one row without any."""
        chance = np.random.default_rng(1)
        gap, energy = chance.normal(3, 1, len(strings)), chance.normal(-200, 40, len(strings))
        gap[::3] = np.nan
        energy[1::4] = np.nan
        gap[7] = energy[7] = np.nan
        return pd.DataFrame({"scope": strings, "gap": gap, "energy": energy})

    def test_two_targets_with_gaps(self, finetune, cloud, rows: pd.DataFrame, tmp_path: Path) -> None:
        rows.to_csv(tmp_path / "t.csv", index=False)
        found = finetune("--data", tmp_path / "t.csv", "--target", "gap:eV", "energy:meV/atom")
        assert found.status == 0
        metrics = metrics_of(tmp_path / "out")
        for name, unit in (("gap", "eV"), ("energy", "meV/atom")):
            parts = [metrics[part][name] for part in ("train", "validation")]
            assert sum(part["n"] for part in parts) == rows[name].notna().sum()
            assert {part["unit"] for part in parts} == {unit}
            assert all(np.isfinite(part["mae"]) for part in parts)
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
        assert isinstance(model, CloudForPropertyRegression)
        assert model.config.target_names == ["gap", "energy"]
        assert model.config.target_units == ["eV", "meV/atom"]
        assert model.config.target_mean[1] == pytest.approx(-200, abs=30)
        done = cloud("predict", rows["scope"][0], "--model", tmp_path / "out", "-o", tmp_path / "p.csv")
        assert done.status == 0
        columns = pd.read_csv(tmp_path / "p.csv").columns
        assert {"gap (eV)", "energy (meV/atom)"} <= set(columns)

    def test_a_constant_label(self, finetune, rows: pd.DataFrame, tmp_path: Path) -> None:
        rows.assign(gap=2.5).to_csv(tmp_path / "t.csv", index=False)
        assert finetune("--data", tmp_path / "t.csv", "--target", "gap:eV").status == 0
        row = metrics_of(tmp_path / "out")["train"]["gap"]
        assert row["mae_mad"] is None
        assert np.isfinite(row["mae"])

    def test_structure_columns_are_encoded(self, finetune, tmp_path: Path) -> None:
        rows = [
            {"lattice": [a, 0, 0, 0, a, 0, 0, 0, a], "numbers": [z], "frac_coords": [0.0, 0.0, 0.0], "gap": a}
            for z, a in [(29, 3.6), (13, 4.0), (47, 4.1), (26, 2.9), (74, 3.2), (11, 4.3)]
        ]
        pd.DataFrame(rows).to_parquet(tmp_path / "t.parquet")
        assert finetune("--data", tmp_path / "t.parquet", "--target", "gap:eV").status == 0
        metrics = metrics_of(tmp_path / "out")
        assert metrics["train"]["gap"]["n"] + metrics["validation"]["gap"]["n"] == 6


class TestBadTables:
    @pytest.fixture
    def refused(self, finetune, debye_rows, tmp_path: Path):
        """Write a table, fine-tune on it and return the message of the refusal."""

        def run(table: pd.DataFrame, *target: str) -> str:
            table.to_csv(tmp_path / "t.csv", index=False)
            found = finetune("--data", tmp_path / "t.csv", "--target", *target)
            assert found.status == 2
            assert "Traceback" not in found.err
            assert not (tmp_path / "out" / "model.safetensors").exists()
            return found.err

        return run

    def test_missing_label_column(self, refused, debye_rows) -> None:
        assert "'band_gap'" in refused(debye_rows, "band_gap:eV")

    def test_labels_that_are_text(self, refused, debye_rows) -> None:
        values = ["1.5"] * len(debye_rows)
        values[2] = values[9] = "metal"
        assert "row 2: column 'y' must hold finite numbers, not 'metal'" in refused(debye_rows.assign(y=values), "y:eV")

    def test_an_infinite_label(self, refused, debye_rows) -> None:
        values = np.ones(len(debye_rows))
        values[4] = np.inf
        assert "row 4" in refused(debye_rows.assign(y=values), "y:eV")

    def test_no_label_at_all(self, refused, debye_rows) -> None:
        assert "no row has a label" in refused(debye_rows.assign(y=np.nan), "y:eV")

    @pytest.mark.parametrize("target", ["theta", "theta:", ":K"])
    def test_a_target_without_name_or_unit(self, refused, debye_rows, target: str) -> None:
        assert "column:unit" in refused(debye_rows, target)

    def test_the_same_target_twice(self, refused, debye_rows) -> None:
        assert "theta" in refused(debye_rows, "theta:K", "theta:K")

    def test_no_strings_and_no_structures(self, refused, debye_rows) -> None:
        assert "scope" in refused(debye_rows.drop(columns="scope"), "theta:K")

    def test_an_empty_string_is_named(self, refused, debye_rows) -> None:
        scopes = debye_rows["scope"].where(debye_rows.index != 5)
        assert "t.csv:5" in refused(debye_rows.assign(scope=scopes), "theta:K")

    @pytest.mark.parametrize("text", ["1 0 0 | 2i 2i | Cu Cu", "1 0 0 | Cu 2i", "not a string"])
    def test_another_grammar(self, refused, debye_rows, text: str) -> None:
        table = debye_rows.assign(scope=[*debye_rows["scope"][:-1], text])
        message = refused(table, "theta:K")
        assert text in message

    def test_an_unknown_word(self, refused, debye_rows) -> None:
        assert "Xx" in refused(debye_rows.assign(scope=[*debye_rows["scope"][:-1], "1 0 0 | 2i | Xx 1.0"]), "theta:K")

    def test_a_table_that_is_not_there(self, finetune, tmp_path: Path) -> None:
        found = finetune("--data", tmp_path / "absent.csv", "--target", "y:eV")
        assert found.status == 2
        assert "absent.csv" in found.err

    def test_everything_kept_back(self, refused, debye_rows) -> None:
        """Two strings, of which the larger share is for validation: nothing is left to train on."""
        assert "train" in refused(debye_rows[:1], "theta:K", "--validation-fraction", "0.9")


class TestBadCheckpoints:
    """Nothing is ever trained from scratch by accident."""

    def test_another_model_type(self, finetune, bert_folder: Path, debye_table: Path, tmp_path: Path) -> None:
        found = finetune("--data", debye_table, *DEBYE, model=bert_folder)
        assert found.status == 2
        assert "'bert'" in found.err
        assert not (tmp_path / "out" / "model.safetensors").exists()

    def test_another_model_type_without_tokenizer(self, finetune, bert_folder, debye_table, tmp_path: Path) -> None:
        shutil.copytree(bert_folder, tmp_path / "bert", ignore=shutil.ignore_patterns("vocab.txt", "tokenizer*"))
        found = finetune("--data", debye_table, *DEBYE, model=tmp_path / "bert")
        assert found.status == 2
        assert "bert" in found.err

    @pytest.mark.parametrize("kind", ["absent", "empty", "no weights", "truncated"])
    def test_no_usable_checkpoint(self, finetune, pretrained, debye_table, tmp_path: Path, kind: str) -> None:
        folder = tmp_path / "folder"
        if kind == "empty":
            folder.mkdir()
        elif kind != "absent":
            shutil.copytree(pretrained, folder)
            weights = folder / "model.safetensors"
            data = weights.read_bytes()
            weights.unlink()
            if kind == "truncated":
                weights.write_bytes(data[: len(data) // 2])
        found = finetune("--data", debye_table, *DEBYE, model=folder)
        assert found.status == 2
        assert "folder" in found.err
        assert not (tmp_path / "out" / "model.safetensors").exists()

    @pytest.mark.parametrize("lost", ["all", "one layer"])
    def test_missing_encoder_weights(self, finetune, pretrained, debye_table, tmp_path: Path, lost: str) -> None:
        folder = shutil.copytree(pretrained, tmp_path / "folder")
        weights = load_file(folder / "model.safetensors")
        prefix = "bert." if lost == "all" else "bert.encoder.layer.1."
        kept = {name: value.clone() for name, value in weights.items() if not name.startswith(prefix)}
        assert kept
        save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
        found = finetune("--data", debye_table, *DEBYE, model=folder)
        assert found.status == 2
        assert "weights are missing" in found.err
        assert not (tmp_path / "out" / "model.safetensors").exists()


def test_the_encoder_starts_from_the_checkpoint(finetune, pretrained, debye_table, tmp_path: Path) -> None:
    assert finetune("--data", debye_table, *DEBYE, "--learning-rate", 0).status == 0
    before, after = (load_file(folder / "model.safetensors") for folder in (pretrained, tmp_path / "out"))
    encoder = [name for name in after if name.startswith("bert.")]
    assert encoder
    for name in encoder:
        assert torch.equal(before[name], after[name]), name


def test_a_head_is_fine_tuned_further(finetune, debye_run: Path, debye_table, tmp_path: Path) -> None:
    """A folder that `finetune` wrote is a checkpoint to go on from."""
    assert finetune("--data", debye_table, "--target", "theta:K", model=debye_run, out="second").status == 0
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "second")
    assert isinstance(model, CloudForPropertyRegression)


def test_the_same_seed_gives_the_same_weights(finetune, debye_run: Path, debye_table, tmp_path: Path) -> None:
    assert finetune("--data", debye_table, *DEBYE).status == 0
    one, two = (load_file(folder / "model.safetensors") for folder in (debye_run, tmp_path / "out"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_model_of_the_internal_energy_predicts_and_scores_it(
    finetune, cloud, debye_rows: pd.DataFrame, tmp_path: Path
) -> None:
    from cloud_hf.models.debye import internal_energy

    theta, atoms = (torch.tensor(debye_rows[name].to_numpy(float)) for name in ("theta", "n_atoms"))
    table = tmp_path / "u.parquet"
    debye_rows.assign(u=internal_energy(theta, 300.0, atoms).numpy()).to_parquet(table)
    columns = ["--debye", "internal_energy", "--target", "u:J/(mol cell)", "--n-atoms", "n_atoms"]
    assert finetune("--data", table, *columns).status == 0
    flags = ["--model", tmp_path / "out", "--head", "internal_energy", "--data", table, "--label", "u"]
    found = cloud("evaluate", *flags, "--n-atoms", "n_atoms", "--json", tmp_path / "m.json")
    assert found.status == 0, found.err
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert metrics["unit"] == "J/(mol cell)"
    assert metrics["n"] == len(debye_rows)
    found = cloud("predict", table, "--model", tmp_path / "out", "--n-atoms", "n_atoms", "-o", tmp_path / "p.parquet")
    assert found.status == 0, found.err
    rows = pd.read_parquet(tmp_path / "p.parquet")
    per_atom, per_cell = rows["internal_energy_per_atom (J/(mol atom))"], rows.filter(like="internal_energy_per_cell")
    np.testing.assert_allclose(per_cell.iloc[:, 0], per_atom * rows["n_atoms"], rtol=1e-5)


@pytest.mark.parametrize(
    "flags",
    [
        ["--head-layers", "-1"],
        ["--temperature", "-5"],
        ["--temperature", "0"],
        ["--validation-fraction", "2"],
        ["--lr-scheduler-type", "foo"],
    ],
)
def test_values_that_cannot_be_trained_with_are_refused(finetune, debye_table: Path, flags: list[str]) -> None:
    found = finetune("--data", debye_table, *DEBYE, *flags)
    assert found.status == 2
    assert found.err.count("\n") < 30
    assert "Traceback" not in found.err


def test_atoms_without_a_debye_head_are_refused(finetune, debye_table: Path) -> None:
    assert finetune("--data", debye_table, "--target", "theta:K", "--n-atoms", "n_atoms").status == 2
