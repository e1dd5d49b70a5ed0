"""Published weights as CLOUD checkpoints: the same numbers, without the dead vocabulary, or an error that says why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from pymatgen.core import Element
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertForMaskedLM, BertModel

from cloud_hf import CloudForDebye, CloudForMaskedLM, CloudForPropertyRegression, CloudModel, ScopeTokenizer
from cloud_hf.checkpoints.conversion import convert
from cloud_hf.checkpoints.reading import read_config
from cloud_hf.errors import CheckpointError
from cloud_hf.inference.prediction import load_predictor


class PaperModel(nn.Module):
    """The paper's fine-tuned network: an encoder with its pooler; k x (linear, SiLU) and a linear layer on [CLS]."""

    def __init__(self, published: BertForMaskedLM, layers: int) -> None:
        super().__init__()
        self.bert = BertModel(published.config)
        self.bert.load_state_dict(published.bert.state_dict(), strict=False)
        width = published.config.hidden_size
        torch.manual_seed(layers)
        hidden = [part for _ in range(layers) for part in (nn.Linear(width, width), nn.SiLU())]
        self.Regressor = nn.Sequential(nn.Dropout(0.1), *hidden, nn.Linear(width, 1))

    @torch.no_grad()
    def predict(self, batch: Any) -> Tensor:
        return self.eval().Regressor(self.bert(**batch).last_hidden_state[:, 0])[:, 0]


@pytest.fixture(scope="module")
def paper(published: BertForMaskedLM) -> Callable[[int], PaperModel]:
    return lambda layers: PaperModel(published, layers)


@pytest.fixture(scope="module")
def converted(published_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("converted") / "cloud"
    convert(str(published_folder), str(output))
    return output


@pytest.fixture
def fine_tuned(paper: Callable[[int], PaperModel], tmp_path: Path) -> Path:
    state = {"model_state_dict": paper(1).state_dict(), "epoch": 1, "best_valid_loss": np.inf}
    torch.save(state | {"mu": np.float64(2.5), "std": np.float64(1.25)}, tmp_path / "model_best.pth")
    return tmp_path / "model_best.pth"


def real_strings(shared: Path, count: int) -> list[str]:
    strings = pd.read_parquet(shared / "data" / "published_scope_10k.parquet")["scope"]
    return list(strings.iloc[:: len(strings) // count])


@torch.no_grad()
def largest_difference(original: Any, model: Any, strings: list[str], tokenizer: Any) -> float:
    batch = tokenizer(strings, padding=True, return_tensors="pt")
    kept = batch["attention_mask"].bool()
    ours, theirs = model.eval()(**batch).logits[kept][:, :564], original(**batch).logits[kept][:, :564]
    assert float(theirs.std()) > 0.1
    return float((ours - theirs).abs().max())


class TestMaskedLM:
    def test_the_logits_are_the_original_s(
        self, published: BertForMaskedLM, converted: Path, scopes: list[str]
    ) -> None:
        model, tokenizer = AutoModelForMaskedLM.from_pretrained(converted), AutoTokenizer.from_pretrained(converted)
        assert type(model) is CloudForMaskedLM
        assert largest_difference(published, model, scopes, tokenizer) < 1e-5

    def test_on_real_strings(self, published: BertForMaskedLM, converted: Path, shared: Path) -> None:
        model, tokenizer = CloudForMaskedLM.from_pretrained(converted), ScopeTokenizer.from_pretrained(converted)
        assert largest_difference(published, model, real_strings(shared, 80), tokenizer) < 1e-5

    @pytest.mark.slow
    def test_on_real_strings_at_full_size(self, make_published: Any, shared: Path, tmp_path: Path) -> None:
        original = make_published(heads=12, layers=12)
        original.save_pretrained(tmp_path / "published")
        convert(str(tmp_path / "published"), str(tmp_path / "cloud"))
        model = CloudForMaskedLM.from_pretrained(tmp_path / "cloud")
        before, after = (sum(p.numel() for p in m.parameters()) for m in (original, model))
        assert (model.config.hidden_size, before - after) == (768, (30_522 - 585) * 769)
        strings = real_strings(shared, 100)
        assert largest_difference(original, model, strings, ScopeTokenizer.from_pretrained(tmp_path / "cloud")) < 1e-5

    def test_the_dead_vocabulary_is_gone(self, published: BertForMaskedLM, converted: Path) -> None:
        model = CloudForMaskedLM.from_pretrained(converted)
        table, theirs = model.bert.embeddings.word_embeddings.weight, published.bert.embeddings.word_embeddings.weight
        assert table.shape == (585, 128)
        assert torch.equal(table[:564], theirs[:564])
        assert model.cls.predictions.decoder.weight is table
        before, after = (sum(p.numel() for p in m.parameters()) for m in (published, model))
        assert before - after == (30_522 - 585) * 129

    def test_new_elements_start_as_the_one_above_them(self, converted: Path, tokenizer: ScopeTokenizer) -> None:
        model = CloudForMaskedLM.from_pretrained(converted)
        table, bias = model.bert.embeddings.word_embeddings.weight, model.cls.predictions.bias
        words = tokenizer.convert_ids_to_tokens(list(range(564, 585)))
        row = {word: table[tokenizer.convert_tokens_to_ids(word)] for word in [*words, "I", "Cs", "Ho", "Rn", "Tl"]}
        for word, above in {"At": "I", "Fr": "Cs", "Es": "Ho", "Og": "Rn", "Nh": "Tl", "Ts": "I"}.items():
            assert torch.equal(row[word], row[above])
        for word in words:
            if word not in ("Ts",):  # At, above it, is new as well
                above = Element.from_Z(Element(word).Z - 32)
                assert (above.group, above.block) == (Element(word).group, Element(word).block)
        assert torch.equal(bias[564:], bias[:564].min().expand(21))

    def test_the_config_is_cloud_s(self, converted: Path) -> None:
        config = read_config(str(converted))
        assert (config.model_type, config.pad_token_id, config.vocab_size) == ("cloud", 1, 585)
        assert (config.grammar, config.canonical, config.max_position_embeddings) == ("composition", False, 64)
        assert AutoTokenizer.from_pretrained(converted).model_max_length == 64
        assert {path.suffix for path in converted.iterdir()} == {".json", ".safetensors", ".txt", ".py", ".md"}

    @pytest.mark.parametrize("form", ["file", "bin", "tied twice", "bare", "ddp"])
    def test_other_forms_of_the_same_weights(
        self, form: str, published: BertForMaskedLM, converted: Path, tmp_path: Path
    ) -> None:
        state = {name: weight.clone() for name, weight in published.state_dict().items()}
        source = tmp_path / {"file": "weights.safetensors", "ddp": "model.pth"}.get(form, "pytorch_model.bin")
        if form == "file":
            save_file(state, source)
        elif form == "bare":
            torch.save(published.bert.state_dict(), source)
        elif form == "ddp":
            torch.save({"state_dict": {f"module.{name}": weight for name, weight in state.items()}}, source)
        else:
            state["bert.embeddings.position_ids"] = torch.arange(64)[None]
            torch.save(state, source)
        model = convert(str(source), str(tmp_path / "out")).model
        assert type(model) is (CloudModel if form == "bare" else CloudForMaskedLM)
        reference = CloudForMaskedLM.from_pretrained(converted)
        expected = (reference.bert if form == "bare" else reference).state_dict()
        assert model.state_dict().keys() == expected.keys()
        assert all(torch.equal(weight, expected[name]) for name, weight in model.state_dict().items())

    def test_a_decoder_of_its_own_is_refused(self, published: BertForMaskedLM, tmp_path: Path) -> None:
        state = published.state_dict() | {"cls.predictions.decoder.weight": torch.zeros(30_522, 128)}
        torch.save(state, tmp_path / "pytorch_model.bin")
        with pytest.raises(CheckpointError, match="not tied"):
            convert(str(tmp_path), str(tmp_path / "out"))


class TestFineTuned:
    @pytest.mark.parametrize("layers", [0, 1, 3])
    def test_predictions_are_the_original_s_in_their_unit(
        self, layers: int, paper: Any, scopes: list[str], tmp_path: Path
    ) -> None:
        original = paper(layers)
        state = {"model_state_dict": original.state_dict(), "mu": np.float64(2.5), "std": np.float64(1.25)}
        torch.save(state, tmp_path / "model.pth")
        convert(str(tmp_path / "model.pth"), str(tmp_path / "out"), target="band_gap:eV")
        predictor = load_predictor(str(tmp_path / "out"), "band_gap")
        assert type(predictor.model) is CloudForPropertyRegression
        assert predictor.model.config.head_layers == layers
        expected = 2.5 + 1.25 * original.predict(predictor.tokenizer(scopes, padding=True, return_tensors="pt"))
        found = [quantities[0] for quantities in predictor(scopes)]
        assert {(q["name"], q["unit"]) for q in found} == {("band_gap", "eV")}
        np.testing.assert_allclose([q["value"] for q in found], expected.numpy(), atol=1e-5, rtol=0)

    def test_debye_temperatures_are_the_original_s(self, paper: Any, scopes: list[str], tmp_path: Path) -> None:
        original = paper(3)
        torch.save({"model_state_dict": original.state_dict(), "epoch": 5}, tmp_path / "model.pth")
        convert(str(tmp_path / "model.pth"), str(tmp_path / "out"), debye=True)
        predictor = load_predictor(str(tmp_path / "out"), "heat_capacity")
        assert type(predictor.model) is CloudForDebye
        expected = 1500 + 1200 * original.predict(predictor.tokenizer(scopes, padding=True, return_tensors="pt"))
        assert (expected > 1).all()
        found = [{q["name"]: q["value"] for q in quantities} for quantities in predictor(scopes)]
        np.testing.assert_allclose([q["debye_temperature"] for q in found], expected.numpy(), rtol=1e-5)
        assert all(0 < q["heat_capacity_per_atom"] < 3 * 8.3145 for q in found)

    def test_the_paper_s_config_beside_the_file_is_read(self, paper: Any, tmp_path: Path) -> None:
        torch.save({"model_state_dict": paper(2).state_dict()}, tmp_path / "model.pth")
        model = {"num_attention_heads": 4, "num_hidden_layers": 2, "dropout": 0.3, "num_layers": 2}
        config = {"mu": 700.0, "scale": 90.0, "task": "internal_energy", "model": model}
        (tmp_path / "config_debye.yaml").write_text(yaml.safe_dump(config))
        done = convert(str(tmp_path / "model.pth"), str(tmp_path / "out"), debye=True)
        assert str(tmp_path / "config_debye.yaml") in dict(done.rows)["config"]
        read = json.loads((tmp_path / "out" / "config.json").read_text())
        assert (read["theta_link"], read["theta_shift"], read["theta_scale"]) == ("linear", 700.0, 90.0)
        assert (read["num_attention_heads"], read["head_dropout"]) == (4, 0.3)
        assert "internal_energy" in read["debye_targets"]

    def test_a_normaliser_may_come_from_a_config(self, paper: Any, tmp_path: Path) -> None:
        torch.save(paper(1).state_dict(), tmp_path / "model.pth")
        with pytest.raises(CheckpointError, match=r"no normaliser \(mu, std\)"):
            convert(str(tmp_path / "model.pth"), str(tmp_path / "out"), target="band_gap:eV")
        (tmp_path / "mine.yaml").write_text("{mu: 1.5, std: 0.5}")
        done = convert(
            str(tmp_path / "model.pth"), str(tmp_path / "out"), str(tmp_path / "mine.yaml"), target="band_gap:eV"
        )
        assert (done.model.config.target_mean, done.model.config.target_scale) == ([1.5], [0.5])

    @pytest.mark.parametrize(("arguments", "words"), [
        ({}, "say what it predicts"),
        ({"target": "band_gap:eV", "debye": True}, "say what it predicts"),
        ({"debye": True}, "normaliser"),
        ({"target": "band_gap"}, "no unit"),
        ({"target": ":eV"}, "no unit"),
        ({"target": ""}, "no unit"),
    ])  # fmt: skip
    def test_what_the_head_predicts_must_be_said(
        self, arguments: dict[str, Any], words: str, fine_tuned: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(CheckpointError, match=words):
            convert(str(fine_tuned), str(tmp_path / "out"), **arguments)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(("mu", "std"), [(1.0, 0.0), (1.0, -1.0), (float("nan"), 1.0), ("one", 1.0), (1.0, [1, 2])])
    def test_a_normaliser_that_is_none(self, mu: Any, std: Any, paper: Any, tmp_path: Path) -> None:
        torch.save({"model_state_dict": paper(1).state_dict(), "mu": mu, "std": std}, tmp_path / "m.pth")
        with pytest.raises(CheckpointError, match=r"(mu|std) must be"):
            convert(str(tmp_path / "m.pth"), str(tmp_path / "out"), target="band_gap:eV")

    def test_a_target_for_weights_without_head(self, published_folder: Path, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="no property head"):
            convert(str(published_folder), str(tmp_path / "out"), target="band_gap:eV")


class TestRefusals:
    @pytest.fixture
    def folder(self, published_folder: Path, tmp_path: Path) -> Path:
        return shutil.copytree(published_folder, tmp_path / "ckpt")

    def refused(self, folder: Path, words: str, **arguments: Any) -> None:
        output = folder.parent / "out"
        with pytest.raises(CheckpointError, match=words):
            convert(str(folder), str(output), **arguments)
        assert not output.exists()
        assert not list(folder.parent.glob(".out*"))

    def change(self, folder: Path, **weights: Tensor | None) -> None:
        stored = load_file(folder / "model.safetensors") | weights
        save_file({name: w for name, w in stored.items() if w is not None}, folder / "model.safetensors")

    @pytest.mark.parametrize(("name", "weight", "words"), [
        ("bert.encoder.layer.1.output.dense.bias", None, r"1 weights are missing: bert\.encoder\.layer\.1"),
        ("bert.embeddings.word_embeddings.weight", None, "word_embeddings.weight is missing"),
        ("bert.encoder.layer.0.intermediate.dense.weight", None, "is missing"),
        ("cls.predictions.transform.dense.bias", None, r"missing: cls\.predictions"),
        ("cls.predictions.bias", torch.zeros(7), "7 entries for 30522 words"),
        ("bert.encoder.layer.0.output.dense.bias", torch.zeros(3), r"of another shape: .*\(3,\) for \(128,\)"),
        ("bert.embeddings.position_embeddings.weight", torch.zeros(4), r"of shape \(4,\)"),
        ("bert.encoder.layer.9.output.dense.bias", torch.zeros(128), "which have another num_hidden_layers 2, not 10"),
        ("lstm.weight", torch.zeros(3), r"unknown: lstm\.weight"),
        ("bert.embeddings.LayerNorm.bias", torch.full((128,), torch.nan), "not finite"),
        ("bert.embeddings.word_embeddings.weight", torch.zeros(50, 128), "50"),
    ])  # fmt: skip
    def test_weights(self, name: str, weight: Tensor | None, words: str, folder: Path) -> None:
        self.change(folder, **{name: weight})
        self.refused(folder, words)

    @pytest.mark.parametrize(("fields", "words"), [
        ({"hidden_size": 64}, "another hidden_size 64, not 128"),
        ({"num_hidden_layers": 12}, "another num_hidden_layers 12, not 2"),
        ({"max_position_embeddings": 512, "vocab_size": 1}, "vocab_size 1, not 30522; max_position_embeddings 512"),
        ({"num_attention_heads": 7}, "does not divide into 7"),
        ({"num_attention_heads": "many"}, "does not divide into many"),
        ({"hidden_act": 3}, "hidden_act.*expected str"),
        ({"hidden_act": "sigmoid_of_death"}, "sigmoid_of_death"),
        ({"model_type": "gpt2"}, "model type 'gpt2'"),
    ])  # fmt: skip
    def test_configs(self, fields: dict[str, Any], words: str, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | fields))
        self.refused(folder, words)

    def test_another_vocabulary_of_the_same_size(self, folder: Path) -> None:
        (folder / "vocab.txt").write_text("[PAD]\n[unused0]\n[CLS]\n")
        self.refused(folder, r"id 0 is '\[PAD\]', not '\[CLS\]'")

    def test_a_checkpoint_that_is_cloud_s_already(self, converted: Path, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="model type 'cloud'"):
            convert(str(converted), str(tmp_path / "out"))

    def test_a_width_without_a_known_number_of_heads(self, tmp_path: Path, encoder_32: dict[str, Tensor]) -> None:
        save_file(encoder_32, tmp_path / "weights.safetensors")
        with pytest.raises(CheckpointError, match="no config tells the number"):
            convert(str(tmp_path / "weights.safetensors"), str(tmp_path / "out"))
        (tmp_path / "c.json").write_text('{"num_attention_heads": 2}')
        done = convert(str(tmp_path / "weights.safetensors"), str(tmp_path / "out"), str(tmp_path / "c.json"))
        assert done.model.config.num_attention_heads == 2

    @pytest.fixture
    def encoder_32(self, make_config: Any) -> dict[str, Tensor]:
        return {name: weight.clone() for name, weight in CloudModel(make_config()).state_dict().items()}


def test_a_wrong_conversion_is_noticed(published_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check against the original before anything is written sees a single changed weight."""
    from cloud_hf.checkpoints import conversion

    load = conversion._load

    def spoil(model: Any, weights: Any, source: str) -> None:
        load(model, weights, source)
        model.bert.encoder.layer[1].output.dense.bias.data[5] += 0.01

    monkeypatch.setattr(conversion, "_load", spoil)
    with pytest.raises(CheckpointError, match="differ from the original's"):
        convert(str(published_folder), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
