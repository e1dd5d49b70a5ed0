"""Likelihoods told by the encoder of a property checkpoint: what they are taught by, stored, and flagged with."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from cloud_hf.checkpoints.reading import read_config
from cloud_hf.errors import CheckpointError
from cloud_hf.inference.fast_model import FastPredictor, load_fast
from cloud_hf.inference.likelihood import StringLikelihood
from cloud_hf.inference.likelihood_head import distil, exchange_elements, sampled_likelihoods, states_of
from cloud_hf.inference.prediction import load_predictors
from cloud_hf.scope.pairing import sites_scope

SALT = "1 6 a O D D a D O D b O O O c O O O d O O O e O O O 0 | Na 4a Cl 4b"
ELEMENTS = ("Na", "K", "Mg", "Ca", "Fe", "Cu", "Al", "Ti", "O", "S", "Cl", "F")
STRINGS = [
    str(sites_scope(f"1 0 0 | {one} 1a {two} 1b {two} 2i").canonical())
    for one in ELEMENTS for two in ELEMENTS if one != two
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(several_heads: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(several_heads / "crystal_properties", tmp_path_factory.mktemp("head") / "checkpoint"))


@pytest.fixture(scope="module")
def teacher(several_heads: Path) -> StringLikelihood:
    return StringLikelihood.load(str(several_heads / "likelihood"))


def network(folder: Path) -> FastPredictor:
    found = load_fast(str(folder), read_config(str(folder)))
    assert found is not None
    return found


def test_one_place_of_each_word_gives_the_mean_over_all_places(teacher: StringLikelihood) -> None:
    scopes = [SALT, "1 0 0 | Na 1a O 1b O 2i O 2i"]
    exact = teacher(scopes)
    assert sampled_likelihoods(teacher, scopes[:1])[0] == pytest.approx(exact[0], rel=1e-5), "each word stands once"
    drawn = np.mean([sampled_likelihoods(teacher, scopes, seed)[1] for seed in range(60)])
    assert drawn == pytest.approx(exact[1], abs=0.05)


def test_exchanged_strings_are_canonical_new_and_of_the_same_form() -> None:
    given = STRINGS[::3]
    made = exchange_elements(given, seed=1)
    assert len(made) > len(given) / 3
    assert not set(made) & set(given)
    assert len(set(made)) == len(made)
    for scope in made:
        assert str(sites_scope(scope).canonical()) == scope
        assert scope.startswith("1 0 0 | ")
        assert sorted(word[0] for word in scope.split()[5::2]) == ["1", "1", "2"]
    assert made == exchange_elements(given, seed=1)


def test_the_head_learns_what_its_teacher_says(folder: Path, teacher: StringLikelihood) -> None:
    head = distil(teacher, network(folder), STRINGS, seed=0)
    assert np.corrcoef(head(STRINGS), teacher(STRINGS))[0, 1] > 0.5
    np.testing.assert_array_equal(head(STRINGS), distil(teacher, network(folder), STRINGS, seed=0)(STRINGS))


def test_a_head_of_other_weights_is_refused(folder: Path, teacher: StringLikelihood, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    other = Path(shutil.copytree(folder, tmp_path / "other"))
    distil(teacher, network(folder), STRINGS[:20]).save(other)
    assert load_predictors(str(other)).likelihood is not None
    weights = load_file(other / "model.safetensors")
    weights["classifier.layers.2.bias"] = weights["classifier.layers.2.bias"] + 1
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    (other / "calibration.json").unlink()
    with pytest.raises(CheckpointError, match="other weights than these"):
        load_predictors(str(other))
    assert load_predictors(str(other), likelihood=None).likelihood is None


def test_states_are_in_the_order_of_the_strings(folder: Path) -> None:
    one = network(folder)
    scopes = [SALT, *STRINGS[:5], SALT.replace("Na", "K")]
    together = states_of(one, scopes, batch_size=3)
    for scope, state in zip(scopes, together, strict=True):
        torch.testing.assert_close(states_of(one, [scope])[0], state, rtol=1e-4, atol=1e-5)
