"""From a table to what is learned: structure columns, skipped rows, temperatures, transforms, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from cloud_hf import CloudConfig, ScopeEncoder, ScopeTokenizer
from cloud_hf.models.debye import heat_capacity, internal_energy
from cloud_hf.scope import Cell, EncodedCrystal
from cloud_hf.training.finetune_arguments import FinetuneArguments
from cloud_hf.training.finetune_rows import _strings
from waiting import Hang

GAP = ["--target", "gap:eV"]


@pytest.fixture(scope="module")
def rows(strings: list[str]) -> pd.DataFrame:
    chance = np.random.default_rng(3)
    gap = chance.gamma(2, 1, len(strings)) + 0.1
    return pd.DataFrame({"scope": strings, "gap": gap, "n": chance.integers(1, 9, len(strings))})


@pytest.fixture
def write(tmp_path: Path):
    def run(table: pd.DataFrame, name: str = "t.csv") -> Path:
        table.to_csv(tmp_path / name, index=False)
        return tmp_path / name

    return run


@pytest.fixture
def refused(finetune, write, tmp_path: Path):
    """Fine-tune on a table and return the message of the refusal, after which nothing is saved."""

    def run(table: pd.DataFrame, *flags: object) -> str:
        found = finetune("--data", write(table), *(flags if "--target" in flags else [*GAP, *flags]))
        assert found.status == 2, found.out
        assert "Traceback" not in found.err
        assert not (tmp_path / "out" / "model.safetensors").exists()
        return found.err

    return run


def config_of(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def metrics_of(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


class TestStructures:
    @pytest.fixture
    def table(self, examples: list[Path], tmp_path: Path) -> pd.DataFrame:
        (tmp_path / "cifs").mkdir()
        for path in examples:
            shutil.copyfile(path, tmp_path / "cifs" / path.name)
        names = [f"cifs/{path.name}" for path in examples]
        return pd.DataFrame({"cif_path": names, "gap": np.arange(len(names), dtype=float)})

    def test_paths_are_relative_to_the_table(self, finetune, write, table: pd.DataFrame, tmp_path: Path) -> None:
        found = finetune("--data", write(table), "--structure", "cif_path", *GAP)
        assert found.status == 0, found.err
        written = pd.read_csv(tmp_path / "out" / "predictions.csv").sort_values("row")
        assert len(written) == len(table)
        assert written["scope"].str.contains("|", regex=False).all()
        assert config_of(tmp_path / "out")["encoder_settings"]

    def test_strings_of_a_named_column_were_made_elsewhere(self, write, table: pd.DataFrame, tmp_path: Path) -> None:
        texts = [ScopeEncoder().encode(tmp_path / name) for name in table["cif_path"]]
        table = table.drop(columns="cif_path").assign(text=texts)
        for name, recorded in (("one", None), ("two", "sites, canonical, spglib 1.0, symprec 0.1, angle_tolerance 5")):
            rows = table if recorded is None else table.assign(encoder=recorded)
            arguments = FinetuneArguments("default", str(write(rows)), ["gap:eV"], structure="text")
            config = CloudConfig(grammar="sites", canonical=True, encoder_settings="as before")
            _strings(rows, arguments, config, ScopeTokenizer())
            assert config.encoder_settings == (recorded or "as before"), name

    def test_rows_that_fail_are_listed_or_left_out(self, finetune, write, table: pd.DataFrame, tmp_path: Path) -> None:
        (tmp_path / "cifs" / "broken.cif").write_text("data_x\nnothing here\n")
        table.loc[3, "cif_path"] = "cifs/broken.cif"
        table.loc[5, "cif_path"] = "cifs/absent.cif"
        table.loc[6, "gap"] = np.nan
        run = ["--data", write(table), "--structure", "cif_path", *GAP]
        found = finetune(*run)
        assert found.status == 2
        assert "2 of 16 labelled rows" in found.err
        for words in ("t.csv:3", "broken.cif", "t.csv:5", "absent.cif", "--skip-failed"):
            assert words in found.err
        assert not (tmp_path / "out").exists()
        found = finetune(*run, "--skip-failed", "true")
        assert found.status == 0, found.err
        skipped = pd.read_csv(tmp_path / "out" / "skipped.csv")
        assert skipped["row"].tolist() == [3, 5, 6]
        assert "broken.cif" in skipped["reason"][0]
        assert "no such file" in skipped["reason"][1]
        assert skipped["reason"][2] == "no label"
        assert set(pd.read_csv(tmp_path / "out" / "predictions.csv")["row"]) == set(range(len(table))) - {3, 5, 6}
        assert "1 rows without a label, 2 without a usable string" in found.out

    def test_a_crystal_that_takes_too_long_is_a_failed_row(
        self, finetune, write, table: pd.DataFrame, hang: Hang, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def describe(self: ScopeEncoder, crystal: Cell) -> EncodedCrystal:
            if crystal.name.endswith(Path(table["cif_path"][4]).name):
                hang()
            return quick(self, crystal)

        quick = ScopeEncoder.describe
        monkeypatch.setattr(ScopeEncoder, "describe", describe)
        run = ["--data", write(table), "--structure", "cif_path", *GAP, "--encode-timeout", "600"]
        found = finetune(*run)
        assert found.status == 2
        assert "1 of 17 labelled rows" in found.err
        for words in ("t.csv:4", "time limit of 600 s; raise --encode-timeout,"):
            assert words in found.err
        found = finetune(*run, "--skip-failed", "true")
        assert found.status == 0, found.err
        assert pd.read_csv(tmp_path / "out" / "skipped.csv")["row"].tolist() == [4]

    def test_the_number_of_processes_changes_nothing(self, finetune, write, table, tmp_path: Path) -> None:
        (tmp_path / "cifs" / "broken.cif").write_text("data_x\nnothing here\n")
        table.loc[3, "cif_path"] = "cifs/broken.cif"
        run = ["--data", write(table), "--structure", "cif_path", *GAP, "--skip-failed", "true"]
        for processes in (1, 2):
            found = finetune(*run, "--encode-processes", processes, out=f"out_{processes}")
            assert found.status == 0, found.err
        for name in ("skipped.csv", "predictions.csv"):
            assert (tmp_path / "out_1" / name).read_bytes() == (tmp_path / "out_2" / name).read_bytes()

    def test_all_rows_fail(self, refused, table: pd.DataFrame) -> None:
        message = refused(table.assign(cif_path="absent.cif"), "--structure", "cif_path", "--skip-failed", "true")
        assert "all 17 labelled rows failed" in message

    def test_a_column_that_is_not_there(self, refused, table: pd.DataFrame) -> None:
        assert "'cell'" in refused(table, "--structure", "cell")


def test_a_string_that_is_too_long_for_the_model_is_a_failed_row(finetune, write, rows, tmp_path: Path) -> None:
    generators = rows["scope"][0].split("|")[0]
    long = f"{generators}| {'2i ' * 300}| Cu 1.0"
    table = pd.concat([rows, pd.DataFrame({"scope": [long], "gap": [1.0]})], ignore_index=True)
    found = finetune("--data", write(table), *GAP)
    assert found.status == 2
    assert f"t.csv:{len(rows)}" in found.err


class TestDebye:
    @pytest.fixture(scope="class")
    def table(self, strings: list[str]) -> pd.DataFrame:
        """Each string at three temperatures, with Cv and U of a made-up Debye temperature, U missing in places."""
        theta = np.array([200.0 + 37 * (len(text) % 13) for text in strings])
        frames = []
        for kelvin in (100.0, 300.0, 600.0):
            quantities = [torch.tensor(theta), torch.tensor(kelvin, dtype=torch.float64)]
            cv, u = (quantity(*quantities, 2.0).numpy() for quantity in (heat_capacity, internal_energy))
            frames.append(pd.DataFrame({"scope": strings, "cv": cv, "u": u, "T": kelvin, "n": 2}))
        table = pd.concat(frames, ignore_index=True)
        table.loc[::5, "u"] = np.nan
        return table

    FLAGS = ("--debye", "heat_capacity", "internal_energy", "--target", "cv:J/(mol cell K)", "u:J/(mol cell)",
             "--n-atoms", "n", "--temperature", "T")  # fmt: skip

    def test_two_labels_at_several_temperatures(self, finetune, cloud, write, table, tmp_path: Path) -> None:
        path = write(table)
        found = finetune("--data", path, *self.FLAGS, "--max-steps", 40)
        assert found.status == 0, found.err
        metrics = metrics_of(tmp_path / "out")
        for name, labelled in (("cv", len(table)), ("u", table["u"].notna().sum())):
            assert sum(part[name]["n"] for part in metrics.values()) == labelled
            assert metrics["train"][name]["mae"] < metrics["train"][name]["baselines"]["mean"]["mae"]
        config = config_of(tmp_path / "out")
        assert config["debye_targets"] == ["heat_capacity", "internal_energy"]
        assert len(config["target_scale"]) == 2
        written = pd.read_csv(tmp_path / "out" / "predictions.csv").sort_values("row")
        at_600 = written[(table["T"] == 600.0).to_numpy()]
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
        from cloud_hf import ScopeTokenizer

        inputs = ScopeTokenizer()(at_600["scope"].tolist(), padding=True, return_tensors="pt")
        with torch.no_grad():
            outputs = model(**inputs, temperature=600.0, n_atoms=torch.full((len(at_600),), 2.0))
        np.testing.assert_allclose(at_600["cv predicted (J/(mol cell K))"], outputs.heat_capacity, rtol=1e-4)
        np.testing.assert_allclose(at_600["u predicted (J/(mol cell))"], outputs.internal_energy, rtol=1e-4)
        # the scale of ln theta is that of the labels, whatever their temperature
        assert config["theta_shift"] == pytest.approx(np.log(400), abs=0.4)

    def test_rows_of_one_string_stay_together(self, finetune, write, table, tmp_path: Path) -> None:
        assert finetune("--data", write(table), *self.FLAGS).status == 0
        written = pd.read_csv(tmp_path / "out" / "predictions.csv")
        assert (written.groupby("scope")["part"].nunique() == 1).all()

    def test_a_second_branch(self, finetune, write, table, tmp_path: Path) -> None:
        found = finetune("--data", write(table), *self.FLAGS, "--second-branch", "einstein")
        assert found.status == 0, found.err
        assert config_of(tmp_path / "out")["second_branch"] == "einstein"

    @pytest.mark.parametrize("bad", [0, -10, np.nan, "hot"])
    def test_a_temperature_that_is_none(self, refused, table: pd.DataFrame, bad: object) -> None:
        table = table.astype({"T": object})
        table.loc[4, "T"] = bad
        assert "'T'" in refused(table, *self.FLAGS)

    @pytest.mark.parametrize("unit", ["eV/K", "kJ/(mol K)", "J/K"])
    def test_a_unit_that_the_debye_model_does_not_have(self, refused, table: pd.DataFrame, unit: str) -> None:
        assert "convert" in refused(table, "--debye", "heat_capacity", "--target", f"cv:{unit}", "--n-atoms", "n")

    def test_as_many_quantities_as_targets(self, refused, table: pd.DataFrame) -> None:
        flags = ["--debye", "heat_capacity", "heat_capacity", "--target", "cv:J/(mol K)", "u:J/mol"]
        assert "same order" in refused(table, *flags)


class TestTransforms:
    @pytest.mark.parametrize(
        "transform",
        [
            "standardise", "log_per_atom", pytest.param("log", marks=pytest.mark.train),
            pytest.param("per_atom", marks=pytest.mark.train),
        ],
    )  # fmt: skip
    def test_mean_and_scale_are_those_of_the_transformed_labels(
        self, finetune, write, rows, tmp_path, transform
    ) -> None:
        atoms = ["--n-atoms", "n"] if "atom" in transform else []
        flags = ["--transform", transform, *atoms, "--validation-fraction", 0, "--loss", "huber"]
        found = finetune("--data", write(rows), *GAP, *flags)
        assert found.status == 0, found.err
        values = rows["gap"] / (rows["n"] if atoms else 1)
        values = np.log(values) if "log" in transform else values
        config = config_of(tmp_path / "out")
        assert config["target_mean"] == pytest.approx([values.mean()])
        assert config["target_scale"] == pytest.approx([values.std(ddof=0)])
        assert config.get("target_transforms") == (None if transform == "standardise" else [transform])
        assert config["regression_loss"] == "huber"

    def test_a_per_atom_label_is_learned_per_atom(self, finetune, write, rows, tmp_path: Path) -> None:
        """Labels that are 2 per atom are known after any training: the predictions are 2 n."""
        table = rows.assign(gap=2.0 * rows["n"])
        found = finetune(
            "--data", write(table), *GAP, "--transform", "per_atom", "--n-atoms", "n", "--learning-rate", 0
        )
        assert found.status == 0, found.err
        written = pd.read_csv(tmp_path / "out" / "predictions.csv").sort_values("row")
        spread = (written["gap predicted (eV)"].to_numpy() / table["n"] - 2).abs()
        assert spread.max() < 1.5
        assert metrics_of(tmp_path / "out")["train"]["gap"]["r2"] > 0.5

    def test_one_transform_for_each_target(self, finetune, write, rows, tmp_path: Path) -> None:
        table = rows.assign(energy=-rows["gap"])
        flags = ["--target", "gap:eV", "energy:eV", "--transform", "log", "standardise", "--target-weights", "1", "3"]
        assert finetune("--data", write(table), *flags).status == 0
        config = config_of(tmp_path / "out")
        assert config["target_transforms"] == ["log", "standardise"]
        assert config["target_weights"] == [1.0, 3.0]

    @pytest.mark.parametrize("bad", [0.0, -0.5])
    def test_the_logarithm_needs_positive_labels(self, refused, rows, bad: float) -> None:
        table = rows.copy()
        table.loc[6, "gap"] = bad
        message = refused(table, "--transform", "log")
        assert "row 6" in message
        assert "positive" in message


class TestSplits:
    def test_one_id_on_two_sides(self, refused, rows) -> None:
        table = rows.assign(id=[f"mp-{row}" for row in range(len(rows))], split="train")
        table.loc[4:9, "split"] = "test"
        table.loc[4, "id"] = "mp-0"
        assert "'mp-0'" in refused(table, "--split", "split")

    def test_rows_of_one_id_stay_together(self, finetune, write, rows, tmp_path: Path) -> None:
        table = rows.assign(id=[f"mp-{row // 2}" for row in range(len(rows))])
        assert finetune("--data", write(table), *GAP).status == 0
        written = pd.read_csv(tmp_path / "out" / "predictions.csv")
        assert set(written["part"]) == {"train", "validation"}
        assert (written.groupby("source")["part"].nunique() == 1).all()

    def test_no_training_rows(self, refused, rows) -> None:
        assert "no row to train on" in refused(rows.assign(split="test"), "--split", "split")

    def test_a_part_that_is_unknown(self, refused, rows) -> None:
        assert "'holdout'" in refused(rows.assign(split=["train", "holdout"] * 23 + ["train"]), "--split", "split")

    def test_a_column_that_is_not_there(self, refused, rows) -> None:
        assert "'part'" in refused(rows, "--split", "part")

    def test_unlabelled_rows_need_no_part(self, finetune, write, rows) -> None:
        table = rows.assign(split=["train", "test"] * 23 + ["train"])
        table.loc[5, ["gap", "split"]] = [np.nan, None]
        found = finetune("--data", write(table), *GAP, "--split", "split")
        assert found.status == 0, found.err

    def test_a_target_without_training_labels(self, refused, rows) -> None:
        table = rows.assign(split=["train", "test"] * 23 + ["train"])
        table["other"] = table["gap"].where(table["split"] == "test")
        assert "no training row has a label of 'other'" in refused(
            table, "--target", "gap:eV", "other:eV", "--split", "split"
        )

    def test_a_part_without_labels_of_one_target(self, finetune, write, rows, tmp_path: Path) -> None:
        table = rows.assign(split=["train", "test"] * 23 + ["train"])
        table["other"] = table["gap"].where(table["split"] == "train")
        flags = ["--target", "gap:eV", "other:eV", "--split", "split", "--seeds", 2]
        found = finetune("--data", write(table), *flags)
        assert found.status == 0, found.err
        row = metrics_of(tmp_path / "out")["test"]["other"]
        assert row["n"] == 0
        assert row["mae"] is None


def test_strings_on_both_sides_of_a_given_split_are_said(finetune, write, rows, caplog) -> None:
    table = pd.concat([rows.assign(split="train"), rows[:5].assign(split="test")])
    with caplog.at_level("WARNING"):
        found = finetune("--data", write(table), *GAP, "--split", "split")
    assert found.status == 0, found.err
    assert "5 of the 5 distinct strings of the test rows are training strings too" in caplog.text


def test_equal_labels_are_said(finetune, write, rows, tmp_path: Path, caplog) -> None:
    with caplog.at_level("WARNING"):
        found = finetune("--data", write(rows.assign(gap=0.1)), *GAP)
    assert found.status == 0, found.err
    assert "labels of 'gap' are equal" in caplog.text
    assert config_of(tmp_path / "out")["target_scale"] == [1.0]


def test_a_tokenizer_of_more_words_than_the_model_is_refused(finetune, write, rows, pretrained, tmp_path: Path) -> None:
    folder = shutil.copytree(pretrained, tmp_path / "folder")
    with (folder / "vocab.txt").open("a") as file:
        file.write("Xx\n")
    found = finetune("--data", write(rows), *GAP, model=folder)
    assert found.status == 2
    assert "vocabulary" in found.err
    assert not (tmp_path / "out").exists()


def test_diverged_training_saves_nothing(finetune, write, rows, tmp_path: Path) -> None:
    found = finetune("--data", write(rows), *GAP, "--learning-rate", "1e30", "--max-grad-norm", "0")
    assert found.status == 2
    assert "diverged" in found.err
    assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--folds", "3", "--split", "n"], "--folds"),
        (["--folds", "1"], "--folds"),
        (["--early-stopping", "0"], "--early-stopping"),
        (["--seeds", "0"], "--seeds"),
        (["--layer-lr-decay", "1.5"], "--layer-lr-decay"),
        (["--transform", "per_atom"], "--n-atoms"),
        (["--transform", "log", "log"], "--transform"),
        (["--target-weights", "0"], "--target-weights"),
        (["--second-branch", "debye"], "--debye"),
        (["--lora-rank", "0"], "--lora-rank"),
        (["--encode-processes", "0"], "--encode-processes"),
        (["--encode-timeout", "0"], "--encode-timeout"),
        (["--debye", "heat_capacity", "--transform", "log"], "--transform"),
        (["--early-stopping", "2", "--eval-strategy", "epoch", "--save-strategy", "steps"], "--save-strategy"),
        (["--layer-lr-decay", "0.5", "--optim", "adafactor"], None),
    ],
)
def test_flags_that_do_not_go_together(finetune, write, rows, flags: list[str], reason: str | None) -> None:
    found = finetune("--data", write(rows), *GAP, *flags)
    assert found.status == (0 if reason is None else 2), found.err
    assert (reason or "") in found.err
    assert "Traceback" not in found.err


def test_labels_that_are_not_finite_are_counted_with_a_way_out(refused, rows: pd.DataFrame) -> None:
    gap = rows["gap"].astype(object)
    gap.iloc[[2, 4]] = ["inf", "NaN"]
    message = refused(rows.assign(gap=gap))
    assert "row 2: column 'gap' must hold finite numbers, not 'inf' (2 such rows). Leave the cell empty" in message
    assert "np.float64" not in message


def test_a_table_too_small_for_validation_rows_says_so(finetune, write, rows: pd.DataFrame, caplog) -> None:
    found = finetune("--data", write(rows.head(2)), *GAP, "--max-steps", "1", "--baselines", "false")
    assert found.status == 0
    assert "no row is kept back for validation (2 distinct strings" in caplog.text
