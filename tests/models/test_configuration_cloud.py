"""The configuration: defaults, round trips, and values that cannot work."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoModelForSequenceClassification, BertConfig

from cloud_hf import CloudConfig, CloudForPropertyRegression, ScopeTokenizer

NON_DEFAULT: dict[str, Any] = {
    "grammar": "sites", "canonical": True, "symprec": 0.02, "angle_tolerance": 3.0,
    "target_names": ["band_gap", "bulk_modulus"], "target_units": ["eV", "GPa"],
    "target_mean": [1.25, 100.0], "target_scale": [0.1, 33.3], "head_layers": 3, "head_dropout": 0.25,
    "theta_link": "linear", "theta_shift": 400.0, "theta_scale": 150.0, "debye_targets": ["internal_energy"],
    "element_descriptors": True, "site_multiplicity": True, "pooling": "cls_multiplicity", "sparse_prediction": True,
    "target_transforms": ["log", "per_atom"], "target_weights": [1.0, 0.5], "regression_loss": "huber",
    "second_branch": "einstein", "second_theta_shift": 7.0, "auxiliary_targets": ["bulk_modulus"],
}  # fmt: skip


def test_defaults_fit_the_tokenizer(tokenizer: ScopeTokenizer) -> None:
    config = CloudConfig()
    assert config.pad_token_id == 1 == tokenizer.pad_token_id
    assert config.vocab_size == tokenizer.vocab_size
    assert config.max_position_embeddings >= 256
    assert config.max_position_embeddings == tokenizer.model_max_length


def test_every_own_field_survives_saving(tmp_path: Path, make_config: Callable[..., CloudConfig]) -> None:
    config = make_config(**NON_DEFAULT)
    assert all(value != getattr(CloudConfig(), field) for field, value in NON_DEFAULT.items())
    config.save_pretrained(tmp_path)
    for loaded in (CloudConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert type(loaded) is CloudConfig
        assert {field: getattr(loaded, field) for field in NON_DEFAULT} == NON_DEFAULT
        assert loaded.hidden_size == 32
        assert loaded.to_diff_dict() == config.to_diff_dict()


def test_the_file_names_the_model_type(tmp_path: Path) -> None:
    CloudConfig().save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["model_type"] == "cloud"


def test_target_names_become_labels(make_config: Callable[..., CloudConfig]) -> None:
    config = make_config(target_names=["a", "b", "c"])
    assert config.problem_type == "regression"
    assert config.id2label == {0: "a", 1: "b", 2: "c"}
    assert config.label2id == {"a": 0, "b": 1, "c": 2}
    assert config.num_labels == 3


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"hidden_size": 33}, "33"),
        ({"grammar": "sonnet"}, "sonnet"),
        ({"theta_link": "cubic"}, "cubic"),
        ({"debye_targets": ["volume"]}, "volume"),
        ({"debye_targets": []}, "debye_targets"),
        ({"debye_targets": ["heat_capacity", "heat_capacity"]}, "distinct"),
        ({"debye_targets": ["heat_capacity", "internal_energy"], "target_scale": [1.0]}, "2 debye_targets"),
        ({"debye_target": "volume"}, "volume"),
        ({"second_branch": "third"}, "third"),
        ({"pooling": "mean"}, "mean"),
        ({"regression_loss": "l3"}, "l3"),
        ({"target_names": ["a"], "target_transforms": ["sqrt"]}, "sqrt"),
        ({"target_names": ["a"], "target_transforms": ["log", "log"]}, "target_transforms"),
        ({"target_names": ["a"], "target_weights": [-1.0]}, "target_weights"),
        ({"target_names": ["a"], "target_weights": [0.0]}, "target_weights"),
        ({"target_names": ["a"], "target_weights": [float("nan")]}, "target_weights"),
        ({"element_descriptors": True, "vocab_size": 30522}, "585.*30522"),
        ({"site_multiplicity": True, "vocab_size": 564}, "585.*564"),
        ({"pooling": "cls_multiplicity", "vocab_size": 30522}, "585.*30522"),
        ({"theta_scale": 0.0}, "theta_scale"),
        ({"theta_scale": -1.0}, "theta_scale"),
        ({"theta_scale": float("nan")}, "theta_scale"),
        ({"target_names": ["a", "a"]}, "distinct"),
        ({"target_names": ["a"], "target_units": ["eV", "K"]}, "target_units"),
        ({"target_names": ["a"], "target_mean": []}, "target_mean"),
        ({"target_names": ["a", "b"], "target_scale": [1.0]}, "target_scale"),
        ({"target_units": ["eV"]}, "target_units"),
        ({"target_names": ["a"], "target_scale": [0.0]}, "positive"),
        ({"target_names": ["a"], "target_scale": [-1.0]}, "positive"),
        ({"target_names": ["a"], "target_scale": [float("nan")]}, "positive"),
    ],
    ids=str,
)
def test_values_that_cannot_work_together_are_named(
    make_config: Callable[..., CloudConfig], fields: dict[str, Any], named: str
) -> None:
    with pytest.raises(Exception, match=named) as caught:
        make_config(**fields)
    assert isinstance(caught.value, ValueError) or isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize(
    "fields",
    [{"hidden_size": "wide"}, {"target_names": "band_gap"}, {"canonical": "yes"}, {"head_layers": 1.5}],
    ids=str,
)
def test_a_value_of_another_type_is_refused(make_config: Callable[..., CloudConfig], fields: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=next(iter(fields))):
        make_config(**fields)


def test_a_bad_file_is_refused_when_it_is_read(tmp_path: Path) -> None:
    CloudConfig().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    fields = json.loads(path.read_text(encoding="utf-8")) | {"theta_link": "cubic"}
    path.write_text(json.dumps(fields), encoding="utf-8")
    with pytest.raises(Exception, match="cubic"):
        AutoConfig.from_pretrained(tmp_path)


def test_the_older_key_of_a_debye_checkpoint_is_read(tmp_path: Path) -> None:
    CloudConfig().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    fields = json.loads(path.read_text(encoding="utf-8"))
    fields.pop("debye_targets", None)
    path.write_text(json.dumps(fields | {"debye_target": "internal_energy"}), encoding="utf-8")
    config = CloudConfig.from_pretrained(tmp_path)
    assert config.debye_targets == ["internal_energy"]
    assert "debye_target" not in config.to_dict()


def test_chemistry_is_off_unless_asked_for() -> None:
    """Published weights have neither the parameters nor the vocabulary."""
    assert not CloudConfig().reads_chemistry
    assert not CloudConfig(vocab_size=30522).reads_chemistry
    assert CloudConfig(pooling="cls_multiplicity").reads_chemistry


def test_each_configuration_has_its_own_lists() -> None:
    CloudConfig().debye_targets.append("entropy")
    assert CloudConfig().debye_targets == ["heat_capacity"]


@pytest.mark.parametrize(
    ("fields", "warned"),
    [
        ({}, True),  # stock BERT pads with 0
        ({"vocab_size": 30522, "max_position_embeddings": 64, "type_vocab_size": 1}, False),  # the published one
        ({"pad_token_id": 1}, False),  # what `cloud-hf export` writes
    ],
    ids=["stock", "published", "exported"],
)
def test_a_bert_that_pads_otherwise_is_told(
    fields: dict[str, Any], warned: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    BertConfig(**fields).save_pretrained(tmp_path)
    assert CloudConfig.from_pretrained(tmp_path).pad_token_id == 1
    assert ("pads with id 1" in caplog.text) is warned


def test_the_auto_class_makes_a_head_of_a_bare_configuration() -> None:
    config = CloudConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, target_names=["band_gap"])
    assert type(AutoModelForSequenceClassification.from_config(config)) is CloudForPropertyRegression
    with pytest.raises(ValueError, match="target_names"):
        AutoModelForSequenceClassification.from_config(CloudConfig())


@pytest.mark.parametrize("auxiliary", [["density"], ["band_gap", "band_gap"]])
def test_auxiliary_targets_are_among_the_targets(make_config: Callable[..., CloudConfig], auxiliary: list[str]) -> None:
    with pytest.raises(Exception, match=r"auxiliary_targets must be distinct and among target_names \(band_gap"):
        make_config(target_names=["band_gap", "bulk_modulus"], auxiliary_targets=auxiliary)


def test_another_head_begins_without_auxiliary_targets(make_config: Callable[..., CloudConfig], tmp_path: Path) -> None:
    config = make_config(target_names=["band_gap", "bulk_modulus"], auxiliary_targets=["bulk_modulus"])
    config.save_pretrained(tmp_path)
    assert CloudConfig.from_pretrained(tmp_path, target_names=["density"]).auxiliary_targets is None
    assert config.for_targets(["debye_temperature"]).auxiliary_targets is None
    assert config.for_targets(["bulk_modulus"]).auxiliary_targets == ["bulk_modulus"]
