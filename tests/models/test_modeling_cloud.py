"""The models: compatible parameters, exact padding, losses, physical units and the Debye head."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    Trainer,
    TrainingArguments,
)

from cloud_hf import (
    CloudConfig,
    CloudForDebye,
    CloudForMaskedLM,
    CloudForPropertyRegression,
    CloudModel,
    ScopeTokenizer,
)
from cloud_hf.models.debye import entropy, heat_capacity, helmholtz_energy, internal_energy
from cloud_hf.models.heads_cloud import inverse_transform_targets, transform_targets

ONE = {"target_names": ["band_gap"], "target_units": ["eV"], "target_mean": [1.5], "target_scale": [0.7]}
THREE = {
    "target_names": ["band_gap", "bulk_modulus", "density"],
    "target_units": ["eV", "GPa", "g/cm3"],
    "target_mean": [1.5, 120.0, -4.0],
    "target_scale": [0.7, 55.0, 2.0],
}
CHEMISTRY = {"element_descriptors": True, "site_multiplicity": True, "pooling": "cls_multiplicity"}
MODELS: dict[str, tuple[type, type, dict[str, Any]]] = {
    "encoder": (CloudModel, AutoModel, {}),
    "masked_lm": (CloudForMaskedLM, AutoModelForMaskedLM, {}),
    "one_target": (CloudForPropertyRegression, AutoModelForSequenceClassification, ONE),
    "three_targets": (CloudForPropertyRegression, AutoModelForSequenceClassification, THREE),
    "debye": (CloudForDebye, AutoModelForSequenceClassification, {}),
    "two_branches": (CloudForDebye, AutoModelForSequenceClassification, {"second_branch": "einstein"}),
    "chemistry_masked_lm": (CloudForMaskedLM, AutoModelForMaskedLM, CHEMISTRY),
    "chemistry_regression": (CloudForPropertyRegression, AutoModelForSequenceClassification, THREE | CHEMISTRY),
}
SMALL_DEBYE = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "head_dropout": 0.0}


@pytest.fixture(scope="session")
def make(make_config: Callable[..., CloudConfig]) -> Callable[..., Any]:
    """Return a function that makes a tiny model in evaluation mode, with weights that are not all tiny."""

    def build(model_class: type, **fields: Any) -> Any:
        torch.manual_seed(7)
        model = model_class(make_config(initializer_range=0.2, **fields))
        return model.eval()

    return build


@pytest.fixture
def batch(tokenizer: ScopeTokenizer, scopes: list[str]) -> dict[str, torch.Tensor]:
    """Four strings of different lengths, padded."""
    return dict(tokenizer(scopes, padding=True, return_tensors="pt"))


def main_output(outputs: Any) -> torch.Tensor:
    """What the model is for: hidden states, logits or predictions."""
    return outputs.last_hidden_state if hasattr(outputs, "last_hidden_state") else outputs.logits


@pytest.fixture(params=MODELS)
def kind(request: pytest.FixtureRequest) -> str:
    """Name of each model class."""
    return request.param


# ------------------------------------------------------------------------------------------------ every model


def test_saving_and_loading_keep_the_outputs(
    make: Callable[..., Any], kind: str, batch: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    model_class, auto_class, fields = MODELS[kind]
    model = make(model_class, **fields)
    model.save_pretrained(tmp_path)
    loaded, info = auto_class.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is model_class
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not loaded.training
    torch.testing.assert_close(main_output(loaded(**batch)), main_output(model(**batch)), rtol=0, atol=1e-6)
    assert loaded.config.to_diff_dict() == model.config.to_diff_dict()


def test_weights_are_written_as_safetensors_only(make: Callable[..., Any], kind: str, tmp_path: Path) -> None:
    model_class, _, fields = MODELS[kind]
    make(model_class, **fields).save_pretrained(tmp_path)
    suffixes = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert suffixes <= {".safetensors", ".json", ".py", ".md"}
    assert (tmp_path / "model.safetensors").is_file()


def test_saving_twice_keeps_the_code_for_every_auto_class(make: Callable[..., Any], kind: str, tmp_path: Path) -> None:
    model_class, auto_class, fields = MODELS[kind]
    make(model_class, **fields).save_pretrained(tmp_path / "first")
    again = auto_class.from_pretrained(tmp_path / "first")
    again.save_pretrained(tmp_path / "second")
    first, second = (CloudConfig.from_pretrained(tmp_path / name).auto_map for name in ("first", "second"))
    assert first == second
    assert {"AutoConfig", "AutoModel", "AutoModelForMaskedLM", "AutoTokenizer"} <= first.keys()
    if auto_class is AutoModelForSequenceClassification:
        assert first["AutoModelForSequenceClassification"] == f"modeling_cloud.{model_class.__name__}"
    assert {path.name for path in (tmp_path / "first").iterdir()} == {
        path.name for path in (tmp_path / "second").iterdir()
    }


def test_padding_changes_nothing(
    make: Callable[..., Any], kind: str, tokenizer: ScopeTokenizer, scopes: list[str]
) -> None:
    model_class, _, fields = MODELS[kind]
    model = make(model_class, **fields)
    wide = dict(tokenizer(scopes, padding="max_length", max_length=60, return_tensors="pt"))
    together = main_output(model(**wide))
    for row, scope in enumerate(scopes):
        alone = main_output(model(**tokenizer(scope, return_tensors="pt")))[0]
        kept = together[row, : len(alone)] if alone.ndim == 2 else together[row]
        torch.testing.assert_close(kept, alone, rtol=1e-5, atol=1e-5 * float(alone.abs().max()))


def test_the_order_of_a_batch_does_not_matter(
    make: Callable[..., Any], kind: str, batch: dict[str, torch.Tensor]
) -> None:
    model_class, _, fields = MODELS[kind]
    model = make(model_class, **fields)
    order = torch.tensor([2, 0, 3, 1])
    shuffled = main_output(model(**{name: value[order] for name, value in batch.items()}))
    expected = main_output(model(**batch))[order]
    torch.testing.assert_close(shuffled, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_words_change_the_output(make: Callable[..., Any], kind: str, batch: dict[str, torch.Tensor]) -> None:
    """The tests above would all pass on a model that does not read its input."""
    model_class, _, fields = MODELS[kind]
    output = main_output(make(model_class, **fields)(**batch))
    rows = output[:, 0] if output.ndim == 3 else output
    assert torch.cdist(rows, rows)[~torch.eye(len(rows), dtype=torch.bool)].min() > 1e-4


def test_a_tuple_comes_back_when_asked(make: Callable[..., Any], kind: str, batch: dict[str, torch.Tensor]) -> None:
    model_class, _, fields = MODELS[kind]
    model = make(model_class, **fields)
    parts = model(**batch, return_dict=False)
    assert isinstance(parts, tuple)
    torch.testing.assert_close(parts[0], main_output(model(**batch)), rtol=0, atol=0)


def test_hidden_states_come_back_when_asked(
    make: Callable[..., Any], kind: str, batch: dict[str, torch.Tensor]
) -> None:
    model_class, _, fields = MODELS[kind]
    outputs = make(model_class, **fields)(**batch, output_hidden_states=True)
    assert len(outputs.hidden_states) == 3
    assert outputs.hidden_states[-1].shape == (*batch["input_ids"].shape, 32)


# ------------------------------------------------------------------------------------------------ published weights

SHAPES = {
    "tiny": {"vocab_size": 585, "max_position_embeddings": 256, "type_vocab_size": 1, "pad_token_id": 1},
    "published": {"vocab_size": 30522, "max_position_embeddings": 64, "type_vocab_size": 1, "pad_token_id": 0},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_weights_of_bert_for_masked_lm_fit(
    make_config: Callable[..., CloudConfig], batch: dict[str, torch.Tensor], tmp_path: Path, shape: str
) -> None:
    config = make_config(**SHAPES[shape])
    torch.manual_seed(3)
    sizes = {name: getattr(config, name) for name in (
        "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
        "max_position_embeddings", "type_vocab_size", "pad_token_id",
    )}  # fmt: skip
    bert = BertForMaskedLM(BertConfig(**sizes, initializer_range=0.2)).eval()
    bert.save_pretrained(tmp_path)
    cloud, info = CloudForMaskedLM.from_pretrained(tmp_path, config=config, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert list(cloud.state_dict()) == list(bert.state_dict())
    torch.testing.assert_close(cloud(**batch).logits, bert(**batch).logits, rtol=0, atol=1e-5)

    encoder = CloudModel.from_pretrained(tmp_path, config=config)
    expected = bert.bert(**batch).last_hidden_state
    torch.testing.assert_close(encoder(**batch).last_hidden_state, expected, rtol=0, atol=1e-5)


def test_a_head_starts_from_the_pre_trained_encoder(
    make: Callable[..., Any], batch: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    pretrained = make(CloudForMaskedLM)
    pretrained.save_pretrained(tmp_path)
    model, info = CloudForDebye.from_pretrained(tmp_path, output_loading_info=True)
    assert {key.split(".")[0] for key in info["missing_keys"]} == {"classifier"}
    torch.testing.assert_close(
        model.bert(**batch).last_hidden_state, pretrained.bert(**batch).last_hidden_state, rtol=0, atol=1e-6
    )


# ------------------------------------------------------------------------------------------------ masked words


def masked(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Labels that ask for every third token."""
    labels = batch["input_ids"].clone()
    labels[(torch.arange(labels.shape[1]) % 3 != 1).expand_as(labels) | (batch["attention_mask"] == 0)] = -100
    return labels


def test_the_mlm_loss_is_the_cross_entropy_of_the_masked_words(
    make: Callable[..., Any], batch: dict[str, torch.Tensor]
) -> None:
    model, labels = make(CloudForMaskedLM), masked(batch)
    outputs = model(**batch, labels=labels)
    asked = labels != -100
    log_probabilities = torch.log_softmax(outputs.logits[asked], -1)
    expected = -log_probabilities.gather(1, labels[asked][:, None]).mean()
    torch.testing.assert_close(outputs.loss, expected)
    doubled = model(**batch, labels=labels, num_items_in_batch=2 * int(asked.sum())).loss
    torch.testing.assert_close(doubled, expected / 2)


def test_input_and_output_words_share_their_weights(make: Callable[..., Any], tmp_path: Path) -> None:
    make(CloudForMaskedLM).save_pretrained(tmp_path)
    for model in (make(CloudForMaskedLM), CloudForMaskedLM.from_pretrained(tmp_path)):
        assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


# ------------------------------------------------------------------------------------------------ regression


def raw_outputs(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Head outputs before mean and scale."""
    return model.classifier(model.bert(**batch).last_hidden_state)


@pytest.mark.parametrize("fields", [ONE, THREE], ids=["one", "three"])
def test_predictions_are_in_physical_units(
    make: Callable[..., Any], batch: dict[str, torch.Tensor], fields: dict[str, Any]
) -> None:
    model = make(CloudForPropertyRegression, **fields)
    mean, scale = torch.tensor(fields["target_mean"]), torch.tensor(fields["target_scale"])
    logits = model(**batch).logits
    assert logits.shape == (4, len(mean))
    torch.testing.assert_close(logits, mean + scale * raw_outputs(model, batch))


def test_without_statistics_the_head_is_the_prediction(make: Callable[..., Any], batch: dict[str, Any]) -> None:
    model = make(CloudForPropertyRegression, target_names=["x"])
    torch.testing.assert_close(model(**batch).logits, raw_outputs(model, batch))


def test_mean_and_scale_survive_half_precision(make: Callable[..., Any], batch: dict[str, torch.Tensor]) -> None:
    """1234.5678 would read 1232 in bfloat16."""
    fields = {"target_names": ["x"], "target_mean": [1234.5678], "target_scale": [0.001]}
    logits = make(CloudForPropertyRegression, **fields).to(torch.bfloat16)(**batch).logits
    assert logits.dtype == torch.float32
    assert (logits - 1234.5678).abs().max() < 0.1


def test_the_loss_is_l1_on_standardised_targets(make: Callable[..., Any], batch: dict[str, torch.Tensor]) -> None:
    model = make(CloudForPropertyRegression, **THREE)
    scale = torch.tensor(THREE["target_scale"])
    off = torch.tensor([[1.0, -2.0, 3.0]]) * torch.arange(1, 5)[:, None]
    loss = model(**batch, labels=model(**batch).logits.detach() + off * scale).loss
    torch.testing.assert_close(loss, off.abs().mean())


def test_labels_of_one_target_may_be_flat(make: Callable[..., Any], batch: dict[str, torch.Tensor]) -> None:
    model, labels = make(CloudForPropertyRegression, **ONE), torch.tensor([0.5, 2.0, 3.0, 1.0])
    torch.testing.assert_close(model(**batch, labels=labels).loss, model(**batch, labels=labels[:, None]).loss)


def test_missing_labels_are_left_out_of_the_mean(make: Callable[..., Any], batch: dict[str, torch.Tensor]) -> None:
    model = make(CloudForPropertyRegression, **THREE)
    labels = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    labels[0, 1] = labels[2, 0] = labels[3] = math.nan
    there = ~labels.isnan()
    mean, scale = torch.tensor(THREE["target_mean"]), torch.tensor(THREE["target_scale"])
    expected = (raw_outputs(model, batch) - (labels - mean) / scale)[there].abs().mean()
    torch.testing.assert_close(model(**batch, labels=labels).loss, expected)


def test_a_target_without_labels_gets_no_gradient(make: Callable[..., Any], batch: dict[str, torch.Tensor]) -> None:
    model = make(CloudForPropertyRegression, **THREE)
    labels = torch.zeros(4, 3)
    labels[:, 1] = math.nan
    model(**batch, labels=labels).loss.backward()
    gradient = model.classifier.layers[-1].weight.grad
    assert (gradient[1] == 0).all()
    assert (gradient[[0, 2]].abs().sum(1) > 0).all()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("model_class", [CloudForPropertyRegression, CloudForDebye])
def test_a_batch_without_labels_has_loss_zero(
    make: Callable[..., Any], batch: dict[str, torch.Tensor], model_class: type
) -> None:
    model = make(model_class, **(THREE if model_class is CloudForPropertyRegression else {}))
    shape = (4, 3) if model_class is CloudForPropertyRegression else (4,)
    loss = model(**batch, labels=torch.full(shape, math.nan)).loss
    loss.backward()
    assert loss == 0
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all((gradient == 0).all() for gradient in gradients)


def test_a_regression_without_targets_is_refused(make: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="target_names"):
        make(CloudForPropertyRegression)


TRANSFORMED = {
    "target_names": ["energy", "modulus", "volume", "dos"],
    "target_transforms": ["standardise", "log", "per_atom", "log_per_atom"],
    "target_mean": [-1.0, 4.0, 12.0, 0.5],
    "target_scale": [2.0, 0.5, 3.0, 0.7],
}


def test_predictions_undo_the_transforms(make: Callable[..., Any], batch: dict[str, torch.Tensor]) -> None:
    model, atoms = make(CloudForPropertyRegression, **TRANSFORMED), torch.tensor([1, 2, 5, 40])
    values = torch.tensor(TRANSFORMED["target_mean"]) + torch.tensor(TRANSFORMED["target_scale"]) * raw_outputs(
        model, batch
    )
    expected = torch.stack([values[:, 0], values[:, 1].exp(), values[:, 2] * atoms, values[:, 3].exp() * atoms], dim=1)
    torch.testing.assert_close(model(**batch, n_atoms=atoms).logits, expected)


@pytest.mark.parametrize("kind_of_loss", ["l1", "huber", "mse"])
def test_the_loss_is_in_the_transformed_space(
    make: Callable[..., Any], batch: dict[str, torch.Tensor], kind_of_loss: str
) -> None:
    """Labels half a scale (odd rows) or two and a half scales (even rows) from the prediction, in every target."""
    model = make(CloudForPropertyRegression, regression_loss=kind_of_loss, **TRANSFORMED)
    atoms, scale = torch.tensor([1.0, 2.0, 5.0, 40.0]), torch.tensor(TRANSFORMED["target_scale"])
    off = torch.tensor([2.5, 0.5, 2.5, 0.5])[:, None] * scale
    transforms = TRANSFORMED["target_transforms"]
    values = transform_targets(model(**batch, n_atoms=atoms).logits.detach(), transforms, atoms) + off
    labels = inverse_transform_targets(values, transforms, atoms)
    losses = {"l1": (2.5 + 0.5) / 2, "huber": (2.0 + 0.125) / 2, "mse": (6.25 + 0.25) / 2}
    loss = model(**batch, n_atoms=atoms, labels=labels).loss
    torch.testing.assert_close(loss.item(), losses[kind_of_loss], rtol=1e-4, atol=1e-4)


def test_per_atom_targets_ask_for_the_number_of_atoms(make: Callable[..., Any], batch: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="n_atoms"):
        make(CloudForPropertyRegression, **TRANSFORMED)(**batch)


def test_weights_of_targets_are_weights_in_the_loss(make: Callable[..., Any], batch: dict[str, Any]) -> None:
    model = make(CloudForPropertyRegression, target_weights=[1.0, 0.0, 3.0], **THREE)
    scale = torch.tensor(THREE["target_scale"])
    labels = model(**batch).logits.detach() + torch.tensor([1.0, 100.0, 2.0]) * scale
    torch.testing.assert_close(model(**batch, labels=labels).loss.item(), (1 + 3 * 2) / 4, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_the_head_has_as_many_layers_as_configured(make: Callable[..., Any], layers: int) -> None:
    model = make(CloudForPropertyRegression, head_layers=layers, **THREE)
    linear = [layer for layer in model.classifier.layers if isinstance(layer, torch.nn.Linear)]
    assert [layer.out_features for layer in linear] == [32] * layers + [3]


# ------------------------------------------------------------------------------------------------ Debye

WILD = torch.tensor([-1e30, -1e4, -50.0, -1.0, 0.0, 1.0, 50.0, 1e4, 1e30])


@pytest.mark.parametrize("link", ["exp", "linear"])
def test_the_debye_temperature_is_positive_for_any_head_output(make: Callable[..., Any], link: str) -> None:
    shift, scale = {"exp": (5.8, 0.5), "linear": (400.0, 150.0)}[link]
    theta = make(CloudForDebye, theta_link=link, theta_shift=shift, theta_scale=scale).debye_temperature(WILD)
    assert (theta > 0).all()
    assert (theta.diff() >= 0).all()
    assert theta.isfinite().all()


def test_the_links_are_what_the_configuration_says(make: Callable[..., Any]) -> None:
    raw = torch.tensor([-1.5, 0.0, 0.25, 2.0])
    exponential = make(CloudForDebye, theta_link="exp", theta_shift=6.0, theta_scale=0.3)
    torch.testing.assert_close(exponential.debye_temperature(raw).log(), 6.0 + 0.3 * raw)
    linear = make(CloudForDebye, theta_link="linear", theta_shift=400.0, theta_scale=150.0)
    torch.testing.assert_close(linear.debye_temperature(raw), 400.0 + 150.0 * raw)


@pytest.mark.parametrize("link", ["exp", "linear"])
def test_logits_are_the_debye_temperature(make: Callable[..., Any], batch: dict[str, torch.Tensor], link: str) -> None:
    shift, scale = {"exp": (5.8, 0.5), "linear": (400.0, 50.0)}[link]
    model = make(CloudForDebye, theta_link=link, theta_shift=shift, theta_scale=scale)
    logits = model(**batch).logits
    assert logits.shape == (4, 1)
    torch.testing.assert_close(logits, model.debye_temperature(raw_outputs(model, batch)))


def test_thermal_properties_follow_from_the_debye_model(
    make: Callable[..., Any], batch: dict[str, torch.Tensor]
) -> None:
    model = make(CloudForDebye)
    atoms, kelvin = torch.tensor([1.0, 2.0, 5.0, 12.0]), torch.tensor([10.0, 300.0, 77.0, 1000.0])
    outputs = model(**batch, n_atoms=atoms, temperature=kelvin)
    theta = outputs.logits[:, 0].detach()
    torch.testing.assert_close(outputs.heat_capacity, heat_capacity(theta, kelvin, atoms))
    torch.testing.assert_close(outputs.internal_energy, internal_energy(theta, kelvin, atoms))
    torch.testing.assert_close(outputs.entropy, entropy(theta, kelvin, atoms))
    torch.testing.assert_close(outputs.free_energy, helmholtz_energy(theta, kelvin, atoms))
    assert outputs.second_temperature is None
    assert outputs.second_weight is None


BOTH = {"debye_targets": ["internal_energy", "heat_capacity"], "target_scale": [1000.0, 3.0]}


def test_heat_capacity_and_internal_energy_teach_together(
    make: Callable[..., Any], batch: dict[str, torch.Tensor]
) -> None:
    """Labels in the order of the configuration, each at the temperature of its row, NaN where missing."""
    model = make(CloudForDebye, **BOTH)
    atoms, kelvin = torch.tensor([1.0, 2.0, 5.0, 12.0]), torch.tensor([50.0, 300.0, 150.0, 500.0])
    outputs = model(**batch, n_atoms=atoms, temperature=kelvin)
    labels = torch.stack([outputs.internal_energy, outputs.heat_capacity], dim=1).detach()
    off = torch.tensor([[500.0, 3.0], [math.nan, -6.0], [2000.0, math.nan], [math.nan, math.nan]])
    loss = model(**batch, n_atoms=atoms, temperature=kelvin, labels=labels + off * atoms[:, None]).loss
    torch.testing.assert_close(loss.item(), (0.5 + 1.0 + 2.0 + 2.0) / 4, rtol=1e-4, atol=1e-4)
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("branch", ["einstein", "debye"])
def test_a_second_branch_stays_consistent(
    make: Callable[..., Any], batch: dict[str, torch.Tensor], branch: str
) -> None:
    model = make(CloudForDebye, second_branch=branch)
    kelvin = torch.tensor([20.0, 100.0, 300.0, 900.0], requires_grad=True)
    outputs = model(**batch, temperature=kelvin)
    (du,) = torch.autograd.grad(outputs.internal_energy.sum(), kelvin, retain_graph=True)
    (df,) = torch.autograd.grad(outputs.free_energy.sum(), kelvin, retain_graph=True)
    torch.testing.assert_close(du, outputs.heat_capacity, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(df, -outputs.entropy, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        outputs.free_energy, outputs.internal_energy - kelvin * outputs.entropy, rtol=1e-4, atol=1e-2
    )
    assert ((outputs.second_weight > 0) & (outputs.second_weight < 1)).all()
    assert (outputs.second_temperature > 0).all()


def test_a_second_branch_learns_what_one_cannot(make: Callable[..., Any], batch: dict[str, torch.Tensor]) -> None:
    """One crystal with lattice modes at 250 K and molecular modes at 3000 K, seen at four temperatures."""
    rows = {name: value[:1].expand(4, -1) for name, value in batch.items()}
    kelvin = torch.tensor([50.0, 150.0, 300.0, 900.0])
    labels = 0.6 * heat_capacity(250.0, kelvin) + 0.4 * heat_capacity(3000.0, kelvin)
    left = {}
    for branch in ("none", "einstein", "debye"):
        model = make(CloudForDebye, second_branch=branch, **SMALL_DEBYE)
        with torch.no_grad():  # only the head learns
            encoded = model.bert(**rows)
        model.bert.forward = lambda *_, encoded=encoded, **__: encoded
        optimiser = torch.optim.Adam(model.classifier.parameters(), lr=0.02)
        losses = []
        for _ in range(100):
            loss = model(**rows, temperature=kelvin, labels=labels).loss
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
            if losses[-1] < 0.4 * left.get("none", 0.0):
                break
        left[branch] = min(losses)
    assert left["none"] > 1
    assert max(left["einstein"], left["debye"]) < 0.5 * left["none"], left


def test_properties_are_extensive_and_the_debye_temperature_is_not(
    make: Callable[..., Any], batch: dict[str, torch.Tensor]
) -> None:
    model, atoms = make(CloudForDebye), torch.tensor([1, 2, 5, 12])
    one, many = model(**batch), model(**batch, n_atoms=atoms)
    torch.testing.assert_close(many.heat_capacity, one.heat_capacity * atoms)
    torch.testing.assert_close(many.internal_energy, one.internal_energy * atoms)
    torch.testing.assert_close(many.logits, one.logits, rtol=0, atol=0)


def test_one_temperature_is_that_temperature_in_every_row(
    make: Callable[..., Any], batch: dict[str, torch.Tensor]
) -> None:
    model = make(CloudForDebye)
    default, other = model(**batch).heat_capacity, model(**batch, temperature=80.0).heat_capacity
    torch.testing.assert_close(model(**batch, temperature=300).heat_capacity, default)
    torch.testing.assert_close(model(**batch, temperature=torch.tensor(80.0)).heat_capacity, other)
    mixed = model(**batch, temperature=torch.tensor([80.0, 300.0, 80.0, 300.0])).heat_capacity
    torch.testing.assert_close(mixed[::2], other[::2])
    torch.testing.assert_close(mixed[1::2], default[1::2])
    assert (other < default).all()


@pytest.mark.parametrize("target", ["heat_capacity", "internal_energy"])
def test_the_loss_is_per_atom_on_the_named_target(
    make: Callable[..., Any], batch: dict[str, torch.Tensor], target: str
) -> None:
    model = make(CloudForDebye, debye_targets=[target])
    atoms, kelvin = torch.tensor([1.0, 2.0, 5.0, 12.0]), torch.tensor([50.0, 300.0, 150.0, 500.0])
    off = torch.tensor([1.0, -2.0, 0.5, 3.0])
    labels = getattr(model(**batch, n_atoms=atoms, temperature=kelvin), target).detach() + off * atoms
    loss = model(**batch, n_atoms=atoms, temperature=kelvin, labels=labels).loss
    torch.testing.assert_close(loss, off.abs().mean(), rtol=1e-3, atol=1e-3)
    labels[2] = math.nan
    without = model(**batch, n_atoms=atoms, temperature=kelvin, labels=labels).loss
    torch.testing.assert_close(without, off[[0, 1, 3]].abs().mean(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("target", "scale"), [("heat_capacity", 1.0), ("internal_energy", 1000.0)])
@pytest.mark.parametrize("link", ["exp", "linear"])
def test_the_head_learns_from_either_target(
    make: Callable[..., Any], batch: dict[str, torch.Tensor], target: str, scale: float, link: str
) -> None:
    shift, width = {"exp": (5.8, 0.5), "linear": (400.0, 150.0)}[link]
    fields = {"theta_link": link, "theta_shift": shift, "theta_scale": width, "debye_targets": [target]}
    model = make(CloudForDebye, target_names=["debye_temperature"], target_units=["K"], target_mean=[0.0],
                 target_scale=[scale], **fields, **SMALL_DEBYE)  # fmt: skip
    atoms, theta = torch.tensor([1.0, 2.0, 5.0, 10.0]), torch.tensor([343.0, 645.0, 480.0, 700.0])
    labels = {"heat_capacity": heat_capacity, "internal_energy": internal_energy}[target](theta, 300.0, atoms)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(40):
        loss = model(**batch, n_atoms=atoms, labels=labels).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert min(losses[-5:]) < 0.3 * losses[0]


@pytest.mark.parametrize("target", ["heat_capacity", "internal_energy"])
@pytest.mark.parametrize("kelvin", [0.0, 1e-3, 1e4])
@pytest.mark.parametrize("link", ["exp", "linear"])
def test_gradients_are_finite_at_extreme_temperatures(
    make: Callable[..., Any], batch: dict[str, torch.Tensor], target: str, kelvin: float, link: str
) -> None:
    shift, scale = {"exp": (5.8, 0.5), "linear": (400.0, 150.0)}[link]
    model = make(CloudForDebye, debye_targets=[target], theta_link=link, theta_shift=shift, theta_scale=scale)
    outputs = model(**batch, temperature=kelvin, labels=torch.full((4,), 20.0))
    outputs.loss.backward()
    assert outputs.loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_half_precision_weights_give_single_precision_physics(
    make: Callable[..., Any], batch: dict[str, torch.Tensor]
) -> None:
    outputs = make(CloudForDebye).to(torch.bfloat16)(**batch, n_atoms=torch.tensor([1, 2, 3, 4]))
    assert outputs.logits.dtype == outputs.heat_capacity.dtype == torch.float32
    theta = outputs.logits[:, 0].detach()
    torch.testing.assert_close(outputs.heat_capacity, heat_capacity(theta, 300.0, torch.tensor([1.0, 2.0, 3.0, 4.0])))


# ------------------------------------------------------------------------------------------------ under Trainer


@pytest.mark.parametrize("kind_of_head", ["three_targets", "debye"])
def test_accumulated_gradients_log_the_same_loss(
    make: Callable[..., Any],
    tokenizer: ScopeTokenizer,
    scopes: list[str],
    tmp_path: Path,
    kind_of_head: str,
) -> None:
    model_class, _, fields = MODELS[kind_of_head]
    assert model_class.accepts_loss_kwargs is False
    labels = [[1.0, 100.0, 0.0], [2.0, 50.0, -8.0], [0.0, 10.0, 1.0], [4.0, 300.0, 2.0]]
    rows = [
        {**tokenizer(scope, padding="max_length", max_length=48),
         "labels": label if kind_of_head == "three_targets" else label[1] / 10}
        for scope, label in zip(scopes * 2, labels * 2, strict=True)
    ]  # fmt: skip
    logged = []
    for per_step, accumulated in ((4, 1), (2, 2)):
        arguments = TrainingArguments(
            output_dir=str(tmp_path), per_device_train_batch_size=per_step, gradient_accumulation_steps=accumulated,
            max_steps=3, logging_steps=1, learning_rate=1e-3, use_cpu=True, save_strategy="no", disable_tqdm=True,
            seed=5,
        )  # fmt: skip
        trainer = Trainer(model=make(model_class, **fields, **SMALL_DEBYE), args=arguments, train_dataset=rows)
        trainer.train()
        logged.append([(row["loss"], row["grad_norm"]) for row in trainer.state.log_history if "loss" in row])
    assert len(logged[0]) == 3
    assert logged[0][0][0] != logged[0][1][0], "the steps must differ for their order to mean something"
    torch.testing.assert_close(torch.tensor(logged[1]), torch.tensor(logged[0]), rtol=2e-3, atol=2e-3)
