"""Pseudo-likelihoods: what they are, whatever the batch, and where the threshold comes from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cloud_hf.errors import CheckpointError, UnknownWordError
from cloud_hf.inference.likelihood import LIKELIHOOD_FILE, LikelihoodSettings, StringLikelihood

SALT = "1 6 a O D D a D O D b O O O c O O O d O O O e O O O 0 | Na 4a Cl 4b"
STRINGS = [SALT, "1 0 0 | O 1a O 1b Fe 2i", "1 2 b D D D n O O O 0 | Po 1a", "1 0 0 | C 2i"]


@pytest.fixture(scope="module")
def likelihood(several_heads: Path) -> StringLikelihood:
    return StringLikelihood.load(str(several_heads / "likelihood"))


def by_hand(likelihood: StringLikelihood, scope: str, places: list[int]) -> float:
    """Mask one word after the other, one string a forward pass."""
    ids = likelihood.tokenizer(scope, return_tensors="pt")["input_ids"]
    total = 0.0
    for place in places:
        masked = ids.clone()
        masked[0, place] = likelihood.tokenizer.mask_token_id
        with torch.no_grad():
            logits = likelihood.model(masked).logits[0, place]
        total += float(logits.log_softmax(-1)[ids[0, place]])
    return total / len(places)


@pytest.mark.parametrize("words", [("elements",), ("wyckoff",), ("generators",), ("elements", "wyckoff")])
def test_it_is_the_mean_of_masked_words(several_heads: Path, words: tuple[str, ...]) -> None:
    likelihood = StringLikelihood.load(str(several_heads / "likelihood"), words)
    for scope, value in zip(STRINGS, likelihood(STRINGS), strict=True):
        split = scope.split()
        bar = split.index("|")
        places = {
            "generators": list(range(bar)),
            "elements": [i for i in range(bar + 1, len(split)) if split[i].isalpha()],
            "wyckoff": [i for i in range(bar + 1, len(split)) if not split[i].isalpha()],
        }
        expected = by_hand(likelihood, scope, [1 + place for name in words for place in places[name]])
        assert value == pytest.approx(expected, rel=1e-4)


def test_other_strings_in_the_batch_change_nothing(likelihood: StringLikelihood) -> None:
    together = likelihood(STRINGS * 70)
    alone = np.array([likelihood([scope])[0] for scope in STRINGS])
    np.testing.assert_allclose(together.reshape(70, 4), np.tile(alone, (70, 1)), rtol=1e-4)
    assert likelihood([]).shape == (0,)


def test_no_word_that_counts(several_heads: Path) -> None:
    assert np.isnan(StringLikelihood.load(str(several_heads / "likelihood"), ["fractions"])(STRINGS)).all()


def test_a_learned_habit_is_more_likely_than_its_opposite(make_config, tokenizer) -> None:
    """Trained on two kinds of strings only, the model finds the elements of a third unlikely."""
    from cloud_hf import CloudForMaskedLM

    torch.manual_seed(0)
    model = CloudForMaskedLM(make_config(grammar="sites"))
    ids = tokenizer(["1 0 0 | Na 1a Cl 1b", "1 0 0 | Mg 1a O 1b"], return_tensors="pt")["input_ids"]
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(120):
        masked = ids.clone()
        place = int(torch.randint(1, ids.shape[1] - 1, ()))
        masked[:, place] = tokenizer.mask_token_id
        model(masked, labels=ids).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    known, strange = StringLikelihood(model, tokenizer)(["1 0 0 | Na 1a Cl 1b", "1 0 0 | Fe 1a Po 1b"])
    assert known > strange + 1


def test_the_threshold_comes_from_the_folder(likelihood: StringLikelihood, several_heads: Path) -> None:
    assert likelihood.settings == LikelihoodSettings.load(several_heads / "likelihood" / LIKELIHOOD_FILE)
    found = likelihood.outside(np.array([-7.0, -5.0]))
    assert found is not None
    assert found.tolist() == [True, False]
    assert StringLikelihood.load(str(several_heads / "likelihood"), ["elements"]).outside(np.zeros(1)) is None


def test_the_bundled_model_is_the_one_that_ships(
    several_heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_hf.checkpoints.bundled._WEIGHTS", several_heads)
    assert StringLikelihood.bundled().settings == LikelihoodSettings.load(
        several_heads / "likelihood" / LIKELIHOOD_FILE
    )
    monkeypatch.setattr("cloud_hf.checkpoints.bundled._WEIGHTS", tmp_path)
    with pytest.raises(CheckpointError, match="ships with this version"):
        StringLikelihood.bundled()


def test_what_cannot_be_loaded(several_heads: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="CloudForMaskedLM"):
        StringLikelihood.load(str(several_heads / "heat_capacity"))
    for text in ("{", '{"words": ["verbs"]}', '{"x": 1}'):
        (tmp_path / LIKELIHOOD_FILE).write_text(text)
        with pytest.raises(CheckpointError, match=LIKELIHOOD_FILE):
            LikelihoodSettings.load(tmp_path / LIKELIHOOD_FILE)


def test_an_unknown_word_is_an_error(likelihood: StringLikelihood) -> None:
    with pytest.raises(UnknownWordError, match="Xx"):
        likelihood(["1 0 0 | Xx 1a"])
