"""A checkpoint of the published shape through the classes themselves, and checkpoints that lack encoder weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertForMaskedLM, BertModel

from cloud_hf import (
    CloudConfig,
    CloudForDebye,
    CloudForMaskedLM,
    CloudForPropertyRegression,
    CloudModel,
    ScopeTokenizer,
)
from cloud_hf.errors import CheckpointError


@pytest.fixture(scope="module")
def batch(tokenizer: ScopeTokenizer, scopes: list[str]) -> Any:
    return tokenizer(scopes, padding=True, return_tensors="pt")


@torch.no_grad()
def test_the_mlm_loads_directly_and_gives_the_original_s_logits(
    published: BertForMaskedLM, published_folder: Path, batch: Any
) -> None:
    model, found = CloudForMaskedLM.from_pretrained(published_folder, output_loading_info=True)
    assert not any(found.values())
    kept = batch["attention_mask"].bool()
    expected, logits = published(**batch).logits[kept], model.eval()(**batch).logits[kept]
    assert logits.shape == expected.shape
    assert float((logits - expected).abs().max()) < 1e-5
    assert float(expected.abs().max()) > 0.1


def test_the_cls_row_is_read_as_it_is_stored_and_pad_is_the_padding_row(
    published: BertForMaskedLM, published_folder: Path
) -> None:
    embeddings = CloudForMaskedLM.from_pretrained(published_folder).bert.embeddings.word_embeddings
    assert torch.equal(embeddings.weight, published.bert.embeddings.word_embeddings.weight)
    assert not embeddings.weight[0].any()
    assert embeddings.weight[1].any()
    assert embeddings.padding_idx == 1


def test_the_config_says_what_the_weights_were_trained_on(published_folder: Path) -> None:
    config = CloudConfig.from_pretrained(published_folder)
    assert (config.model_type, config.pad_token_id, config.vocab_size) == ("cloud", 1, 30_522)
    assert (config.grammar, config.canonical, config.symprec, config.symmetry) == ("composition", False, 0.01, "spglib")


@pytest.mark.slow
def test_it_loads_without_noise(published_folder: Path, run_python: Any) -> None:
    script = """
import contextlib, io, json, sys
noise = io.StringIO()
with contextlib.redirect_stderr(noise):
    from transformers.utils.logging import disable_progress_bar
    disable_progress_bar()
    import cloud_hf
    for kind in (cloud_hf.CloudForMaskedLM, cloud_hf.CloudModel):
        kind.from_pretrained(sys.argv[1])
print(json.dumps(noise.getvalue()))
"""
    assert run_python(script, published_folder) == ""


@torch.no_grad()
def test_the_encoder_alone_loads_from_the_mlm_and_from_a_bare_bert(
    published: BertForMaskedLM, published_folder: Path, batch: Any, tmp_path: Path
) -> None:
    BertModel(published.config).save_pretrained(tmp_path)  # with a pooler, which CLOUD does not have
    bare = load_file(tmp_path / "model.safetensors")
    bare |= published.bert.state_dict()
    save_file(bare, tmp_path / "model.safetensors", {"format": "pt"})
    expected = published.bert(**batch).last_hidden_state
    for folder in (published_folder, tmp_path):
        states = CloudModel.from_pretrained(folder).eval()(**batch).last_hidden_state
        assert float((states - expected).abs().max()) < 1e-5


@pytest.mark.parametrize("kind", [CloudForPropertyRegression, CloudForDebye])
def test_a_head_may_be_new_for_fine_tuning(kind: Any, published: BertForMaskedLM, published_folder: Path) -> None:
    fields = {} if kind is CloudForDebye else {"target_names": ["band_gap"], "target_units": ["eV"]}
    config = CloudConfig.from_pretrained(published_folder, **fields)
    model, found = kind.from_pretrained(published_folder, config=config, output_loading_info=True)
    assert {name.split(".")[0] for name in found["missing_keys"]} == {"classifier"}
    assert not found["unexpected_keys"]
    for name, weight in published.bert.state_dict().items():
        assert torch.equal(model.bert.state_dict()[name], weight)


@pytest.mark.parametrize("kind", [CloudForMaskedLM, CloudModel, CloudForDebye])
@pytest.mark.parametrize(
    "name", ["bert.encoder.layer.1.attention.self.query.weight", "bert.embeddings.word_embeddings.weight"]
)
def test_missing_encoder_weights_are_refused(kind: Any, name: str, published_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(published_folder, tmp_path / "ckpt")
    weights = load_file(folder / "model.safetensors")
    weights.pop(name)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    reason = r"encoder weights are missing .*, e\.g\. .*" + name.removeprefix("bert.")
    with pytest.raises(CheckpointError, match=reason):
        kind.from_pretrained(folder)


def test_encoder_weights_of_another_width_are_refused(published_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(published_folder, tmp_path / "ckpt")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 64, "num_attention_heads": 1}))
    with pytest.raises(RuntimeError):
        CloudForMaskedLM.from_pretrained(folder)
