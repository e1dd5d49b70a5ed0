"""Ensembles in one checkpoint: means of raw outputs, round trips, and what happens when training goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification

from cloud_hf import CloudConfig, CloudForDebye, CloudForPropertyRegression, ScopeTokenizer
from cloud_hf.checkpoints.members import average_weights, join_members
from cloud_hf.errors import CheckpointError

GAP = {"target_names": ["gap", "modulus"], "target_units": ["eV", "GPa"], "target_transforms": ["standardise", "log"]}
GAP |= {"target_mean": [1.0, 4.0], "target_scale": [0.5, 0.7]}


def models(make_config: Callable[..., CloudConfig], kind: type, n: int = 3, **fields) -> list:
    torch.manual_seed(0)
    found = [kind(make_config(**fields)).eval() for _ in range(n)]
    for model in found:
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.2)
    return found


@pytest.fixture
def batch(tokenizer: ScopeTokenizer, scopes: list[str]) -> dict[str, torch.Tensor]:
    return dict(tokenizer(scopes[:4], padding=True, return_tensors="pt"))


@torch.no_grad()
def test_a_debye_ensemble_gives_the_geometric_mean_of_the_temperatures(make_config, batch) -> None:
    members = models(make_config, CloudForDebye)
    found = join_members(members)(**batch, n_atoms=torch.tensor([2, 3, 4, 5]), temperature=200.0)
    mean = torch.stack([member(**batch).logits.log() for member in members]).mean(0).exp()
    torch.testing.assert_close(found.logits, mean)
    assert not torch.allclose(found.logits, members[0](**batch).logits)


@torch.no_grad()
def test_a_regression_ensemble_gives_the_mean_of_what_was_learned(make_config, batch) -> None:
    members = models(make_config, CloudForPropertyRegression, **GAP)
    found, each = join_members(members)(**batch).logits, torch.stack([member(**batch).logits for member in members])
    torch.testing.assert_close(found[:, 0], each[..., 0].mean(0))
    torch.testing.assert_close(found[:, 1], each[..., 1].log().mean(0).exp())


@pytest.mark.slow
@torch.no_grad()
def test_it_comes_back_in_a_fresh_process(make_config, batch, tmp_path: Path) -> None:
    model = join_members(models(make_config, CloudForDebye, 2, element_descriptors=True, pooling="cls_multiplicity"))
    model.save_pretrained(tmp_path)
    torch.save(batch, tmp_path / "batch.pt")
    code = (
        "import json, torch, cloud_hf; from transformers import AutoModelForSequenceClassification as Auto;"
        "cloud_hf.register();"
        f"model = Auto.from_pretrained({str(tmp_path)!r}); batch = torch.load({str(tmp_path / 'batch.pt')!r});"
        "print(json.dumps([model.config.n_members, model(**batch).logits.tolist()]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    n_members, logits = json.loads(done.stdout.splitlines()[-1])
    assert n_members == 2
    torch.testing.assert_close(torch.tensor(logits), model(**batch).logits)


def test_a_member_without_weights_is_refused(make_config, tmp_path: Path) -> None:
    first = models(make_config, CloudForDebye, 1)[0]
    first.config.n_members = 2
    first.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"missing.*members\.0"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path)


@torch.no_grad()
def test_the_bare_encoder_is_that_of_the_first(make_config, batch, tmp_path: Path) -> None:
    members = models(make_config, CloudForDebye, 2)
    join_members(members).save_pretrained(tmp_path)
    states = AutoModel.from_pretrained(tmp_path)(**batch).last_hidden_state
    torch.testing.assert_close(states, members[0].bert(**batch).last_hidden_state)


def test_members_must_belong_together(make_config) -> None:
    members = models(make_config, CloudForDebye, 2)
    with pytest.raises(CheckpointError, match="at least two"):
        join_members(members[:1])
    with pytest.raises(CheckpointError, match="theta_shift"):
        join_members([members[0], *models(make_config, CloudForDebye, 1, theta_shift=5.0)])
    with pytest.raises(CheckpointError, match="2 members"):
        join_members([members[0], join_members(members)])


@torch.no_grad()
def test_the_mean_of_weights_is_one_model_of_the_same_size(make_config, batch) -> None:
    stages = models(make_config, CloudForPropertyRegression, **GAP)
    stages[0].config.target_weights = [3.0, 1.0]
    before = [{name: value.clone() for name, value in stage.state_dict().items()} for stage in stages]
    found = average_weights(stages)
    for name, value in found.state_dict().items():
        torch.testing.assert_close(value, sum(weights[name] for weights in before) / 3)
    assert found.config.to_dict() == stages[-1].config.to_dict()
    for stage, weights in zip(stages, before, strict=True):
        torch.testing.assert_close(stage.state_dict(), weights)
    once = average_weights([stages[0], stages[0]])
    torch.testing.assert_close(once(**batch).logits, stages[0](**batch).logits)


def test_weights_with_other_meanings_have_no_mean(make_config) -> None:
    stages = models(make_config, CloudForPropertyRegression, 2, **GAP)
    stages[1].config.target_mean = [0.0, 4.0]
    for wrong, reason in ((stages, "target_mean"), (stages[:1], "at least two")):
        with pytest.raises(CheckpointError, match=reason):
            average_weights(wrong)
