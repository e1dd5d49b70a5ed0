"""Learning rates by layer, the waiting encoder, and low-rank updates."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from cloud_hf import CloudForDebye, CloudForPropertyRegression
from cloud_hf.training.layers import layer_depth, parameter_groups


@pytest.fixture(scope="module")
def table(strings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("layers") / "rows.csv"
    gap = np.random.default_rng(2).normal(3, 1, len(strings))
    pd.DataFrame({"scope": strings, "gap": gap}).to_csv(path, index=False)
    return path


def models(make_config: Callable) -> list[torch.nn.Module]:
    chemistry = {"element_descriptors": True, "site_multiplicity": True, "pooling": "cls_multiplicity"}
    return [
        CloudForPropertyRegression(make_config(num_hidden_layers=3, target_names=["a", "b"])),
        CloudForPropertyRegression(make_config(num_hidden_layers=3, target_names=["a"], grammar="sites", **chemistry)),
        CloudForDebye(make_config(num_hidden_layers=3, second_branch="einstein")),
    ]


@pytest.mark.parametrize("which", [0, 1, 2])
def test_every_parameter_is_in_one_group_with_the_rate_of_its_layer(make_config: Callable, which: int) -> None:
    model = models(make_config)[which]
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed = {name for name in names.values() if name.endswith("weight") and "LayerNorm" not in name}
    groups = parameter_groups(model, 3, 1e-3, 0.5, 0.1, decayed)
    found = [(names[id(parameter)], group) for group in groups for parameter in group["params"]]
    assert sorted(name for name, _ in found) == sorted(names.values())
    rates = {"head": 1e-3, "2": 5e-4, "1": 2.5e-4, "0": 1.25e-4, "embeddings": 6.25e-5}
    seen = set()
    for name, group in found:
        layer = re.match(r"bert\.encoder\.layer\.(\d)\.", name)
        where = layer.group(1) if layer else "embeddings" if name.startswith("bert.") else "head"
        seen.add(where)
        assert group["lr"] == pytest.approx(rates[where]), name
        assert group["weight_decay"] == (0.1 if name in decayed else 0.0), name
    assert seen == set(rates)


def test_frozen_parameters_are_in_no_group(make_config: Callable) -> None:
    model = models(make_config)[0]
    model.bert.requires_grad_(False)
    groups = parameter_groups(model, 3, 1e-3, 0.5, 0.1, set())
    assert {id(parameter) for group in groups for parameter in group["params"]} == {
        id(parameter) for parameter in model.classifier.parameters()
    }


def test_the_depth_does_not_depend_on_a_wrapper() -> None:
    assert layer_depth("module.bert.encoder.layer.1.output.dense.weight", 4) == 2
    assert layer_depth("classifier.layers.0.weight", 4) == 5


def test_the_trainer_uses_these_rates(finetune, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cloud_hf.training.finetune_trainer import FinetuneTrainer

    made = []
    create = FinetuneTrainer.create_optimizer

    def spy(self: FinetuneTrainer, model: object = None) -> torch.optim.Optimizer:
        optimizer = create(self, model)
        made.append(([group["lr"] for group in optimizer.param_groups], self.model, optimizer))
        return optimizer

    monkeypatch.setattr(FinetuneTrainer, "create_optimizer", spy)
    found = finetune("--data", table, "--target", "gap:eV", "--layer-lr-decay", "0.5", "--learning-rate", "8e-3")
    assert found.status == 0, found.err
    rates, model, optimizer = made[0]
    assert set(rates) == {8e-3, 4e-3, 2e-3, 1e-3}
    known = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert len(known) == len({id(parameter) for parameter in known}) == len(list(model.parameters()))


class TestFreezing:
    def weights(self, folder: Path) -> dict[str, torch.Tensor]:
        return load_file(folder / "model.safetensors")

    def test_the_encoder_waits_and_then_learns(self, finetune, pretrained: Path, table: Path, tmp_path: Path) -> None:
        run = ["--data", table, "--target", "gap:eV", "--save-strategy", "epoch", "--max-steps", "-1"]
        found = finetune(*run, "--num-train-epochs", 3, "--freeze-epochs", 2, "--weight-decay", "0.1")
        assert found.status == 0, found.err
        start, out = self.weights(pretrained), tmp_path / "out"
        states = sorted(out.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
        assert len(states) == 3
        first, second, third = map(self.weights, states)
        encoder = [name for name in start if name.startswith("bert.")]
        for name in encoder:
            assert torch.equal(start[name], first[name]), name
            assert torch.equal(start[name], second[name]), name
        assert not torch.equal(first["classifier.layers.0.weight"], second["classifier.layers.0.weight"])
        changed = [name for name in encoder if not torch.equal(second[name], third[name])]
        assert {name.split(".")[3] for name in changed if ".layer." in name} == {"0", "1"}
        assert any("embeddings" in name for name in changed)

    def test_a_resumed_run_freezes_as_long(self, finetune, table: Path, tmp_path: Path) -> None:
        run = ["--data", table, "--target", "gap:eV", "--save-strategy", "epoch", "--max-steps", "-1"]
        run += ["--num-train-epochs", 3, "--freeze-epochs", 2]
        assert finetune(*run).status == 0
        whole = self.weights(tmp_path / "out")
        states = sorted((tmp_path / "out").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
        assert finetune(*run, "--resume-from-checkpoint", states[0]).status == 0
        again = self.weights(tmp_path / "out")
        assert all(torch.equal(whole[name], again[name]) for name in whole)


class TestLora:
    @pytest.mark.slow
    def test_the_saved_folder_loads_without_peft(
        self, finetune, cloud, pretrained, table, run_python, tmp_path
    ) -> None:
        pytest.importorskip("peft")
        found = finetune("--data", table, "--target", "gap:eV", "--lora-rank", 2, "--learning-rate", "2e-2")
        assert found.status == 0, found.err
        before, after = (load_file(folder / "model.safetensors") for folder in (pretrained, tmp_path / "out"))
        assert not [name for name in after if "lora" in name or "base_layer" in name]
        changed = {name for name in after if name.startswith("bert.") and not torch.equal(before[name], after[name])}
        assert changed
        for name in changed:
            assert name.startswith("bert.encoder.layer.")
            assert name.endswith("weight")
            update = (after[name] - before[name]).double()
            values = torch.linalg.svdvals(update)
            assert values[2] < 1e-4 * values[0], name  # rank 2
        script = (
            "import sys, json\nsys.modules['peft'] = None\nimport cloud_hf\ncloud_hf.register()\n"
            "from transformers import AutoModelForSequenceClassification as A\n"
            "model, loaded = A.from_pretrained(sys.argv[1], output_loading_info=True)\n"
            "print(json.dumps([type(model).__name__, sorted(loaded['missing_keys'])]))\n"
        )
        assert run_python(script, tmp_path / "out") == ["CloudForPropertyRegression", []]
        assert cloud("predict", table, "--model", tmp_path / "out", "-o", tmp_path / "p.csv").status == 0
        written = pd.read_csv(tmp_path / "out" / "predictions.csv").sort_values("row")
        np.testing.assert_allclose(
            written["gap predicted (eV)"], pd.read_csv(tmp_path / "p.csv")["gap (eV)"], rtol=2e-4, atol=2e-4
        )

    def test_it_works_with_early_stopping(self, finetune, table: Path, tmp_path: Path) -> None:
        pytest.importorskip("peft")
        flags = ["--lora-rank", 2, "--early-stopping", 1, "--max-steps", "-1", "--num-train-epochs", 4]
        found = finetune("--data", table, "--target", "gap:eV", *flags, "--layer-lr-decay", "0.7")
        assert found.status == 0, found.err
        model, loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out", output_loading_info=True)
        assert isinstance(model, CloudForPropertyRegression)
        assert not loaded["missing_keys"]
        assert not loaded["unexpected_keys"]

    def test_without_peft_it_says_what_to_install(self, finetune, table: Path, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.setitem(sys.modules, "peft", None)
        found = finetune("--data", table, "--target", "gap:eV", "--lora-rank", 2)
        assert found.status == 2
        assert "pip install 'cloud-hf[lora]'" in found.err
        assert not (tmp_path / "out" / "model.safetensors").exists()
