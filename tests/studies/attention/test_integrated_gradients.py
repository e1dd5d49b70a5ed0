"""Integrated gradients: completeness, what cannot matter gets nothing, ensembles are means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, set_seed

from cloud_hf import CloudConfig, CloudForDebye, CloudForPropertyRegression
from cloud_hf.checkpoints.members import join_members
from cloud_hf.studies.attention.integrated_gradients import attribute, outputs_of
from cloud_hf.studies.attention.shares import CLASSES

SCOPES = ["0 3 a | Na 4a Cl 4b", "0 3 a | K 4a Br 4b", "1 0 0 | Cu 1a Au 2i O 2i", "1 0 0 | Fe 1a"]


def debye(encoder: Path, seed: int) -> Any:
    config = CloudConfig.from_pretrained(encoder, architectures=[CloudForDebye.__name__])
    set_seed(seed)
    model = CloudForDebye(config)
    with torch.no_grad():
        for weight in model.parameters():  # random weights give nearly constant outputs
            weight.add_(0.3 * torch.randn_like(weight))
    return model.eval()


@pytest.fixture(scope="module")
def tokenizer(encoder: Path) -> Any:
    return AutoTokenizer.from_pretrained(encoder)


@pytest.mark.parametrize("baseline", ["mask", "pad"])
def test_attributions_add_up_to_the_change(encoder: Path, tokenizer: Any, baseline: str) -> None:
    model = debye(encoder, 0)
    (output,) = outputs_of(model.config)
    coarse, fine = (attribute(model, tokenizer, SCOPES, output, steps, baseline) for steps in (4, 200))
    assert fine.error < 1e-2
    assert fine.error < coarse.error
    assert np.all(fine.absolute >= np.abs(fine.signed) - 1e-6)


def test_the_change_is_that_of_the_model_itself(encoder: Path, tokenizer: Any) -> None:
    model = debye(encoder, 1)
    (output,) = outputs_of(model.config)
    found = attribute(model, tokenizer, SCOPES, output, 2)
    for row, scope in enumerate(SCOPES):
        masked = " ".join("|" if word == "|" else "[MASK]" for word in scope.split())
        with torch.no_grad():
            ends = [model(**tokenizer(text, return_tensors="pt")).logits.log().item() for text in (scope, masked)]
        assert found.change[row] == pytest.approx(ends[0] - ends[1], abs=1e-5)
        without = " ".join("[MASK]" if word in ("Na", "Cl", "K", "Br", "Cu", "Au", "O", "Fe") else word
                           for word in scope.split())  # fmt: skip
        with torch.no_grad():
            ends[1] = model(**tokenizer(without, return_tensors="pt")).logits.log().item()
        assert found.occluded[row, CLASSES.index("elements")] == pytest.approx(ends[0] - ends[1], abs=1e-5)


def test_special_words_get_nothing_and_padding_changes_nothing(encoder: Path, tokenizer: Any) -> None:
    model = debye(encoder, 2)
    (output,) = outputs_of(model.config)
    together = attribute(model, tokenizer, SCOPES, output, 8)
    alone = attribute(model, tokenizer, SCOPES, output, 8, batch_size=1)
    assert together.signed == pytest.approx(alone.signed, abs=1e-5)
    for name in ("separator", "[CLS]", "[SEP]", "fractions"):
        assert not together.absolute[:, CLASSES.index(name)].any()


def test_an_ensemble_is_the_mean_of_its_members(encoder: Path, tokenizer: Any) -> None:
    members = [debye(encoder, seed) for seed in (3, 4)]
    (output,) = outputs_of(members[0].config)
    one, two = (attribute(member, tokenizer, SCOPES, output, 8) for member in members)
    both = attribute(join_members(members), tokenizer, SCOPES, output, 8)
    assert both.signed == pytest.approx((one.signed + two.signed) / 2, abs=1e-5)
    assert both.change == pytest.approx((one.change + two.change) / 2, abs=1e-5)


def test_outputs_have_the_units_of_what_was_learned(encoder: Path) -> None:
    config = CloudConfig.from_pretrained(
        encoder, target_names=["gap", "modulus", "energy"], target_units=["eV", "GPa", "eV"],
        target_transforms=["standardise", "log", "per_atom"], target_scale=[2.0, 3.0, 4.0],
    )  # fmt: skip
    config.architectures = [CloudForPropertyRegression.__name__]
    found = outputs_of(config)
    assert [(one.name, one.unit, one.scale) for one in found] == [
        ("gap", "eV", 2.0), ("ln(modulus / GPa)", "1", 3.0), ("energy per atom", "eV", 4.0),
    ]  # fmt: skip
