"""The lean recipe is the paper's: the same function of strings and masks, at a fraction of the work."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from cloud_hf import CloudConfig, CloudForMaskedLM, ScopeTokenizer
from cloud_hf.training.arguments import PretrainArguments
from cloud_hf.training.collators import MaskingCollator
from cloud_hf.training.pretrain import tokenize_strings, training_rows

SCRIPTS = Path(__file__).parents[2] / "scripts"
WIDTH = 64


@pytest.fixture(scope="module")
def recipes() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("training_recipes", SCRIPTS / "training_recipes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["training_recipes"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["training_recipes"]


@pytest.mark.train
def test_the_loss_curves_of_both_recipes_agree(recipes: ModuleType, strings: list[str], tmp_path: Path) -> None:
    """Same weights, strings and masks: stock Trainer, 30,522 words and padding to 64 against the lean recipe."""
    training = {
        "output_dir": str(tmp_path), "learning_rate": 3e-3, "warmup_steps": 1, "use_cpu": True, "disable_tqdm": True,
    }  # fmt: skip
    losses = recipes.paired_losses(strings[:40], hidden=64, layers=2, batch=8, training=training)
    assert len(losses["lean"]) == 5
    assert losses["lean"] == pytest.approx(losses["paper"], abs=2e-5)
    assert losses["lean"][-1] < losses["lean"][0] - 0.1  # it learned something, so that more than one point agrees
    # the words that do not exist cost the paper's recipe nats, and nothing else
    assert losses["paper_as_released"][0] > losses["lean"][0] + 3


@pytest.fixture(scope="module")
def model() -> CloudForMaskedLM:
    torch.manual_seed(0)
    config = CloudConfig(
        vocab_size=585, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, element_descriptors=True, site_multiplicity=True,
    )  # fmt: skip
    return CloudForMaskedLM(config).train()


def test_packed_rows_have_the_loss_and_gradient_of_padded_ones(model: CloudForMaskedLM, strings: list[str]) -> None:
    tokenizer = ScopeTokenizer()
    dataset = tokenize_strings(strings, tokenizer)
    own = PretrainArguments(data=[], packing=True, packing_length=WIDTH)
    found = []
    for rows in (training_rows(dataset, tokenizer), training_rows(dataset, tokenizer, own)):
        batch = MaskingCollator(tokenizer)([rows[index] for index in range(len(rows))])
        model.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        gradient = torch.cat(
            [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]
        )
        found.append((len(rows), batch["attention_mask"].float().mean(), loss.detach(), gradient))
    (padded_rows, padded_share, padded_loss, padded), (rows, share, loss, packed) = found
    assert rows < 0.7 * padded_rows
    assert share > padded_share
    torch.testing.assert_close(loss, padded_loss, atol=1e-5, rtol=0)
    torch.testing.assert_close(packed, padded, atol=1e-5, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")
def test_activation_checkpointing_changes_no_gradient(model: CloudForMaskedLM, strings: list[str]) -> None:
    tokenizer = ScopeTokenizer()
    rows = training_rows(tokenize_strings(strings[:8], tokenizer), tokenizer)
    batch = MaskingCollator(tokenizer)([rows[index] for index in range(len(rows))])
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable()
        model.zero_grad()
        model(**batch).loss.backward()
        gradients.append(model.bert.encoder.layer[0].attention.self.query.weight.grad.clone())
    model.gradient_checkpointing_disable()
    torch.testing.assert_close(gradients[1], gradients[0])
