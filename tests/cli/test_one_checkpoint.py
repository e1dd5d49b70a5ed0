"""`predict` and `evaluate` with one checkpoint of every head: its first members alone, auxiliary targets by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from transformers import pipeline

import cloud_hf
from cloud_hf import CloudConfig, CloudForCrystalProperties, ScopeTokenizer
from cloud_hf.checkpoints.members import join_members
from cloud_hf.data.tables import read_table
from cloud_hf.errors import CheckpointError
from cloud_hf.inference.prediction import heads_of, load_predictor, shown_heads

SALT = "1 6 a O D D a D O D b O O O c O O O d O O O e O O O 0 | Na 4a Cl 4b"
GAP, OTHER_GAP = "band_gap (eV)", "jarvis_band_gap (eV)"


def model(make_config: Callable[..., CloudConfig], seed: int) -> CloudForCrystalProperties:
    torch.manual_seed(seed)
    config = make_config(
        initializer_range=0.3, grammar="sites", canonical=True, element_descriptors=True, pooling="cls_multiplicity",
        target_names=["band_gap", "jarvis_band_gap"], target_units=["eV", "eV"], auxiliary_targets=["jarvis_band_gap"],
    )  # fmt: skip
    return CloudForCrystalProperties(config).eval()


@pytest.fixture(scope="module")
def folder(make_config: Callable[..., CloudConfig], tmp_path_factory: pytest.TempPathFactory) -> str:
    """An ensemble of three with every head; its first member alone lies in `one` below it."""
    path = tmp_path_factory.mktemp("ensemble")
    for name, members in ((".", 3), ("one", 1), ("two", 2)):
        models = [model(make_config, seed) for seed in range(members)]
        (join_members(models) if members > 1 else models[0]).save_pretrained(path / name)
        ScopeTokenizer().save_pretrained(path / name)
    return str(path)


class TestMembers:
    @pytest.mark.parametrize(("number", "same"), [(1, "one"), (2, "two"), (3, ".")])
    def test_the_first_members_are_the_checkpoint_of_those_members(self, folder: str, number: int, same: str) -> None:
        some = cloud_hf.predict(SALT, model=folder, members=number)
        pd.testing.assert_frame_equal(some, cloud_hf.predict(SALT, model=str(Path(folder, same))))

    def test_the_pipeline_runs_the_first_members(self, folder: str) -> None:
        one = pipeline("crystal-property", model=folder, members=1)
        assert one.model.config.n_members == 1
        assert one(SALT) == pipeline("crystal-property", model=str(Path(folder, "one")))(SALT)

    @pytest.mark.parametrize("number", [0, 4])
    def test_more_than_there_are_is_refused(self, folder: str, number: int) -> None:
        with pytest.raises(CheckpointError, match=rf"members is {number}, .* from 1 to 3") as found:
            load_predictor(folder, members=number)
        assert found.value.source == folder

    def test_the_command_takes_them(self, cloud, folder: str, tmp_path: Path) -> None:
        refused = cloud("predict", SALT, "--model", folder, "--members", 4)
        assert refused.status == 2
        assert "give a number from 1 to 3" in refused.err
        pd.DataFrame({"scope": [SALT], "gap": [1.0]}).to_csv(tmp_path / "rows.csv", index=False)
        argv: list[Any] = ["evaluate", "--data", tmp_path / "rows.csv", "--label", "gap", "--head", "band_gap"]
        one = cloud(*argv, "--model", folder, "--members", 1).out
        assert one == cloud(*argv, "--model", Path(folder, "one")).out != cloud(*argv, "--model", folder).out


class TestAuxiliaryTargets:
    def test_they_are_heads_that_are_not_shown(self, folder: str) -> None:
        config = load_predictor(folder).model.config
        assert heads_of(config) == ["heat_capacity", "band_gap", "jarvis_band_gap"]
        assert shown_heads(config) == ["heat_capacity", "band_gap"]

    def test_predict_leaves_them_out_unless_they_are_asked_for(self, cloud, folder: str, tmp_path: Path) -> None:
        tables = []
        for argv in ([], ["--head", "jarvis_band_gap"]):
            cloud("predict", SALT, "--model", folder, "-o", tmp_path / "out.csv", *argv)
            tables.append(read_table(tmp_path / "out.csv"))
        assert GAP in tables[0]
        assert OTHER_GAP not in tables[0]
        assert OTHER_GAP in tables[1]
        assert GAP not in tables[1]

    def test_evaluate_reaches_them(self, cloud, folder: str, tmp_path: Path) -> None:
        value = cloud_hf.predict(SALT, model=folder, head="jarvis_band_gap")[OTHER_GAP].item()
        pd.DataFrame({"scope": [SALT], "gap": [value + 0.5]}).to_csv(tmp_path / "rows.csv", index=False)
        argv = ["evaluate", "--model", folder, "--data", tmp_path / "rows.csv", "--label", "gap"]
        found = cloud(*argv, "--head", "jarvis_band_gap")
        assert found.status == 0
        assert dict(line.split(maxsplit=1) for line in found.out.splitlines() if " " in line)["mae"] == "0.5"

    def test_the_pipeline_gives_them_on_request(self, folder: str) -> None:
        found = pipeline("crystal-property", model=folder)
        names = [quantity["name"] for quantity in found(SALT)]
        assert "jarvis_band_gap" not in names
        assert [quantity["name"] for quantity in found(SALT, auxiliary=True) if quantity["name"] not in names] == [
            "jarvis_band_gap"
        ]
