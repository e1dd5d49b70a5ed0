"""Saving, resizing, padding and arguments that stock code passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, BertModel, PreTrainedModel

from cloud_hf import (
    CloudConfig,
    CloudForDebye,
    CloudForMaskedLM,
    CloudForPropertyRegression,
    CloudModel,
    ScopeTokenizer,
)
from cloud_hf.errors import CheckpointError, CloudError

CHEMISTRY = {
    "element_descriptors": True, "site_multiplicity": True, "pooling": "cls_multiplicity", "grammar": "sites",
}  # fmt: skip
SITES = ["1 2 a E C C n O O O 0 | Ba 3a Ti 3b O 9d", "1 0 0 | Cu 2i O 1a C 1b", "1 0 0 | Cu 2i"]
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "encoder": (CloudModel, {}),
    "masked_lm": (CloudForMaskedLM, {}),
    "regression": (CloudForPropertyRegression, {"target_names": ["a", "b"]}),
    "debye": (CloudForDebye, {}),
    "members": (CloudForPropertyRegression, {"target_names": ["a", "b"], "n_members": 2}),
}


@pytest.fixture(params=["plain", "chemistry"])
def make(request: pytest.FixtureRequest, make_config: Callable[..., CloudConfig]) -> Callable[..., Any]:
    """Return a function that makes a tiny model in evaluation mode, with and without chemistry."""

    def build(kind: str, **more: Any) -> Any:
        torch.manual_seed(5)
        chemistry = CHEMISTRY if request.param == "chemistry" else {"grammar": "sites"}
        model_class, own = KINDS[kind]
        return model_class(make_config(initializer_range=0.2, **(own | chemistry | more))).eval()

    return build


def main_output(outputs: Any) -> torch.Tensor:
    return outputs.last_hidden_state if hasattr(outputs, "last_hidden_state") else outputs.logits


# ------------------------------------------------------------------------------------------------ padding


@pytest.mark.parametrize("kind", KINDS)
def test_padding_may_stand_on_either_side(make: Callable[..., Any], kind: str) -> None:
    model = make(kind)
    left, right = (
        dict(ScopeTokenizer(padding_side=side)(SITES, padding=True, return_tensors="pt")) for side in ("left", "right")
    )
    assert left["attention_mask"][-1, 0] == 0
    found, expected = main_output(model(**left)), main_output(model(**right))
    if kind in ("encoder", "masked_lm"):
        found, expected = found[left["attention_mask"] == 1], expected[right["attention_mask"] == 1]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.detach().abs().max()))


def test_the_pooler_finds_cls_too(make_config: Callable[..., CloudConfig]) -> None:
    torch.manual_seed(5)
    model = CloudModel(make_config(initializer_range=0.2), add_pooling_layer=True).eval()
    left, right = (
        ScopeTokenizer(padding_side=side)(SITES, padding=True, return_tensors="pt") for side in ("left", "right")
    )
    expected = model(**right).pooler_output
    torch.testing.assert_close(model(**left).pooler_output, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model(**left, return_dict=False)[1], expected, rtol=1e-5, atol=1e-5)


def test_the_pooling_layer_is_an_argument_as_for_bert(make_config: Callable[..., CloudConfig], tmp_path: Path) -> None:
    CloudForMaskedLM(make_config()).save_pretrained(tmp_path)
    assert AutoModel.from_pretrained(tmp_path, add_pooling_layer=False).pooler is None
    assert AutoModel.from_pretrained(tmp_path, add_pooling_layer=True).pooler is not None


def test_padding_on_the_right_is_what_bert_computes_to_the_bit(make_config: Callable[..., CloudConfig]) -> None:
    torch.manual_seed(5)
    model = CloudModel(make_config(initializer_range=0.2)).eval()
    bert = BertModel(model.config, add_pooling_layer=False).eval()
    bert.load_state_dict(model.state_dict())
    batch = ScopeTokenizer()(SITES, padding=True, return_tensors="pt")
    assert torch.equal(model(**batch).last_hidden_state, bert(**batch).last_hidden_state)


# ------------------------------------------------------------------------------------------------ vocabulary


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("resize", [{"new_num_tokens": 588}, {"pad_to_multiple_of": 64}], ids=str)
def test_a_grown_vocabulary_is_used_and_saved(
    make: Callable[..., Any], kind: str, resize: dict[str, int], tmp_path: Path
) -> None:
    model = make(kind)
    batch = dict(ScopeTokenizer()(SITES, padding=True, return_tensors="pt"))
    before = main_output(model(**batch))
    model.resize_token_embeddings(**resize)
    size = model.config.vocab_size
    assert size == (588 if "new_num_tokens" in resize else 640)
    after = main_output(model(**batch))
    torch.testing.assert_close(after[..., :585] if kind == "masked_lm" else after, before, rtol=1e-5, atol=1e-5)
    batch["input_ids"][0, 3] = size - 1
    expected = main_output(model(**batch))
    assert expected.isfinite().all()
    model.save_pretrained(tmp_path)
    loaded, info = KINDS[kind][0].from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    torch.testing.assert_close(main_output(loaded(**batch)), expected)


def test_words_that_chemistry_reads_stay(make_config: Callable[..., CloudConfig]) -> None:
    model = CloudForDebye(make_config(**CHEMISTRY))
    with pytest.raises(CloudError, match="585 words"):
        model.resize_token_embeddings(500)
    assert model.config.vocab_size == model.bert.embeddings.word_embeddings.num_embeddings == 585
    CloudForDebye(make_config()).resize_token_embeddings(500)


# ------------------------------------------------------------------------------------------------ whole saves


def broken(self: Any, folder: Any, **kwargs: Any) -> None:
    """What a full disk does: the config is there, the weights are not."""
    Path(folder, "config.json").write_text("{}", encoding="utf-8")
    raise OSError("no space left on the device")


@pytest.mark.parametrize("there", [False, True], ids=["new folder", "over another save"])
def test_a_save_that_fails_leaves_the_folder_as_it_was(
    make_config: Callable[..., CloudConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    folder = tmp_path / "saved"
    model = CloudForMaskedLM(make_config())
    if there:
        model.save_pretrained(folder)
        (folder / "notes.txt").write_text("mine", encoding="utf-8")
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(PreTrainedModel, "save_pretrained", broken)
        with pytest.raises(OSError, match="no space"):
            CloudForMaskedLM(make_config()).save_pretrained(folder)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files
    assert folder.exists() is there
    model.config.theta_link = "cubic"  # refused only when the config is written
    with pytest.raises(Exception, match="cubic"):
        model.save_pretrained(folder)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files


def test_a_save_replaces_the_weights_of_another(make_config: Callable[..., CloudConfig], tmp_path: Path) -> None:
    """Loading would prefer a single file to newer shards."""
    torch.manual_seed(1)
    first, second = (CloudForMaskedLM(make_config()) for _ in range(2))
    for size, number in (("1GB", 1), ("50KB", 3), ("1GB", 1)):
        model = first if model_is(tmp_path, second) else second
        model.save_pretrained(tmp_path, max_shard_size=size)
        found = len(list(tmp_path.glob("model*.safetensors")))
        assert (found == 1) == (number == 1)
        assert (tmp_path / "model.safetensors.index.json").exists() == (number != 1)
        assert model_is(tmp_path, model)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def model_is(folder: Path, model: Any) -> bool:
    """Whether a folder holds the weights of a model."""
    name = "bert.embeddings.position_embeddings.weight"
    found = [load_file(path).get(name) for path in folder.glob("model*.safetensors")]
    return any(one is not None and torch.equal(one, model.state_dict()[name]) for one in found)


def test_a_file_is_no_folder_to_save_in(make_config: Callable[..., CloudConfig], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(CheckpointError, match="is a file"):
        CloudModel(make_config()).save_pretrained(tmp_path / "file")


# ------------------------------------------------------------------------------------------------ configuration


def test_every_number_of_a_config_may_be_whole(make_config: Callable[..., CloudConfig]) -> None:
    numbers = [one.name for one in fields(CloudConfig) if isinstance(getattr(make_config(), one.name), float)]
    assert {"head_dropout", "symprec", "theta_shift", "initializer_range", "hidden_dropout_prob"} <= {*numbers}
    for name in numbers:
        assert getattr(make_config(**{name: 1}), name) == 1
    config = make_config(target_names=["a"], target_mean=[0], target_scale=[2], target_weights=[1], head_dropout=0)
    batch = ScopeTokenizer()(SITES, padding=True, return_tensors="pt")
    assert CloudForPropertyRegression(config)(**batch).logits.shape == (3, 1)
