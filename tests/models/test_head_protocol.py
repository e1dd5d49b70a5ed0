"""What every property class has in common: labels, new heads, refusals, names of weights, shapes of labels."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, pipeline

from cloud_hf import (
    CloudConfig,
    CloudForDebye,
    CloudForMaskedLM,
    CloudForPropertyRegression,
    CloudModel,
    ScopeTokenizer,
    bundled_model,
)
from cloud_hf.errors import CheckpointError, CloudError
from cloud_hf.models.configuration_cloud import HEAD_FIELDS

TWO = {
    "target_names": ["gap", "modulus"], "target_units": ["eV", "GPa"], "target_transforms": ["standardise", "log"],
    "target_mean": [1.5, 4.0], "target_scale": [0.5, 0.25], "target_weights": [1.0, 2.0],
}  # fmt: skip
SCOPES = ["1 0 0 | 2i | Cu 1.0", "1 2 a E C C n O O O 0 | 3a 3b 6c 18f | Ba 0.1 Ti 0.1 B 0.2 O 0.6"]


@pytest.fixture(scope="module")
def batch(tokenizer: ScopeTokenizer) -> dict[str, torch.Tensor]:
    """Two padded strings."""
    return dict(tokenizer(SCOPES, padding=True, return_tensors="pt"))


@pytest.fixture(scope="module")
def folders(make_config: Callable[..., CloudConfig], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of each class; tests must not change them."""
    base = tmp_path_factory.mktemp("checkpoints")
    made: dict[str, tuple[Any, dict[str, Any]]] = {
        "two": (CloudForPropertyRegression, TWO),
        "debye": (CloudForDebye, {"target_names": ["debye_temperature"], "target_scale": [3.0], "target_mean": [0.0]}),
        "masked_lm": (CloudForMaskedLM, {}),
        "encoder": (CloudModel, {}),
    }
    for name, (kind, fields) in made.items():
        torch.manual_seed(1)
        kind(make_config(initializer_range=0.2, **fields)).save_pretrained(base / name)
    return {name: base / name for name in made}


def head_of(config: CloudConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in HEAD_FIELDS}


# ------------------------------------------------------------------------------------------------ labels of a config


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"target_names": ["a"]}, ["a"]),
        ({"num_labels": 3}, ["LABEL_0", "LABEL_1", "LABEL_2"]),
        ({"num_labels": 2}, ["LABEL_0", "LABEL_1"]),
        ({"id2label": {"1": "b", "0": "a"}}, ["a", "b"]),
        ({"label2id": {"b": 1, "a": 0}}, ["a", "b"]),
        ({"target_names": ["a", "b"], "num_labels": 2, "problem_type": "regression"}, ["a", "b"]),
        ({"id2label": {0: "LABEL_0", 1: "LABEL_1"}}, None),
        ({}, None),
    ],
    ids=str,
)
def test_labels_and_targets_say_one_thing(
    make_config: Callable[..., CloudConfig], fields: dict[str, Any], names: list[str] | None
) -> None:
    config = make_config(**fields)
    assert config.target_names == names
    again = CloudConfig.from_dict(config.to_dict())
    for one in (config, again):
        if names is not None:
            assert one.target_names == names == list(one.id2label.values())
            assert one.num_labels == len(names)
            assert one.label2id == {name: index for index, name in enumerate(names)}
            assert one.problem_type == "regression"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"target_names": ["a"], "num_labels": 3}, "num_labels is 3"),
        ({"target_names": ["a"], "id2label": {0: "b"}}, "target_names are a"),
        ({"target_names": ["a", "b"], "problem_type": "single_label_classification"}, "single_label_classification"),
        ({"num_labels": 3, "problem_type": "multi_label_classification"}, "multi_label_classification"),
        ({"id2label": {0: "a", 1: "b", 2: "c"}, "num_labels": 2}, "num_labels is 2"),
    ],
    ids=str,
)
def test_labels_that_contradict_are_refused(
    make_config: Callable[..., CloudConfig], fields: dict[str, Any], named: str
) -> None:
    with pytest.raises(Exception, match=named) as caught:
        make_config(**fields)
    assert isinstance(caught.value, ValueError) or isinstance(caught.value.__cause__, ValueError)


def test_labels_set_on_a_config_are_honoured_or_refused(make_config: Callable[..., CloudConfig]) -> None:
    """What stock examples do: `config.num_labels = 3`, then the model."""
    config = make_config()
    config.num_labels = 3
    model = CloudForPropertyRegression(config)
    assert model.classifier.layers[-1].out_features == model.config.num_labels == 3
    one = make_config()
    one.target_names = ["gap"]
    assert CloudForPropertyRegression(one).config.id2label == {0: "gap"}
    one.num_labels = 3
    with pytest.raises(CloudError, match="num_labels is 3"):
        CloudForPropertyRegression(one)
    one = make_config(target_names=["gap"])
    one.problem_type = "single_label_classification"
    with pytest.raises(CloudError, match="single_label_classification"):
        CloudForPropertyRegression(one)


@pytest.mark.parametrize(("kind", "fields"), [(CloudForDebye, {}), (CloudForPropertyRegression, {"num_labels": 1})])
def test_a_model_leaves_the_callers_config_alone(
    make_config: Callable[..., CloudConfig], kind: Any, fields: dict[str, Any]
) -> None:
    config = make_config(**fields)
    before = copy.deepcopy(config.to_dict())
    model = kind(config)
    assert config.to_dict() == before
    assert model.config.num_labels == 1
    assert model.config.problem_type == "regression"
    assert CloudModel(make_config()).config.target_names is None


def test_a_debye_model_is_for_one_quantity(make_config: Callable[..., CloudConfig]) -> None:
    model = CloudForDebye(make_config())
    assert (model.config.target_names, model.config.target_units) == (["debye_temperature"], ["K"])
    assert model.config.id2label == {0: "debye_temperature"}
    with pytest.raises(CloudError, match="CloudForPropertyRegression"):
        CloudForDebye(make_config(target_names=["gap"]))


# ------------------------------------------------------------------------------------------------ overrides


@pytest.mark.parametrize("kind", [CloudForPropertyRegression, AutoModelForSequenceClassification])
def test_a_new_head_keeps_nothing_of_the_old_one(folders: dict[str, Path], kind: Any, batch: dict[str, Any]) -> None:
    options = {"target_names": ["x"], "target_units": ["meV"]}
    with pytest.raises(CheckpointError, match=r"predicts gap, modulus, not x.*ignore_mismatched_sizes"):
        kind.from_pretrained(folders["two"], **options)
    model, info = kind.from_pretrained(
        folders["two"], **options, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert head_of(model.config) == {
        "target_names": ["x"], "target_units": ["meV"], "target_transforms": None, "target_mean": None,
        "target_scale": None, "target_weights": None, "auxiliary_targets": None, "id2label": {0: "x"},
        "label2id": {"x": 0}, "problem_type": "regression",
    }  # fmt: skip
    assert {name for name in info["missing_keys"] if name.startswith("classifier.")} == {
        name for name in model.state_dict() if name.startswith("classifier.")
    }
    raw, _ = model.raw_outputs(**batch)
    torch.testing.assert_close(model(**batch).logits, raw)


def test_other_names_of_the_same_number_are_another_head(folders: dict[str, Path]) -> None:
    """The weights would fit, and predict the modulus under the name of the gap."""
    swapped = {"target_names": ["modulus", "gap"]}
    with pytest.raises(CheckpointError, match="predicts gap, modulus"):
        CloudForPropertyRegression.from_pretrained(folders["two"], **swapped)
    model = CloudForPropertyRegression.from_pretrained(folders["two"], ignore_mismatched_sizes=True, **swapped)
    old = load_file(folders["two"] / "model.safetensors")
    new = {name: value for name, value in model.state_dict().items() if re.match(r"classifier.*weight$", name)}
    assert new
    assert not any(torch.equal(old[name], value) for name, value in new.items())
    torch.testing.assert_close(
        model.bert.embeddings.word_embeddings.weight, old["bert.embeddings.word_embeddings.weight"]
    )
    assert model.config.target_mean is None


@pytest.mark.parametrize("fields", [{"num_labels": 3}, {"id2label": {0: "a", 1: "b", 2: "c"}}], ids=str)
def test_stock_names_of_a_new_head_work(folders: dict[str, Path], fields: dict[str, Any]) -> None:
    for name in ("masked_lm", "encoder", "two"):
        model = AutoModelForSequenceClassification.from_pretrained(
            folders[name], ignore_mismatched_sizes=name == "two", **fields
        )
        assert model.config.num_labels == model.classifier.layers[-1].out_features == 3
        assert model.config.target_mean is None


def test_overrides_are_checked_together(folders: dict[str, Path]) -> None:
    same = CloudConfig.from_pretrained(folders["two"], target_names=TWO["target_names"], target_weights=[3, 1])
    assert (same.target_mean, same.target_weights) == (TWO["target_mean"], [3, 1])
    for wrong in ({"target_mean": [1.0]}, {"target_names": ["x"], "target_units": ["eV", "GPa"]}):
        with pytest.raises(Exception, match="entries for"):
            CloudConfig.from_pretrained(folders["two"], **wrong)
    debye = CloudConfig.from_pretrained(folders["debye"], debye_targets=["heat_capacity", "internal_energy"])
    assert debye.target_scale is None
    config, unused = CloudConfig.from_pretrained(folders["two"], symprec=1, colour="red", return_unused_kwargs=True)
    assert (config.symprec, unused) == (1, {"colour": "red"})


def test_half_an_old_head_is_not_kept(folders: dict[str, Path]) -> None:
    model = CloudForPropertyRegression.from_pretrained(folders["two"], head_layers=2, ignore_mismatched_sizes=True)
    old = load_file(folders["two"] / "model.safetensors")
    assert not torch.equal(model.classifier.layers[0].weight, old["classifier.layers.0.weight"])
    assert model.config.target_names == TWO["target_names"]


# ------------------------------------------------------------------------------------------------ other classes


def test_the_head_of_another_class_is_refused(folders: dict[str, Path]) -> None:
    for name, kind, right in (
        ("debye", CloudForPropertyRegression, "CloudForDebye"),
        ("two", CloudForDebye, "CloudForPropertyRegression"),
    ):
        with pytest.raises(CheckpointError, match=f"load it with {right}") as caught:
            kind.from_pretrained(folders[name])
        assert caught.value.source == str(folders[name])
        with pytest.raises(CheckpointError, match=right):
            kind.from_pretrained(folders[name], config=CloudConfig.from_pretrained(folders[name]))


def test_bundled_heads_are_not_mistaken_for_one_another() -> None:
    for kind in (CloudForPropertyRegression, CloudForDebye):
        with pytest.raises(CheckpointError, match="CloudForCrystalProperties"):
            kind.from_pretrained(bundled_model())


def test_a_new_head_has_no_intervals_of_the_old_one() -> None:
    folder, options = bundled_model("band_gap"), {"target_names": ["band_gap"], "target_units": ["eV"]}
    model = CloudForPropertyRegression.from_pretrained(folder, ignore_mismatched_sizes=True, **options)
    tokenizer = ScopeTokenizer.from_pretrained(folder)
    predict = pipeline("crystal-property", model=model, tokenizer=tokenizer)
    assert predict.calibration is None
    (quantity,) = predict("1 0 0 | Cu 2i O 1a C 1b")
    assert quantity.keys() == {"name", "value", "unit"}
    assert pipeline("crystal-property", model=folder).calibration is not None


def test_a_new_head_on_the_encoder_of_another_class(folders: dict[str, Path]) -> None:
    debye = CloudForDebye.from_pretrained(folders["two"], ignore_mismatched_sizes=True)
    assert (debye.config.target_names, debye.config.target_scale) == (["debye_temperature"], None)
    gap = CloudForPropertyRegression.from_pretrained(
        folders["debye"], target_names=["gap"], ignore_mismatched_sizes=True
    )
    assert (gap.config.target_names, gap.config.target_scale, gap.config.target_units) == (["gap"], None, None)
    for model, name in ((debye, "two"), (gap, "debye")):
        old = load_file(folders[name] / "model.safetensors")
        assert not torch.equal(model.classifier.layers[0].weight, old["classifier.layers.0.weight"])
        torch.testing.assert_close(
            model.bert.embeddings.word_embeddings.weight, old["bert.embeddings.word_embeddings.weight"]
        )
    with pytest.raises(CloudError, match="target_names"):
        CloudForPropertyRegression.from_pretrained(folders["debye"], ignore_mismatched_sizes=True)


@pytest.mark.parametrize("name", ["two", "debye", "masked_lm", "encoder"])
def test_every_checkpoint_gives_its_encoder(folders: dict[str, Path], name: str) -> None:
    old = load_file(folders[name] / "model.safetensors")
    key = "embeddings.word_embeddings.weight"
    for kind in (CloudModel, CloudForMaskedLM):
        model = kind.from_pretrained(folders[name])
        encoder = model if kind is CloudModel else model.bert
        torch.testing.assert_close(encoder.state_dict()[key], old[key if name == "encoder" else f"bert.{key}"])


def test_a_subclass_reads_and_writes_the_same_checkpoints(folders: dict[str, Path], tmp_path: Path) -> None:
    class Mine(CloudForPropertyRegression):
        pass

    Mine.from_pretrained(folders["two"]).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["architectures"][0] == "Mine"
    assert CloudForPropertyRegression.from_pretrained(tmp_path).config.target_names == TWO["target_names"]


# ------------------------------------------------------------------------------------------------ names of weights


@pytest.mark.parametrize("members", [1, 2])
def test_weights_under_their_older_names_are_read(
    make_config: Callable[..., CloudConfig], tmp_path: Path, members: int, batch: dict[str, torch.Tensor]
) -> None:
    torch.manual_seed(2)
    model = CloudForPropertyRegression(make_config(n_members=members, **TWO)).eval()
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    assert not any("head." in name for name in weights)
    older = {name.replace("classifier.", "head."): value for name, value in weights.items()}
    save_file(older, file, metadata={"format": "pt"})
    loaded, info = CloudForPropertyRegression.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)
    loaded.save_pretrained(tmp_path / "again")
    assert load_file(tmp_path / "again" / "model.safetensors").keys() == weights.keys()
    fresh = CloudForPropertyRegression(make_config(n_members=members, **TWO)).eval()
    fresh.load_state_dict(older)
    assert torch.equal(fresh(**batch).logits, model(**batch).logits)


# ------------------------------------------------------------------------------------------------ shapes of labels


@pytest.mark.parametrize("shape", [(2,), (4, 1), (2, 1), (1, 2), (2, 2, 1), (2, 3), ()], ids=str)
def test_labels_of_another_shape_are_refused(
    make_config: Callable[..., CloudConfig], batch: dict[str, torch.Tensor], shape: tuple[int, ...]
) -> None:
    model = CloudForPropertyRegression(make_config(**TWO))
    with pytest.raises(CloudError) as caught:
        model(**batch, labels=torch.ones(shape))
    assert str(shape) in str(caught.value)
    assert "(2, 2)" in str(caught.value)
    debye = CloudForDebye(make_config(debye_targets=["heat_capacity", "internal_energy"]))
    with pytest.raises(CloudError, match=r"\(2, 2\)"):
        debye(**batch, labels=torch.ones(shape))


@pytest.mark.parametrize("kind", [CloudForPropertyRegression, CloudForDebye])
def test_labels_of_one_target_may_have_one_axis(
    make_config: Callable[..., CloudConfig], batch: dict[str, torch.Tensor], kind: Any
) -> None:
    model = kind(make_config(**({"target_names": ["a"]} if kind is CloudForPropertyRegression else {}))).eval()
    losses = [model(**batch, labels=labels).loss for labels in (torch.ones(2), torch.ones(2, 1, dtype=torch.float64))]
    assert losses[0] == losses[1]
    with pytest.raises(CloudError, match=r"\(2, 2\).*\(2, 1\)"):
        model(**batch, labels=torch.ones(2, 2))


@pytest.mark.parametrize("name", ["n_atoms", "temperature"])
def test_one_number_for_each_row(
    make_config: Callable[..., CloudConfig], batch: dict[str, torch.Tensor], name: str
) -> None:
    model = CloudForDebye(make_config())
    with pytest.raises(CloudError, match=f"{name} has 3 values for 2 rows"):
        model(**batch, **{name: torch.ones(3)})
    extensive = CloudForPropertyRegression(make_config(target_names=["v"], target_transforms=["per_atom"]))
    with pytest.raises(CloudError, match="n_atoms has 3 values"):
        extensive(**batch, n_atoms=torch.ones(3))
