"""Candidates that the masked language model draws."""

from __future__ import annotations

from pathlib import Path

import pytest

import cloud_hf
from cloud_hf.cli.main import main
from cloud_hf.errors import CloudError
from cloud_hf.inference.likelihood import StringLikelihood
from cloud_hf.scope import parse
from cloud_hf.screening.chemistry import Rules
from cloud_hf.screening.known import KnownStrings, string_hashes
from cloud_hf.screening.proposals import Sampling, propose
from cloud_hf.screening.prototypes import bundled_prototypes

SLOTS = {"A": ["Na", "Mg", "Ca"], "X": ["O", "Cl", "S"]}
FREE = Rules(neutral=False, ordered=False)


@pytest.fixture
def model(several_heads: Path) -> StringLikelihood:
    """A tiny language model that knows nothing."""
    return StringLikelihood.load(str(several_heads / "likelihood"))


@pytest.fixture
def known() -> KnownStrings:
    """Rock salt only."""
    return KnownStrings(string_hashes([bundled_prototypes()["rock-salt"].scope]))


def test_draws_are_crystals_and_depend_on_the_seed(model: StringLikelihood, known: KnownStrings) -> None:
    prototypes = [bundled_prototypes()["rock-salt"]]
    found, proposed = propose(prototypes, SLOTS, model, known, Sampling(60, seed=1), FREE)
    again, _ = propose(prototypes, SLOTS, model, known, Sampling(60, seed=1), FREE)
    other, _ = propose(prototypes, SLOTS, model, known, Sampling(60, seed=2), FREE)
    assert list(found.listed) == list(again.listed)
    assert list(found.listed) != list(other.listed)
    strings = [one.scope for one in found.candidates()]
    assert len({*strings}) == len(strings) == proposed.unique <= 9
    assert proposed.drawn == proposed.valid == 60  # restricted slots leave nothing to go wrong
    assert proposed.novel == proposed.unique - (prototypes[0].scope in strings)
    for one in found.listed:
        assert str(parse(one.scope).canonical()) == one.scope == prototypes[0].string(one.elements)
        assert one.log_probability < 0


def test_the_grammar_decides_on_free_words(model: StringLikelihood, known: KnownStrings) -> None:
    prototypes = [bundled_prototypes()["perovskite"]]
    found, proposed = propose(prototypes, {}, model, known, Sampling(150, sites=True), FREE)
    assert proposed.drawn == 150
    assert proposed.valid < 150  # a model that knows nothing draws any word
    for one in found.listed:
        assert found.prototypes[one.prototype].string(one.elements) == one.scope


def test_a_low_temperature_draws_the_likeliest(model: StringLikelihood, known: KnownStrings) -> None:
    _, proposed = propose([bundled_prototypes()["spinel"]], SLOTS, model, known, Sampling(50, 0.001), FREE)
    assert proposed.unique <= 1
    with pytest.raises(CloudError, match="temperature"):
        Sampling(temperature=0)


@pytest.mark.usefixtures("tiny_weights")
def test_the_command_screens_what_is_proposed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [
        "screen",
        "rock-salt",
        "--elements",
        "auto",
        "A=Na,Mg",
        "X=O,Cl",
        "--want",
        "band_gap>=1",
        "--samples",
        "40",
    ]
    assert main([*argv, "--write-structures", str(tmp_path / "cif")]) == 0
    said = capsys.readouterr().out
    assert "40 strings drawn: 100.0% valid" in said
    assert list((tmp_path / "cif").glob("*.cif"))
    with pytest.raises(CloudError, match="no structure"):
        cloud_hf.screen(["rock-salt"], ["auto"], ["band_gap>=1"], sampling=Sampling(sites=True), structures=tmp_path)
