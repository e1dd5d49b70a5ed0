"""The attention study: shares with known answers, what it writes, that it goes on, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoTokenizer, set_seed

from cloud_hf import CloudConfig, CloudForMaskedLM, CloudForPropertyRegression
from cloud_hf.cli.study import study as command
from cloud_hf.errors import CloudError
from cloud_hf.studies.attention import study as attention
from cloud_hf.studies.attention.shares import CLASSES, attention_shares
from cloud_hf.studies.attention.summary import mean_with_interval, ratio_with_interval

SCOPES = ["0 3 a | Na 4a Cl 4b", "1 0 0 | Cu 1a Au 2i O 2i", "1 0 0 | Fe 1a"]
FLAGS = ["--n-crystals", "20", "--n-gradients", "6", "--steps", "8", "--controls", "2"]


@pytest.fixture(scope="module")
def model(encoder: Path) -> Any:
    """A tiny masked language model with eager attention, far enough from uniform attention."""
    model = CloudForMaskedLM.from_pretrained(encoder, attn_implementation="eager").eval()
    set_seed(0)
    with torch.no_grad():
        for layer in model.bert.encoder.layer:
            for part in (layer.attention.self.query, layer.attention.self.key):
                part.weight.add_(torch.randn_like(part.weight))
    return model


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, encoder: Path, crystals: Callable[[int], pd.DataFrame]) -> Path:
    """A folder with a table, a head and a finished study."""
    folder = tmp_path_factory.mktemp("attention")
    crystals(60).to_parquet(folder / "crystals.parquet")
    config = CloudConfig.from_pretrained(encoder, target_names=["gap"], target_units=["eV"])
    set_seed(0)
    CloudForPropertyRegression(config).save_pretrained(folder / "head")
    AutoTokenizer.from_pretrained(encoder).save_pretrained(folder / "head")
    study(folder, "--model", str(encoder), str(folder / "head"))
    return folder


def study(folder: Path, *flags: str) -> None:
    command(["attention", "--data", str(folder / "crystals.parquet"), "--out", str(folder / "out"), *FLAGS, *flags])


def test_shares_add_up_and_do_not_see_padding(model: Any, encoder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    together = attention_shares(model.bert, tokenizer, SCOPES)
    assert together.from_cls.sum(axis=-1) == pytest.approx(np.ones((3, 2, 2)), abs=1e-5)
    assert together.expected.sum(axis=-1) == pytest.approx(np.ones(3), abs=1e-6)
    filled = ~np.isnan(together.between[0, 0, :, 0])
    assert [name for name, is_there in zip(CLASSES, filled, strict=True) if not is_there] == ["fractions"]
    assert together.between[:, :, filled].sum(axis=-1) == pytest.approx(np.ones((2, 2, filled.sum())), abs=1e-5)
    alone = attention_shares(model.bert, tokenizer, SCOPES, batch_size=1)
    assert together.from_cls == pytest.approx(alone.from_cls, abs=1e-5)
    assert together.between[:, :, filled] == pytest.approx(alone.between[:, :, filled], abs=1e-5)


def test_shares_are_those_of_the_attention_itself(model: Any, encoder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    found = attention_shares(model.bert, tokenizer, SCOPES[:1])
    with torch.no_grad():
        weights = model.bert(**tokenizer(SCOPES[:1], return_tensors="pt"), output_attentions=True).attentions
    # [CLS] 0 3 a | Na 4a Cl 4b [SEP]
    for layer, maps in enumerate(weights):
        for head in range(2):
            row = maps[0, head, 0]
            assert found.from_cls[0, layer, head, CLASSES.index("generators")] == pytest.approx(float(row[1:4].sum()))
            assert found.from_cls[0, layer, head, CLASSES.index("elements")] == pytest.approx(float(row[[5, 7]].sum()))
            mean = maps[0, head][[6, 8]][:, 1:4].sum(1).mean()
            pair = CLASSES.index("wyckoff"), CLASSES.index("generators")
            assert found.between[layer, head, *pair] == pytest.approx(float(mean), rel=1e-5)


def test_uniform_attention_gives_the_share_of_the_words(encoder: Path) -> None:
    flat = CloudForMaskedLM.from_pretrained(encoder, attn_implementation="eager").eval()
    with torch.no_grad():
        for layer in flat.bert.encoder.layer:
            layer.attention.self.query.weight.zero_()
            layer.attention.self.query.bias.zero_()
    found = attention_shares(flat.bert, AutoTokenizer.from_pretrained(encoder), SCOPES)
    assert found.from_cls == pytest.approx(
        np.broadcast_to(found.expected[:, None, None], found.from_cls.shape), abs=1e-6
    )


def test_intervals_cover_the_mean() -> None:
    values = np.random.default_rng(0).normal(3, 1, 400)
    found = mean_with_interval(values)
    assert found["low"] < 3 < found["high"]
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 / 20, rel=0.15)
    exact = ratio_with_interval(2 * values, values)
    assert [exact[key] for key in ("value", "low", "high")] == pytest.approx([2, 2, 2])


def test_results_stand_beside_both_controls(done: Path, encoder: Path) -> None:
    found = json.loads((done / "out/results.json").read_text())["results"]
    assert found["n"] == 20
    assert set(found["models"]) == {encoder.name, "head"}
    for model in found["models"].values():
        symmetry = model["from_cls"]["symmetry"]
        assert symmetry["enrichment"]["value"] == pytest.approx(symmetry["share"] / symmetry["expected"])
        assert symmetry["share_less_random"]["difference"] == pytest.approx(symmetry["share"] - symmetry["random"])
        assert 0.8 < symmetry["enrichment"]["value"] < 1.2  # random weights look everywhere alike
        assert model["heads"]["n"] == 4
    assert found["models"][encoder.name]["gradients"] == []
    (gradients,) = found["models"]["head"]["gradients"]
    assert (gradients["output"], gradients["unit"], gradients["n"]) == ("gap", "eV", 6)
    assert gradients["completeness_error"] < 0.05
    assert sum(one["share"]["value"] for one in gradients["classes"].values()) == pytest.approx(1, abs=1e-4)


def test_the_report_shows_the_pictures(done: Path, encoder: Path) -> None:
    report = (done / "out/report.md").read_text()
    for name in (f"heads_{encoder.name}.png", "heads_head.png", "classes_head.png", "layers.png", "gradients.png"):
        assert f"({name})" in report
        assert (done / "out" / name).stat().st_size > 5000
    assert str(done) not in report + (done / "out/results.json").read_text()
    assert "concentrates" in report


def test_a_second_run_measures_nothing(done: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "attention_shares", None)
    monkeypatch.setattr(attention, "attribute", None)
    before = (done / "out/results.json").read_text()
    study(done, "--model", str(encoder), str(done / "head"))
    assert (done / "out/results.json").read_text() == before


def test_a_checkpoint_of_the_papers_grammar_reads_its_own_strings(
    tmp_path: Path, crystals: Callable[[int], pd.DataFrame]
) -> None:
    from cloud_hf.studies.common.fitting import random_encoder

    paper = random_encoder(
        tmp_path / "paper", grammar="composition", hidden_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    crystals(12).to_parquet(tmp_path / "crystals.parquet")
    study(tmp_path, "--model", str(paper), "--n-crystals", "8")
    (model,) = json.loads((tmp_path / "out/results.json").read_text())["results"]["models"].values()
    assert "fractions" in model["classes"]


def test_what_cannot_be_measured_is_refused(done: Path, encoder: Path, tmp_path: Path) -> None:
    for flags, reason in (
        (["--model", str(encoder), "--targets", "gap"], "no such target"),
        (["--model", str(tmp_path)], "no config.json"),
        (["--model", "heat_capacty"], "inside the package there are default.*heat_capacity"),
        (["--model", str(encoder), str(encoder)], "one twice"),
        (["--model", str(encoder), "--n-gradients", "50"], "n-gradients must be from 2 to 20"),
        (["--model", str(encoder), "--seed", "9"], "seed was 0, is 9"),
    ):
        with pytest.raises(CloudError, match=reason):
            study(done, *flags)
    pd.DataFrame({"scope": ["nonsense"] * 4}).to_csv(tmp_path / "bad.csv")
    with pytest.raises(CloudError, match="fewer than two rows have a usable SCOPE string"):
        command(
            ["attention", "--data", str(tmp_path / "bad.csv"), "--out", str(tmp_path / "out"), "--model", str(encoder)]
        )
